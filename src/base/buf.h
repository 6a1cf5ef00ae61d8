/* Bytes that grow, with a maximum fixed at birth: a buffer can never run away with the memory.
 *
 * A struct buf owns its bytes (released by buf_free or auto_buf). Appending past the maximum fails
 * with ERR_EXHAUSTED and leaves the buffer as it was. The bytes are always followed by a NUL that
 * is not counted, so text can be read as a C string. Nothing here blocks. */
#ifndef KNARR_BASE_BUF_H
#define KNARR_BASE_BUF_H

#include "base/err.h"
#include "base/str.h"

struct buf {
	char *p; /* NULL while empty */
	size_t len, cap, max;
};

#define BUF(max_bytes) ((struct buf){ .max = (max_bytes) })
void buf_free(struct buf *b);
#define auto_buf AUTO(buf_free) struct buf

int buf_add(struct buf *b, const void *bytes, size_t n, struct err *e) MUST_USE;
int buf_addz(struct buf *b, const char *text, struct err *e) MUST_USE;
int buf_addf(struct buf *b, struct err *e, const char *fmt, ...) PRINTF_LIKE(3, 4) MUST_USE;
/* Room for n more bytes at b->p + b->len; the caller writes there and then adds to b->len. */
int buf_reserve(struct buf *b, size_t n, struct err *e) MUST_USE;
/* Removes n bytes at the front. */
void buf_consume(struct buf *b, size_t n);
void buf_clear(struct buf *b);
/* The bytes as text, "" while empty; valid until the next change. */
const char *buf_text(const struct buf *b);
struct str buf_str(const struct buf *b);

#endif
