/* One RPC under way, between the I/O thread (which owns the job and frees it) and the worker that
 * runs its method. What a worker has to say (messages of a stream, the end) lies in the mailbox until
 * the I/O thread fetches it. */
#ifndef KNARR_DAEMON_JOB_H
#define KNARR_DAEMON_JOB_H

#include "base/buf.h"
#include "base/list.h"
#include "base/thread.h"
#include "daemon/pool.h"
#include "wire/grpc_server.h"

struct mailbox {
	struct lock lock;
	struct list jobs; /* that have something to fetch */
	int wake_fd;      /* an eventfd: readable while something is there */
};
int mailbox_init(struct mailbox *m, struct err *e);
void mailbox_destroy(struct mailbox *m);
/* Wakes the I/O thread with nothing to fetch. Any thread. */
void mailbox_knock(struct mailbox *m);

struct frame {
	struct list link;
	struct buf bytes;
};

struct job {
	struct pool_job pool_job;
	/* the I/O thread's */
	struct list link;      /* of the connection's jobs, or of those that wait for readiness */
	void *conn;            /* NULL: nobody wants the answer any more */
	int32_t stream;
	size_t charged_bytes;  /* of the grpc_memory */
	int64_t waits_until_ns; /* while it waits for readiness */
	/* the worker's, once submitted */
	struct rpc_context ctx;
	struct call call;
	struct buf message;
	struct err status;
	/* under the mailbox's lock */
	struct mailbox *mailbox;
	struct list mail_link;
	struct list frames;
	size_t unsent_bytes;   /* what was sent and has not yet left for the socket */
	struct cond drained;
	bool done;
};

/* Takes r->message. */
struct job *job_new(struct mailbox *m, struct grpc_request *r, enum rpc_owner owner);
void job_free(struct job *j);
/* Runs the method and posts the end: a pool_job's run. */
void job_run(struct pool_job *pool_job);

/* The I/O thread's: the next job with something to say, NULL: none. Its frames are moved to `frames`;
 * *done: the job has ended, and is the caller's alone. */
struct job *mailbox_fetch(struct mailbox *m, struct list *frames, bool *done);
/* So much of the stream is still unsent: lets the worker go on sending. */
void job_unsent(struct job *j, size_t bytes);
void frame_free(struct frame *f);

#endif
