#include "wire/base64.h"

#include <string.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(char *out, const void *bytes, size_t n)
{
	const unsigned char *p = bytes;

	for (; n; out += 4) {
		size_t take = MIN(n, (size_t)3);
		uint32_t v = (uint32_t)p[0] << 16 | (take > 1 ? (uint32_t)p[1] << 8 : 0) | (take > 2 ? p[2] : 0);

		out[0] = alphabet[v >> 18];
		out[1] = alphabet[v >> 12 & 63];
		out[2] = '=';
		out[3] = '=';
		if (take > 1)
			out[2] = alphabet[v >> 6 & 63];
		if (take > 2)
			out[3] = alphabet[v & 63];
		p += take;
		n -= take;
	}
}

static int digit_of(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+')
		return 62;
	return c == '/' ? 63 : -1;
}

long base64_read(struct base64_reader *r, const char *text, size_t n, char *out)
{
	char *to = out;

	for (size_t i = 0; i < n; i++) {
		int digit = digit_of(text[i]);

		if (text[i] == '=' && r->digits + r->pads >= 2 && r->digits + r->pads < 4) {
			r->pads++;
			continue;
		}
		if (digit < 0 || r->pads)
			return -1;
		r->bits = r->bits << 6 | (uint32_t)digit;
		r->digits++;
		if (r->digits >= 2)
			*to++ = (char)(r->bits >> (8 - 2 * r->digits));
		if (r->digits == 4)
			*r = (struct base64_reader){ 0 };
	}
	return to - out;
}

bool base64_is_whole(const struct base64_reader *r)
{
	return r->digits == 0 || r->digits + r->pads == 4;
}
