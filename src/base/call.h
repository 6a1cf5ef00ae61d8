/* A call under way: its arena, its deadline, its cancellation. Everything that blocks takes the call
 * and gives up with ERR_TIMEOUT or ERR_CANCELLED, so both always work.
 *
 * A call belongs to the thread that runs it; only call_cancel() may come from another. Background
 * work has a call of its own. */
#ifndef KNARR_BASE_CALL_H
#define KNARR_BASE_CALL_H

#include "base/arena.h"
#include "base/err.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

struct call_deferred;

struct call {
	struct arena arena;   /* freed by call_end() */
	struct call_deferred *deferred;
	int64_t deadline_ns;  /* CLOCK_MONOTONIC; 0: none */
	atomic_bool cancelled;
	atomic_int wake_fd;   /* an eventfd, made when someone first blocks; -1 before */
	struct { pthread_mutex_t *mutex; pthread_cond_t *cond; } waits; /* set while in cond_wait */
	pthread_mutex_t lock; /* guards waits */
};

void call_begin(struct call *c, int64_t deadline_ns);
void call_end(struct call *c);
/* Runs what was deferred and gives the arena back, while others may still cancel the call. */
void call_clear(struct call *c);
#define auto_call AUTO(call_end) struct call

/* call_clear() or call_end() runs fn(arg), the last deferred first, while the arena is still there: for what an answer
 * points into and must therefore hold until it is sent. */
void call_defer(struct call *c, void (*fn)(void *arg), void *arg);

/* Wakes whatever the call blocks in. May be called from any thread while the call exists. */
void call_cancel(struct call *c);

/* -1 with ERR_CANCELLED or ERR_TIMEOUT once the call is over, else 0. */
int call_check(struct call *c, struct err *e);
/* Milliseconds left, rounded up, for poll(2): -1 without a deadline. */
int call_left_ms(const struct call *c);

/* Waits until fd is ready for `events` (POLLIN, POLLOUT), the deadline or cancellation.
 * Returns the revents. */
int io_wait(struct call *c, int fd, short events, struct err *e);
/* poll(2) over at most IO_POLL_MAX fds; NULL call: for ever. Returns how many are ready, 0 when timeout_ms (-1:
 * none) ran out. */
enum { IO_POLL_MAX = 64 };
int io_poll(struct call *c, struct pollfd *fds, size_t n, int timeout_ms, struct err *e);
/* Sleeps. */
int call_sleep(struct call *c, int64_t ns, struct err *e);

#endif
