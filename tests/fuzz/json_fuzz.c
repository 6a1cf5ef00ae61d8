/* What is parsed can be written, and what was written says the same. */
#include "base/json.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str text = { (const char *)data, size };
	auto_buf once = BUF(16 << 20), twice = BUF(16 << 20);
	struct json *doc, *again;
	auto_arena a = { 0 };
	struct err e;

	if (json_parse(&a, text, &doc, &e) < 0)
		return 0;
	if (json_write_value(&once, doc, &e) < 0)
		return e.kind == ERR_EXHAUSTED ? 0 : (__builtin_trap(), 0);
	if (json_parse(&a, buf_str(&once), &again, &e) < 0 || json_write_value(&twice, again, &e) < 0 ||
	    once.len != twice.len || memcmp(once.p, twice.p, once.len) != 0)
		__builtin_trap();
	return 0;
}
