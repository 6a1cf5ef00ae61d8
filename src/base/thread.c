#include "base/thread.h"

#include "base/clock.h"

#include <errno.h>
#include <signal.h>

enum { STACK_BYTES = 256 * 1024 };

void lock_init(struct lock *l)
{
	*l = (struct lock)LOCK_INIT;
}

void lock_acquire(struct lock *l)
{
	BUG_ON(pthread_mutex_lock(&l->mutex) != 0);
	l->holder = pthread_self();
	l->held = true;
}

void lock_release(struct lock *l)
{
	lock_assert_held(l);
	l->held = false;
	BUG_ON(pthread_mutex_unlock(&l->mutex) != 0);
}

void lock_assert_held(const struct lock *l)
{
	BUG_ON(!l->held || !pthread_equal(l->holder, pthread_self()));
}

void lock_destroy(struct lock *l)
{
	BUG_ON(l->held);
	pthread_mutex_destroy(&l->mutex);
}

void cond_init(struct cond *c)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&c->cond, &attr);
	pthread_condattr_destroy(&attr);
}

void cond_destroy(struct cond *c)
{
	pthread_cond_destroy(&c->cond);
}

void cond_broadcast(struct cond *c)
{
	pthread_cond_broadcast(&c->cond);
}

static void call_waits_in(struct call *call, struct cond *c, struct lock *l)
{
	pthread_mutex_lock(&call->lock);
	call->waits.cond = c ? &c->cond : NULL;
	call->waits.mutex = l ? &l->mutex : NULL;
	pthread_mutex_unlock(&call->lock);
}

/* A cancel that comes between call_check() and the wait would broadcast to nobody: the wait is
 * therefore cut into slices, so that it is noticed a moment later at the worst. */
static struct timespec slice_end(const struct call *call)
{
	int64_t until = clock_mono_ns() + 50 * NS_PER_MS;

	if (call->deadline_ns && call->deadline_ns < until)
		until = call->deadline_ns;
	return (struct timespec){ .tv_sec = until / NS_PER_S, .tv_nsec = until % NS_PER_S };
}

int cond_wait(struct call *call, struct cond *c, struct lock *l, struct err *e)
{
	struct timespec until;

	lock_assert_held(l);
	if (call && call_check(call, e) < 0)
		return -1;
	l->held = false;
	if (call) {
		call_waits_in(call, c, l);
		until = slice_end(call);
		(void)pthread_cond_timedwait(&c->cond, &l->mutex, &until);
		call_waits_in(call, NULL, NULL);
	} else {
		(void)pthread_cond_wait(&c->cond, &l->mutex);
	}
	l->holder = pthread_self();
	l->held = true;
	return call ? call_check(call, e) : 0;
}

int thread_start(pthread_t *out, const char *name, void *(*run)(void *), void *arg, struct err *e)
{
	pthread_attr_t attr;
	sigset_t all, old;
	int rc;

	sigfillset(&all);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(out, &attr, run, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (rc)
		return err_sys(e, rc, "start thread %s", name);
	(void)pthread_setname_np(*out, name);
	return 0;
}
