/* Where the pieces of a layout lie: in a tar archive, by its members' names, or below a folder. */
#include "cli/bundle.h"

#include "base/fd.h"
#include "base/fs.h"
#include "base/map.h"
#include "image/tar.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum { CHUNK = 1 << 20, MEMBERS_MAX = 100000, LINKS_MAX = 8 };

struct member {
	const char *name, *link; /* link: the name of another member; NULL: none */
	int64_t offset, size;
};

struct shelf_of_parts {
	const char *what;
	int fd;             /* of the archive or the folder; the bundle's */
	bool is_folder;
	struct map members; /* of the archive: struct member */
};

/* --- a file that can be read anywhere ----------------------------------------------------------------------- */

int temporary_file(struct err *e)
{
	const char *dir = getenv("TMPDIR");

	return fd_create(AT_FDCWD, str_is_empty(dir) ? "/var/tmp" : dir, O_RDWR | O_TMPFILE, 0600, e);
}

/* gzread copies what is no gzip as it is. */
static int inflate_into(gzFile in, int out, struct err *e)
{
	auto_arena a = { 0 };
	char *bytes = arena_alloc(&a, CHUNK);
	int n, code;

	while ((n = gzread(in, bytes, CHUNK)) > 0)
		if (fd_write_all(out, bytes, (size_t)n, e) < 0)
			return err_in(e, "a copy in TMPDIR");
	if (n == 0 && (gzerror(in, &code), code == Z_OK || code == Z_STREAM_END))
		return 0;
	return err_set(e, ERR_DATA_LOSS, "not a whole gzip stream: %s", gzerror(in, &code));
}

static int spool(int fd, int *out, struct err *e)
{
	auto_fd int copy = temporary_file(e), again = -1;
	gzFile in;
	int rc;

	if (copy < 0)
		return err_in(e, "a copy in TMPDIR");
	again = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (again < 0)
		return err_sys(e, errno, "read it");
	in = gzdopen(again, "rb");
	if (!in)
		return err_set(e, ERR_SYSTEM, "zlib gives no stream");
	(void)fd_take(&again); /* gzclose has it */
	rc = inflate_into(in, copy, e);
	(void)gzclose(in);
	if (rc < 0)
		return -1;
	*out = fd_take(&copy);
	return 0;
}

/* Is it a regular file that is no gzip? A pipe has to be copied; zstd and xz are not ours to undo. */
static int look(int fd, bool *as_it_is, struct err *e)
{
	unsigned char head[6] = { 0 };
	struct stat st;
	ssize_t n;

	if (fstat(fd, &st) < 0)
		return err_sys(e, errno, "read it");
	if (S_ISDIR(st.st_mode))
		return err_set(e, ERR_INVALID, "it is a folder, not an archive");
	*as_it_is = false;
	if (!S_ISREG(st.st_mode))
		return 0;
	n = pread(fd, head, sizeof(head), 0);
	if (n < 0)
		return err_sys(e, errno, "read it");
	if (memcmp(head, "\x28\xb5\x2f\xfd", 4) == 0 || memcmp(head, "\xfd" "7zXZ", 5) == 0 || memcmp(head, "BZh", 3) == 0)
		return err_set(e, ERR_UNIMPLEMENTED, "it is compressed with %s: decompress it first",
			       *head == 0x28 ? "zstd" : *head == 'B' ? "bzip2" : "xz");
	*as_it_is = !(head[0] == 0x1f && head[1] == 0x8b);
	return 0;
}

int archive_file(struct bundle *b, int fd, int *out, struct err *e)
{
	bool as_it_is;
	int copy;

	if (look(fd, &as_it_is, e) < 0)
		return -1;
	if (as_it_is) {
		*out = fd;
		return 0;
	}
	if (spool(fd, &copy, e) < 0 || look(bundle_own(b, copy), &as_it_is, e) < 0)
		return -1;
	*out = copy;
	return 0;
}

/* --- an archive --------------------------------------------------------------------------------------------- */

struct scan {
	int fd;
	int64_t given; /* bytes that the reader has had */
	char *bytes;
};

static int more(void *ctx, const unsigned char **p, size_t *n, struct err *e)
{
	struct scan *s = ctx;
	ssize_t got;

	do {
		got = pread(s->fd, s->bytes, CHUNK, s->given);
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return err_sys(e, errno, "read it");
	s->given += got;
	*p = (const unsigned char *)s->bytes;
	*n = (size_t)got;
	return 0;
}

/* "./a//b" and "/a/b" are a/b. */
static const char *member_name(struct arena *a, const char *path)
{
	return path_clean(a, path_join(a, "/", path)) + 1;
}

static int add_member(struct bundle *b, struct shelf_of_parts *s, const struct tar_entry *t, int64_t offset, struct err *e)
{
	struct member *m;

	if (t->type != TAR_FILE && t->type != TAR_SYMLINK && t->type != TAR_HARDLINK)
		return 0;
	if (t->sparse)
		return err_set(e, ERR_INVALID, "%.200s is a sparse file", t->path);
	if (s->members.count == MEMBERS_MAX)
		return err_set(e, ERR_EXHAUSTED, "it has more than %d members", MEMBERS_MAX);
	m = arena_new0(b->a, struct member);
	m->name = member_name(b->a, t->path);
	m->offset = offset;
	m->size = t->type == TAR_FILE ? (int64_t)t->size : 0;
	if (t->type == TAR_HARDLINK)
		m->link = member_name(b->a, t->link);
	else if (t->type == TAR_SYMLINK)
		m->link = member_name(b->a, path_join(b->a, path_join(b->a, m->name, ".."), t->link));
	/* Of two with one name the later one counts, as tar has it. */
	(void)map_remove(&s->members, m->name);
	(void)map_add(&s->members, m->name, m);
	return 0;
}

static int scan_members(struct bundle *b, struct shelf_of_parts *s, struct err *e)
{
	auto_arena scratch = { 0 };
	struct scan x = { .fd = s->fd, .bytes = arena_alloc(&scratch, CHUNK) };
	auto_tar t;
	struct tar_entry entry;
	int rc;

	tar_open(&t, (struct tar_source){ more, &x });
	while ((rc = tar_next(&t, &entry, e)) > 0)
		if (add_member(b, s, &entry, x.given - (t.end - t.p), e) < 0)
			return -1;
	return rc;
}

int parts_in_archive(struct bundle *b, int fd, const char *what, struct shelf_of_parts **out, struct err *e)
{
	struct shelf_of_parts *s = arena_new0(b->a, struct shelf_of_parts);
	int rc;

	s->what = what;
	if (archive_file(b, fd, &s->fd, e) < 0)
		return err_in(e, "%s", what);
	rc = scan_members(b, s, e);
	if (rc < 0) {
		map_free(&s->members);
		return err_in(e, "%s", what);
	}
	*out = s;
	return 0;
}

void parts_forget_at(struct shelf_of_parts **s)
{
	if (*s)
		map_free(&(*s)->members);
}

/* --- a folder ------------------------------------------------------------------------------------------------ */

int parts_in_folder(struct bundle *b, const char *path, struct shelf_of_parts **out, struct err *e)
{
	struct shelf_of_parts *s = arena_new0(b->a, struct shelf_of_parts);

	s->what = arena_strdup(b->a, path);
	s->is_folder = true;
	s->fd = fd_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, e);
	if (s->fd < 0)
		return -1;
	(void)bundle_own(b, s->fd);
	*out = s;
	return 0;
}

static int find_file(const struct shelf_of_parts *s, struct bundle *b, const char *name, struct part *out, struct err *e)
{
	auto_fd int fd = path_open_beneath(s->fd, name, O_RDONLY | O_NONBLOCK, 0, e);
	struct stat st;

	if (fd < 0)
		return err_in(e, "%s", s->what);
	if (fstat(fd, &st) < 0)
		return err_sys(e, errno, "%s/%s", s->what, name);
	if (!S_ISREG(st.st_mode))
		return err_set(e, ERR_INVALID, "%s/%s is not a regular file", s->what, name);
	out->offset = 0;
	out->size = st.st_size;
	out->fd = bundle_own(b, fd_take(&fd));
	return 0;
}

/* --- finding -------------------------------------------------------------------------------------------------- */

static const struct member *member_of(const struct shelf_of_parts *s, const char *name)
{
	const struct member *m = map_get(&s->members, name);

	for (unsigned i = 0; m && m->link && i < LINKS_MAX; i++)
		m = map_get(&s->members, m->link);
	return m && !m->link ? m : NULL;
}

bool parts_have(const struct shelf_of_parts *s, const char *name)
{
	return s->is_folder ? faccessat(s->fd, name, F_OK, 0) == 0 : member_of(s, name) != NULL;
}

int parts_find(const struct shelf_of_parts *s, struct bundle *b, const char *name, struct part *out, struct err *e)
{
	const struct member *m;

	if (s->is_folder)
		return find_file(s, b, name, out, e);
	m = member_of(s, member_name(b->a, name));
	if (!m)
		return err_set(e, ERR_NOT_FOUND, "%s has no %.200s", s->what, name);
	out->offset = m->offset;
	out->size = m->size;
	out->fd = s->fd;
	return 0;
}
