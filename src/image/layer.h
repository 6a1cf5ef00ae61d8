/* Unpacked layers: layers/HEX of the diff ID, each unpacked once, whatever image has it. A layer is
 * made under another name and renamed when whole; the catalog's row (written with the image's, after
 * one syncfs) is what makes it survive a power cut: at start what has no row is removed, in the background.
 *
 * All functions may be called from every thread. */
#ifndef KNARR_IMAGE_LAYER_H
#define KNARR_IMAGE_LAYER_H

#include "image/shelf.h"
#include "image/unpack.h"

struct layers;

enum { LAYER_OPAQUE_ROOT = 1, /* what lies below this layer is hidden altogether */
       LAYER_HAS_ROOT = 2 };  /* it says owner and mode of the root folder */

int layers_open(int root_fd, struct layers **out, struct err *e);
void layers_close(struct layers *ls);

/* At start: a layer that the catalog knows. One whose folder is missing is ERR_DATA_LOSS. */
int layers_add(struct layers *ls, const char *diff_id, uint64_t bytes, uint64_t inodes, uint64_t flags,
	       struct err *e);
/* At start, after all layers_add and before the first layer_take: puts the folders that no row names aside. Quick. */
int layers_find_orphans(struct layers *ls, struct err *e);
/* Removes them, for as long as the call goes on; what is left the next start finds. Beside it everything else may run. */
int layers_sweep(struct layers *ls, struct call *c, struct err *e);

/* A reference to the layer, to be given back with layer_release. w->mine: it is not there; unpack it
 * into w->dir_fd, then layer_commit or layer_abandon (both end w). Waits while another makes it. */
struct layer_work {
	const char *diff_id;    /* the caller's text: must live as long */
	bool mine;
	int dir_fd;             /* -1 unless mine; owned by w */
	char name[96];          /* of the folder being filled */
};
int layer_take(struct layers *ls, struct call *c, const char *diff_id, struct layer_work *w, struct err *e);
/* The layer is whole. ERR_DATA_LOSS: r->diff_id is not the one that was wanted; abandoned then. */
int layer_commit(struct layers *ls, struct layer_work *w, const struct unpack_result *r, struct err *e);
void layer_abandon(struct layers *ls, struct layer_work *w);
void layer_release(struct layers *ls, const char *diff_id);
/* A reference where it is there already; false: not there. Never waits. */
bool layer_ref(struct layers *ls, const char *diff_id);

/* The folder, for reading; the caller owns the fd. ERR_NOT_FOUND. */
int layer_open(struct layers *ls, const char *diff_id, int *fd, struct err *e);
/* A detached mount of the folder of all layers, its owners mapped by the user namespace; the caller's. */
int layers_map(struct layers *ls, int userns_fd, int *map_fd, struct err *e);
/* layer_open() in it; NULL: the base. */
int layer_open_mapped(int map_fd, const char *diff_id, int *fd, struct err *e);
/* bytes, inodes, flags; false where it is not there. */
bool layer_get(struct layers *ls, const char *diff_id, struct shelf_item *out);
/* The lowest folder of every root: empty but for the places where containers have mounts (/dev, /etc/hosts…). */
int layer_open_base(struct layers *ls, int *fd, struct err *e);

/* All that was written so far is on disk when this returns (syncfs of the layers' file system). */
int layers_sync(struct layers *ls, struct err *e);
int layers_collect(struct layers *ls, struct err *e);
void layers_usage(struct layers *ls, uint64_t *bytes, uint64_t *inodes);

#endif
