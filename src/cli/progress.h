/* How far a pull, a load or a push is: a bar on a terminal, else a line every few seconds, on stderr. */
#ifndef KNARR_CLI_PROGRESS_H
#define KNARR_CLI_PROGRESS_H

#include "cli/cli.h"

struct progress;

/* `what` names it in lines and is to live as long. */
struct progress *progress_new(struct arena *a, const char *what);
/* For a stream of knarr.v1.PullImageProgress; ctx is the struct progress. */
int progress_take(void *ctx, const ProtobufCMessage *m, struct err *e);

struct progress_state {
	unsigned layers, layers_done;
	uint64_t bytes, bytes_total;
	const char *waits_for; /* NULL: nothing in particular */
};
void progress_show(struct progress *p, const struct progress_state *s);

/* Takes the bar away. */
void progress_end(struct progress *p);
/* The image's ID, once it has come; NULL before. */
const char *progress_id(const struct progress *p);

#endif
