/* Reads tar archives: v7, ustar, star's prefix, GNU (long names and links, sparse, base-256
 * numbers) and pax (IEEE 1003.1 "pax Interchange Format", with SCHILY.xattr, LIBARCHIVE.xattr and
 * GNU.sparse 0.0, 0.1, 1.0). Pure: bytes come from a callback, entries go out; nothing is written
 * and no path is judged here (tree.h does). Global pax headers are read over, as every container
 * engine does, volume labels too; multi-volume pieces are refused.
 *
 *	while ((more = tar_next(t, &entry, e)) > 0)
 *		while (… tar_data(t, &p, &n, &offset, e) == 0 && n) …
 *
 * Bounded: names to TAR_PATH_MAX bytes, one entry's pax header to TAR_PAX_MAX, a sparse map to
 * TAR_SEGMENTS_MAX. ERR_DATA_LOSS: no tar, a wrong checksum, cut short; ERR_INVALID: a field that
 * cannot be; ERR_EXHAUSTED: past a bound. After an error the reader is of no further use. */
#ifndef KNARR_IMAGE_TAR_H
#define KNARR_IMAGE_TAR_H

#include "base/buf.h"
#include "base/err.h"

enum { TAR_BLOCK = 512, TAR_PATH_MAX = 4095, TAR_PAX_MAX = 1024 * 1024, TAR_SEGMENTS_MAX = 1000000,
       TAR_XATTRS_MAX = 128 };

/* The next bytes, valid until the next call; *n == 0 at the end. */
struct tar_source {
	int (*more)(void *ctx, const unsigned char **p, size_t *n, struct err *e);
	void *ctx;
};

enum tar_type { TAR_FILE, TAR_HARDLINK, TAR_SYMLINK, TAR_CHARDEV, TAR_BLOCKDEV, TAR_DIR, TAR_FIFO };

struct tar_xattr {
	const char *name;
	struct str value;
};

struct tar_entry {           /* its texts are the reader's, valid until the next tar_next */
	enum tar_type type;
	const char *path;    /* as written: may be absolute, may hold ".." */
	const char *link;    /* HARDLINK, SYMLINK */
	uint32_t mode;       /* the permission bits, 07777 */
	uint32_t uid, gid;
	int64_t mtime_s;
	uint32_t mtime_ns;
	uint64_t size;       /* FILE: its length, holes included */
	bool sparse;         /* FILE: tar_data gives only what is not a hole */
	uint32_t major, minor;
	const struct tar_xattr *xattrs;
	size_t nxattrs;
};

struct tar_segment {
	uint64_t offset, length;
};

struct tar_reader {
	struct tar_source source;
	const unsigned char *p, *end;     /* the rest of the source's last bytes */
	unsigned char block[TAR_BLOCK];   /* one that lay across two of the source's pieces */
	bool at_end;
	uint64_t data_left;               /* stored bytes of this entry still to come */
	unsigned padding;                 /* then these */
	uint64_t offset;                  /* where in the file the next data belongs */

	char name[257], linkname[101];    /* from the plain header */
	struct buf long_name, long_link;  /* GNU 'L' and 'K' */
	struct buf pax;                   /* 'x', cut up in place */
	struct buf segments;              /* of struct tar_segment */
	size_t segment;
	uint64_t segment_left;
	struct tar_xattr xattrs[TAR_XATTRS_MAX];
};

void tar_open(struct tar_reader *t, struct tar_source source);
void tar_close(struct tar_reader *t);
#define auto_tar AUTO(tar_close) struct tar_reader

/* 1: an entry; 0: the end of the archive; -1. Skips what was not read of the entry before. */
int tar_next(struct tar_reader *t, struct tar_entry *out, struct err *e);
/* The next piece of a FILE's data and where it belongs; *n == 0 after the last. */
int tar_data(struct tar_reader *t, const unsigned char **p, size_t *n, uint64_t *offset, struct err *e);

/* --- shared by tar.c and tar_pax.c ----------------------------------------------------------------- */

/* What extended headers say about the entry that follows. */
struct tar_extra {
	const char *gnu_path, *gnu_link;
	const char *path, *link; /* pax's, which count before GNU's */
	bool has_size, has_uid, has_gid, has_mtime;
	uint64_t size;
	uint32_t uid, gid;
	int64_t mtime_s;
	uint32_t mtime_ns;
	size_t nxattrs;
	/* GNU.sparse: */
	bool sparse, has_real_size;
	uint64_t sparse_major, sparse_minor, real_size;
	const char *sparse_name;
	bool half_segment; /* 0.0: an offset came, its numbytes not yet */
};

int tar_pax_parse(struct tar_reader *t, struct tar_extra *x, struct err *e);
int tar_segment_add(struct tar_reader *t, uint64_t offset, uint64_t length, struct err *e);
/* The map is in order, within real_size, and holds exactly `stored` bytes. */
int tar_segments_check(const struct tar_reader *t, uint64_t real_size, uint64_t stored, struct err *e);
/* GNU.sparse 1.0: the map stands before the data. */
int tar_sparse_1_0(struct tar_reader *t, struct err *e);
/* A block of the archive; the pointer is valid until the next read. ERR_DATA_LOSS at the end. */
int tar_block(struct tar_reader *t, const unsigned char **out, struct err *e);

#endif
