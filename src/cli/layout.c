/* What others call an image on disk: the OCI layout (image-layout.md), docker's archive (`docker save`), skopeo's dir. */
#include "cli/bundle.h"

#include "base/fd.h"
#include "cli/hash.h"
#include "spec/ref.h"

#include <stdio.h>
#include <unistd.h>

#define REF_NAME "org.opencontainers.image.ref.name"
#define CONTAINERD_NAME "io.containerd.image.name"
#define MEDIA_LAYER "application/vnd.oci.image.layer.v1.tar"

/* --- OCI ------------------------------------------------------------------------------------------------------ */

static int find_blob(void *ctx, struct bundle *b, const struct descriptor *d, UNUSED bool manifest, struct part *out,
		     struct err *e)
{
	char path[DIGEST_TEXT_MAX + 8];

	if (digest_check(d->digest, e) < 0)
		return -1;
	(void)snprintf(path, sizeof(path), "blobs/%s", d->digest);
	*strchr(path, ':') = '/';
	return parts_find(ctx, b, path, out, e);
}

static int read_index(const struct shelf_of_parts *s, struct bundle *b, struct manifest *out, struct err *e)
{
	struct part index = { .fd = -1 };
	struct str text;

	if (parts_find(s, b, "index.json", &index, e) < 0 || part_read(b->a, &index, MANIFEST_MAX, &text, e) < 0)
		return -1;
	return manifest_parse(b->a, text, MEDIA_OCI_INDEX, out, e) < 0 ? err_in(e, "index.json") : 0;
}

/* A whole reference, or NULL: "latest" alone says nothing of a repository. */
static char *whole_name(struct arena *a, const char *name)
{
	struct ref r;
	struct err no;

	if (!name || !strpbrk(name, "/:@") || ref_parse(a, name, &r, &no) < 0)
		return NULL;
	return ref_text(a, &r);
}

static bool is_called(struct arena *a, const struct descriptor *d, const char *name)
{
	const char *const notes[] = { REF_NAME, CONTAINERD_NAME };
	const char *wanted = whole_name(a, name);

	for (size_t i = 0; i < ARRAY_SIZE(notes); i++) {
		const char *its = json_map_get(&d->annotations, notes[i]);

		if (its && (streq(its, name) || (wanted && streq_null(whole_name(a, its), wanted))))
			return true;
	}
	return streq(d->digest, name);
}

static void take_names(struct bundle *b, const struct descriptor *d)
{
	const char *tag = json_map_get(&d->annotations, REF_NAME), *whole = json_map_get(&d->annotations, CONTAINERD_NAME);
	char *name = whole_name(b->a, whole);

	if (!name)
		name = whole_name(b->a, tag);
	if (name && !strv_has(b->names, name))
		b->names = strv_append(b->a, b->names, name);
	b->tag = arena_strdup(b->a, tag);
}

/* The entries of one manifest are one image of several names. */
static bool is_repeated(const struct manifest *index, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (streq(index->manifests[k].digest, index->manifests[i].digest))
			return true;
	return false;
}

static size_t count_of(const struct manifest *index)
{
	size_t n = 0;

	for (size_t i = 0; i < index->nmanifests; i++)
		n += !is_repeated(index, i);
	return n;
}

static const struct descriptor *choose(struct bundle *b, const struct manifest *index, const struct layout_wish *w)
{
	size_t at = 0;

	for (size_t i = 0; i < index->nmanifests; i++) {
		if (w->name ? is_called(b->a, &index->manifests[i], w->name) : !is_repeated(index, i) && at++ == w->number)
			return &index->manifests[i];
	}
	return NULL;
}

static int oci_read(const struct shelf_of_parts *s, struct bundle *b, const struct layout_wish *w, struct err *e)
{
	const struct part_finder finder = { find_blob, (void *)s };
	const struct descriptor *d;
	struct manifest index;

	if (read_index(s, b, &index, e) < 0)
		return -1;
	d = choose(b, &index, w);
	if (!d)
		return w->name ? err_set(e, ERR_NOT_FOUND, "it has no image called \"%s\"", w->name) :
				 err_set(e, ERR_NOT_FOUND, "it has %zu images", count_of(&index));
	if (find_blob((void *)s, b, d, true, &b->manifest, e) < 0)
		return -1;
	b->manifest.digest = d->digest;
	b->manifest.media_type = d->media_type;
	for (size_t i = 0; i < index.nmanifests; i++)
		if (streq(index.manifests[i].digest, d->digest))
			take_names(b, &index.manifests[i]);
	return bundle_follow(b, &finder, w->platform, e);
}

/* --- docker ---------------------------------------------------------------------------------------------------- */

struct docker_image {
	char *config;
	char **tags, **layers;
};
struct docker_images {
	struct json_vec images;
};
static const struct json_field docker_image_fields[] = {
	{ "Config", JSON_STR, offsetof(struct docker_image, config), JSON_REQUIRED },
	{ "RepoTags", JSON_STRV, offsetof(struct docker_image, tags) },
	{ "Layers", JSON_STRV, offsetof(struct docker_image, layers) },
	{ 0 },
};
static const struct json_field docker_images_fields[] = {
	{ "images", JSON_OBJV, offsetof(struct docker_images, images), 0, docker_image_fields, sizeof(struct docker_image) },
	{ 0 },
};

static int read_docker(const struct shelf_of_parts *s, struct bundle *b, struct docker_images *out, struct err *e)
{
	struct part list = { .fd = -1 };
	struct str text;
	char *object;

	*out = (struct docker_images){ 0 };
	if (parts_find(s, b, "manifest.json", &list, e) < 0 || part_read(b->a, &list, MANIFEST_MAX, &text, e) < 0)
		return -1;
	/* A list by itself has no table to be read by. */
	object = arena_printf(b->a, "{\"images\":%.*s}", STR_ARG(text));
	return json_load(b->a, str_of(object), docker_images_fields, 0, out, e) < 0 ? err_in(e, "manifest.json") : 0;
}

static int read_layer(const struct shelf_of_parts *s, struct bundle *b, const char *path, const char *diff_id,
		      struct part *out, struct err *e)
{
	unsigned char head[4] = { 0 };
	char *digest = (char *)diff_id;

	if (parts_find(s, b, path, out, e) < 0)
		return -1;
	if (pread(out->fd, head, MIN(sizeof(head), (size_t)out->size), out->offset) < 0)
		return err_set(e, ERR_SYSTEM, "%s cannot be read", path);
	out->media_type = MEDIA_LAYER;
	if (head[0] == 0x1f && head[1] == 0x8b)
		out->media_type = MEDIA_LAYER "+gzip";
	else if (memcmp(head, "\x28\xb5\x2f\xfd", 4) == 0)
		out->media_type = MEDIA_LAYER "+zstd";
	/* Plain, its digest is the diff ID, which whoever takes it verifies. */
	if (!streq(out->media_type, MEDIA_LAYER) && hash_file(b->a, out->fd, out->offset, out->size, &digest, e) < 0)
		return err_in(e, "%s", path);
	out->digest = digest;
	return 0;
}

static bool docker_is_called(struct arena *a, const struct docker_image *im, const char *name)
{
	const char *wanted = whole_name(a, name);

	for (char **t = im->tags; t && *t; t++)
		if (streq(*t, name) || (wanted && streq_null(whole_name(a, *t), wanted)))
			return true;
	return false;
}

static int docker_choose(struct bundle *b, const struct docker_images *all, const struct layout_wish *w,
			 const struct docker_image **out, struct err *e)
{
	const struct docker_image *p = all->images.p;

	for (size_t i = 0; i < all->images.count; i++)
		if (w->name ? docker_is_called(b->a, &p[i], w->name) : i == w->number) {
			*out = &p[i];
			return 0;
		}
	return w->name ? err_set(e, ERR_NOT_FOUND, "it has no image called \"%s\"", w->name) :
			 err_set(e, ERR_NOT_FOUND, "it has %zu images", all->images.count);
}

static int docker_read(const struct shelf_of_parts *s, struct bundle *b, const struct layout_wish *w, struct err *e)
{
	const struct docker_image *im;
	struct image_config config;
	struct docker_images all;
	char *digest;
	struct str text;

	if (read_docker(s, b, &all, e) < 0 || docker_choose(b, &all, w, &im, e) < 0 ||
	    parts_find(s, b, im->config, &b->config, e) < 0 || part_read(b->a, &b->config, IMAGE_CONFIG_MAX, &text, e) < 0)
		return -1;
	if (image_config_parse(b->a, text, &config, e) < 0)
		return err_in(e, "%s", im->config);
	if (strv_len(config.diff_ids) != strv_len(im->layers))
		return err_set(e, ERR_INVALID, "manifest.json has %zu layers, %s %zu", strv_len(im->layers), im->config,
			       strv_len(config.diff_ids));
	if (hash_text(b->a, text, &digest, e) < 0)
		return -1;
	b->config.digest = digest;
	b->config.media_type = MEDIA_OCI_CONFIG;
	b->nlayers = strv_len(im->layers);
	b->layers = arena_newn0(b->a, struct part, b->nlayers + 1);
	for (size_t i = 0; i < b->nlayers; i++)
		if (read_layer(s, b, im->layers[i], config.diff_ids[i], &b->layers[i], e) < 0)
			return -1;
	for (char **t = im->tags; t && *t; t++)
		if (whole_name(b->a, *t))
			b->names = strv_append(b->a, b->names, whole_name(b->a, *t));
	return bundle_make_manifest(b, e);
}

/* --- either ------------------------------------------------------------------------------------------------------ */

int layout_count(const struct shelf_of_parts *s, struct bundle *b, enum layout_kind kind, size_t *n, struct err *e)
{
	struct docker_images all;
	struct manifest index;

	if (kind == LAYOUT_OCI) {
		if (read_index(s, b, &index, e) < 0)
			return -1;
		*n = count_of(&index);
		return 0;
	}
	if (read_docker(s, b, &all, e) < 0)
		return -1;
	*n = all.images.count;
	return 0;
}

int layout_read(const struct shelf_of_parts *s, struct bundle *b, const struct layout_wish *w, struct err *e)
{
	return w->kind == LAYOUT_OCI ? oci_read(s, b, w, e) : docker_read(s, b, w, e);
}

/* --- dir ----------------------------------------------------------------------------------------------------------- */

static int find_in_dir(void *ctx, struct bundle *b, const struct descriptor *d, bool manifest, struct part *out, struct err *e)
{
	if (digest_check(d->digest, e) < 0)
		return -1;
	return parts_find(ctx, b, manifest ? arena_printf(b->a, "%s.manifest.json", digest_hex(d->digest)) :
					     digest_hex(d->digest), out, e);
}

int dir_read(const struct shelf_of_parts *s, struct bundle *b, const struct platform *platform, struct err *e)
{
	const struct part_finder finder = { find_in_dir, (void *)s };
	struct str text;
	char *digest;

	if (parts_find(s, b, "manifest.json", &b->manifest, e) < 0 ||
	    part_read(b->a, &b->manifest, MANIFEST_MAX, &text, e) < 0 || hash_text(b->a, text, &digest, e) < 0)
		return -1;
	b->manifest.digest = digest;
	return bundle_follow(b, &finder, platform, e);
}
