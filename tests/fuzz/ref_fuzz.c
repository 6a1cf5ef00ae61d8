#include "spec/ref.h"
#include "base/str.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_arena a = { 0 };
	struct str text = { (const char *)data, size };
	struct err e;
	struct ref r, again;

	if (ref_parse(&a, str_dup(&a, text), &r, &e) == 0) {
		/* What was normalised is normal. */
		BUG_ON(ref_parse(&a, ref_text(&a, &r), &again, &e) < 0);
		BUG_ON(!streq(ref_text(&a, &r), ref_text(&a, &again)));
		(void)ref_familiar(&a, &r);
	}
	return 0;
}
