/* knarr-pull: talks to registries for knarrd, for the length of one pull. Started by knarrd with a
 * socket as fd 3 (image/pull_protocol.h); nothing secret is in its arguments or its environment. */
#include "base/clock.h"
#include "base/fd.h"
#include "base/list.h"
#include "image/pull_fetch.h"
#include "image/pull_push.h"
#include "image/pull_sandbox.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { WORKERS_MAX = 16, WORKERS_DEFAULT = 4, PROGRESS_MS = 500, IDLE_MS_DEFAULT = 60000 };

/* An order, in an arena of its own. */
struct job {
	struct arena arena;
	struct list link;
	struct pull_message order;
	int fds[PULL_FDS_MAX];
};

static struct {
	struct arena arena;
	struct puller puller;
	struct pull_message start;
	struct lock lock; /* guards jobs */
	struct cond more;
	struct list jobs;
} self;

/* knarrd gone means that nobody wants the rest. */
static void tell(const struct pull_message *m)
{
	struct err e;

	if (pull_send(PULL_SOCKET_FD, m, NULL, 0, &e) < 0)
		_exit(0);
}

static void tell_failed(int64_t id, const struct pull_message *m, const struct err *why)
{
	struct pull_message failed = { .type = (char *)"failed", .id = id, .discard = m->discard,
				       .again = m->again, .kind = (char *)err_kind_name(why->kind),
				       .text = (char *)why->msg };

	tell(&failed);
}

static void run_job(struct job *job, struct http *h)
{
	struct pull_message m = { 0 };
	struct err e = { 0 };
	int r;

	if (streq(job->order.type, "resolve"))
		r = pull_resolve(&self.puller, h, &job->arena, &m, &e);
	else if (streq(job->order.type, "push"))
		r = pull_push(&self.puller, h, &job->arena, &job->order, job->fds[0], &m, &e);
	else
		r = pull_fetch(&self.puller, h, &job->arena, &job->order, job->fds, &m, &e);
	/* The end of the pipe is the end of the layer: closed before knarrd hears of it. */
	for (size_t i = 0; i < PULL_FDS_MAX; i++)
		fd_close(&job->fds[i]);
	if (r < 0)
		tell_failed(job->order.id, &m, &e);
	else
		tell(&m);
}

static struct job *next_job(void)
{
	struct job *job;
	struct err e;

	LOCKED(&self.lock);
	while (list_is_empty(&self.jobs))
		(void)cond_wait(NULL, &self.more, &self.lock, &e);
	job = container_of(self.jobs.next, struct job, link);
	list_del(&job->link);
	return job;
}

static void *work(void *ctx)
{
	struct http *h = ctx;

	for (;;) {
		struct job *job = next_job();
		struct arena last;

		run_job(job, h);
		last = job->arena;
		arena_free(&last);
	}
	return NULL;
}

static void add_job(struct arena *a, const struct pull_message *order, const int fds[PULL_FDS_MAX])
{
	struct job *job = arena_new0(a, struct job);

	job->order = *order;
	memcpy(job->fds, fds, sizeof(job->fds));
	job->arena = *a;
	*a = (struct arena){ 0 };
	LOCKED(&self.lock);
	list_add(&self.jobs, &job->link);
	cond_broadcast(&self.more);
}

static int start_workers(struct err *e)
{
	int64_t n = self.start.parallel > 0 ? MIN(self.start.parallel, WORKERS_MAX) : WORKERS_DEFAULT;

	bool network = self.start.reference;

	if (network && http_global_init(e) < 0)
		return -1;
	for (int64_t i = 0; i < n; i++) {
		struct http *h = NULL;
		pthread_t thread;

		if ((network && http_new(&self.arena, &h, e) < 0) || thread_start(&thread, "fetch", work, h, e) < 0)
			return -1;
	}
	return 0;
}

static int read_start(struct err *e)
{
	int fds[PULL_FDS_MAX], r;

	r = pull_recv(PULL_SOCKET_FD, &self.arena, &self.start, fds, e);
	if (r < 0)
		return -1;
	if (r == 0 || !streq(self.start.type, "start"))
		return err_set(e, ERR_INVALID, "knarr-pull is started by knarrd");
	if (self.start.idle_ms <= 0)
		self.start.idle_ms = IDLE_MS_DEFAULT;
	return 0;
}

static int begin(struct err *e)
{
	static const int none[PULL_FDS_MAX] = { -1, -1, -1 };
	struct pull_message resolve = { .type = (char *)"resolve" };
	struct arena a = { 0 };

	if (!self.start.reference)
		lock_init(&self.puller.registry.lock);
	else if (registry_load(&self.puller.registry, &self.start, e) < 0)
		return -1;
	if (pull_sandbox_enter(e) < 0 || start_workers(e) < 0)
		return -1;
	if (self.start.reference && !self.start.push)
		add_job(&a, &resolve, none);
	return 0;
}

static int take_order(struct err *e)
{
	struct arena a = { 0 };
	struct pull_message m;
	int fds[PULL_FDS_MAX], r;

	r = pull_recv(PULL_SOCKET_FD, &a, &m, fds, e);
	if (r > 0 && (streq(m.type, "copy") || (self.start.reference && (streq(m.type, "fetch") || streq(m.type, "push"))))) {
		add_job(&a, &m, fds);
		return r;
	}
	for (size_t i = 0; r > 0 && i < PULL_FDS_MAX; i++)
		fd_close(&fds[i]);
	arena_free(&a);
	return r;
}

/* Until knarrd closes its end. */
static int serve(struct err *e)
{
	long long told = -1;

	for (;;) {
		struct pollfd socket = { PULL_SOCKET_FD, POLLIN, 0 };
		struct pull_message progress = { .type = (char *)"progress" };
		int r = io_poll(NULL, &socket, 1, PROGRESS_MS, e);

		if (r < 0)
			return -1;
		if (r > 0) {
			r = take_order(e);
			if (r <= 0)
				return r;
			continue;
		}
		progress.bytes = atomic_load(&self.puller.bytes);
		if (progress.bytes != told)
			tell(&progress);
		told = progress.bytes;
	}
}

int main(int argc, char **argv)
{
	struct pull_message none = { 0 };
	struct err e = { 0 };

	if (argc > 1 && streq(argv[1], "--version")) {
		(void)puts("knarr-pull " KNARR_VERSION);
		return 0;
	}
	(void)signal(SIGPIPE, SIG_IGN);
	srandom((unsigned)clock_mono_ns() ^ (unsigned)getpid());
	lock_init(&self.lock);
	cond_init(&self.more);
	list_init(&self.jobs);
	if (read_start(&e) < 0) {
		(void)fprintf(stderr, "knarr-pull: %s\n", e.msg);
		return 2;
	}
	if (begin(&e) < 0) {
		tell_failed(0, &none, &e);
		_exit(1);
	}
	if (serve(&e) < 0) {
		(void)fprintf(stderr, "knarr-pull: %s\n", e.msg);
		_exit(1);
	}
	_exit(0);
}
