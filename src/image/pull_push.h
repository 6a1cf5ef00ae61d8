/* Writing to a registry (distribution-spec 1.1, push): a blob where it is not there yet, a manifest under its digest or
 * a tag. Each runs in a worker thread, straight-line. Mirrors are not written to. */
#ifndef KNARR_IMAGE_PULL_PUSH_H
#define KNARR_IMAGE_PULL_PUSH_H

#include "image/pull_fetch.h"

/* The order's size bytes of `source`, from its offset on; the fd is the caller's. *out is "done"; its bytes say how many
 * were sent: 0 where the registry had them, or took them from another repository. The registry itself refuses bytes that
 * have another digest than the order's. */
int pull_push(struct puller *p, struct http *h, struct arena *a, const struct pull_message *order, int source,
	      struct pull_message *out, struct err *e);

#endif
