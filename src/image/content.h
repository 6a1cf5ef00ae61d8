/* The content store: an OCI image layout (image-spec, image-layout.md) that skopeo and umoci read.
 *
 *	content/oci-layout, index.json       the images by name
 *	content/blobs/sha256/HEX             manifests, configurations, compressed layers
 *	content/ingest/HEX                   what is being fetched; a later fetch goes on from there
 *
 * A blob appears under its name only when it is whole and its digest was verified (by knarr-pull,
 * which hashes as it writes). Digests are texts (spec/digest.h), others are ERR_INVALID; of sha512, which no
 * registry is known to serve, ERR_UNIMPLEMENTED says so. All functions may be called from every thread; they
 * block on the disk only, but for content_take, which waits for another's fetch of the same blob. */
#ifndef KNARR_IMAGE_CONTENT_H
#define KNARR_IMAGE_CONTENT_H

#include "base/arena.h"
#include "base/str.h"
#include "image/shelf.h"

struct content;

/* root_fd: the folder that holds content/, made here if absent. */
int content_open(int root_fd, struct content **out, struct err *e);
void content_close(struct content *ct);

/* A reference to the blob, to be given back with content_release: it stays until then, and after
 * that while an image refers to it. *mine: it is not there; fetch it (content_ingest, then
 * content_commit or content_abandon). Waits while another fetches it. */
int content_take(struct content *ct, struct call *c, const char *digest, bool *mine, struct err *e);
void content_release(struct content *ct, const char *digest);
/* A reference where it is there already; false: not there. Never waits. */
bool content_ref(struct content *ct, const char *digest);

/* Where the fetch of a blob writes: open for reading and writing, *have bytes are there from an
 * interrupted fetch (unverified: hash them first). The caller owns *fd. */
int content_ingest(struct content *ct, const char *digest, int *fd, uint64_t *have, struct err *e);
/* The bytes are whole and verified: the blob exists. The reference stays. ERR_DATA_LOSS: the file's
 * size is not `size`; the partial file is removed then, and the taking is over, as with abandon. */
int content_commit(struct content *ct, const char *digest, uint64_t size, struct err *e);
/* The fetch failed; ends the taking and its reference. The bytes stay for the next fetch, unless
 * CONTENT_DISCARD (they are known to be wrong). */
enum { CONTENT_KEEP_PARTIAL = 0, CONTENT_DISCARD = 1 };
void content_abandon(struct content *ct, const char *digest, int flags);
/* A small document (manifest, configuration) whose bytes are at hand and verified: take, write and
 * commit in one. Ends with a reference. */
int content_put(struct content *ct, struct call *c, const char *digest, struct str bytes, struct err *e);

/* ERR_NOT_FOUND. The caller owns the fd. */
int content_open_blob(struct content *ct, const char *digest, int *fd, uint64_t *size, struct err *e);
int content_read(struct content *ct, struct arena *a, const char *digest, size_t max, struct str *out,
		 struct err *e);

/* Its size; false where it is not there. */
bool content_get(struct content *ct, const char *digest, struct shelf_item *out);

/* index.json, replaced whole. One entry for each name. */
struct content_entry {
	const char *name;       /* org.opencontainers.image.ref.name; NULL: none */
	const char *media_type, *digest; /* of the manifest */
	uint64_t size;
};
int content_write_index(struct content *ct, const struct content_entry *entries, size_t n, struct err *e);

/* Removes blobs without references, and partial files older than a day. */
int content_collect(struct content *ct, struct err *e);
/* At start and after a failed pull: blobs that nobody refers to become partial fetches again. */
int content_demote(struct content *ct, struct err *e);
void content_usage(struct content *ct, uint64_t *bytes, uint64_t *inodes);

#endif
