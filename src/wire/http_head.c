#include "wire/http_head.h"

#include <strings.h>

static bool same(struct str a, const char *b)
{
	return a.len == strlen(b) && strncasecmp(a.p, b, a.len) == 0;
}

/* RFC 9110, 5.6.2: what names and methods are made of. */
static bool is_token(struct str s)
{
	for (size_t i = 0; i < s.len; i++) {
		char c = s.p[i];

		if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
		      (c && strchr("!#$%&'*+-.^_`|~", c))))
			return false;
	}
	return s.len > 0;
}

static bool is_text(struct str s, char least)
{
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if ((c < (unsigned char)least && c != '\t') || c == 0x7f)
			return false;
	}
	return true;
}

static int parse_target(struct str target, struct http_head *out, struct err *e)
{
	static const char *const schemes[] = { "http://", "https://" };
	struct str path;

	for (size_t i = 0; i < ARRAY_SIZE(schemes); i++) {
		if (str_starts(target, schemes[i])) {
			const char *slash = memchr(target.p + strlen(schemes[i]), '/', target.len - strlen(schemes[i]));

			if (!slash)
				return err_set(e, ERR_INVALID, "the request's target has no path");
			target = (struct str){ slash, target.len - (size_t)(slash - target.p) };
		}
	}
	if (!target.len || target.p[0] != '/' || !is_text(target, '!') || memchr(target.p, '\t', target.len))
		return err_set(e, ERR_INVALID, "the request's target is no path");
	path = str_cut(&target, '?');
	out->path = path;
	out->query = target.p ? target : (struct str){ "", 0 };
	return 0;
}

static int parse_first(struct str line, struct http_head *out, struct err *e)
{
	struct str rest = line, target;

	out->method = str_cut(&rest, ' ');
	if (!rest.p || !is_token(out->method))
		return err_set(e, ERR_INVALID, "this is no HTTP request");
	target = str_cut(&rest, ' ');
	if (!rest.p || !str_eqz(rest, "HTTP/1.1"))
		return err_set(e, ERR_INVALID, "the request is not of HTTP/1.1");
	return parse_target(target, out, e);
}

static int parse_header(struct str line, struct http_head *out, struct err *e)
{
	struct str rest = line, name = str_cut(&rest, ':');

	if (!rest.p || !is_token(name) || !is_text(rest, ' '))
		return err_set(e, ERR_INVALID, "header %zu is malformed", out->nheaders + 1);
	if (out->nheaders == HTTP_HEADERS_MAX)
		return err_set(e, ERR_EXHAUSTED, "the request has more than %d headers", HTTP_HEADERS_MAX);
	out->headers[out->nheaders++] = (struct http_header){ name, str_trim(rest) };
	return 0;
}

ssize_t http_head_parse(const char *p, size_t n, struct http_head *out, struct err *e)
{
	size_t limit = MIN(n, (size_t)HTTP_HEAD_MAX), pos = 0;
	struct http_head h;

	h.nheaders = 0;
	for (bool first = true;; first = false) {
		const char *end = memchr(p + pos, '\n', limit - pos);
		struct str line;

		if (!end)
			break;
		line = (struct str){ p + pos, (size_t)(end - (p + pos)) };
		pos += line.len + 1;
		if (!line.len || line.p[line.len - 1] != '\r')
			return err_set(e, ERR_INVALID, "a line of the request does not end with CR LF");
		line.len--;
		if (!line.len && !first) {
			*out = h;
			return (ssize_t)pos;
		}
		if ((first ? parse_first(line, &h, e) : parse_header(line, &h, e)) < 0)
			return -1;
	}
	if (n >= HTTP_HEAD_MAX)
		return err_set(e, ERR_EXHAUSTED, "the request's head exceeds %d bytes", HTTP_HEAD_MAX);
	return 0;
}

struct str http_head_get(const struct http_head *h, const char *name)
{
	for (size_t i = 0; i < h->nheaders; i++)
		if (same(h->headers[i].name, name))
			return h->headers[i].value;
	return (struct str){ NULL, 0 };
}

bool http_head_word(const struct http_head *h, const char *name, struct http_words *at, struct str *word)
{
	for (;;) {
		while (at->rest.p) {
			*word = str_trim(str_cut(&at->rest, ','));
			if (word->len)
				return true;
		}
		while (at->header < h->nheaders && !same(h->headers[at->header].name, name))
			at->header++;
		if (at->header == h->nheaders)
			return false;
		at->rest = h->headers[at->header++].value;
	}
}

bool http_head_has(const struct http_head *h, const char *name, const char *wanted)
{
	struct http_words at = { 0 };
	struct str word;

	while (http_head_word(h, name, &at, &word))
		if (same(word, wanted))
			return true;
	return false;
}
