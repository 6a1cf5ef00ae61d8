/* What a caller wants of a pod and of a container: everything of CRI's PodSandboxConfig and
 * ContainerConfig that Linux uses, as plain structs without CRI's types. The json_field tables write
 * them to the catalog and read them back, byte for byte and in order (labels, annotations, and an
 * environment's values may hold bytes that are not UTF-8; JSON text of ours keeps them raw, and NUL
 * cannot occur, since execve(2) could not carry it).
 *
 * A pointer that is NULL, a vector without elements and a number 0 mean "not given", as in CRI.
 * Everything lives in the arena of whoever made it; nothing here blocks. */
#ifndef KNARR_POD_CONFIG_H
#define KNARR_POD_CONFIG_H

#include "base/json.h"

/* The numbers are CRI's. */
enum config_namespace { CONFIG_NS_POD, CONFIG_NS_CONTAINER, CONFIG_NS_NODE, CONFIG_NS_TARGET };
enum config_propagation { CONFIG_PRIVATE, CONFIG_HOST_TO_CONTAINER, CONFIG_BIDIRECTIONAL };
enum config_groups_policy { CONFIG_GROUPS_MERGE, CONFIG_GROUPS_STRICT };
enum config_profile_type { CONFIG_PROFILE_DEFAULT, CONFIG_PROFILE_UNCONFINED, CONFIG_PROFILE_LOCALHOST };

struct config_id_map {
	uint32_t host_id, container_id, length;
};

struct config_userns {
	enum config_namespace mode; /* POD: the maps below; NODE: the host's */
	struct json_vec uids, gids; /* struct config_id_map */
};

struct config_namespaces {
	enum config_namespace network, pid, ipc;
	char *target_id;              /* pid == CONFIG_NS_TARGET: the container whose namespace it joins */
	struct config_userns *userns; /* NULL: the host's */
};

/* The user namespace that is wished; NULL: the host's. */
static inline const struct config_userns *config_userns(const struct config_namespaces *ns)
{
	return ns->userns && ns->userns->mode == CONFIG_NS_POD ? ns->userns : NULL;
}

struct config_profile {               /* seccomp, AppArmor */
	enum config_profile_type type;
	char *localhost;              /* a path (seccomp) or a profile's name (AppArmor) */
};

struct config_selinux {
	char *user, *role, *type, *level;
};

struct config_hugepage {
	char *page_size;              /* "2MB", "1GB" */
	uint64_t limit_bytes;
};

struct config_resources {
	int64_t cpu_period_us, cpu_quota_us, cpu_shares;
	int64_t memory_bytes, memory_swap_bytes; /* swap: memory and swap together, as in CRI */
	int64_t oom_score_adj;
	char *cpuset_cpus, *cpuset_mems;
	struct json_vec hugepages;    /* struct config_hugepage */
	struct json_map unified;      /* cgroup v2 files */
};

/* --- a pod -------------------------------------------------------------------------------------- */

struct config_port {
	char *protocol;               /* "tcp", "udp", "sctp" */
	int32_t container_port, host_port;
	char *host_ip;
};

struct pod_config {
	char *name, *namespace_, *uid;
	uint32_t attempt;
	char *hostname;
	char *log_directory;          /* absolute, NULL: no logs */
	char **dns_servers, **dns_searches, **dns_options;
	bool dns_given;               /* false: the host's resolv.conf */
	struct json_vec ports;        /* struct config_port */
	struct json_map labels, annotations;
	char *handler;                /* the runtime handler, NULL: the default */

	char *cgroup_parent;          /* "/kubepods/burstable/pod…" */
	struct json_map sysctls;
	struct config_resources *overhead, *resources;

	struct config_namespaces namespaces;
	struct config_selinux *selinux;
	int64_t *run_as_user, *run_as_group;
	struct json_vec supplemental_groups; /* int64_t */
	enum config_groups_policy groups_policy;
	bool privileged, readonly_rootfs;
	struct config_profile *seccomp, *apparmor;
};

/* --- a container -------------------------------------------------------------------------------- */

struct config_env {
	char *key, *value;            /* the value is bytes without NUL */
};

struct config_mount {
	char *container_path, *host_path;
	bool readonly, recursive_readonly, selinux_relabel;
	enum config_propagation propagation;
	struct json_vec uid_maps, gid_maps; /* struct config_id_map */
	char *image;                  /* an image volume: the image's reference or ID */
	char *image_id;               /* and the ID it was resolved to, set by container_create */
	char *image_ref;              /* what the caller knows it by since its pull; NULL: `image` says it */
	char *image_sub_path;
	char **options;               /* "noexec", "nodev", "nosuid" */
};

struct config_device {
	char *container_path, *host_path, *permissions;
};

struct container_config {
	char *name;
	uint32_t attempt;
	char *image;                  /* what the caller said: a reference or an ID */
	char *image_user_specified;   /* what the user had written */
	struct json_map image_annotations;
	char *image_handler;
	char **command, **args;
	char *working_dir;
	struct json_vec envs;         /* struct config_env */
	struct json_vec mounts;       /* struct config_mount */
	struct json_vec devices;      /* struct config_device */
	char **cdi_devices;
	struct json_map labels, annotations;
	char *log_path;               /* below the pod's log_directory; NULL: no log */
	bool stdin_open, stdin_once, tty;
	int32_t stop_signal;          /* the kernel's number; 0: the image's, else SIGTERM */

	struct config_resources *resources;
	char **add_capabilities, **drop_capabilities, **add_ambient_capabilities;
	bool privileged, readonly_rootfs, no_new_privs;
	struct config_namespaces namespaces;
	struct config_selinux *selinux;
	int64_t *run_as_user, *run_as_group;
	char *run_as_username;
	struct json_vec supplemental_groups; /* int64_t */
	enum config_groups_policy groups_policy;
	char **masked_paths, **readonly_paths;
	struct config_profile *seccomp, *apparmor;
};

extern const struct json_field pod_config_fields[];
extern const struct json_field container_config_fields[];
extern const struct json_field config_resources_fields[];

/* Fields that are given in `change` replace those of `r`, as UpdateContainerResources means it;
 * `unified` and `hugepages` are merged by key. Texts stay change's. */
void config_resources_merge(struct arena *a, struct config_resources *r, const struct config_resources *change);

#endif
