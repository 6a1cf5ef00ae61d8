#include "daemon/job.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "wire/grpc.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { UNSENT_HIGH = 1024 * 1024 }; /* a stream's worker waits above it */

int mailbox_init(struct mailbox *m, struct err *e)
{
	lock_init(&m->lock);
	list_init(&m->jobs);
	m->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (m->wake_fd < 0)
		return err_sys(e, errno, "eventfd");
	return 0;
}

void mailbox_destroy(struct mailbox *m)
{
	BUG_ON(!list_is_empty(&m->jobs));
	fd_close(&m->wake_fd);
	lock_destroy(&m->lock);
}

void mailbox_knock(struct mailbox *m)
{
	uint64_t one = 1;

	(void)!write(m->wake_fd, &one, sizeof(one)); /* full means readable, which is all it must be */
}

static void post_locked(struct job *j)
{
	struct mailbox *m = j->mailbox;
	bool first = list_is_empty(&m->jobs);

	lock_assert_held(&m->lock);
	if (!list_is_empty(&j->mail_link))
		return; /* it lies there already */
	list_add(&m->jobs, &j->mail_link);
	if (first)
		mailbox_knock(m);
}

struct job *mailbox_fetch(struct mailbox *m, struct list *frames, bool *done)
{
	LOCKED(&m->lock);
	struct job *j;

	if (list_is_empty(&m->jobs))
		return NULL;
	j = container_of(m->jobs.next, struct job, mail_link);
	list_del(&j->mail_link);
	list_init(frames);
	list_for_each_safe(f, &j->frames, struct frame, link) {
		list_del(&f->link);
		list_add(frames, &f->link);
	}
	*done = j->done;
	return j;
}

void job_unsent(struct job *j, size_t bytes)
{
	LOCKED(&j->mailbox->lock);

	j->unsent_bytes = bytes;
	list_for_each(f, &j->frames, struct frame, link)
		j->unsent_bytes += f->bytes.len;
	if (j->unsent_bytes <= UNSENT_HIGH)
		cond_broadcast(&j->drained);
}

void frame_free(struct frame *f)
{
	list_del(&f->link);
	buf_free(&f->bytes);
	mem_free(f);
}

static void job_post_frame_locked(struct job *j, struct buf *bytes)
{
	struct frame *f = mem_new0(struct frame);

	f->bytes = *bytes;
	*bytes = BUF(bytes->max);
	j->unsent_bytes += f->bytes.len;
	list_add(&j->frames, &f->link);
	post_locked(j);
}

static int job_send(struct rpc_context *ctx, struct call *c, const ProtobufCMessage *message, struct err *e)
{
	struct job *j = container_of(ctx, struct job, ctx);
	auto_arena a = { 0 };
	auto_buf bytes = BUF(0);

	if (call_check(c, e) < 0 || rpc_pack(&a, (ProtobufCMessage *)message, &bytes, e) < 0)
		return -1;
	LOCKED(&j->mailbox->lock);
	while (j->unsent_bytes > UNSENT_HIGH)
		if (cond_wait(c, &j->drained, &j->mailbox->lock, e) < 0)
			return -1;
	job_post_frame_locked(j, &bytes);
	return 0;
}

struct job *job_new(struct mailbox *m, struct grpc_request *r, enum rpc_owner owner)
{
	struct job *j = mem_new0(struct job);

	*j = (struct job){
		.pool_job.run = job_run,
		.stream = r->stream,
		.charged_bytes = r->message.len,
		.ctx = { .owner = owner, .method = r->method },
		.message = r->message,
		.mailbox = m,
	};
	r->message = BUF(0);
	if (r->method->flags & RPC_STREAMING)
		j->ctx.send = job_send;
	list_init(&j->link);
	list_init(&j->mail_link);
	list_init(&j->frames);
	list_init(&j->pool_job.link);
	cond_init(&j->drained);
	call_begin(&j->call, r->deadline_ns);
	return j;
}

void job_free(struct job *j)
{
	list_del(&j->link);
	list_for_each_safe(f, &j->frames, struct frame, link)
		frame_free(f);
	buf_free(&j->message);
	cond_destroy(&j->drained);
	call_end(&j->call);
	mem_free(j);
}

static int job_answer(struct job *j, struct buf *answer, struct err *e)
{
	const struct rpc_method *m = j->ctx.method;
	struct str bytes = { j->message.p + GRPC_HEAD, j->message.len - GRPC_HEAD };
	ProtobufCMessage *in, *out = arena_alloc0(&j->call.arena, m->response->sizeof_message);

	if (call_check(&j->call, e) < 0 || rpc_unpack(&j->call.arena, m->request, bytes, &in, e) < 0)
		return -1;
	buf_free(&j->message);
	protobuf_c_message_init(m->response, out);
	if (m->run(&j->ctx, &j->call, in, out, e) < 0)
		return -1;
	if (m->flags & RPC_STREAMING)
		return 0;
	return rpc_pack(&j->call.arena, out, answer, e);
}

/* What kubelet asks for all the time and does not find is no news. */
static void log_failure(const struct job *j)
{
	enum err_kind kind = j->status.kind;

	if (kind == ERR_NOT_FOUND || kind == ERR_CANCELLED || kind == ERR_UNIMPLEMENTED)
		log_debug("%s: %s code=%d", j->ctx.method->path, j->status.msg, err_grpc_code(kind));
	else
		log_warn("%s: %s code=%d", j->ctx.method->path, j->status.msg, err_grpc_code(kind));
}

void job_run(struct pool_job *pool_job)
{
	struct job *j = container_of(pool_job, struct job, pool_job);
	auto_buf answer = BUF(0);

	struct err e;

	/* Only a failure's error counts: who succeeds may have met one on the way. */
	err_clear(&j->status);
	if (job_answer(j, &answer, &e) < 0) {
		j->status = e;
		log_failure(j);
	}
	buf_free(&j->message);
	call_clear(&j->call);
	LOCKED(&j->mailbox->lock);
	if (answer.p)
		job_post_frame_locked(j, &answer);
	j->done = true;
	post_locked(j);
}
