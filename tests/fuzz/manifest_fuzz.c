#include "spec/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_arena a = { 0 };
	struct str text = { (const char *)data, size };
	struct err e;
	const struct descriptor *d;
	struct manifest m;

	if (manifest_parse(&a, text, NULL, &m, &e) == 0 && m.kind == MANIFEST_INDEX)
		(void)manifest_choose(&a, &m, platform_host(), &d, &e);
	return 0;
}
