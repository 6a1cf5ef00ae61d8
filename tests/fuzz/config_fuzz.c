/* knarrd.yaml. */
#include "daemon/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_arena a = { 0 };
	char *text = arena_strndup(&a, (const char *)data, size);
	struct config c;
	struct err e;

	config_defaults(&c);
	(void)config_read(&a, "fuzz.yaml", (struct str){ text, size }, &c, &e);
	return 0;
}
