#include "base/proc.h"

#include "base/buf.h"
#include "base/clone3.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CHILD_STACK_BYTES = 64 * 1024, FD_PARK = 400 };

/* What the child and its parent share while the parent is suspended (CLONE_VFORK|CLONE_VM). */
struct child {
	const struct proc_spec *spec;
	pid_t parent;
	const char *failed; /* the step that failed, NULL so far */
	int failed_errno;
};

/* The child leaves by exec, never by return: what AddressSanitizer had noted of its frames would stay
 * with the addresses, and be found by the next child whose stack lies there. */
#define CHILD_STACK __attribute__((no_sanitize("address"), no_sanitize("thread")))

CHILD_STACK static int child_fail(struct child *c, const char *what)
{
	c->failed = what;
	c->failed_errno = errno;
	_exit(127);
}

/* Moves every fd first far up, then down to its number, so that none overwrites another. */
CHILD_STACK static void child_fds(struct child *c)
{
	const struct proc_spec *s = c->spec;
	int std[3] = { s->std_in, s->std_out, s->std_err };
	int parked[PROC_FDS_MAX + 4], keep_exec = s->file ? -1 : s->exec_fd;
	int highest = 2;

	for (int i = 0; i < 3; i++) {
		/* The bare call: ThreadSanitizer would take the fd for one of the parent's. */
		int from = std[i] >= 0 ? std[i] : (int)syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC);

		parked[i] = from < 0 ? -1 : fcntl(from, F_DUPFD_CLOEXEC, FD_PARK);
		if (parked[i] < 0)
			child_fail(c, "dup");
	}
	for (size_t i = 0; i < s->nfds; i++) {
		parked[3 + i] = fcntl(s->fds[i].from, F_DUPFD_CLOEXEC, FD_PARK);
		if (parked[3 + i] < 0)
			child_fail(c, "dup");
		highest = MAX(highest, s->fds[i].to);
	}
	if (keep_exec >= 0 && (keep_exec = fcntl(keep_exec, F_DUPFD_CLOEXEC, FD_PARK)) < 0)
		child_fail(c, "dup");
	if (s->mount_ns_fd >= 0 && setns(s->mount_ns_fd, CLONE_NEWNS) < 0)
		child_fail(c, "setns");
	for (size_t i = 0; i < s->nns_fds; i++)
		if (setns(s->ns_fds[i], 0) < 0)
			child_fail(c, "setns");
	for (int i = 0; i < 3; i++)
		if (dup2(parked[i], i) < 0)
			child_fail(c, "dup2");
	for (size_t i = 0; i < s->nfds; i++)
		if (dup2(parked[3 + i], s->fds[i].to) < 0)
			child_fail(c, "dup2");
	if (syscall(SYS_close_range, highest + 1, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
		child_fail(c, "close_range");
	if (s->file == NULL)
		((struct proc_spec *)s)->exec_fd = keep_exec;
}

/* In the mount namespace that we come from, which has /proc. */
CHILD_STACK static void child_oom_score(struct child *c)
{
	int fd = (int)syscall(SYS_openat, AT_FDCWD, "/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || syscall(SYS_write, fd, "0", 1) < 0)
		child_fail(c, "oom_score_adj");
	(void)syscall(SYS_close, fd);
}

CHILD_STACK static void child_main(void *arg)
{
	struct child *c = arg;
	const struct proc_spec *s = c->spec;
	char *const no_env[] = { NULL };
	char *const *envp = s->envp ? s->envp : no_env;
	struct sigaction dfl = { .sa_handler = SIG_DFL };
	sigset_t none;

	if (s->parent_death_signal && prctl(PR_SET_PDEATHSIG, s->parent_death_signal) < 0)
		child_fail(c, "prctl");
	/* From a PID namespace of its own a child cannot see its parent. */
	if (s->parent_death_signal && !(s->new_namespaces & CLONE_NEWPID) && getppid() != c->parent)
		_exit(127); /* it died before the kernel knew that we wanted to follow */
	if (s->flags & PROC_NEW_SESSION && setsid() < 0)
		child_fail(c, "setsid");
	if (s->flags & PROC_NEW_MOUNT_NS && unshare(CLONE_NEWNS) < 0)
		child_fail(c, "unshare");
	if (s->flags & PROC_OOM_SCORE_ZERO)
		child_oom_score(c);
	child_fds(c);
	if (!(s->flags & PROC_KEEP_CWD) && chdir(s->cwd ? s->cwd : "/") < 0)
		child_fail(c, "chdir");
	for (int sig = 1; sig < NSIG; sig++)
		(void)sigaction(sig, &dfl, NULL); /* SIGKILL and SIGSTOP refuse: they cannot be set anyway */
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	if (s->file)
		(void)execve(s->file, s->argv, envp);
	else
		(void)syscall(SYS_execveat, s->exec_fd, "", s->argv, envp, AT_EMPTY_PATH);
	child_fail(c, s->file ? "exec" : "execveat");
}

static int spawn_on_stack(struct proc_spec *spec, char *stack, struct proc *out, struct err *e)
{
	struct child c = { .spec = spec, .parent = getpid() };
	int pidfd = -1;
	struct clone_args args = {
		.flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | (uint64_t)spec->new_namespaces |
			 (spec->cgroup_fd >= 0 ? CLONE_INTO_CGROUP : 0),
		.pidfd = (uint64_t)(uintptr_t)&pidfd,
		.exit_signal = SIGCHLD,
		.stack = (uint64_t)(uintptr_t)stack,
		.stack_size = CHILD_STACK_BYTES,
		.cgroup = spec->cgroup_fd >= 0 ? (uint64_t)spec->cgroup_fd : 0,
	};
	sigset_t all, old;
	long pid;

	/* No handler of ours may run in the child while it shares our memory. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pid = clone3_call(&args, sizeof(args), child_main, &c);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (pid < 0)
		return err_sys(e, (int)-pid, "clone3 for %s", spec->argv[0]);
	*out = (struct proc){ .pid = (pid_t)pid, .pidfd = pidfd };
	if (c.failed) {
		proc_kill_and_reap(out);
		fd_close(&out->pidfd);
		return err_sys(e, c.failed_errno, "%s %s", c.failed,
			       spec->file ? spec->file : spec->argv[0]);
	}
	return 0;
}

int proc_spawn(const struct proc_spec *spec, struct proc *out, struct err *e)
{
	struct proc_spec copy = *spec;
	char *stack;
	int rc;

	BUG_ON(spec->nfds > PROC_FDS_MAX);
	stack = mmap(NULL, CHILD_STACK_BYTES, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (stack == MAP_FAILED)
		return err_sys(e, errno, "stack for %s", spec->argv[0]);
	rc = spawn_on_stack(&copy, stack, out, e);
	(void)munmap(stack, CHILD_STACK_BYTES);
	return rc;
}

static int reap(const struct proc *p, struct proc_exit *out, struct err *e)
{
	siginfo_t info = { 0 };

	while (waitid((idtype_t)P_PIDFD, (id_t)p->pidfd, &info, WEXITED) < 0)
		if (errno != EINTR)
			return err_sys(e, errno, "wait for process %d", p->pid);
	*out = info.si_code == CLD_EXITED ?
		(struct proc_exit){ .code = info.si_status } :
		(struct proc_exit){ .code = 128 + info.si_status, .signal = info.si_status };
	return 0;
}

int proc_wait(struct call *c, const struct proc *p, struct proc_exit *out, struct err *e)
{
	if (io_wait(c, p->pidfd, POLLIN, e) < 0)
		return -1;
	return reap(p, out, e);
}

void proc_kill_and_reap(const struct proc *p)
{
	struct proc_exit ignored;
	struct err e;

	(void)proc_signal(p->pidfd, SIGKILL, &e); /* it may have ended already */
	(void)reap(p, &ignored, &e);
}

int proc_signal(int pidfd, int sig, struct err *e)
{
	if (syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0) < 0)
		return err_sys(e, errno, "send signal %d", sig);
	return 0;
}

int proc_pidfd_open(pid_t pid, struct err *e)
{
	long fd = syscall(SYS_pidfd_open, pid, 0);

	if (fd < 0)
		return err_sys(e, errno, "process %d", pid);
	return (int)fd;
}

bool proc_pidfd_is_dead(int pidfd)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

/* One end of a running program: its pipes, polled together. */
struct run {
	int in, out, err_out;
	struct str left;
};

static int run_read(int *fd, struct buf *b, struct proc_output *result, struct err *e)
{
	char bytes[8192];
	ssize_t r = read(*fd, bytes, sizeof(bytes));
	size_t room = b->max - b->len;

	if (r < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (r <= 0) {
		fd_close(fd);
		return 0;
	}
	if ((size_t)r > room)
		result->cut = true;
	return buf_add(b, bytes, MIN((size_t)r, room), e);
}

/* write(2) to a pipe whose reader may be gone, without SIGPIPE, whatever the program does about it. */
static ssize_t write_quiet(int fd, const void *bytes, size_t n)
{
	struct timespec now = { 0 };
	sigset_t sigpipe, old;
	ssize_t w;
	int saved;

	sigemptyset(&sigpipe);
	sigaddset(&sigpipe, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &sigpipe, &old);
	w = write(fd, bytes, n);
	saved = errno;
	if (w < 0 && saved == EPIPE)
		(void)sigtimedwait(&sigpipe, NULL, &now); /* it is pending for this thread: taken */
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	errno = saved;
	return w;
}

static void run_write(struct run *r)
{
	ssize_t w = r->left.len ? write_quiet(r->in, r->left.p, r->left.len) : 0;

	if (w < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (w > 0) {
		r->left.p += w;
		r->left.len -= (size_t)w;
	}
	if (w < 0 || !r->left.len)
		fd_close(&r->in); /* EPIPE: the program did not want it all */
}

/* Until the program has ended and both outputs are at their end; what a grandchild keeps open after
 * the end is not waited for. */
static int run_relay(struct call *c, struct run *r, const struct proc *p, struct buf *out,
		     struct buf *err_out, struct proc_output *result, struct err *e)
{
	bool ended = false;

	for (;;) {
		struct pollfd fds[] = {
			{ .fd = r->in, .events = POLLOUT },
			{ .fd = r->out, .events = POLLIN },
			{ .fd = r->err_out, .events = POLLIN },
			{ .fd = ended ? -1 : p->pidfd, .events = POLLIN },
		};
		int ready = io_poll(c, fds, ARRAY_SIZE(fds), ended ? 0 : -1, e);

		if (ready < 0)
			return -1;
		if (ended && (ready == 0 || (r->out < 0 && r->err_out < 0)))
			return 0;
		if (fds[0].revents)
			run_write(r);
		if (fds[1].revents && run_read(&r->out, out, result, e) < 0)
			return -1;
		if (fds[2].revents && run_read(&r->err_out, err_out, result, e) < 0)
			return -1;
		if (fds[3].revents)
			ended = true;
	}
}

int proc_run(struct call *c, struct proc_spec *spec, struct str in, struct buf *out, struct buf *err_out,
	     struct proc_output *result, struct err *e)
{
	auto_fd int in_child = -1, out_child = -1, err_child = -1;
	auto_fd int in_end = -1, out_end = -1, err_end = -1;
	struct proc p;
	struct run r;
	int rc;

	if (fd_pipe(&in_child, &in_end, e) < 0 || fd_pipe(&out_end, &out_child, e) < 0 ||
	    fd_pipe(&err_end, &err_child, e) < 0 || fd_set_nonblocking(in_end, e) < 0)
		return -1;
	spec->std_in = in_child;
	spec->std_out = out_child;
	spec->std_err = err_child;
	spec->flags |= PROC_NEW_SESSION;
	if (proc_spawn(spec, &p, e) < 0)
		return -1;
	fd_close(&in_child);
	fd_close(&out_child);
	fd_close(&err_child);
	*result = (struct proc_output){ 0 };
	r = (struct run){ in_end, out_end, err_end, in };
	in_end = out_end = err_end = -1;
	rc = run_relay(c, &r, &p, out, err_out, result, e);
	fd_close(&r.in);
	fd_close(&r.out);
	fd_close(&r.err_out);
	if (rc < 0) {
		(void)kill(-p.pid, SIGKILL); /* its whole session; the leader is not reaped yet, so the id is its */
		proc_kill_and_reap(&p);
	} else {
		rc = reap(&p, &result->exit, e);
	}
	fd_close(&p.pidfd);
	return rc;
}

int proc_start_time(pid_t pid, uint64_t *ticks, struct err *e)
{
	auto_arena a = { 0 };
	char *path = arena_printf(&a, "/proc/%d/stat", pid);
	struct str text, field = { NULL, 0 };
	const char *paren;

	if (fs_read_file(&a, AT_FDCWD, path, 4096, &text, e) < 0)
		return -1;
	paren = strrchr(text.p, ')');
	if (!paren || paren[1] != ' ')
		return err_set(e, ERR_INTERNAL, "%s has no command name", path);
	text = str_of(paren + 2);
	for (int i = 3; i <= 22; i++)
		field = str_cut(&text, ' ');
	return str_to_u64(field, ticks, e);
}
