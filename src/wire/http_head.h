/* The head of an HTTP/1.1 request (RFC 9112), as far as a server needs it that only upgrades connections to
 * another protocol: method, path, query and headers. Strict where leniency has been abused: no folded lines, no
 * blank before a colon, no control characters. Pure: slices of the caller's bytes, nothing is allocated. */
#ifndef KNARR_WIRE_HTTP_HEAD_H
#define KNARR_WIRE_HTTP_HEAD_H

#include "base/err.h"
#include "base/str.h"

#include <sys/types.h>

enum { HTTP_HEAD_MAX = 16 * 1024, HTTP_HEADERS_MAX = 64 };

struct http_header {
	struct str name, value;
};

struct http_head {
	struct str method, path, query; /* path: of origin-form or absolute-form, as written; query without '?' */
	struct http_header headers[HTTP_HEADERS_MAX];
	size_t nheaders;
};

/* How many bytes the head takes, with its empty line; 0 while it is not complete. ERR_INVALID: it is none;
 * ERR_EXHAUSTED: longer than HTTP_HEAD_MAX, or too many headers. */
ssize_t http_head_parse(const char *p, size_t n, struct http_head *out, struct err *e);

/* The first header of that name (in any case); { NULL, 0 } where there is none. */
struct str http_head_get(const struct http_head *h, const char *name);
/* The next of the comma-separated words of all headers of that name; false after the last. *at begins zeroed. */
struct http_words {
	size_t header;
	struct str rest;
};
bool http_head_word(const struct http_head *h, const char *name, struct http_words *at, struct str *word);
/* Whether one of these words is this one, in any case. */
bool http_head_has(const struct http_head *h, const char *name, const char *word);

#endif
