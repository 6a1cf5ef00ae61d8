#include "image/pull_fetch.h"

#include "base/clock.h"
#include "base/fd.h"
#include "image/sha256.h"
#include "spec/digest.h"
#include "spec/manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#define MANIFEST_ACCEPT                                                                             \
	MEDIA_OCI_INDEX ", " MEDIA_OCI_MANIFEST ", " MEDIA_DOCKER_LIST ", " MEDIA_DOCKER_MANIFEST ", */*"

enum { PROGRESS_MIN = 256 << 10, HASH_CHUNK = 256 << 10 };

/* "sha256:…" of what was hashed; ends the hash. */
static void hash_text(struct sha256 *hash, char out[DIGEST_TEXT_MAX])
{
	uint8_t sum[SHA256_BYTES];

	sha256_end(hash, sum);
	digest_format(DIGEST_SHA256, sum, out);
}

static void hash_free(struct sha256 **hash)
{
	sha256_free(*hash);
}

static int check_algo(const char *digest, struct err *e)
{
	struct digest d;

	if (digest_parse(str_of(digest ? digest : ""), &d, e) < 0)
		return -1;
	if (d.algo != DIGEST_SHA256)
		return err_set(e, ERR_UNIMPLEMENTED, "%s: only content named by sha256 is kept", digest);
	return 0;
}

/* --- resolving -------------------------------------------------------------------------------- */

static int take_body(struct puller *p, struct arena *a, const char *wanted, const struct http_reply *reply,
		     struct pull_message *out, struct err *e)
{
	AUTO(hash_free) struct sha256 *hash = NULL;
	char text[DIGEST_TEXT_MAX];

	if (reply->body_cut)
		return err_set(e, ERR_EXHAUSTED, "the manifest has more than %d bytes", HTTP_BODY_MAX);
	hash = sha256_new();
	sha256_add(hash, reply->body.p, reply->body.len);
	hash_text(hash, text);
	if (wanted && !streq(wanted, text))
		return err_set(e, ERR_DATA_LOSS, "the registry's manifest is %s, not %s", text, wanted);
	out->digest = arena_strdup(a, text);
	out->size = (int64_t)reply->body.len;
	out->media_type = reply->content_type;
	LOCKED(&p->registry.lock);
	p->resolved_bytes = (struct str){ arena_memdup(&p->registry.arena, reply->body.p, reply->body.len + 1),
					  reply->body.len };
	p->resolved_digest = arena_strdup(&p->registry.arena, text);
	return 0;
}

static bool head_says_all(const struct http_reply *reply, const char *wanted)
{
	if (reply->content_length < 0 || reply->content_length > MANIFEST_MAX || !reply->content_type)
		return false;
	if (wanted)
		return !reply->digest || streq(reply->digest, wanted);
	return reply->digest && digest_is_valid(reply->digest);
}

int pull_resolve(struct puller *p, struct http *h, struct arena *a, struct pull_message *out, struct err *e)
{
	const struct ref *ref = &p->registry.ref;
	const char *wanted = ref->digest;
	unsigned capability = wanted ? HOST_PULL : HOST_RESOLVE;
	struct registry_get g = { .method = "HEAD", .accept = MANIFEST_ACCEPT };
	struct pull_message m = { .type = (char *)"resolved" };
	struct http_reply reply;
	size_t host;

	if (wanted && check_algo(wanted, e) < 0)
		return -1;
	g.what = arena_printf(a, "manifests/%s", wanted ? wanted : ref->tag);
	if (registry_get_anywhere(&p->registry, capability, h, a, &g, NULL, &reply, &host, e) < 0)
		return -1;
	if (head_says_all(&reply, wanted)) {
		m.digest = arena_strdup(a, wanted ? wanted : reply.digest);
		m.size = reply.content_length;
		m.media_type = reply.content_type;
	} else {
		g.method = "GET";
		if (registry_get_anywhere(&p->registry, capability, h, a, &g, NULL, &reply, &host, e) < 0)
			return -1;
		if (take_body(p, a, wanted, &reply, &m, e) < 0)
			return err_in(e, "%s", p->registry.hosts[host].host->authority);
	}
	*out = m;
	return 0;
}

/* --- fetching --------------------------------------------------------------------------------- */

struct fetch {
	struct registry_get get;      /* first: before_request() finds the fetch by it */
	struct puller *p;
	const char *digest;
	int file, pipe;               /* pipe -1: none, or its reader has gone */
	int source;                   /* a file to copy from; -1: the registry */
	int64_t source_offset;
	bool no_splice;
	int64_t size, have;           /* bytes in the file, all hashed */
	int64_t fed;                  /* of these, in the pipe */
	int64_t skip;                 /* of a 200 where a 206 was asked for */
	int64_t resumed;              /* how many an earlier fetch had left */
	int64_t at_last_request;
	bool reply_checked, discard;
	struct sha256 *hash;
};

static int wrong(struct fetch *f, struct err *e, const char *what, long long got, long long wanted)
{
	f->discard = true;
	return err_set(e, ERR_DATA_LOSS, "%s: %s %lld bytes, not %lld", f->digest, what, got, wanted);
}

/* Copies what splice cannot. The pipe does not block. */
static ssize_t copy_to_pipe(struct fetch *f, size_t n)
{
	char bytes[16384];
	ssize_t got = pread(f->file, bytes, MIN(n, sizeof(bytes)), f->fed);

	return got > 0 ? write(f->pipe, bytes, (size_t)got) : got;
}

/* Moves what is in the file on into the pipe, as far as that has room: the pages themselves, no copy.
 * 1: there is no room for more now. */
static int feed(struct fetch *f, struct err *e)
{
	while (f->pipe >= 0 && f->fed < f->have) {
		off_t at = f->fed;
		size_t n = (size_t)(f->have - f->fed);
		ssize_t r = f->no_splice ? copy_to_pipe(f, n) :
					   splice(f->file, &at, f->pipe, NULL, n, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);

		if (r > 0) {
			f->fed += r;
			continue;
		}
		if (r < 0 && errno == EAGAIN)
			return 1;
		if (r < 0 && errno == EINTR)
			continue;
		/* The unpacker has ended: it knows why, and the blob is wanted all the same. */
		if (r < 0 && errno == EPIPE) {
			f->pipe = -1;
			return 0;
		}
		if (r < 0 && errno == EINVAL && !f->no_splice) {
			f->no_splice = true;
			continue;
		}
		return err_sys(e, r < 0 ? errno : EIO, "%s: sending it to be unpacked", f->digest);
	}
	return 0;
}

static int feed_all(struct fetch *f, struct err *e)
{
	int r;

	while ((r = feed(f, e)) > 0) {
		struct pollfd pipe = { f->pipe, POLLOUT, 0 };

		(void)poll(&pipe, 1, -1);
	}
	return r;
}

/* "bytes 100-199/200" */
static int check_range(struct fetch *f, const char *text, struct err *e)
{
	struct str rest = str_of(text ? text : ""), from, total;
	int64_t n;

	if (!str_starts(rest, "bytes "))
		return err_set(e, ERR_UNAVAILABLE, "%s: a part without Content-Range", f->digest);
	rest = str_of(text + strlen("bytes "));
	from = str_cut(&rest, '-');
	if (str_to_i64(from, &n, e) < 0 || n != f->have)
		return err_set(e, ERR_UNAVAILABLE, "%s: asked for bytes from %lld, got \"%.60s\"", f->digest,
			       (long long)f->have, text);
	total = rest;
	(void)str_cut(&total, '/');
	if (total.p && !str_eqz(total, "*") && str_to_i64(total, &n, e) == 0 && n != f->size)
		return wrong(f, e, "the registry has", n, f->size);
	return 0;
}

static int check_reply(struct fetch *f, const struct http_reply *reply, struct err *e)
{
	f->reply_checked = true;
	f->skip = 0;
	if (reply->status == 206)
		return check_range(f, reply->content_range, e);
	f->skip = f->have;
	if (reply->content_length >= 0 && reply->content_length != f->size)
		return wrong(f, e, "the registry has", reply->content_length, f->size);
	return 0;
}

static int keep(struct fetch *f, const char *bytes, size_t n, struct err *e)
{
	size_t done = 0;

	if ((int64_t)n > f->size - f->have)
		return wrong(f, e, "the registry sends", f->have + (long long)n, f->size);
	while (done < n) {
		ssize_t r = pwrite(f->file, bytes + done, n - done, f->have + (off_t)done);

		if (r < 0 && errno != EINTR)
			return err_sys(e, errno, "%s: writing it to the content store", f->digest);
		done += r > 0 ? (size_t)r : 0;
	}
	sha256_add(f->hash, bytes, n);
	f->have += (int64_t)n;
	atomic_fetch_add(&f->p->bytes, (long long)n);
	return feed(f, e) < 0 ? -1 : 0;
}

static int on_bytes(void *ctx, const struct http_reply *reply, const void *bytes, size_t n, struct err *e)
{
	struct fetch *f = ctx;
	size_t skipped;

	if (!f->reply_checked && check_reply(f, reply, e) < 0)
		return -1;
	skipped = (size_t)MIN((int64_t)n, f->skip);
	f->skip -= (int64_t)skipped;
	return keep(f, (const char *)bytes + skipped, n - skipped, e);
}

static bool before_request(struct registry_get *g)
{
	struct fetch *f = container_of(g, struct fetch, get);
	bool moved = f->have - f->at_last_request >= PROGRESS_MIN;

	g->range_from = f->have;
	f->at_last_request = f->have;
	f->reply_checked = false;
	return moved;
}

/* What an earlier fetch left is hashed, and becomes ours. */
static int take_what_is_there(struct fetch *f, struct err *e)
{
	auto_buf b = BUF(HASH_CHUNK);
	struct stat st;

	if (buf_reserve(&b, HASH_CHUNK, e) < 0)
		return -1;
	if (fstat(f->file, &st) < 0)
		return err_sys(e, errno, "%s: its file in the content store", f->digest);
	if (st.st_size > f->size)
		return wrong(f, e, "its file in the content store has", st.st_size, f->size);
	while (f->have < st.st_size) {
		ssize_t n = pread(f->file, b.p, HASH_CHUNK, f->have);

		if (n <= 0)
			return err_sys(e, n < 0 ? errno : EIO, "%s: its file in the content store", f->digest);
		sha256_add(f->hash, b.p, (size_t)n);
		f->have += n;
		if (feed(f, e) < 0)
			return -1;
	}
	f->resumed = f->have;
	return 0;
}

/* A body that ends early without an error of HTTP's is asked for again, from where it ended. */
static int fetch_bytes(struct fetch *f, struct http *h, struct arena *a, size_t *host, struct err *e)
{
	enum { SHORT_MAX = 5 };
	struct http_reply reply;

	for (unsigned tries = 0; f->have < f->size; tries++) {
		int64_t had = f->have;

		if (tries == SHORT_MAX)
			return err_set(e, ERR_UNAVAILABLE, "%s: the registry ends after %lld of %lld bytes",
				       f->digest, (long long)f->have, (long long)f->size);
		if (registry_get_anywhere(&f->p->registry, HOST_PULL, h, a, &f->get, before_request, &reply,
					  host, e) < 0)
			return -1;
		if (f->have - had >= PROGRESS_MIN)
			tries = 0;
	}
	return 0;
}

static bool take_resolved(struct fetch *f)
{
	LOCKED(&f->p->registry.lock);
	return f->p->resolved_bytes.p && streq(f->p->resolved_digest, f->digest) &&
	       (int64_t)f->p->resolved_bytes.len == f->size;
}

static int copy_from_file(struct fetch *f, struct err *e)
{
	auto_buf b = BUF(HASH_CHUNK);

	if (buf_reserve(&b, HASH_CHUNK, e) < 0)
		return -1;
	while (f->have < f->size) {
		ssize_t n = pread(f->source, b.p, (size_t)MIN(f->size - f->have, (int64_t)HASH_CHUNK),
				  f->source_offset + f->have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, errno, "%s: reading it from the given file", f->digest);
		if (n == 0)
			return err_set(e, ERR_DATA_LOSS, "%s: the given file ends after %lld of %lld bytes", f->digest,
				       (long long)f->have, (long long)f->size);
		if (keep(f, b.p, (size_t)n, e) < 0)
			return -1;
	}
	return 0;
}

static int fetch_all(struct fetch *f, struct http *h, struct arena *a, size_t *host, struct err *e)
{
	if (take_what_is_there(f, e) < 0)
		return -1;
	if (f->source >= 0)
		return copy_from_file(f, e);
	if (f->have == 0 && take_resolved(f))
		return keep(f, f->p->resolved_bytes.p, f->p->resolved_bytes.len, e);
	return fetch_bytes(f, h, a, host, e);
}

static int verify(struct fetch *f, size_t host, struct err *e)
{
	char text[DIGEST_TEXT_MAX];

	hash_text(f->hash, text);
	if (streq(text, f->digest))
		return 0;
	f->discard = true;
	/* Where part of it came from an earlier fetch, nobody knows whose bytes are wrong. */
	if (host != SIZE_MAX && f->resumed == 0)
		registry_host_is_bad(&f->p->registry, host);
	if (f->source >= 0)
		return err_set(e, ERR_DATA_LOSS, "%s: its bytes in the given file have the digest %s", f->digest, text);
	return err_set(e, ERR_DATA_LOSS, "%s: what %s sent has the digest %s", f->digest,
		       host == SIZE_MAX ? "an earlier fetch left" : f->p->registry.hosts[host].host->authority,
		       text);
}

int pull_fetch(struct puller *p, struct http *h, struct arena *a, const struct pull_message *order,
	       const int fds[PULL_FDS_MAX], struct pull_message *out, struct err *e)
{
	struct fetch f = { .p = p, .digest = order->digest, .file = fds[0], .pipe = fds[1],
			   .source = -1, .source_offset = order->offset, .size = order->size };
	AUTO(hash_free) struct sha256 *hash = NULL;
	size_t host = SIZE_MAX;

	*out = (struct pull_message){ .type = (char *)"done", .id = order->id, .size = order->size };
	if (check_algo(order->digest, e) < 0)
		return -1;
	if (streq(order->type, "copy")) {
		f.source = fds[2] >= 0 ? fds[2] : fds[1];
		f.pipe = fds[2] >= 0 ? fds[1] : -1;
	}
	if (fds[0] < 0 || order->size < 0 || order->offset < 0 || (streq(order->type, "copy") && f.source < 0))
		return err_set(e, ERR_INTERNAL, "%s: an order without a file or a size", order->digest);
	if (f.pipe >= 0 && fd_set_nonblocking(f.pipe, e) < 0)
		return -1;
	f.hash = hash = sha256_new();
	f.get = (struct registry_get){
		.method = "GET", .sink = on_bytes, .sink_ctx = &f,
		.accept = order->manifest ? MANIFEST_ACCEPT : NULL,
		.what = arena_printf(a, "%s/%s", order->manifest ? "manifests" : "blobs", order->digest),
	};
	if (fetch_all(&f, h, a, &host, e) < 0 || verify(&f, host, e) < 0) {
		out->discard = f.discard;
		/* Wrong bytes may come of what lay there, or of a mirror: a fresh start may do better. */
		out->again = f.discard && (f.resumed > 0 || registry_has_other(&p->registry, HOST_PULL));
		return -1;
	}
	return feed_all(&f, e);
}
