/* A seccomp filter that notifies (SCMP_ACT_NOTIFY): how its listener gets from the process that has loaded it to
 * the agent that waits at linux.seccomp.listenerPath (config-linux.md, "The Container Process State").
 *
 * From the load on each system call of the process may wait for the agent, so the process makes none until its
 * parent has taken the listener out of it: both look at a page that they share. The agent gets one message on a
 * stream socket: the state as JSON, the listener beside it. */
#ifndef KNARR_RUNTIME_LISTENER_H
#define KNARR_RUNTIME_LISTENER_H

#include "base/err.h"
#include "kernel/seccomp.h"
#include "spec/oci_state.h"

struct listener_page;

/* NULL with *e. Made before the clone, given back after it. */
struct listener_page *listener_page_new(struct err *e);
void listener_page_drop(struct listener_page *page);

/* The child: loads the filter and returns when the parent has the listener. System calls and the stack only. */
int listener_load(struct listener_page *page, const struct seccomp_filter *f, unsigned flags, struct err *e);

/* The parent: waits for the load and takes the listener; the caller's. ERR_STATE: the process ended, or could not
 * load it (and says why itself). */
int listener_take(struct listener_page *page, int pidfd, int *out, struct err *e);

int listener_connect(const char *path, int *out, struct err *e);
struct listener_report {
	int pid;                        /* of the process, which may be an exec's */
	const char *metadata;           /* NULL: none */
	const struct oci_state *state;
};
int listener_send(int socket_fd, int listener, const struct listener_report *r, struct err *e);

#endif
