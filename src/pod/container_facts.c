#include "pod/container_facts.h"

#include "base/fs.h"
#include "kernel/caps.h"
#include "pod/container_spec_parts.h"
#include "pod/seccomp_profile.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { SMALL_FILE_MAX = 64 << 10, USERS_FILE_MAX = 1 << 20, DEVICES_MAX = 4096, DEVICE_DEPTH_MAX = 8 };

static bool exists(const char *path)
{
	return access(path, F_OK) == 0;
}

static bool file_begins(struct arena *a, const char *path, const char *with)
{
	struct err ignored;
	struct str text;

	return fs_read_file(a, AT_FDCWD, path, SMALL_FILE_MAX, &text, &ignored) == 0 && str_starts(text, with);
}

/* Whether v1's controller of this name is on (/proc/cgroups: name, hierarchy, groups, enabled). */
static bool v1_has(struct arena *a, const char *controller)
{
	struct err ignored;
	struct str text;

	if (fs_read_file(a, AT_FDCWD, "/proc/cgroups", SMALL_FILE_MAX, &text, &ignored) < 0)
		return false;
	while (text.p) {
		struct str line = str_cut(&text, '\n'), name = str_cut(&line, '\t');

		if (str_eqz(name, controller))
			return line.len > 0 && line.p[line.len - 1] == '1' && line.p[0] != '0';
	}
	return false;
}

static bool v2_has(struct arena *a, const char *controller)
{
	struct err ignored;
	struct str text;

	if (fs_read_file(a, AT_FDCWD, "/sys/fs/cgroup/cgroup.controllers", SMALL_FILE_MAX, &text, &ignored) < 0)
		return false;
	for (struct str rest = str_trim(text); rest.p;) {
		if (str_eqz(str_cut(&rest, ' '), controller))
			return true;
	}
	return false;
}

static void read_cgroups(struct arena *a, struct container_facts *f)
{
	struct statfs fs;

	f->cgroup_v2 = statfs("/sys/fs/cgroup", &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC;
	if (f->cgroup_v2) {
		f->hugetlb_supported = v2_has(a, "hugetlb");
		f->swap_supported = v2_has(a, "memory") && exists("/proc/swaps");
		return;
	}
	f->hugetlb_supported = v1_has(a, "hugetlb");
	f->swap_supported = exists("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes");
}

static int read_capabilities(struct arena *a, char ***out, struct err *e)
{
	struct str text;
	uint64_t last, own = caps_own_bounding();
	size_t n = 0;
	char **names = arena_newn0(a, char *, CAPABILITY_COUNT + 1);

	if (fs_read_file(a, AT_FDCWD, "/proc/sys/kernel/cap_last_cap", SMALL_FILE_MAX, &text, e) < 0 ||
	    str_to_u64(str_trim(text), &last, e) < 0)
		return -1;
	/* What is not ours to give away is as if the kernel did not know it; other runtimes would fail. */
	for (size_t i = 0; i < CAPABILITY_COUNT && i <= last; i++)
		if (own >> i & 1)
			names[n++] = capability_names[i];
	*out = names;
	return 0;
}

/* overlayfs takes idmapped layers since 5.19. */
static bool has_userns(struct arena *a, const struct container_facts *f)
{
	struct err ignored;
	struct str text;
	uint64_t most;

	if (f->kernel_major < 5 || (f->kernel_major == 5 && f->kernel_minor < 19) || !exists("/proc/self/ns/user"))
		return false;
	return fs_read_file(a, AT_FDCWD, "/proc/sys/user/max_user_namespaces", SMALL_FILE_MAX, &text, &ignored) == 0 &&
	       str_to_u64(str_trim(text), &most, &ignored) == 0 && most > 0;
}

int container_facts_read(struct arena *a, struct container_facts *out, struct err *e)
{
	struct container_facts f = { 0 };
	struct utsname host;

	if (read_capabilities(a, &f.capabilities, e) < 0)
		return -1;
	if (uname(&host) < 0)
		return err_sys(e, errno, "uname");
	if (sscanf(host.release, "%5u.%5u", &f.kernel_major, &f.kernel_minor) != 2)
		return err_set(e, ERR_SYSTEM, "the kernel's release \"%s\" has no version", host.release);
	f.hostname = arena_strdup(a, host.nodename);
	f.userns_supported = has_userns(a, &f);
	f.seccomp_supported = exists("/proc/sys/kernel/seccomp/actions_avail");
	f.apparmor_supported = file_begins(a, "/sys/module/apparmor/parameters/enabled", "Y");
	f.selinux_supported = exists("/sys/fs/selinux/status");
	read_cgroups(a, &f);
	*out = f;
	return 0;
}

static int read_users_file(struct arena *a, int rootfd, const char *path, struct str *out, struct err *e)
{
	struct stat st;
	struct fd_path name;
	auto_fd int at = path_open_in_root(rootfd, path, O_PATH, 0, e), fd = -1;
	auto_buf bytes = BUF(USERS_FILE_MAX);

	*out = (struct str){ 0 };
	/* Not there, or a link that leads nowhere: an image without users. */
	if (at < 0)
		return e->kind == ERR_NOT_FOUND || e->sys == ENOTDIR || e->sys == ELOOP ? (err_clear(e), 0) : -1;
	if (fstat(at, &st) < 0)
		return err_sys(e, errno, "the image's %s", path);
	/* Looked at before it is opened: with some devices (a watchdog, a tape) that is an act. */
	if (!S_ISREG(st.st_mode))
		return 0;
	fd = fd_open(AT_FDCWD, fd_path(&name, at), O_RDONLY, e);
	if (fd < 0)
		return err_in(e, "the image's %s", path);
	if (fd_read_to_end(fd, &bytes, e) < 0)
		return err_in(e, "the image's %s", path);
	*out = (struct str){ arena_strndup(a, buf_text(&bytes), bytes.len), bytes.len };
	return 0;
}

int container_facts_users(struct arena *a, int rootfd, struct container_spec_input *in, struct err *e)
{
	if (read_users_file(a, rootfd, "/etc/passwd", &in->passwd, e) < 0)
		return -1;
	return read_users_file(a, rootfd, "/etc/group", &in->group, e);
}

struct devices {
	struct arena *a;
	struct container_spec_device *v;
	size_t n;
};

static void device_add(struct devices *all, char *path, char *access_rights, const struct stat *st)
{
	if (all->n == DEVICES_MAX)
		return;
	all->v[all->n++] = (struct container_spec_device){
		.path = path, .access = access_rights, .type = S_ISBLK(st->st_mode) ? 'b' : 'c',
		.major = major(st->st_rdev), .minor = minor(st->st_rdev), .file_mode = st->st_mode & 07777,
		.uid = st->st_uid, .gid = st->st_gid,
	};
}

/* Folders of /dev with what a container has of its own or must not have. */
static bool is_skipped(const char *name)
{
	static const char *const skipped[] = {
		"pts", "shm", "fd", "mqueue", "console", "ptmx", ".lxc", ".lxd-mounts", ".udev", "core", "stdin",
		"stdout", "stderr", "initctl", "log",
	};

	for (size_t i = 0; i < ARRAY_SIZE(skipped); i++) {
		if (streq(skipped[i], name))
			return true;
	}
	return false;
}

/* All devices in a folder, links not followed. */
static void devices_in(struct devices *all, int dirfd, const char *path, char *access_rights, unsigned depth)
{
	struct err ignored;
	int fd = fd_open(dirfd, ".", O_RDONLY | O_DIRECTORY, &ignored);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!dir) {
		fd_close(&fd);
		return;
	}
	while ((entry = readdir(dir))) {
		char *name = arena_printf(all->a, "%s/%s", path, entry->d_name);
		struct stat st;

		if (entry->d_name[0] == '.' || is_skipped(entry->d_name) ||
		    fstatat(dirfd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) {
			device_add(all, name, access_rights, &st);
		} else if (S_ISDIR(st.st_mode) && depth < DEVICE_DEPTH_MAX) {
			auto_fd int sub = fd_open(dirfd, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW,
						  &ignored);

			if (sub >= 0)
				devices_in(all, sub, name, access_rights, depth + 1);
		}
	}
	(void)closedir(dir); /* only read */
}

static int wished_device(struct devices *all, const struct config_device *d, struct err *e)
{
	struct stat st;
	char *inside = path_clean(all->a, str_is_empty(d->container_path) ? d->host_path : d->container_path);
	auto_fd int dir = -1;

	if (str_is_empty(d->host_path) || d->host_path[0] != '/')
		return err_set(e, ERR_INVALID, "device \"%s\": host_path is not absolute",
			       d->host_path ? d->host_path : "");
	if (stat(d->host_path, &st) < 0)
		return err_sys(e, errno, "device %s", d->host_path);
	if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) {
		device_add(all, inside, d->permissions, &st);
		return 0;
	}
	if (!S_ISDIR(st.st_mode))
		return err_set(e, ERR_INVALID, "device %s: neither a device nor a folder of them", d->host_path);
	dir = fd_open(AT_FDCWD, d->host_path, O_RDONLY | O_DIRECTORY, e);
	if (dir < 0)
		return -1;
	devices_in(all, dir, inside, d->permissions, 0);
	return 0;
}

static struct devices devices_begin(struct arena *a)
{
	return (struct devices){ .a = a, .v = arena_newn0(a, struct container_spec_device, DEVICES_MAX) };
}

int container_facts_devices(struct arena *a, struct container_spec_input *in, struct err *e)
{
	if (in->config->devices.count > 0) {
		struct devices wished = devices_begin(a);

		OCI_EACH(config_device, d, in->config->devices) {
			if (wished_device(&wished, d, e) < 0)
				return -1;
		}
		in->devices = wished.v;
		in->ndevices = wished.n;
	}
	if (in->config->privileged) {
		struct devices host = devices_begin(a);
		auto_fd int dev = fd_open(AT_FDCWD, "/dev", O_RDONLY | O_DIRECTORY, e);

		if (dev < 0)
			return -1;
		devices_in(&host, dev, "/dev", NULL, 0);
		in->host_devices = host.v;
		in->nhost_devices = host.n;
	}
	return 0;
}

int container_facts_seccomp(struct arena *a, const char *dir, struct container_spec_input *in, struct err *e)
{
	const struct config_profile *wish = in->config->seccomp;
	const char *path;

	if (!wish || wish->type != CONFIG_PROFILE_LOCALHOST || in->config->privileged)
		return 0;
	if (str_is_empty(wish->localhost))
		return err_set(e, ERR_INVALID, "seccomp: localhost_ref is empty");
	path = wish->localhost[0] == '/' ? wish->localhost : path_join(a, dir, wish->localhost);
	if (fs_read_file(a, AT_FDCWD, path, SECCOMP_PROFILE_MAX, &in->seccomp, e) < 0)
		return err_in(e, "seccomp profile");
	return 0;
}
