#include "monitor/state.h"

#include "runtime/stack.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EVENTS_AT_ONCE = 32, IDLE_MS = 500, PAGE_BYTES = 4096, STACK_REST_BYTES = 256 * 1024 };

static uint64_t watch_key(enum source s, size_t index, enum stream stream)
{
	return (uint64_t)index << 16 | (uint64_t)stream << 8 | (uint64_t)s;
}

int loop_watch(struct pod *p, int fd, unsigned epoll_events, enum source s, size_t index,
	       enum stream stream, struct err *e)
{
	struct epoll_event ev = { .events = epoll_events, .data.u64 = watch_key(s, index, stream) };

	if (epoll_ctl(p->epoll, EPOLL_CTL_ADD, fd, &ev) < 0)
		return err_sys(e, errno, "watch a file descriptor");
	return 0;
}

void loop_watch_change(struct pod *p, int fd, unsigned epoll_events, enum source s, size_t index, enum stream stream)
{
	struct epoll_event ev = { .events = epoll_events, .data.u64 = watch_key(s, index, stream) };

	BUG_ON(epoll_ctl(p->epoll, EPOLL_CTL_MOD, fd, &ev) < 0); /* changing needs no memory */
}

void loop_unwatch(struct pod *p, int fd)
{
	BUG_ON(epoll_ctl(p->epoll, EPOLL_CTL_DEL, fd, NULL) < 0);
}

static void child_ended(struct pod *p, pid_t pid, int status)
{
	struct occasion o = { .wait_status = status };
	struct err ignored;

	if (command_child_ended(p, pid, status))
		return;
	for (size_t i = 0; i < p->containers_top; i++)
		if ((p->containers[i].state == CONTAINER_RUNNING || p->containers[i].state == CONTAINER_STARTING) &&
		    p->containers[i].pid == pid) {
			(void)container_event(p, &p->containers[i], ON_ENDED, &o, &ignored);
			return;
		}
	for (size_t i = 0; i < p->execs_top; i++)
		if (p->execs[i].state != EXEC_FREE && p->execs[i].pid == pid) {
			exec_event(p, &p->execs[i], EXEC_ON_ENDED, status);
			return;
		}
	if (pid == p->init_pid)
		p->init_pid = 0;
	else /* an orphan that came to us as the subreaper */
		command_orphan_ended(p, pid, status);
}

static void children_reap(struct pod *p)
{
	struct signalfd_siginfo ignored;
	int status;
	pid_t pid;

	while (read(p->signals, &ignored, sizeof(ignored)) > 0)
		;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		child_ended(p, pid, status);
}

static void dispatch(struct pod *p, uint64_t key)
{
	enum stream stream = (enum stream)(key >> 8 & 0xff);
	size_t index = (size_t)(key >> 16);

	switch ((enum source)(key & 0xff)) {
	case SOURCE_LISTEN:
		serve_accept(p);
		break;
	case SOURCE_SIGNALS:
		children_reap(p);
		break;
	case SOURCE_CONN:
		serve_readable(p, &p->conns[index]);
		break;
	case SOURCE_CONTAINER:
		container_readable(p, &p->containers[index], stream);
		break;
	case SOURCE_EXEC:
		exec_readable(p, &p->execs[index], stream);
		break;
	case SOURCE_ATTACH:
		attach_writable(p, &p->attaches[index], stream);
		break;
	}
}

static void earlier(int64_t *next, int64_t deadline_ns)
{
	if (deadline_ns && (!*next || deadline_ns < *next))
		*next = deadline_ns;
}

/* Milliseconds until the first deadline of all, -1: none. */
static int timeout_ms(const struct pod *p)
{
	int64_t next = p->shutdown_deadline_ns, left;

	for (size_t i = 0; i < p->containers_top; i++)
		if (p->containers[i].state != CONTAINER_FREE)
			earlier(&next, p->containers[i].deadline_ns);
	for (size_t i = 0; i < p->execs_top; i++)
		if (p->execs[i].state != EXEC_FREE)
			earlier(&next, p->execs[i].deadline_ns);
	for (size_t i = 0; i < p->commands_top; i++)
		if (p->commands[i].pid > 0)
			earlier(&next, p->commands[i].deadline_ns);
	if (!next)
		return p->rested ? -1 : IDLE_MS;
	left = next - clock_mono_ns();
	if (left <= 0)
		return 0;
	return (int)MIN((left + NS_PER_MS - 1) / NS_PER_MS, (int64_t)INT_MAX);
}

static void deadlines(struct pod *p)
{
	int64_t now = clock_mono_ns();
	struct occasion o = { 0 };
	struct err e;

	for (size_t i = 0; i < p->containers_top; i++) {
		struct container *c = &p->containers[i];

		if (c->state == CONTAINER_FREE || !c->deadline_ns || c->deadline_ns > now)
			continue;
		c->deadline_ns = 0;
		(void)container_event(p, c, ON_TIME, &o, &e);
	}
	for (size_t i = 0; i < p->execs_top; i++) {
		struct exec *x = &p->execs[i];

		if (x->state == EXEC_FREE || !x->deadline_ns || x->deadline_ns > now)
			continue;
		x->deadline_ns = 0;
		exec_event(p, x, EXEC_ON_TIME, 0);
	}
	for (size_t i = 0; i < p->commands_top; i++) {
		struct command *x = &p->commands[i];

		if (x->pid <= 0 || !x->deadline_ns || x->deadline_ns > now)
			continue;
		x->deadline_ns = 0;
		command_time(p, x);
	}
	if (p->shutdown_deadline_ns && p->shutdown_deadline_ns <= now)
		serve_shutdown_done(p);
}

/* After a quiet while the pages that only work needs go back to the kernel: buffers, the children's stack
 * (each has left it by its exec), and what our own has below here. It matters: there is one of us per pod. */
static void rest(struct pod *p)
{
	uintptr_t here = (uintptr_t)__builtin_frame_address(0) / PAGE_BYTES * PAGE_BYTES - PAGE_BYTES;

	(void)madvise(p->scratch, SCRATCH_BYTES, MADV_DONTNEED);
	(void)madvise(p->packet, MESSAGE_MAX, MADV_DONTNEED);
	if (p->runtime.stack)
		(void)madvise(p->runtime.stack, RUNTIME_STACK_BYTES, MADV_DONTNEED);
	(void)madvise((void *)(here - STACK_REST_BYTES), STACK_REST_BYTES, MADV_DONTNEED); /* as far as it is mapped */
	p->rested = true;
}

int loop_run(struct pod *p, struct err *e)
{
	struct epoll_event events[EVENTS_AT_ONCE];

	while (!p->quit) {
		int n = epoll_wait(p->epoll, events, EVENTS_AT_ONCE, timeout_ms(p));

		if (n < 0 && errno != EINTR)
			return err_sys(e, errno, "epoll_wait");
		for (int i = 0; i < n; i++)
			dispatch(p, events[i].data.u64);
		if (n > 0)
			p->rested = false;
		else if (n == 0 && !p->rested)
			rest(p);
		deadlines(p);
	}
	return 0;
}
