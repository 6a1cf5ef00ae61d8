/* The inside of the room: what pull.c, images.c and snapshot.c share. Other rooms include image.h. */
#ifndef KNARR_IMAGE_IMAGES_H
#define KNARR_IMAGE_IMAGES_H

#include "base/list.h"
#include "base/map.h"
#include "base/thread.h"
#include "image/content.h"
#include "image/image.h"
#include "image/layer.h"

struct pulls;     /* pull.c's own */
struct snapshots; /* snapshot.c's own */

/* An image's catalog row (docs/formats/image.md). */
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

struct image_row {
	struct list link;                 /* images.rows */
	struct arena arena;               /* owns id and record */
	char *id;
	struct image_record record;
	unsigned holds;                   /* containers that use it */
	bool removing;                    /* as good as gone */
};

struct image_name {
	char *text;                       /* "docker.io/library/busybox:latest", "…@sha256:…" */
	struct image_row *row;
	struct list link;                 /* images.names, in order of arrival */
};

struct images {
	struct arena arena;               /* owns this struct and the settings' texts */
	struct image_settings settings;   /* whole for as long as struct images */
	int root_fd;
	struct catalog *catalog;
	struct content *content;
	struct layers *layers;
	struct pulls *pulls;
	struct snapshots *snapshots;
	struct call sweep;                /* of the thread that removes what was left over at start */
	pthread_t sweeper;
	bool sweeping;                    /* it is to be joined */
	struct lock lock;                 /* guards what follows and what it points to */
	struct cond write_free;
	bool writing;                     /* one writer of rows and index.json at a time */
	struct map by_id;                 /* struct image_row */
	struct map by_name;               /* struct image_name */
	struct list rows, names;
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

/* The row that a name means, with its ID and image in the arena; no lock is needed for *record, which lives until
 * images_unhold(out->id). ERR_NOT_FOUND. */
int images_hold_named(struct images *im, struct arena *a, const char *name, struct image *out,
		      const struct image_record **record, struct err *e);

/* Keeps the image from removal until images_unhold. *record: valid until then. ERR_NOT_FOUND. */
int images_hold(struct images *im, const char *id, const struct image_record **record, struct err *e);
void images_unhold(struct images *im, const char *id);

/* After a failed pull: removes unpacked layers that nobody needs; blobs become partial fetches, from which the next
 * pull goes on, unless the disk is full: then they go too. */
enum images_room { IMAGES_ROOM, IMAGES_NO_ROOM };
int images_tidy(struct images *im, enum images_room room, struct err *e);

/* By snapshot.c; called by images_open and images_close. */
int snapshots_open(struct images *im, struct err *e);
void snapshots_close(struct images *im);

/* By pull.c; called by images_open (last) and images_close (first). pulls_close cancels and waits. */
int pulls_open(struct images *im, struct err *e);
void pulls_close(struct images *im);

/* --- images_rows.c: the index in memory, filled from the catalog --------------------------------- */

extern const struct json_field image_record_fields[];

/* Loads all rows at start; drops what is not whole and says so. */
int images_load(struct images *im, struct err *e);
void images_unload(struct images *im);
/* A row with references to its blobs and layers, which must be there; not yet in the index. NULL
 * where one is missing. */
struct image_row *image_row_new(struct images *im, const char *id, const struct image_record *r, struct err *e);
/* Gives the references back and frees it. */
void image_row_free(struct images *im, struct image_row *row);
void images_index_locked(struct images *im, struct image_row *row);
void images_name_locked(struct images *im, struct image_row *row, const char *text);
void images_unname_locked(struct images *im, struct image_name *name);

#endif
