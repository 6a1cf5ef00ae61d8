/* The head of an HTTP/1.1 request, and base64. */
#include "wire/base64.h"
#include "wire/http_head.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	auto_arena a = { 0 };
	struct base64_reader r = { 0 };
	struct http_words at = { 0 };
	struct http_head head;
	struct str word;
	struct err e;

	if (http_head_parse((const char *)bytes, size, &head, &e) > 0) {
		(void)http_head_get(&head, "upgrade");
		while (http_head_word(&head, "connection", &at, &word))
			BUG_ON(!word.len);
	}
	(void)base64_read(&r, (const char *)bytes, size, arena_alloc(&a, size / 4 * 3 + 4));
	return 0;
}
