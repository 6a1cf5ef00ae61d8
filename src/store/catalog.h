/* The catalog: one SQLite file with what must survive knarrd and the machine. A record is an id, an
 * optional parent (a container's pod, a reference's image) and a body: a JSON document with a
 * "version" field (docs/formats/catalog.md), which the room that owns the table reads and writes.
 *
 * Every room's memory is filled from here once, at start; afterwards the catalog is only written.
 * Writes block on the disk as their durability says; the catalog is safe in every thread (one lock
 * around one connection: a write takes tens of microseconds). */
#ifndef KNARR_STORE_CATALOG_H
#define KNARR_STORE_CATALOG_H

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"

struct catalog;

enum catalog_table {
	CATALOG_META,        /* id: "boot_id", … */
	CATALOG_PODS,        /* id: pod ID */
	CATALOG_CONTAINERS,  /* id: container ID, parent: pod ID */
	CATALOG_IMAGES,      /* id: image ID ("sha256:…" of its configuration) */
	CATALOG_REFS,        /* id: a reference ("docker.io/library/busybox:latest" or …@sha256:…), parent: image ID */
	CATALOG_LAYERS,      /* id: diff ID ("sha256:…") */
	CATALOG_ATTACHMENTS, /* id: pod ID + "/" + network + "/" + interface, parent: pod ID */
	CATALOG_TABLE_COUNT
};

struct record {
	const char *id, *parent; /* parent: NULL or text */
	struct str body;
};

/* Opens or makes `path`. ERR_UNAVAILABLE: another process has it open (it is locked for the life of
 * the process). ERR_DATA_LOSS: it is no catalog, or a newer version's; the text says which. */
int catalog_open(const char *path, struct catalog **out, struct err *e);
void catalog_close(struct catalog *c);

/* CATALOG_NORMAL survives kill -9 of everything but not a power cut; CATALOG_FULL is on disk when
 * the call returns (images: after their data was synced). */
enum catalog_durability { CATALOG_NORMAL, CATALOG_FULL };

int catalog_put(struct catalog *c, enum catalog_table t, const struct record *r, struct err *e);
/* Absent is fine. */
int catalog_delete(struct catalog *c, enum catalog_table t, const char *id, struct err *e);

/* All of these happen or none. `r->body.p == NULL` deletes the record. */
struct catalog_change {
	enum catalog_table table;
	struct record record;
};
int catalog_change(struct catalog *c, const struct catalog_change *changes, size_t n,
		   enum catalog_durability durability, struct err *e);

/* Calls fn for each record of the table, in order of insertion; it stops at fn's first error. The
 * record is valid during the call; fn must not use the catalog. */
int catalog_each(struct catalog *c, enum catalog_table t,
		 int (*fn)(void *ctx, const struct record *r, struct err *e), void *ctx, struct err *e);

/* The same for the records whose id begins with `prefix` (not empty), found by index. */
int catalog_each_below(struct catalog *c, enum catalog_table t, const char *prefix,
		       int (*fn)(void *ctx, const struct record *r, struct err *e), void *ctx, struct err *e);

/* One record into the arena; ERR_NOT_FOUND. */
int catalog_get(struct catalog *c, enum catalog_table t, const char *id, struct arena *a,
		struct record *out, struct err *e);

#endif
