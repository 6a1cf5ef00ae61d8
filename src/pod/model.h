/* The inside of the room: the objects behind pod.h and what its files share. Other rooms include
 * pod.h.
 *
 * Locking: struct pods has the one lock. It guards the maps and lists and every field of a pod and of
 * a container that says so below; it is held for memory work only. To exclude others for longer, an
 * object is in a state that says so (making, starting, stopping, removing), and only the thread that
 * moved it there touches the fields marked "worker's".
 *
 * Objects are counted references. What a view points to lives in the object's arena, which only
 * grows; its allocations happen under the lock. */
#ifndef KNARR_POD_MODEL_H
#define KNARR_POD_MODEL_H

#include "base/clock.h"
#include "base/fs.h"
#include "base/list.h"
#include "base/map.h"
#include "base/steps.h"
#include "base/thread.h"
#include "kernel/cgroup.h"
#include "monitor/client.h"
#include "net/net.h"
#include "pod/container_facts.h"
#include "pod/plugins.h"
#include "pod/pod.h"
#include "store/catalog.h"

#include <stdatomic.h>

/* Work that outlives its caller: the thread that makes a pod or a container, and those who wait for
 * what becomes of it. All under the lock but the call. */
struct making {
	struct call call;        /* the work's; cancelled by a stop */
	uint64_t wish_hash;      /* of the configuration: another one under the same name ends this */
	unsigned waiters;
	bool active;             /* a thread is at work, or waits for someone to collect */
	bool done;               /* it has ended; error.kind tells how */
	bool promised;           /* those who wait get it; so says the record */
	bool collected;
	bool cancelled;
	bool call_lives;
	struct err error;
};

/* What the record on disk says is behind what memory says until `written` has caught up. */
struct recording {
	uint64_t wanted, written; /* versions */
	bool busy;               /* a thread writes */
};

/* The last sample of a cgroup's CPU use, and the rate from the one before. */
struct cpu_sample {
	uint64_t used_ns;
	int64_t at_ns;           /* CLOCK_MONOTONIC; 0: none yet */
	uint64_t nanocores;
};

struct pod {
	struct pods *all;
	atomic_uint refs;
	struct arena arena;      /* under the lock */
	struct list in_pods;
	struct list containers;  /* of struct container, in_pod */
	struct cond changed;     /* state, making, recording */
	char id[ID_HEX_LEN + 1];
	const char *key;         /* the reserved name */
	enum pod_owner owner;
	enum pod_state state;
	struct pod_config *config;
	const char *handler;     /* as it was wished */
	const char *runtime;     /* who runs its containers (handler.h): "" our own */
	const char *runtime_root; /* of one that keeps it outside of the pod's folder; "": none */
	int64_t created_wall_ns;
	char *const *ips;
	const char *netns_path;
	const char *reason;
	bool network_added;      /* CNI ADD was begun and DEL has not succeeded */
	bool settled;            /* stopped with nothing left to undo */
	struct making making;
	struct recording recording;
	struct monitor monitor;  /* pid 0: none */
	pid_t init_pid;
	int pidfd;               /* worker's until it is watched, then the watcher's */
	int event_fd;
	int run_dirfd, state_dirfd;
	struct monitor_birth birth; /* worker's, while knarr-pod starts */
	int netns_fd;            /* worker's, from knarr-pod's start until it has a name */
	bool undo_failed;        /* worker's: something is left of the last undo */
	uint64_t watch_number;   /* 0: not watched */
	struct cpu_sample cpu;
	atomic_int knowledge;    /* enum plugin_knowledge */
};

/* A bind mount of config.json. knarr-pod lives in another mount namespace: start opens the source. */
struct container_bind {
	uint32_t mount;          /* its place in config.json's mounts */
	char *source;            /* a path of the host's */
	char *image, *sub_path;  /* or, where `image` is an ID, what that image holds */
	bool recursive;
};

struct container {
	struct pods *all;
	struct pod *pod;         /* a reference */
	atomic_uint refs;
	struct arena arena;      /* under the lock */
	struct list in_pod, in_containers;
	struct cond changed;
	char id[ID_HEX_LEN + 1];
	const char *key;
	enum container_state state;
	struct container_config *config;
	const char *image_id;
	const char *cgroup_path;
	const char *log_path;
	int64_t created_wall_ns, started_wall_ns, finished_wall_ns;
	int exit_code;
	bool oom_killed;
	const char *reason, *message;
	pid_t pid;
	uint64_t start_ticks;
	struct container_user user;
	int stop_signal;
	int64_t kill_at_ns;      /* of the stop under way (monotonic); 0: none */
	bool busy;               /* an update or a removal has it */
	struct json_vec binds;   /* struct container_bind: the host's files in config.json */
	int root_fd;             /* the root's mount, made by create for start; worker's */
	struct making making;
	struct recording recording;
	struct cpu_sample cpu;
	atomic_int knowledge;    /* enum plugin_knowledge */
	bool telling;            /* plugins are told of a moment */
	bool stop_due;           /* its end has still to be told */
};

enum { EVENT_RING = 1024 };
struct event_slot {
	struct pod_event event;
	char container_id[ID_HEX_LEN + 1], pod_id[ID_HEX_LEN + 1];
};

/* --- userns.c ----------------------------------------------------------------------------------------- */

/* The maps of the pod's user namespace, in the arena; false: it has none of its own. */
bool pod_idmaps(struct arena *a, const struct pod *p, struct idmaps *out);
/* Gives a file that is the pod's alone to the root of its user namespace, where it has one. */
int pod_give_to_root(const struct pod *p, int fd, struct err *e);
/* The pod's user namespace, the caller's fd; -1 where it has none. ERR_UNAVAILABLE: its knarr-pod has ended. */
int pod_userns_open(const struct pod *p, int *out, struct err *e);

/* A process of ours that keeps a scope of systemd's (unit.c). */
struct unit_holder {
	struct proc proc;
	int pipe_fd;             /* its end is the holder's */
};
#define UNIT_HOLDER_NONE { { 0, -1 }, -1 }

struct pods {
	struct arena arena;      /* of the settings */
	struct pod_settings settings;
	struct catalog *catalog;
	struct images *images;
	struct net *net;
	struct monitor_program program;
	struct cgroup_layout cgroups;
	struct container_facts facts;
	struct handlers *handlers;     /* handler.c's */
	int root_fd, run_fd, netns_fd; /* root/pods, run/pods, netns_dir */
	struct unit_holder holder;     /* keeps the knarr-pods' scope */
	struct lock lock;
	struct cond changed;     /* readiness, jobs, events */
	struct map pods, pod_keys, containers, container_keys;
	struct list pod_list, container_list; /* in order of creation */
	enum { PODS_RECOVERING, PODS_READY, PODS_CLOSING } state;
	unsigned jobs;           /* threads of ours that run */
	struct event_slot *events;
	uint64_t next_event, next_watch;
	int epoll_fd, wake_fd;
	pthread_t watcher, recoverer;
	bool watcher_runs, recoverer_runs;
	const struct pod_plugins *plugins; /* NULL: none are wanted */
};

/* --- pods.c: finding and holding ------------------------------------------------------------------ */

struct pod *pod_new(struct pods *ps);
struct pod *pod_ref(struct pod *p);
void pod_unref(struct pod *p);
static inline void pod_unref_auto(struct pod **p)
{
	if (*p)
		pod_unref(*p);
}
#define auto_pod AUTO(pod_unref_auto) struct pod

struct container *container_new(struct pod *p);
struct container *container_ref(struct container *k);
void container_unref(struct container *k);
static inline void container_unref_auto(struct container **k)
{
	if (*k)
		container_unref(*k);
}
#define auto_container AUTO(container_unref_auto) struct container

int pods_check_ready_locked(struct pods *ps, struct err *e);
/* By ID or prefix, whether listed or not. ERR_NOT_FOUND, ERR_INVALID (ambiguous). No reference. */
struct pod *pod_find_locked(struct pods *ps, enum pod_owner owner, const char *id, struct err *e);
struct container *container_find_locked(struct pods *ps, enum pod_owner owner, const char *id, struct err *e);
/* The same with a reference and the lock taken; a container that is not listed is not found. */
struct pod *pod_get(struct pods *ps, enum pod_owner owner, const char *id, struct err *e);
struct container *container_get(struct pods *ps, enum pod_owner owner, const char *id, struct err *e);
/* container_get() of one that runs. ERR_STATE. */
struct container *container_running(struct pods *ps, enum pod_owner owner, const char *id, struct err *e);

bool pod_is_listed_locked(const struct pod *p);
bool container_is_listed_locked(const struct container *k);
void pod_view_fill_locked(struct pod *p, struct pod_view *v);             /* takes a reference */
void container_view_fill_locked(struct container *k, struct container_view *v);

/* The one setter of the state. ERR_STATE where the move is not in the table. */
int pod_enter_locked(struct pod *p, enum pod_state to, struct err *e);
int container_enter_locked(struct container *k, enum container_state to, struct err *e);

/* Into the maps and lists: false where the key is taken. Out of them. */
bool pod_insert_locked(struct pod *p);
void pod_forget_locked(struct pod *p);
bool container_insert_locked(struct container *k);
void container_forget_locked(struct container *k);

/* --- making.c --------------------------------------------------------------------------------------- */

/* Starts a thread of ours that pods_close() waits for. */
int pods_job(struct pods *ps, const char *name, void *(*run)(void *), void *arg, struct err *e);
void pods_job_done(struct pods *ps);
/* What tells two wishes of the same name apart. */
int making_wish_hash(const struct json_field *fields, const void *config, uint64_t *out, struct err *e);
/* In the making thread: its call lives from begun to end. Either it failed, or it promises the result to
 * those who wait (and saves that), and offers it: to them, and up to limit_ns to who comes later.
 * False: nobody came. */
void making_begun(struct making *m, struct lock *lock);
void making_failed(struct making *m, struct cond *changed, struct lock *lock, const struct err *why);
void making_promise(struct making *m, struct lock *lock);
bool making_offer_locked(struct making *m, struct cond *changed, struct lock *lock, int64_t limit_ns);
void making_end(struct making *m, struct lock *lock);
/* Waits until the making has ended, or the caller's call, and collects a success. 1: it had not been
 * promised, so that the record must be written again. */
int making_collect_locked(struct making *m, struct cond *changed, struct lock *lock, struct call *c,
			  struct err *e);
void making_cancel_locked(struct making *m, struct cond *changed);

/* --- record.c ---------------------------------------------------------------------------------------- */

/* Writes the object's present state to the catalog; returns when it, or a later one, is written. */
int pod_save(struct pod *p, struct err *e);
int container_save(struct container *k, struct err *e);
int pod_record_delete(struct pod *p, struct err *e);
int container_record_delete(struct container *k, struct err *e);
/* Makes the object of a record; not in the maps yet. `made`: false where the making had not been
 * collected, so it is to be undone. */
int pod_of_record(struct pods *ps, const struct record *r, struct pod **out, bool *made, struct err *e);
int container_of_record(struct pods *ps, const struct record *r, struct container **out, bool *made,
			struct err *e);
/* Into the container's arena. */
void container_copy_binds(struct container *k, const struct json_vec *binds);
const char *pod_key(struct arena *a, enum pod_owner owner, const struct pod_config *config);
const char *container_key(struct arena *a, const char *pod_id, const struct container_config *config);

/* --- pod_steps.c --------------------------------------------------------------------------------------- */

extern const struct steps pod_keep_steps; /* record, folder: what stays until the pod is removed */
extern const struct steps pod_run_steps;  /* what a stopped pod has no more */
const char *pod_run_path(struct arena *a, const struct pod *p, const char *name); /* run/pods/ID/NAME */
int pod_open_folders(struct pod *p, struct err *e); /* those that are there */

/* --- view.c ---------------------------------------------------------------------------------------------- */

/* Those of one pod, without a look at all the others. Takes the lock. */
void pod_running_containers(struct arena *a, struct pod *p, struct container_views *out);

/* --- stats.c --------------------------------------------------------------------------------------------- */

/* What the pod's network namespace counts, without lo; none in the host's. */
struct pod_network_usage *pod_network_of(struct arena *a, const struct pod_view *v, size_t *n);

/* --- unit.c ---------------------------------------------------------------------------------------------- */

/* The cgroup that the pod's lie in; with the systemd driver the slice's path. ERR_INVALID: it is no slice. */
int pod_cgroup_parent(struct arena *a, const struct pod *p, const char **out, struct err *e);
/* The pod's own, in which nobody is: cAdvisor counts the network by it. */
int unit_pod_cgroup(struct arena *a, const struct pod *p, bool crio_names, const char **out, struct err *e);
const char *unit_container_cgroup(struct arena *a, const struct pods *ps, const char *parent, const char *id);
const char *unit_cgroups_path(struct arena *a, const struct container *k); /* for config.json */
/* The scope in which the knarr-pods live; nothing with the cgroupfs driver. */
int unit_monitors_open(struct pods *ps, struct err *e);
void unit_monitors_close(struct pods *ps);
/* Starts a container's scope before knarr-pod is asked; unit_end() in any case after. The resources live as the
 * call. A container whose cgroup is no scope: nothing. */
struct oci_resources;
struct unit_start {
	struct unit_holder holder;
	const struct oci_resources *resources;
};
#define UNIT_START_NONE ((struct unit_start){ .holder = UNIT_HOLDER_NONE })
int unit_begin(struct container *k, struct call *c, struct unit_start *s, struct err *e);
void unit_end(struct container *k, struct unit_start *s, bool started);
int unit_update(struct container *k, const struct oci_resources *r, struct err *e);

/* --- pod_files.c ----------------------------------------------------------------------------------------- */

int pod_files_make(struct pod *p, struct err *e);     /* resolv.conf, hostname */
int pod_hosts_make(struct pod *p, struct err *e);     /* hosts, when the addresses are known */
int pod_shm_make(struct pod *p, struct err *e);
int pod_shm_remove(struct pod *p, struct err *e);
int pod_netns_bind(struct pod *p, int netns_fd, struct err *e);
int pod_netns_unbind(struct pod *p, struct err *e);
bool pod_shares_shm(const struct pod *p);

/* --- pod_end.c --------------------------------------------------------------------------------------------- */

/* Undoes what runs, in state STOPPING, and moves to STOPPED. */
int pod_settle(struct pod *p, struct err *e);
/* knarr-pod has ended without being asked: its containers are killed by cgroup. */
void pod_monitor_died(struct pod *p, const char *why);
/* It did not answer: it is killed; pod_monitor_died() follows from the watcher. */
void pod_monitor_condemn(struct pod *p, const struct err *why);
/* A request to knarr-pod that must be answered at once: the caller's call, cut to a second. */
void pod_short_call(struct call *short_, const struct call *c);
/* Everything of the pod is ended, its exits recorded; used by stop and by recovery. */
int pod_kill_containers(struct pod *p, struct err *e);

/* --- container_steps.c, container_end.c ---------------------------------------------------------------------- */

extern const struct steps container_steps;
/* An exit as knarr-pod reported it (or as it had to be guessed); false where it was known already. */
bool container_exited(struct container *k, const struct monitor_exit *x);
/* Undoes what create made, in state REMOVING, and forgets it. */
int container_discard(struct container *k, struct err *e);
int container_remove_object(struct container *k, struct call *c, struct err *e);
int container_stop_object(struct container *k, struct call *c, int64_t grace_ns, struct err *e);
/* Sees to it that k->root_fd is the root's mount. */
int container_open_root(struct container *k, struct err *e);
/* In the bundle's folder. */
const char *container_path(struct arena *a, const struct container *k, const char *name);
/* Builds config.json anew from the wishes, and writes it. */
int container_write_config(struct container *k, struct err *e);

/* --- plugins.c -------------------------------------------------------------------------------------------------- */

const struct pod_plugins *pods_plugins(struct pods *ps);
int plugins_pod(struct pod *p, enum pod_moment m, const struct config_resources *overhead,
		const struct config_resources *resources, struct err *e);
int plugins_container(struct container *k, enum pod_moment m, struct err *e);
/* Of what has happened already a refusal is only logged. */
void plugins_pod_told(struct pod *p, enum pod_moment m);
void plugins_container_told(struct container *k, enum pod_moment m);
/* Around moments that belong together: the container's others wait. */
void plugins_begin(struct container *k);
void plugins_end(struct container *k);
int plugins_adjust(struct container *k, struct arena *a, struct pod_adjustment *io, struct err *e);
int plugins_readjust(struct container *k, struct arena *a, const struct pod_adjustment *wishes, struct oci_config *c,
		     struct err *e);
int plugins_update(struct container *k, struct arena *a, struct oci_resources *r, struct err *e);
/* It has ended (stop_due): plugins are told by a thread, for which plugins_wait_ended() waits. */
void plugins_ended(struct container *k);
void plugins_wait_ended(struct container *k);

/* --- watch.c, event.c, recover.c ------------------------------------------------------------------------------ */

int watch_open(struct pods *ps, struct err *e);
void watch_close(struct pods *ps);
int watch_add(struct pod *p, struct err *e);
void watch_remove(struct pod *p);
void event_push_locked(struct pods *ps, enum pod_event_kind kind, enum pod_owner owner, const char *pod_id,
		       const char *container_id);
void *recover_thread(void *pods);

#endif
