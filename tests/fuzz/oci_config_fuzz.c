/* config.json: whatever is read and valid must be written, and read the same again. */
#include "spec/oci_config.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	auto_arena a = { 0 };
	auto_buf first = BUF(64 << 20), second = BUF(64 << 20);
	struct oci_config c, again;
	struct err e;

	if (oci_config_read(&a, (struct str){ (const char *)bytes, n }, &c, &e) < 0)
		return 0;
	(void)oci_config_validate(&c, &e);
	(void)oci_config_lowest_version(&c);
	if (oci_config_write(&first, &c, &e) < 0 || oci_config_read(&a, buf_str(&first), &again, &e) < 0 ||
	    oci_config_write(&second, &again, &e) < 0 || !str_eq(buf_str(&first), buf_str(&second)))
		abort();
	return 0;
}
