/* Runtime handlers: what stands between the model and whoever runs a pod's containers. All that the model knows of it is
 * here; the rest is knarr-pod's, which runs them itself ("native"), or drives an OCI runtime's command line in the host's
 * namespaces (docs/inside/runtimes.md). Another kind of handler (a containerd shim, a virtual machine) would be another
 * case behind these functions. */
#ifndef KNARR_POD_HANDLER_H
#define KNARR_POD_HANDLER_H

#include "pod/model.h"

struct handler;
/* The configured ones, with what is known of their programs; in the pods' arena. ERR_INVALID: a name twice, or a default
 * that is none of them. */
int handlers_open(struct pods *ps, const struct pod_settings *s, struct err *e);
void handlers_close(struct pods *ps);

/* The runtime that a pod's handler ("" or NULL: the default) comes to: "" for our own. ERR_INVALID: there is no such
 * handler; with the handler's name ERR_UNAVAILABLE: its program is missing or does not work, ERR_UNIMPLEMENTED: the pod
 * wants what it has not. Waits for the program where it is new. */
int handler_resolve(struct pods *ps, struct call *c, const struct pod_config *wish, const char **runtime, struct err *e);

/* For a pod's knarr-pod: fills `out`, which lives as the call, and makes the folder that it names.
 * The pod's root with a runtime that has a root of the user's is recorded. */
int handler_prepare(struct pod *p, struct arena *a, struct monitor_command *out, struct err *e);
/* After its knarr-pod has ended: what the runtime kept outside of the pod's folder. */
int handler_clear(struct pod *p, struct err *e);

/* Another program runs the pod's containers: it wants the root mounted in the bundle, opens mounts itself, and makes the
 * container's scope where the cgroup driver is systemd. */
static inline bool handler_is_foreign(const struct pod *p)
{
	return p->runtime[0] != '\0';
}
/* Mounts the root, and the images that are volumes, where the container's config.json names them. */
int handler_mounts_attach(struct container *k, struct err *e);
int handler_mounts_detach(struct container *k, struct err *e); /* absent is fine */

#endif
