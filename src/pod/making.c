#include "pod/model.h"

int pods_job(struct pods *ps, const char *name, void *(*run)(void *), void *arg, struct err *e)
{
	pthread_t thread;

	lock_acquire(&ps->lock);
	ps->jobs++;
	lock_release(&ps->lock);
	if (thread_start(&thread, name, run, arg, e) < 0) {
		pods_job_done(ps);
		return -1;
	}
	(void)pthread_detach(thread);
	return 0;
}

void pods_job_done(struct pods *ps)
{
	LOCKED(&ps->lock);

	ps->jobs--;
	cond_broadcast(&ps->changed);
}

int making_wish_hash(const struct json_field *fields, const void *config, uint64_t *out, struct err *e)
{
	auto_buf b = BUF(16 << 20);
	uint64_t h = UINT64_C(14695981039346656037);

	if (json_write(&b, fields, config, e) < 0)
		return -1;
	for (size_t i = 0; i < b.len; i++)
		h = (h ^ (unsigned char)b.p[i]) * UINT64_C(1099511628211);
	*out = h;
	return 0;
}

void making_begun(struct making *m, struct lock *lock)
{
	LOCKED(lock);

	m->call_lives = true;
	if (m->cancelled)
		call_cancel(&m->call);
}

void making_end(struct making *m, struct lock *lock)
{
	LOCKED(lock);

	m->call_lives = false;
	m->active = false;
	call_end(&m->call);
}

void making_failed(struct making *m, struct cond *changed, struct lock *lock, const struct err *why)
{
	LOCKED(lock);

	m->error = *why;
	m->done = true;
	m->active = false;
	cond_broadcast(changed);
}

void making_promise(struct making *m, struct lock *lock)
{
	LOCKED(lock);

	m->promised = m->waiters > 0 && !m->cancelled;
}

int making_collect_locked(struct making *m, struct cond *changed, struct lock *lock, struct call *c,
			  struct err *e)
{
	int rc = 0;

	m->waiters++;
	while (!m->done && rc == 0)
		rc = cond_wait(c, changed, lock, e);
	m->waiters--;
	if (rc < 0)
		return -1;
	if (m->error.kind != ERR_NONE) {
		*e = m->error;
		return -1;
	}
	rc = !m->collected;
	m->collected = true;
	cond_broadcast(changed);
	return rc;
}

bool making_offer_locked(struct making *m, struct cond *changed, struct lock *lock, int64_t limit_ns)
{
	struct err e;

	m->done = true;
	m->collected = m->promised;
	m->call.deadline_ns = clock_mono_ns() + limit_ns;
	cond_broadcast(changed);
	while (!m->collected && !m->cancelled)
		if (cond_wait(&m->call, changed, lock, &e) < 0)
			break;
	/* Who comes from now on finds it collected, or fails with it. */
	if (!m->collected)
		m->done = false;
	return m->collected;
}

void making_cancel_locked(struct making *m, struct cond *changed)
{
	if (!m->active || m->collected)
		return;
	m->cancelled = true;
	/* While it is offered, its thread waits with this very lock, and looks at `cancelled`. */
	if (m->call_lives && !m->done)
		call_cancel(&m->call);
	cond_broadcast(changed);
}
