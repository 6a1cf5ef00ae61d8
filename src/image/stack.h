/* An image's layers, one over another: a container's root with a writable folder on top (snapshot.c), or what the image
 * holds, read-only. Inside of the room.
 *
 * In a user namespace all layers are reached through one mount that maps their owners, so the layers stay as they are
 * and are shared with everyone. Before Linux 6.15 overlayfs takes no layer from a mount that is attached nowhere: there
 * that one mount has a place below the root folder for as long as the mounting takes. */
#ifndef KNARR_IMAGE_STACK_H
#define KNARR_IMAGE_STACK_H

#include "image/images.h"
#include "kernel/overlay.h"

enum { STACK_ATTACH = 1 << 16 };        /* beside OVERLAY_*: as before Linux 6.15, for tests */

struct stack {
	int lower[OVERLAY_LOWER_MAX];   /* topmost first, the base last */
	size_t n, root;                 /* lower[root] says who owns the root folder */
	int upper, work;                /* -1: read-only */
	int userns_fd;                  /* the caller's; -1: nothing is mapped */
	int map_fd;
	unsigned flags;                 /* OVERLAY_* */
};
#define STACK_INIT(userns, overlay) { .upper = -1, .work = -1, .userns_fd = (userns), .map_fd = -1, .flags = (overlay) }
void stack_close(struct stack *s);
#define auto_stack AUTO(stack_close) struct stack

int stack_open(struct images *im, const struct image_record *r, struct stack *s, struct err *e);
/* Takes away the places that a killed knarrd left. At start. */
void stack_clear(struct images *im);
/* *mount_fd: detached, the caller's. */
int stack_mount(struct images *im, const struct stack *s, int *mount_fd, struct err *e);

#endif
