/* From wishes to config.json: what CRI asks for and what the image says become one OCI runtime
 * configuration. One pure function: what it must know of the machine, of the pod and of the image's
 * files is handed in (pod/container_facts.h reads it); nothing is read here, nothing blocks.
 *
 * The rules are those that Kubernetes users know from containerd, so that a pod finds the same
 * surroundings: its capabilities, masked paths, device rules, mounts and io.kubernetes.cri.*
 * annotations. Not done here: sysctls and the hostname, which belong to the pod's namespaces and are
 * set when those are made; making host paths that do not exist; relabelling for SELinux.
 *
 * The result points into its inputs and the arena, names the lowest ociVersion that knows its fields
 * (older runtimes take it), and passes oci_config_validate(). */
#ifndef KNARR_POD_CONTAINER_SPEC_H
#define KNARR_POD_CONTAINER_SPEC_H

#include "pod/config.h"
#include "spec/cdi.h"
#include "spec/image_config.h"
#include "spec/oci_config.h"

#include <sys/types.h>

/* What the machine is like: the same for all containers; container_facts_read() fills it. */
struct container_facts {
	bool cgroup_v2;
	bool swap_supported, hugetlb_supported; /* can be limited by cgroup */
	bool userns_supported;       /* with idmapped layers and mounts */
	bool seccomp_supported, apparmor_supported, selinux_supported;
	const char *apparmor_default; /* the loaded profile that RuntimeDefault means; NULL: none */
	char **capabilities;         /* all that this kernel knows and knarrd has, "CAP_…" */
	unsigned kernel_major, kernel_minor;
	const char *hostname;        /* the node's, what HOSTNAME is set to in pods without one */
	int64_t pids_limit;          /* of each container; 0: none of its own */
	struct json_vec rlimits;     /* struct oci_rlimit of each container; empty: knarrd's own */
};

struct container_spec_device {       /* a host device as stat(2) saw it */
	char *path;                  /* in the container */
	char *access;                /* of r w m, for the cgroup */
	char type;                   /* 'c', 'b' */
	uint32_t major, minor, file_mode, uid, gid; /* file_mode: permission bits */
};

struct container_spec_input {
	const struct container_facts *facts;
	const char *container_id, *pod_id;
	const struct pod_config *pod;
	const struct container_config *config;
	const struct image_config *image;
	struct str passwd, group;    /* /etc/passwd and /etc/group of the root file system; p == NULL: none */

	const char *cgroup_path;     /* the container's own, for linux.cgroupsPath: "/kubepods/…/ID" */
	pid_t monitor_pid;           /* the pod's net, ipc and uts namespaces: /proc/PID/ns/… */
	int userns_fd_number;        /* where that process holds the pod's user namespace, if it has one */
	pid_t init_pid;              /* the pod's pid namespace, if it shares one; else 0 */
	pid_t target_pid;            /* pid == CONFIG_NS_TARGET: the target container's first process */

	const char *shm_path;        /* sources that the pod shares: /dev/shm */
	const char *resolv_conf_path; /* /etc/resolv.conf */
	const char *hostname_path;   /* /etc/hostname */
	const char *hosts_path;      /* /etc/hosts */
	                             /* each: NULL: no such mount; and none where config mounts there itself */
	const char *const *mount_sources; /* of config->mounts, where they are not their host_path (an image
	                                   * volume, a resolved link); NULL or NULL elements: host_path */

	struct json_vec cdi;         /* struct cdi_edits: what the CDI devices want, nodes looked up (cdi_files.h) */
	struct str seccomp;          /* the Localhost profile's text, where one is wanted */
	const struct container_spec_device *devices; /* those that config->devices name (a folder: all in it) */
	size_t ndevices;
	const struct container_spec_device *host_devices; /* all of the host's, for a privileged container */
	size_t nhost_devices;
};

struct container_spec_result {
	struct oci_config *config;
	int stop_signal;             /* the wish's, else the image's, else SIGTERM; the kernel's number */
	size_t *mount_at;            /* config->mounts[i] of the wish is mounts[mount_at[i]] of the result:
	                              * mounts are in order of depth, so that none hides another */
};

/* Everything is the arena's. ERR_INVALID and ERR_NOT_FOUND name the field, the user, the profile. The
 * user that the process begins as is config->process->user, its additional_gids ascending and with
 * the gid among them, as ContainerStatus shows them. */
int container_spec_build(struct arena *a, const struct container_spec_input *in,
			 struct container_spec_result *out, struct err *e);

/* The resources part alone, for an update; without device rules. */
int container_spec_resources(struct arena *a, const struct config_resources *r,
			     const struct container_facts *facts, struct oci_resources *out, struct err *e);

/* Masked and read-only paths for callers that have no security context at all; kubelet always says. */
extern char *const container_spec_masked_paths[];
extern char *const container_spec_readonly_paths[];

/* The label of what the container mounts, for relabelling; NULL: SELinux is off. */
const char *container_spec_mount_label(struct arena *a, const struct container_spec_input *in);

#endif
