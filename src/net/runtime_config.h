/* The capability arguments of a pod (CNI conventions: portMappings, bandwidth, dns, cgroupPath): what
 * plugins that ask for them get as runtimeConfig. Pure. */
#ifndef KNARR_NET_RUNTIME_CONFIG_H
#define KNARR_NET_RUNTIME_CONFIG_H

#include "base/json.h"
#include "net/net.h"

/* One JSON object with a member for each argument that the request has. */
int runtime_config_print(struct buf *b, const struct net_request *r, struct err *e);

#endif
