#include "image/images.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/steps.h"
#include "image/registries.h"
#include "spec/digest.h"
#include "spec/image_config.h"
#include "spec/ref.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ROW_MAX = 8 * 1024 * 1024, ID_PREFIX_MIN = 12 };

/* --- opening --------------------------------------------------------------------------------------- */

static void settings_copy(struct images *im, const struct image_settings *s)
{
	struct image_settings *c = &im->settings;

	*c = *s;
	c->root = arena_strdup(&im->arena, s->root);
	c->run = arena_strdup(&im->arena, s->run);
	c->libexec = arena_strdup(&im->arena, s->libexec);
	c->hosts_dir = arena_strdup(&im->arena, s->hosts_dir);
	c->registries_conf = s->registries_conf ? arena_strdup(&im->arena, s->registries_conf) : NULL;
	c->certs_dirs = s->certs_dirs ? strv_dup(&im->arena, s->certs_dirs) : NULL;
	c->pinned = s->pinned ? strv_dup(&im->arena, s->pinned) : NULL;
}

static int open_stores(struct images *im, struct err *e)
{
	if (fs_mkdirs(AT_FDCWD, im->settings.root, 0711, e) < 0)
		return -1;
	im->root_fd = fd_open(AT_FDCWD, im->settings.root, O_RDONLY | O_DIRECTORY, e);
	if (im->root_fd < 0 || content_open(im->root_fd, &im->content, e) < 0 ||
	    layers_open(im->root_fd, &im->layers, e) < 0 || images_load(im, e) < 0)
		return -1;
	/* What no row names was never whole, or was being removed. */
	if (layers_find_orphans(im->layers, e) < 0 || content_demote(im->content, e) < 0)
		return -1;
	return snapshots_open(im, e);
}

/* Trees may be large: nobody waits for their end. */
static void *sweep(void *ctx)
{
	struct images *im = ctx;
	struct err e;

	if (layers_sweep(im->layers, &im->sweep, &e) < 0 && e.kind != ERR_CANCELLED)
		log_warn("layers left over from before stay for now: %s", e.msg);
	return NULL;
}

static int start_sweep(struct images *im, struct err *e)
{
	if (thread_start(&im->sweeper, "sweep", sweep, im, e) < 0)
		return -1;
	im->sweeping = true;
	return 0;
}

static void end_sweep(struct images *im)
{
	call_cancel(&im->sweep);
	if (im->sweeping)
		(void)pthread_join(im->sweeper, NULL);
	call_end(&im->sweep);
}

int images_tidy(struct images *im, enum images_room room, struct err *e)
{
	int rc = layers_collect(im->layers, e);
	struct err second, *mine = rc < 0 ? &second : e;

	if (room == IMAGES_NO_ROOM ? content_collect(im->content, mine) < 0 : content_demote(im->content, mine) < 0)
		rc = -1;
	return rc;
}

static void write_index_or_log(struct images *im);

int images_open(const struct image_settings *settings, struct catalog *catalog, struct images **out, struct err *e)
{
	struct arena a = { 0 };
	struct images *im = arena_new0(&a, struct images);

	im->arena = a;
	im->root_fd = -1;
	im->catalog = catalog;
	settings_copy(im, settings);
	lock_init(&im->lock);
	cond_init(&im->write_free);
	call_begin(&im->sweep, 0);
	list_init(&im->rows);
	list_init(&im->names);
	if (open_stores(im, e) < 0 || pulls_open(im, e) < 0 || start_sweep(im, e) < 0) {
		images_close(im);
		return err_in(e, "images");
	}
	write_index_or_log(im); /* others read it; a full disk is no reason not to start */
	*out = im;
	return 0;
}

void images_close(struct images *im)
{
	struct arena a;

	if (!im)
		return;
	if (im->pulls)
		pulls_close(im);
	if (im->snapshots)
		snapshots_close(im);
	end_sweep(im);
	images_unload(im);
	layers_close(im->layers);
	content_close(im->content);
	fd_close(&im->root_fd);
	cond_destroy(&im->write_free);
	lock_destroy(&im->lock);
	a = im->arena;
	arena_free(&a);
}

/* --- finding --------------------------------------------------------------------------------------- */

static bool is_hex(const char *s)
{
	return s[strspn(s, "0123456789abcdef")] == '\0';
}

/* By ID or a prefix of it that only one image has. */
static struct image_row *row_by_id_locked(struct images *im, const char *name)
{
	const char *hex = starts_with(name, "sha256:") ? name + strlen("sha256:") : name;
	struct image_row *found = NULL;

	lock_assert_held(&im->lock);
	if (strlen(hex) < ID_PREFIX_MIN || !is_hex(hex))
		return NULL;
	list_for_each(row, &im->rows, struct image_row, link) {
		if (row->removing || !starts_with(digest_hex(row->id), hex))
			continue;
		if (found)
			return NULL;
		found = row;
	}
	return found;
}

static struct image_row *row_by_name_locked(struct images *im, const char *text)
{
	struct image_name *name = map_get(&im->by_name, text);

	return name && !name->row->removing ? name->row : NULL;
}

/* `names`: what the name may mean as a whole reference, NULL where it is none. */
static struct image_row *row_of_locked(struct images *im, const char *name, char *const *names)
{
	struct image_row *row = map_get(&im->by_id, name);

	if (row && !row->removing)
		return row;
	row = NULL;
	for (; names && *names && !row; names++)
		row = row_by_name_locked(im, *names);
	return row ? row : row_by_id_locked(im, name);
}

/* NULL: it can only be an ID. */
static char **names_of(struct images *im, struct arena *a, const char *name)
{
	char **names = NULL;
	struct ref *refs;
	struct err e;
	size_t n;

	if (registries_names(a, im->settings.registries_conf, name, &refs, &n, &e) < 0) {
		if (digest_check(name, &(struct err){ 0 }) < 0)
			log_debug("the name %s is only looked up as an ID: %s", name, e.msg);
		return NULL;
	}
	for (size_t i = 0; i < n; i++)
		names = strv_append(a, names, ref_text(a, &refs[i]));
	return names;
}

static int not_found(const char *name, struct err *e)
{
	return err_set(e, ERR_NOT_FOUND, "no image %s", name);
}

static bool row_is_pinned_locked(struct images *im, const struct image_row *row)
{
	if (!im->settings.pinned)
		return false;
	list_for_each(name, &im->names, struct image_name, link)
		if (name->row == row && strv_has(im->settings.pinned, name->text))
			return true;
	return false;
}

static uint64_t size_of(struct images *im, const struct image_row *row)
{
	const struct image_record *r = &row->record;
	uint64_t bytes = r->manifest_size;
	struct shelf_item item;

	if (content_get(im->content, row->id, &item))
		bytes += item.bytes;
	for (size_t i = 0; r->blobs && r->blobs[i]; i++)
		if (content_get(im->content, r->blobs[i], &item))
			bytes += item.bytes;
	for (size_t i = 0; r->layers && r->layers[i]; i++)
		if (layer_get(im->layers, r->layers[i], &item))
			bytes += item.bytes;
	return bytes;
}

static void fill_locked(struct images *im, struct arena *a, const struct image_row *row, struct image *out)
{
	size_t all = im->by_name.count + 1;

	*out = (struct image){
		.id = arena_strdup(a, row->id),
		.tags = arena_newn0(a, char *, all),
		.digests = arena_newn0(a, char *, all),
		.size_bytes = size_of(im, row),
		.user = arena_strdup(a, row->record.user),
		.pinned = row_is_pinned_locked(im, row),
	};
	list_for_each(name, &im->names, struct image_name, link) {
		char **list = strchr(name->text, '@') ? out->digests : out->tags;

		if (name->row == row)
			list[strv_len(list)] = arena_strdup(a, name->text);
	}
	out->labels.count = row->record.labels.count;
	out->labels.p = arena_newn0(a, struct json_pair, out->labels.count + 1);
	for (size_t i = 0; i < out->labels.count; i++) {
		out->labels.p[i].key = arena_strdup(a, row->record.labels.p[i].key);
		out->labels.p[i].value = arena_strdup(a, row->record.labels.p[i].value);
	}
}

int image_find(struct images *im, struct arena *a, const char *name, struct image *out, struct err *e)
{
	char **names = names_of(im, a, name);
	struct image_row *row;

	LOCKED(&im->lock);
	row = row_of_locked(im, name, names);
	if (!row)
		return not_found(name, e);
	fill_locked(im, a, row, out);
	return 0;
}

int image_list(struct images *im, struct arena *a, struct image **out, size_t *n, struct err *e)
{
	size_t count = 0;

	(void)e; /* it comes from memory */
	LOCKED(&im->lock);
	*out = arena_newn0(a, struct image, im->by_id.count + 1);
	list_for_each(row, &im->rows, struct image_row, link)
		if (!row->removing)
			fill_locked(im, a, row, &(*out)[count++]);
	*n = count;
	return 0;
}

int images_by_ref(struct images *im, struct arena *a, const char *ref, char **id, struct err *e)
{
	struct image_row *row;

	LOCKED(&im->lock);
	row = row_by_name_locked(im, ref);
	if (!row)
		return not_found(ref, e);
	*id = arena_strdup(a, row->id);
	return 0;
}

int images_hold(struct images *im, const char *id, const struct image_record **record, struct err *e)
{
	struct image_row *row;

	LOCKED(&im->lock);
	row = map_get(&im->by_id, id);
	if (!row || row->removing)
		return not_found(id, e);
	row->holds++;
	*record = &row->record;
	return 0;
}

int images_hold_named(struct images *im, struct arena *a, const char *name, struct image *out,
		      const struct image_record **record, struct err *e)
{
	char **names = names_of(im, a, name);
	struct image_row *row;

	LOCKED(&im->lock);
	row = row_of_locked(im, name, names);
	if (!row)
		return not_found(name, e);
	fill_locked(im, a, row, out);
	row->holds++;
	*record = &row->record;
	return 0;
}

void images_unhold(struct images *im, const char *id)
{
	struct image_row *row;

	LOCKED(&im->lock);
	row = map_get(&im->by_id, id);
	BUG_ON(!row || !row->holds);
	row->holds--;
}

int image_config_of(struct images *im, struct arena *a, const char *id, struct image_config *out, struct err *e)
{
	struct str text;

	if (content_read(im->content, a, id, IMAGE_CONFIG_MAX, &text, e) < 0 ||
	    image_config_parse(a, text, out, e) < 0)
		return err_in(e, "image %s: its configuration", id);
	return 0;
}

int image_config_text(struct images *im, struct arena *a, const char *id, struct str *out, struct err *e)
{
	struct image_config parsed;

	if (content_read(im->content, a, id, IMAGE_CONFIG_MAX, out, e) < 0 ||
	    image_config_parse(a, *out, &parsed, e) < 0)
		return err_in(e, "image %s: its configuration", id);
	return 0;
}

/* --- writing --------------------------------------------------------------------------------------- */

static int write_begin(struct images *im, struct call *c, struct err *e)
{
	LOCKED(&im->lock);
	while (im->writing)
		if (cond_wait(c, &im->write_free, &im->lock, e) < 0)
			return -1;
	im->writing = true;
	return 0;
}

static void write_end(struct images *im)
{
	LOCKED(&im->lock);
	im->writing = false;
	cond_broadcast(&im->write_free);
}

/* One entry a tag; an image without tags is there by its digest alone. */
static size_t index_entries(struct images *im, struct arena *a, struct content_entry **out)
{
	size_t n = 0;

	LOCKED(&im->lock);
	*out = arena_newn0(a, struct content_entry, im->by_name.count + im->by_id.count + 1);
	list_for_each(row, &im->rows, struct image_row, link) {
		const struct image_record *r = &row->record;
		struct content_entry entry = { NULL, arena_strdup(a, r->media_type), arena_strdup(a, r->manifest),
					       r->manifest_size };
		size_t before = n;

		if (row->removing)
			continue;
		list_for_each(name, &im->names, struct image_name, link) {
			if (name->row != row || strchr(name->text, '@'))
				continue;
			entry.name = arena_strdup(a, name->text);
			(*out)[n++] = entry;
		}
		if (n == before)
			(*out)[n++] = entry;
	}
	return n;
}

static int write_index(struct images *im, struct err *e)
{
	auto_arena a = { 0 };
	struct content_entry *entries;
	size_t n = index_entries(im, &a, &entries);

	return content_write_index(im->content, entries, n, e);
}

/* For other tools; the catalog alone decides what exists, so a failure is no reason to fail a pull. */
static void write_index_or_log(struct images *im)
{
	struct err e;

	if (write_index(im, &e) < 0)
		log_warn("content/index.json is out of date: %s", e.msg);
}

struct changes {
	struct catalog_change *p;
	size_t n;
};

static void change(struct changes *ch, enum catalog_table t, const char *id, const char *parent, struct str body)
{
	ch->p[ch->n++] = (struct catalog_change){ t, { id, parent, body } };
}

static int image_body(struct arena *a, const struct image_record *r, struct str *out, struct err *e)
{
	auto_buf b = BUF(ROW_MAX);
	struct image_record versioned = *r;

	versioned.version = 1;
	if (json_write(&b, image_record_fields, &versioned, e) < 0)
		return -1;
	*out = (struct str){ arena_strndup(a, b.p, b.len), b.len };
	return 0;
}

static struct str layer_body(struct arena *a, const struct shelf_item *item)
{
	return str_of(arena_printf(a, "{\"version\":1,\"bytes\":%llu,\"inodes\":%llu,\"flags\":%llu}",
				   (unsigned long long)item->bytes, (unsigned long long)item->inodes,
				   (unsigned long long)item->flags));
}

static int commit_rows(struct images *im, struct arena *a, const char *id, const struct image_record *r,
		       char *const *refs, struct err *e)
{
	struct changes ch = { arena_newn0(a, struct catalog_change, strv_len(r->layers) + strv_len(refs) + 1), 0 };
	struct str body;

	for (size_t i = 0; r->layers && r->layers[i]; i++) {
		struct shelf_item item = { 0 };

		if (!layer_get(im->layers, r->layers[i], &item))
			return err_set(e, ERR_INTERNAL, "layer %s of image %s is not there", r->layers[i], id);
		change(&ch, CATALOG_LAYERS, r->layers[i], NULL, layer_body(a, &item));
	}
	if (image_body(a, r, &body, e) < 0)
		return -1;
	change(&ch, CATALOG_IMAGES, id, NULL, body);
	for (size_t i = 0; refs && refs[i]; i++)
		change(&ch, CATALOG_REFS, refs[i], id, STR("{\"version\":1}"));
	return catalog_change(im->catalog, ch.p, ch.n, CATALOG_FULL, e);
}

static void enter(struct images *im, struct image_row *fresh, const char *id, char *const *refs)
{
	LOCKED(&im->lock);
	if (fresh)
		images_index_locked(im, fresh);
	for (size_t i = 0; refs && refs[i]; i++)
		images_name_locked(im, map_get(&im->by_id, id), refs[i]);
}

static bool exists(struct images *im, const char *id)
{
	LOCKED(&im->lock);
	return map_get(&im->by_id, id) != NULL;
}

static int commit(struct images *im, const char *id, const struct image_record *r, char *const *refs, struct err *e)
{
	struct image_row *fresh = NULL;
	auto_arena a = { 0 };

	if (!exists(im, id)) {
		fresh = image_row_new(im, id, r, e);
		if (!fresh)
			return -1;
	}
	if (commit_rows(im, &a, id, r, refs, e) < 0) {
		if (fresh)
			image_row_free(im, fresh);
		return -1;
	}
	enter(im, fresh, id, refs);
	write_index_or_log(im);
	return 0;
}

int images_commit(struct images *im, struct call *c, const char *id, const struct image_record *r,
		  char *const *refs, struct err *e)
{
	int rc;

	if (digest_check(id, e) < 0 || layers_sync(im->layers, e) < 0 || steps_point("pull", "row", e) < 0 ||
	    write_begin(im, c, e) < 0)
		return err_in(e, "image %s", id);
	rc = commit(im, id, r, refs, e);
	write_end(im);
	return rc < 0 ? err_in(e, "image %s", id) : 0;
}

static int tag(struct images *im, const char *id, const char *text, struct err *e)
{
	struct record r = { text, id, STR("{\"version\":1}") };

	if (!exists(im, id))
		return not_found(id, e);
	if (catalog_put(im->catalog, CATALOG_REFS, &r, e) < 0)
		return -1;
	enter(im, NULL, id, (char *[]){ (char *)text, NULL });
	write_index_or_log(im);
	return 0;
}

int image_tag(struct images *im, const char *id, const char *reference, struct err *e)
{
	auto_arena a = { 0 };
	struct ref r;
	int rc;

	if (ref_parse(&a, reference, &r, e) < 0 || write_begin(im, NULL, e) < 0)
		return -1;
	rc = tag(im, id, ref_text(&a, &r), e);
	write_end(im);
	return rc;
}

/* --- removing -------------------------------------------------------------------------------------- */

/* From here on nobody finds it. */
static int claim(struct images *im, const char *name, char *const *names, struct image_row **out, struct err *e)
{
	struct image_row *row;

	LOCKED(&im->lock);
	row = row_of_locked(im, name, names);
	*out = NULL;
	if (!row)
		return 0;
	if (row->holds)
		return err_set(e, ERR_STATE, "image %s is in use by %u container%s", name, row->holds,
			       row->holds == 1 ? "" : "s");
	if (row_is_pinned_locked(im, row))
		return err_set(e, ERR_STATE, "image %s is pinned by the configuration", name);
	row->removing = true;
	*out = row;
	return 0;
}

static void unclaim(struct images *im, struct image_row *row)
{
	LOCKED(&im->lock);
	row->removing = false;
}

/* Diff IDs that only this image has. */
static char **own_layers_locked(struct images *im, struct arena *a, const struct image_row *row)
{
	char **own = NULL;

	for (size_t i = 0; row->record.layers && row->record.layers[i]; i++) {
		const char *diff_id = row->record.layers[i];
		bool shared = own && strv_has(own, diff_id);

		list_for_each(other, &im->rows, struct image_row, link)
			shared |= other != row && other->record.layers && strv_has(other->record.layers, diff_id);
		if (!shared)
			own = strv_append(a, own, diff_id);
	}
	return own;
}

static void removal_changes(struct images *im, struct arena *a, const struct image_row *row, struct changes *ch)
{
	struct str none = { NULL, 0 };
	char **own;

	LOCKED(&im->lock);
	own = own_layers_locked(im, a, row);
	ch->p = arena_newn0(a, struct catalog_change, im->by_name.count + strv_len(own) + 1);
	list_for_each(name, &im->names, struct image_name, link)
		if (name->row == row)
			change(ch, CATALOG_REFS, arena_strdup(a, name->text), NULL, none);
	change(ch, CATALOG_IMAGES, row->id, NULL, none);
	for (size_t i = 0; own && own[i]; i++)
		change(ch, CATALOG_LAYERS, own[i], NULL, none);
}

static void leave(struct images *im, struct image_row *row)
{
	LOCKED(&im->lock);
	list_for_each_safe(name, &im->names, struct image_name, link)
		if (name->row == row)
			images_unname_locked(im, name);
	(void)map_remove(&im->by_id, row->id);
	list_del(&row->link);
}

static int remove_rows(struct images *im, const char *name, char *const *names, bool *removed, struct err *e)
{
	struct changes ch = { 0 };
	struct image_row *row;
	auto_arena a = { 0 };

	if (claim(im, name, names, &row, e) < 0)
		return -1;
	*removed = row != NULL;
	if (!row)
		return 0;
	removal_changes(im, &a, row, &ch);
	if (catalog_change(im->catalog, ch.p, ch.n, CATALOG_FULL, e) < 0) {
		unclaim(im, row);
		return -1;
	}
	leave(im, row);
	image_row_free(im, row);
	write_index_or_log(im);
	return 0;
}

static bool is_digest(const struct image_name *n)
{
	return strchr(n->text, '@') != NULL;
}

static bool same_repository(const struct image_name *a, const struct image_name *b)
{
	size_t n = strcspn(a->text, "@"), m = strcspn(b->text, "@");

	/* A tag has its colon behind the last slash; before it may be a port's. */
	for (size_t i = n; !is_digest(a) && i-- > 0 && a->text[i] != '/';)
		n = a->text[i] == ':' ? i : n;
	for (size_t i = m; !is_digest(b) && i-- > 0 && b->text[i] != '/';)
		m = b->text[i] == ':' ? i : m;
	return n == m && !memcmp(a->text, b->text, n);
}

/* The names that go with this one; NULL: it is the last of its image. */
static char **going_names_locked(struct images *im, struct arena *a, const struct image_name *gone)
{
	bool tags = false, repository = false;
	char **going = NULL;

	list_for_each(n, &im->names, struct image_name, link) {
		if (n == gone || n->row != gone->row)
			continue;
		tags |= is_digest(gone) || !is_digest(n);
		repository |= !is_digest(n) && same_repository(n, gone);
	}
	if (!tags)
		return NULL;
	list_for_each(n, &im->names, struct image_name, link)
		if (n == gone || (n->row == gone->row && !is_digest(gone) && !repository && is_digest(n) &&
				  same_repository(n, gone)))
			going = strv_append(a, going, arena_strdup(a, n->text));
	return going;
}

/* Of what the name may mean, the first that is there. */
static int going_names(struct images *im, struct arena *a, char *const *names, char ***going, struct err *e)
{
	struct image_name *name = NULL;

	LOCKED(&im->lock);
	for (; *names && !name; names++)
		name = map_get(&im->by_name, *names);
	if (!name || name->row->removing)
		return 0;
	if (strv_has(im->settings.pinned, name->text))
		return err_set(e, ERR_STATE, "image %s is pinned by the configuration", name->text);
	*going = going_names_locked(im, a, name);
	return 0;
}

static int untag(struct images *im, struct arena *a, char *const *names, bool *last, struct err *e)
{
	struct changes ch = { 0 };
	char **going = NULL;

	if (going_names(im, a, names, &going, e) < 0)
		return -1;
	if (!going)
		return 0;
	ch.p = arena_newn0(a, struct catalog_change, strv_len(going));
	for (size_t i = 0; going[i]; i++)
		change(&ch, CATALOG_REFS, going[i], NULL, (struct str){ NULL, 0 });
	if (catalog_change(im->catalog, ch.p, ch.n, CATALOG_FULL, e) < 0)
		return -1;
	lock_acquire(&im->lock);
	for (size_t i = 0; going[i]; i++)
		images_unname_locked(im, map_get(&im->by_name, going[i]));
	lock_release(&im->lock);
	write_index_or_log(im);
	*last = false;
	return 0;
}

int image_untag(struct images *im, struct call *c, const char *name, bool *last, struct err *e)
{
	char **names = names_of(im, &c->arena, name);
	int rc;

	*last = true;
	if (!names)
		return 0;
	if (write_begin(im, c, e) < 0)
		return -1;
	rc = untag(im, &c->arena, names, last, e);
	write_end(im);
	return rc;
}

int image_remove(struct images *im, struct call *c, const char *name, struct err *e)
{
	char **names = names_of(im, &c->arena, name);
	bool removed = false;
	int rc;

	if (write_begin(im, c, e) < 0)
		return -1;
	rc = remove_rows(im, name, names, &removed, e);
	write_end(im);
	if (rc < 0 || !removed)
		return rc;
	/* The image is gone; what of its data cannot be removed now is swept at the next start. */
	if (layers_collect(im->layers, e) < 0 || content_collect(im->content, e) < 0)
		log_warn("image data stays for now: %s", e->msg);
	return 0;
}

/* --- usage ----------------------------------------------------------------------------------------- */

/* "\040" is a blank. */
static char *unescape(struct arena *a, struct str s)
{
	char *out = arena_alloc(a, s.len + 1);
	size_t n = 0;

	for (size_t i = 0; i < s.len; i++) {
		if (s.p[i] == '\\' && i + 3 < s.len) {
			out[n++] = (char)((s.p[i + 1] - '0') << 6 | (s.p[i + 2] - '0') << 3 | (s.p[i + 3] - '0'));
			i += 3;
		} else {
			out[n++] = s.p[i];
		}
	}
	out[n] = '\0';
	return out;
}

/* Where the mount that holds root is: mountinfo's fifth field of the line with its ID. */
static int mount_point_of(int fd, struct arena *a, char **out, struct err *e)
{
	struct statx sx;
	struct str text, id;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &sx) < 0)
		return err_sys(e, errno, "find the mount of the images' folder");
	if (fs_read_file(a, AT_FDCWD, "/proc/self/mountinfo", 64 << 20, &text, e) < 0)
		return -1;
	id = str_of(arena_printf(a, "%llu", (unsigned long long)sx.stx_mnt_id));
	while (text.p && text.len) {
		struct str line = str_cut(&text, '\n'), first = str_cut(&line, ' ');

		if (!str_eq(first, id))
			continue;
		for (int i = 0; i < 3; i++)
			(void)str_cut(&line, ' ');
		*out = unescape(a, str_cut(&line, ' '));
		return 0;
	}
	return err_set(e, ERR_NOT_FOUND, "the mount of the images' folder is not in /proc/self/mountinfo");
}

int image_usage_of(struct images *im, struct arena *a, struct image_usage *out, struct err *e)
{
	uint64_t blob_bytes, blob_inodes, layer_bytes, layer_inodes;
	char *mount_point = NULL;

	if (mount_point_of(im->root_fd, a, &mount_point, e) < 0)
		return -1;
	content_usage(im->content, &blob_bytes, &blob_inodes);
	layers_usage(im->layers, &layer_bytes, &layer_inodes);
	*out = (struct image_usage){
		.mount_point = mount_point,
		.used_bytes = blob_bytes + layer_bytes,
		.inodes_used = blob_inodes + layer_inodes,
		.at_wall_ns = clock_wall_ns(),
	};
	return 0;
}
