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

	if (p->runtime.flags & RUNTIME_LEAN)
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

	if (dup2(tell, TELL_FD) < 0 || syscall(SYS_close_range, TELL_FD + 1, ~0u, 0) < 0)
		return err_sys(e, errno, "close all fds (close_range)");
	if (root_enter(p, e) < 0 || caps_drop_bounding(p->runtime.own_bounding, 0, e) < 0 || caps_set(&none, e) < 0)
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

int init_start(struct pod *p, struct err *e)
{
	struct clone_args args = { .flags = CLONE_NEWPID | CLONE_NEWNS, .exit_signal = SIGCHLD };
	auto_fd int answer = -1, tell = -1;
	struct err said;
	char path[64];
	long pid;

	if (fd_pipe(&answer, &tell, e) < 0)
		return -1;
	pid = syscall(SYS_clone3, &args, sizeof(args));
	if (pid < 0)
		return err_sys(e, errno, "make the PID namespace of pod %s (clone3)", p->id);
	if (pid == 0)
		init_main(p, tell);
	p->init_pid = (pid_t)pid;
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
