/* Plugins that a killed knarrd left running. A plugin itself dies with knarrd (PDEATHSIG), but what it
 * started does not (an IPAM plugin, iptables). All of them carry the pod in their environment, so
 * that no record of processes is needed, and none can be missed by having left its session. */
#ifndef KNARR_NET_ORPHANS_H
#define KNARR_NET_ORPHANS_H

#include <stddef.h>

/* Kills every process with CNI_CONTAINERID=<one of the pods> in its environment and waits until they
 * are gone, two seconds at most. Returns how many there were. */
size_t orphans_end(char *const *pod_ids);

#endif
