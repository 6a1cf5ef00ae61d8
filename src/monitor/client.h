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
#include "base/str.h"
#include "kernel/userns.h"

struct cgroup_layout;              /* kernel/cgroup.h */

struct monitor_program {           /* one per knarrd */
	int exec_fd;               /* a read-only clone of the knarr-pod file; execveat */
	int lean_mount_ns_fd;      /* the lean mount namespace that monitors live in: a tmpfs root,
				    * /proc and a small /dev. -1: the file is linked dynamically (a
				    * sanitizer build), each monitor gets a copy of the host's table */
	const struct cgroup_layout *cgroups; /* the caller's; handed on to each monitor */
};
/* Opens the file and makes the lean mount namespace (by a short-lived child). Blocks some ms. The
 * layout must live as long as the program. */
int monitor_program_open(const char *path, const struct cgroup_layout *cgroups, struct monitor_program *out,
			 struct err *e);
void monitor_program_close(struct monitor_program *p);

/* The namespaces that the pod shares; each is made by knarr-pod and held by it. */
enum monitor_ns { MONITOR_NS_NET = BIT(0), MONITOR_NS_IPC = BIT(1), MONITOR_NS_UTS = BIT(2),
		  MONITOR_NS_PID = BIT(3) /* one for all containers: with a tiny init */,
		  MONITOR_NS_USER = BIT(4) /* the others are owned by it; knarr-pod itself stays out */ };

struct monitor_sysctl {
	const char *key, *value;   /* "net.ipv4.ip_forward" or with slashes */
};

/* An OCI runtime command that runs a pod's containers in knarr-pod's place; it is executed in knarrd's own namespaces.
 * Its bundle (monitor_start_request) is a folder there with config.json and what that names as the root, mounted: neither
 * root nor mounts go by fd then. */
struct monitor_command {
	const char *path;          /* of the program */
	char *const *args;         /* global options before the verb */
	const char *root;          /* its --root: made by the runtime, removed by knarrd when the pod has ended */
	const char *dir;           /* knarr-pod's files for it, on the host, with */
	int dir_fd;                /* this */
};

struct monitor_pod_spec {
	const char *pod_id;
	int run_dirfd;             /* /run/knarr/pods/ID : socket "monitor.sock" */
	int state_dirfd;           /* /var/lib/knarr/pods/ID : exit files "exit-CONTAINER" */
	unsigned namespaces;       /* those to make; the others are the host's */
	struct idmaps idmaps;      /* MONITOR_NS_USER: of its ids; 0 is mapped. ERR_INVALID, ERR_DENIED name the map */
	const char *hostname;      /* "" : leave */
	const struct monitor_sysctl *sysctls; /* ERR_INVALID for one of a namespace the pod does not own */
	size_t nsysctls;
	const char *cgroup;        /* the folder, in every hierarchy, that knarr-pod itself joins ("knarr");
				    * made if missing, shared by all monitors; NULL: stays in knarrd's */
	const struct monitor_command *command; /* NULL: knarr-pod runs the containers itself */
	int64_t oom_score_adj;     /* knarr-pod's own, as far as the kernel lets it; a container's is in its
				    * config.json */
};

struct monitor {                   /* what knarrd remembers of a running monitor (in the pod's record) */
	pid_t pid;
	uint64_t start_ticks;      /* with pid: names the process for good */
	unsigned protocol;
};

/* Starts knarr-pod; it answers when its namespaces exist and lo is up. The socket is bound (and so
 * monitor_find() works) before the process exists. knarrd should reap it when its pidfd becomes
 * readable. netns_fd: the pod's network namespace, -1 for the host's; the others likewise; all fds
 * are the caller's.
 *
 * In a config.json the pod's namespaces are named by path /proc/MONITOR_PID/ns/{net,ipc,uts} (and
 * /proc/INIT_PID/ns/pid): any OCI runtime can follow these; knarr-pod, which lives in them, takes
 * its own fds. The user namespace is named /proc/MONITOR_PID/fd/MONITOR_USERNS_FD in every container of
 * such a pod (knarr-pod keeps it there: in it, it would lose its rights), with the pod's uidMappings and
 * gidMappings beside it in config.json. root_fd and mount_fds may be idmapped mounts (mount_idmap() with
 * userns_fd); in one that is not, the host's ids are "nobody". */
enum { MONITOR_USERNS_FD = 200 };
struct monitor_started {
	struct monitor monitor;
	int pidfd, netns_fd, ipcns_fd, utsns_fd, pidns_fd, userns_fd;
	pid_t init_pid;            /* the tiny init of the pod's PID namespace; 0: none */
};
int monitor_start(struct call *c, const struct monitor_program *p, const struct monitor_pod_spec *s,
		  struct monitor_started *out, struct err *e);

/* The same in two, so that other work is done while the program starts: monitor_begin() returns once it
 * is executed, monitor_born() waits for its answer. Either ends *b where it fails; in between
 * monitor_birth_end() kills what was begun. */
struct monitor_birth {
	int fd;                    /* its first connection */
	struct proc proc;
};
#define MONITOR_BIRTH_NONE { .fd = -1, .proc = { .pidfd = -1 } }
int monitor_begin(struct call *c, const struct monitor_program *p, const struct monitor_pod_spec *s,
		  struct monitor_birth *out, struct err *e);
int monitor_born(struct call *c, struct monitor_birth *b, struct monitor_started *out, struct err *e);
void monitor_birth_end(struct monitor_birth *b);

/* Says hello to the monitor behind run_dirfd's socket; *pidfd is the caller's. Used after a restart. */
int monitor_find(struct call *c, int run_dirfd, struct monitor *out, int *pidfd, struct err *e);

/* Writes more sysctls in the pod's namespaces: those that name an interface (net.ipv4.conf.eth0.…)
 * can only be written after CNI ADD. */
int monitor_sysctls(struct call *c, int run_dirfd, const struct monitor_sysctl *sysctls, size_t n,
		    struct err *e);

/* --- containers ------------------------------------------------------------------------------------ */

struct monitor_mount_fd {          /* config.mounts[mount]'s source: a detached open_tree clone */
	uint32_t mount;
	int fd;
};

struct monitor_start_request {
	const char *container_id;
	const char *bundle_path;   /* for error texts and hooks; the files come as fds */
	int config_fd;             /* config.json */
	int root_fd;               /* detached mount of the root file system */
	const struct monitor_mount_fd *mount_fds; /* all other mounts are made by their config */
	size_t nmount_fds;         /* at most MONITOR_MOUNT_FDS_MAX */
	int log_fd;                /* CRI log, O_WRONLY | O_APPEND; -1: none. monitor_container_reopen_log
				    * replaces it */
	bool stdin_open, stdin_once, tty;
};

enum { MONITOR_MOUNT_FDS_MAX = 240 };

struct monitor_process {
	pid_t pid;                 /* in the host's pid namespace */
	uint64_t start_ticks;
	int64_t started_wall_ns;
};

/* Makes cgroup and process, sets it up, executes. An error is the one of the very step that failed
 * in the child, and nothing is left then. All fds stay the caller's. Once sent, a start goes on even
 * if the call is given up: monitor_list() tells what came of it. ERR_EXISTS: the id is taken. */
int monitor_container_start(struct call *c, int run_dirfd, const struct monitor_start_request *r,
			    struct monitor_process *out, struct err *e);

/* A signal to the first process, or to all of the cgroup. ERR_NOT_FOUND: no such container;
 * ERR_STATE: it has ended. */
enum monitor_kill { MONITOR_KILL_FIRST, MONITOR_KILL_ALL };
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
	int signal;                /* 0: it exited by itself */
	bool oom_killed;           /* its cgroup counted an OOM kill, and the code is not 0 */
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
/* Forgets an exited container and removes its exit file (its cgroup went with its exit).
 * ERR_STATE: it still runs. ERR_NOT_FOUND. */
int monitor_container_forget(struct call *c, int run_dirfd, const char *container_id, struct err *e);

/* The durable exit record that knarr-pod wrote (also readable when knarr-pod is gone). ERR_NOT_FOUND. */
int monitor_exit_read(struct arena *a, int state_dirfd, const char *container_id, struct monitor_exit *out,
		      struct err *e);

/* --- exec ------------------------------------------------------------------------------------------ */

struct monitor_exec_request {
	const char *container_id;
	char *const *argv;         /* all else (user, environment, folder…) as config.json's process has it */
	int64_t timeout_ns;        /* 0: none; knarr-pod keeps it and kills the whole tree */
	size_t output_max_bytes;   /* of each stream; more is read and dropped */
};
struct monitor_exec_result {
	int exit_code;             /* 128 + signal when killed */
	bool timed_out;            /* its whole process tree was killed at the timeout */
	bool cut;                  /* more output than output_max_bytes */
	struct str out, err;       /* in the call's arena, a NUL after each */
};
/* Runs a command in a running container and waits for it. When the call ends first, the exec's
 * process tree is killed. ERR_NOT_FOUND: the container, or the program in it (the text says which);
 * ERR_STATE: it has ended. */
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

/* Kills what still runs, lets go of the namespaces and ends; answered when all exits are recorded.
 * A monitor that is gone already is success. */
int monitor_shutdown(struct call *c, int run_dirfd, struct err *e);
/* The knarr-pod of a pod whose process nobody recorded: found by its command line among all processes.
 * A pidfd, the caller's; -1: there is none. */
int monitor_seek(const char *pod_id);

#endif
