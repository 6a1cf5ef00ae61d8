#include "image/pull_push.h"

#include <errno.h>
#include <unistd.h>

enum { TRIES_MAX = 5 };

struct push {
	struct puller *p;
	struct http *h;
	struct arena *a;
	const struct pull_message *order;
	int source;
	int64_t told; /* bytes that were counted as sent */
	size_t host;
};

static int read_body(void *ctx, int64_t at, void *bytes, size_t max, size_t *n, struct err *e)
{
	struct push *x = ctx;
	ssize_t got;

	do {
		got = pread(x->source, bytes, max, x->order->offset + at);
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return err_sys(e, errno, "%s: reading it to push it", x->order->digest);
	if (got == 0)
		return err_set(e, ERR_DATA_LOSS, "%s: its file ends after %lld of %lld bytes", x->order->digest, (long long)at,
			       (long long)x->order->size);
	if (at + got > x->told) {
		atomic_fetch_add(&x->p->bytes, (long long)(at + got - x->told));
		x->told = at + got;
	}
	*n = (size_t)got;
	return 0;
}

static struct registry_get put_of(struct push *x, const char *what, const char *content_type)
{
	return (struct registry_get){ .method = "PUT", .what = what, .writes = true, .body = read_body, .body_ctx = x,
				      .body_size = x->order->size, .content_type = content_type };
}

static bool is_there(struct push *x)
{
	struct registry_get head = { .method = "HEAD", .what = arena_printf(x->a, "blobs/%s", x->order->digest) };
	struct http_reply reply;
	struct err no;

	return registry_get_patiently(&x->p->registry, x->host, x->h, x->a, &head, &reply, &no) == REGISTRY_OK;
}

/* An upload is begun, and ended in one request (distribution-spec, "POST then PUT"). */
static enum registry_outcome upload(struct push *x, struct http_reply *reply, struct err *e)
{
	const struct pull_message *o = x->order;
	struct registry_get begin = { .method = "POST", .what = "blobs/uploads/", .writes = true, .form = "" };
	struct registry_get put = put_of(x, "blobs/uploads/", "application/octet-stream");
	enum registry_outcome outcome;
	char *to;

	if (o->mount_from)
		begin.what = arena_printf(x->a, "blobs/uploads/?mount=%s&from=%s", o->digest, o->mount_from);
	outcome = registry_get_patiently(&x->p->registry, x->host, x->h, x->a, &begin, reply, e);
	if (outcome != REGISTRY_OK || (o->mount_from && reply->status == 201))
		return outcome;
	if (registry_location(&x->p->registry, x->host, x->a, begin.what, reply->location, &to, e) < 0)
		return REGISTRY_STOP;
	put.url = arena_printf(x->a, "%s%cdigest=%s", to, strchr(to, '?') ? '&' : '?', o->digest);
	return registry_get(&x->p->registry, x->host, x->h, x->a, &put, reply, e);
}

static int push_blob(struct push *x, struct err *e)
{
	struct http_reply reply;

	if (is_there(x))
		return 0;
	for (unsigned tries = 1;; tries++) {
		enum registry_outcome outcome;

		reply = (struct http_reply){ .retry_after_s = -1 };
		outcome = upload(x, &reply, e);
		if (outcome == REGISTRY_OK)
			return 0;
		if (outcome != REGISTRY_RETRY || tries == TRIES_MAX)
			return -1;
		registry_pause(tries, &reply);
	}
}

static int push_manifest(struct push *x, struct err *e)
{
	const struct pull_message *o = x->order;
	struct registry_get put = put_of(x, arena_printf(x->a, "manifests/%s", o->tag ? o->tag : o->digest), o->media_type);
	struct http_reply reply;

	return registry_get_patiently(&x->p->registry, x->host, x->h, x->a, &put, &reply, e) == REGISTRY_OK ? 0 : -1;
}

int pull_push(struct puller *p, struct http *h, struct arena *a, const struct pull_message *order, int source,
	      struct pull_message *out, struct err *e)
{
	struct push x = { .p = p, .h = h, .a = a, .order = order, .source = source };

	*out = (struct pull_message){ .type = (char *)"done", .id = order->id, .size = order->size };
	if (source < 0 || order->size < 0 || order->offset < 0 || !order->digest || (order->manifest && !order->media_type))
		return err_set(e, ERR_INTERNAL, "an order to push without a file, a size or a type");
	if (registry_push_host(&p->registry, &x.host, e) < 0)
		return -1;
	if ((order->manifest ? push_manifest(&x, e) : push_blob(&x, e)) < 0)
		return -1;
	out->bytes = x.told;
	return 0;
}
