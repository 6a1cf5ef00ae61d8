/* Image manifests and indexes: OCI image spec (manifest.md, image-index.md) and Docker's v2 schema 2
 * and manifest lists, which differ by media types only. Docker's schema 1 is refused with a sentence.
 *
 * Bounded: a document of at most MANIFEST_MAX bytes, MANIFEST_LAYERS_MAX layers, sizes that are no
 * negative numbers, digests that are digests, media types that we can unpack. Layers that are not to
 * be distributed (foreign layers) are refused. Pure; everything lives in the arena. */
#ifndef KNARR_SPEC_MANIFEST_H
#define KNARR_SPEC_MANIFEST_H

#include "base/json.h"
#include "spec/platform.h"

enum { MANIFEST_MAX = 4 << 20, MANIFEST_LAYERS_MAX = 1000, INDEX_MANIFESTS_MAX = 10000 };

#define MEDIA_OCI_INDEX "application/vnd.oci.image.index.v1+json"
#define MEDIA_OCI_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define MEDIA_OCI_CONFIG "application/vnd.oci.image.config.v1+json"
#define MEDIA_DOCKER_LIST "application/vnd.docker.distribution.manifest.list.v2+json"
#define MEDIA_DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"
#define MEDIA_DOCKER_CONFIG "application/vnd.docker.container.image.v1+json"

struct descriptor {
	char *media_type; /* NULL: not said */
	char *digest;
	int64_t size;
	struct json_map annotations;
	struct platform *platform; /* in an index; NULL: not said */
};

enum manifest_kind { MANIFEST_IMAGE, MANIFEST_INDEX };

struct manifest {
	enum manifest_kind kind;
	char *media_type;      /* never NULL: the document's own, or found by its shape */
	/* MANIFEST_IMAGE */
	struct descriptor config;
	struct descriptor *layers; /* lowest first */
	size_t nlayers;
	/* MANIFEST_INDEX */
	struct descriptor *manifests;
	size_t nmanifests;
};

/* `media_type`: what the registry called it (Content-Type), NULL: unknown; a document that says itself
 * what it is must not contradict that. ERR_INVALID names line, column and field; ERR_UNIMPLEMENTED:
 * schema 1, or a media type that is no image. */
int manifest_parse(struct arena *a, struct str text, const char *media_type, struct manifest *out,
		   struct err *e);

/* The index's best manifest for the host: the best platform, the first among equals. ERR_NOT_FOUND
 * lists the platforms there are. Attestations (platform unknown/unknown) never match. */
int manifest_choose(struct arena *a, const struct manifest *index, const struct platform *host,
		    const struct descriptor **out, struct err *e);

/* Whether a manifest or index is called this. */
bool media_is_index(const char *media_type);
bool media_is_manifest(const char *media_type);

#endif
