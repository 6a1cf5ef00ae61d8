#include "kernel/clone.h"

#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A child leaves its stack by exec, never by return: what AddressSanitizer noted of its frames would
 * stop the next child there. */
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#endif

/* The child begins on another stack, so it cannot return from here: it calls fn at once. */
static long raw_clone3(struct clone_args *args, size_t size, void (*fn)(void *), void *arg)
{
#if defined(__x86_64__)
	long ret;

	__asm__ volatile("syscall\n\t"
			 "test %%rax, %%rax\n\t"
			 "jnz 1f\n\t"
			 "xor %%ebp, %%ebp\n\t"
			 "mov %[arg], %%rdi\n\t"
			 "call *%[fn]\n\t"
			 "hlt\n"
			 "1:"
			 : "=a"(ret)
			 : "a"(SYS_clone3), "D"(args), "S"(size), [fn] "r"(fn), [arg] "r"(arg)
			 : "rcx", "r11", "memory", "cc");
	return ret;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = SYS_clone3;
	register long x0 __asm__("x0") = (long)args;
	register long x1 __asm__("x1") = (long)size;

	__asm__ volatile("svc #0\n\t"
			 "cbnz x0, 1f\n\t"
			 "mov x29, #0\n\t"
			 "mov x0, %[arg]\n\t"
			 "blr %[fn]\n\t"
			 "brk #1\n"
			 "1:"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), [fn] "r"(fn), [arg] "r"(arg)
			 : "memory", "cc", "x30");
	return x0;
#else
#error "clone3: this architecture is not known"
#endif
}

pid_t clone_run(const struct clone_spec *s, void (*fn)(void *), void *arg, int *pidfd, struct err *e)
{
	int fd = -1;
	struct clone_args args = {
		.flags = s->namespaces | CLONE_PIDFD | CLONE_CLEAR_SIGHAND |
			 (s->flags & CLONE_SHARE ? CLONE_VM | CLONE_VFORK : 0) |
			 (s->cgroup_fd >= 0 ? CLONE_INTO_CGROUP : 0),
		.pidfd = (uint64_t)(uintptr_t)&fd,
		.exit_signal = SIGCHLD,
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
	pid = raw_clone3(&args, sizeof(args), fn, arg);
	(void)sigprocmask(SIG_SETMASK, &old, NULL);
	if (pid < 0)
		return err_sys(e, (int)-pid, "clone a process (namespaces %#llx)",
			       (unsigned long long)s->namespaces);
	*pidfd = fd;
	return (pid_t)pid;
}
