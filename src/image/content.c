#include "image/content.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/mem.h"
#include "spec/digest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { INDEX_MAX = 64 * 1024 * 1024, BLOB_PATH_MAX = 160 };
static const int64_t partial_kept_s = 24 * 3600;

struct content {
	int fd; /* content/ */
	struct shelf shelf;
};

/* "blobs/sha256/HEX" */
static void blob_path(const char *digest, char out[BLOB_PATH_MAX])
{
	(void)snprintf(out, BLOB_PATH_MAX, "blobs/%s", digest);
	*strchr(out, ':') = '/';
}

static void ingest_path(const char *digest, char out[BLOB_PATH_MAX])
{
	(void)snprintf(out, BLOB_PATH_MAX, "ingest/%s", digest_hex(digest));
}

/* --- opening --------------------------------------------------------------------------------------- */

/* Calls fn with each name of a folder but those with a dot first. */
static int each_name(int dirfd, const char *path, int (*fn)(struct content *ct, int dir, const char *name, void *ctx,
							     struct err *e),
		     struct content *ct, void *ctx, struct err *e)
{
	int fd = fd_open(dirfd, path, O_RDONLY | O_DIRECTORY, e), rc = 0;
	struct dirent *d;
	DIR *dir;

	if (fd < 0)
		return -1;
	dir = fdopendir(fd);
	if (!dir) {
		fd_close(&fd);
		return err_sys(e, errno, "read folder %s", path);
	}
	while (rc == 0 && (d = readdir(dir)))
		if (d->d_name[0] != '.')
			rc = fn(ct, fd, d->d_name, ctx, e);
	(void)closedir(dir);
	return rc;
}

static bool digest_of_name(const char *name, char out[DIGEST_TEXT_MAX])
{
	int n = snprintf(out, DIGEST_TEXT_MAX, "sha256:%s", name);

	return n > 0 && n < DIGEST_TEXT_MAX && digest_is_valid(out);
}

static int add_blob(struct content *ct, int dir, const char *name, void *ctx, struct err *e)
{
	char digest[DIGEST_TEXT_MAX];
	struct stat st;

	(void)ctx;
	(void)e;
	if (!digest_of_name(name, digest))
		return 0; /* not ours: left alone */
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
		shelf_add(&ct->shelf, digest, (uint64_t)st.st_size, 1, 0);
	return 0;
}

static int make_layout(int fd, struct err *e)
{
	static const char layout[] = "{\"imageLayoutVersion\":\"1.0.0\"}";
	static const char *const folders[] = { "blobs/sha256", "ingest" };

	for (size_t i = 0; i < ARRAY_SIZE(folders); i++)
		if (fs_mkdirs(fd, folders[i], 0755, e) < 0)
			return -1;
	if (faccessat(fd, "oci-layout", F_OK, 0) < 0 &&
	    fs_replace(fd, "oci-layout", layout, sizeof(layout) - 1, 0644, FS_SYNC, e) < 0)
		return -1;
	return 0;
}

int content_open(int root_fd, struct content **out, struct err *e)
{
	auto_fd int fd = -1;
	struct content *ct;

	if (fs_mkdirs(root_fd, "content", 0755, e) < 0)
		return -1;
	fd = fd_open(root_fd, "content", O_RDONLY | O_DIRECTORY, e);
	if (fd < 0 || make_layout(fd, e) < 0)
		return -1;
	ct = mem_new0(struct content);
	ct->fd = fd_take(&fd);
	shelf_init(&ct->shelf);
	if (each_name(ct->fd, "blobs/sha256", add_blob, ct, NULL, e) < 0 ||
	    (faccessat(ct->fd, "index.json", F_OK, 0) < 0 && content_write_index(ct, NULL, 0, e) < 0)) {
		content_close(ct);
		return err_in(e, "content store");
	}
	*out = ct;
	return 0;
}

void content_close(struct content *ct)
{
	if (!ct)
		return;
	fd_close(&ct->fd);
	shelf_destroy(&ct->shelf);
	mem_free(ct);
}

/* --- fetching -------------------------------------------------------------------------------------- */

int content_take(struct content *ct, struct call *c, const char *digest, bool *mine, struct err *e)
{
	struct digest d;

	if (digest_parse(str_of(digest ? digest : ""), &d, e) < 0)
		return -1;
	if (d.algo != DIGEST_SHA256)
		return err_set(e, ERR_UNIMPLEMENTED, "%s: only content named by sha256 is kept", digest);
	return shelf_take(&ct->shelf, c, digest, mine, e);
}

bool content_ref(struct content *ct, const char *digest)
{
	return shelf_ref(&ct->shelf, digest);
}

void content_release(struct content *ct, const char *digest)
{
	shelf_unref(&ct->shelf, digest);
}

int content_ingest(struct content *ct, const char *digest, int *fd, uint64_t *have, struct err *e)
{
	auto_fd int file = -1;
	char path[BLOB_PATH_MAX];
	struct stat st;

	ingest_path(digest, path);
	file = fd_create(ct->fd, path, O_RDWR | O_CREAT | O_NOFOLLOW, 0644, e);
	if (file < 0)
		return -1;
	if (fstat(file, &st) < 0)
		return err_sys(e, errno, "%s", path);
	*have = (uint64_t)st.st_size;
	*fd = fd_take(&file);
	return 0;
}

static int commit(struct content *ct, const char *digest, uint64_t size, struct err *e)
{
	char from[BLOB_PATH_MAX], to[BLOB_PATH_MAX];
	struct stat st;

	ingest_path(digest, from);
	blob_path(digest, to);
	if (fstatat(ct->fd, from, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys(e, errno, "%s", from);
	if ((uint64_t)st.st_size != size) {
		(void)unlinkat(ct->fd, from, 0);
		return err_set(e, ERR_DATA_LOSS, "%s has %llu bytes instead of %llu", digest,
			       (unsigned long long)st.st_size, (unsigned long long)size);
	}
	if (renameat(ct->fd, from, ct->fd, to) < 0)
		return err_sys(e, errno, "rename onto %s", to);
	return 0;
}

int content_commit(struct content *ct, const char *digest, uint64_t size, struct err *e)
{
	if (commit(ct, digest, size, e) < 0) {
		shelf_failed(&ct->shelf, digest);
		return -1;
	}
	shelf_made(&ct->shelf, digest, size, 1, 0);
	return 0;
}

void content_abandon(struct content *ct, const char *digest, int flags)
{
	char path[BLOB_PATH_MAX];

	ingest_path(digest, path);
	if (flags & CONTENT_DISCARD)
		(void)unlinkat(ct->fd, path, 0); /* what stays is hashed before it is used */
	shelf_failed(&ct->shelf, digest);
}

static int put(struct content *ct, const char *digest, struct str bytes, struct err *e)
{
	auto_fd int fd = -1;
	uint64_t have;

	if (content_ingest(ct, digest, &fd, &have, e) < 0)
		return -1;
	if (ftruncate(fd, 0) < 0)
		return err_sys(e, errno, "%s", digest);
	return fd_write_all(fd, bytes.p, bytes.len, e);
}

int content_put(struct content *ct, struct call *c, const char *digest, struct str bytes, struct err *e)
{
	bool mine;

	if (content_take(ct, c, digest, &mine, e) < 0)
		return -1;
	if (!mine)
		return 0;
	if (put(ct, digest, bytes, e) < 0) {
		content_abandon(ct, digest, CONTENT_DISCARD);
		return -1;
	}
	return content_commit(ct, digest, bytes.len, e);
}

/* --- reading --------------------------------------------------------------------------------------- */

int content_open_blob(struct content *ct, const char *digest, int *fd, uint64_t *size, struct err *e)
{
	auto_fd int file = -1;
	char path[BLOB_PATH_MAX];
	struct stat st;

	if (digest_check(digest, e) < 0)
		return -1;
	blob_path(digest, path);
	file = fd_open(ct->fd, path, O_RDONLY | O_NOFOLLOW, e);
	if (file < 0)
		return -1;
	if (fstat(file, &st) < 0)
		return err_sys(e, errno, "%s", path);
	*size = (uint64_t)st.st_size;
	*fd = fd_take(&file);
	return 0;
}

int content_read(struct content *ct, struct arena *a, const char *digest, size_t max, struct str *out,
		 struct err *e)
{
	char path[BLOB_PATH_MAX];

	if (digest_check(digest, e) < 0)
		return -1;
	blob_path(digest, path);
	return fs_read_file(a, ct->fd, path, max, out, e);
}

bool content_get(struct content *ct, const char *digest, struct shelf_item *out)
{
	return shelf_get(&ct->shelf, digest, out);
}

/* --- index.json ------------------------------------------------------------------------------------ */

struct index_manifest {
	const char *media_type, *digest;
	uint64_t size;
	struct json_map annotations;
};

struct index_document {
	uint32_t schema_version;
	const char *media_type;
	struct json_vec manifests;
};

static const struct json_field index_manifest_fields[] = {
	{ "mediaType", JSON_STR, offsetof(struct index_manifest, media_type) },
	{ "digest", JSON_STR, offsetof(struct index_manifest, digest) },
	{ "size", JSON_U64, offsetof(struct index_manifest, size), JSON_KEEP_ZERO },
	{ "annotations", JSON_MAP, offsetof(struct index_manifest, annotations) },
	{ 0 },
};

static const struct json_field index_fields[] = {
	{ "schemaVersion", JSON_U32, offsetof(struct index_document, schema_version) },
	{ "mediaType", JSON_STR, offsetof(struct index_document, media_type) },
	{ "manifests", JSON_OBJV, offsetof(struct index_document, manifests), JSON_KEEP_ZERO, index_manifest_fields,
	  sizeof(struct index_manifest) },
	{ 0 },
};

int content_write_index(struct content *ct, const struct content_entry *entries, size_t n, struct err *e)
{
	auto_arena a = { 0 };
	auto_buf b = BUF(INDEX_MAX);
	struct index_manifest *m = arena_newn0(&a, struct index_manifest, n + 1);
	struct index_document doc = {
		.schema_version = 2,
		.media_type = "application/vnd.oci.image.index.v1+json",
		.manifests = { m, n },
	};

	for (size_t i = 0; i < n; i++) {
		m[i] = (struct index_manifest){ entries[i].media_type, entries[i].digest, entries[i].size };
		if (!entries[i].name)
			continue;
		m[i].annotations.p = arena_newn0(&a, struct json_pair, 1);
		m[i].annotations.p[0].key = "org.opencontainers.image.ref.name";
		m[i].annotations.p[0].value = arena_strdup(&a, entries[i].name);
		m[i].annotations.count = 1;
	}
	if (json_write(&b, index_fields, &doc, e) < 0)
		return -1;
	return fs_replace(ct->fd, "index.json", b.p, b.len, 0644, 0, e);
}

/* --- garbage --------------------------------------------------------------------------------------- */

static int remove_blob(void *ctx, const char *digest, struct err *e)
{
	struct content *ct = ctx;
	char path[BLOB_PATH_MAX];

	blob_path(digest, path);
	return fs_remove_file(ct->fd, path, e);
}

/* Back to what is being fetched: a later fetch hashes it again, so that a power cut cannot have left
 * a blob that only has the right name. */
static int demote_blob(void *ctx, const char *digest, struct err *e)
{
	struct content *ct = ctx;
	char from[BLOB_PATH_MAX], to[BLOB_PATH_MAX];

	blob_path(digest, from);
	ingest_path(digest, to);
	if (renameat(ct->fd, from, ct->fd, to) < 0 && errno != ENOENT)
		return err_sys(e, errno, "rename onto %s", to);
	return 0;
}

static int remove_old(struct content *ct, int dir, const char *name, void *ctx, struct err *e)
{
	char digest[DIGEST_TEXT_MAX];
	struct stat st;
	bool mine;
	int rc;

	(void)ctx;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    st.st_mtim.tv_sec > clock_wall_ns() / NS_PER_S - partial_kept_s || !digest_of_name(name, digest))
		return 0;
	/* Whoever fetches it right now goes on from these bytes: then they stay. */
	if (!shelf_try_take(&ct->shelf, digest, &mine))
		return 0;
	if (!mine) {
		shelf_unref(&ct->shelf, digest);
		return fs_remove_file(dir, name, e); /* the blob is there: this is of no use */
	}
	rc = fs_remove_file(dir, name, e);
	shelf_failed(&ct->shelf, digest);
	return rc;
}

int content_collect(struct content *ct, struct err *e)
{
	if (shelf_collect(&ct->shelf, remove_blob, ct, e) < 0)
		return -1;
	return each_name(ct->fd, "ingest", remove_old, ct, NULL, e);
}

int content_demote(struct content *ct, struct err *e)
{
	return shelf_collect(&ct->shelf, demote_blob, ct, e);
}

void content_usage(struct content *ct, uint64_t *bytes, uint64_t *inodes)
{
	shelf_sum(&ct->shelf, bytes, inodes);
}
