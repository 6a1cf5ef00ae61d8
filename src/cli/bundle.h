/* An image on its way: its manifest, configuration and layers as pieces of open files, wherever they came from. Sources
 * (this node's images, archives, folders, registries) make one, sinks take one. Blobs are copied as they are: digests stay.
 *
 * docs/inside/image-tools.md has the transports. */
#ifndef KNARR_CLI_BUNDLE_H
#define KNARR_CLI_BUNDLE_H

#include "cli/cli.h"
#include "spec/image_config.h"
#include "spec/manifest.h"

struct part {
	const char *digest, *media_type; /* media_type: NULL where nobody needs it */
	int64_t size, offset;
	int fd;              /* a regular file; the bundle's */
};

struct bundle {
	struct arena *a;     /* owns the texts */
	char **names;        /* whole references; NULL: none */
	char *tag;           /* a source's word for it that is no reference ("latest" of a layout); NULL: none */
	struct part manifest, config;
	struct part *layers; /* lowest first */
	size_t nlayers;
	int *fds;            /* all that are to be closed */
	size_t nfds, room;
};

void bundle_init(struct bundle *b, struct arena *a);
void bundle_close(struct bundle *b);
#define auto_bundle AUTO(bundle_close) struct bundle

/* The fd is the bundle's from now on. Returns it. */
int bundle_own(struct bundle *b, int fd);
/* A document that was made here: a file in memory, by its digest. */
int bundle_document(struct bundle *b, struct str text, const char *media_type, struct part *out, struct err *e);
/* The bytes of a part, in the arena. ERR_EXHAUSTED: more than max. */
int part_read(struct arena *a, const struct part *p, size_t max, struct str *out, struct err *e);
/* Every part has the bytes that its digest says. */
int bundle_verify(struct bundle *b, struct err *e);

/* Writes a manifest for b's config and layers (OCI), of which digest, size and media type are there. */
int bundle_make_manifest(struct bundle *b, struct err *e);

/* Where parts lie by the names of a layout: found by name, in a tar archive or below a folder. */
struct shelf_of_parts;
/* `what` names it in errors. An archive that is no regular file, or is compressed with gzip, is copied to a file without a
 * name in $TMPDIR first. */
int parts_in_archive(struct bundle *b, int fd, const char *what, struct shelf_of_parts **out, struct err *e);
int parts_in_folder(struct bundle *b, const char *path, struct shelf_of_parts **out, struct err *e);
/* A file without a name in $TMPDIR, else /var/tmp. */
int temporary_file(struct err *e);
/* An archive's bytes as a regular file without compression: fd itself, or the bundle's copy. */
int archive_file(struct bundle *b, int fd, int *out, struct err *e);
void parts_forget_at(struct shelf_of_parts **s); /* for AUTO; NULL is fine; the fds are the bundle's */
bool parts_have(const struct shelf_of_parts *s, const char *name);
int parts_find(const struct shelf_of_parts *s, struct bundle *b, const char *name, struct part *out, struct err *e);

/* --- reading ------------------------------------------------------------------------------------------------- */

/* How many images an OCI layout (index.json) or a docker-archive (manifest.json) has; which of both it is. */
enum layout_kind { LAYOUT_OCI, LAYOUT_DOCKER };
int layout_count(const struct shelf_of_parts *s, struct bundle *b, enum layout_kind kind, size_t *n, struct err *e);
/* The n-th of them, or the one called `name` (a tag, a reference; NULL: by number). Of an index, what is for `platform`. */
struct layout_wish {
	enum layout_kind kind;
	size_t number;
	const char *name;
	const struct platform *platform;
};
int layout_read(const struct shelf_of_parts *s, struct bundle *b, const struct layout_wish *w, struct err *e);
/* skopeo's dir: a manifest.json and blobs by their hex digits. */
int dir_read(const struct shelf_of_parts *s, struct bundle *b, const struct platform *platform, struct err *e);
/* From b->manifest's bytes to config and layers, each found by `find`. An index is followed to `platform`. */
struct part_finder {
	int (*find)(void *ctx, struct bundle *b, const struct descriptor *d, bool manifest, struct part *out, struct err *e);
	void *ctx;
};
int bundle_follow(struct bundle *b, const struct part_finder *finder, const struct platform *platform, struct err *e);

/* --- writing ------------------------------------------------------------------------------------------------- */

/* An OCI layout in a tar, with a manifest.json beside: `docker load`, podman, skopeo (oci-archive:, docker-archive:), ctr
 * and knarr read it. The same images give the same bytes. */
int archive_write(int fd, struct bundle *const *b, size_t n, struct err *e);
/* Into an OCI layout's folder, made where it is not there; other images in it stay. `name`: its
 * org.opencontainers.image.ref.name; NULL: none. */
int layout_write(const char *path, struct bundle *b, const char *name, struct err *e);
int dir_write(const char *path, struct bundle *b, struct err *e);

/* --- this node's images ---------------------------------------------------------------------------------------- */

int node_read(struct cli *cli, struct bundle *b, const char *image, struct err *e);
/* Loads it with progress; *id in the arena. `names` mean it from now on. */
int node_write(struct cli *cli, struct bundle *b, char *const *names, const char **id, struct err *e);

#endif
