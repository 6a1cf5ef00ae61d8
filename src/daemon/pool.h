/* Worker threads: one for each piece of work in flight, reused while warm, gone after some idle
 * seconds. The one that went idle last works first, so that the others can end. Safe in every thread. */
#ifndef KNARR_DAEMON_POOL_H
#define KNARR_DAEMON_POOL_H

#include "base/err.h"
#include "base/list.h"

struct pool;

/* Part of what the work is about; the pool only links it. */
struct pool_job {
	struct list link;
	void (*run)(struct pool_job *job); /* may free the job */
};

/* At most `workers` run at once and `waiting` jobs wait for one of them. */
struct pool *pool_new(const char *name, unsigned workers, unsigned waiting);
/* Waits until every job has run and every worker has ended. NULL is fine. */
void pool_free(struct pool *p);

/* ERR_EXHAUSTED: as many wait as may, or no thread could be made; the job is still the caller's. */
int pool_submit(struct pool *p, struct pool_job *job, struct err *e);

#endif
