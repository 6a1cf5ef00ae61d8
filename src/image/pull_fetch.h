/* What knarr-pull does with its registry: name to digest, and digest to bytes in a file and in a pipe.
 * Each runs in a worker thread, straight-line; the bytes of a fetch are hashed as they come. */
#ifndef KNARR_IMAGE_PULL_FETCH_H
#define KNARR_IMAGE_PULL_FETCH_H

#include "image/registry.h"

#include <stdatomic.h>

struct puller {
	struct registry registry;
	/* Guarded by registry.lock: */
	struct str resolved_bytes;    /* the manifest, where resolving had to fetch it; p NULL: no */
	const char *resolved_digest;
	atomic_llong bytes;           /* received, of all fetches */
};

/* Finds digest, size and media type of the reference. */
int pull_resolve(struct puller *p, struct http *h, struct arena *a, struct pull_message *out, struct err *e);

/* Fetches one blob or manifest into fds[0], after what is there already, and sends all of it into
 * fds[1] (-1: none) as well. The order "copy" takes it from the last of the fds instead. The fds are the
 * caller's. discard and again of *out say what to do where it fails. */
int pull_fetch(struct puller *p, struct http *h, struct arena *a, const struct pull_message *order,
	       const int fds[PULL_FDS_MAX], struct pull_message *out, struct err *e);

#endif
