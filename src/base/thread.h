/* Threads and locks, for knarrd only. A lock guards one table and is held for memory work, never
 * across I/O; a function that needs it is named _locked and asserts it with lock_assert_held().
 * Whoever must wait waits in cond_wait(), which takes the call. */
#ifndef KNARR_BASE_THREAD_H
#define KNARR_BASE_THREAD_H

#include "base/call.h"

#include <pthread.h>

struct lock {
	pthread_mutex_t mutex;
	pthread_t holder;
	bool held;
};

#define LOCK_INIT { .mutex = PTHREAD_MUTEX_INITIALIZER }
void lock_init(struct lock *l);
void lock_acquire(struct lock *l);
void lock_release(struct lock *l);
void lock_assert_held(const struct lock *l);
void lock_destroy(struct lock *l);

/* `LOCKED(&table->lock);` holds it to the end of the scope. */
static inline struct lock *lock_scope_enter(struct lock *l)
{
	lock_acquire(l);
	return l;
}
static inline void lock_scope_leave(struct lock **l)
{
	lock_release(*l);
}
#define LOCKED_NAME2(n) locked_##n
#define LOCKED_NAME(n) LOCKED_NAME2(n)
#define LOCKED(l) AUTO(lock_scope_leave) UNUSED struct lock *LOCKED_NAME(__LINE__) = lock_scope_enter(l)

struct cond { pthread_cond_t cond; };

void cond_init(struct cond *c); /* waits by CLOCK_MONOTONIC */
void cond_destroy(struct cond *c);
/* Releases the lock, waits for a broadcast, takes the lock again. -1 when the call is over; NULL
 * call: waits for ever. May return without cause: test the condition in a loop. */
int cond_wait(struct call *call, struct cond *c, struct lock *l, struct err *e);
/* The same; also returns 0 at until_ns (CLOCK_MONOTONIC; 0: never). */
int cond_wait_until(struct call *call, struct cond *c, struct lock *l, int64_t until_ns, struct err *e);
void cond_broadcast(struct cond *c);
void cond_signal(struct cond *c); /* one waiter; for a cond that only one thread waits on */

/* A joinable thread with a small stack (256 KiB) and all signals blocked. */
int thread_start(pthread_t *out, const char *name, void *(*run)(void *), void *arg, struct err *e);

#endif
