/* Decompression of a layer: gzip (RFC 1952, any number of members) by ISA-L, zstd (RFC 8878, any
 * number of frames, windows to 128 MiB), or plain bytes; which one, the first bytes say. Checksums
 * are verified, a cut stream is ERR_DATA_LOSS. Blocks as `read` does. */
#ifndef KNARR_IMAGE_INFLATE_H
#define KNARR_IMAGE_INFLATE_H

#include "base/err.h"
#include "image/unpack.h"

struct inflate;

struct inflate_source {
	/* Up to cap bytes; *n == 0 at the end. */
	int (*read)(void *ctx, void *bytes, size_t cap, size_t *n, struct err *e);
	void *ctx;
};

/* Reads the first bytes. `want` is what the media type promises (see unpack.h). */
int inflate_open(struct inflate_source source, enum unpack_format want, struct inflate **out, struct err *e);
void inflate_close(struct inflate *in);

enum unpack_format inflate_format(const struct inflate *in);
const char *unpack_format_name(enum unpack_format f);
/* Compressed bytes taken so far. */
uint64_t inflate_taken(const struct inflate *in);

/* Fills the buffer whole, but at the end: *n < cap means that nothing follows. */
int inflate_read(struct inflate *in, void *bytes, size_t cap, size_t *n, struct err *e);

#endif
