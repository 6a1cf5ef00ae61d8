/* One knarrd for one root folder: a lock on ROOT/knarrd.lock, held for the life of the process, taken
 * before anything of another knarrd's (its sockets, its catalog) is touched. The kernel gives it back
 * when the process ends, however it does. */
#ifndef KNARR_DAEMON_STATE_LOCK_H
#define KNARR_DAEMON_STATE_LOCK_H

#include "base/call.h"
#include "base/err.h"

/* STATE_LOCK_PRIVATE: for a knarrd that the knarr command started, which hands over: when a service
 * asks for the lock it is sent SIGTERM, and the service waits for it within the call. */
enum { STATE_LOCK_PRIVATE = BIT(0) };

/* *out is the caller's, to keep open. ERR_UNAVAILABLE: another knarrd has it; the text has its pid. */
int state_lock(struct call *c, const char *root, unsigned flags, int *out, struct err *e);

#endif
