#include "base/str.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

bool str_eq(struct str a, struct str b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}

bool str_eqz(struct str a, const char *b)
{
	return str_eq(a, str_of(b));
}

bool str_starts(struct str s, const char *prefix)
{
	size_t n = strlen(prefix);

	return s.len >= n && memcmp(s.p, prefix, n) == 0;
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct str str_trim(struct str s)
{
	while (s.len && is_space(s.p[0])) {
		s.p++;
		s.len--;
	}
	while (s.len && is_space(s.p[s.len - 1]))
		s.len--;
	return s;
}

char *str_dup(struct arena *a, struct str s)
{
	return arena_strndup(a, s.p, s.len);
}

struct str str_cut(struct str *rest, char sep)
{
	struct str piece = *rest;
	const char *at = rest->len ? memchr(rest->p, sep, rest->len) : NULL;

	if (!at) {
		*rest = (struct str){ NULL, 0 };
		return piece;
	}
	piece.len = (size_t)(at - rest->p);
	rest->len -= piece.len + 1;
	rest->p = at + 1;
	return piece;
}

bool streq_null(const char *a, const char *b)
{
	return a == b || (a && b && streq(a, b));
}

bool starts_with(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool ends_with(const char *s, const char *suffix)
{
	size_t a = strlen(s), b = strlen(suffix);

	return a >= b && memcmp(s + a - b, suffix, b) == 0;
}

static int digit_of(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return 99;
}

static int to_u64_base(struct str s, unsigned base, uint64_t *out, struct err *e)
{
	uint64_t v = 0;

	if (!s.len)
		return err_set(e, ERR_INVALID, "expected a number, found nothing");
	for (size_t i = 0; i < s.len; i++) {
		unsigned d = (unsigned)digit_of(s.p[i]);

		if (d >= base)
			return err_set(e, ERR_INVALID, "\"%.*s\" is not a number", STR_ARG(s));
		if (__builtin_mul_overflow(v, (uint64_t)base, &v) ||
		    __builtin_add_overflow(v, (uint64_t)d, &v))
			return err_set(e, ERR_INVALID, "number %.*s is too large", STR_ARG(s));
	}
	*out = v;
	return 0;
}

int str_to_u64(struct str s, uint64_t *out, struct err *e)
{
	return to_u64_base(s, 10, out, e);
}

int str_to_i64(struct str s, int64_t *out, struct err *e)
{
	bool negative = s.len && s.p[0] == '-';
	struct str digits = negative ? (struct str){ s.p + 1, s.len - 1 } : s;
	uint64_t v;

	if (to_u64_base(digits, 10, &v, e) < 0)
		return -1;
	if (v > (uint64_t)INT64_MAX + (negative ? 1 : 0))
		return err_set(e, ERR_INVALID, "number %.*s is too large", STR_ARG(s));
	*out = negative ? (int64_t)(0 - v) : (int64_t)v;
	return 0;
}

int str_to_u32_base(struct str s, int base, uint32_t *out, struct err *e)
{
	uint64_t v;

	if (to_u64_base(s, (unsigned)base, &v, e) < 0)
		return -1;
	if (v > UINT32_MAX)
		return err_set(e, ERR_INVALID, "number %.*s is too large", STR_ARG(s));
	*out = (uint32_t)v;
	return 0;
}

/* The length of the UTF-8 sequence at s, 0 if there is none (RFC 3629: no overlong forms, no
 * surrogates, nothing past U+10FFFF). */
static size_t utf8_sequence(const unsigned char *s, size_t left)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t n = s[0] < 0x80 ? 1 : (s[0] & 0xe0) == 0xc0 ? 2 : (s[0] & 0xf0) == 0xe0 ? 3 :
		   (s[0] & 0xf8) == 0xf0 ? 4 : 0;
	uint32_t code;

	if (n <= 1)
		return n;
	if (n > left)
		return 0;
	code = s[0] & (0x7fu >> n);
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (s[i] & 0x3f);
	}
	if (code < least[n] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
		return 0;
	return n;
}

bool utf8_valid(const char *s, size_t len)
{
	for (size_t i = 0; i < len;) {
		size_t n = utf8_sequence((const unsigned char *)s + i, len - i);

		if (!n)
			return false;
		i += n;
	}
	return true;
}

const char *utf8_clean(struct arena *a, const char *s)
{
	size_t len = strlen(s), o = 0;
	char *out;

	if (utf8_valid(s, len))
		return s;
	out = arena_alloc(a, len * 3 + 1);
	for (size_t i = 0; i < len;) {
		size_t n = utf8_sequence((const unsigned char *)s + i, len - i);

		memcpy(out + o, n ? s + i : "\xef\xbf\xbd", n ? n : 3);
		o += n ? n : 3;
		i += n ? n : 1;
	}
	out[o] = '\0';
	return out;
}

size_t strv_len(char *const *v)
{
	size_t n = 0;

	while (v && v[n])
		n++;
	return n;
}

char **strv_dup(struct arena *a, char *const *v)
{
	size_t n = strv_len(v);
	char **copy = arena_newn0(a, char *, n + 1);

	for (size_t i = 0; i < n; i++)
		copy[i] = arena_strdup(a, v[i]);
	return copy;
}

char **strv_append(struct arena *a, char **v, const char *s)
{
	size_t n = strv_len(v);
	char **longer = arena_newn0(a, char *, n + 2);

	if (n)
		memcpy(longer, v, n * sizeof(*v));
	longer[n] = arena_strdup(a, s);
	return longer;
}

bool strv_has(char *const *v, const char *s)
{
	for (size_t i = 0; v && v[i]; i++)
		if (streq(v[i], s))
			return true;
	return false;
}

void id_new(char out[ID_HEX_LEN + 1])
{
	unsigned char bytes[ID_HEX_LEN / 2];

	if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
		BUG("getrandom gave too little");
	hex_encode(out, bytes, sizeof(bytes));
}

bool id_is_valid(const char *s)
{
	return strlen(s) == ID_HEX_LEN && strspn(s, "0123456789abcdef") == ID_HEX_LEN;
}

void hex_encode(char *out, const void *bytes, size_t n)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *b = bytes;

	for (size_t i = 0; i < n; i++) {
		out[2 * i] = digits[b[i] >> 4];
		out[2 * i + 1] = digits[b[i] & 15];
	}
	out[2 * n] = '\0';
}

int hex_decode(void *out, struct str hex, struct err *e)
{
	unsigned char *b = out;

	if (hex.len % 2)
		return err_set(e, ERR_INVALID, "\"%.*s\" has an odd number of hex digits", STR_ARG(hex));
	for (size_t i = 0; i < hex.len; i++)
		if (digit_of(hex.p[i]) > 15)
			return err_set(e, ERR_INVALID, "\"%.*s\" is not hexadecimal", STR_ARG(hex));
	for (size_t i = 0; i < hex.len / 2; i++)
		b[i] = (unsigned char)(digit_of(hex.p[2 * i]) << 4 | digit_of(hex.p[2 * i + 1]));
	return 0;
}

uint64_t str_hash(const char *s)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (; *s; s++)
		h = (h ^ (unsigned char)*s) * 0x100000001b3u;
	return h;
}
