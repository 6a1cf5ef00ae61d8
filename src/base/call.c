#include "base/call.h"

#include "base/fd.h"
#include "base/clock.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

void call_begin(struct call *c, int64_t deadline_ns)
{
	*c = (struct call){ .deadline_ns = deadline_ns };
	atomic_init(&c->wake_fd, -1);
	pthread_mutex_init(&c->lock, NULL);
}

struct call_deferred {
	struct call_deferred *next;
	void (*fn)(void *arg);
	void *arg;
};

void call_defer(struct call *c, void (*fn)(void *arg), void *arg)
{
	struct call_deferred *d = arena_new0(&c->arena, struct call_deferred);

	*d = (struct call_deferred){ c->deferred, fn, arg };
	c->deferred = d;
}

void call_clear(struct call *c)
{
	for (struct call_deferred *d = c->deferred; d; d = d->next)
		d->fn(d->arg);
	c->deferred = NULL;
	arena_free(&c->arena);
}

void call_end(struct call *c)
{
	int fd = atomic_exchange(&c->wake_fd, -1);

	call_clear(c);
	fd_close(&fd);
	pthread_mutex_destroy(&c->lock);
}

/* Whoever waits in cond_wait() checks, registers and waits while holding the mutex: with the mutex
 * held here too, the broadcast cannot fall between its check and its wait. It is only tried for,
 * since the waiter takes the two locks in the other order; and the waiter cannot leave (and the
 * mutex not go away) while c->lock is held. */
static bool wake_waiter(struct call *c)
{
	bool done = true;

	pthread_mutex_lock(&c->lock);
	if (c->waits.cond) {
		done = pthread_mutex_trylock(c->waits.mutex) == 0;
		if (done) {
			pthread_cond_broadcast(c->waits.cond);
			pthread_mutex_unlock(c->waits.mutex);
		}
	}
	pthread_mutex_unlock(&c->lock);
	return done;
}

void call_cancel(struct call *c)
{
	uint64_t one = 1;
	int fd;

	atomic_store(&c->cancelled, true);
	fd = atomic_load(&c->wake_fd);
	if (fd >= 0)
		(void)!write(fd, &one, sizeof(one));
	while (!wake_waiter(c))
		(void)sched_yield();
}

int call_check(struct call *c, struct err *e)
{
	if (atomic_load(&c->cancelled))
		return err_set(e, ERR_CANCELLED, "the caller cancelled the call");
	if (c->deadline_ns && clock_mono_ns() >= c->deadline_ns)
		return err_set(e, ERR_TIMEOUT, "the call's deadline passed");
	return 0;
}

int call_left_ms(const struct call *c)
{
	int64_t left;

	if (!c->deadline_ns)
		return -1;
	left = c->deadline_ns - clock_mono_ns();
	if (left <= 0)
		return 0;
	left = (left + NS_PER_MS - 1) / NS_PER_MS;
	return left > INT_MAX ? INT_MAX : (int)left;
}

static int wake_fd_of(struct call *c)
{
	int fd = atomic_load(&c->wake_fd);

	if (fd >= 0)
		return fd;
	fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	BUG_ON(fd < 0 && errno != EMFILE && errno != ENFILE);
	atomic_store(&c->wake_fd, fd);
	return fd; /* a cancel before the store is seen by the call_check() that follows */
}

static int shorter_ms(int a, int b)
{
	if (a < 0)
		return b;
	if (b < 0)
		return a;
	return MIN(a, b);
}

int io_poll(struct call *c, struct pollfd *fds, size_t n, int timeout_ms, struct err *e)
{
	int64_t until = timeout_ms < 0 ? 0 : clock_mono_ns() + timeout_ms * NS_PER_MS;
	struct pollfd all[IO_POLL_MAX + 1];

	BUG_ON(n > IO_POLL_MAX);
	for (;;) {
		int left = -1, ready;

		if (n)
			memcpy(all, fds, n * sizeof(*fds));
		all[n] = (struct pollfd){ .fd = c ? wake_fd_of(c) : -1, .events = POLLIN };
		if (c && call_check(c, e) < 0)
			return -1;
		if (timeout_ms >= 0) {
			int64_t ns = until - clock_mono_ns();

			left = ns > 0 ? (int)((ns + NS_PER_MS - 1) / NS_PER_MS) : 0;
		}
		ready = poll(all, n + 1, c ? shorter_ms(left, call_left_ms(c)) : left);
		if (ready < 0 && errno == EINTR)
			continue;
		if (ready < 0)
			return err_sys(e, errno, "poll");
		if (all[n].revents) {
			if (call_check(c, e) < 0)
				return -1;
			ready--;
		}
		if (ready > 0) {
			memcpy(fds, all, n * sizeof(*fds));
			return ready;
		}
		if (timeout_ms >= 0 && clock_mono_ns() >= until) {
			for (size_t i = 0; i < n; i++)
				fds[i].revents = 0;
			return 0;
		}
	}
}

int io_wait(struct call *c, int fd, short events, struct err *e)
{
	struct pollfd p = { .fd = fd, .events = events };

	if (io_poll(c, &p, 1, -1, e) < 0)
		return -1;
	return p.revents;
}

int call_sleep(struct call *c, int64_t ns, struct err *e)
{
	int64_t ms = (ns + NS_PER_MS - 1) / NS_PER_MS;

	return io_poll(c, NULL, 0, ms > INT_MAX ? INT_MAX : (int)ms, e);
}
