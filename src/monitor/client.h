/* knarrd's side of knarr-pod: starts the monitor of a pod, finds it again after a restart, and asks
 * it for things. docs/formats/monitor.md has the protocol: SOCK_SEQPACKET messages with a version,
 * fds by SCM_RIGHTS.
 *
 * Each request opens a connection of its own to the pod's socket, so any number of threads may ask at
 * once; a request blocks in the call. Events come over one more connection that the pod model
 * watches (monitor_subscribe). ERR_UNAVAILABLE: the monitor does not answer (it died, or hangs). */
#ifndef KNARR_MONITOR_CLIENT_H
#define KNARR_MONITOR_CLIENT_H

#include "base/call.h"
#include "base/proc.h"

struct monitor_program {           /* one per knarrd */
	int exec_fd;               /* a read-only clone of the knarr-pod file; execveat */
	int lean_mount_ns_fd;      /* the lean mount namespace that monitors live in; -1 until made */
};
/* Opens the file and makes the lean mount namespace (by a short-lived child). */
int monitor_program_open(const char *path, struct monitor_program *out, struct err *e);
void monitor_program_close(struct monitor_program *p);

/* The namespaces that the pod shares; each is made by knarr-pod and held by it. */
enum monitor_ns { MONITOR_NS_NET = BIT(0), MONITOR_NS_IPC = BIT(1), MONITOR_NS_UTS = BIT(2),
		  MONITOR_NS_PID = BIT(3) /* one for all containers: with a tiny init */ };

struct monitor_pod_spec {
	const char *pod_id;
	int run_dirfd;             /* /run/knarr/pods/ID : socket "monitor.sock" */
	int state_dirfd;           /* /var/lib/knarr/pods/ID : exit files "exit-CONTAINER" */
	unsigned namespaces;       /* those to make; the others are the host's */
	const char *hostname;      /* "" : leave */
	const struct { const char *key, *value; } *sysctls;
	size_t nsysctls;
	const char *const *monitor_cgroups; /* cgroup folders knarr-pod itself joins ("knarr/ID"), by kernel/cgroup */
	int64_t oom_score_adj;     /* what children inherit unless told otherwise */
};

struct monitor {                   /* what knarrd remembers of a running monitor (in the pod's record) */
	pid_t pid;
	uint64_t start_ticks;      /* with pid: names the process for good */
	unsigned protocol;
};

/* Starts knarr-pod; it answers when its namespaces exist and lo is up. *netns_fd: the pod's network
 * namespace, -1 for the host's; *ipcns_fd and *utsns_fd likewise; the caller's. */
struct monitor_started {
	struct monitor monitor;
	int pidfd, netns_fd, ipcns_fd, utsns_fd;
};
int monitor_start(struct call *c, const struct monitor_program *p, const struct monitor_pod_spec *s,
		  struct monitor_started *out, struct err *e);

/* Says hello to the monitor behind run_dirfd's socket; *pidfd is the caller's. Used after a restart. */
int monitor_find(struct call *c, int run_dirfd, struct monitor *out, int *pidfd, struct err *e);

/* --- containers ------------------------------------------------------------------------------------ */

struct monitor_start_request {
	const char *container_id;
	const char *bundle_path;   /* for error texts and hooks; the files come as fds */
	int config_fd;             /* config.json */
	int root_fd;               /* detached mount of the root file system */
	const struct { uint32_t mount; int fd; } *mount_fds; /* config.mounts[mount]'s source, a detached
							      * open_tree clone; all others by their config */
	size_t nmount_fds;
	int log_fd;                /* CRI log, O_APPEND; -1: none */
	int log_dirfd;             /* and where it lies, to open it anew on ReopenContainerLog... */
	const char *log_name;      /* ...under this name */
	bool stdin_open, stdin_once, tty;
};

struct monitor_process {
	pid_t pid;                 /* in the host's pid namespace */
	uint64_t start_ticks;
	int64_t started_wall_ns;
};

/* Makes cgroup and process, sets it up, executes. An error is the one of the very step that failed
 * in the child. */
int monitor_container_start(struct call *c, int run_dirfd, const struct monitor_start_request *r,
			    struct monitor_process *out, struct err *e);

enum monitor_kill { MONITOR_KILL_FIRST, MONITOR_KILL_ALL /* the whole cgroup */ };
int monitor_container_kill(struct call *c, int run_dirfd, const char *container_id, int signal,
			   enum monitor_kill what, struct err *e);

/* After a rename: opens the log's name again; the caller opens it (knarr-pod lives in another mount
 * namespace) and passes the fd. */
int monitor_container_reopen_log(struct call *c, int run_dirfd, const char *container_id, int log_fd,
				 struct err *e);

/* What knarr-pod knows of its containers: for recovery. */
enum monitor_container_state { MONITOR_RUNNING, MONITOR_EXITED };
struct monitor_exit {
	int code;                  /* 128 + signal when killed */
	int signal;
	bool oom_killed;
	int64_t started_wall_ns, finished_wall_ns;
	const char *reason, *message; /* "" or "StartError"… */
};
struct monitor_container {
	const char *id;
	enum monitor_container_state state;
	struct monitor_process process;
	struct monitor_exit exit;
};
int monitor_list(struct call *c, int run_dirfd, struct monitor_container **out, size_t *n, struct err *e);
/* Forgets an exited container and removes its cgroup and exit file. */
int monitor_container_forget(struct call *c, int run_dirfd, const char *container_id, struct err *e);

/* The durable exit record that knarr-pod wrote (also readable when knarr-pod is gone). ERR_NOT_FOUND. */
int monitor_exit_read(struct arena *a, int state_dirfd, const char *container_id, struct monitor_exit *out,
		      struct err *e);

/* --- exec ------------------------------------------------------------------------------------------ */

struct monitor_exec_request {
	const char *container_id;
	char *const *argv;
	int64_t timeout_ns;        /* 0: none; knarr-pod keeps it and kills the whole tree */
	size_t output_max_bytes;   /* of each stream; more is read and dropped */
};
struct monitor_exec_result {
	int exit_code;
	bool timed_out;
	struct str out, err;       /* in the call's arena */
};
int monitor_exec_sync(struct call *c, int run_dirfd, const struct monitor_exec_request *r,
		      struct monitor_exec_result *out, struct err *e);

/* --- events and end ---------------------------------------------------------------------------------- */

/* A connection that becomes readable at each event; end of file: knarr-pod has ended. Exits that were
 * not forgotten yet are told first, so none is missed. */
int monitor_subscribe(struct call *c, int run_dirfd, int *event_fd, struct err *e);
struct monitor_event {
	const char *container_id;  /* it has exited; the exit file is durable, the log complete */
	struct monitor_exit exit;
};
/* 1: an event; 0: none now; -1: ERR_UNAVAILABLE, the connection ended. */
int monitor_event_read(struct arena *a, int event_fd, struct monitor_event *out, struct err *e);

/* Kills what still runs, lets go of the namespaces and ends. */
int monitor_shutdown(struct call *c, int run_dirfd, struct err *e);

#endif
