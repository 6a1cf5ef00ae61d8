#include "spec/image_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_arena a = { 0 };
	struct str text = { (const char *)data, size };
	struct err e;
	struct image_config c;

	(void)image_config_parse(&a, text, &c, &e);
	return 0;
}
