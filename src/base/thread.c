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

void cond_signal(struct cond *c)
{
	pthread_cond_signal(&c->cond);
}

static void call_waits_in(struct call *call, struct cond *c, struct lock *l)
{
	pthread_mutex_lock(&call->lock);
	call->waits.cond = c ? &c->cond : NULL;
	call->waits.mutex = l ? &l->mutex : NULL;
	pthread_mutex_unlock(&call->lock);
}

static void wait_until(struct cond *c, struct lock *l, int64_t until_ns)
{
	struct timespec until = { .tv_sec = until_ns / NS_PER_S, .tv_nsec = until_ns % NS_PER_S };

	if (until_ns)
		(void)pthread_cond_timedwait(&c->cond, &l->mutex, &until);
	else
		(void)pthread_cond_wait(&c->cond, &l->mutex);
}

/* The cancel flag is looked at again once the wait is registered: from then on call_cancel()
 * cannot broadcast before the wait has begun, since it does so with the mutex held. */
static int wait_registered(struct call *call, struct cond *c, struct lock *l, int64_t until_ns, struct err *e)
{
	if (call_check(call, e) < 0)
		return -1;
	if (call->deadline_ns && (!until_ns || call->deadline_ns < until_ns))
		until_ns = call->deadline_ns;
	wait_until(c, l, until_ns);
	return 0;
}

int cond_wait(struct call *call, struct cond *c, struct lock *l, struct err *e)
{
	return cond_wait_until(call, c, l, 0, e);
}

int cond_wait_until(struct call *call, struct cond *c, struct lock *l, int64_t until_ns, struct err *e)
{
	int rc = 0;

	lock_assert_held(l);
	l->held = false;
	if (call) {
		call_waits_in(call, c, l);
		rc = wait_registered(call, c, l, until_ns, e);
		call_waits_in(call, NULL, NULL);
	} else {
		wait_until(c, l, until_ns);
	}
	l->holder = pthread_self();
	l->held = true;
	if (rc < 0)
		return -1;
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
