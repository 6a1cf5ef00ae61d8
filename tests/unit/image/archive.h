/* Makes tar archives for tests, field by field, so that they can be wrong in any way. */
#ifndef KNARR_TESTS_ARCHIVE_H
#define KNARR_TESTS_ARCHIVE_H

#include "base/buf.h"

#include <stdio.h>
#include <string.h>

struct archive {
	struct buf bytes;
};

static inline void archive_sum(char *h)
{
	unsigned sum = 0;

	memset(h + 148, ' ', 8);
	for (int i = 0; i < 512; i++)
		sum += (unsigned char)h[i];
	(void)snprintf(h + 148, 8, "%06o", sum & 0777777);
}

static inline void archive_raw(struct archive *a, const void *p, size_t n)
{
	struct err e;
	char zeros[512] = { 0 };

	a->bytes.max = 64 << 20;
	if (buf_add(&a->bytes, p, n, &e) < 0 || buf_add(&a->bytes, zeros, -n & 511, &e) < 0)
		BUG("archive too large");
}

/* A header as ustar has it; the caller may change it before archive_sum. */
static inline void archive_header(char *h, char type, const char *path, const char *link, size_t size)
{
	memset(h, 0, 512);
	memcpy(h, path, MIN(strlen(path), (size_t)100));
	memcpy(h + 157, link, MIN(strlen(link), (size_t)100));
	memcpy(h + 100, type == '5' ? "0000755" : "0000644", 7);
	memcpy(h + 108, "0000000", 7);
	memcpy(h + 116, "0000000", 7);
	(void)snprintf(h + 124, 12, "%011o", (unsigned)size);
	memcpy(h + 136, "00000001750", 11); /* 1000 */
	h[156] = type;
	memcpy(h + 257, "ustar\00000", 8);
	memcpy(h + 329, "0000001", 7);
	memcpy(h + 337, "0000003", 7);
	archive_sum(h);
}

static inline void archive_add(struct archive *a, char type, const char *path, const char *link, const char *data)
{
	char h[512];

	archive_header(h, type, path, link, strlen(data));
	archive_raw(a, h, 512);
	archive_raw(a, data, strlen(data));
}

static inline void archive_end(struct archive *a)
{
	char zeros[1024] = { 0 };

	archive_raw(a, zeros, sizeof(zeros));
}

#endif
