#include "kernel/clone.h"

#include "base/clone3.h"

#include <errno.h>
#include <linux/sched.h>
#include <signal.h>

/* A child leaves its stack by exec, never by return: what AddressSanitizer noted of its frames would
 * stop the next child there. */
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#endif

pid_t clone_run(const struct clone_spec *s, void (*fn)(void *), void *arg, int *pidfd, struct err *e)
{
	int fd = -1;
	struct clone_args args = {
		.flags = s->namespaces | CLONE_PIDFD | CLONE_CLEAR_SIGHAND |
			 (s->flags & CLONE_SHARE ? CLONE_VM | CLONE_VFORK : 0) |
			 (s->flags & CLONE_SIBLING ? CLONE_PARENT : 0) | (s->pid_at ? CLONE_PARENT_SETTID : 0) |
			 (s->cgroup_fd >= 0 ? CLONE_INTO_CGROUP : 0),
		.pidfd = (uint64_t)(uintptr_t)&fd,
		.parent_tid = (uint64_t)(uintptr_t)s->pid_at,
		.exit_signal = s->flags & CLONE_SIBLING ? 0 : SIGCHLD,
		.stack = (uint64_t)(uintptr_t)s->stack,
		.stack_size = s->stack_bytes,
		.cgroup = s->cgroup_fd >= 0 ? (uint64_t)s->cgroup_fd : 0,
	};
	sigset_t all, old;
	long pid;

	if (s->stack)
		ASAN_UNPOISON_MEMORY_REGION(s->stack, s->stack_bytes);
	sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, &old);
	pid = clone3_call(&args, sizeof(args), fn, arg);
	(void)sigprocmask(SIG_SETMASK, &old, NULL);
	if (pid < 0)
		return err_sys(e, (int)-pid, "clone a process (namespaces %#llx)",
			       (unsigned long long)s->namespaces);
	*pidfd = fd;
	return (pid_t)pid;
}
