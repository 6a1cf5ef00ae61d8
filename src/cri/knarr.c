/* knarr's own service. */
#include "cri/parts.h"

#include "base/fd.h"
#include "base/thread.h"
#include "knarr.pb-c.h"
#include "spec/digest.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

/* A pull in a thread of its own tells how far it is; the method's thread sends that on. */
struct pulling {
	struct images *images;
	struct call call;
	struct image_pull_request request;
	struct image_auth auth;
	struct image_load_request load; /* instead of a pull, where it has parts */
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
	int rc = pull->load.parts ? image_load(pull->images, &pull->call, &pull->load, &pull->id, &e) :
				    image_pull(pull->images, &pull->call, &pull->request, &pull->id, &e);
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

/* To its end, with progress. */
static int pull_and_tell(struct rpc_context *ctx, struct call *c, struct pulling *pull, struct err *e)
{
	pthread_t thread;
	int rc;

	lock_init(&pull->lock);
	cond_init(&pull->changed);
	call_begin(&pull->call, c->deadline_ns);
	rc = thread_start(&thread, "pull", pull_run, pull, e);
	if (rc == 0) {
		rc = progress_relay(ctx, c, pull, e);
		if (rc < 0)
			call_cancel(&pull->call);
		(void)pthread_join(thread, NULL); /* it is joinable and not ourselves */
		if (rc == 0)
			rc = pull_end(ctx, c, pull, e);
	}
	call_end(&pull->call);
	cond_destroy(&pull->changed);
	lock_destroy(&pull->lock);
	return rc;
}

CRI_METHOD(pull_with_progress)
{
	const Knarr__V1__PullImageRequest *in = (const Knarr__V1__PullImageRequest *)request;
	struct pulling pull = { .images = cri_of(ctx)->images };

	(void)response;
	if (require(in->reference, "reference", e) < 0)
		return -1;
	pull.request = (struct image_pull_request){ .reference = in->reference, .progress = on_progress,
						    .progress_ctx = &pull };
	auth_copy(in->auth, &pull);
	return pull_and_tell(ctx, c, &pull, e);
}

/* --- files of the caller's ------------------------------------------------------------------------------- */

enum { LOAD_FILES_MAX = 1100, LOAD_FILES_AT_ONCE = 200, LOAD_BLOBS_MAX = 1100 };

struct files {
	int fd[LOAD_FILES_MAX];
	size_t n;
};

static void files_close(struct files *f)
{
	for (size_t i = 0; i < f->n; i++)
		fd_close(&f->fd[i]);
}

static int file_check(int fd, size_t i, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys(e, errno, "file %zu", i);
	return S_ISREG(st.st_mode) ? 0 : err_set(e, ERR_INVALID, "file %zu is not a regular file", i);
}

/* The caller waits for our word before it looks at its socket. */
static int files_take(struct rpc_context *ctx, struct call *c, const char *socket, size_t wanted, struct files *f,
		      struct err *e)
{
	Knarr__V1__PullImageProgress m = KNARR__V1__PULL_IMAGE_PROGRESS__INIT;
	auto_fd int fd = -1;
	char byte;

	m.waits_for = (char *)"the files";
	m.wants_files = true;
	if (socket_of_caller(socket, &fd, e) < 0 || rpc_send(ctx, c, &m.base, e) < 0)
		return -1;
	while (f->n < wanted) {
		size_t n = MIN(wanted - f->n, (size_t)LOAD_FILES_AT_ONCE);
		ssize_t got;

		if (io_wait(c, fd, POLLIN, e) < 0)
			return -1;
		got = fd_recv_msg(fd, &byte, 1, f->fd + f->n, &n, e);
		if (got < 0)
			return -1;
		f->n += n;
		if (got == 0 || n == 0)
			return err_set(e, ERR_INVALID, "the caller gave %zu of %zu files", f->n, wanted);
	}
	for (size_t i = 0; i < f->n; i++)
		if (file_check(f->fd[i], i, e) < 0)
			return -1;
	return 0;
}

static int parts_in(struct arena *a, const Knarr__V1__LoadImageRequest *in, const struct files *f, struct image_part **out,
		    struct err *e)
{
	struct image_part *parts = arena_newn0(a, struct image_part, in->n_blobs);

	for (size_t i = 0; i < in->n_blobs; i++) {
		const Knarr__V1__LoadBlob *b = in->blobs[i];

		if (b->file >= f->n || b->size > INT64_MAX || b->offset > INT64_MAX - b->size)
			return err_set(e, ERR_INVALID, "blob %s lies in no file that was given", b->digest);
		if (digest_check(b->digest, e) < 0)
			return -1;
		parts[i] = (struct image_part){ .digest = b->digest, .media_type = text_in(b->media_type),
						.size = (int64_t)b->size, .offset = (int64_t)b->offset, .fd = f->fd[b->file] };
	}
	*out = parts;
	return 0;
}

CRI_METHOD(load_image)
{
	const Knarr__V1__LoadImageRequest *in = (const Knarr__V1__LoadImageRequest *)request;
	struct pulling pull = { .images = cri_of(ctx)->images };
	AUTO(files_close) struct files files = { .n = 0 };
	struct image_part *parts;

	(void)response;
	if (in->n_blobs == 0 || in->n_blobs > LOAD_BLOBS_MAX || in->files == 0 || in->files > LOAD_FILES_MAX)
		return err_set(e, ERR_INVALID, "an image of %zu blobs in %u files", in->n_blobs, in->files);
	if (files_take(ctx, c, in->socket, in->files, &files, e) < 0 || parts_in(&c->arena, in, &files, &parts, e) < 0)
		return -1;
	pull.load = (struct image_load_request){ .parts = parts, .nparts = in->n_blobs,
						 .names = strv_in(&c->arena, in->n_names, in->names),
						 .progress = on_progress, .progress_ctx = &pull };
	return pull_and_tell(ctx, c, &pull, e);
}

/* --- what an image is made of ------------------------------------------------------------------------------ */

static Knarr__V1__Blob *blob_out(struct arena *a, const char *digest, const char *media_type, uint64_t size)
{
	Knarr__V1__Blob *b = message_new(a, &knarr__v1__blob__descriptor);

	b->digest = text_out(digest);
	b->media_type = text_out(media_type);
	b->size = size;
	return b;
}

CRI_METHOD(image_content)
{
	const Knarr__V1__ImageContentRequest *in = (const Knarr__V1__ImageContentRequest *)request;
	Knarr__V1__ImageContentResponse *out = (Knarr__V1__ImageContentResponse *)response;
	struct arena *a = &c->arena;
	struct image_content content;

	if (require(in->image, "image", e) < 0 || image_content_of(cri_of(ctx)->images, a, in->image, &content, e) < 0)
		return -1;
	out->id = content.image.id;
	out->manifest = blob_out(a, content.manifest, content.media_type, content.manifest_size);
	out->config_size = content.config_size;
	out->pinned = content.image.pinned;
	out->n_layers = content.nlayers;
	out->layers = CRI_NEWV(a, content.nlayers);
	for (size_t i = 0; i < content.nlayers; i++) {
		const struct image_layer *l = &content.layers[i];
		Knarr__V1__ImageLayer *m = message_new(a, &knarr__v1__image_layer__descriptor);

		m->blob = blob_out(a, l->digest, NULL, l->size);
		m->diff_id = text_out(l->diff_id);
		m->disk_bytes = l->disk_bytes;
		m->inodes = l->inodes;
		out->layers[i] = m;
	}
	out->names = content.image.tags;
	for (char **d = content.image.digests; d && *d; d++)
		out->names = strv_append(a, out->names, *d);
	out->n_names = strv_len(out->names);
	return 0;
}

CRI_METHOD(open_blob)
{
	const Knarr__V1__OpenBlobRequest *in = (const Knarr__V1__OpenBlobRequest *)request;
	auto_fd int blob = -1;

	(void)response;
	if (require(in->image, "image", e) < 0 || require(in->digest, "digest", e) < 0 ||
	    image_blob_open(cri_of(ctx)->images, &c->arena, in->image, in->digest, &blob, e) < 0)
		return -1;
	return hand_over_one(in->socket, 'b', blob, e);
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
