#include "test.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/thread.h"
#include "daemon/pool.h"

#include <stdatomic.h>
#include <unistd.h>

struct work {
	struct pool_job job;
	atomic_int *ran;
	struct lock *gate; /* waits for it */
};

static void work_run(struct pool_job *job)
{
	struct work *w = container_of(job, struct work, job);

	if (w->gate) {
		lock_acquire(w->gate);
		lock_release(w->gate);
	}
	atomic_fetch_add(w->ran, 1);
	mem_free(w);
}

static struct work *work_new(atomic_int *ran, struct lock *gate)
{
	struct work *w = mem_new0(struct work);

	*w = (struct work){ .job.run = work_run, .ran = ran, .gate = gate };
	list_init(&w->job.link);
	return w;
}

TEST(every_job_runs_before_the_pool_is_gone)
{
	struct pool *p = pool_new("test", 4, 1000);
	atomic_int ran = 0;
	struct err e;

	for (int i = 0; i < 500; i++)
		assert_ok(pool_submit(p, &work_new(&ran, NULL)->job, &e), e);
	pool_free(p);
	assert_int_equal(ran, 500);
}

TEST(beyond_its_limits_it_refuses)
{
	struct pool *p = pool_new("test", 2, 3);
	struct lock gate = LOCK_INIT;
	atomic_int ran = 0;
	struct work *w;
	struct err e;

	lock_acquire(&gate);
	for (int i = 0; i < 5; i++)
		assert_ok(pool_submit(p, &work_new(&ran, &gate)->job, &e), e);
	w = work_new(&ran, NULL);
	assert_err(pool_submit(p, &w->job, &e), e, ERR_EXHAUSTED, "2 calls are under way and 3 wait");
	mem_free(w);
	lock_release(&gate);
	pool_free(p);
	assert_int_equal(ran, 5);
}

TEST(an_idle_worker_is_reused)
{
	struct pool *p = pool_new("test", 1, 0);
	atomic_int ran = 0;
	struct err e;

	for (int i = 0; i < 100; i++) {
		struct work *w = work_new(&ran, NULL);

		while (pool_submit(p, &w->job, &e) < 0)
			(void)usleep(100);
	}
	pool_free(p);
	assert_int_equal(ran, 100);
}
