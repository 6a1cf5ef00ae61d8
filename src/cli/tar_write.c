#include "cli/tar_write.h"

#include "base/fd.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

enum { BLOCK = 512, CHUNK = 1 << 20, NAME = 100, LINK = 100, PAX_MAX = 1 << 20 };
static const int64_t ustar_size_max = INT64_C(077777777777);
static const unsigned ustar_id_max = 07777777;

static int put(struct tar_writer *t, const void *bytes, size_t n, struct err *e)
{
	if (t->hash)
		hash_add(t->hash, bytes, n);
	t->size += (int64_t)n;
	return fd_write_all(t->fd, bytes, n, e) < 0 ? err_in(e, "write the archive") : 0;
}

static int pad(struct tar_writer *t, struct err *e)
{
	static const char zero[BLOCK];
	size_t over = (size_t)(t->size % BLOCK);

	return over ? put(t, zero, BLOCK - over, e) : 0;
}

static void octal(char *at, size_t width, uint64_t value)
{
	char text[32];

	(void)snprintf(text, sizeof(text), "%0*llo", (int)width - 1, (unsigned long long)value);
	memcpy(at, text, width);
}

static int header(struct tar_writer *t, const struct tar_member *m, char type, int64_t size, struct err *e)
{
	char b[BLOCK] = { 0 };
	unsigned sum = 0;

	memcpy(b, m->path, MIN(strlen(m->path), (size_t)NAME));
	if (type == '5' && strlen(m->path) < NAME)
		b[strlen(m->path)] = '/';
	octal(b + 100, 8, m->mode & 07777);
	octal(b + 108, 8, MIN(m->uid, ustar_id_max));
	octal(b + 116, 8, MIN(m->gid, ustar_id_max));
	octal(b + 124, 12, (uint64_t)MIN(size, ustar_size_max));
	octal(b + 136, 12, (uint64_t)MAX(m->mtime_s, (int64_t)0));
	memset(b + 148, ' ', 8);
	b[156] = type;
	if (m->link)
		memcpy(b + 157, m->link, MIN(strlen(m->link), (size_t)LINK));
	memcpy(b + 257, "ustar\00000", 8);
	octal(b + 329, 8, m->major);
	octal(b + 337, 8, m->minor);
	for (size_t i = 0; i < BLOCK; i++)
		sum += (unsigned char)b[i];
	(void)snprintf(b + 148, 8, "%06o", sum);
	b[155] = ' ';
	return put(t, b, BLOCK, e);
}

/* "LENGTH key=value\n", where LENGTH counts itself. */
static int pax_record(struct buf *b, const char *key, struct str value, struct err *e)
{
	size_t rest = strlen(key) + value.len + 3, n = rest + 1;
	char digits[24];

	while (n != rest + (size_t)snprintf(digits, sizeof(digits), "%zu", n))
		n = rest + strlen(digits);
	if (buf_addf(b, e, "%zu %s=", n, key) < 0 || buf_add(b, value.p, value.len, e) < 0)
		return -1;
	return buf_addz(b, "\n", e);
}

static int pax_number(struct buf *b, const char *key, uint64_t value, struct err *e)
{
	char text[24];

	(void)snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	return pax_record(b, key, str_of(text), e);
}

static int pax_of(const struct tar_member *m, struct buf *b, struct err *e)
{
	auto_arena a = { 0 };
	/* A folder's has its '/' too. */
	const char *path = m->type == '5' ? arena_printf(&a, "%s/", m->path) : m->path;

	if ((strlen(path) > NAME && pax_record(b, "path", str_of(path), e) < 0) ||
	    (m->link && strlen(m->link) > LINK && pax_record(b, "linkpath", str_of(m->link), e) < 0) ||
	    (m->size > ustar_size_max && pax_number(b, "size", (uint64_t)m->size, e) < 0) ||
	    (m->uid > ustar_id_max && pax_number(b, "uid", m->uid, e) < 0) ||
	    (m->gid > ustar_id_max && pax_number(b, "gid", m->gid, e) < 0))
		return -1;
	for (size_t i = 0; i < m->nattributes; i++)
		if (pax_record(b, arena_printf(&a, "SCHILY.xattr.%s", m->attributes[i].name), m->attributes[i].value, e) < 0)
			return -1;
	return 0;
}

int tar_member_write(struct tar_writer *t, const struct tar_member *m, struct err *e)
{
	const struct tar_member x = { .path = "PaxHeaders/x", .mode = 0644, .mtime_s = m->mtime_s };
	auto_buf pax = BUF(PAX_MAX);

	if (pax_of(m, &pax, e) < 0)
		return err_in(e, "%.200s", m->path);
	if (pax.len && (header(t, &x, 'x', (int64_t)pax.len, e) < 0 || tar_text_write(t, buf_str(&pax), e) < 0))
		return -1;
	return header(t, m, m->type, m->type == '0' ? m->size : 0, e);
}

int tar_text_write(struct tar_writer *t, struct str text, struct err *e)
{
	return put(t, text.p, text.len, e) < 0 ? -1 : pad(t, e);
}

int tar_file_write(struct tar_writer *t, int fd, int64_t offset, int64_t size, struct err *e)
{
	auto_arena a = { 0 };
	char *bytes = arena_alloc(&a, CHUNK);

	for (int64_t done = 0; done < size;) {
		ssize_t n = pread(fd, bytes, (size_t)MIN(size - done, (int64_t)CHUNK), offset + done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, errno, "read it for the archive");
		if (n == 0)
			return err_set(e, ERR_DATA_LOSS, "it has become shorter while it was read");
		if (put(t, bytes, (size_t)n, e) < 0)
			return -1;
		done += n;
	}
	return pad(t, e);
}

int tar_end_write(struct tar_writer *t, struct err *e)
{
	static const char zero[2 * BLOCK];

	return put(t, zero, sizeof(zero), e);
}
