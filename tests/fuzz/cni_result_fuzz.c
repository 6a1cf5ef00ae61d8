#include "spec/cni_result.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const versions[] = { "0.2.0", "0.4.0", "1.0.0" };
	auto_arena a = { 0 };
	struct str text = { arena_strndup(&a, (const char *)data, size), size };
	struct cni_result r;
	struct cni_error x;
	struct err e;

	for (size_t i = 0; i < ARRAY_SIZE(versions); i++) {
		auto_buf b = BUF(8 * CNI_RESULT_MAX);

		if (size > CNI_RESULT_MAX || cni_result_parse(&a, text, versions[i], &r, &e) < 0)
			continue;
		BUG_ON(strv_len(cni_result_ips_of(&a, &r, "eth0")) > r.nips);
		(void)cni_result_interface(&r, "eth0");
		if (json_write_value(&b, r.doc, &e) == 0)
			BUG_ON(cni_result_parse(&a, (struct str){ arena_strndup(&a, b.p, b.len), b.len }, versions[i],
						&r, &e) < 0);
	}
	(void)cni_error_parse(&a, text, &x, &e);
	return 0;
}
