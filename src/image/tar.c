#include "image/tar.h"

#include <string.h>

/* Offsets and widths of the header's fields (ustar; GNU's where it differs). */
enum {
	H_NAME = 0, H_MODE = 100, H_UID = 108, H_GID = 116, H_SIZE = 124, H_MTIME = 136, H_SUM = 148,
	H_TYPE = 156, H_LINK = 157, H_MAGIC = 257, H_MAJOR = 329, H_MINOR = 337, H_PREFIX = 345,
	H_STAR_TRAILER = 508, G_SPARSE = 386, G_EXTENDED = 482, G_REAL_SIZE = 483,
	X_SEGMENTS = 21, X_EXTENDED = 504, SEGMENT_WIDTH = 24, NUMBER_WIDTH = 12
};

void tar_open(struct tar_reader *t, struct tar_source source)
{
	*t = (struct tar_reader){
		.source = source,
		.long_name = BUF(TAR_PATH_MAX + 1),
		.long_link = BUF(TAR_PATH_MAX + 1),
		.pax = BUF(TAR_PAX_MAX),
		.segments = BUF(TAR_SEGMENTS_MAX * sizeof(struct tar_segment)),
	};
}

void tar_close(struct tar_reader *t)
{
	buf_free(&t->long_name);
	buf_free(&t->long_link);
	buf_free(&t->pax);
	buf_free(&t->segments);
}

/* --- bytes ----------------------------------------------------------------------------------------- */

static int fill(struct tar_reader *t, struct err *e)
{
	size_t n = 0;

	if (t->p < t->end || t->at_end)
		return 0;
	if (t->source.more(t->source.ctx, &t->p, &n, e) < 0)
		return -1;
	t->end = t->p + n;
	t->at_end = n == 0;
	return 0;
}

static int cut_short(struct err *e)
{
	return err_set(e, ERR_DATA_LOSS, "the archive is cut short");
}

/* *out = NULL at a clean end. */
static int block_or_end(struct tar_reader *t, const unsigned char **out, struct err *e)
{
	size_t have = 0;

	if (fill(t, e) < 0)
		return -1;
	if (t->end - t->p >= TAR_BLOCK) {
		*out = t->p;
		t->p += TAR_BLOCK;
		return 0;
	}
	while (have < TAR_BLOCK) {
		size_t n;

		if (fill(t, e) < 0)
			return -1;
		if (t->at_end && have)
			return cut_short(e);
		if (t->at_end) {
			*out = NULL;
			return 0;
		}
		n = MIN((size_t)(t->end - t->p), TAR_BLOCK - have);
		memcpy(t->block + have, t->p, n);
		t->p += n;
		have += n;
	}
	*out = t->block;
	return 0;
}

int tar_block(struct tar_reader *t, const unsigned char **out, struct err *e)
{
	const unsigned char *block = NULL;

	if (block_or_end(t, &block, e) < 0)
		return -1;
	if (!block)
		return cut_short(e);
	*out = block;
	return 0;
}

static int skip(struct tar_reader *t, uint64_t n, struct err *e)
{
	while (n) {
		uint64_t now;

		if (fill(t, e) < 0)
			return -1;
		if (t->at_end)
			return cut_short(e);
		now = MIN(n, (uint64_t)(t->end - t->p));
		t->p += now;
		n -= now;
	}
	return 0;
}

static unsigned padding_of(uint64_t size)
{
	return (unsigned)(-size & (TAR_BLOCK - 1));
}

/* The whole data of an extended header. */
static int read_all(struct tar_reader *t, uint64_t size, struct buf *b, const char *what, struct err *e)
{
	uint64_t left = size;

	if (size > b->max)
		return err_set(e, ERR_EXHAUSTED, "%s of %llu bytes; at most %zu are taken", what,
			       (unsigned long long)size, b->max);
	buf_clear(b);
	while (left) {
		uint64_t now;

		if (fill(t, e) < 0)
			return -1;
		if (t->at_end)
			return cut_short(e);
		now = MIN(left, (uint64_t)(t->end - t->p));
		if (buf_add(b, t->p, now, e) < 0)
			return -1;
		t->p += now;
		left -= now;
	}
	return skip(t, padding_of(size), e);
}

/* --- header fields --------------------------------------------------------------------------------- */

static int bad_number(const char *what, struct err *e)
{
	return err_set(e, ERR_INVALID, "the header's %s is no number that can be", what);
}

/* GNU's base-256: the first byte's top bit is set, its next one is the sign. */
static int base256(const unsigned char *f, size_t width, const char *what, int64_t *out, struct err *e)
{
	bool negative = f[0] & 0x40;
	unsigned char fill_byte = negative ? 0xff : 0x00;
	uint64_t v = 0;

	for (size_t i = 0; i < width; i++) {
		unsigned char byte = i ? f[i] : (unsigned char)((f[0] & 0x3f) | (negative ? 0xc0 : 0));

		if (width - i > 8 ? byte != fill_byte : width - i == 8 && (byte & 0x80) != (fill_byte & 0x80))
			return bad_number(what, e);
		v = v << 8 | byte;
	}
	*out = (int64_t)v;
	return 0;
}

static int number(const unsigned char *f, size_t width, const char *what, int64_t *out, struct err *e)
{
	uint64_t v = 0;
	size_t i = 0;

	if (f[0] & 0x80)
		return base256(f, width, what, out, e);
	while (i < width && (f[i] == ' ' || f[i] == '\0'))
		i++;
	for (; i < width && f[i] >= '0' && f[i] <= '7'; i++)
		v = v << 3 | (uint64_t)(f[i] - '0'); /* 12 digits at most: 36 bits */
	if (i < width && f[i] != ' ' && f[i] != '\0')
		return bad_number(what, e);
	*out = (int64_t)v;
	return 0;
}

static int unsigned_number(const unsigned char *f, size_t width, const char *what, uint64_t max, uint64_t *out,
			   struct err *e)
{
	int64_t v = 0;

	if (number(f, width, what, &v, e) < 0)
		return -1;
	if (v < 0 || (uint64_t)v > max)
		return bad_number(what, e);
	*out = (uint64_t)v;
	return 0;
}

static int u32_number(const unsigned char *f, size_t width, const char *what, uint32_t *out, struct err *e)
{
	uint64_t v = 0;

	if (unsigned_number(f, width, what, UINT32_MAX - 1, &v, e) < 0)
		return -1;
	*out = (uint32_t)v;
	return 0;
}

static bool is_zero(const unsigned char *b)
{
	return b[0] == 0 && memcmp(b, b + 1, TAR_BLOCK - 1) == 0;
}

static int checksum(const unsigned char *b, struct err *e)
{
	uint32_t plain = 8 * ' ';
	int32_t with_sign = 8 * ' '; /* as some old writers summed */
	int64_t want = 0;

	for (int i = 0; i < TAR_BLOCK; i++) {
		if (i >= H_SUM && i < H_SUM + 8)
			continue;
		plain += b[i];
		with_sign += (signed char)b[i];
	}
	if (number(b + H_SUM, 8, "checksum", &want, e) < 0 || (want != (int64_t)plain && want != (int64_t)with_sign))
		return err_set(e, ERR_DATA_LOSS, "no tar archive, or a damaged one: a header's checksum is wrong");
	return 0;
}

static size_t field_len(const unsigned char *f, size_t width)
{
	const void *nul = memchr(f, 0, width);

	return nul ? (size_t)((const unsigned char *)nul - f) : width;
}

static bool is_posix(const unsigned char *b)
{
	return memcmp(b + H_MAGIC, "ustar\0", 6) == 0;
}

static void plain_names(struct tar_reader *t, const unsigned char *b)
{
	bool star = is_posix(b) && memcmp(b + H_STAR_TRAILER, "tar", 4) == 0;
	size_t prefix = is_posix(b) ? field_len(b + H_PREFIX, star ? 131 : 155) : 0;
	size_t name = field_len(b + H_NAME, 100), link = field_len(b + H_LINK, 100), at = 0;

	if (prefix) {
		memcpy(t->name, b + H_PREFIX, prefix);
		t->name[prefix] = '/';
		at = prefix + 1;
	}
	memcpy(t->name + at, b + H_NAME, name);
	t->name[at + name] = '\0';
	memcpy(t->linkname, b + H_LINK, link);
	t->linkname[link] = '\0';
}

/* --- entries --------------------------------------------------------------------------------------- */

static int type_of(unsigned char flag, const char *path, enum tar_type *out, struct err *e)
{
	size_t len = strlen(path);

	switch (flag) {
	case '\0': /* v7, whose folders are files with a slash */
		*out = len && path[len - 1] == '/' ? TAR_DIR : TAR_FILE;
		return 0;
	case '0': case '7': case 'S': *out = TAR_FILE; return 0;
	case '1': *out = TAR_HARDLINK; return 0;
	case '2': *out = TAR_SYMLINK; return 0;
	case '3': *out = TAR_CHARDEV; return 0;
	case '4': *out = TAR_BLOCKDEV; return 0;
	case '5': case 'D': *out = TAR_DIR; return 0;
	case '6': *out = TAR_FIFO; return 0;
	default:
		return err_set(e, ERR_INVALID, "%s is an entry of unknown type 0x%02x", path, flag);
	}
}

/* GNU's old sparse format: four segments in the header, more in blocks after it. */
static int gnu_sparse(struct tar_reader *t, const unsigned char *b, struct tar_extra *x, struct err *e)
{
	const unsigned char *at = b + G_SPARSE;
	bool more = b[G_EXTENDED] != 0;
	size_t n = 4;

	if (unsigned_number(b + G_REAL_SIZE, NUMBER_WIDTH, "real size", INT64_MAX, &x->real_size, e) < 0)
		return -1;
	x->sparse = x->has_real_size = true;
	buf_clear(&t->segments);
	for (;;) {
		for (size_t i = 0; i < n && at[i * SEGMENT_WIDTH]; i++) {
			const unsigned char *s = at + i * SEGMENT_WIDTH;
			uint64_t offset = 0, length = 0;

			if (unsigned_number(s, NUMBER_WIDTH, "sparse offset", INT64_MAX, &offset, e) < 0 ||
			    unsigned_number(s + NUMBER_WIDTH, NUMBER_WIDTH, "sparse length", INT64_MAX,
					    &length, e) < 0 ||
			    tar_segment_add(t, offset, length, e) < 0)
				return -1;
		}
		if (!more)
			return 0;
		if (tar_block(t, &at, e) < 0)
			return -1;
		more = at[X_EXTENDED] != 0;
		n = X_SEGMENTS;
	}
}

static int numbers_of(const unsigned char *b, const struct tar_extra *x, struct tar_entry *out, struct err *e)
{
	uint64_t mode = 0;
	int64_t mtime = 0;

	if (unsigned_number(b + H_MODE, 8, "mode", INT64_MAX, &mode, e) < 0)
		return -1;
	out->mode = (uint32_t)mode & 07777;
	out->uid = x->uid;
	out->gid = x->gid;
	out->mtime_s = x->mtime_s;
	out->mtime_ns = x->mtime_ns;
	if (!x->has_uid && u32_number(b + H_UID, 8, "uid", &out->uid, e) < 0)
		return -1;
	if (!x->has_gid && u32_number(b + H_GID, 8, "gid", &out->gid, e) < 0)
		return -1;
	if (!x->has_mtime) {
		if (number(b + H_MTIME, NUMBER_WIDTH, "mtime", &mtime, e) < 0)
			return -1;
		out->mtime_s = mtime;
	}
	if (out->type != TAR_CHARDEV && out->type != TAR_BLOCKDEV)
		return 0;
	if (u32_number(b + H_MAJOR, 8, "device major", &out->major, e) < 0)
		return -1;
	return u32_number(b + H_MINOR, 8, "device minor", &out->minor, e);
}

/* How much data stands behind the header and where in the file it goes. `b` is of no use after it. */
static int data_of(struct tar_reader *t, const unsigned char *b, struct tar_extra *x, struct tar_entry *out,
		   struct err *e)
{
	bool old_gnu = b[H_TYPE] == 'S', dumpdir = b[H_TYPE] == 'D';
	uint64_t stored = x->size;

	if (!x->has_size && unsigned_number(b + H_SIZE, NUMBER_WIDTH, "size", INT64_MAX, &stored, e) < 0)
		return -1;
	if (old_gnu && gnu_sparse(t, b, x, e) < 0)
		return -1;
	if (out->type != TAR_FILE && !dumpdir)
		stored = 0; /* what has no data by its type has none, whatever the header says */
	t->data_left = stored;
	t->padding = padding_of(stored);
	t->offset = 0;
	t->segment = 0;
	t->segment_left = 0;
	out->size = out->type == TAR_FILE ? stored : 0;
	out->sparse = out->type == TAR_FILE && x->sparse;
	if (!out->sparse)
		return 0;
	if (x->half_segment)
		return err_set(e, ERR_INVALID, "the sparse map ends in the middle of a segment");
	if (x->sparse_major == 1 && tar_sparse_1_0(t, e) < 0)
		return -1;
	if (!x->has_real_size)
		return err_set(e, ERR_INVALID, "the sparse file has no real size");
	out->size = x->real_size;
	return tar_segments_check(t, x->real_size, t->data_left, e);
}

static int entry_of(struct tar_reader *t, const unsigned char *b, struct tar_extra *x, struct tar_entry *out,
		    struct err *e)
{
	struct tar_entry entry = { .xattrs = t->xattrs, .nxattrs = x->nxattrs };

	plain_names(t, b);
	entry.path = x->sparse && x->sparse_name ? x->sparse_name :
		     x->path ? x->path : x->gnu_path ? x->gnu_path : t->name;
	entry.link = x->link ? x->link : x->gnu_link ? x->gnu_link : t->linkname;
	if (!*entry.path)
		return err_set(e, ERR_INVALID, "an entry without a name");
	if (strlen(entry.path) > TAR_PATH_MAX || strlen(entry.link) > TAR_PATH_MAX)
		return err_set(e, ERR_EXHAUSTED, "a name is longer than %d bytes: %.64s…", TAR_PATH_MAX,
			       entry.path);
	if (type_of(b[H_TYPE], entry.path, &entry.type, e) < 0)
		return -1;
	if (numbers_of(b, x, &entry, e) < 0 || data_of(t, b, x, &entry, e) < 0)
		return err_in(e, "%s", entry.path);
	if (entry.type != TAR_HARDLINK && entry.type != TAR_SYMLINK)
		entry.link = "";
	else if (!*entry.link)
		return err_set(e, ERR_INVALID, "%s is a link without a target", entry.path);
	*out = entry;
	return 0;
}

static int long_text(struct tar_reader *t, uint64_t size, struct buf *b, const char **out, struct err *e)
{
	if (read_all(t, size, b, "a GNU long name", e) < 0)
		return -1;
	*out = buf_text(b); /* to its first NUL */
	return 0;
}

/* A header that describes the next entry, or nothing of interest. 1: it was one. */
static int extension(struct tar_reader *t, const unsigned char *b, struct tar_extra *x, struct err *e)
{
	unsigned char flag = b[H_TYPE];
	uint64_t size = 0;
	int rc;

	if (!memchr("LKxXgVNM", flag, 8))
		return 0;
	if (flag == 'M' || flag == 'N')
		return err_set(e, ERR_INVALID, "multi-volume archives are not taken");
	if (unsigned_number(b + H_SIZE, NUMBER_WIDTH, "size", INT64_MAX, &size, e) < 0)
		return -1;
	if (flag == 'L') {
		rc = long_text(t, size, &t->long_name, &x->gnu_path, e);
	} else if (flag == 'K') {
		rc = long_text(t, size, &t->long_link, &x->gnu_link, e);
	} else if (flag == 'x' || flag == 'X') {
		/* A second one replaces the first, whose bytes are gone. */
		*x = (struct tar_extra){ .gnu_path = x->gnu_path, .gnu_link = x->gnu_link };
		buf_clear(&t->segments);
		rc = read_all(t, size, &t->pax, "a pax header", e);
		if (rc == 0)
			rc = tar_pax_parse(t, x, e);
	} else {
		rc = size > INT64_MAX - TAR_BLOCK ? cut_short(e) : skip(t, size + padding_of(size), e);
	}
	return rc < 0 ? -1 : 1;
}

int tar_next(struct tar_reader *t, struct tar_entry *out, struct err *e)
{
	struct tar_extra x = { 0 };
	bool extended = false;

	if (skip(t, t->data_left, e) < 0 || skip(t, t->padding, e) < 0)
		return -1;
	t->data_left = t->padding = 0;
	buf_clear(&t->segments);
	for (;;) {
		const unsigned char *b = NULL;
		int rc;

		if (block_or_end(t, &b, e) < 0)
			return -1;
		if (!b || is_zero(b))
			return extended ? err_set(e, ERR_DATA_LOSS, "an extended header without its entry") : 0;
		if (checksum(b, e) < 0)
			return -1;
		rc = extension(t, b, &x, e);
		if (rc < 0)
			return -1;
		if (rc == 0)
			return entry_of(t, b, &x, out, e) < 0 ? -1 : 1;
		extended |= b[H_TYPE] != 'g' && b[H_TYPE] != 'V';
	}
}

/* The next segment that holds bytes; data_left says that there is one. */
static void next_segment(struct tar_reader *t)
{
	const struct tar_segment *s = (const void *)t->segments.p;

	while (!t->segment_left) {
		t->offset = s[t->segment].offset;
		t->segment_left = s[t->segment].length;
		t->segment++;
	}
}

int tar_data(struct tar_reader *t, const unsigned char **p, size_t *n, uint64_t *offset, struct err *e)
{
	bool sparse = t->segments.len > 0;
	uint64_t now;

	if (!t->data_left) {
		*n = 0;
		return 0;
	}
	if (fill(t, e) < 0)
		return -1;
	if (t->at_end)
		return cut_short(e);
	if (sparse)
		next_segment(t);
	now = MIN(t->data_left, (uint64_t)(t->end - t->p));
	if (sparse) {
		now = MIN(now, t->segment_left);
		t->segment_left -= now;
	}
	*p = t->p;
	*n = now;
	*offset = t->offset;
	t->p += now;
	t->offset += now;
	t->data_left -= now;
	return 0;
}
