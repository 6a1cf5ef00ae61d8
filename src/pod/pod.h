/* The pods and containers of this node: what they are, what they do, and what becomes of them when
 * knarrd, knarr-pod or the machine ends at any moment (docs/inside/pods.md).
 *
 * All is in memory, under one lock that is held for memory work only, so that a list or a status
 * never waits for a disk, a plugin or a container; the catalog is written behind it. Every pod has an
 * owner, the socket it was made through: an owner sees, touches and hears of its own pods only, and
 * everything else is ERR_NOT_FOUND to it.
 *
 * Until pods_open()'s recovery is done every function here answers ERR_UNAVAILABLE; pods_wait_ready()
 * waits for it. Functions that take a call may block in it; the others do not block. All may be called
 * from every thread. IDs are 64 hex digits; a unique prefix of at least 4 is accepted as well. */
#ifndef KNARR_POD_POD_H
#define KNARR_POD_POD_H

#include "base/call.h"
#include "pod/config.h"

#include <sys/types.h>

struct pods;
struct catalog;
struct images;
struct net;

/* "true" on a container of a user's pod: the pod goes with the container (`knarr run --rm`). The command waits for that
 * itself; after a reboot, which ends both, it is done by the start. */
#define POD_LABEL_AUTO_REMOVE "io.knarr.auto-remove"

#define POD_OWNERS(X) X(KUBELET, "kubelet") X(USER, "user")
enum pod_owner {
#define X(name, text) POD_OWNER_##name,
	POD_OWNERS(X)
#undef X
	POD_OWNER_COUNT
};

/* An annotation that a user's pod may have: "none" leaves its network namespace with lo alone. */
#define POD_ANNOTATION_NETWORK "io.knarr.network"

/* A runtime handler: an OCI runtime's command. */
struct pod_handler {
	const char *name, *path;
	char *const *args;           /* global options of its command line */
	const char *root;            /* the folder of its state; NULL: one in each pod's */
};

struct pod_settings {
	const char *root, *run;      /* "/var/lib/knarr", "/run/knarr" */
	const char *netns_dir;       /* "/run/netns" */
	const char *monitor_path;    /* the knarr-pod program */
	const char *monitor_cgroup;  /* of the knarr-pods: "/knarr"; systemd: "/system.slice/knarr.scope" */
	const char *cgroup_parent;   /* of pods that name none: "/knarr-pods"; systemd: "/knarr-pods.slice" */
	bool systemd;                /* containers are systemd's scopes, pods' parents its slices */
	bool crio_names;             /* cgroups are named as CRI-O's, which cAdvisor looks for */
	char *const *cdi_dirs;       /* of CDI files, a later one counts more; NULL: /etc/cdi, /var/run/cdi */
	const char *criu;            /* the CRIU program for checkpoints; NULL: that on PATH */
	const char *seccomp_dir;     /* Localhost profiles: "/var/lib/kubelet/seccomp" */
	const char *resolv_conf;     /* for pods without a DNS configuration: "/etc/resolv.conf" */
	const struct pod_handler *handlers; /* beside "native" */
	size_t nhandlers;
	const char *default_handler; /* NULL: "native" */
	int64_t create_limit_ns;     /* how long RunPodSandbox and CreateContainer may take, whoever waits */
	int64_t collect_limit_ns;    /* how long a result waits to be collected before it is undone */
	uint64_t shm_bytes;          /* of /dev/shm; 0: 64 MiB */
};

/* Reads the catalog and begins recovery in a thread of its own. The settings, the catalog, the images
 * and the network must outlive the pods. */
int pods_open(const struct pod_settings *settings, struct catalog *catalog, struct images *images,
	      struct net *net, struct pods **out, struct err *e);
int pods_wait_ready(struct pods *ps, struct call *c, struct err *e);
/* 0 once recovered, else ERR_UNAVAILABLE. */
int pods_check_ready(struct pods *ps, struct err *e);
/* Ends the threads; everything that runs goes on under knarr-pod. */
void pods_close(struct pods *ps);

/* --- pods ----------------------------------------------------------------------------------------- */

enum pod_state {
	POD_CREATING,  /* not listed: it is being made, or nobody has collected it yet */
	POD_READY,
	POD_STOPPING,
	POD_STOPPED,   /* also where its knarr-pod died: NOTREADY */
	POD_REMOVING,
	POD_STATE_COUNT
};
extern const char *const pod_state_name[POD_STATE_COUNT];

/* A pod as it was at one moment. What the pointers mean lives while the view is held. */
struct pod_view {
	const char *id;
	enum pod_owner owner;
	enum pod_state state;
	const struct pod_config *config;
	const char *handler;
	int64_t created_wall_ns;
	char *const *ips;            /* NULL while there is none; the primary address first */
	const char *netns_path;      /* NULL: the host's network */
	pid_t monitor_pid;           /* 0: none */
	const char *reason;          /* why it is stopped without being asked, "" if it was asked */
	struct pod *object;
};
static inline bool pod_view_is_ready(const struct pod_view *v)
{
	return v->state == POD_READY;
}

struct pod_views {
	struct pod_view *v;          /* in order of creation */
	size_t n;
};
void pod_views_release(struct pod_views *v);
#define auto_pod_views AUTO(pod_views_release) struct pod_views

/* Makes a pod and waits until it is ready. The work has a limit of its own and goes on when the caller
 * goes: the same owner, uid, namespace, name and attempt joins it or collects its result; another
 * configuration under the same name ends the earlier one first. What nobody collects is undone.
 * *id (the call's arena). ERR_EXISTS: such a pod is there and listed. */
int pod_run(struct pods *ps, struct call *c, enum pod_owner owner, const struct pod_config *config,
	    const char **id, struct err *e);
/* Both are idempotent: a pod that is not there is success. Stop ends what is being made, kills the
 * containers, runs CNI DEL and lets go of the namespaces. Remove stops first if need be and removes
 * the containers too. */
int pod_stop(struct pods *ps, struct call *c, enum pod_owner owner, const char *id, struct err *e);
int pod_remove(struct pods *ps, struct call *c, enum pod_owner owner, const char *id, struct err *e);

/* The views' array is the arena's. */
int pod_status(struct pods *ps, struct arena *a, enum pod_owner owner, const char *id, struct pod_views *out,
	       struct err *e);
struct pod_filter {                  /* all that are given must hold */
	const char *id;              /* or a prefix */
	const bool *ready;
	const struct json_map *labels; /* each must be there and equal */
};
int pod_list(struct pods *ps, struct arena *a, enum pod_owner owner, const struct pod_filter *f,
	     struct pod_views *out, struct err *e);
/* Remembers what the pod's resources are now; kubelet itself has changed the pod's cgroup. */
int pod_update_resources(struct pods *ps, enum pod_owner owner, const char *id,
			 const struct config_resources *overhead, const struct config_resources *resources,
			 struct err *e);

/* --- containers ----------------------------------------------------------------------------------- */

enum container_state {
	CONTAINER_CREATING,  /* not listed, as POD_CREATING */
	CONTAINER_CREATED,
	CONTAINER_STARTING,  /* shown as created */
	CONTAINER_RUNNING,
	CONTAINER_EXITED,
	CONTAINER_UNKNOWN,
	CONTAINER_REMOVING,  /* shown as exited */
	CONTAINER_STATE_COUNT
};
extern const char *const container_state_name[CONTAINER_STATE_COUNT];

struct container_user {
	int64_t uid, gid;
	const int64_t *groups;
	size_t ngroups;
};

/* A container as it was at one moment, as struct pod_view. */
struct container_view {
	const char *id, *pod_id;
	enum pod_owner owner;
	enum container_state state;  /* CREATED, RUNNING, EXITED or UNKNOWN */
	const struct container_config *config;
	const struct pod_config *pod_config;
	const char *image_id;        /* "sha256:…" */
	const char *log_path;        /* absolute, NULL: none */
	int64_t created_wall_ns, started_wall_ns, finished_wall_ns; /* 0: not yet */
	int exit_code;
	bool oom_killed;
	const char *reason, *message; /* "Completed", "Error", "OOMKilled", "StartError", …; "" while not exited */
	pid_t pid;                   /* in the host's namespace; 0: none */
	struct container_user user;
	int stop_signal;             /* the kernel's number */
	struct container *object;
};

struct container_views {
	struct container_view *v;    /* in order of creation */
	size_t n;
};
void container_views_release(struct container_views *v);
#define auto_container_views AUTO(container_views_release) struct container_views

/* As pod_run(); the name is (pod, name, attempt). ERR_STATE: the pod is not ready. ERR_NOT_FOUND: no
 * such pod or image. */
int container_create(struct pods *ps, struct call *c, enum pod_owner owner, const char *pod_id,
		     const struct container_config *config, const char **id, struct err *e);
/* A failed start leaves the container exited, code 128, reason StartError. ERR_STATE: not created. */
int container_start(struct pods *ps, struct call *c, enum pod_owner owner, const char *id, struct err *e);
/* Sends the stop signal, waits up to grace_ns, kills, and returns when it has exited. A later stop
 * with less grace shortens an earlier one. Idempotent: absent or exited is success. */
int container_stop(struct pods *ps, struct call *c, enum pod_owner owner, const char *id, int64_t grace_ns,
		   struct err *e);
/* Kills first if it runs. Idempotent. */
int container_remove(struct pods *ps, struct call *c, enum pod_owner owner, const char *id, struct err *e);
int container_kill(struct pods *ps, struct call *c, enum pod_owner owner, const char *id, int signal,
		   struct err *e);

int container_status(struct pods *ps, struct arena *a, enum pod_owner owner, const char *id,
		     struct container_views *out, struct err *e);
/* The resources as the kernel has them now; of a container without a cgroup, as they were wished. */
int container_resources(struct pods *ps, struct arena *a, enum pod_owner owner, const char *id,
			struct config_resources *out, struct err *e);

/* config.json as it lies in the bundle. ERR_NOT_FOUND: a container that never got as far. */
int container_config_json(struct pods *ps, struct arena *a, enum pod_owner owner, const char *id, struct str *out,
			  struct err *e);

struct container_filter {
	const char *id, *pod_id;     /* or prefixes */
	const enum container_state *state;
	const struct json_map *labels;
};
int container_list(struct pods *ps, struct arena *a, enum pod_owner owner, const struct container_filter *f,
		   struct container_views *out, struct err *e);

/* All or nothing, on created (config.json is written anew) and running containers. ERR_STATE: exited. */
int container_update(struct pods *ps, struct call *c, enum pod_owner owner, const char *id,
		     const struct config_resources *change, const struct json_map *annotations, struct err *e);
/* ERR_STATE: it does not run. */
int container_reopen_log(struct pods *ps, struct call *c, enum pod_owner owner, const char *id, struct err *e);

/* Writes the container's processes and what it changed in its root to an archive (docs/formats/checkpoint.md), at one
 * moment: it is frozen meanwhile and goes on afterwards, whatever happens. The file `location` (absolute) is whole or not
 * there; one that is there is replaced. timeout_ns 0: none; CRIU itself is never broken off. ERR_STATE: it does not run.
 * ERR_UNAVAILABLE: no criu. ERR_UNIMPLEMENTED: another runtime runs it. */
int container_checkpoint(struct pods *ps, struct call *c, enum pod_owner owner, const char *id, const char *location,
			 int64_t timeout_ns, struct err *e);

enum { EXEC_OUTPUT_MAX_BYTES = 16 << 20 };
struct exec_result {
	int exit_code;
	struct str out, err;         /* in the call's arena, each cut at EXEC_OUTPUT_MAX_BYTES */
};
/* ERR_TIMEOUT: it ran longer than timeout_ns (0: none) and was killed with all it had started. */
int container_exec_sync(struct pods *ps, struct call *c, enum pod_owner owner, const char *id,
			char *const *argv, int64_t timeout_ns, struct exec_result *out, struct err *e);

/* The pod or the container of this whole ID, whoever owns it and whether it is listed yet or not: for those who see its
 * cgroup and ask whose it is. One of the two has one view, the other none. */
int pods_find_any(struct pods *ps, struct arena *a, const char *id, struct pod_views *pod,
		  struct container_views *container, struct err *e);

/* --- stats ---------------------------------------------------------------------------------------- */

struct pressure { uint64_t total_ns; double avg10, avg60, avg300; };
struct cgroup_usage {                /* what the kernel does not tell has its flag off */
	int64_t at_wall_ns;
	bool has_cpu, has_memory, has_swap, has_pids, has_psi;
	uint64_t cpu_ns, cpu_nanocores; /* nanocores: 0 until two samples are there */
	uint64_t memory_bytes, memory_working_set_bytes, memory_available_bytes, memory_rss_bytes;
	uint64_t page_faults, major_page_faults;
	uint64_t swap_bytes, swap_available_bytes;
	uint64_t pids;
	struct pressure cpu_some, cpu_full, memory_some, memory_full, io_some, io_full;
};
struct container_stats {
	struct container_view view;
	struct cgroup_usage usage;
	bool has_layer;
	uint64_t layer_bytes, layer_inodes; /* what it wrote into its root */
	const char *layer_mount_point;
};
struct container_stats_list {
	struct container_stats *v;
	size_t n;
};
void container_stats_release(struct container_stats_list *l);
#define auto_container_stats AUTO(container_stats_release) struct container_stats_list

/* The running containers (one: whatever its state). Reads cgroup files only. */
int container_stats_list(struct pods *ps, struct arena *a, enum pod_owner owner,
			 const struct container_filter *f, struct container_stats_list *out, struct err *e);
int container_stats(struct pods *ps, struct arena *a, enum pod_owner owner, const char *id,
		    struct container_stats_list *out, struct err *e);

struct pod_network_usage {
	const char *interface;
	uint64_t rx_bytes, rx_packets, rx_errors, rx_dropped;
	uint64_t tx_bytes, tx_packets, tx_errors, tx_dropped;
};
struct pod_stats {
	struct pod_view view;
	struct cgroup_usage usage;   /* of the pod's cgroup parent, where it names one */
	struct pod_network_usage *interfaces; /* without lo */
	size_t ninterfaces;
	struct container_stats_list containers;
};
struct pod_stats_list {
	struct pod_stats *v;
	size_t n;
};
void pod_stats_release(struct pod_stats_list *l);
#define auto_pod_stats AUTO(pod_stats_release) struct pod_stats_list
int pod_stats_list(struct pods *ps, struct arena *a, enum pod_owner owner, const struct pod_filter *f,
		   struct pod_stats_list *out, struct err *e);

/* --- events --------------------------------------------------------------------------------------- */

/* The numbers are CRI's. A pod's own events have container_id == pod_id. */
enum pod_event_kind { POD_EVENT_CREATED, POD_EVENT_STARTED, POD_EVENT_STOPPED, POD_EVENT_DELETED };
struct pod_event {
	uint64_t number;             /* one more than the one before */
	enum pod_event_kind kind;
	enum pod_owner owner;
	const char *container_id, *pod_id;
	int64_t at_wall_ns;
};
/* The number that the next event will have: where a new listener begins. */
uint64_t pod_events_next_number(struct pods *ps);
/* Waits for the owner's first event with a number >= *from and sets *from behind it. ERR_EXHAUSTED: the
 * listener was too slow and events are lost (*from is set to the oldest that is left). */
int pod_event_wait(struct pods *ps, struct call *c, enum pod_owner owner, uint64_t *from,
		   struct pod_event *out, struct err *e);

/* --- conditions ----------------------------------------------------------------------------------- */

/* RuntimeReady: 0, or -1 with a sentence. NetworkReady is net_ready()'s. */
int pods_runtime_ready(struct pods *ps, struct err *e);
/* "" and the names of all handlers; an unknown one is refused by pod_run(). */
char *const *pods_handlers(struct pods *ps);
/* Whether pods may have user namespaces here. */
bool pods_have_userns(struct pods *ps);
struct pod_handler_view {
	const char *name;            /* of "": whose turn it is then */
	bool native;
	const char *path, *error;    /* not native; error "": its program works */
	bool features;               /* the program tells what it can: */
	bool recursive_readonly, user_namespaces;
	const char *version_min, *version_max; /* of the OCI specification */
};
/* What is known of a handler; asks its program where that is new, and waits for it. Texts live as the call. */
int pods_handler_view(struct pods *ps, struct call *c, const char *name, struct pod_handler_view *out, struct err *e);
/* Whether a container of either owner uses the image: RemoveImage refuses it then. */
bool pods_use_image(struct pods *ps, const char *image_id);

#endif
