#include "image/tar_write.h"

#include "base/fd.h"

#include <stdio.h>
#include <string.h>

enum { NAME_ROOM = 100, OCTAL7_MAX = 07777777, COPY_BYTES = 64 * 1024 };
static const uint64_t octal11_max = 077777777777;

struct header {                 /* ustar */
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100];
	char magic[6], version[2], user[32], group[32], major[8], minor[8], prefix[155], rest[12];
};
_Static_assert(sizeof(struct header) == TAR_BLOCK, "a block");

static void put_text(char *to, size_t room, const char *text)
{
	memcpy(to, text, MIN(room, strlen(text)));
}

static void put_octal(char *to, size_t room, uint64_t n)
{
	for (size_t i = room - 1; i-- > 0; n >>= 3)
		to[i] = (char)('0' + (n & 7));
}

static int write_header(int fd, struct header *h, struct err *e)
{
	unsigned sum = 0;

	put_text(h->magic, sizeof(h->magic), "ustar");
	put_text(h->version, sizeof(h->version), "00");
	memset(h->checksum, ' ', sizeof(h->checksum));
	for (size_t i = 0; i < sizeof(*h); i++)
		sum += ((const unsigned char *)h)[i];
	put_octal(h->checksum, 7, sum);
	h->checksum[6] = '\0';
	return fd_write_all(fd, h, sizeof(*h), e);
}

static int pad(int fd, uint64_t size, struct err *e)
{
	static const char zeros[TAR_BLOCK];
	size_t over = size % TAR_BLOCK;

	return over ? fd_write_all(fd, zeros, TAR_BLOCK - over, e) : 0;
}

/* "LENGTH key=value\n", where LENGTH counts itself. */
static int add_record(struct buf *b, const char *key, struct str value, struct err *e)
{
	size_t rest = strlen(key) + value.len + 3, n = rest + 1;
	char digits[24];

	while ((size_t)snprintf(digits, sizeof(digits), "%zu", n) + rest != n)
		n = (size_t)snprintf(digits, sizeof(digits), "%zu", n) + rest;
	return buf_addf(b, e, "%zu %s=", n, key) < 0 || buf_add(b, value.p, value.len, e) < 0 ? -1 : buf_addz(b, "\n", e);
}

static int add_number(struct buf *b, const char *key, uint64_t n, struct err *e)
{
	char digits[24];

	(void)snprintf(digits, sizeof(digits), "%llu", (unsigned long long)n);
	return add_record(b, key, str_of(digits), e);
}

static int add_xattrs(struct buf *b, const struct tar_entry *t, struct err *e)
{
	for (size_t i = 0; i < t->nxattrs; i++) {
		char key[300];

		(void)snprintf(key, sizeof(key), "SCHILY.xattr.%s", t->xattrs[i].name);
		if (add_record(b, key, t->xattrs[i].value, e) < 0)
			return -1;
	}
	return 0;
}

static int pax_records(struct buf *b, const struct tar_entry *t, struct err *e)
{
	if ((strlen(t->path) > NAME_ROOM && add_record(b, "path", str_of(t->path), e) < 0) ||
	    (t->link && strlen(t->link) > NAME_ROOM && add_record(b, "linkpath", str_of(t->link), e) < 0) ||
	    (t->type == TAR_FILE && t->size > octal11_max && add_number(b, "size", t->size, e) < 0) ||
	    (t->uid > OCTAL7_MAX && add_number(b, "uid", t->uid, e) < 0) ||
	    (t->gid > OCTAL7_MAX && add_number(b, "gid", t->gid, e) < 0))
		return -1;
	return add_xattrs(b, t, e);
}

static int write_pax(int fd, const struct tar_entry *t, struct err *e)
{
	auto_buf b = BUF(TAR_PAX_MAX);
	struct header h = { .type = 'x' };

	if (pax_records(&b, t, e) < 0)
		return err_in(e, "%s", t->path);
	if (!b.len)
		return 0;
	put_text(h.name, sizeof(h.name), "pax");
	put_octal(h.mode, sizeof(h.mode), 0600);
	put_octal(h.uid, sizeof(h.uid), 0);
	put_octal(h.gid, sizeof(h.gid), 0);
	put_octal(h.mtime, sizeof(h.mtime), 0);
	put_octal(h.size, sizeof(h.size), b.len);
	return write_header(fd, &h, e) < 0 ? -1 : tar_write_data(fd, b.p, b.len, e);
}

int tar_write_entry(int fd, const struct tar_entry *t, struct err *e)
{
	static const char types[] = { [TAR_FILE] = '0', [TAR_HARDLINK] = '1', [TAR_SYMLINK] = '2', [TAR_CHARDEV] = '3',
				      [TAR_BLOCKDEV] = '4', [TAR_DIR] = '5', [TAR_FIFO] = '6' };
	struct header h = { .type = types[t->type] };

	if (write_pax(fd, t, e) < 0)
		return -1;
	put_text(h.name, sizeof(h.name), t->path);
	put_text(h.link, sizeof(h.link), t->link ? t->link : "");
	put_octal(h.mode, sizeof(h.mode), t->mode & 07777);
	put_octal(h.uid, sizeof(h.uid), t->uid > OCTAL7_MAX ? 0 : t->uid);
	put_octal(h.gid, sizeof(h.gid), t->gid > OCTAL7_MAX ? 0 : t->gid);
	put_octal(h.size, sizeof(h.size), t->type != TAR_FILE || t->size > octal11_max ? 0 : t->size);
	put_octal(h.mtime, sizeof(h.mtime), t->mtime_s < 0 ? 0 : (uint64_t)t->mtime_s);
	put_octal(h.major, sizeof(h.major), t->major);
	put_octal(h.minor, sizeof(h.minor), t->minor);
	return write_header(fd, &h, e);
}

int tar_write_data(int fd, const void *bytes, size_t n, struct err *e)
{
	return fd_write_all(fd, bytes, n, e) < 0 ? -1 : pad(fd, n, e);
}

int tar_write_from(int fd, int from, uint64_t size, struct err *e)
{
	char bytes[COPY_BYTES];

	for (uint64_t left = size; left;) {
		size_t n = MIN(left, sizeof(bytes));

		if (fd_read_full(from, bytes, n, e) < 0 || fd_write_all(fd, bytes, n, e) < 0)
			return -1;
		left -= n;
	}
	return pad(fd, size, e);
}

int tar_write_text(int fd, const char *path, struct str text, struct err *e)
{
	const struct tar_entry t = { .type = TAR_FILE, .path = path, .mode = 0600, .size = text.len };

	return tar_write_entry(fd, &t, e) < 0 ? -1 : tar_write_data(fd, text.p, text.len, e);
}

int tar_write_end(int fd, struct err *e)
{
	static const char zeros[2 * TAR_BLOCK];

	return fd_write_all(fd, zeros, sizeof(zeros), e);
}
