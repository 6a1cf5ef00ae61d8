#include "cli/bundle.h"

#include "base/fd.h"
#include "base/fs.h"
#include "base/map.h"
#include "cli/tar_write.h"
#include "spec/ref.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { INDEX_MAX = 4 << 20, FILE_MODE = 0644, FOLDER_MODE = 0755 };

#define LAYOUT "{\"imageLayoutVersion\":\"1.0.0\"}"

static const char *blob_path(struct arena *a, const char *digest)
{
	char *path = arena_printf(a, "blobs/%s", digest);

	*strchr(path, ':') = '/';
	return path;
}

/* The n-th part of a bundle: its manifest, its configuration, its layers. */
static const struct part *part_at(const struct bundle *b, size_t i)
{
	return i == 0 ? &b->manifest : i == 1 ? &b->config : &b->layers[i - 2];
}

/* --- documents --------------------------------------------------------------------------------------------------- */

static int add_entry(struct buf *t, const struct bundle *b, const char *name, const char *whole, struct err *e)
{
	if (buf_addf(t, e, "%s{\"mediaType\":", t->p[t->len - 1] == '[' ? "" : ",") < 0 ||
	    json_write_text(t, b->manifest.media_type, e) < 0 ||
	    buf_addf(t, e, ",\"digest\":\"%s\",\"size\":%lld", b->manifest.digest, (long long)b->manifest.size) < 0)
		return -1;
	if (name && (buf_addz(t, ",\"annotations\":{", e) < 0 ||
		     (whole && (buf_addz(t, "\"io.containerd.image.name\":", e) < 0 || json_write_text(t, whole, e) < 0 ||
				buf_addz(t, ",", e) < 0)) ||
		     buf_addz(t, "\"org.opencontainers.image.ref.name\":", e) < 0 || json_write_text(t, name, e) < 0 ||
		     buf_addz(t, "}", e) < 0))
		return -1;
	return buf_addz(t, "}", e);
}

#define INDEX_HEAD "{\"schemaVersion\":2,\"mediaType\":\"" MEDIA_OCI_INDEX "\",\"manifests\":["

/* Names by tag; a digest names nothing more than the manifest does. */
static char **tags_of(struct arena *a, const struct bundle *b)
{
	char **tags = NULL;

	for (char **n = b->names; n && *n; n++)
		if (!strchr(*n, '@'))
			tags = strv_append(a, tags, *n);
	return tags;
}

static int index_of(struct arena *a, struct bundle *const *b, size_t n, struct buf *t, struct err *e)
{
	struct ref ref;

	if (buf_addz(t, INDEX_HEAD, e) < 0)
		return -1;
	for (size_t i = 0; i < n; i++) {
		char **tags = tags_of(a, b[i]);

		if (!tags && add_entry(t, b[i], b[i]->tag, NULL, e) < 0)
			return -1;
		for (; tags && *tags; tags++)
			if (ref_parse(a, *tags, &ref, e) < 0 || add_entry(t, b[i], ref.tag, *tags, e) < 0)
				return -1;
	}
	return buf_addz(t, "]}", e);
}

static int docker_list_of(struct arena *a, struct bundle *const *b, size_t n, struct buf *t, struct err *e)
{
	if (buf_addz(t, "[", e) < 0)
		return -1;
	for (size_t i = 0; i < n; i++) {
		char **tags = tags_of(a, b[i]);

		if (buf_addf(t, e, "%s{\"Config\":\"%s\",\"RepoTags\":[", i ? "," : "", blob_path(a, b[i]->config.digest)) < 0)
			return -1;
		for (size_t k = 0; tags && tags[k]; k++)
			if ((k && buf_addz(t, ",", e) < 0) || json_write_text(t, tags[k], e) < 0)
				return -1;
		if (buf_addz(t, "],\"Layers\":[", e) < 0)
			return -1;
		for (size_t k = 0; k < b[i]->nlayers; k++)
			if (buf_addf(t, e, "%s\"%s\"", k ? "," : "", blob_path(a, b[i]->layers[k].digest)) < 0)
				return -1;
		if (buf_addz(t, "]}", e) < 0)
			return -1;
	}
	return buf_addz(t, "]", e);
}

/* --- an archive ---------------------------------------------------------------------------------------------------- */

static int write_document(struct tar_writer *t, const char *name, struct str text, struct err *e)
{
	const struct tar_member m = { .path = name, .type = '0', .mode = FILE_MODE, .size = (int64_t)text.len };

	return tar_member_write(t, &m, e) < 0 ? -1 : tar_text_write(t, text, e);
}

static int write_blob(struct tar_writer *t, struct arena *a, struct map *written, const struct part *p, struct err *e)
{
	const struct tar_member m = { .path = blob_path(a, p->digest), .type = '0', .mode = FILE_MODE, .size = p->size };

	if (!map_add(written, p->digest, (void *)p))
		return 0;
	if (tar_member_write(t, &m, e) < 0 || tar_file_write(t, p->fd, p->offset, p->size, e) < 0)
		return err_in(e, "%s", p->digest);
	return 0;
}

static int write_blobs(struct tar_writer *t, struct arena *a, struct bundle *const *b, size_t n, struct err *e)
{
	AUTO(map_free) struct map written = { 0 };
	static const char *const folders[] = { "blobs", "blobs/sha256" };

	for (size_t i = 0; i < ARRAY_SIZE(folders); i++)
		if (tar_member_write(t, &(struct tar_member){ .path = folders[i], .type = '5', .mode = FOLDER_MODE }, e) < 0)
			return -1;
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < b[i]->nlayers + 2; k++)
			if (write_blob(t, a, &written, part_at(b[i], k), e) < 0)
				return -1;
	return 0;
}

int archive_write(int fd, struct bundle *const *b, size_t n, struct err *e)
{
	auto_buf index = BUF(INDEX_MAX), list = BUF(INDEX_MAX);
	struct tar_writer t = { .fd = fd };
	auto_arena a = { 0 };

	if (index_of(&a, b, n, &index, e) < 0 || docker_list_of(&a, b, n, &list, e) < 0 ||
	    write_document(&t, "oci-layout", STR(LAYOUT), e) < 0 || write_document(&t, "index.json", buf_str(&index), e) < 0 ||
	    write_document(&t, "manifest.json", buf_str(&list), e) < 0 || write_blobs(&t, &a, b, n, e) < 0)
		return -1;
	return tar_end_write(&t, e);
}

/* --- folders ----------------------------------------------------------------------------------------------------------- */

static int copy_bytes(const struct part *p, int to, struct err *e)
{
	struct tar_writer raw = { .fd = to };

	/* Padding is no harm to what is cut to its size. */
	if (tar_file_write(&raw, p->fd, p->offset, p->size, e) < 0)
		return -1;
	return ftruncate(to, p->size) < 0 ? err_sys(e, errno, "write it") : 0;
}

/* Under another name until it is whole. What is there in the same size is the same. */
static int put_file(int dir, const char *path, const struct part *p, struct err *e)
{
	const char *partial = ".knarr-partial";
	auto_fd int fd = -1;
	struct stat st;

	if (fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) && st.st_size == p->size)
		return 0;
	fd = fd_create(dir, partial, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, FILE_MODE, e);
	if (fd < 0)
		return -1;
	if (copy_bytes(p, fd, e) < 0 || (renameat(dir, partial, dir, path) < 0 && (err_sys(e, errno, "make %s", path), true))) {
		(void)unlinkat(dir, partial, 0);
		return err_in(e, "%s", p->digest);
	}
	return 0;
}

static int open_folder(const char *path, const char *below, struct err *e)
{
	auto_arena a = { 0 };

	if (fs_mkdirs(AT_FDCWD, below ? path_join(&a, path, below) : path, FOLDER_MODE, e) < 0)
		return -1;
	return fd_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, e);
}

/* The entries that stay: all but those of the same name. As they are written there. */
static int old_entries(struct arena *a, int dir, const char *name, struct buf *t, struct err *e)
{
	const struct json *list;
	struct json *doc;
	struct str text;

	if (faccessat(dir, "index.json", F_OK, 0) < 0)
		return 0;
	if (fs_read_file(a, dir, "index.json", INDEX_MAX, &text, e) < 0 || json_parse(a, text, &doc, e) < 0)
		return err_in(e, "index.json");
	list = json_get(doc, "manifests");
	for (const struct json *m = list ? list->first : NULL; m; m = m->next) {
		const struct json *notes = json_get(m, "annotations");
		const struct json *its = notes ? json_get(notes, "org.opencontainers.image.ref.name") : NULL;

		if (streq_null(its ? its->text.p : NULL, name))
			continue;
		if ((t->p[t->len - 1] != '[' && buf_addz(t, ",", e) < 0) || json_write_value(t, m, e) < 0)
			return -1;
	}
	return 0;
}

int layout_write(const char *path, struct bundle *b, const char *name, struct err *e)
{
	auto_fd int dir = open_folder(path, "blobs/sha256", e);
	auto_buf index = BUF(INDEX_MAX);
	auto_arena a = { 0 };

	if (dir < 0)
		return -1;
	for (size_t i = b->nlayers + 2; i-- > 0;)
		if (put_file(dir, blob_path(&a, part_at(b, i)->digest), part_at(b, i), e) < 0)
			return err_in(e, "%s", path);
	if (buf_addz(&index, INDEX_HEAD, e) < 0 || old_entries(&a, dir, name, &index, e) < 0 ||
	    add_entry(&index, b, name, NULL, e) < 0 || buf_addz(&index, "]}", e) < 0 ||
	    fs_replace(dir, "oci-layout", LAYOUT, strlen(LAYOUT), FILE_MODE, 0, e) < 0 ||
	    fs_replace(dir, "index.json", index.p, index.len, FILE_MODE, 0, e) < 0)
		return err_in(e, "%s", path);
	return 0;
}

int dir_write(const char *path, struct bundle *b, struct err *e)
{
	static const char version[] = "Directory Transport Version: 1.1\n";
	auto_fd int dir = open_folder(path, NULL, e);

	if (dir < 0)
		return -1;
	/* Another image's may have the same size. */
	if (fs_remove_file(dir, "manifest.json", e) < 0)
		return -1;
	for (size_t i = b->nlayers + 2; i-- > 0;)
		if (put_file(dir, i ? digest_hex(part_at(b, i)->digest) : "manifest.json", part_at(b, i), e) < 0)
			return err_in(e, "%s", path);
	return fs_replace(dir, "version", version, strlen(version), FILE_MODE, 0, e) < 0 ? err_in(e, "%s", path) : 0;
}
