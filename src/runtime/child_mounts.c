#include "runtime/child.h"

#include "base/fd.h"
#include "base/fs.h"
#include "base/str.h"
#include "runtime/copy_up.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <linux/magic.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* --- places in the root --------------------------------------------------------------------------- */

static int place_try(const struct child *c, const char *path, bool through_links)
{
	struct open_how how = {
		.flags = O_PATH | O_CLOEXEC,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | (through_links ? 0 : RESOLVE_NO_SYMLINKS),
	};
	long fd;

	do {
		fd = syscall(SYS_openat2, c->rootfd, path, &how, sizeof(how));
	} while (fd < 0 && (errno == EINTR || errno == EAGAIN));
	return (int)fd;
}

enum { DANGLING_MAX = 8 };
static int make_folders_in(const struct child *c, const char *path, unsigned mode, int depth, struct err *e);

/* A link in the image whose target is not there yet: the target is made, inside the root. */
static int make_link_target(const struct child *c, int above, const char *parent, const char *part, int depth,
			    struct err *e)
{
	char target[PATH_MAX], path[PATH_MAX];
	ssize_t n = readlinkat(above, path_base(part), target, sizeof(target) - 1);
	int len;

	if (n < 0 || depth == DANGLING_MAX)
		return err_sys(e, n < 0 ? errno : ELOOP, "make %s in the container", part);
	target[n] = '\0';
	len = target[0] == '/' ? snprintf(path, sizeof(path), "%s", target) :
	      snprintf(path, sizeof(path), "%s/%s", parent, target);
	if (len < 0 || (size_t)len >= sizeof(path))
		return err_set(e, ERR_INVALID, "make %s in the container: its link is too long", part);
	return make_folders_in(c, path, 0755, depth + 1, e);
}

static int make_folder(const struct child *c, const char *parent, const char *part, unsigned mode, int depth,
		       struct err *e)
{
	auto_fd int above = place_try(c, parent, true);

	if (above < 0)
		return err_sys(e, errno, "open %s in the container (openat2)", parent);
	if (mkdirat(above, path_base(part), mode) == 0)
		return 0;
	if (errno != EEXIST)
		return err_sys(e, errno, "make %s in the container", part);
	return make_link_target(c, above, parent, part, depth, e);
}

/* mkdir -p inside the root. Each parent is resolved anew from the root, so links in the image are
 * followed as the container would, and never out of it. */
static int make_folders_in(const struct child *c, const char *path, unsigned mode, int depth, struct err *e)
{
	char part[PATH_MAX], parent[PATH_MAX] = "/";
	size_t n = strlen(path);

	if (n >= sizeof(part))
		return err_set(e, ERR_INVALID, "path is too long: %.100s…", path);
	for (size_t i = 1; i <= n; i++) {
		auto_fd int dir = -1;

		if (path[i] != '/' && path[i] != '\0')
			continue;
		memcpy(part, path, i);
		part[i] = '\0';
		dir = place_try(c, part, true);
		if (dir < 0 && errno != ENOENT)
			return err_sys(e, errno, "open %s in the container (openat2)", part);
		if (dir < 0 && make_folder(c, parent, part, mode, depth, e) < 0)
			return -1;
		memcpy(parent, part, i + 1);
	}
	return 0;
}

static int make_folders(const struct child *c, const char *path, unsigned mode, struct err *e)
{
	return make_folders_in(c, path, mode, 0, e);
}

static int parent_of(const struct child *c, const char *path, struct err *e)
{
	char parent[PATH_MAX];
	size_t n = (size_t)(path_base(path) - path);
	int fd;

	if (n >= sizeof(parent))
		return err_set(e, ERR_INVALID, "path is too long: %.100s…", path);
	memcpy(parent, path, n);
	parent[n > 1 ? n - 1 : n] = '\0';
	if (!*parent)
		memcpy(parent, "/", 2);
	fd = place_try(c, parent, true);
	if (fd >= 0 || errno != ENOENT)
		return fd >= 0 ? fd : err_sys(e, errno, "open %s in the container (openat2)", parent);
	if (make_folders(c, parent, 0755, e) < 0)
		return -1;
	fd = place_try(c, parent, true);
	return fd >= 0 ? fd : err_sys(e, errno, "open %s in the container (openat2)", parent);
}

/* Where a link that hangs in the air points to, from the container's root on. */
static int link_target(int parent, const char *path, char out[PATH_MAX], struct err *e)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(parent, path_base(path), target, sizeof(target) - 1);
	int len;

	if (n < 0)
		return err_sys(e, errno == EINVAL ? EEXIST : errno, "make the file %s in the container", path);
	target[n] = '\0';
	len = target[0] == '/' ? snprintf(out, PATH_MAX, "%s", target) :
	      snprintf(out, PATH_MAX, "%.*s%s", (int)(path_base(path) - path), path, target);
	if (len < 0 || len >= PATH_MAX)
		return err_set(e, ERR_INVALID, "make the file %s in the container: its link is too long", path);
	return 0;
}

static int make_file(const struct child *c, const char *path, struct err *e)
{
	char at[PATH_MAX], next[PATH_MAX];

	if (strlen(path) >= sizeof(at))
		return err_set(e, ERR_INVALID, "path is too long: %.100s…", path);
	memcpy(at, path, strlen(path) + 1);
	for (int depth = 0; depth < DANGLING_MAX; depth++) {
		auto_fd int parent = parent_of(c, at, e), fd = -1;

		if (parent < 0)
			return -1;
		fd = openat(parent, path_base(at), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
		if (fd >= 0)
			return 0;
		if (errno != EEXIST)
			return err_sys(e, errno, "make the file %s in the container", path);
		if (link_target(parent, at, next, e) < 0)
			return -1;
		memcpy(at, next, sizeof(at));
	}
	return err_sys(e, ELOOP, "make the file %s in the container", path);
}

/* Where a mount goes; made if missing, as a folder or as a file. */
static int place(const struct child *c, const struct plan_mount *m, bool is_folder, struct err *e)
{
	int fd = place_try(c, m->destination, !m->on_folder_only);

	if (fd >= 0)
		return fd;
	if (errno == ELOOP && m->on_folder_only)
		return err_set(e, ERR_DENIED, "mount %s: must be mounted on ordinary directory, and never through a symbolic link", m->destination);
	if (errno != ENOENT)
		return err_sys(e, errno, "open %s in the container (openat2)", m->destination);
	if ((is_folder ? make_folders(c, m->destination, 0755, e) : make_file(c, m->destination, e)) < 0)
		return -1;
	fd = place_try(c, m->destination, !m->on_folder_only);
	return fd >= 0 ? fd : err_sys(e, errno, "open %s in the container (openat2)", m->destination);
}

int container_place(int root_fd, const char *path, bool is_folder, struct err *e)
{
	const struct child c = { .rootfd = root_fd };
	const struct plan_mount m = { .destination = (char *)path };

	return place(&c, &m, is_folder, e);
}

/* --- mounts --------------------------------------------------------------------------------------- */

static bool is_on(int fd, long magic)
{
	struct statfs st;

	return fstatfs(fd, &st) == 0 && st.f_type == magic;
}

/* Something bound over a part of /proc could fool whoever trusts it there (CVE-2019-16884). */
static int check_over_proc(const struct plan_mount *m, int at, int source, struct err *e)
{
	static const char *const fine[] = {
		"/proc/cpuinfo", "/proc/diskstats", "/proc/meminfo", "/proc/stat", "/proc/swaps",
		"/proc/uptime", "/proc/loadavg", "/proc/slabinfo", "/proc/sys/kernel/ns_last_pid",
		"/proc/net/dev",
	};

	if (!is_on(at, PROC_SUPER_MAGIC) && !streq(m->destination, "/proc"))
		return 0;
	if (streq(m->destination, "/proc") && is_on(source, PROC_SUPER_MAGIC))
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(fine); i++)
		if (streq(fine[i], m->destination))
			return 0;
	return err_set(e, ERR_DENIED, "mount %s: must not hide a part of /proc", m->destination);
}

static int bind_attributes(const struct plan_mount *m, int fd, struct err *e)
{
	const struct mount_options *o = &m->o;

	if (mount_change(fd, o->attr_set, o->attr_clear, false, e) < 0 ||
	    mount_change(fd, o->tree_set, o->tree_clear, true, e) < 0)
		return -1;
	if (!o->propagation)
		return mount_set_propagation(fd, MS_PRIVATE, true, e);
	return mount_set_propagation(fd, o->propagation, o->propagation_tree, e);
}

static int do_bind(struct child *c, const struct plan_mount *m, struct err *e)
{
	auto_fd int own = -1, at = -1;
	int fd = m->fd;
	struct stat st;

	if (fd < 0)
		fd = own = mount_clone(AT_FDCWD, m->source, m->o.bind_tree, e);
	if (fd < 0)
		return err_in(e, "mount %s", m->destination);
	if (fstat(fd, &st) < 0)
		return err_sys(e, errno, "mount %s: stat the source", m->destination);
	at = place(c, m, S_ISDIR(st.st_mode), e);
	if (at < 0 || check_over_proc(m, at, fd, e) < 0)
		return -1;
	if (bind_attributes(m, fd, e) < 0)
		return err_in(e, "mount %s", m->destination);
	return mount_move_onto(fd, at, m->destination, e);
}

/* Devices, links and further mounts are to come: read-only it is at the end (make_devices). */
static bool is_dev(const struct plan_mount *m)
{
	return m->kind == PLAN_NEW && streq(m->destination, "/dev");
}

enum { DATA_MAX = 4096 }; /* a page is all that mount(2) takes */

/* A tmpfs has the mode of the folder it covers, where the document names none. */
static int tmpfs_mode(const struct child *c, const struct plan_mount *m, char data[DATA_MAX], struct mount_new *how,
		      struct err *e)
{
	auto_fd int there = -1;
	struct stat st;
	int n;

	if (!m->keeps_mode)
		return 0;
	there = place_try(c, m->destination, true);
	if (there < 0 || fstat(there, &st) < 0)
		return 0;
	n = snprintf(data, DATA_MAX, "%s%smode=%o", m->data ? m->data : "", m->data ? "," : "", st.st_mode & 07777);
	if (n < 0 || n >= DATA_MAX)
		return err_set(e, ERR_INVALID, "mount %s: its options are too long", m->destination);
	how->data = data;
	return 0;
}

static int do_new(struct child *c, const struct plan_mount *m, struct err *e)
{
	struct mount_new how = { m->source, m->type, m->data, m->o.flags };
	auto_fd int at = -1, top = -1;
	char data[DATA_MAX];

	if (tmpfs_mode(c, m, data, &how, e) < 0)
		return -1;
	at = place(c, m, true, e);
	if (at < 0)
		return -1;
	if (is_on(at, PROC_SUPER_MAGIC) && !streq(m->type, "proc"))
		return err_set(e, ERR_DENIED, "mount %s: must not hide a part of /proc", m->destination);
	/* "mqueue" takes its mode from nowhere: the mount point itself does not matter. */
	if (m->o.copy_up || is_dev(m))
		how.flags &= ~(unsigned long)MS_RDONLY; /* until it is filled */
	if (mount_onto(&how, at, m->destination, e) < 0)
		return -1;
	if (!m->o.propagation && !m->o.tree_set && !m->o.tree_clear && !m->o.copy_up)
		return 0;
	top = place(c, m, true, e);
	if (top < 0)
		return -1;
	if (m->o.copy_up && (copy_folder(at, top, e) < 0 ||
			     mount_change(top, m->o.attr_set & MOUNT_ATTR_RDONLY, 0, false, e) < 0))
		return err_in(e, "mount %s: tmpcopyup", m->destination);
	if (mount_change(top, m->o.tree_set, m->o.tree_clear, true, e) < 0)
		return err_in(e, "mount %s", m->destination);
	return mount_set_propagation(top, m->o.propagation, m->o.propagation_tree, e);
}

/* --- cgroup file systems -------------------------------------------------------------------------- */

/* A bind of the container's own cgroup: in its cgroup namespace that is what a mount of the file
 * system would show, without making one. Without such a namespace, v1 hides the host's paths, and v2
 * shows all of them: /proc/self/cgroup names the whole path, and programs look for it there. */
static int bind_cgroup(struct child *c, const struct cgroup_hierarchy *h, const struct plan_mount *m, int at,
		       struct err *e)
{
	bool whole = c->rt->cgroups.mode == CGROUP_V2 && !c->plan->has_cgroup_ns;
	char source[CGROUP_PATH_MAX + 200];
	auto_fd int fd = -1;

	(void)snprintf(source, sizeof(source), "%s/%s%s%s", c->rt->cgroups.mount, h->name, *h->name ? "/" : "",
		       c->cgroup && !whole ? c->cgroup : "");
	fd = mount_clone(AT_FDCWD, source, false, e);
	if (fd < 0)
		return -1;
	if (mount_change(fd, m->o.attr_set, m->o.attr_clear, false, e) < 0 ||
	    mount_set_propagation(fd, m->o.propagation ? m->o.propagation : MS_PRIVATE, false, e) < 0)
		return -1;
	return mount_move_onto(fd, at, m->destination, e);
}

static int cgroup_v1_one(struct child *c, const struct cgroup_hierarchy *h, const struct plan_mount *m, int dir,
			 struct err *e)
{
	auto_fd int at = -1;
	struct str words = str_of(h->name);

	if (mkdirat(dir, h->name, 0755) < 0 && errno != EEXIST)
		return err_sys(e, errno, "make %s/%s", m->destination, h->name);
	at = openat(dir, h->name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (at < 0)
		return err_sys(e, errno, "open %s/%s", m->destination, h->name);
	if (bind_cgroup(c, h, m, at, e) < 0)
		return -1;
	/* "cpu,cpuacct" is found as cpu and as cpuacct. */
	while (strchr(h->name, ',') && words.p) {
		struct str word = str_cut(&words, ',');
		char name[64];

		(void)snprintf(name, sizeof(name), "%.*s", STR_ARG(word));
		if (symlinkat(h->name, dir, name) < 0 && errno != EEXIST)
			return err_sys(e, errno, "link %s/%s", m->destination, name);
	}
	return 0;
}

static int do_cgroup(struct child *c, const struct plan_mount *m, struct err *e)
{
	static const struct mount_new tmpfs = { "tmpfs", "tmpfs", "mode=755,size=64k",
						MS_NOSUID | MS_NODEV | MS_NOEXEC };
	const struct cgroup_layout *l = &c->rt->cgroups;
	auto_fd int at = place(c, m, true, e), dir = -1;

	if (at < 0)
		return -1;
	if (l->mode == CGROUP_V2)
		return bind_cgroup(c, &l->h[0], m, at, e);
	if (mount_onto(&tmpfs, at, m->destination, e) < 0)
		return -1;
	dir = place(c, m, true, e);
	if (dir < 0)
		return -1;
	for (size_t i = 0; i < l->nh; i++)
		if (!(l->h[i].controllers & BIT(CGROUP_UNIFIED)) && cgroup_v1_one(c, &l->h[i], m, dir, e) < 0)
			return -1;
	if (mount_change(dir, m->o.attr_set & MOUNT_ATTR_RDONLY, 0, false, e) < 0)
		return err_in(e, "mount %s", m->destination);
	return 0;
}

/* --- /dev ----------------------------------------------------------------------------------------- */

/* A user namespace or a device cgroup around us may forbid mknod: then the host's node is bound. */
static int bind_device(const struct child *c, const struct plan_device *d, int parent, struct err *e)
{
	auto_fd UNUSED int made = openat(parent, path_base(d->path), O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
	auto_fd int fd = -1, at = -1;
	struct stat st;

	fd = mount_clone(AT_FDCWD, d->path, false, e);
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_rdev != d->dev || (st.st_mode & S_IFMT) != (d->mode & S_IFMT))
		return err_set(e, ERR_DENIED, "device %s: can be neither made nor bound", d->path);
	at = openat(parent, path_base(d->path), O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (at < 0)
		return err_sys(e, errno, "device %s", d->path);
	(void)c;
	return mount_move_onto(fd, at, d->path, e);
}

static int make_device(const struct child *c, const struct plan_device *d, int dev, struct err *e)
{
	bool plain = dev >= 0 && starts_with(d->path, "/dev/") && !strchr(d->path + 5, '/');
	auto_fd int own = plain ? -1 : parent_of(c, d->path, e);
	int parent = plain ? dev : own;
	const char *name = path_base(d->path);
	struct stat st;

	if (parent < 0)
		return err_in(e, "device %s", d->path);
	if (mknodat(parent, name, d->mode, d->dev) == 0) {
		if ((d->uid || d->gid) && fchownat(parent, name, d->uid, d->gid, AT_SYMLINK_NOFOLLOW) < 0)
			return err_sys(e, errno, "device %s: change its owner", d->path);
		return 0;
	}
	if (errno == EPERM)
		return bind_device(c, d, parent, e);
	if (errno != EEXIST)
		return err_sys(e, errno, "make the device %s", d->path);
	if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_rdev != d->dev ||
	    (st.st_mode & S_IFMT) != (d->mode & S_IFMT))
		return err_set(e, ERR_EXISTS, "device %s: something else is there already", d->path);
	return 0;
}

static int make_links(int dev, struct err *e)
{
	static const struct {
		const char *name, *to;
	} links[] = {
		{ "fd", "/proc/self/fd" }, { "stdin", "/proc/self/fd/0" }, { "stdout", "/proc/self/fd/1" },
		{ "stderr", "/proc/self/fd/2" }, { "core", "/proc/kcore" }, { "ptmx", "pts/ptmx" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
		if (symlinkat(links[i].to, dev, links[i].name) == 0)
			continue;
		/* ptmx in particular must be the container's own. */
		if (errno == EEXIST && i == ARRAY_SIZE(links) - 1 && unlinkat(dev, links[i].name, 0) == 0 &&
		    symlinkat(links[i].to, dev, links[i].name) == 0)
			continue;
		if (errno != EEXIST)
			return err_sys(e, errno, "link /dev/%s", links[i].name);
	}
	return 0;
}

static int make_devices(const struct child *c, struct err *e)
{
	auto_fd int dev = -1;

	if (c->plan->make_dev) {
		dev = place_try(c, "/dev", true);
		if (dev < 0 && (make_folders(c, "/dev", 0755, e) < 0 || (dev = place_try(c, "/dev", true)) < 0))
			return err_sys(e, errno, "open /dev in the container");
	}
	for (size_t i = 0; i < c->plan->ndevices; i++)
		if (make_device(c, &c->plan->devices[i], dev, e) < 0)
			return -1;
	return dev >= 0 ? make_links(dev, e) : 0;
}

static int finish_dev(const struct child *c, struct err *e)
{
	for (size_t i = 0; i < c->plan->nmounts; i++) {
		const struct plan_mount *m = &c->plan->mounts[i];
		auto_fd int dev = -1;

		if (!is_dev(m) || !(m->o.flags & MS_RDONLY))
			continue;
		dev = place_try(c, m->destination, true);
		if (dev < 0)
			return err_sys(e, errno, "open /dev in the container");
		if (mount_change(dev, MOUNT_ATTR_RDONLY, 0, false, e) < 0)
			return err_in(e, "mount /dev");
	}
	return 0;
}

static int open_terminal(struct child *c, struct err *e)
{
	auto_fd int pts = place_try(c, "/dev/pts", false);

	if (pts < 0 || !is_on(pts, DEVPTS_SUPER_MAGIC))
		return err_set(e, ERR_INVALID, "process.terminal: there is no devpts mounted on /dev/pts");
	return child_terminal(c, pts, e);
}

/* --- hiding --------------------------------------------------------------------------------------- */

static int mask_by_tmpfs(int at, const char *path, bool is_folder, struct err *e)
{
	static const struct mount_new tmpfs = { "tmpfs", "tmpfs", "size=4k,nr_inodes=2", MS_RDONLY | MS_NOSUID |
						MS_NODEV | MS_NOEXEC };
	auto_fd int null = -1;
	struct stat st;

	if (is_folder)
		return mount_onto(&tmpfs, at, path, e);
	/* The host's node, and really that one (CVE-2025-31133). */
	null = mount_clone(AT_FDCWD, "/dev/null", false, e);
	if (null < 0)
		return -1;
	if (fstat(null, &st) < 0 || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3))
		return err_set(e, ERR_DENIED, "/dev/null is not the null device");
	/* Its mode and owner are the host's. */
	if (mount_change(null, MOUNT_ATTR_RDONLY, 0, false, e) < 0)
		return err_in(e, "mask %s", path);
	return mount_move_onto(null, at, path, e);
}

/* One tmpfs hides all masked paths: clones of its "dir" and its "file". It is mounted on the old root's /proc,
 * where nothing is looked up by path any more, and goes with that root: a detached mount that is closed waits
 * for an RCU grace period of its own. (Never on "/" itself: umount2(".") would then take it in the old root's
 * stead.) */
static int make_mask(void)
{
	static const char *const options[] = { "size=4k", "nr_inodes=4", "mode=755", NULL };
	auto_fd int fd = -1, file = -1;
	struct err ignored;

	fd = mount_detached("tmpfs", options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, &ignored);
	if (fd < 0 || mkdirat(fd, "dir", 0555) < 0)
		return -1;
	file = openat(fd, "file", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
	if (file < 0)
		return -1;
	fd_close(&file);
	if (mount_change(fd, MOUNT_ATTR_RDONLY, 0, false, &ignored) < 0 ||
	    move_mount(fd, "", AT_FDCWD, "/proc", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return -1;
	return fd_take(&fd);
}

/* Where it cannot be made each path has a mount of its own; nor while the old root's mounts are peers of the host's. */
static void prepare_mask(struct child *c)
{
	const struct plan *p = c->plan;

	if (p->masked && *p->masked && !(c->rt->flags & RUNTIME_LEAN) && p->propagation != MS_SHARED &&
	    !(c->process->flags & CONTAINER_NO_PIVOT))
		c->mask_fd = make_mask();
}

static int mask(const struct child *c, const char *path, struct err *e)
{
	auto_fd int at = place_try(c, path, true), fd = -1;
	struct err first;
	struct stat st;

	if (at < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : err_sys(e, errno, "mask %s", path);
	if (fstat(at, &st) < 0)
		return err_sys(e, errno, "mask %s", path);
	if (c->rt->flags & RUNTIME_LEAN)
		fd = mount_clone(AT_FDCWD, S_ISDIR(st.st_mode) ? "/" RUNTIME_LEAN_MASK "/dir" : "/" RUNTIME_LEAN_MASK "/file",
				 false, &first);
	else if (c->mask_fd >= 0)
		fd = mount_clone(c->mask_fd, S_ISDIR(st.st_mode) ? "dir" : "file", false, &first);
	if (fd >= 0)
		return mount_move_onto(fd, at, path, e);
	return mask_by_tmpfs(at, path, S_ISDIR(st.st_mode), e);
}

static int make_readonly(const struct child *c, const char *path, struct err *e)
{
	auto_fd int at = place_try(c, path, true), fd = -1;

	if (at < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : err_sys(e, errno, "make %s read-only", path);
	fd = mount_clone(at, "", true, e);
	if (fd < 0)
		return err_in(e, "make %s read-only", path);
	if (mount_change(fd, MOUNT_ATTR_RDONLY, 0, true, e) < 0)
		return err_in(e, "make %s read-only", path);
	return mount_move_onto(fd, at, path, e);
}

/* --- the kernel's settings ------------------------------------------------------------------------ */

static int set_sysctls(const struct child *c, struct err *e)
{
	const struct json_map *m = c->plan->sysctl;

	for (size_t i = 0; i < m->count; i++) {
		char path[PATH_MAX];
		const char *key = m->p[i].key;
		bool slashes = strcspn(key, "/") < strcspn(key, ".");
		auto_fd int fd = -1;
		int n = snprintf(path, sizeof(path), "sys/%s", key);

		if (n < 0 || (size_t)n >= sizeof(path))
			return err_set(e, ERR_INVALID, "linux.sysctl: the name is too long");
		for (char *p = path + 4; *p && !slashes; p++)
			*p = *p == '.' ? '/' : *p == '/' ? '.' : *p;
		fd = path_open_beneath(c->rt->proc_fd, path, O_WRONLY, 0, e);
		if (fd < 0)
			return err_in(e, "linux.sysctl %s", key);
		if (fd_write_all(fd, m->p[i].value, strlen(m->p[i].value), e) < 0)
			return err_in(e, "linux.sysctl %s = \"%s\"", key, m->p[i].value);
	}
	return 0;
}

static int bring_lo_up(struct err *e)
{
	auto_fd int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq r = { .ifr_name = "lo", .ifr_flags = IFF_UP };

	if (s < 0 || ioctl(s, SIOCSIFFLAGS, &r) < 0)
		return err_sys(e, errno, "bring up lo");
	return 0;
}

static int set_names(const struct child *c, struct err *e)
{
	const struct plan *p = c->plan;

	if (p->hostname && sethostname(p->hostname, strlen(p->hostname)) < 0)
		return err_sys(e, errno, "set the host name \"%s\"", p->hostname);
	if (p->domainname && setdomainname(p->domainname, strlen(p->domainname)) < 0)
		return err_sys(e, errno, "set the domain name \"%s\"", p->domainname);
	return p->new_net_ns ? bring_lo_up(e) : 0;
}

/* --- all of it ------------------------------------------------------------------------------------ */

/* The root is stacked upon "/": no folder of the host is needed to hold it. Only hooks of the host's programs want
 * it where root.path says, since they work by that path and their current folder. (A root that is shared is the
 * exception: pivot_root takes no parent that is; so is a path that the user namespace may not walk.) */
static int stack_root(const struct child *c, struct err *e)
{
	const char *at = c->plan->root_at;

	if (at && c->plan->propagation != MS_SHARED && !(c->rt->flags & RUNTIME_LEAN)) {
		if (move_mount(c->rootfd, "", AT_FDCWD, at, MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS) == 0)
			return 0;
		if (errno != EACCES)
			return err_sys(e, errno, "attach the root file system at %s (move_mount)", at);
	}
	if (move_mount(c->rootfd, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return err_sys(e, errno, "attach the root file system (move_mount)");
	return 0;
}

static int attach_root(struct child *c, struct err *e)
{
	const struct plan *p = c->plan;

	/* What we mount must not reach the host, nor what we unmount at the end. A shared root keeps the
	 * peer groups until its binds are cloned from them; then the old root is made our own. */
	if (!(c->rt->flags & RUNTIME_LEAN)) {
		if (p->propagation == MS_SHARED)
			c->old_root_fd = fd_open(AT_FDCWD, "/", O_PATH | O_DIRECTORY, e);
		else if (mount(NULL, "/", NULL, MS_REC | (p->propagation == MS_UNBINDABLE ? MS_PRIVATE : p->propagation),
			       NULL) < 0)
			return err_sys(e, errno, "make the mounts of the new namespace our own");
		if (p->propagation == MS_SHARED && c->old_root_fd < 0)
			return -1;
	}
	c->rootfd = p->root_fd;
	if (p->root_path) {
		c->rootfd = mount_clone(AT_FDCWD, p->root_path, true, e);
		if (c->rootfd < 0)
			return err_in(e, "root.path");
	}
	if (p->root_cloned && p->propagation != MS_SHARED &&
	    mount_set_propagation(c->rootfd, p->propagation == MS_SLAVE ? MS_SLAVE : MS_PRIVATE, true, e) < 0)
		return -1;
	/* pivot_root refuses a parent that is shared. */
	if (!(c->rt->flags & RUNTIME_LEAN) && mount(NULL, "/", NULL, MS_PRIVATE, NULL) < 0)
		return err_sys(e, errno, "make / private");
	if (stack_root(c, e) < 0)
		return -1;
	return fchdir(c->rootfd) < 0 ? err_sys(e, errno, "enter the root file system") : 0;
}

static int do_mount(struct child *c, const struct plan_mount *m, struct err *e)
{
	switch (m->kind) {
	case PLAN_BIND:
		return do_bind(c, m, e);
	case PLAN_CGROUP:
		return do_cgroup(c, m, e);
	case PLAN_NEW:
		return do_new(c, m, e);
	}
	return 0;
}

int child_mounts(struct child *c, struct err *e)
{
	const struct plan *p = c->plan;

	if (attach_root(c, e) < 0 || set_names(c, e) < 0 || set_sysctls(c, e) < 0)
		return -1;
	for (size_t i = 0; i < p->nmounts; i++)
		if (do_mount(c, &p->mounts[i], e) < 0)
			return -1;
	if (make_devices(c, e) < 0 || (c->process->terminal && open_terminal(c, e) < 0) ||
	    finish_dev(c, e) < 0)
		return -1;
	if (p->process.cwd[1]) {
		auto_fd int cwd = place_try(c, p->process.cwd, true);

		if (cwd < 0 && errno == ENOENT && make_folders(c, p->process.cwd, 0755, e) < 0)
			return err_in(e, "process.cwd");
	}
	for (char *const *path = p->readonly; path && *path; path++)
		if (make_readonly(c, *path, e) < 0)
			return -1;
	prepare_mask(c);
	for (char *const *path = p->masked; path && *path; path++)
		if (mask(c, *path, e) < 0)
			return -1;
	return 0;
}

/* Each goes, the topmost of a place first; one that a user namespace may not unmount is covered. */
static int hide_bare(const struct child *c, struct err *e)
{
	char *const *path = c->plan->bare;
	size_t n = strv_len(path);

	if (n && c->old_root_fd >= 0 && mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		return err_sys(e, errno, "make the old root our own");
	while (n-- > 0) {
		if (umount2(path[n], MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != ENOENT &&
		    mount("tmpfs", path[n], "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=4k") < 0)
			return err_sys(e, errno, "hide the caller's %s", path[n]);
	}
	return 0;
}

int child_pivot(struct child *c, struct err *e)
{
	const struct plan *p = c->plan;

	if (p->root_readonly && mount_change(c->rootfd, MOUNT_ATTR_RDONLY, 0, false, e) < 0)
		return err_in(e, "root.readonly");
	if (c->process->flags & CONTAINER_NO_PIVOT) {
		if (hide_bare(c, e) < 0)
			return -1;
		if (mount_move_onto(c->rootfd, AT_FDCWD, "/", e) < 0 && e->sys != EINVAL && e->sys != ELOOP)
			return -1;
		if (chroot(".") < 0)
			return err_sys(e, errno, "chroot");
	} else {
		if (syscall(SYS_pivot_root, ".", ".") < 0)
			return err_sys(e, errno, "pivot_root");
		if (c->old_root_fd >= 0 &&
		    (fchdir(c->old_root_fd) < 0 || mount(NULL, ".", NULL, MS_REC | MS_SLAVE, NULL) < 0))
			return err_sys(e, errno, "make the old root our own");
		if (umount2(".", MNT_DETACH) < 0)
			return err_sys(e, errno, "unmount the old root");
	}
	if (chdir("/") < 0)
		return err_sys(e, errno, "chdir /");
	if (p->propagation == MS_SHARED || p->propagation == MS_UNBINDABLE) {
		if (mount(NULL, "/", NULL, p->propagation | (p->propagation_tree ? MS_REC : 0), NULL) < 0)
			return err_sys(e, errno, "linux.rootfsPropagation");
	}
	return 0;
}
