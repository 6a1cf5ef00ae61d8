#include "daemon/pool.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/thread.h"

enum { IDLE_SECONDS = 5 };

struct worker {
	struct list link; /* while idle */
	struct pool *pool;
	struct cond wake;
	struct pool_job *job; /* given by pool_submit() */
};

struct pool {
	const char *name;
	struct lock lock;
	struct cond ended;
	struct list idle;  /* the one that went idle last comes first */
	struct list queue; /* jobs, while all workers are busy */
	unsigned workers, workers_max;
	unsigned queued, queued_max;
	bool ending;
};

struct pool *pool_new(const char *name, unsigned workers, unsigned waiting)
{
	struct pool *p = mem_new0(struct pool);

	p->name = name;
	p->workers_max = workers;
	p->queued_max = waiting;
	lock_init(&p->lock);
	cond_init(&p->ended);
	list_init(&p->idle);
	list_init(&p->queue);
	return p;
}

static struct pool_job *queue_take_locked(struct pool *p)
{
	struct pool_job *job;

	lock_assert_held(&p->lock);
	if (list_is_empty(&p->queue))
		return NULL;
	job = container_of(p->queue.next, struct pool_job, link);
	list_del(&job->link);
	p->queued--;
	return job;
}

/* Waits for a job; NULL: the worker has idled long enough, or the pool ends. */
static struct pool_job *idle_locked(struct pool *p, struct worker *w)
{
	struct call idle;
	struct pool_job *job;
	struct err e;

	call_begin(&idle, clock_mono_ns() + IDLE_SECONDS * NS_PER_S);
	list_add_before(p->idle.next, &w->link);
	while (!w->job && !p->ending && cond_wait(&idle, &w->wake, &p->lock, &e) == 0)
		;
	list_del(&w->link);
	call_end(&idle);
	job = w->job;
	w->job = NULL;
	return job;
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct pool *p = w->pool;
	struct pool_job *job = w->job;

	w->job = NULL;
	while (job) {
		job->run(job);
		lock_acquire(&p->lock);
		job = queue_take_locked(p);
		if (!job)
			job = idle_locked(p, w);
		if (!job) {
			p->workers--;
			cond_broadcast(&p->ended);
		}
		lock_release(&p->lock);
	}
	cond_destroy(&w->wake);
	mem_free(w);
	return NULL;
}

static int worker_start_locked(struct pool *p, struct pool_job *job, struct err *e)
{
	struct worker *w = mem_new0(struct worker);
	pthread_t thread;

	lock_assert_held(&p->lock);
	w->pool = p;
	w->job = job;
	list_init(&w->link);
	cond_init(&w->wake);
	if (thread_start(&thread, p->name, worker_main, w, e) < 0) {
		cond_destroy(&w->wake);
		mem_free(w);
		return err_kind_to(e, ERR_EXHAUSTED);
	}
	(void)pthread_detach(thread); /* pool_free() waits for its count instead */
	p->workers++;
	return 0;
}

int pool_submit(struct pool *p, struct pool_job *job, struct err *e)
{
	LOCKED(&p->lock);

	BUG_ON(p->ending);
	if (!list_is_empty(&p->idle)) {
		struct worker *w = container_of(p->idle.next, struct worker, link);

		list_del(&w->link);
		w->job = job;
		cond_signal(&w->wake);
		return 0;
	}
	if (p->workers < p->workers_max && (worker_start_locked(p, job, e) == 0))
		return 0;
	if (p->workers == 0)
		return -1;
	if (p->queued >= p->queued_max)
		return err_set(e, ERR_EXHAUSTED, "%u calls are under way and %u wait; no more are taken for now",
			       p->workers, p->queued);
	list_add(&p->queue, &job->link);
	p->queued++;
	return 0;
}

void pool_free(struct pool *p)
{
	if (!p)
		return;
	lock_acquire(&p->lock);
	p->ending = true;
	list_for_each(w, &p->idle, struct worker, link)
		cond_signal(&w->wake);
	while (p->workers)
		(void)cond_wait(NULL, &p->ended, &p->lock, &(struct err){ 0 });
	lock_release(&p->lock);
	cond_destroy(&p->ended);
	lock_destroy(&p->lock);
	mem_free(p);
}
