/* knarr's own service. */
#include "cri/parts.h"

#include "base/thread.h"
#include "knarr.pb-c.h"

#include <signal.h>
#include <stdio.h>

/* A pull in a thread of its own tells how far it is; the method's thread sends that on. */
struct pulling {
	struct images *images;
	struct call call;
	struct image_pull_request request;
	struct image_auth auth;
	struct lock lock;            /* guards what follows */
	struct cond changed;
	struct image_progress progress;
	char waits_for[64];
	bool news, done;
	int rc;
	const char *id;
	struct err e;
};

static void on_progress(void *ctx, const struct image_progress *p)
{
	struct pulling *pull = ctx;
	LOCKED(&pull->lock);

	pull->progress = *p;
	(void)snprintf(pull->waits_for, sizeof(pull->waits_for), "%s", p->waits_for ? p->waits_for : "");
	pull->news = true;
	cond_broadcast(&pull->changed);
}

static void *pull_run(void *arg)
{
	struct pulling *pull = arg;
	struct err e;
	int rc = image_pull(pull->images, &pull->call, &pull->request, &pull->id, &e);
	LOCKED(&pull->lock);

	pull->rc = rc;
	if (rc < 0)
		pull->e = e;
	pull->done = true;
	cond_broadcast(&pull->changed);
	return NULL;
}

static void progress_fill(const struct pulling *pull, Knarr__V1__PullImageProgress *m)
{
	m->layers = pull->progress.layers;
	m->layers_done = pull->progress.layers_done;
	m->bytes = pull->progress.bytes;
	m->bytes_total = pull->progress.bytes_total;
}

/* Waits for news. 1: *m has some; 0: the pull has ended. */
static int news_wait(struct pulling *pull, struct call *c, Knarr__V1__PullImageProgress *m, struct err *e)
{
	LOCKED(&pull->lock);

	while (!pull->news && !pull->done) {
		if (cond_wait(c, &pull->changed, &pull->lock, e) < 0)
			return -1;
	}
	progress_fill(pull, m);
	m->waits_for = arena_strdup(&c->arena, pull->waits_for);
	if (!pull->news)
		return 0;
	pull->news = false;
	return 1;
}

static int progress_relay(struct rpc_context *ctx, struct call *c, struct pulling *pull, struct err *e)
{
	Knarr__V1__PullImageProgress m = KNARR__V1__PULL_IMAGE_PROGRESS__INIT;
	int rc;

	while ((rc = news_wait(pull, c, &m, e)) > 0) {
		if (rpc_send(ctx, c, &m.base, e) < 0)
			return -1;
	}
	return rc;
}

static int pull_end(struct rpc_context *ctx, struct call *c, struct pulling *pull, struct err *e)
{
	Knarr__V1__PullImageProgress m = KNARR__V1__PULL_IMAGE_PROGRESS__INIT;

	if (pull->rc < 0) {
		*e = pull->e;
		return -1;
	}
	progress_fill(pull, &m);
	m.image_id = text_out(pull->id);
	return rpc_send(ctx, c, &m.base, e);
}

static void auth_copy(const CRI_T(AuthConfig) *in, struct pulling *pull)
{
	if (!in)
		return;
	pull->auth = (struct image_auth){
		.username = text_in(in->username), .password = text_in(in->password), .auth = text_in(in->auth),
		.server_address = text_in(in->server_address), .identity_token = text_in(in->identity_token),
		.registry_token = text_in(in->registry_token),
	};
	pull->request.auth = &pull->auth;
}

CRI_METHOD(pull_with_progress)
{
	const Knarr__V1__PullImageRequest *in = (const Knarr__V1__PullImageRequest *)request;
	struct pulling pull = { .images = cri_of(ctx)->images };
	pthread_t thread;
	int rc;

	(void)response;
	if (require(in->reference, "reference", e) < 0)
		return -1;
	pull.request = (struct image_pull_request){ .reference = in->reference, .progress = on_progress,
						    .progress_ctx = &pull };
	auth_copy(in->auth, &pull);
	lock_init(&pull.lock);
	cond_init(&pull.changed);
	call_begin(&pull.call, c->deadline_ns);
	rc = thread_start(&thread, "pull", pull_run, &pull, e);
	if (rc == 0) {
		rc = progress_relay(ctx, c, &pull, e);
		if (rc < 0)
			call_cancel(&pull.call);
		(void)pthread_join(thread, NULL); /* it is joinable and not ourselves */
		if (rc == 0)
			rc = pull_end(ctx, c, &pull, e);
	}
	call_end(&pull.call);
	cond_destroy(&pull.changed);
	lock_destroy(&pull.lock);
	return rc;
}

CRI_METHOD(tag_image)
{
	const Knarr__V1__TagImageRequest *in = (const Knarr__V1__TagImageRequest *)request;
	struct image image;

	(void)response;
	if (require(in->image, "image", e) < 0 || require(in->reference, "reference", e) < 0 ||
	    image_find(cri_of(ctx)->images, &c->arena, in->image, &image, e) < 0)
		return -1;
	return image_tag(cri_of(ctx)->images, image.id, in->reference, e);
}

CRI_METHOD(wait_container)
{
	const Knarr__V1__WaitContainerRequest *in = (const Knarr__V1__WaitContainerRequest *)request;
	Knarr__V1__WaitContainerResponse *out = (Knarr__V1__WaitContainerResponse *)response;
	struct pods *pods = cri_of(ctx)->pods;
	uint64_t from = pod_events_next_number(pods);

	if (require(in->container_id, "container_id", e) < 0)
		return -1;
	for (;;) {
		struct container_views *views = hold_containers(c);
		const struct container_view *v;
		struct pod_event event = { 0 };

		if (container_status(pods, &c->arena, owner_of(ctx), in->container_id, views, e) < 0)
			return -1;
		v = &views->v[0];
		if (v->state == CONTAINER_EXITED || v->state == CONTAINER_UNKNOWN) {
			out->exit_code = v->exit_code;
			out->reason = text_out(v->reason);
			out->message = text_out(v->message);
			out->finished_at = v->finished_wall_ns;
			return 0;
		}
		/* Lost events are no harm: the next look is at the state itself. */
		do {
			if (pod_event_wait(pods, c, owner_of(ctx), &from, &event, e) < 0) {
				if (e->kind != ERR_EXHAUSTED)
					return -1;
				break;
			}
		} while (!streq(event.container_id, v->id));
	}
}

CRI_METHOD(kill_container)
{
	const Knarr__V1__KillContainerRequest *in = (const Knarr__V1__KillContainerRequest *)request;

	(void)response;
	if (require(in->container_id, "container_id", e) < 0)
		return -1;
	if (in->signal < 1 || in->signal >= NSIG)
		return err_set(e, ERR_INVALID, "signal %u is none", in->signal);
	return container_kill(cri_of(ctx)->pods, c, owner_of(ctx), in->container_id, (int)in->signal, e);
}
