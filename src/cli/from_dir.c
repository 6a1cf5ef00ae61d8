/* knarr image from-dir: a folder becomes an image of one layer. The same files give the same bytes, on every machine and
 * at every time: members in the order of their names, one time for all, owner 0:0, no compression. */
#include "cli/image_made.h"
#include "cli/image_verbs.h"
#include "cli/tar_write.h"

#include "base/fd.h"
#include "base/fs.h"
#include "base/map.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { DEPTH_MAX = 250, ATTRIBUTES_MAX = 100, ATTRIBUTE_LIST_MAX = 64 << 10 };

struct walk {
	struct cli *cli;
	struct tar_writer tar;
	int64_t time_s;
	bool keep_owner;
	struct map links;    /* "dev:ino" to the first path of a file with several */
};

static int folder(struct walk *w, int dir, const char *path, unsigned depth, struct err *e);

/* --- one entry --------------------------------------------------------------------------------------------------- */

static int compare(const void *x, const void *y)
{
	return strcmp(*(char *const *)x, *(char *const *)y);
}

static int attribute_compare(const void *x, const void *y)
{
	return strcmp(((const struct tar_attribute *)x)->name, ((const struct tar_attribute *)y)->name);
}

/* Of the file's own: capabilities and what users set; labels and ACLs are this machine's. */
static bool is_wanted(const char *name)
{
	return streq(name, "security.capability") || starts_with(name, "user.");
}

static int attributes_of(struct arena *a, int dir, const char *name, struct tar_member *m, struct err *e)
{
	const char *path = arena_printf(a, "/proc/self/fd/%d/%s", dir, name);
	char *list = arena_alloc(a, ATTRIBUTE_LIST_MAX);
	ssize_t n = llistxattr(path, list, ATTRIBUTE_LIST_MAX);
	struct tar_attribute *out = arena_newn0(a, struct tar_attribute, ATTRIBUTES_MAX);

	if (n < 0)
		return errno == ENOTSUP ? 0 : err_sys(e, errno, "its attributes");
	for (const char *p = list; p < list + n; p += strlen(p) + 1) {
		char *value;
		ssize_t size;

		if (!is_wanted(p))
			continue;
		if (m->nattributes == ATTRIBUTES_MAX)
			return err_set(e, ERR_EXHAUSTED, "it has more than %d attributes", ATTRIBUTES_MAX);
		size = lgetxattr(path, p, NULL, 0);
		value = arena_alloc(a, size > 0 ? (size_t)size : 1);
		if (size < 0 || lgetxattr(path, p, value, (size_t)size) != size)
			return err_sys(e, errno, "its attribute %s", p);
		out[m->nattributes++] = (struct tar_attribute){ p, { value, (size_t)size } };
	}
	qsort(out, m->nattributes, sizeof(*out), attribute_compare);
	m->attributes = out;
	return 0;
}

static int file(struct walk *w, int dir, const char *name, struct tar_member *m, struct err *e)
{
	auto_fd int fd = fd_open(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, e);

	if (fd < 0)
		return -1;
	m->type = '0';
	if (tar_member_write(&w->tar, m, e) < 0)
		return -1;
	return tar_file_write(&w->tar, fd, 0, m->size, e);
}

/* The first of several names of a file has its bytes. NULL: this is the first. */
static const char *earlier_name(struct walk *w, const struct stat *st, const char *path)
{
	struct arena *a = w->cli->a;
	const char *key, *first;

	if (S_ISDIR(st->st_mode) || st->st_nlink < 2)
		return NULL;
	key = arena_printf(a, "%llx:%llx", (unsigned long long)st->st_dev, (unsigned long long)st->st_ino);
	first = map_get(&w->links, key);
	if (!first)
		(void)map_add(&w->links, key, arena_strdup(a, path));
	return first;
}

static int symlink_of(struct arena *a, int dir, const char *name, struct tar_member *m, struct err *e)
{
	char *target = arena_alloc(a, PATH_MAX);
	ssize_t n = readlinkat(dir, name, target, PATH_MAX);

	if (n < 0 || n == PATH_MAX)
		return err_sys(e, n < 0 ? errno : ENAMETOOLONG, "where it leads");
	target[n] = '\0';
	m->type = '2';
	m->link = target;
	return 0;
}

static int entry_as(struct walk *w, struct arena *a, int dir, const char *name, const struct stat *st, struct tar_member *m,
		    struct err *e)
{
	switch (st->st_mode & S_IFMT) {
	case S_IFREG:
		m->size = st->st_size;
		return file(w, dir, name, m, e);
	case S_IFLNK:
		return symlink_of(a, dir, name, m, e) < 0 ? -1 : tar_member_write(&w->tar, m, e);
	case S_IFDIR:
		m->type = '5';
		return tar_member_write(&w->tar, m, e);
	case S_IFIFO:
		m->type = '6';
		return tar_member_write(&w->tar, m, e);
	case S_IFCHR:
	case S_IFBLK:
		m->type = S_ISCHR(st->st_mode) ? '3' : '4';
		m->major = major(st->st_rdev);
		m->minor = minor(st->st_rdev);
		return tar_member_write(&w->tar, m, e);
	default:
		return err_set(e, ERR_INVALID, "it is a socket, which no image can hold");
	}
}

static int entry(struct walk *w, int dir, const char *name, const char *path, unsigned depth, struct err *e)
{
	struct tar_member m = { .path = path, .mtime_s = w->time_s };
	auto_fd int below = -1;
	auto_arena a = { 0 };
	struct stat st;

	if (call_check(w->cli->call, e) < 0)
		return -1;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys(e, errno, "%s", path);
	m.mode = S_ISLNK(st.st_mode) ? 0777 : st.st_mode & 07777;
	m.uid = w->keep_owner ? st.st_uid : 0;
	m.gid = w->keep_owner ? st.st_gid : 0;
	m.link = earlier_name(w, &st, path);
	if (m.link) {
		m.type = '1';
		return tar_member_write(&w->tar, &m, e);
	}
	if (attributes_of(&a, dir, name, &m, e) < 0 || entry_as(w, &a, dir, name, &st, &m, e) < 0)
		return err_in(e, "%s", path);
	if (!S_ISDIR(st.st_mode))
		return 0;
	below = fd_open(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, e);
	return below < 0 ? -1 : folder(w, below, path, depth + 1, e);
}

/* --- a folder ------------------------------------------------------------------------------------------------------- */

struct names {
	char **p;
	size_t n, room;
};

static int names_of(struct arena *a, int dir, struct names *out, struct err *e)
{
	int again = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = again < 0 ? NULL : fdopendir(again);
	const struct dirent *one;

	if (!d) {
		fd_close(&again);
		return err_sys(e, errno, "read it");
	}
	while ((one = readdir(d))) {
		if (streq(one->d_name, ".") || streq(one->d_name, ".."))
			continue;
		if (out->n == out->room) {
			char **more = arena_newn0(a, char *, out->room * 2 + 64);

			if (out->n)
				memcpy(more, out->p, out->n * sizeof(*more));
			out->p = more;
			out->room = out->room * 2 + 64;
		}
		out->p[out->n++] = arena_strdup(a, one->d_name);
	}
	(void)closedir(d);
	if (out->n)
		qsort(out->p, out->n, sizeof(*out->p), compare);
	return 0;
}

static int folder(struct walk *w, int dir, const char *path, unsigned depth, struct err *e)
{
	struct names names = { 0 };
	auto_arena a = { 0 };

	if (depth > DEPTH_MAX)
		return err_set(e, ERR_EXHAUSTED, "%.200s…: more than %d folders deep", path, DEPTH_MAX);
	if (names_of(&a, dir, &names, e) < 0)
		return err_in(e, "%s", path);
	for (size_t i = 0; i < names.n; i++)
		if (entry(w, dir, names.p[i], *path ? arena_printf(&a, "%s/%s", path, names.p[i]) : names.p[i], depth, e) < 0)
			return -1;
	return 0;
}

static int layer_of(struct walk *w, const char *path, struct bundle *b, struct part *out, struct err *e)
{
	auto_fd int dir = fd_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, e);
	char digest[DIGEST_TEXT_MAX];
	auto_hash hash = NULL;
	int rc;

	if (dir < 0 || hash_new(&hash, e) < 0)
		return -1;
	w->tar.fd = temporary_file(e);
	if (w->tar.fd < 0)
		return err_in(e, "the layer in TMPDIR");
	(void)bundle_own(b, w->tar.fd);
	w->tar.hash = hash;
	rc = folder(w, dir, "", 0, e);
	map_free(&w->links);
	if (rc < 0 || tar_end_write(&w->tar, e) < 0)
		return err_in(e, "%s", path);
	hash_end(hash, digest);
	*out = (struct part){ .digest = arena_strdup(b->a, digest), .media_type = MADE_LAYER, .size = w->tar.size,
			      .fd = w->tar.fd };
	return 0;
}

int verb_image_from_dir(struct cli *cli, char *const *argv, struct err *e)
{
	struct made made = { .cli = cli, .step = "knarr image from-dir" };
	struct walk w = { .cli = cli };
	const struct opt own[] = {
		{ OPT_FLAG, 0, "keep-owner", &w.keep_owner, NULL, "Files' own owners instead of 0:0" },
		{ 0 },
	};
	struct part layer;
	auto_bundle b;
	char **words;
	int rc;

	bundle_init(&b, cli->a);
	rc = made_options(&made, "image from-dir", own, argv, &words, e);
	if (rc)
		return rc < 0 ? -1 : 0;
	if (!words[0])
		return err_set(e, ERR_INVALID, "knarr image from-dir: which folder?");
	if (made_name(&made, words + 1, e) < 0)
		return -1;
	w.time_s = made.created_s;
	if (layer_of(&w, words[0], &b, &layer, e) < 0)
		return -1;
	return made_finish(&made, &b, &layer, e);
}
