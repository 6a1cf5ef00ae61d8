#include "spec/hosts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_arena a = { 0 };
	struct str text = { (const char *)data, size };
	struct err e;
	struct hosts h;

	(void)hosts_parse(&a, text, "docker.io", &h, &e);
	return 0;
}
