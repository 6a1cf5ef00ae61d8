/* What the child has to do, worked out by its parent: every name looked up, every option parsed, every
 * wish that cannot be fulfilled refused, so that the child only makes system calls. In the arena. */
#ifndef KNARR_RUNTIME_PLAN_H
#define KNARR_RUNTIME_PLAN_H

#include "kernel/caps.h"
#include "kernel/mount.h"
#include "kernel/seccomp.h"
#include "kernel/userns.h"
#include "runtime/container.h"

#include <sys/resource.h>

enum plan_mount_kind { PLAN_NEW, PLAN_BIND, PLAN_CGROUP };
struct plan_mount {
	enum plan_mount_kind kind;
	const char *destination, *source, *type;
	struct mount_options o;
	const char *data;
	int fd;                         /* the source, detached; -1: by path */
	bool on_folder_only;            /* proc, sysfs: never through a link */
	bool keeps_mode;                /* a tmpfs without a mode of its own */
};

struct plan_device {
	const char *path;
	unsigned mode;                  /* with its S_IF kind */
	uint64_t dev;
	uint32_t uid, gid;
};

struct plan_rlimit {
	int resource;
	struct rlimit limit;
};

/* As sched_setaffinity(2) and set_mempolicy(2) want it; p NULL: no wish. */
struct plan_bits {
	unsigned long *p;
	unsigned long count;
};

struct plan_process {
	char *const *args, *const *env;
	const char *cwd, *path;         /* PATH of the environment */
	uint32_t uid, gid, umask;
	const uint32_t *gids;
	size_t ngids;
	struct caps caps;
	uint64_t own_bounding;
	bool no_new_privs, terminal;
	struct oci_console_size *console_size;
	struct seccomp_filter filter;   /* count 0: none */
	unsigned filter_flags;
	const char *listener_path, *listener_metadata; /* the seccomp agent's; NULL: the filter notifies nobody */
	const struct plan_rlimit *rlimits;
	size_t nrlimits;
	const int32_t *oom_score_adj;
	const char *apparmor, *selinux;
	const struct oci_scheduler *scheduler;
	int scheduler_policy;
	uint64_t scheduler_flags;
	int io_priority;                /* ioprio_set's value, -1: leave */
	long personality;               /* -1: leave */
	int memory_policy;              /* set_mempolicy's mode with its flags, -1: leave */
	struct plan_bits memory_nodes;
	struct plan_bits cpus_initial, cpus_final; /* an exec's, before and after it joins its cgroup */
	int parent_death_signal;
	int std[3];
	int64_t pipes_uid;              /* whom pipes on 0, 1, 2 are given to, as the host sees it; -1: leave */
	unsigned preserve_fds, flags;
};

struct plan_join {
	int kind, fd;
};
enum { PLAN_JOINS_MAX = 8, CLONE_TIME = 0x80 /* CLONE_NEWTIME, which old headers lack */ };

struct plan {
	const char *hostname, *domainname;
	unsigned clone_flags;           /* the new namespaces, CLONE_NEWNS among them */
	bool has_cgroup_ns, new_cgroup_ns, new_net_ns;
	struct plan_join joins[PLAN_JOINS_MAX];
	size_t njoins;
	int pid_ns_fd;                  /* joined by the parent around the clone; -1: none */
	/* Where there is a user namespace (or a new time namespace) the process that is cloned first enters it,
	 * and makes the container's process in turn: what that one makes belongs to the namespace then. */
	bool staged;
	int userns_fd;                  /* -1: the caller's */
	struct idmaps maps;             /* the user namespace's, as far as they are known */
	bool new_time_ns;
	const char *time_offsets;       /* what goes into timens_offsets; NULL: nothing */
	int *opened;                       /* fds of ours, to close */
	size_t nopened, opened_max;
	const char *root_path;          /* NULL: root_fd */
	int root_fd;
	bool root_cloned;               /* root_fd is our clone of root.path */
	const char *root_at;            /* hooks find the root there; NULL: it may be anywhere */
	bool root_readonly, make_dev;
	char *const *bare;              /* without pivot_root the caller's mounts stay below: its proc and sysfs */
	unsigned long propagation;
	bool propagation_tree;
	const struct plan_mount *mounts;
	size_t nmounts;
	const struct plan_device *devices;
	size_t ndevices;
	char *const *masked, *const *readonly;
	const struct json_map *sysctl;
	struct plan_process process;
};

int plan_make(struct arena *a, const struct runtime *rt, const struct container_spec *s, struct plan *out,
	      struct err *e);
void plan_close(struct plan *p); /* the fds it opened */
int plan_process_make(struct arena *a, const struct runtime *rt, const struct oci_process *p,
		      const struct oci_linux *l, struct plan_process *out, struct err *e);
/* Fills the fields of the filter; of the scheduler, priorities, personality, memory policy and affinity. */
int plan_seccomp(struct arena *a, const struct oci_seccomp *s, struct plan_process *out, struct err *e);
int plan_scheduling(struct arena *a, const struct oci_process *p, const struct oci_linux *l, struct plan_process *out,
		    struct err *e);
/* plan_userns.c: namespaces that a first stage is needed for. */
int plan_userns(struct arena *a, struct plan *p, const struct runtime *rt, const struct container_spec *s, struct err *e);
void plan_time(struct arena *a, struct plan *p, const struct oci_linux *l);
void plan_idmaps(struct arena *a, const struct json_vec *uids, const struct json_vec *gids, struct idmaps *out);
/* Gives a bind mount the map of its own, or that of the container's user namespace. */
int plan_idmap(struct arena *a, struct plan *p, const struct runtime *rt, const struct oci_mount *m,
	       struct plan_mount *to, struct err *e);
/* An exec in a container with a user namespace, and what both have. */
void plan_in_userns(const struct idmaps *maps, struct plan_process *p);
/* An fd to be closed with the plan. */
int plan_keep(struct plan *p, int fd);
/* CLONE_NEWNET of "network"; 0: unknown. */
int plan_namespace_kind(const char *type);

#endif
