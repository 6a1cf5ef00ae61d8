/* What an image is made of, for those who copy or show it. */
#include "image/images.h"

static void layers_fill(struct images *im, struct arena *a, const struct image_record *r, struct image_content *out)
{
	size_t n = strv_len(r->layers), blobs = strv_len(r->blobs);
	struct shelf_item item;

	out->layers = arena_newn0(a, struct image_layer, n + 1);
	out->nlayers = n;
	for (size_t i = 0; i < n; i++) {
		struct image_layer *l = &out->layers[i];

		l->diff_id = arena_strdup(a, r->layers[i]);
		l->digest = i < blobs ? arena_strdup(a, r->blobs[i]) : NULL;
		if (l->digest && content_get(im->content, l->digest, &item))
			l->size = item.bytes;
		if (layer_get(im->layers, l->diff_id, &item)) {
			l->disk_bytes = item.bytes;
			l->inodes = item.inodes;
		}
	}
}

int image_content_of(struct images *im, struct arena *a, const char *name, struct image_content *out, struct err *e)
{
	const struct image_record *r;
	struct image_content c = { 0 };
	struct shelf_item item;

	if (images_hold_named(im, a, name, &c.image, &r, e) < 0)
		return -1;
	c.manifest = arena_strdup(a, r->manifest);
	c.media_type = arena_strdup(a, r->media_type);
	c.manifest_size = r->manifest_size;
	c.config_size = content_get(im->content, c.image.id, &item) ? item.bytes : 0;
	layers_fill(im, a, r, &c);
	images_unhold(im, c.image.id);
	*out = c;
	return 0;
}

int image_blob_open(struct images *im, struct arena *a, const char *name, const char *digest, int *fd, struct err *e)
{
	const struct image_record *r;
	struct image image;
	uint64_t size;
	bool has;
	int rc;

	if (images_hold_named(im, a, name, &image, &r, e) < 0)
		return -1;
	has = streq(digest, image.id) || streq(digest, r->manifest) || strv_has(r->blobs, digest) || strv_has(r->extra, digest);
	rc = has ? content_open_blob(im->content, digest, fd, &size, e) :
		   err_set(e, ERR_NOT_FOUND, "image %s has no blob %s", name, digest);
	images_unhold(im, image.id);
	return rc;
}
