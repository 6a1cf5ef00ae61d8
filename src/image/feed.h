/* The layer's uncompressed stream, made on a thread of its own: it reads, decompresses, hashes and
 * keeps the limits, a few buffers ahead of the one who writes files. */
#ifndef KNARR_IMAGE_FEED_H
#define KNARR_IMAGE_FEED_H

#include "image/inflate.h"
#include "image/tar.h"

struct feed;

struct feed_settings {
	int fd;                      /* compressed bytes; the caller's, to be open until feed_close */
	enum unpack_format want;
	uint64_t max_bytes, max_ratio;
};

struct feed_sum {
	uint8_t sha256[32];
	uint64_t size;
	enum unpack_format format;
};

int feed_open(const struct feed_settings *s, struct feed **out, struct err *e);
/* Ends the thread first, which may wait for its read. */
void feed_close(struct feed *f);

/* A tar_source: the next bytes, valid until the next call. */
struct tar_source feed_source(struct feed *f);
/* Reads to the end what no one asked for, and tells the sum of all. */
int feed_finish(struct feed *f, struct feed_sum *out, struct err *e);

#endif
