/* This node's images, as a source and a sink of bundles. */
#include "cli/bundle.h"
#include "cli/progress.h"
#include "cli/session.h"

static int open_part(struct cli *cli, struct bundle *b, const char *image, struct part *p, struct err *e)
{
	int fd;

	if (session_open_blob(cli, image, p->digest, &fd, e) < 0)
		return -1;
	p->fd = bundle_own(b, fd);
	return 0;
}

struct node_finder {
	struct cli *cli;
	const char *image; /* its ID */
};

/* The sizes of what is there are what the manifest says: knarr-pull has seen to it. */
static int find_blob(void *ctx, struct bundle *b, const struct descriptor *d, UNUSED bool manifest, struct part *out,
		     struct err *e)
{
	const struct node_finder *f = ctx;

	out->digest = d->digest;
	out->size = d->size;
	return open_part(f->cli, b, f->image, out, e);
}

int node_read(struct cli *cli, struct bundle *b, const char *image, struct err *e)
{
	Knarr__V1__ImageContentRequest in = KNARR__V1__IMAGE_CONTENT_REQUEST__INIT;
	Knarr__V1__ImageContentResponse *content;
	struct node_finder f = { .cli = cli };
	struct part_finder finder = { find_blob, &f };

	in.image = (char *)image;
	if (cli_connect(cli, e) < 0 || KNARR(cli->client, cli->call, ImageContent, image_content, &in, &content, e) < 0)
		return -1;
	f.image = content->id;
	for (size_t i = 0; i < content->n_names; i++)
		b->names = strv_append(b->a, b->names, arena_strdup(b->a, content->names[i]));
	b->manifest = (struct part){ .digest = arena_strdup(b->a, content->manifest->digest),
				     .media_type = arena_strdup(b->a, content->manifest->media_type),
				     .size = (int64_t)content->manifest->size };
	if (open_part(cli, b, f.image, &b->manifest, e) < 0)
		return -1;
	return bundle_follow(b, &finder, platform_host(), e);
}

/* --- loading --------------------------------------------------------------------------------------------------- */

static Knarr__V1__LoadBlob *blob_out(struct bundle *b, const struct part *p, int *fds, size_t *n)
{
	Knarr__V1__LoadBlob *out = arena_new0(b->a, Knarr__V1__LoadBlob);
	size_t file = 0;

	knarr__v1__load_blob__init(out);
	while (file < *n && fds[file] != p->fd)
		file++;
	if (file == *n)
		fds[(*n)++] = p->fd;
	out->digest = (char *)p->digest;
	out->media_type = p->media_type ? (char *)p->media_type : (char *)"";
	out->size = (uint64_t)p->size;
	out->offset = (uint64_t)p->offset;
	out->file = (uint32_t)file;
	return out;
}

int node_write(struct cli *cli, struct bundle *b, char *const *names, const char **id, struct err *e)
{
	Knarr__V1__LoadImageRequest in = KNARR__V1__LOAD_IMAGE_REQUEST__INIT;
	struct progress *p = progress_new(cli->a, names && *names ? *names : b->config.digest);
	int *fds = arena_newn0(b->a, int, b->nlayers + 2), rc;
	struct session_files files = { .fd = fds };

	if (cli_connect(cli, e) < 0)
		return -1;
	in.names = (char **)names;
	in.n_names = strv_len(names);
	in.blobs = arena_newn0(b->a, Knarr__V1__LoadBlob *, b->nlayers + 2);
	in.blobs[in.n_blobs++] = blob_out(b, &b->manifest, fds, &files.n);
	in.blobs[in.n_blobs++] = blob_out(b, &b->config, fds, &files.n);
	for (size_t i = 0; i < b->nlayers; i++)
		in.blobs[in.n_blobs++] = blob_out(b, &b->layers[i], fds, &files.n);
	rc = session_load(cli, &in, &files, progress_take, p, e);
	progress_end(p);
	if (rc < 0)
		return -1;
	*id = progress_id(p);
	return *id ? 0 : err_set(e, ERR_INTERNAL, "the load ended without an image");
}
