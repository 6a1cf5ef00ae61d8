/* One run of one CNI plugin: a process with the spec's environment, its configuration on stdin, its
 * result or its error on stdout. Every way in which a plugin can fail becomes an error that names the
 * plugin, the command and the network:
 *   ERR_UNAVAILABLE  it said "try again later" to the last of a few tries (code 11), or "not available"
 *   ERR_NOT_FOUND    its program is in none of the folders (they are named)
 *   ERR_TIMEOUT      it ran too long and was killed with its session, or the call ended
 *   ERR_SYSTEM       it refused, crashed, or printed what is no result */
#ifndef KNARR_NET_PLUGIN_H
#define KNARR_NET_PLUGIN_H

#include "base/call.h"
#include "spec/cni_conf.h"

struct plugin_place {
	char *const *bin_dirs;
	const char *bin_path;   /* the same, joined by ':' */
	char *const *base_env;  /* what plugins inherit of our environment */
	int64_t timeout_ns;
};

struct plugin_task {
	const char *command; /* "ADD", "DEL" */
	const char *pod_id, *netns, *interface, *args; /* netns "": it is gone */
	const struct cni_conf *conf;
	const struct json *capabilities; /* NULL: none */
};

/* The environment of this process but what is ours alone (CNI_*, the service manager's sockets). */
char **plugin_base_env(struct arena *a);

int plugin_find(struct arena *a, char *const *bin_dirs, const char *type, const char **path, struct err *e);

/* Blocks. *out: what it printed, in the call's arena. */
int plugin_run(const struct plugin_place *place, struct call *c, const struct plugin_task *t, size_t index,
	       const struct json *prev_result, struct str *out, struct err *e);

#endif
