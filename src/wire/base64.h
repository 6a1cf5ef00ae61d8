/* Base64 (RFC 4648, standard alphabet, padded), whole or as a stream of pieces. Pure. */
#ifndef KNARR_WIRE_BASE64_H
#define KNARR_WIRE_BASE64_H

#include "base/base.h"

/* Digits for n bytes, without a NUL. */
static inline size_t base64_length(size_t n)
{
	return (n + 2) / 3 * 4;
}
/* Writes base64_length(n) digits. */
void base64_encode(char *out, const void *bytes, size_t n);

/* Decodes one text that comes in pieces; begins zeroed. */
struct base64_reader {
	uint32_t bits;
	unsigned digits, pads;
};
/* At most n / 4 * 3 + 3 bytes go to out; their number is returned, -1 for what is no base64. */
long base64_read(struct base64_reader *r, const char *text, size_t n, char *out);
/* Whether the text may end here. */
bool base64_is_whole(const struct base64_reader *r);

#endif
