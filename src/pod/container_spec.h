/* From wishes to config.json: the image's configuration, the container's and the pod's become one OCI
 * runtime configuration. One pure function: what it must know of the host is handed in, nothing is
 * read, nothing blocks. */
#ifndef KNARR_POD_CONTAINER_SPEC_H
#define KNARR_POD_CONTAINER_SPEC_H

#include "pod/config.h"
#include "spec/image_config.h"
#include "spec/oci_config.h"

#include <sys/types.h>

struct container_spec_device {       /* a host device as lstat(2) saw it */
	char *host_path;
	char type;                   /* 'c', 'b' */
	uint32_t major, minor, file_mode, uid, gid;
};

struct container_spec_input {
	const char *container_id, *pod_id;
	const struct pod_config *pod;
	const struct container_config *config;
	const struct image_config *image;
	struct str passwd, group;    /* /etc/passwd and /etc/group of the root file system; p == NULL: none */

	const char *cgroup_path;     /* the container's own, for linux.cgroupsPath: "/kubepods/…/ID" */
	bool cgroup_v2;
	pid_t monitor_pid;           /* the pod's net, ipc and uts namespaces: /proc/PID/ns/… */
	pid_t init_pid;              /* the pod's pid namespace, if it shares one; else 0 */
	pid_t target_pid;            /* pid == CONFIG_NS_TARGET: the target container's first process */

	const char *shm_path;        /* sources that the pod shares: /dev/shm */
	const char *resolv_conf_path; /* /etc/resolv.conf */
	const char *hostname_path;   /* /etc/hostname */
	const char *hosts_path;      /* /etc/hosts */
	                             /* each: NULL: no such mount; and none where config mounts there itself */

	struct str seccomp;          /* the Localhost profile's text, where one is wanted */
	bool seccomp_supported, apparmor_supported, selinux_supported;
	const struct container_spec_device *devices; /* those that config->devices name (a folder: all in it),
						      * and all of the host's for a privileged container */
	size_t ndevices;
	const char *const *kernel_capabilities; /* all that this kernel knows, "CAP_…", NULL-terminated */
	const char *hostname;        /* what HOSTNAME is set to */
};

struct container_spec_result {
	struct oci_config *config;
	int stop_signal;             /* the wish's, else the image's, else SIGTERM */
};

/* Everything is the arena's. ERR_INVALID and ERR_NOT_FOUND name the field, the user, the profile.
 * The mounts that come from config->mounts are the last config->mounts.count ones of the result, in
 * the same order: mount i of the wish is mounts[count - n + i]. */
int container_spec_build(struct arena *a, const struct container_spec_input *in,
			 struct container_spec_result *out, struct err *e);

/* The resources part alone, for an update. */
int container_spec_resources(struct arena *a, const struct config_resources *r, bool cgroup_v2,
			     struct oci_resources *out, struct err *e);

#endif
