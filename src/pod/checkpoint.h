/* What checkpoint.c takes of checkpoint_diff.c. */
#ifndef KNARR_POD_CHECKPOINT_H
#define KNARR_POD_CHECKPOINT_H

#include "pod/model.h"

/* What the container changed in its root: `out` gets a tar of what is new or other, *deleted the names of what its image
 * has and it has not, as a JSON list. The container stands still. The call is looked at between files. */
int checkpoint_diff(struct container *k, struct call *c, int out, struct buf *deleted, struct err *e);

#endif
