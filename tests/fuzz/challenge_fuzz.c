#include "spec/challenge.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_arena a = { 0 };
	struct str text = { (const char *)data, size };
	struct err e;
	struct challenge *c;
	size_t n;

	(void)challenges_parse(&a, text, &c, &n, &e);
	return 0;
}
