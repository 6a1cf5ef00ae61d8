#include "runtime/container.h"

#include "base/fd.h"
#include "base/fs.h"
#include "base/str.h"
#include "kernel/caps.h"
#include "kernel/mount.h"
#include "runtime/stack.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static int open_proc(struct err *e)
{
	auto_fd int fd = fd_open(AT_FDCWD, "/proc", O_PATH | O_DIRECTORY, e);
	struct statfs st;

	if (fd < 0)
		return -1;
	if (fstatfs(fd, &st) < 0 || st.f_type != PROC_SUPER_MAGIC)
		return err_set(e, ERR_NOT_FOUND, "/proc is no procfs");
	return fd_take(&fd);
}

static int null_checked(int *fd, struct err *e)
{
	struct stat st;

	if (fstat(*fd, &st) < 0 || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3))
		return err_set(e, ERR_INVALID, "/dev/null is not the null device");
	return fd_take(fd);
}

/* Through a read-only mount (the lean namespace's, or one of its own), on which a device is written all the same: whoever
 * gets it as stdin cannot change the mode or the owner of the node that others use too. */
static int open_null(struct err *e)
{
	auto_fd int at = -1, fd = fd_open(AT_FDCWD, "/dev/null", O_RDWR, e);
	struct fd_path path;
	struct statvfs fs;

	if (fd < 0)
		return -1;
	if (fstatvfs(fd, &fs) < 0 || !(fs.f_flag & ST_RDONLY)) {
		at = mount_clone(AT_FDCWD, "/dev/null", false, e);
		/* Without rights on mounts there are none on the node either that could be handed on. */
		if (at < 0 && e->sys == EPERM && geteuid() != 0)
			return null_checked(&fd, e);
		fd_close(&fd);
		if (at < 0 || mount_change(at, MOUNT_ATTR_RDONLY, 0, false, e) < 0)
			return err_in(e, "/dev/null");
		fd = fd_open(AT_FDCWD, fd_path(&path, at), O_RDWR, e);
		fd_close_later(&at);
	}
	if (fd < 0)
		return -1;
	return null_checked(&fd, e);
}

int runtime_null(struct runtime *rt, struct err *e)
{
	if (rt->null_fd < 0)
		rt->null_fd = open_null(e);
	return rt->null_fd < 0 ? -1 : 0;
}

static int open_all(struct runtime *rt, struct err *e)
{
	rt->proc_fd = open_proc(e);
	if (rt->proc_fd < 0)
		return -1;
	rt->pidns_fd = fd_open(rt->proc_fd, "self/ns/pid", O_RDONLY, e);
	if (rt->pidns_fd < 0)
		return -1;
	rt->own_bounding = caps_own_bounding();
	return 0;
}

int runtime_open(struct runtime *rt, unsigned flags, struct err *e)
{
	struct cgroup_layout cgroups;

	return cgroup_layout_open(&cgroups, e) < 0 ? -1 : runtime_open_with(rt, &cgroups, flags, e);
}

int runtime_open_with(struct runtime *rt, const struct cgroup_layout *cgroups, unsigned flags, struct err *e)
{
	struct runtime r = { .cgroups = *cgroups, .proc_fd = -1, .pidns_fd = -1, .null_fd = -1,
			     .flags = flags };

	/* Before anything enters a container's pid namespace: nobody in there may read our memory or our
	 * fds (CVE-2016-9962). */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return err_sys(e, errno, "become non-dumpable");
	r.stack = mmap(NULL, RUNTIME_STACK_BYTES, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
	if (r.stack == MAP_FAILED)
		return err_sys(e, errno, "map a stack");
	if (open_all(&r, e) < 0) {
		runtime_close(&r);
		return -1;
	}
	*rt = r;
	return 0;
}

void runtime_close(struct runtime *rt)
{
	cgroup_layout_close(&rt->cgroups);
	fd_close(&rt->proc_fd);
	fd_close(&rt->pidns_fd);
	fd_close(&rt->null_fd);
	if (rt->stack)
		(void)munmap(rt->stack, RUNTIME_STACK_BYTES);
	rt->stack = NULL;
}

enum { SEALS = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE };

/* A copy in memory that nobody can write, for whom may not clone mounts. */
static int sealed_copy(struct err *e)
{
	auto_fd int from = fd_open(AT_FDCWD, "/proc/self/exe", O_RDONLY, e);
	auto_fd int to = memfd_create("knarr-oci", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	ssize_t n;

	if (from < 0)
		return -1;
	do {
		n = to < 0 ? -1 : sendfile(to, from, NULL, 1 << 30);
	} while (n > 0);
	if (n < 0 || fchmod(to, 0500) < 0 || fcntl(to, F_ADD_SEALS, SEALS) < 0)
		return err_sys(e, errno, "copy our own program");
	return fd_take(&to);
}

static bool is_sealed(void)
{
	auto_fd int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	int seals = fd < 0 ? -1 : fcntl(fd, F_GET_SEALS);

	return seals >= 0 && (seals & SEALS) == SEALS;
}

int runtime_self_protect(char *const *argv, char *const *envp, struct err *e)
{
	auto_fd int fd = -1;
	struct statvfs st;

	if (statvfs("/proc/self/exe", &st) < 0)
		return err_sys(e, errno, "stat our own program");
	if (st.f_flag & ST_RDONLY)
		return 0;
	fd = mount_clone(AT_FDCWD, "/proc/self/exe", false, e);
	if (fd < 0 && e->sys == EPERM) {
		if (is_sealed())
			return 0;
		fd = sealed_copy(e);
		if (fd < 0)
			return -1;
		(void)syscall(SYS_execveat, fd, "", argv, envp, AT_EMPTY_PATH);
		return err_sys(e, errno, "execute our own program's copy");
	}
	if (fd < 0 || mount_change(fd, MOUNT_ATTR_RDONLY, 0, false, e) < 0)
		return err_in(e, "clone our own program read-only");
	(void)syscall(SYS_execveat, fd, "", argv, envp, AT_EMPTY_PATH);
	return err_sys(e, errno, "execute our own program's clone");
}
