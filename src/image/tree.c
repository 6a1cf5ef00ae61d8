#include "image/tree.h"

#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { LINKS_FOLLOWED_MAX = 40, DISK_BLOCK = 4096 };

struct tree_time {
	struct tree_time *next;
	const char *path;
	struct timespec mtime;
};

struct tree_link {
	struct tree_link *next;
	const char *path, *target;
};

struct tree_name {
	struct tree_name *next;
	const char *path;
};

/* An entry on its way: where it goes. */
struct place {
	char path[TAR_PATH_MAX + 1]; /* clean; free of links once the parent is open */
	const char *name;            /* the last component, within path */
	int parent_fd;               /* the tree's */
};

void tree_open(struct tree *t, int root_fd)
{
	*t = (struct tree){ .root_fd = root_fd };
	for (int i = 0; i < TREE_PARENTS; i++)
		t->parents[i].fd = -1;
}

static void forget_parents(struct tree *t)
{
	for (int i = 0; i < TREE_PARENTS; i++)
		fd_close(&t->parents[i].fd);
}

void tree_close(struct tree *t)
{
	forget_parents(t);
	arena_free(&t->arena);
}

static int memory_check(const struct tree *t, struct err *e)
{
	if (t->arena.total_bytes > TREE_MEMORY_MAX)
		return err_set(e, ERR_EXHAUSTED, "the layer's folders and links take more than %d MiB to remember",
			       TREE_MEMORY_MAX >> 20);
	return 0;
}

/* --- paths ----------------------------------------------------------------------------------------- */

int tree_path_clean(const char *path, char *out, struct err *e)
{
	struct str rest = str_of(path);
	size_t n = 0, depth = 0;

	while (rest.p) {
		struct str part = str_cut(&rest, '/');

		if (!part.len || str_eqz(part, "."))
			continue;
		if (str_eqz(part, "..")) {
			if (!depth)
				return err_set(e, ERR_INVALID, "%s: the path leaves the layer", path);
			depth--;
			while (n && out[--n] != '/')
				;
			continue;
		}
		if (++depth > TREE_DEPTH_MAX)
			return err_set(e, ERR_EXHAUSTED, "%.64s…: more than %d folders deep", path, TREE_DEPTH_MAX);
		if (n)
			out[n++] = '/';
		memcpy(out + n, part.p, part.len);
		n += part.len;
	}
	out[n] = '\0';
	return 0;
}

/* Appends a component to a clean path; ".." takes one away, at the root it stays. */
static int push(char *path, size_t *n, size_t *depth, struct str part, struct err *e)
{
	if (!part.len || str_eqz(part, "."))
		return 0;
	if (str_eqz(part, "..")) {
		*depth -= *depth > 0;
		while (*n && path[--*n] != '/')
			;
	} else if (++*depth > TREE_DEPTH_MAX || *n + part.len + 2 > TAR_PATH_MAX) {
		return err_set(e, ERR_EXHAUSTED, "a path through a link is too long: %.64s…", path);
	} else {
		if (*n)
			path[(*n)++] = '/';
		memcpy(path + *n, part.p, part.len);
		*n += part.len;
	}
	path[*n] = '\0';
	return 0;
}

/* Replaces each link in the path by where it leads, as a process with the layer as its root would;
 * what is missing stays as it is written. */
static int follow_links(struct tree *t, char *path, struct err *e)
{
	char done[TAR_PATH_MAX + 1] = "", left[2 * TAR_PATH_MAX + 2], joined[2 * TAR_PATH_MAX + 2];
	char target[TAR_PATH_MAX + 1];
	size_t n = 0, depth = 0;
	struct str rest;
	int followed = 0;

	(void)snprintf(left, sizeof(left), "%s", path);
	rest = str_of(left);
	while (rest.p) {
		size_t before = n;
		struct str part = str_cut(&rest, '/');
		ssize_t len;
		int total;

		if (push(done, &n, &depth, part, e) < 0)
			return -1;
		/* No component before this one is a link. */
		len = n > before ? readlinkat(t->root_fd, done, target, sizeof(target) - 1) : -1;
		if (len < 0)
			continue;
		target[len] = '\0';
		if (++followed > LINKS_FOLLOWED_MAX)
			return err_set(e, ERR_INVALID, "%s: too many links in a path", path);
		total = snprintf(joined, sizeof(joined), "%s/%.*s", target, rest.p ? (int)rest.len : 0,
				 rest.p ? rest.p : "");
		if (total < 0 || (size_t)total >= sizeof(joined))
			return err_set(e, ERR_EXHAUSTED, "a path through a link is too long: %.64s…", path);
		n = target[0] == '/' ? 0 : before;
		depth = target[0] == '/' ? 0 : depth - 1;
		done[n] = '\0';
		memcpy(left, joined, (size_t)total + 1);
		rest = str_of(left);
	}
	memcpy(path, done, n + 1);
	return 0;
}

static int open_beneath(int root_fd, const char *path)
{
	struct open_how how = {
		.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS,
	};
	long fd;

	do {
		fd = syscall(SYS_openat2, root_fd, *path ? path : ".", &how, sizeof(how));
	} while (fd < 0 && (errno == EINTR || errno == EAGAIN));
	return (int)fd;
}

/* The time of a folder is kept for the end: what is made in it meanwhile changes it. */
static int remember_time(struct tree *t, const char *path, int64_t s, uint32_t ns, struct err *e)
{
	struct tree_time *time = arena_new0(&t->arena, struct tree_time);

	*time = (struct tree_time){ t->times, arena_strdup(&t->arena, path), { s, ns } };
	t->times = time;
	return memory_check(t, e);
}

static bool is_whiteout(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0);
}

static int mark_opaque(struct tree *t, const char *path, struct err *e)
{
	struct tree_name *n = arena_new0(&t->arena, struct tree_name);

	*n = (struct tree_name){ t->opaque, *path ? arena_strdup(&t->arena, path) : "." };
	t->opaque = n;
	return memory_check(t, e);
}

/* A folder that no entry told of (yet). Where a whiteout stands it hides what the whiteout hid. */
static int make_parent(struct tree *t, const char *path, struct err *e)
{
	mode_t mode = streq(path, "tmp") || streq(path, "var/tmp") ? 01777 : 0755;
	int rc = mkdirat(t->root_fd, path, mode);
	struct stat st;

	if (rc < 0 && errno == EEXIST) {
		if (fstatat(t->root_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return err_sys(e, errno, "%s", path);
		if (!is_whiteout(&st))
			return 0; /* a folder, or opening it will fail and say so */
		if (unlinkat(t->root_fd, path, 0) < 0)
			return err_sys(e, errno, "replace %s", path);
		if (mark_opaque(t, path, e) < 0)
			return -1;
		rc = mkdirat(t->root_fd, path, mode);
	}
	if (rc < 0)
		return err_sys(e, errno, "make folder %s", path);
	t->inodes++;
	t->disk_bytes += DISK_BLOCK;
	return 0;
}

static int make_parents(struct tree *t, char *path, struct err *e)
{
	for (char *p = path;; p++) {
		char was = *p;
		int rc;

		if (was != '/' && was != '\0')
			continue;
		*p = '\0';
		rc = make_parent(t, path, e);
		*p = was;
		if (rc < 0 || !was)
			return rc;
	}
}

static int open_parent_fd(struct tree *t, char *path, struct err *e)
{
	int fd = open_beneath(t->root_fd, path);

	if (fd < 0 && (errno == ELOOP || errno == ENOTDIR || errno == ENOENT)) {
		if (follow_links(t, path, e) < 0 || (*path && make_parents(t, path, e) < 0))
			return -1;
		fd = open_beneath(t->root_fd, path);
	}
	if (fd < 0)
		return err_sys(e, errno, "open folder /%s (openat2)", path);
	return fd;
}

/* The folder's fd, from the last few used; it stays the tree's. `path` becomes free of links. */
static int parent_open(struct tree *t, char *path, int *out, struct err *e)
{
	struct tree_parent *slot;
	size_t len;
	int fd;

	for (int i = 0; i < TREE_PARENTS; i++) {
		if (t->parents[i].fd >= 0 && streq(t->parents[i].path, path)) {
			*out = t->parents[i].fd;
			return 0;
		}
	}
	fd = open_parent_fd(t, path, e);
	if (fd < 0)
		return -1;
	len = strlen(path) + 1;
	slot = &t->parents[t->next_parent++ % TREE_PARENTS];
	fd_close(&slot->fd);
	if (slot->cap < len) {
		slot->cap = MAX(len, (size_t)256) * 2;
		slot->path = arena_alloc(&t->arena, slot->cap);
	}
	memcpy(slot->path, path, len);
	slot->fd = *out = fd;
	return memory_check(t, e);
}

/* Fills the place of a clean path that is not the root. */
static int place_of(struct tree *t, const char *clean, struct place *p, struct err *e)
{
	char *slash = strrchr(clean, '/');
	const char *name = slash ? slash + 1 : clean;
	char parent[TAR_PATH_MAX + 1];
	size_t len, name_len = strlen(name);

	(void)snprintf(parent, sizeof(parent), "%.*s", slash ? (int)(slash - clean) : 0, clean);
	if (parent_open(t, parent, &p->parent_fd, e) < 0)
		return -1;
	len = strlen(parent);
	if (len + name_len + 2 > sizeof(p->path))
		return err_set(e, ERR_EXHAUSTED, "%.64s…: a path through a link is too long", clean);
	if (len)
		memcpy(p->path, parent, len);
	if (len)
		p->path[len++] = '/';
	memcpy(p->path + len, name, name_len + 1);
	p->name = p->path + len;
	return 0;
}

/* --- what is there already ------------------------------------------------------------------------- */

/* Makes way for an entry. *whiteout: what was there hid a lower layer's. */
static int make_way(struct tree *t, const struct place *p, bool *whiteout, struct err *e)
{
	struct stat st;

	*whiteout = false;
	if (fstatat(p->parent_fd, p->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : err_sys(e, errno, "%s", p->path);
	*whiteout = is_whiteout(&st);
	if (S_ISDIR(st.st_mode)) {
		t->replaced = true;
		return fs_remove_tree(p->parent_fd, p->name, e);
	}
	if (unlinkat(p->parent_fd, p->name, 0) < 0)
		return err_sys(e, errno, "replace %s", p->path);
	return 0;
}

/* Cached fds of folders at or below a path that is gone. */
static void forget_below(struct tree *t, const char *path)
{
	size_t n = strlen(path);

	for (int i = 0; i < TREE_PARENTS; i++) {
		struct tree_parent *c = &t->parents[i];

		if (c->fd >= 0 && strncmp(c->path, path, n) == 0 && (c->path[n] == '/' || !c->path[n]))
			fd_close(&c->fd);
	}
}

static int replace(struct tree *t, const struct place *p, bool *whiteout, struct err *e)
{
	forget_below(t, p->path);
	return make_way(t, p, whiteout, e);
}

/* --- metadata -------------------------------------------------------------------------------------- */

/* Those that mean something inside a container and nothing to the host. trusted.* are overlayfs's
 * own; user.overlay.* would be where it runs with userxattr. */
static bool xattr_allowed(const struct tar_entry *en, const char *name)
{
	if (streq(name, "security.capability"))
		return en->type == TAR_FILE;
	if (starts_with(name, "user."))
		return !starts_with(name, "user.overlay.") && (en->type == TAR_FILE || en->type == TAR_DIR);
	return streq(name, "system.posix_acl_access") ||
	       (streq(name, "system.posix_acl_default") && en->type == TAR_DIR);
}

static int xattr_failed(struct tree *t, const struct tar_entry *en, const char *name, int errnum, struct err *e)
{
	if (errnum != ENOTSUP)
		return err_sys(e, errnum, "%s: set %s", en->path, name);
	t->xattrs_dropped++;
	return 0;
}

static int set_xattrs(struct tree *t, int fd, const struct tar_entry *en, struct err *e)
{
	for (size_t i = 0; i < en->nxattrs; i++) {
		const struct tar_xattr *x = &en->xattrs[i];

		if (!xattr_allowed(en, x->name)) {
			t->xattrs_dropped++;
			continue;
		}
		if (fsetxattr(fd, x->name, x->value.p, x->value.len, 0) < 0 &&
		    xattr_failed(t, en, x->name, errno, e) < 0)
			return -1;
		t->odd_folders |= streq(x->name, "system.posix_acl_default");
	}
	return 0;
}

/* Owner, then mode (a change of owner clears setuid), then xattrs (and security.capability), then
 * the time. */
static int finish_fd(struct tree *t, int fd, const struct tar_entry *en, struct err *e)
{
	bool chowned = en->uid || en->gid || t->odd_folders;

	if (chowned && fchown(fd, en->uid, en->gid) < 0)
		return err_sys(e, errno, "%s: change the owner to %u:%u", en->path, en->uid, en->gid);
	if ((en->mode & 07000 || t->odd_folders) && fchmod(fd, en->mode) < 0)
		return err_sys(e, errno, "%s: change the mode to %04o", en->path, en->mode);
	return en->nxattrs ? set_xattrs(t, fd, en, e) : 0;
}

static const struct timespec time_kept = { .tv_nsec = UTIME_OMIT }; /* nobody reads layers' access times */

/* The kernel clamps what its file system cannot hold. */
static void times_of(const struct tar_entry *en, struct timespec times[2])
{
	times[0] = time_kept;
	times[1] = (struct timespec){ en->mtime_s, en->mtime_ns };
}

static int finish_at(struct tree *t, const struct place *p, const struct tar_entry *en, struct err *e)
{
	struct timespec times[2];

	if ((en->uid || en->gid || t->odd_folders) &&
	    fchownat(p->parent_fd, p->name, en->uid, en->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys(e, errno, "%s: change the owner to %u:%u", p->path, en->uid, en->gid);
	/* No link can be here: p->name was made a moment ago by this only thread. */
	if (en->type != TAR_SYMLINK && (en->mode & 07000 || t->odd_folders) &&
	    fchmodat(p->parent_fd, p->name, en->mode, 0) < 0)
		return err_sys(e, errno, "%s: change the mode to %04o", p->path, en->mode);
	t->xattrs_dropped += en->nxattrs;
	times_of(en, times);
	if (utimensat(p->parent_fd, p->name, times, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys(e, errno, "%s: set its time", p->path);
	return 0;
}

/* --- one function per kind ------------------------------------------------------------------------- */

static int create_file(const struct place *p, const struct tar_entry *en)
{
	return openat(p->parent_fd, p->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, en->mode & 01777);
}

static int write_data(int fd, struct tar_reader *tar, const struct tar_entry *en, uint64_t *written, struct err *e)
{
	const unsigned char *p = NULL;
	uint64_t offset = 0;
	size_t n = 0;

	for (;;) {
		if (tar_data(tar, &p, &n, &offset, e) < 0)
			return -1;
		if (!n)
			break;
		*written += n;
		while (n) {
			ssize_t w = pwrite(fd, p, n, (off_t)offset);

			if (w < 0 && errno == EINTR)
				continue;
			if (w < 0)
				return err_sys(e, errno, "write");
			p += w;
			n -= (size_t)w;
			offset += (uint64_t)w;
		}
	}
	if (en->sparse && ftruncate(fd, (off_t)en->size) < 0)
		return err_sys(e, errno, "make it %llu bytes long", (unsigned long long)en->size);
	return 0;
}

static int add_file(struct tree *t, const struct place *p, struct tar_reader *tar, const struct tar_entry *en,
		    struct err *e)
{
	auto_fd int fd = create_file(p, en);
	struct timespec times[2];
	uint64_t written = 0;
	bool ignored;

	if (fd < 0 && errno == EEXIST) {
		if (replace(t, p, &ignored, e) < 0)
			return -1;
		fd = create_file(p, en);
	}
	if (fd < 0)
		return err_sys(e, errno, "create %s", p->path);
	if (write_data(fd, tar, en, &written, e) < 0)
		return err_in(e, "%s", p->path);
	t->inodes++;
	t->disk_bytes += (written + DISK_BLOCK - 1) / DISK_BLOCK * DISK_BLOCK;
	if (finish_fd(t, fd, en, e) < 0)
		return -1;
	times_of(en, times);
	if (futimens(fd, times) < 0)
		return err_sys(e, errno, "%s: set its time", p->path);
	return 0;
}

/* A folder's own metadata, where it was just made or was there before. */
static int finish_dir(struct tree *t, int parent_fd, const char *name, bool fresh, const struct tar_entry *en,
		      struct err *e)
{
	auto_fd int fd = -1;

	if (fresh && !en->uid && !en->gid && !(en->mode & 06000) && !en->nxattrs && !t->odd_folders)
		return 0; /* mkdir did it all */
	fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, errno, "open folder /%s (openat2)", en->path);
	t->odd_folders |= (en->mode & 02000) != 0;
	if (fchown(fd, en->uid, en->gid) < 0)
		return err_sys(e, errno, "%s: change the owner to %u:%u", en->path, en->uid, en->gid);
	if (fchmod(fd, en->mode) < 0)
		return err_sys(e, errno, "%s: change the mode to %04o", en->path, en->mode);
	return set_xattrs(t, fd, en, e);
}

static int add_dir(struct tree *t, const struct place *p, const struct tar_entry *en, struct err *e)
{
	bool fresh = mkdirat(p->parent_fd, p->name, en->mode & 01777) == 0, whiteout = false;
	struct stat st;

	if (!fresh && errno != EEXIST)
		return err_sys(e, errno, "make folder %s", p->path);
	if (!fresh) {
		if (fstatat(p->parent_fd, p->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return err_sys(e, errno, "%s", p->path);
		if (!S_ISDIR(st.st_mode)) {
			if (replace(t, p, &whiteout, e) < 0)
				return -1;
			if (mkdirat(p->parent_fd, p->name, en->mode & 01777) < 0)
				return err_sys(e, errno, "make folder %s", p->path);
			fresh = true;
		}
	}
	if (fresh) {
		t->inodes++;
		t->disk_bytes += DISK_BLOCK;
	}
	if (whiteout && mark_opaque(t, p->path, e) < 0)
		return -1;
	if (finish_dir(t, p->parent_fd, p->name, fresh, en, e) < 0)
		return -1;
	return remember_time(t, p->path, en->mtime_s, en->mtime_ns, e);
}

static int make_node(const struct place *p, const struct tar_entry *en)
{
	switch (en->type) {
	case TAR_SYMLINK:
		return symlinkat(en->link, p->parent_fd, p->name);
	case TAR_CHARDEV:
		return mknodat(p->parent_fd, p->name, S_IFCHR | en->mode, makedev(en->major, en->minor));
	case TAR_BLOCKDEV:
		return mknodat(p->parent_fd, p->name, S_IFBLK | en->mode, makedev(en->major, en->minor));
	default:
		return mknodat(p->parent_fd, p->name, S_IFIFO | en->mode, 0);
	}
}

static int add_node(struct tree *t, const struct place *p, const struct tar_entry *en, struct err *e)
{
	int rc = make_node(p, en);
	bool ignored;

	if (rc < 0 && errno == EEXIST) {
		if (replace(t, p, &ignored, e) < 0)
			return -1;
		rc = make_node(p, en);
	}
	if (rc < 0)
		return err_sys(e, errno, "create %s", p->path);
	t->inodes++;
	return finish_at(t, p, en, e);
}

/* --- hard links ------------------------------------------------------------------------------------ */

/* 1: made; 0: the target is not there. */
static int try_link(struct tree *t, const char *path, const char *target, struct err *e)
{
	struct place from, to;
	struct stat st, there;
	bool ignored;

	if (place_of(t, target, &from, e) < 0)
		return -1;
	if (fstatat(from.parent_fd, from.name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : err_sys(e, errno, "%s", target);
	if (S_ISDIR(st.st_mode))
		return err_set(e, ERR_INVALID, "%s is a hard link to a folder, %s", path, target);
	/* The second place may push the first out of the cache of parents. */
	from.parent_fd = fcntl(from.parent_fd, F_DUPFD_CLOEXEC, 0);
	if (from.parent_fd < 0)
		return err_sys(e, errno, "%s", target);
	if (place_of(t, path, &to, e) < 0) {
		fd_close(&from.parent_fd);
		return -1;
	}
	if (fstatat(to.parent_fd, to.name, &there, AT_SYMLINK_NOFOLLOW) == 0) {
		if (there.st_dev == st.st_dev && there.st_ino == st.st_ino) {
			fd_close(&from.parent_fd);
			return 1; /* to itself, or made already */
		}
		if (replace(t, &to, &ignored, e) < 0) {
			fd_close(&from.parent_fd);
			return -1;
		}
	}
	if (linkat(from.parent_fd, from.name, to.parent_fd, to.name, 0) < 0) {
		int saved = errno;

		fd_close(&from.parent_fd);
		/* Making way for the link may have removed its target. */
		return saved == ENOENT ? 0 : err_sys(e, saved, "link %s to %s", path, target);
	}
	fd_close(&from.parent_fd);
	return 1;
}

static int add_link(struct tree *t, const char *path, const struct tar_entry *en, struct err *e)
{
	char target[TAR_PATH_MAX + 1];
	struct tree_link *l;
	int rc;

	if (tree_path_clean(en->link, target, e) < 0)
		return err_in(e, "%s links outside", en->path);
	if (!*target)
		return err_set(e, ERR_INVALID, "%s is a hard link to the root", en->path);
	rc = try_link(t, path, target, e);
	if (rc)
		return rc < 0 ? -1 : 0;
	l = arena_new0(&t->arena, struct tree_link);
	*l = (struct tree_link){ t->links, arena_strdup(&t->arena, path), arena_strdup(&t->arena, target) };
	t->links = l;
	return memory_check(t, e);
}

/* Those that came before their targets; a link may wait for a link, so while any could be made. */
static int late_links(struct tree *t, struct err *e)
{
	struct tree_link *ordered = NULL, **l;
	bool progress = true;

	while (t->links) {
		struct tree_link *next = t->links->next;

		t->links->next = ordered;
		ordered = t->links;
		t->links = next;
	}
	for (int round = 0; ordered && progress && round < LINKS_FOLLOWED_MAX; round++) {
		progress = false;
		for (l = &ordered; *l;) {
			int rc = try_link(t, (*l)->path, (*l)->target, e);

			if (rc < 0)
				return -1;
			progress |= rc > 0;
			if (rc > 0)
				*l = (*l)->next;
			else
				l = &(*l)->next;
		}
	}
	if (ordered)
		return err_set(e, ERR_INVALID, "%s is a hard link to %s, which the layer does not have",
			       ordered->path, ordered->target);
	return 0;
}

/* --- whiteouts ------------------------------------------------------------------------------------- */

static const char whiteout_prefix[] = ".wh.";
static const char opaque_name[] = ".wh..wh..opq";

/* The path holds what aufs kept for itself (".wh..wh.plnk/…", ".wh..wh.aufs"). */
static bool is_aufs(const char *clean)
{
	const char *at = clean;

	while ((at = strstr(at, ".wh..wh."))) {
		if (at == clean || at[-1] == '/')
			return !streq(at, opaque_name);
		at++;
	}
	return false;
}

static int add_opaque(struct tree *t, char *clean, struct err *e)
{
	char *slash = strrchr(clean, '/');
	int fd;

	*(slash ? slash : clean) = '\0';
	if (parent_open(t, clean, &fd, e) < 0)
		return -1;
	return mark_opaque(t, clean, e);
}

/* Hides a lower layer's file or folder; what this layer itself has there stays. */
static int add_whiteout(struct tree *t, const char *clean, struct err *e)
{
	const char *slash = strrchr(clean, '/');
	const char *hidden = (slash ? slash + 1 : clean) + strlen(whiteout_prefix);
	char path[TAR_PATH_MAX + 1];
	struct place p;
	struct stat st;

	if (!*hidden || streq(hidden, ".") || streq(hidden, ".."))
		return err_set(e, ERR_INVALID, "%s: a whiteout of nothing", clean);
	(void)snprintf(path, sizeof(path), "%.*s%s", slash ? (int)(slash - clean + 1) : 0, clean, hidden);
	if (place_of(t, path, &p, e) < 0)
		return -1;
	if (mknodat(p.parent_fd, p.name, S_IFCHR, makedev(0, 0)) == 0) {
		t->inodes++;
		return 0;
	}
	if (errno != EEXIST)
		return err_sys(e, errno, "whiteout of %s", p.path);
	if (fstatat(p.parent_fd, p.name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys(e, errno, "%s", p.path);
	return S_ISDIR(st.st_mode) ? mark_opaque(t, p.path, e) : 0;
}

/* --- all of it ------------------------------------------------------------------------------------- */

static int add_root(struct tree *t, const struct tar_entry *en, struct err *e)
{
	if (en->type != TAR_DIR)
		return err_set(e, ERR_INVALID, "%s: the root can only be a folder", en->path);
	t->root_given = true;
	if (finish_dir(t, t->root_fd, ".", false, en, e) < 0)
		return -1;
	return remember_time(t, "", en->mtime_s, en->mtime_ns, e);
}

int tree_add(struct tree *t, struct tar_reader *tar, const struct tar_entry *en, struct err *e)
{
	char clean[TAR_PATH_MAX + 1];
	const char *slash, *name;
	struct place p;

	if (tree_path_clean(en->path, clean, e) < 0)
		return -1;
	if (!*clean)
		return add_root(t, en, e);
	if (is_aufs(clean))
		return 0;
	slash = strrchr(clean, '/');
	name = slash ? slash + 1 : clean;
	if (streq(name, opaque_name))
		return add_opaque(t, clean, e);
	if (starts_with(name, whiteout_prefix))
		return add_whiteout(t, clean, e);
	if (en->type == TAR_HARDLINK)
		return add_link(t, clean, en, e);
	if (place_of(t, clean, &p, e) < 0)
		return -1;
	if (en->type == TAR_DIR)
		return add_dir(t, &p, en, e);
	return en->type == TAR_FILE ? add_file(t, &p, tar, en, e) : add_node(t, &p, en, e);
}

/* Oldest first: of two entries for one folder the later one counts. */
static int set_times(struct tree *t, struct err *e)
{
	struct tree_time *ordered = NULL;

	while (t->times) {
		struct tree_time *next = t->times->next;

		t->times->next = ordered;
		ordered = t->times;
		t->times = next;
	}
	for (struct tree_time *time = ordered; time; time = time->next) {
		struct timespec times[2] = { time_kept, time->mtime };
		auto_fd int fd = -1;

		if (!t->replaced) {
			if (utimensat(t->root_fd, *time->path ? time->path : ".", times, AT_SYMLINK_NOFOLLOW) < 0)
				return err_sys(e, errno, "%s: set its time", time->path);
			continue;
		}
		/* It may be gone, or no folder any more. */
		fd = open_beneath(t->root_fd, time->path);
		if (fd >= 0 && utimensat(fd, "", times, AT_EMPTY_PATH) < 0)
			return err_sys(e, errno, "%s: set its time", time->path);
	}
	return 0;
}

int tree_finish(struct tree *t, struct arena *a, char ***opaque, struct err *e)
{
	size_t n = 0;
	char **list;

	if (late_links(t, e) < 0)
		return -1;
	forget_parents(t);
	if (set_times(t, e) < 0)
		return -1;
	for (struct tree_name *o = t->opaque; o; o = o->next)
		n++;
	list = arena_newn0(a, char *, n + 1);
	for (struct tree_name *o = t->opaque; o; o = o->next)
		list[--n] = arena_strdup(a, o->path);
	*opaque = list;
	return 0;
}
