/* The inside of the room: what pull.c, images.c and snapshot.c share. Other rooms include image.h. */
#ifndef KNARR_IMAGE_IMAGES_H
#define KNARR_IMAGE_IMAGES_H

#include "base/map.h"
#include "base/thread.h"
#include "image/content.h"
#include "image/image.h"
#include "image/layer.h"

struct pulls; /* pull.c's own */
struct snapshots; /* snapshot.c's own */

struct images {
	struct arena settings_arena;      /* owns the settings' texts */
	struct image_settings settings;   /* whole for as long as struct images */
	int root_fd;
	struct catalog *catalog;
	struct content *content;
	struct layers *layers;
	struct pulls *pulls;
	struct snapshots *snapshots;
	struct lock lock;                 /* guards the three below and what they point to */
	struct map by_id;                 /* image ID -> struct image_row */
	struct map by_ref;                /* reference -> struct image_row */
	struct list rows;                 /* in order of arrival */
	struct lock write_lock;           /* one writer of catalog rows and index.json at a time */
	struct cond write_free;
	bool writing;
};

/* An image's catalog row (docs/formats/catalog.md, "images"). */
struct image_record {
	uint32_t version;                 /* 1 */
	char *manifest;                   /* digest */
	char *media_type;                 /* of the manifest */
	uint64_t manifest_size;
	char **layers;                    /* diff IDs, lowest first */
	char **blobs;                     /* digests: compressed layers */
	char **extra;                     /* digests kept beside: the index the manifest was found in */
	char *user;                       /* the configuration's User */
	struct json_map labels;           /* the configuration's Labels */
};

/* What a pull ends with: makes the image exist. All its blobs (manifest, config, layers') and layers
 * must be taken by the caller (content_take, layer_take), who gives his references back afterwards,
 * in success and failure. Syncs, then writes the rows, then index.json. `refs`: names that mean this
 * image from now on ("docker.io/library/busybox:latest", "…@sha256:…"), NULL-terminated. An image
 * that exists already only gets the names. */
int images_commit(struct images *im, struct call *c, const char *id, const struct image_record *r,
		  char *const *refs, struct err *e);

/* Is the image there, whole? Its ID goes into the arena. ERR_NOT_FOUND. `ref` is exact. */
int images_by_ref(struct images *im, struct arena *a, const char *ref, char **id, struct err *e);

/* By pull.c; called by images_open and images_close. pulls_close cancels and waits. */
int pulls_open(struct images *im, struct err *e);
void pulls_close(struct images *im);

#endif
