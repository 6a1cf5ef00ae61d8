/* Network interfaces on their way into a container: from this network namespace into another, by rtnetlink.
 *
 * For single-threaded programs: the caller is in the other namespace for a moment. */
#ifndef KNARR_KERNEL_NETDEV_H
#define KNARR_KERNEL_NETDEV_H

#include "base/err.h"

/* Both names must be checked by the caller: 1 to 15 bytes (spec/oci_validate.c does).
 * Moves the interface `name` into netns_fd, named new_name there, gives it back its permanent addresses of global
 * scope, which the kernel takes away, and brings it up. own_netns_fd is the caller's own. ERR_NOT_FOUND: there is no
 * such interface; ERR_EXISTS: there is one of that name in the other namespace. Where a step after the move fails the
 * interface is there and goes with the namespace (a physical one comes back to the host). */
int netdev_move(const char *name, int netns_fd, const char *new_name, int own_netns_fd, struct err *e);

#endif
