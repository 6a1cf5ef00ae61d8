/* Text. A `const char *` is NUL-terminated and whole; a `struct str` is a slice of somebody else's
 * bytes, used while parsing; a `strv` is a NULL-terminated array of texts. Nothing here blocks. */
#ifndef KNARR_BASE_STR_H
#define KNARR_BASE_STR_H

#include "base/arena.h"
#include "base/err.h"

#include <string.h>

struct str {
	const char *p;
	size_t len;
};

#define STR(literal) ((struct str){ literal, sizeof(literal) - 1 })
#define STR_ARG(s) (int)(s).len, (s).p /* for "%.*s" */

static inline struct str str_of(const char *s)
{
	return (struct str){ s, strlen(s) };
}

bool str_eq(struct str a, struct str b);
bool str_eqz(struct str a, const char *b);
bool str_starts(struct str s, const char *prefix);
struct str str_trim(struct str s); /* without blanks, tabs, CR and LF at both ends */
char *str_dup(struct arena *a, struct str s);

/* Cuts *rest at the first `sep`: what was before it is returned, *rest keeps what follows (empty and
 * with p == NULL after the last piece). `while (rest.p) piece = str_cut(&rest, ',');` */
struct str str_cut(struct str *rest, char sep);

static inline bool streq(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

/* Equal, where NULL equals only NULL. */
bool streq_null(const char *a, const char *b);
bool starts_with(const char *s, const char *prefix);
bool ends_with(const char *s, const char *suffix);
static inline bool str_is_empty(const char *s)
{
	return !s || !*s;
}

/* Whole-text numbers, decimal unless a base is given: no blanks, no rest. ERR_INVALID says what the
 * text was. */
int str_to_i64(struct str s, int64_t *out, struct err *e);
int str_to_u64(struct str s, uint64_t *out, struct err *e);
int str_to_u32_base(struct str s, int base, uint32_t *out, struct err *e);

bool utf8_valid(const char *s, size_t len);
/* The text with every byte that is not UTF-8 replaced by U+FFFD; the text itself if it was valid. */
const char *utf8_clean(struct arena *a, const char *s);

size_t strv_len(char *const *v); /* NULL counts as empty */
char **strv_dup(struct arena *a, char *const *v);
char **strv_append(struct arena *a, char **v, const char *s); /* a new array, v's texts and s's */
bool strv_has(char *const *v, const char *s);

enum { ID_HEX_LEN = 64 };
/* A fresh random ID: 64 hex digits, NUL after them. */
void id_new(char out[ID_HEX_LEN + 1]);
bool id_is_valid(const char *s);

void hex_encode(char *out, const void *bytes, size_t n); /* 2n digits and a NUL */
int hex_decode(void *out, struct str hex, struct err *e); /* hex.len / 2 bytes */

/* FNV-1a, for hash tables of our own data (not for hostile keys in bulk). */
uint64_t str_hash(const char *s);

#endif
