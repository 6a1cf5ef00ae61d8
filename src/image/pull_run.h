/* One pull, straight-line, in a thread of its own: knarr-pull fetches, knarr-unpack unpacks, this
 * decides. pull.c sees to it that the same pull runs once. */
#ifndef KNARR_IMAGE_PULL_RUN_H
#define KNARR_IMAGE_PULL_RUN_H

#include "base/list.h"
#include "image/images.h"
#include "spec/ref.h"

struct pull_work {
	struct images *im;
	struct call *call;             /* its arena is the pull's memory */
	const struct ref *ref;         /* NULL: load */
	const struct image_load_request *load; /* NULL: a registry has it */
	const struct image_auth *auth; /* never NULL */
	void (*progress)(void *ctx, const struct image_progress *p);
	void *progress_ctx;
};

/* *id lives in the call's arena. When it returns, all processes have ended and nothing half-made is
 * left but ingest files, from which the next fetch goes on. */
int pull_run(const struct pull_work *w, char **id, struct err *e);

#endif
