/* Everything behind the RPCs, opened in the order of its needs: catalog, images, network, pods, streaming. */
#ifndef KNARR_DAEMON_ROOMS_H
#define KNARR_DAEMON_ROOMS_H

#include "base/call.h"
#include "cri/cri.h"
#include "daemon/config.h"

struct rooms {
	struct catalog *catalog;
	struct images *images;
	struct net *net;
	struct pods *pods;
	struct nri *nri; /* NULL: not wanted */
	struct streams *streams;
	struct cri cri; /* what the methods get */
};

/* For a look at them before anything is opened: stream_settings_check(). */
struct stream_settings rooms_stream_settings(const struct config *config);

/* Opens all and waits until the pods are recovered. On failure what was opened is closed again. */
int rooms_open(struct rooms *r, struct call *c, const struct config *config, struct err *e);
/* What runs goes on. */
void rooms_close(struct rooms *r);

#endif
