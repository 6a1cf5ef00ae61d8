/* The index of images in memory: filled from the catalog at start. */
#include "base/log.h"
#include "base/mem.h"
#include "image/images.h"

#define FIELD(name, kind, member) { name, kind, offsetof(struct image_record, member) }
const struct json_field image_record_fields[] = {
	FIELD("version", JSON_U32, version),
	FIELD("manifest", JSON_STR, manifest),
	FIELD("mediaType", JSON_STR, media_type),
	FIELD("manifestSize", JSON_U64, manifest_size),
	FIELD("layers", JSON_STRV, layers),
	FIELD("blobs", JSON_STRV, blobs),
	FIELD("extra", JSON_STRV, extra),
	FIELD("user", JSON_STR, user),
	FIELD("labels", JSON_MAP, labels),
	{ 0 },
};

/* A layer's row. */
struct layer_record {
	uint32_t version;
	uint64_t bytes, inodes, flags;
};

static const struct json_field layer_record_fields[] = {
	{ "version", JSON_U32, offsetof(struct layer_record, version) },
	{ "bytes", JSON_U64, offsetof(struct layer_record, bytes) },
	{ "inodes", JSON_U64, offsetof(struct layer_record, inodes) },
	{ "flags", JSON_U64, offsetof(struct layer_record, flags) },
	{ 0 },
};

/* --- one row --------------------------------------------------------------------------------------- */

static void copy_labels(struct arena *a, struct json_map *out, const struct json_map *in)
{
	if (!in->p)
		return;
	out->p = arena_newn0(a, struct json_pair, in->count + 1);
	out->count = in->count;
	for (size_t i = 0; i < in->count; i++) {
		out->p[i].key = arena_strdup(a, in->p[i].key);
		out->p[i].value = arena_strdup(a, in->p[i].value);
	}
}

static void record_copy(struct arena *a, struct image_record *out, const struct image_record *r)
{
	*out = (struct image_record){
		.version = 1,
		.manifest = arena_strdup(a, r->manifest),
		.media_type = arena_strdup(a, r->media_type),
		.manifest_size = r->manifest_size,
		.layers = strv_dup(a, r->layers),
		.blobs = strv_dup(a, r->blobs),
		.extra = strv_dup(a, r->extra),
		.user = arena_strdup(a, r->user),
	};
	copy_labels(a, &out->labels, &r->labels);
}

static bool ref_blobs(struct images *im, char *const *digests, size_t *taken)
{
	for (; digests && digests[*taken]; (*taken)++)
		if (!content_ref(im->content, digests[*taken]))
			return false;
	return true;
}

static bool ref_layers(struct images *im, char *const *diff_ids, size_t *taken)
{
	for (; diff_ids && diff_ids[*taken]; (*taken)++)
		if (!layer_ref(im->layers, diff_ids[*taken]))
			return false;
	return true;
}

static void unref(struct images *im, const struct image_row *row, const size_t n[4])
{
	const struct image_record *r = &row->record;
	char *const *lists[] = { r->blobs, r->extra, (char *[]){ row->id, r->manifest } };

	for (size_t l = 0; l < ARRAY_SIZE(lists); l++)
		for (size_t i = 0; i < n[l]; i++)
			content_release(im->content, lists[l][i]);
	for (size_t i = 0; i < n[3]; i++)
		layer_release(im->layers, r->layers[i]);
}

static bool ref_all(struct images *im, struct image_row *row)
{
	const struct image_record *r = &row->record;
	char *documents[] = { row->id, r->manifest, NULL };
	size_t n[4] = { 0 };

	if (ref_blobs(im, r->blobs, &n[0]) && ref_blobs(im, r->extra, &n[1]) && ref_blobs(im, documents, &n[2]) &&
	    ref_layers(im, r->layers, &n[3]))
		return true;
	unref(im, row, n);
	return false;
}

struct image_row *image_row_new(struct images *im, const char *id, const struct image_record *r, struct err *e)
{
	struct image_row *row = mem_new0(struct image_row);

	row->id = arena_strdup(&row->arena, id);
	record_copy(&row->arena, &row->record, r);
	list_init(&row->link);
	if (r->manifest && ref_all(im, row))
		return row;
	arena_free(&row->arena);
	mem_free(row);
	(void)err_set(e, ERR_DATA_LOSS, "image %s: a blob or layer of it is not there", id);
	return NULL;
}

void image_row_free(struct images *im, struct image_row *row)
{
	const struct image_record *r = &row->record;
	size_t n[4] = { strv_len(r->blobs), strv_len(r->extra), 2, strv_len(r->layers) };

	unref(im, row, n);
	list_del(&row->link);
	arena_free(&row->arena);
	mem_free(row);
}

/* --- the index ------------------------------------------------------------------------------------- */

void images_index_locked(struct images *im, struct image_row *row)
{
	lock_assert_held(&im->lock);
	BUG_ON(!map_add(&im->by_id, row->id, row));
	list_add(&im->rows, &row->link);
}

void images_name_locked(struct images *im, struct image_row *row, const char *text)
{
	struct image_name *name = map_get(&im->by_name, text);

	lock_assert_held(&im->lock);
	if (name) {
		name->row = row;
		return;
	}
	name = mem_new0(struct image_name);
	name->text = mem_strdup(text);
	name->row = row;
	BUG_ON(!map_add(&im->by_name, name->text, name));
	list_add(&im->names, &name->link);
}

void images_unname_locked(struct images *im, struct image_name *name)
{
	lock_assert_held(&im->lock);
	(void)map_remove(&im->by_name, name->text);
	list_del(&name->link);
	mem_free(name->text);
	mem_free(name);
}

/* --- loading --------------------------------------------------------------------------------------- */

struct load {
	struct images *im;
	struct arena arena;  /* what is to be dropped from the catalog */
	char **images, **refs, **layers;
};

static int load_layer(void *ctx, const struct record *r, struct err *e)
{
	struct load *l = ctx;
	struct layer_record rec = { 0 };
	auto_arena a = { 0 };

	if (json_load(&a, r->body, layer_record_fields, 0, &rec, e) < 0)
		return err_in(e, "catalog, layer %s", r->id);
	if (rec.version != 1)
		return err_set(e, ERR_DATA_LOSS, "catalog, layer %s: version %u is not known", r->id, rec.version);
	if (layers_add(l->im->layers, r->id, rec.bytes, rec.inodes, rec.flags, e) == 0)
		return 0;
	log_warn("layer is dropped layer=%s: %s", r->id, e->msg);
	l->layers = strv_append(&l->arena, l->layers, r->id);
	return 0;
}

static int load_image(void *ctx, const struct record *r, struct err *e)
{
	struct load *l = ctx;
	struct images *im = l->im;
	struct image_record rec = { 0 };
	struct image_row *row;
	auto_arena a = { 0 };

	if (json_load(&a, r->body, image_record_fields, 0, &rec, e) < 0)
		return err_in(e, "catalog, image %s", r->id);
	if (rec.version != 1)
		return err_set(e, ERR_DATA_LOSS, "catalog, image %s: version %u is not known", r->id, rec.version);
	row = image_row_new(im, r->id, &rec, e);
	if (!row) {
		log_warn("image is dropped, pull it again image=%s: %s", r->id, e->msg);
		l->images = strv_append(&l->arena, l->images, r->id);
		return 0;
	}
	LOCKED(&im->lock);
	images_index_locked(im, row);
	return 0;
}

static int load_ref(void *ctx, const struct record *r, struct err *e)
{
	struct load *l = ctx;
	struct image_row *row;

	(void)e;
	LOCKED(&l->im->lock);
	row = r->parent ? map_get(&l->im->by_id, r->parent) : NULL;
	if (row)
		images_name_locked(l->im, row, r->id);
	else
		l->refs = strv_append(&l->arena, l->refs, r->id);
	return 0;
}

static int drop_rows(struct images *im, enum catalog_table t, char *const *ids, struct err *e)
{
	for (size_t i = 0; ids && ids[i]; i++)
		if (catalog_delete(im->catalog, t, ids[i], e) < 0)
			return -1;
	return 0;
}

static int load_all(struct load *l, struct err *e)
{
	struct images *im = l->im;

	if (catalog_each(im->catalog, CATALOG_LAYERS, load_layer, l, e) < 0 ||
	    catalog_each(im->catalog, CATALOG_IMAGES, load_image, l, e) < 0 ||
	    catalog_each(im->catalog, CATALOG_REFS, load_ref, l, e) < 0)
		return -1;
	if (drop_rows(im, CATALOG_REFS, l->refs, e) < 0 || drop_rows(im, CATALOG_IMAGES, l->images, e) < 0)
		return -1;
	return drop_rows(im, CATALOG_LAYERS, l->layers, e);
}

int images_load(struct images *im, struct err *e)
{
	struct load l = { .im = im };
	int rc = load_all(&l, e);

	arena_free(&l.arena);
	return rc;
}

static void unload_locked(struct images *im)
{
	list_for_each_safe(name, &im->names, struct image_name, link)
		images_unname_locked(im, name);
	list_for_each_safe(row, &im->rows, struct image_row, link) {
		(void)map_remove(&im->by_id, row->id);
		image_row_free(im, row);
	}
	map_free(&im->by_id);
	map_free(&im->by_name);
}

void images_unload(struct images *im)
{
	LOCKED(&im->lock);
	unload_locked(im);
}
