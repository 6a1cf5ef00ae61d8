#include "base/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int fs_read_file(struct arena *a, int dirfd, const char *path, size_t max, struct str *out, struct err *e)
{
	auto_fd int fd = fd_open(dirfd, path, O_RDONLY, e);
	size_t cap = 4096, len = 0;
	struct stat st;
	char *p;

	if (fd < 0)
		return -1;
	if (fstat(fd, &st) == 0 && st.st_size > 0)
		cap = MIN((size_t)st.st_size, max) + 1;
	p = arena_alloc(a, cap + 1);
	for (;;) {
		ssize_t r = read(fd, p + len, cap - len);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return err_sys(e, errno, "read %s", path);
		if (r == 0)
			break;
		len += (size_t)r;
		if (len > max)
			return err_set(e, ERR_EXHAUSTED, "%s is larger than %zu bytes", path, max);
		if (len == cap) {
			char *more = arena_alloc(a, cap * 2 + 1);

			memcpy(more, p, len);
			p = more;
			cap *= 2;
		}
	}
	p[len] = '\0';
	*out = (struct str){ p, len };
	return 0;
}

static int sync_parent(int dirfd, const char *path, struct err *e)
{
	auto_arena a = { 0 };
	const char *base = path_base(path);
	const char *parent = base == path ? "." : arena_strndup(&a, path, (size_t)(base - path));
	auto_fd int dir = fd_open(dirfd, parent, O_RDONLY | O_DIRECTORY, e);

	if (dir < 0)
		return -1;
	if (fsync(dir) < 0)
		return err_sys(e, errno, "fsync folder of %s", path);
	return 0;
}

int fs_replace(int dirfd, const char *path, const void *bytes, size_t n, unsigned mode, int flags,
	       struct err *e)
{
	auto_arena a = { 0 };
	auto_fd int fd = -1;
	unsigned long long nonce;
	char *fresh;

	if (getrandom(&nonce, sizeof(nonce), 0) != (ssize_t)sizeof(nonce))
		return err_sys(e, errno, "getrandom");
	fresh = arena_printf(&a, "%s.%llx.new", path, nonce);
	fd = fd_create(dirfd, fresh, O_WRONLY | O_CREAT | O_EXCL, mode, e);
	if (fd < 0)
		return -1;
	if (fd_write_all(fd, bytes, n, e) < 0) {
		(void)unlinkat(dirfd, fresh, 0);
		return err_in(e, "%s", path);
	}
	if (flags & FS_SYNC && fsync(fd) < 0) {
		(void)unlinkat(dirfd, fresh, 0);
		return err_sys(e, errno, "fsync %s", path);
	}
	if (renameat(dirfd, fresh, dirfd, path) < 0) {
		int saved = errno;

		(void)unlinkat(dirfd, fresh, 0);
		return err_sys(e, saved, "rename onto %s", path);
	}
	return flags & FS_SYNC ? sync_parent(dirfd, path, e) : 0;
}

int fs_write_once(int dirfd, const char *path, const char *text, struct err *e)
{
	auto_fd int fd = fd_open(dirfd, path, O_WRONLY, e);
	ssize_t w;

	if (fd < 0)
		return -1;
	do {
		w = write(fd, text, strlen(text));
	} while (w < 0 && errno == EINTR);
	if (w < 0)
		return err_sys(e, errno, "write \"%s\" to %s", text, path);
	return 0;
}

int fs_mkdirs(int dirfd, const char *path, unsigned mode, struct err *e)
{
	auto_arena a = { 0 };
	char *copy = arena_strdup(&a, path);

	for (char *p = copy + (*copy == '/'); ; p++) {
		char was = *p;

		if (was != '/' && was != '\0')
			continue;
		*p = '\0';
		if (*copy && mkdirat(dirfd, copy, mode) < 0 && errno != EEXIST)
			return err_sys(e, errno, "mkdir %s", copy);
		*p = was;
		if (!was)
			return 0;
	}
}

/* A removal under way. Folders may be nested deeper than there are fds or stack: one that is too deep
 * is moved up to the top, and the top is gone through again. */
struct removal {
	struct call *call; /* NULL: none */
	int top;        /* the folder that everything is in; -1 while at the path itself */
	unsigned moved; /* in this round */
	unsigned nonce;
};
enum { REMOVE_DEPTH_MAX = 64 };

static int remove_at(struct removal *r, int dirfd, const char *name, int depth, struct err *e);

static int move_up(struct removal *r, int dirfd, const char *name, struct err *e)
{
	char fresh[48];

	do {
		(void)snprintf(fresh, sizeof(fresh), ".knarr-removed-%u", r->nonce++);
		if (syscall(SYS_renameat2, dirfd, name, r->top, fresh, RENAME_NOREPLACE) == 0) {
			r->moved++;
			return 0;
		}
	} while (errno == EEXIST);
	return err_sys(e, errno, "move folder %s up", name);
}

static int remove_content(struct removal *r, int fd, const char *name, int depth, struct err *e)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0), rc = 0;
	struct dirent *d;
	DIR *dir;

	if (copy < 0)
		return err_sys(e, errno, "read folder %s", name);
	dir = fdopendir(copy);
	if (!dir) {
		fd_close(&copy);
		return err_sys(e, errno, "read folder %s", name);
	}
	rewinddir(dir); /* the copy shares its position with a round before */
	while (rc == 0 && (d = readdir(dir)))
		if (!streq(d->d_name, ".") && !streq(d->d_name, ".."))
			rc = remove_at(r, fd, d->d_name, depth + 1, e);
	(void)closedir(dir);
	return rc;
}

static int remove_folder(struct removal *r, int dirfd, const char *name, int depth, struct err *e)
{
	auto_fd int fd = fd_open(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, e);
	int rc;

	if (fd < 0)
		return -1;
	if (depth == 0)
		r->top = fd;
	do {
		r->moved = depth == 0 ? 0 : r->moved;
		rc = remove_content(r, fd, name, depth, e);
	} while (rc == 0 && depth == 0 && r->moved);
	if (rc < 0)
		return err_in(e, "%s", name);
	if (unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return err_sys(e, errno, "remove folder %s", name);
	return 0;
}

/* One level of rm -r; a mount point answers EBUSY and stays, which is reported. */
static int remove_at(struct removal *r, int dirfd, const char *name, int depth, struct err *e)
{
	if (r->call && call_check(r->call, e) < 0)
		return -1;
	if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return err_sys(e, errno, "remove %s", name);
	if (unlinkat(dirfd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	if (errno != ENOTEMPTY && errno != EEXIST)
		return err_sys(e, errno, "remove folder %s", name);
	if (depth > REMOVE_DEPTH_MAX)
		return move_up(r, dirfd, name, e);
	return remove_folder(r, dirfd, name, depth, e);
}

int fs_remove_tree(int dirfd, const char *path, struct err *e)
{
	return fs_remove_tree_call(NULL, dirfd, path, e);
}

int fs_remove_tree_call(struct call *c, int dirfd, const char *path, struct err *e)
{
	struct removal r = { .call = c, .top = -1 };

	return remove_at(&r, dirfd, path, 0, e);
}

int fs_remove_file(int dirfd, const char *path, struct err *e)
{
	if (unlinkat(dirfd, path, 0) < 0 && errno != ENOENT)
		return err_sys(e, errno, "remove %s", path);
	return 0;
}

static int open_resolved(int dirfd, const char *path, int flags, unsigned mode, uint64_t resolve,
			 struct err *e)
{
	struct open_how how = {
		.flags = (uint64_t)(flags | O_CLOEXEC),
		.mode = flags & (O_CREAT | O_TMPFILE) ? mode : 0,
		.resolve = resolve | RESOLVE_NO_MAGICLINKS,
	};
	long fd;

	do {
		fd = syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
	} while (fd < 0 && (errno == EINTR || errno == EAGAIN));
	if (fd < 0)
		return err_sys(e, errno, "open %s (openat2)", path);
	return (int)fd;
}

int path_open_in_root(int rootfd, const char *path, int flags, unsigned mode, struct err *e)
{
	return open_resolved(rootfd, path, flags, mode, RESOLVE_IN_ROOT, e);
}

int path_open_beneath(int dirfd, const char *path, int flags, unsigned mode, struct err *e)
{
	return open_resolved(dirfd, path, flags, mode, RESOLVE_BENEATH, e);
}

char *path_clean(struct arena *a, const char *path)
{
	struct str rest = str_of(path);
	char *out = arena_alloc(a, rest.len + 2);
	size_t o = 0;

	while (rest.p) {
		struct str part = str_cut(&rest, '/');

		if (!part.len || str_eqz(part, "."))
			continue;
		if (str_eqz(part, "..")) {
			while (o && out[--o] != '/')
				;
			continue;
		}
		out[o++] = '/';
		memcpy(out + o, part.p, part.len);
		o += part.len;
	}
	if (!o)
		out[o++] = '/';
	out[o] = '\0';
	return out;
}

char *path_join(struct arena *a, const char *base, const char *rest)
{
	size_t n = strlen(base);

	while (*rest == '/')
		rest++;
	return arena_printf(a, "%s%s%s", base, n && base[n - 1] == '/' ? "" : "/", rest);
}

const char *path_base(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}
