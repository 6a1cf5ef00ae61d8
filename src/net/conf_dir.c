#include "net/conf_dir.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { FILES_MAX = 1000 };
/* A file's time moves in ticks of the kernel's clock: what changed this shortly before a reading may
 * have changed after it without a trace. */
#define UNSETTLED_NS (100 * NS_PER_MS)

void conf_dir_init(struct conf_dir *d, const char *path, const char *fallback)
{
	*d = (struct conf_dir){ .path = path, .fallback = fallback };
	lock_init(&d->lock);
}

void conf_dir_end(struct conf_dir *d)
{
	arena_free(&d->arena);
	lock_destroy(&d->lock);
}

static bool is_candidate(const char *name)
{
	return *name != '.' &&
	       (ends_with(name, ".conflist") || ends_with(name, ".conf") || ends_with(name, ".json"));
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

struct look {
	char **names; /* sorted */
	size_t n;
	uint64_t signature;
	bool settled, log;
	int error; /* the errno of opening the folder, 0 */
};

static void mix(uint64_t *h, const void *bytes, size_t n)
{
	for (const unsigned char *p = bytes; n--; p++)
		*h = (*h ^ *p) * UINT64_C(1099511628211);
}

static void look_at_file(struct look *l, int dirfd, const char *name)
{
	struct stat st = { 0 };
	int64_t changed;

	(void)fstatat(dirfd, name, &st, 0); /* a dangling link: counts as it is, reading it will say why */
	changed = (int64_t)st.st_ctim.tv_sec * NS_PER_S + st.st_ctim.tv_nsec;
	mix(&l->signature, name, strlen(name) + 1);
	mix(&l->signature, &st.st_ino, sizeof(st.st_ino));
	mix(&l->signature, &st.st_size, sizeof(st.st_size));
	mix(&l->signature, &st.st_mtim, sizeof(st.st_mtim));
	mix(&l->signature, &changed, sizeof(changed));
	if (clock_wall_ns() - changed < UNSETTLED_NS)
		l->settled = false;
}

static struct look look_at(struct arena *a, const char *path)
{
	struct look l = { .signature = UINT64_C(14695981039346656037), .settled = true };
	DIR *dir = opendir(path);
	struct dirent *f;

	if (!dir) {
		l.error = errno;
		mix(&l.signature, &l.error, sizeof(l.error));
		return l;
	}
	l.names = arena_newn0(a, char *, FILES_MAX);
	while (l.n < FILES_MAX && (f = readdir(dir)))
		if (is_candidate(f->d_name))
			l.names[l.n++] = arena_strdup(a, f->d_name);
	qsort(l.names, l.n, sizeof(*l.names), compare_names);
	for (size_t i = 0; i < l.n; i++)
		look_at_file(&l, dirfd(dir), l.names[i]);
	(void)closedir(dir);
	return l;
}

/* Opened non-blocking: a fifo or a device in the folder must not hang the node. */
static int read_valid(struct arena *a, const char *path, struct str *out, struct err *e)
{
	auto_arena scratch = { 0 };
	auto_fd int fd = fd_open(AT_FDCWD, path, O_RDONLY | O_NONBLOCK, e);
	struct fd_path self;
	struct cni_conf conf;
	struct str text;
	struct stat st;

	if (fd < 0)
		return -1;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(e, ERR_INVALID, "%s is no regular file", path);
	if (fs_read_file(&scratch, AT_FDCWD, fd_path(&self, fd), CNI_CONF_MAX, &text, e) < 0 ||
	    cni_conf_parse(&scratch, text, &conf, e) < 0)
		return err_in(e, "%s", path);
	*out = (struct str){ arena_strndup(a, text.p, text.len), text.len };
	return 0;
}

static void choose_locked(struct conf_dir *d, const struct look *l)
{
	auto_arena scratch = { 0 };
	struct err e, first = { 0 };

	lock_assert_held(&d->lock);
	arena_free(&d->arena);
	d->text = (struct str){ NULL, 0 };
	for (size_t i = 0; i < l->n && !d->text.p; i++) {
		char *path = path_join(&scratch, d->path, l->names[i]);

		if (read_valid(&d->arena, path, &d->text, &e) == 0) {
			d->source = arena_strdup(&d->arena, path);
			continue;
		}
		if (l->log)
			log_warn("CNI configuration passed over: %s", e.msg);
		if (!first.kind)
			first = e;
	}
	if (!d->text.p && d->fallback) {
		d->text = str_of(d->fallback);
		d->source = CONF_DIR_DEFAULT;
	}
	if (l->error && l->error != ENOENT)
		(void)err_sys(&d->why_none, l->error, "CNI configuration folder %s", d->path);
	else if (first.kind)
		(void)err_set(&d->why_none, ERR_UNAVAILABLE, "no valid CNI configuration in %s: %s", d->path, first.msg);
	else
		(void)err_set(&d->why_none, ERR_UNAVAILABLE, "no CNI configuration in %s", d->path);
	(void)err_kind_to(&d->why_none, ERR_UNAVAILABLE);
}

int conf_dir_load(struct conf_dir *d, struct arena *a, struct cni_conf *out, const char **source, struct err *e)
{
	auto_arena scratch = { 0 };
	struct look l = look_at(&scratch, d->path);
	struct str text;

	{
		LOCKED(&d->lock);
		if (l.signature != d->signature || !d->settled) {
			l.log = l.signature != d->signature;
			choose_locked(d, &l);
			d->signature = l.signature;
			d->settled = l.settled;
		}
		if (!d->text.p) {
			*e = d->why_none;
			return -1;
		}
		text = (struct str){ arena_strndup(a, d->text.p, d->text.len), d->text.len };
		if (source)
			*source = arena_strdup(a, d->source);
	}
	return cni_conf_parse(a, text, out, e);
}
