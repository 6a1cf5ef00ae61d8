#include "wire/grpc.h"

#include "base/clock.h"

struct grpc_head grpc_head_read(const char bytes[GRPC_HEAD])
{
	const unsigned char *b = (const unsigned char *)bytes;

	return (struct grpc_head){ .compressed = b[0] != 0,
				   .message_bytes = (size_t)b[1] << 24 | (size_t)b[2] << 16 |
						    (size_t)b[3] << 8 | b[4] };
}

void grpc_head_write(char bytes[GRPC_HEAD], size_t message_bytes)
{
	BUG_ON(message_bytes > UINT32_MAX);
	bytes[0] = 0;
	for (int i = 0; i < 4; i++)
		bytes[1 + i] = (char)(message_bytes >> (24 - 8 * i));
}

static bool is_plain(unsigned char c)
{
	return c >= ' ' && c <= '~' && c != '%';
}

const char *grpc_message_encode(struct arena *a, const char *text)
{
	static const char digit[] = "0123456789ABCDEF";
	const char *clean = utf8_valid(text, strlen(text)) ? text : utf8_clean(a, text);
	char *out = arena_alloc(a, 3 * strlen(clean) + 1), *to = out;

	for (; *clean; clean++) {
		unsigned char c = (unsigned char)*clean;

		if (is_plain(c)) {
			*to++ = (char)c;
			continue;
		}
		*to++ = '%';
		*to++ = digit[c >> 4];
		*to++ = digit[c & 15];
	}
	*to = '\0';
	return out;
}

const char *grpc_message_decode(struct arena *a, struct str text)
{
	char *out = arena_alloc(a, text.len + 1), *to = out;
	struct err ignored;

	for (size_t i = 0; i < text.len; i++) {
		struct str hex = { text.p + i + 1, 2 };

		*to = text.p[i];
		if (text.p[i] == '%' && text.len - i > 2 && hex_decode(to, hex, &ignored) == 0)
			i += 2;
		to++;
	}
	*to = '\0';
	return out;
}

static const struct { char letter; int64_t ns; } units[] = {
	{ 'n', 1 },		  { 'u', 1000 },
	{ 'm', NS_PER_MS },	  { 'S', NS_PER_S },
	{ 'M', 60 * NS_PER_S },	  { 'H', 3600 * NS_PER_S },
};
enum { TIMEOUT_DIGITS = 8, TIMEOUT_MOST = 99999999 };

int grpc_timeout_parse(struct str text, int64_t *ns, struct err *e)
{
	struct str digits = { text.p, text.len ? text.len - 1 : 0 };
	int64_t n;

	if (digits.len < 1 || digits.len > TIMEOUT_DIGITS || digits.p[0] < '0' || digits.p[0] > '9' ||
	    str_to_i64(digits, &n, e) < 0)
		return err_set(e, ERR_INVALID, "grpc-timeout \"%.*s\" is none", STR_ARG(text));
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (units[i].letter != text.p[digits.len])
			continue;
		if (__builtin_mul_overflow(n, units[i].ns, ns))
			*ns = INT64_MAX;
		return 0;
	}
	return err_set(e, ERR_INVALID, "grpc-timeout \"%.*s\" is none", STR_ARG(text));
}

const char *grpc_timeout_format(struct arena *a, int64_t ns)
{
	if (ns < 0)
		ns = 0;
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		int64_t n = ns / units[i].ns + (ns % units[i].ns != 0);

		if (n <= TIMEOUT_MOST)
			return arena_printf(a, "%lld%c", (long long)n, units[i].letter);
	}
	return arena_printf(a, "%dH", TIMEOUT_MOST);
}
