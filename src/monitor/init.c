/* PID 1 of a pod's shared PID namespace: reaps what others leave, and ends with its parent. The pod's
 * containers see it, and one with CAP_SYS_PTRACE may look into it and trace it. So there is nothing in
 * it: no fd, no file system but an empty one, no capability, and a filter that leaves it two calls. */
#include "monitor/state.h"

#include "kernel/caps.h"
#include "kernel/mount.h"
#include "kernel/seccomp.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* The masks' file system serves as the root where there is one. */
static int root_make(const struct pod *p, struct err *e)
{
	static const char *const options[] = { "size=4k", "nr_inodes=2", "mode=555", NULL };
	auto_fd int root = -1;

	/* In a user namespace a mount that came along cannot be had alone. */
	if (p->runtime.flags & RUNTIME_LEAN && p->pod_userns < 0)
		return chdir("/" RUNTIME_LEAN_MASK) < 0 ? err_sys(e, errno, "enter the empty folder") : 0;
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_sys(e, errno, "make the mounts private");
	root = mount_detached("tmpfs", options, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC, e);
	if (root < 0 || mount_move_onto(root, AT_FDCWD, "/", e) < 0)
		return -1;
	return fchdir(root) < 0 ? err_sys(e, errno, "enter the empty folder") : 0;
}

static int root_enter(const struct pod *p, struct err *e)
{
	if (root_make(p, e) < 0)
		return -1;
	if (syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return err_sys(e, errno, "leave the file systems (pivot_root, umount2)");
	return 0;
}

static int filter_load(struct err *e)
{
	char *const names[] = { (char *)"rt_sigtimedwait", (char *)"wait4", (char *)"restart_syscall", NULL };
	const struct seccomp_rule rule = { .names = names, .action = SECCOMP_RET_ALLOW };
	const struct seccomp_profile profile = { .default_action = SECCOMP_RET_ERRNO | EPERM, .rules = &rule,
						 .nrules = 1 };
	struct seccomp_filter filter;
	auto_arena a = { 0 };

	if (seccomp_compile(&a, &profile, &filter, e) < 0)
		return -1;
	return seccomp_load(&filter, 0, e);
}

enum { TELL_FD = 0 };

static int confine(const struct pod *p, int tell, struct err *e)
{
	static const struct caps none;
	uint64_t all = p->pod_userns < 0 ? p->runtime.own_bounding : caps_all();

	if (dup2(tell, TELL_FD) < 0 || syscall(SYS_close_range, TELL_FD + 1, ~0u, 0) < 0)
		return err_sys(e, errno, "close all fds (close_range)");
	if (root_enter(p, e) < 0 || caps_drop_bounding(all, 0, e) < 0 || caps_set(&none, e) < 0)
		return -1;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0) < 0 ||
	    prctl(PR_SET_NAME, "knarr-init") < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return err_sys(e, errno, "prctl");
	return 0;
}

NORETURN static void init_main(const struct pod *p, int tell)
{
	struct err e;
	sigset_t set;

	err_clear(&e);
	(void)confine(p, tell, &e);
	/* A parent that ended before the kernel knew that we follow it hears nothing any more. */
	if (write(TELL_FD, &e, sizeof(e)) != sizeof(e) || e.kind != ERR_NONE || close(TELL_FD) < 0 ||
	    filter_load(&e) < 0)
		_exit(1);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	for (;;) {
		siginfo_t info;

		(void)sigwaitinfo(&set, &info);
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	}
}

static pid_t init_clone(const struct pod *p, int tell, struct err *e)
{
	struct clone_args args = { .flags = CLONE_NEWPID | CLONE_NEWNS, .exit_signal = SIGCHLD };
	long pid = syscall(SYS_clone3, &args, sizeof(args));

	if (pid == 0)
		init_main(p, tell);
	return pid < 0 ? err_sys(e, errno, "clone3") : (pid_t)pid;
}

/* The last words are those of the init where there is one. */
NORETURN static void init_clone_in_userns(const struct pod *p, int tell, pid_t *init)
{
	struct clone_args args = { .flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_PARENT | CLONE_PARENT_SETTID,
				   .parent_tid = (uint64_t)(uintptr_t)init };
	struct err e;
	long pid;

	err_clear(&e);
	if (userns_enter(p->pod_userns, &e) == 0) {
		pid = syscall(SYS_clone3, &args, sizeof(args));
		if (pid == 0)
			init_main(p, tell);
		if (pid > 0)
			_exit(0);
		err_sys(&e, errno, "clone3");
	}
	_exit(write(tell, &e, sizeof(e)) != sizeof(e));
}

/* One that the pod's user namespace owns is made by a process in that, whose sibling the init is. */
static pid_t init_clone_owned(const struct pod *p, int tell, struct err *e)
{
	pid_t *init = mmap(NULL, sizeof(*init), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), made;
	struct clone_args args = { .exit_signal = SIGCHLD };
	long pid;

	if (init == MAP_FAILED)
		return err_sys(e, errno, "map a page");
	pid = syscall(SYS_clone3, &args, sizeof(args));
	if (pid == 0)
		init_clone_in_userns(p, tell, init);
	if (pid > 0)
		while (waitpid((pid_t)pid, NULL, 0) < 0 && errno == EINTR)
			;
	made = *init;
	(void)munmap(init, sizeof(*init)); /* ours since a moment */
	return pid < 0 ? err_sys(e, errno, "clone3") : made;
}

int init_start(struct pod *p, struct err *e)
{
	auto_fd int answer = -1, tell = -1;
	struct err said;
	char path[64];

	if (fd_pipe(&answer, &tell, e) < 0)
		return -1;
	p->init_pid = p->pod_userns < 0 ? init_clone(p, tell, e) : init_clone_owned(p, tell, e);
	if (p->init_pid < 0)
		return err_in(e, "make the PID namespace of pod %s", p->id);
	fd_close(&tell);
	/* Nobody may join before it is confined. */
	if (fd_read_full(answer, &said, sizeof(said), e) < 0)
		return err_in(e, "the init of pod %s", p->id);
	if (said.kind != ERR_NONE) {
		*e = said;
		return err_in(e, "the init of pod %s", p->id);
	}
	(void)snprintf(path, sizeof(path), "/proc/%d/ns/pid", p->init_pid);
	p->pod_pidns = fd_open(AT_FDCWD, path, O_RDONLY, e);
	return p->pod_pidns < 0 ? -1 : 0;
}
