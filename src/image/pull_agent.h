/* The other side of one knarr-pull, knarrd's or the command's: started, given orders, listened to. One thread's. */
#ifndef KNARR_IMAGE_PULL_AGENT_H
#define KNARR_IMAGE_PULL_AGENT_H

#include "base/list.h"
#include "base/proc.h"
#include "image/pull_protocol.h"

/* A fetch that was ordered. On the agent's list until it has ended. */
struct pull_fetching {
	struct list link;
	int64_t id;
	bool ended, ok;
	bool discard, again;
	struct err err;
};

struct pull_agent {
	struct proc proc;
	int sock;                      /* -1: not running */
	int64_t last_id;
	struct list fetches;
	bool resolved;
	struct pull_message what;      /* resolved: digest, media_type, size; in the call's arena */
	int64_t bytes;                 /* received so far */
};

int pull_agent_start(struct pull_agent *g, const char *program, const struct pull_message *start, struct err *e);
/* Kills it; harmless where it does not run. Fetches that have not ended are forgotten. */
void pull_agent_stop(struct pull_agent *g);

/* Orders a fetch into `file`, and into `pipe` (-1: none) as well; both stay the caller's. */
int pull_agent_fetch(struct pull_agent *g, struct pull_fetching *f, const struct pull_message *order, int file,
		     int pipe, struct err *e);

/* The same from a file, from order->offset on, instead of the registry. */
int pull_agent_copy(struct pull_agent *g, struct pull_fetching *f, const struct pull_message *order, int file, int pipe,
		    int source, struct err *e);
/* Orders that a blob or manifest be there: order->size bytes of `source` from order->offset on. */
int pull_agent_push(struct pull_agent *g, struct pull_fetching *f, const struct pull_message *order, int source,
		    struct err *e);

/* Takes one message, when the socket is readable. An error is the end of the pull: what knarr-pull
 * said, or that it is gone. */
int pull_agent_hear(struct pull_agent *g, struct arena *a, struct err *e);

#endif
