/* Everything behind the RPCs, opened in the order of its needs: catalog, images, network, pods. */
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
	struct cri cri; /* what the methods get */
};

/* Opens all and waits until the pods are recovered. On failure what was opened is closed again. */
int rooms_open(struct rooms *r, struct call *c, const struct config *config, struct err *e);
/* What runs goes on. */
void rooms_close(struct rooms *r);

#endif
