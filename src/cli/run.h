/* What `knarr run` is asked for, and what becomes of it in the CRI's words. */
#ifndef KNARR_CLI_RUN_H
#define KNARR_CLI_RUN_H

#include "cli/cli.h"
#include "cri.pb-c.h"

struct run_options {
	bool detach, auto_remove, read_only, privileged, interactive, terminal;
	const char *name, *network, *workdir, *user, *hostname, *pull, *entrypoint;
	char **env, **volumes, **ports, **labels, **cap_add, **cap_drop;
	int64_t memory_bytes;
	const char *cpus;
	char **words;         /* IMAGE [COMMAND [ARG…]] */
};

/* Both refuse with ERR_INVALID what cannot be meant, and name the option. The messages point into the options
 * and the arena; the container's image is left to be said. */
int run_pod_config(struct arena *a, const struct run_options *o, Runtime__V1__PodSandboxConfig *p, struct err *e);
int run_container_config(struct arena *a, const struct run_options *o, Runtime__V1__ContainerConfig *k,
			 struct err *e);

#endif
