/* A container's upper folder as a tar: overlayfs's marks of what is deleted become a list of names (as podman and CRI-O
 * have it), for a restore is over another overlay. */
#include "pod/checkpoint.h"

#include "image/image.h"
#include "image/tar_write.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { DEPTH_MAX = 128, XATTR_NAMES_MAX = 65536 };
#define OVERLAY "trusted.overlay."

struct diff {
	struct container *k;
	struct call *c;
	int out;
	struct buf *deleted;
};

static int add_deleted(struct diff *d, const char *path, struct err *e)
{
	if (d->deleted->len && buf_addz(d->deleted, ",", e) < 0)
		return -1;
	return json_write_text(d->deleted, path, e);
}

static const char *path_in(struct diff *d, const char *folder, const char *name)
{
	return *folder ? arena_printf(&d->c->arena, "%s/%s", folder, name) : arena_strdup(&d->c->arena, name);
}

/* --- extended attributes ---------------------------------------------------------------------------------- */

static int read_xattr(struct diff *d, int fd, const char *name, struct str *out, struct err *e)
{
	ssize_t n = fgetxattr(fd, name, NULL, 0);
	char *value = n < 0 ? NULL : arena_alloc(&d->c->arena, (size_t)n + 1);

	n = value ? fgetxattr(fd, name, value, (size_t)n) : -1;
	if (n < 0)
		return err_sys(e, errno, "read the attribute %s", name);
	*out = (struct str){ value, (size_t)n };
	return 0;
}

/* All but overlayfs's own, of which *opaque is one: the image's folder does not shine through. */
static int read_xattrs(struct diff *d, int fd, struct tar_entry *t, bool *opaque, struct err *e)
{
	char *names = arena_alloc(&d->c->arena, XATTR_NAMES_MAX);
	struct tar_xattr *x = arena_newn0(&d->c->arena, struct tar_xattr, TAR_XATTRS_MAX);
	ssize_t n = flistxattr(fd, names, XATTR_NAMES_MAX);

	if (n < 0)
		return errno == EOPNOTSUPP ? 0 : err_sys(e, errno, "list the attributes of %s", t->path);
	t->xattrs = x;
	for (const char *name = names; name < names + n; name += strlen(name) + 1) {
		struct str value;

		if (streq(name, OVERLAY "redirect") || streq(name, OVERLAY "metacopy"))
			return err_set(e, ERR_UNIMPLEMENTED, "%s is a part of another layer (overlayfs's redirect_dir or metacopy)",
				       t->path);
		if (starts_with(name, OVERLAY)) {
			*opaque |= streq(name, OVERLAY "opaque");
			continue;
		}
		if (t->nxattrs == TAR_XATTRS_MAX)
			return err_set(e, ERR_EXHAUSTED, "%s has more than %d attributes", t->path, TAR_XATTRS_MAX);
		if (read_xattr(d, fd, name, &value, e) < 0)
			return -1;
		x[t->nxattrs++] = (struct tar_xattr){ name, value };
	}
	return 0;
}

/* --- the walk ------------------------------------------------------------------------------------------------ */

static int walk(struct diff *d, int fd, const char *folder, bool opaque, int depth, struct err *e);

/* In a folder through which the image's does not shine, all that the image has there is deleted or replaced. */
static int add_hidden(struct diff *d, int fd, const char *folder, struct err *e)
{
	auto_fd int lower = -1, list = -1;
	struct dirent *entry;
	struct stat st;
	DIR *dir;
	int rc = 0;

	if (image_mount(d->k->all->images, d->k->image_id, folder, -1, &lower, e) < 0)
		return e->kind == ERR_NOT_FOUND || e->sys == ENOTDIR ? 0 : -1;
	list = fd_open(lower, ".", O_RDONLY | O_DIRECTORY, e);
	if (list < 0)
		return e->sys == ENOTDIR ? 0 : -1;
	dir = fdopendir(list);
	if (!dir)
		return err_sys(e, errno, "list %s of the image", folder);
	list = -1;
	while (rc == 0 && (entry = readdir(dir)))
		if (!streq(entry->d_name, ".") && !streq(entry->d_name, "..") &&
		    fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			rc = add_deleted(d, path_in(d, folder, entry->d_name), e);
	(void)closedir(dir);
	return rc;
}

static int add_open(struct diff *d, int dir, const char *name, struct tar_entry *t, int flags, struct err *e)
{
	bool opaque = false;
	int fd = fd_open(dir, name, flags | O_NOFOLLOW | O_NONBLOCK, e);

	if (fd < 0)
		return -1;
	if (read_xattrs(d, fd, t, &opaque, e) < 0 || tar_write_entry(d->out, t, e) < 0) {
		fd_close(&fd);
		return -1;
	}
	return fd;
}

static int add_file(struct diff *d, int dir, const char *name, struct tar_entry *t, struct err *e)
{
	auto_fd int fd = add_open(d, dir, name, t, O_RDONLY, e);

	return fd < 0 ? -1 : tar_write_from(d->out, fd, t->size, e);
}

static int add_folder(struct diff *d, int dir, const char *name, struct tar_entry *t, bool opaque, int depth, struct err *e)
{
	auto_fd int fd = fd_open(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, e);

	if (fd < 0)
		return -1;
	if (depth == DEPTH_MAX)
		return err_set(e, ERR_EXHAUSTED, "%s: more than %d folders deep", t->path, DEPTH_MAX);
	if (read_xattrs(d, fd, t, &opaque, e) < 0 || tar_write_entry(d->out, t, e) < 0)
		return -1;
	return walk(d, fd, t->path, opaque, depth + 1, e);
}

static int add_link(struct diff *d, int dir, const char *name, struct tar_entry *t, struct err *e)
{
	char *to = arena_alloc0(&d->c->arena, TAR_PATH_MAX + 1);

	if (readlinkat(dir, name, to, TAR_PATH_MAX) < 0)
		return err_sys(e, errno, "read the link %s", t->path);
	t->link = to;
	return tar_write_entry(d->out, t, e);
}

static int add(struct diff *d, int dir, const char *folder, const char *name, bool opaque, int depth, struct err *e)
{
	const char *path = path_in(d, folder, name);
	struct tar_entry t = { .path = path };
	struct stat st;

	if (call_check(d->c, e) < 0)
		return -1;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys(e, errno, "%s", path);
	t.mode = st.st_mode & 07777;
	t.uid = st.st_uid;
	t.gid = st.st_gid;
	t.mtime_s = st.st_mtim.tv_sec;
	switch (st.st_mode & S_IFMT) {
	case S_IFREG:
		t.type = TAR_FILE;
		t.size = (uint64_t)st.st_size;
		return add_file(d, dir, name, &t, e);
	case S_IFDIR:
		t.type = TAR_DIR;
		return add_folder(d, dir, name, &t, opaque, depth, e);
	case S_IFLNK:
		t.type = TAR_SYMLINK;
		return add_link(d, dir, name, &t, e);
	case S_IFSOCK:
		return 0; /* a process makes it; CRIU brings those back */
	case S_IFIFO:
		t.type = TAR_FIFO;
		break;
	default:
		if (S_ISCHR(st.st_mode) && st.st_rdev == 0)
			return add_deleted(d, path, e);
		t.type = S_ISCHR(st.st_mode) ? TAR_CHARDEV : TAR_BLOCKDEV;
		t.major = major(st.st_rdev);
		t.minor = minor(st.st_rdev);
	}
	return tar_write_entry(d->out, &t, e);
}

static int walk(struct diff *d, int fd, const char *folder, bool opaque, int depth, struct err *e)
{
	int list = opaque && add_hidden(d, fd, folder, e) < 0 ? -1 : fd_open(fd, ".", O_RDONLY | O_DIRECTORY, e);
	struct dirent *entry;
	DIR *dir;
	int rc = 0;

	if (list < 0)
		return -1;
	dir = fdopendir(list);
	if (!dir) {
		fd_close(&list);
		return err_sys(e, errno, "list %s", folder);
	}
	while (rc == 0 && (entry = readdir(dir)))
		if (!streq(entry->d_name, ".") && !streq(entry->d_name, ".."))
			rc = add(d, fd, folder, entry->d_name, opaque, depth, e);
	(void)closedir(dir);
	return rc;
}

int checkpoint_diff(struct container *k, struct call *c, int out, struct buf *deleted, struct err *e)
{
	auto_fd int upper = fd_open(AT_FDCWD, container_path(&c->arena, k, "upper"), O_RDONLY | O_DIRECTORY, e);
	auto_buf names = BUF(16 << 20);
	struct diff d = { k, c, out, &names };

	if (upper < 0 || walk(&d, upper, "", false, 0, e) < 0 || tar_write_end(out, e) < 0)
		return err_in(e, "changes in the root of container %s", k->id);
	return buf_addz(deleted, "[", e) < 0 || buf_add(deleted, buf_text(&names), names.len, e) < 0 ? -1 :
	       buf_addz(deleted, "]", e);
}
