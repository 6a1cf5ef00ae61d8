/* What pulls share: things named by digest (blobs, unpacked layers) that are made once however many
 * want them, stay while someone refers to them, and are removed when nobody does. A shelf is only
 * the table; making and removing the things on disk is its user's.
 *
 * absent -> making -> ready -> removing -> absent; a failed making goes back to absent and the next
 * who waits makes it. Safe in every thread; waits only in shelf_take. */
#ifndef KNARR_IMAGE_SHELF_H
#define KNARR_IMAGE_SHELF_H

#include "base/map.h"
#include "base/thread.h"

enum shelf_state { SHELF_MAKING, SHELF_READY, SHELF_REMOVING };

struct shelf_item {
	char *id;
	enum shelf_state state;
	unsigned refs;      /* images and pulls that need it */
	uint64_t bytes, inodes, flags; /* the user's */
	uint64_t tried;     /* the round of collecting that last tried to remove it */
};

struct shelf {
	struct lock lock;
	struct cond changed;
	struct map items;
	uint64_t rounds;
};

void shelf_init(struct shelf *s);
void shelf_destroy(struct shelf *s);

/* A thing found on disk at start; no reference yet. */
void shelf_add(struct shelf *s, const char *id, uint64_t bytes, uint64_t inodes, uint64_t flags);

/* Takes a reference. *mine: false, it is ready; true, it is to be made by the caller, who must end
 * with shelf_made or shelf_failed. Waits while another makes or removes it. */
int shelf_take(struct shelf *s, struct call *c, const char *id, bool *mine, struct err *e);
/* shelf_take that never waits: false where another makes or removes it. */
bool shelf_try_take(struct shelf *s, const char *id, bool *mine);
/* A reference to a thing that is ready; false where it is not. Never waits. */
bool shelf_ref(struct shelf *s, const char *id);
void shelf_unref(struct shelf *s, const char *id);
void shelf_made(struct shelf *s, const char *id, uint64_t bytes, uint64_t inodes, uint64_t flags);
void shelf_failed(struct shelf *s, const char *id); /* gives the reference back too */

/* A copy of the item's facts; false where it is not ready. */
bool shelf_get(struct shelf *s, const char *id, struct shelf_item *out);
/* The sum over all that is ready. */
void shelf_sum(struct shelf *s, uint64_t *bytes, uint64_t *inodes);

/* Removes each ready thing that nobody refers to: remove() may block and runs without the lock. A
 * thing whose removal fails stays. -1 with the first error. */
int shelf_collect(struct shelf *s, int (*remove)(void *ctx, const char *id, struct err *e), void *ctx,
		  struct err *e);

#endif
