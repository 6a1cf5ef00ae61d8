/* knarr image inspect, history, tree, du, verify: what an image is made of. */
#include "base/clock.h"
#include "base/map.h"
#include "cli/bundle.h"
#include "cli/image_verbs.h"
#include "cli/output.h"
#include "cri.pb-c.h"
#include "knarr.pb-c.h"
#include "spec/ref.h"

#include <stdio.h>

enum { SHOWN_MAX = 64 << 20 };

/* --- what is shown, as documents ------------------------------------------------------------------------------ */

struct shown_layer {
	const char *digest, *diff_id;
	uint64_t size, disk_bytes;
};
static const struct json_field layer_fields[] = {
	{ "digest", JSON_STR, offsetof(struct shown_layer, digest) },
	{ "diff_id", JSON_STR, offsetof(struct shown_layer, diff_id) },
	{ "size", JSON_U64, offsetof(struct shown_layer, size), JSON_KEEP_ZERO },
	{ "disk_bytes", JSON_U64, offsetof(struct shown_layer, disk_bytes), JSON_KEEP_ZERO },
	{ 0 },
};

struct shown_image {
	const char *id;
	char **names, **digests;
	const char *manifest, *media_type, *platform, *created;
	uint64_t size, disk_bytes;
	bool pinned;
	struct json_vec layers;
	const struct json *config;
};
static const struct json_field image_fields[] = {
	{ "id", JSON_STR, offsetof(struct shown_image, id) },
	{ "names", JSON_STRV, offsetof(struct shown_image, names), JSON_KEEP_ZERO },
	{ "digests", JSON_STRV, offsetof(struct shown_image, digests), JSON_KEEP_ZERO },
	{ "manifest", JSON_STR, offsetof(struct shown_image, manifest) },
	{ "media_type", JSON_STR, offsetof(struct shown_image, media_type) },
	{ "platform", JSON_STR, offsetof(struct shown_image, platform) },
	{ "created", JSON_STR, offsetof(struct shown_image, created) },
	{ "size", JSON_U64, offsetof(struct shown_image, size), JSON_KEEP_ZERO },
	{ "disk_bytes", JSON_U64, offsetof(struct shown_image, disk_bytes), JSON_KEEP_ZERO },
	{ "pinned", JSON_BOOL, offsetof(struct shown_image, pinned), JSON_KEEP_ZERO },
	{ "layers", JSON_OBJV, offsetof(struct shown_image, layers), JSON_KEEP_ZERO, layer_fields, sizeof(struct shown_layer) },
	{ "config", JSON_ANY, offsetof(struct shown_image, config) },
	{ 0 },
};

static int content_of(struct cli *cli, const char *image, Knarr__V1__ImageContentResponse **out, struct err *e)
{
	Knarr__V1__ImageContentRequest in = KNARR__V1__IMAGE_CONTENT_REQUEST__INIT;

	in.image = (char *)image;
	if (cli_connect(cli, e) < 0)
		return -1;
	return KNARR(cli->client, cli->call, ImageContent, image_content, &in, out, e);
}

static void sort_names(struct arena *a, const Knarr__V1__ImageContentResponse *c, char ***names, char ***digests)
{
	*names = arena_newn0(a, char *, 1);
	*digests = arena_newn0(a, char *, 1);
	for (size_t i = 0; i < c->n_names; i++) {
		char ***to = strchr(c->names[i], '@') ? digests : names;

		*to = strv_append(a, *to, c->names[i]);
	}
}

static void shown_of(struct arena *a, const Knarr__V1__ImageContentResponse *c, struct shown_image *out)
{
	struct shown_layer *layers = arena_newn0(a, struct shown_layer, c->n_layers + 1);

	*out = (struct shown_image){ .id = c->id, .manifest = c->manifest->digest, .media_type = c->manifest->media_type,
				     .size = c->manifest->size + c->config_size, .pinned = c->pinned,
				     .layers = { layers, c->n_layers } };
	sort_names(a, c, &out->names, &out->digests);
	for (size_t i = 0; i < c->n_layers; i++) {
		const Knarr__V1__ImageLayer *l = c->layers[i];

		layers[i] = (struct shown_layer){ l->blob->digest, l->diff_id, l->blob->size, l->disk_bytes };
		out->size += l->blob->size;
		out->disk_bytes += l->disk_bytes;
	}
}

static int print_fields(enum output how, const struct json_field *fields, const void *what, struct err *e)
{
	auto_buf b = BUF(SHOWN_MAX);

	if (json_write(&b, fields, what, e) < 0)
		return -1;
	return output_document(how, buf_str(&b), e);
}

/* --- inspect ---------------------------------------------------------------------------------------------------- */

static int print_bytes(const struct part *p, struct err *e)
{
	auto_arena a = { 0 };
	struct str text;

	if (part_read(&a, p, MANIFEST_MAX, &text, e) < 0)
		return -1;
	return fwrite(text.p, 1, text.len, stdout) == text.len ? 0 : err_set(e, ERR_SYSTEM, "stdout takes no more");
}

static int print_image(struct cli *cli, struct bundle *b, const char *image, enum output how, struct err *e)
{
	Knarr__V1__ImageContentResponse *content;
	struct image_config config;
	struct shown_image shown;
	struct json *doc;
	struct str text;

	if (content_of(cli, image, &content, e) < 0 || part_read(cli->a, &b->config, IMAGE_CONFIG_MAX, &text, e) < 0 ||
	    json_parse(cli->a, text, &doc, e) < 0 || image_config_parse(cli->a, text, &config, e) < 0)
		return -1;
	shown_of(cli->a, content, &shown);
	shown.config = doc;
	shown.platform = platform_text(cli->a, &config.platform);
	shown.created = config.created;
	return print_fields(how, image_fields, &shown, e);
}

int verb_image_inspect(struct cli *cli, char *const *argv, struct err *e)
{
	const char *format = NULL, *image;
	bool raw = false, config = false;
	const struct opt opts[] = {
		OUTPUT_OPTION(&format),
		{ OPT_FLAG, 0, "raw", &raw, NULL, "The manifest, byte for byte" },
		{ OPT_FLAG, 0, "config", &config, NULL, "The configuration, byte for byte" },
		{ 0 },
	};
	auto_bundle b;
	enum output how;
	char **words;
	int rc;

	bundle_init(&b, cli->a);
	rc = cli_options(cli, "image inspect", opts, 0, argv, &words, e);
	if (rc)
		return rc < 0 ? -1 : 0;
	if (cli_one_word(words, "the image", &image, e) < 0 || output_parse(format, OUTPUT_JSON, &how, e) < 0 ||
	    node_read(cli, &b, image, e) < 0)
		return -1;
	if (how == OUTPUT_NAME)
		return puts(b.config.digest) < 0 ? -1 : 0;
	return raw ? print_bytes(&b.manifest, e) : config ? print_bytes(&b.config, e) : print_image(cli, &b, image, how, e);
}

/* --- history ------------------------------------------------------------------------------------------------------ */

struct shown_step {
	const char *created, *created_by, *comment, *layer;
	uint64_t size;
	bool empty;
};
static const struct json_field step_fields[] = {
	{ "created", JSON_STR, offsetof(struct shown_step, created) },
	{ "created_by", JSON_STR, offsetof(struct shown_step, created_by) },
	{ "comment", JSON_STR, offsetof(struct shown_step, comment) },
	{ "layer", JSON_STR, offsetof(struct shown_step, layer) },
	{ "size", JSON_U64, offsetof(struct shown_step, size), JSON_KEEP_ZERO },
	{ "empty_layer", JSON_BOOL, offsetof(struct shown_step, empty) },
	{ 0 },
};
struct shown_steps {
	struct json_vec steps;
};
static const struct json_field steps_fields[] = {
	{ "history", JSON_OBJV, offsetof(struct shown_steps, steps), JSON_KEEP_ZERO, step_fields, sizeof(struct shown_step) },
	{ 0 },
};

/* The newest first, as everyone shows it. Layers of which no history speaks come with what is known of them. */
static void steps_of(struct arena *a, const struct bundle *b, const struct image_config *c, struct shown_steps *out)
{
	const struct image_history *h = c->history.p;
	size_t n = c->history.count, at = 0, layer = 0, all = n + b->nlayers;
	struct shown_step *s = arena_newn0(a, struct shown_step, all + 1);

	for (size_t i = 0; i < n || layer < b->nlayers; i++) {
		struct shown_step *step = &s[all - 1 - at++];

		if (i < n)
			*step = (struct shown_step){ h[i].created, h[i].created_by, h[i].comment, NULL, 0, h[i].empty_layer };
		if (!step->empty && layer < b->nlayers) {
			step->layer = b->layers[layer].digest;
			step->size = (uint64_t)b->layers[layer++].size;
		}
	}
	out->steps = (struct json_vec){ s + all - at, at };
}

static void print_steps(struct cli *cli, const struct shown_steps *all, bool whole)
{
	const struct shown_step *s = all->steps.p;
	struct table *t = table_new(cli->a, 4);
	int64_t when;
	struct err no;

	table_row(t, "CREATED", "SIZE", "CREATED BY", "COMMENT");
	for (size_t i = 0; i < all->steps.count; i++) {
		const char *by = s[i].created_by ? utf8_clean(cli->a, s[i].created_by) : "";
		bool dated = s[i].created && clock_parse_rfc3339(str_of(s[i].created), &when, &no) == 0;

		table_row(t, dated ? text_ago(cli->a, when) : "", text_size(cli->a, s[i].size),
			  whole || strlen(by) <= 60 ? by : arena_printf(cli->a, "%.57s...", by), s[i].comment ? s[i].comment : "");
	}
	table_print(t);
}

int verb_image_history(struct cli *cli, char *const *argv, struct err *e)
{
	const char *format = NULL, *image;
	bool whole = false;
	const struct opt opts[] = {
		OUTPUT_OPTION(&format),
		{ OPT_FLAG, 0, "no-trunc", &whole, NULL, "Whole lines" },
		{ 0 },
	};
	struct image_config config;
	struct shown_steps steps;
	auto_bundle b;
	struct str text;
	enum output how;
	char **words;
	int rc;

	bundle_init(&b, cli->a);
	rc = cli_options(cli, "image history", opts, 0, argv, &words, e);
	if (rc)
		return rc < 0 ? -1 : 0;
	if (cli_one_word(words, "the image", &image, e) < 0 || output_parse(format, OUTPUT_TABLE, &how, e) < 0 ||
	    node_read(cli, &b, image, e) < 0 || part_read(cli->a, &b.config, IMAGE_CONFIG_MAX, &text, e) < 0 ||
	    image_config_parse(cli->a, text, &config, e) < 0)
		return -1;
	steps_of(cli->a, &b, &config, &steps);
	if (how == OUTPUT_JSON || how == OUTPUT_YAML)
		return print_fields(how, steps_fields, &steps, e);
	if (how == OUTPUT_NAME)
		for (size_t i = 0; i < b.nlayers; i++)
			puts(b.layers[i].digest);
	else
		print_steps(cli, &steps, whole);
	return 0;
}

/* --- of all images: ls, tree, du --------------------------------------------------------------------------------------- */

struct shown_images {
	struct json_vec images;
};
static const struct json_field images_fields[] = {
	{ "images", JSON_OBJV, offsetof(struct shown_images, images), JSON_KEEP_ZERO, image_fields, sizeof(struct shown_image) },
	{ 0 },
};

static int all_images(struct cli *cli, struct shown_images *out, struct err *e)
{
	Runtime__V1__ListImagesRequest in = RUNTIME__V1__LIST_IMAGES_REQUEST__INIT;
	Runtime__V1__ListImagesResponse *list;
	struct shown_image *images;
	size_t n = 0;

	if (cli_connect(cli, e) < 0 || CRI_IMAGE(cli->client, cli->call, ListImages, list_images, &in, &list, e) < 0)
		return -1;
	images = arena_newn0(cli->a, struct shown_image, list->n_images + 1);
	for (size_t i = 0; i < list->n_images; i++) {
		Knarr__V1__ImageContentResponse *content;

		if (content_of(cli, list->images[i]->id, &content, e) == 0)
			shown_of(cli->a, content, &images[n++]);
		else if (e->kind != ERR_NOT_FOUND) /* it was removed meanwhile */
			return -1;
	}
	out->images = (struct json_vec){ images, n };
	return 0;
}

static const char *name_of(struct arena *a, const struct shown_image *im)
{
	struct ref ref;
	struct err no;

	if (im->names[0])
		return ref_parse(a, im->names[0], &ref, &no) == 0 ? ref_familiar(a, &ref) : im->names[0];
	return im->digests[0] ? im->digests[0] : text_short_id(a, im->id);
}

int image_list_print(struct cli *cli, enum output how, struct err *e)
{
	struct shown_images all;
	const struct shown_image *im;

	if (all_images(cli, &all, e) < 0)
		return -1;
	im = all.images.p;
	if (how != OUTPUT_NAME)
		return print_fields(how, images_fields, &all, e);
	for (size_t i = 0; i < all.images.count; i++)
		for (char **n = im[i].names[0] ? im[i].names : im[i].digests; *n; n++)
			puts(*n);
	return 0;
}

static unsigned images_with(const struct shown_images *all, const char *diff_id)
{
	const struct shown_image *im = all->images.p;
	unsigned n = 0;

	for (size_t i = 0; i < all->images.count; i++) {
		const struct shown_layer *l = im[i].layers.p;

		for (size_t k = 0; k < im[i].layers.count; k++)
			if (streq(l[k].diff_id, diff_id)) {
				n++;
				break;
			}
	}
	return n;
}

static uint64_t shared_of(const struct shown_images *all, const struct shown_image *im)
{
	const struct shown_layer *l = im->layers.p;
	uint64_t n = 0;

	for (size_t k = 0; k < im->layers.count; k++)
		if (images_with(all, l[k].diff_id) > 1)
			n += l[k].disk_bytes + l[k].size;
	return n;
}

/* The bytes of a layer count once, however many images have it. */
static uint64_t total_of(const struct shown_images *all)
{
	AUTO(map_free) struct map blobs = { 0 };
	AUTO(map_free) struct map layers = { 0 };
	const struct shown_image *im = all->images.p;
	uint64_t n = 0;

	for (size_t i = 0; i < all->images.count; i++) {
		const struct shown_layer *l = im[i].layers.p;

		n += im[i].size;
		for (size_t k = 0; k < im[i].layers.count; k++) {
			n -= l[k].size;
			if (map_add(&blobs, l[k].digest, (void *)l))
				n += l[k].size;
			if (map_add(&layers, l[k].diff_id, (void *)l))
				n += l[k].disk_bytes;
		}
	}
	return n;
}

struct du_row {
	const char *image, *id;
	uint64_t unpacked, blobs, shared, unique;
};
static const struct json_field du_fields[] = {
	{ "image", JSON_STR, offsetof(struct du_row, image) },
	{ "id", JSON_STR, offsetof(struct du_row, id) },
	{ "unpacked_bytes", JSON_U64, offsetof(struct du_row, unpacked), JSON_KEEP_ZERO },
	{ "blob_bytes", JSON_U64, offsetof(struct du_row, blobs), JSON_KEEP_ZERO },
	{ "shared_bytes", JSON_U64, offsetof(struct du_row, shared), JSON_KEEP_ZERO },
	{ "unique_bytes", JSON_U64, offsetof(struct du_row, unique), JSON_KEEP_ZERO },
	{ 0 },
};
struct du {
	struct json_vec rows;
	uint64_t total;
};
static const struct json_field du_all_fields[] = {
	{ "images", JSON_OBJV, offsetof(struct du, rows), JSON_KEEP_ZERO, du_fields, sizeof(struct du_row) },
	{ "total_bytes", JSON_U64, offsetof(struct du, total), JSON_KEEP_ZERO },
	{ 0 },
};

static void du_print(struct cli *cli, const struct du *d)
{
	struct table *t = table_new(cli->a, 5);
	const struct du_row *r = d->rows.p;

	table_row(t, "IMAGE", "UNPACKED", "BLOBS", "SHARED", "UNIQUE");
	for (size_t i = 0; i < d->rows.count; i++)
		table_row(t, r[i].image, text_size(cli->a, r[i].unpacked), text_size(cli->a, r[i].blobs),
			  text_size(cli->a, r[i].shared), text_size(cli->a, r[i].unique));
	table_row(t, "TOTAL", "", "", "", text_size(cli->a, d->total));
	table_print(t);
}

int verb_image_du(struct cli *cli, char *const *argv, struct err *e)
{
	const char *format = NULL;
	const struct opt opts[] = { OUTPUT_OPTION(&format), { 0 } };
	const struct shown_image *im;
	struct shown_images all;
	struct du_row *rows;
	enum output how;
	struct du d;
	char **words;
	int rc = cli_options(cli, "image du", opts, 0, argv, &words, e);

	if (rc)
		return rc < 0 ? -1 : 0;
	if (cli_no_words(words, e) < 0 || output_parse(format, OUTPUT_TABLE, &how, e) < 0 || all_images(cli, &all, e) < 0)
		return -1;
	im = all.images.p;
	rows = arena_newn0(cli->a, struct du_row, all.images.count + 1);
	d = (struct du){ { rows, all.images.count }, total_of(&all) };
	for (size_t i = 0; i < all.images.count; i++) {
		uint64_t shared = shared_of(&all, &im[i]);

		rows[i] = (struct du_row){ name_of(cli->a, &im[i]), im[i].id, im[i].disk_bytes, im[i].size, shared,
					   im[i].disk_bytes + im[i].size - shared };
	}
	if (how == OUTPUT_JSON || how == OUTPUT_YAML)
		return print_fields(how, du_all_fields, &d, e);
	if (how == OUTPUT_NAME)
		for (size_t i = 0; i < all.images.count; i++)
			puts(rows[i].image);
	else
		du_print(cli, &d);
	return 0;
}

/* --- tree: layers below those they lie on ------------------------------------------------------------------------------- */

struct branch {
	const struct shown_images *all;
	const struct shown_image **on; /* those that go on from here */
	size_t n, depth;
	const char *indent;
};

static const struct shown_layer *layer_at(const struct shown_image *im, size_t depth)
{
	return depth < im->layers.count ? &((const struct shown_layer *)im->layers.p)[depth] : NULL;
}

static const char *names_ending_here(struct arena *a, const struct branch *b, const char *diff_id)
{
	const char *names = "";

	for (size_t i = 0; i < b->n; i++)
		if (b->on[i]->layers.count == b->depth + 1 && streq(layer_at(b->on[i], b->depth)->diff_id, diff_id))
			names = arena_printf(a, "%s  %s", names, name_of(a, b->on[i]));
	return names;
}

static bool is_first_with(const struct branch *b, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (layer_at(b->on[k], b->depth) &&
		    streq(layer_at(b->on[k], b->depth)->diff_id, layer_at(b->on[i], b->depth)->diff_id))
			return false;
	return true;
}

static void branch_print(struct arena *a, const struct branch *b)
{
	size_t last = 0;

	for (size_t i = 0; i < b->n; i++)
		if (layer_at(b->on[i], b->depth) && is_first_with(b, i))
			last = i;
	for (size_t i = 0; i < b->n; i++) {
		const struct shown_layer *l = layer_at(b->on[i], b->depth);
		struct branch below = { b->all, NULL, 0, b->depth + 1, NULL };

		if (!l || !is_first_with(b, i))
			continue;
		below.on = arena_newn0(a, const struct shown_image *, b->n);
		for (size_t k = 0; k < b->n; k++)
			if (layer_at(b->on[k], b->depth) && streq(layer_at(b->on[k], b->depth)->diff_id, l->diff_id))
				below.on[below.n++] = b->on[k];
		printf("%s%s %s %s%s\n", b->indent, i == last ? "└──" : "├──", text_short_id(a, l->diff_id),
		       text_size(a, l->disk_bytes), names_ending_here(a, b, l->diff_id));
		below.indent = arena_printf(a, "%s%s", b->indent, i == last ? "    " : "│   ");
		branch_print(a, &below);
	}
}

int verb_image_tree(struct cli *cli, char *const *argv, struct err *e)
{
	const char *format = NULL;
	const struct opt opts[] = { OUTPUT_OPTION(&format), { 0 } };
	Knarr__V1__ImageContentResponse *one;
	struct shown_images all;
	struct branch root = { &all, NULL, 0, 0, "" };
	enum output how;
	char **words;
	int rc = cli_options(cli, "image tree", opts, 0, argv, &words, e);

	if (rc)
		return rc < 0 ? -1 : 0;
	if (output_parse(format, OUTPUT_TABLE, &how, e) < 0)
		return -1;
	if (words[0]) {
		all.images = (struct json_vec){ arena_newn0(cli->a, struct shown_image, strv_len(words)), strv_len(words) };
		for (size_t i = 0; words[i]; i++) {
			if (content_of(cli, words[i], &one, e) < 0)
				return -1;
			shown_of(cli->a, one, &((struct shown_image *)all.images.p)[i]);
		}
	} else if (all_images(cli, &all, e) < 0) {
		return -1;
	}
	if (how == OUTPUT_JSON || how == OUTPUT_YAML)
		return print_fields(how, images_fields, &all, e);
	root.on = arena_newn0(cli->a, const struct shown_image *, all.images.count + 1);
	for (size_t i = 0; i < all.images.count; i++)
		root.on[root.n++] = &((const struct shown_image *)all.images.p)[i];
	if (how == OUTPUT_NAME)
		for (size_t i = 0; i < root.n; i++)
			puts(name_of(cli->a, root.on[i]));
	else
		branch_print(cli->a, &root);
	return 0;
}

/* --- verify ------------------------------------------------------------------------------------------------ */

int verb_image_verify(struct cli *cli, char *const *argv, struct err *e)
{
	static const struct opt opts[] = { { 0 } };
	char **words;
	int rc = cli_options(cli, "image verify", opts, 0, argv, &words, e);

	if (rc)
		return rc < 0 ? -1 : 0;
	if (!words[0])
		return err_set(e, ERR_INVALID, "knarr image verify: which image?");
	for (; *words; words++) {
		auto_bundle b;

		bundle_init(&b, cli->a);
		if (node_read(cli, &b, *words, e) < 0 || bundle_verify(&b, e) < 0) {
			rc = cli_fail((err_in(e, "%s", *words), e), CLI_FAILED);
			continue;
		}
		printf("%s: all %zu blobs are what their digests say\n", *words, b.nlayers + 2);
	}
	return rc;
}
