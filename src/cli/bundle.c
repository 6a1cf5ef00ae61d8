#include "cli/bundle.h"

#include "base/fd.h"
#include "base/mem.h"
#include "cli/hash.h"

#include <errno.h>
#include <unistd.h>

void bundle_init(struct bundle *b, struct arena *a)
{
	*b = (struct bundle){ .a = a };
}

void bundle_close(struct bundle *b)
{
	for (size_t i = 0; i < b->nfds; i++)
		fd_close(&b->fds[i]);
	b->nfds = 0;
}

int bundle_own(struct bundle *b, int fd)
{
	if (b->nfds == b->room) {
		int *more = arena_newn0(b->a, int, b->room * 2 + 16);

		if (b->nfds)
			memcpy(more, b->fds, b->nfds * sizeof(*more));
		b->fds = more;
		b->room = b->room * 2 + 16;
	}
	return b->fds[b->nfds++] = fd;
}

int bundle_document(struct bundle *b, struct str text, const char *media_type, struct part *out, struct err *e)
{
	char *digest;
	int fd;

	if (hash_text(b->a, text, &digest, e) < 0)
		return -1;
	fd = fd_memfd("document", text.p, text.len, e);
	if (fd < 0)
		return -1;
	*out = (struct part){ .digest = digest, .media_type = media_type, .size = (int64_t)text.len, .fd = bundle_own(b, fd) };
	return 0;
}

int part_read(struct arena *a, const struct part *p, size_t max, struct str *out, struct err *e)
{
	size_t size = (size_t)p->size, done = 0;
	char *bytes;

	if (p->size < 0 || size > max)
		return err_set(e, ERR_EXHAUSTED, "%s has %lld bytes, more than %zu", p->digest ? p->digest : "a document",
			       (long long)p->size, max);
	bytes = arena_alloc(a, size + 1);
	while (done < size) {
		ssize_t n = pread(p->fd, bytes + done, size - done, p->offset + (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? err_sys(e, errno, "read a document") : err_set(e, ERR_DATA_LOSS, "a document is cut short");
		done += (size_t)n;
	}
	bytes[size] = '\0';
	*out = (struct str){ bytes, size };
	return 0;
}

static int part_verify(struct arena *a, const struct part *p, struct err *e)
{
	char *is;

	if (hash_file(a, p->fd, p->offset, p->size, &is, e) < 0)
		return err_in(e, "%s", p->digest);
	return streq(is, p->digest) ? 0 : err_set(e, ERR_DATA_LOSS, "%s: its bytes have the digest %s", p->digest, is);
}

int bundle_verify(struct bundle *b, struct err *e)
{
	if (part_verify(b->a, &b->manifest, e) < 0 || part_verify(b->a, &b->config, e) < 0)
		return -1;
	for (size_t i = 0; i < b->nlayers; i++)
		if (part_verify(b->a, &b->layers[i], e) < 0)
			return -1;
	return 0;
}

/* --- a manifest -------------------------------------------------------------------------------------------- */

struct made_descriptor {
	const char *media_type, *digest;
	int64_t size;
};
struct made_manifest {
	uint32_t schema_version;
	const char *media_type;
	struct made_descriptor config;
	struct json_vec layers;
};
static const struct json_field descriptor_fields[] = {
	{ "mediaType", JSON_STR, offsetof(struct made_descriptor, media_type) },
	{ "digest", JSON_STR, offsetof(struct made_descriptor, digest) },
	{ "size", JSON_I64, offsetof(struct made_descriptor, size), JSON_KEEP_ZERO },
	{ 0 },
};
static const struct json_field manifest_fields[] = {
	{ "schemaVersion", JSON_U32, offsetof(struct made_manifest, schema_version) },
	{ "mediaType", JSON_STR, offsetof(struct made_manifest, media_type) },
	{ "config", JSON_SUB, offsetof(struct made_manifest, config), 0, descriptor_fields, sizeof(struct made_descriptor) },
	{ "layers", JSON_OBJV, offsetof(struct made_manifest, layers), JSON_KEEP_ZERO, descriptor_fields,
	  sizeof(struct made_descriptor) },
	{ 0 },
};

int bundle_make_manifest(struct bundle *b, struct err *e)
{
	struct made_descriptor *layers = arena_newn0(b->a, struct made_descriptor, b->nlayers + 1);
	struct made_manifest m = { .schema_version = 2, .media_type = MEDIA_OCI_MANIFEST,
				   .config = { b->config.media_type, b->config.digest, b->config.size },
				   .layers = { layers, b->nlayers } };
	auto_buf text = BUF(MANIFEST_MAX);

	for (size_t i = 0; i < b->nlayers; i++)
		layers[i] = (struct made_descriptor){ b->layers[i].media_type, b->layers[i].digest, b->layers[i].size };
	if (json_write(&text, manifest_fields, &m, e) < 0)
		return -1;
	return bundle_document(b, buf_str(&text), MEDIA_OCI_MANIFEST, &b->manifest, e);
}

/* --- from a manifest to its blobs ------------------------------------------------------------------------------ */

static int find(struct bundle *b, const struct part_finder *f, const struct descriptor *d, bool manifest, struct part *out,
		struct err *e)
{
	struct part p = { .fd = -1 };

	if (f->find(f->ctx, b, d, manifest, &p, e) < 0)
		return -1;
	if (p.size != d->size)
		return err_set(e, ERR_DATA_LOSS, "%s has %lld bytes, its descriptor says %lld", d->digest, (long long)p.size,
			       (long long)d->size);
	p.digest = d->digest;
	p.media_type = d->media_type;
	*out = p;
	return 0;
}

int bundle_follow(struct bundle *b, const struct part_finder *f, const struct platform *platform, struct err *e)
{
	enum { DEPTH_MAX = 4 };
	const struct descriptor *chosen;
	struct manifest m;
	struct str text;

	for (unsigned depth = 0;; depth++) {
		if (part_read(b->a, &b->manifest, MANIFEST_MAX, &text, e) < 0 ||
		    manifest_parse(b->a, text, b->manifest.media_type, &m, e) < 0)
			return err_in(e, "manifest %s", b->manifest.digest);
		b->manifest.media_type = m.media_type;
		if (m.kind == MANIFEST_IMAGE)
			break;
		if (depth == DEPTH_MAX)
			return err_set(e, ERR_INVALID, "%s: indexes within indexes without end", b->manifest.digest);
		if (manifest_choose(b->a, &m, platform, &chosen, e) < 0 || find(b, f, chosen, true, &b->manifest, e) < 0)
			return -1;
	}
	if (find(b, f, &m.config, false, &b->config, e) < 0)
		return -1;
	b->layers = arena_newn0(b->a, struct part, m.nlayers + 1);
	b->nlayers = m.nlayers;
	for (size_t i = 0; i < m.nlayers; i++)
		if (find(b, f, &m.layers[i], false, &b->layers[i], e) < 0)
			return -1;
	return 0;
}
