/* The program and the mount namespace that monitors are started from. */
#include "monitor/client.h"

#include "base/fd.h"
#include "runtime/container.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- the file ------------------------------------------------------------------------------------------ */

/* Whether the program needs a dynamic linker, which a lean mount namespace has not. */
static int program_is_dynamic(int fd, const char *path, bool *dynamic, struct err *e)
{
	Elf64_Ehdr head;
	Elf64_Phdr part;

	*dynamic = false;
	if (pread(fd, &head, sizeof(head), 0) != (ssize_t)sizeof(head) ||
	    memcmp(head.e_ident, ELFMAG, SELFMAG) != 0)
		return err_set(e, ERR_INVALID, "%s is no program", path);
	for (unsigned i = 0; i < head.e_phnum; i++) {
		off_t at = (off_t)(head.e_phoff + i * (uint64_t)head.e_phentsize);

		if (pread(fd, &part, sizeof(part), at) != (ssize_t)sizeof(part))
			return err_set(e, ERR_INVALID, "%s is cut short", path);
		*dynamic |= part.p_type == PT_INTERP;
	}
	return 0;
}

/* A mount of the file alone, read-only: a container that gets hold of /proc/PID/exe cannot write to
 * the program. */
static int program_clone(const char *path, struct err *e)
{
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV };
	auto_fd int fd = (int)syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	if (fd < 0)
		return err_sys(e, errno, "clone the mount of %s (open_tree)", path);
	if (syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
		return err_sys(e, errno, "make the mount of %s read-only (mount_setattr)", path);
	return fd_take(&fd);
}

/* --- the namespace ---------------------------------------------------------------------------------------- */

static const char *lean_failed; /* which call, where several make one thing; in the child only */

static int failed_at(const char *call)
{
	lean_failed = call;
	return -1;
}

static int detached(const char *type, const char *mode, unsigned attr)
{
	int fs = (int)syscall(SYS_fsopen, type, FSOPEN_CLOEXEC), mnt, saved;

	if (fs < 0)
		return failed_at("make tmpfs and proc (fsopen)");
	if ((mode && syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "mode", mode, 0) < 0) ||
	    syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return failed_at("make tmpfs and proc (fsconfig)");
	mnt = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attr);
	saved = errno;
	fd_close(&fs);
	errno = saved;
	return mnt < 0 ? failed_at("make tmpfs and proc (fsmount)") : mnt;
}

static int attach(int mnt, int dir, const char *path)
{
	return (int)syscall(SYS_move_mount, mnt, "", dir, path, MOVE_MOUNT_F_EMPTY_PATH);
}

static int devices_make(int dev)
{
	static const struct {
		const char *name;
		unsigned major, minor;
	} all[] = { { "null", 1, 3 },   { "zero", 1, 5 },    { "full", 1, 7 },
		    { "random", 1, 8 }, { "urandom", 1, 9 }, { "tty", 5, 0 } };

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		if (mknodat(dev, all[i].name, S_IFCHR | 0666, makedev(all[i].major, all[i].minor)) < 0)
			return -1;
	return 0;
}

/* What hides the masked paths of all containers: an empty folder and an empty file on one file system that
 * cannot be written, since each one mounted makes every new memory cgroup dearer. */
static int mask_make(void)
{
	int mnt = detached("tmpfs", "755", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	struct mount_attr readonly = { .attr_set = MOUNT_ATTR_RDONLY };
	int fs, file;

	if (mnt < 0)
		return -1;
	file = mkdirat(mnt, "dir", 0555) < 0 ? -1 : openat(mnt, "file", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
	if (file < 0 || close(file) < 0)
		return failed_at("make what hides masked paths");
	if (syscall(SYS_mount_setattr, mnt, "", AT_EMPTY_PATH, &readonly, sizeof(readonly)) < 0)
		return failed_at("make a mount read-only (mount_setattr)");
	fs = (int)syscall(SYS_fspick, mnt, "", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH);
	if (fs < 0)
		return failed_at("make a file system read-only (fspick)");
	if (syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, "ro", NULL, 0) < 0 ||
	    syscall(SYS_fsconfig, fs, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0) < 0)
		return failed_at("make a file system read-only (fsconfig)");
	return mnt;
}

/* In the child: system calls only, since its parent has threads. The name of the failed step, or
 * NULL. */
static const char *lean_build(void)
{
	struct mount_attr readonly = { .attr_set = MOUNT_ATTR_RDONLY };
	int root, proc, dev, cgroups, mask;

	if (unshare(CLONE_NEWNS) < 0)
		return "unshare";
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return "make the mounts private (mount)";
	/* A container's /sys/fs/cgroup is cloned from here, by path. */
	cgroups = (int)syscall(SYS_open_tree, AT_FDCWD, "/sys/fs/cgroup",
			       OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
	root = detached("tmpfs", "755", MOUNT_ATTR_NOSUID);
	proc = root < 0 ? -1 : detached("proc", NULL, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	mask = proc < 0 ? -1 : mask_make();
	if (mask < 0)
		return lean_failed;
	if (mkdirat(root, "proc", 0555) < 0 || mkdirat(root, "dev", 0755) < 0 ||
	    mkdirat(root, RUNTIME_LEAN_MASK, 0555) < 0)
		return "make folders";
	dev = openat(root, "dev", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dev < 0 || devices_make(dev) < 0)
		return "make devices (mknod)";
	if (cgroups >= 0 && (mkdirat(root, "sys", 0555) < 0 || mkdirat(root, "sys/fs", 0555) < 0 ||
			     mkdirat(root, "sys/fs/cgroup", 0555) < 0))
		return "make folders";
	if (attach(root, AT_FDCWD, "/") < 0 || attach(proc, root, "proc") < 0 ||
	    attach(mask, root, RUNTIME_LEAN_MASK) < 0 ||
	    (cgroups >= 0 && attach(cgroups, root, "sys/fs/cgroup") < 0))
		return "attach tmpfs and proc (move_mount)";
	if (fchdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
		return "pivot_root";
	if (umount2(".", MNT_DETACH) < 0)
		return "detach the host's mounts (umount2)";
	/* Whoever gets /dev/null as its stdin cannot change the node. */
	if (syscall(SYS_mount_setattr, root, "", AT_EMPTY_PATH, &readonly, sizeof(readonly)) < 0)
		return "make the root read-only (mount_setattr)";
	return NULL;
}

struct lean_report {
	char step[60];
	int error;
};

/* Whatever becomes of knarrd, this process ends with it and keeps none of its locks. */
static const char *lean_lonely(int answer, pid_t parent)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return "prctl";
	if (getppid() != parent)
		_exit(1);
	if ((answer > 0 && syscall(SYS_close_range, 0, answer - 1, 0) < 0) ||
	    syscall(SYS_close_range, answer + 1, ~0u, 0) < 0)
		return "close_range";
	return NULL;
}

NORETURN static void lean_child(int answer, pid_t parent)
{
	struct lean_report report = { .error = 0 };
	const char *failed = lean_lonely(answer, parent);

	(void)umask(0);
	if (!failed)
		failed = lean_build();
	if (failed) {
		report.error = errno;
		for (size_t i = 0; failed[i] && i < sizeof(report.step) - 1; i++)
			report.step[i] = failed[i];
	}
	(void)!write(answer, &report, sizeof(report));
	for (;;)
		(void)pause(); /* until killed: the namespace must be there to be opened */
}

static int lean_open(struct err *e)
{
	struct clone_args args = { .exit_signal = SIGCHLD };
	auto_fd int answer = -1, tell = -1;
	struct lean_report report;
	pid_t parent = getpid();
	char path[64];
	int ns = -1;
	long pid;

	if (fd_pipe(&answer, &tell, e) < 0)
		return -1;
	pid = syscall(SYS_clone3, &args, sizeof(args));
	if (pid < 0)
		return err_sys(e, errno, "clone3 for a lean mount namespace");
	if (pid == 0)
		lean_child(tell, parent);
	fd_close(&tell);
	(void)snprintf(path, sizeof(path), "/proc/%ld/ns/mnt", pid);
	if (fd_read_full(answer, &report, sizeof(report), e) == 0) {
		if (report.error)
			err_sys(e, report.error, "%s", report.step);
		else
			ns = fd_open(AT_FDCWD, path, O_RDONLY, e);
	}
	(void)kill((pid_t)pid, SIGKILL); /* our child, not reaped yet */
	while (waitpid((pid_t)pid, NULL, 0) < 0 && errno == EINTR)
		;
	return ns < 0 ? err_in(e, "lean mount namespace") : ns;
}

int monitor_program_open(const char *path, const struct cgroup_layout *cgroups, struct monitor_program *out,
			 struct err *e)
{
	auto_fd int fd = fd_open(AT_FDCWD, path, O_RDONLY, e), clone_fd = -1, ns = -1;
	bool dynamic;

	if (fd < 0 || program_is_dynamic(fd, path, &dynamic, e) < 0)
		return -1;
	clone_fd = program_clone(path, e);
	if (clone_fd < 0)
		return -1;
	if (!dynamic && (ns = lean_open(e)) < 0)
		return -1;
	*out = (struct monitor_program){
		.exec_fd = fd_take(&clone_fd),
		.lean_mount_ns_fd = fd_take(&ns),
		.cgroups = cgroups,
	};
	return 0;
}

void monitor_program_close(struct monitor_program *p)
{
	fd_close(&p->exec_fd);
	fd_close(&p->lean_mount_ns_fd);
}
