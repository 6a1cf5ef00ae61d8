/* knarr-pod's inside: everything that one pod's monitor knows, in fixed tables (a table's untouched
 * pages cost nothing), and the functions that the event loop calls. One thread; nothing here blocks
 * but for the runtime's own work (a start, an exec) and writes to the log's disk.
 *
 * Who owns what: setup.c the pod's namespaces, container.c the containers' (state x event) table,
 * exec.c the execs', attach.c those who watch a container, serve.c connections and requests, run.c all calls into the runtime,
 * loop.c epoll, time and children. */
#ifndef KNARR_MONITOR_STATE_H
#define KNARR_MONITOR_STATE_H

#include "base/clock.h"
#include "base/err.h"
#include "base/fd.h"
#include "kernel/cgroup.h"
#include "monitor/command.h"
#include "monitor/cri_log.h"
#include "monitor/exit_record.h"
#include "monitor/message.h"
#include "runtime/container.h"

#include <sys/types.h>

enum {
	CONTAINERS_MAX = 256, EXECS_MAX = 1024, ATTACHES_MAX = 512, CONNS_MAX = 2048,
	EXEC_SLOTS_MAX = 1024,                  /* execs at once in one container */
	EXEC_SLOT_WORDS = EXEC_SLOTS_MAX / 64,
	POD_ID_MAX = 128, CGROUP_TEXT_MAX = 1024,
	SCRATCH_BYTES = 64 * 1024,
};
#define LOG_DRAIN_NS (1 * NS_PER_S)             /* a grandchild that holds the pipe delays the exit so long */
#define EXEC_DRAIN_NS (100 * NS_PER_MS)
#define KILL_PATIENCE_NS (10 * NS_PER_S)        /* then whoever waits is told that it does not die */

/* What a file descriptor in epoll stands for. */
enum source { SOURCE_LISTEN, SOURCE_SIGNALS, SOURCE_CONN, SOURCE_CONTAINER, SOURCE_EXEC, SOURCE_ATTACH };
enum stream { STREAM_OUT, STREAM_ERR, STREAM_COUNT };

/* --- containers ------------------------------------------------------------------------------------ */

#define CONTAINER_STATES(X)                                                       \
	X(FREE, "free")                                                           \
	X(STARTING, "starting") /* by another runtime, whose commands run */          \
	X(RUNNING, "running")                                                     \
	X(ENDING, "ending")  /* its first process is reaped, its log is not at its end */ \
	X(DELETING, "ending") /* the other runtime's delete runs */                   \
	X(EXITED, "exited")  /* recorded and told */
enum container_state {
#define X(name, text) CONTAINER_##name,
	CONTAINER_STATES(X)
#undef X
	CONTAINER_STATE_COUNT
};

#define CONTAINER_EVENTS(X)                                             \
	X(ENDED)         /* of the kernel: the first process is reaped */ \
	X(STREAM_ENDED)  /* the last writer of stdout or stderr is gone */ \
	X(TIME)          /* its deadline passed */                      \
	X(KILL)          /* of a client */                              \
	X(REOPEN)                                                       \
	X(EXEC)                                                         \
	X(FORGET)
enum container_event {
#define X(name) ON_##name,
	CONTAINER_EVENTS(X)
#undef X
	CONTAINER_EVENT_COUNT
};

struct container {
	enum container_state state;
	char id[CONTAINER_ID_MAX + 1];
	pid_t pid;
	int pidfd;                      /* -1 once reaped */
	uint64_t start_ticks;
	int streams[STREAM_COUNT];      /* read ends, -1 at the end; with a terminal only STREAM_OUT */
	int stdin_end;                  /* the writing end while stdin is kept open, else -1 */
	bool tty, stdin_once;
	unsigned attached;              /* how many attaches look at it */
	struct cri_log log;
	struct cri_log_stream lines[STREAM_COUNT];
	int64_t deadline_ns;            /* CLOCK_MONOTONIC, 0: none */
	struct exit_record exit;
	bool traces;                    /* it has CAP_SYS_PTRACE */
	bool own_pid_ns;                /* then the kernel kills the rest when the first process ends */
	int config_fd;                  /* for execs; -1 once it has ended */
	char cgroup[CGROUP_TEXT_MAX];   /* path below the hierarchies; "" once it is removed */
	struct conn *starter;           /* of a starting one: who waits for it, NULL: nobody any more */
	bool ended_early;               /* before it was known to run */
	int early_status;
	bool unrecorded;                /* the exit could not be written yet */
	int64_t drain_until_ns;
	/* Exec cgroups "<cgroup>/knarr-exec-N", a bit each; those killed are not to be used again (slot_renew). */
	uint64_t slots_made[EXEC_SLOT_WORDS], slots_used[EXEC_SLOT_WORDS], slots_killed[EXEC_SLOT_WORDS];
};

/* What came with an event; only the fields of that event are set. */
struct occasion {
	int wait_status;                /* ENDED */
	enum stream stream;             /* STREAM_ENDED */
	int signal;                     /* KILL */
	bool kill_all;
	struct conn *conn;              /* KILL: whom to answer when it is done later */
	int log_fd;                     /* REOPEN: taken */
};

struct pod;
/* The one way anything happens to a container: looks up (state x event). ERR_STATE where the event
 * is a client's and the state does not allow it. */
int container_event(struct pod *p, struct container *c, enum container_event ev, struct occasion *o,
		    struct err *e);
struct container *container_find(struct pod *p, const char *id);
const char *container_state_name(enum container_state s);
struct request;
int container_begin(struct pod *p, struct request *r, struct err *e); /* op START */
void container_readable(struct pod *p, struct container *c, enum stream s);
/* Reads a stream again that attach_holds() held. */
void container_resume(struct pod *p, struct container *c, enum stream s);
void containers_kill_all(struct pod *p);
size_t containers_alive(const struct pod *p);

/* For runner.c: the ends that the process gets are the caller's; the terminal is taken. */
struct run_files;
void run_files_close(struct run_files *x);
int container_streams_open(struct pod *p, struct container *c, unsigned flags, struct run_files *x, struct err *e);
int container_console(struct pod *p, struct container *c, int console, struct err *e);
void container_abandon(struct pod *p, struct container *c); /* one that was not started */
void container_finished(struct pod *p, struct container *c); /* nothing of it is left: recorded and told */

/* --- exec sessions ---------------------------------------------------------------------------------- */

enum exec_state {
	EXEC_FREE,
	EXEC_STARTING,                  /* by another runtime, whose command runs */
	EXEC_RUNNING, EXEC_KILLED, EXEC_DRAINING, EXEC_STATE_COUNT
};
#define EXEC_EVENTS(X)                                                  \
	X(ENDED)         /* its first process is reaped */              \
	X(STREAM_ENDED)                                                 \
	X(TIME)          /* its timeout, or the drain's end */          \
	X(CLIENT_GONE)
enum exec_event {
#define X(name) EXEC_ON_##name,
	EXEC_EVENTS(X)
#undef X
	EXEC_EVENT_COUNT
};

struct collector {
	int fd;                         /* the pipe, -1 at its end */
	int file;                       /* memfd once it is more than a little, else -1 */
	char *small;                    /* mapped at the first byte */
	uint64_t kept;
	bool cut;
};

struct exec {
	enum exec_state state;
	bool session;                   /* the client has the streams; `streams` are unused */
	pid_t pid;                      /* 0 once reaped */
	struct container *container;    /* NULL: forgotten meanwhile */
	struct conn *conn;              /* NULL: nobody waits any more */
	unsigned slot;
	uint64_t output_max;
	int64_t deadline_ns;
	struct collector streams[STREAM_COUNT];
	int code;
	bool timed_out;
	unsigned flags;                 /* of a session, enum session_flag */
	int client[STREAM_COUNT + 1];   /* of a starting session: the client's ends of stdout, stderr, stdin */
};

int exec_start(struct pod *p, struct request *r, struct err *e); /* op EXEC_SYNC; answers later */
int exec_session(struct pod *p, struct request *r, struct err *e); /* op EXEC_STREAM; the same */
void exec_event(struct pod *p, struct exec *x, enum exec_event ev, int wait_status);
void exec_readable(struct pod *p, struct exec *x, enum stream s);
/* The other runtime's command has ended, and with it the start. */
void exec_begun(struct pod *p, struct exec *x, const struct command *by, const struct err *failure);
void execs_forget_container(struct pod *p, const struct container *c);
void execs_kill_all(struct pod *p);

/* --- attaches ---------------------------------------------------------------------------------------- */

/* A client that gets a copy of what a container writes, by pipes. What a pipe does not take at once is kept
 * for a paced client, and the stream is not read further meanwhile; any other client is dropped. */
enum attach_state { ATTACH_FREE, ATTACH_EARLY, ATTACH_OPEN, ATTACH_ENDING };
struct attach_pipe {
	int fd;                         /* the writing end, -1: none */
	char *pending;                  /* mapped while something is kept */
	size_t from, to;                /* in it */
};
struct attach {
	enum attach_state state;
	struct container *container;    /* of an open one */
	struct conn *conn;
	unsigned flags;                 /* enum session_flag */
	int code;                       /* of an ending one: the container's */
	struct attach_pipe pipes[STREAM_COUNT];
	char id[CONTAINER_ID_MAX + 1];  /* of an early one: whom it waits for */
};

int attach_begin(struct pod *p, struct request *r, struct err *e); /* op ATTACH; answers later */
/* The container runs: those who waited for it are attached. It could not be started: they are told. */
void attach_started(struct pod *p, struct container *c);
void attach_failed(struct pod *p, const char *container_id);
void attach_feed(struct pod *p, struct container *c, enum stream s, struct str bytes);
/* Whether the container has to wait with this stream. */
bool attach_holds(const struct pod *p, const struct container *c, enum stream s);
/* The container has ended: each client gets what is kept for it, then the code. */
void attach_container_ended(struct pod *p, struct container *c);
void attach_writable(struct pod *p, struct attach *a, enum stream s);
void attach_client_gone(struct pod *p, struct attach *a);

/* --- connections and requests ------------------------------------------------------------------------ */

struct conn {
	int fd;                         /* -1: free */
	bool subscriber;
	bool waits;                     /* its request is not answered yet: nothing more is read from it */
};

struct request {
	struct conn *conn;
	struct message m;
	int fds[FD_PASS_MAX];           /* -1 where taken */
	size_t nfds;
	struct message_writer answer;   /* begun; sent when the handler returns 0 */
	int answer_fds[8];              /* lent */
	size_t answer_nfds;
};
enum { REQUEST_WAITS = 1 };             /* a handler's result: the answer comes later */

/* Takes the fd out of the request. ERR_INVALID: it did not come. */
int request_take_fd(struct request *r, uint64_t index, int *out, struct err *e);
int request_need_fd(struct request *r, unsigned tag, const char *name, int *out, struct err *e);
/* Adds a field that names an fd which is lent until the answer is sent. */
void answer_fd(struct request *r, unsigned tag, int fd);

void serve_accept(struct pod *p);
int serve_adopt(struct pod *p, int fd, struct err *e); /* the birth connection */
void serve_readable(struct pod *p, struct conn *c);
void conn_close(struct pod *p, struct conn *c);
/* Sends to one connection; one that does not read is closed. */
void conn_send(struct pod *p, struct conn *c, struct message_writer *w, const int *fds, size_t nfds);
/* The same while the request goes on waiting: true where it was sent. */
bool conn_tell(struct pod *p, struct conn *c, struct message_writer *w, const int *fds, size_t nfds);
void conn_send_error(struct pod *p, struct conn *c, unsigned op, const struct err *error);
/* The fields of a container, for LIST, events and START. */
void container_describe(struct message_writer *w, const struct container *c);
void serve_tell_exit(struct pod *p, const struct container *c);
void serve_shutdown_done(struct pod *p);

/* --- the pod ------------------------------------------------------------------------------------------ */

enum pod_state { POD_BORN, POD_UP, POD_ENDING, POD_STATE_COUNT };

struct pod {
	enum pod_state state;
	char id[POD_ID_MAX + 1];
	int epoll, listen, signals;
	int state_dir;
	unsigned namespaces;            /* enum monitor_ns */
	pid_t init_pid;                 /* 0: none */
	bool traced;                    /* a container that was started here may trace (CAP_SYS_PTRACE) */
	int pod_pidns;                  /* the shared PID namespace; -1: none */
	int pod_userns;                 /* MONITOR_USERNS_FD; -1: none */
	struct idmaps maps;             /* its */
	struct runtime runtime;         /* with the cgroup hierarchies */
	struct handler handler;         /* who runs the containers */
	uint64_t command_count;
	char *scratch;                  /* SCRATCH_BYTES, for what is read from pipes */
	char *packet;                   /* MESSAGE_MAX, the request being served */
	bool rested;                    /* nothing happened since rest() */
	int64_t shutdown_deadline_ns;
	/* Of each table only what lies below its top was ever used: no page above is looked at. */
	size_t containers_top, execs_top, attaches_top, conns_top, commands_top, orphans_next;
	struct container containers[CONTAINERS_MAX];
	struct exec execs[EXECS_MAX];
	struct attach attaches[ATTACHES_MAX];
	struct conn conns[CONNS_MAX];
	struct command commands[COMMANDS_MAX];
	struct orphan orphans[ORPHANS_MAX];
	struct err start_errors[CONTAINERS_MAX]; /* of those that are cleared away before it is told */
	struct conn *shutdown_conn;
	bool quit;
};

int setup_pod(struct pod *p, struct request *r, struct err *e); /* op SETUP */
int setup_sysctls(struct pod *p, const struct message *m, struct err *e);
/* Makes the pod's PID namespace and its confined first process; back when that is confined. */
int init_start(struct pod *p, struct err *e);

/* --- the loop ------------------------------------------------------------------------------------------ */

int loop_watch(struct pod *p, int fd, unsigned epoll_events, enum source s, size_t index,
	       enum stream stream, struct err *e);
void loop_watch_change(struct pod *p, int fd, unsigned epoll_events, enum source s, size_t index, enum stream stream);
void loop_unwatch(struct pod *p, int fd);
int loop_run(struct pod *p, struct err *e);

/* --- the runtime's part (run.c) -------------------------------------------------------------------------- */

struct run_files {                      /* of a process to be: all lent */
	int in, out, err;
};
struct run_mount {
	uint32_t mount;
	int fd;
};
struct run_start {
	const char *bundle;
	int root_fd;
	const struct run_mount *mounts;
	size_t nmounts;
	struct run_files files;
	bool tty;
};
struct run_exec {
	char *const *argv;
	unsigned slot;
	struct run_files files;         /* unused with a terminal */
	bool tty;
	unsigned width, height;         /* 0: not known */
};
/* Fills pid, pidfd, cgroup and own_pid_ns. *console: the terminal's other end, with tty. */
int run_container(struct pod *p, struct container *c, const struct run_start *s, int *console,
		  struct err *e);
int run_exec(struct pod *p, struct container *c, const struct run_exec *r, pid_t *pid, int *console, struct err *e);
/* Fills what config.json says of it: cgroup, own_pid_ns. ERR_INVALID: it and c->tty differ. */
int run_describe(struct container *c, struct err *e);
/* The process of an exec for another runtime, as JSON. */
struct buf;
int run_exec_json(struct container *c, const struct run_exec *r, struct buf *out, struct err *e);
void run_cgroup_slot(const struct container *c, unsigned slot, char *out, size_t max);
/* The cgroup goes, and what memory the container holds. */
void run_forget(struct pod *p, struct container *c);

#endif
