/* An OCI runtime's command (runc, crun, youki, runsc…) that runs a pod's containers in the place of our own runtime: the
 * runtime's command line, driven from the event loop. Nothing waits for a command: each is a child whose end is an event,
 * and what it was for goes on from there (runner.c).
 *
 * A command is executed in knarrd's namespaces (the host's), with the runtime's own log as a file, since its output is
 * the container's: of a command that fails the last error in that log is what is told. Its files lie in the pod's
 * folder for them, named by the command's number, and go with the command. */
#ifndef KNARR_MONITOR_COMMAND_H
#define KNARR_MONITOR_COMMAND_H

#include "base/arena.h"
#include "base/err.h"

#include <sys/types.h>

enum { COMMANDS_MAX = 1024, ORPHANS_MAX = 256, COMMAND_NS_MAX = 4 };

enum command_purpose { COMMAND_NONE, COMMAND_CREATE, COMMAND_START, COMMAND_DELETE, COMMAND_KILL, COMMAND_EXEC };

struct container;
struct exec;
struct conn;
struct command {
	enum command_purpose purpose;
	pid_t pid;                      /* our child */
	uint64_t number;
	struct container *container;    /* of all but EXEC */
	struct exec *exec;
	struct conn *conn;              /* who waits for a KILL */
	int console;                    /* the socket that the terminal comes by; -1: none */
	int64_t deadline_ns;            /* then it is killed; a KILL's client is answered */
};

/* A child that ended while a command ran: it may be the process that the command is about to name. */
struct orphan {
	pid_t pid;
	int status;
};

/* What knarrd said of the runtime at SETUP. */
struct handler {
	struct arena arena;
	const char *path;               /* NULL: we run the containers ourselves */
	const char *root, *dir;
	char **args;
	int dir_fd, mount_ns_fd;
	int ns_fds[COMMAND_NS_MAX];
	size_t nns_fds;
};

struct pod;
struct request;
int handler_take(struct pod *p, struct request *r, struct err *e); /* of SETUP; without one: nothing */

struct command_wish {
	enum command_purpose purpose;
	char *const *words;             /* verb and options, before "ID" */
	const char *last[3];            /* after them; NULL ends */
	int in, out, err;               /* lent; -1: /dev/null */
	int console;                    /* taken */
	int cgroup_fd;                  /* of the unified hierarchy, to be born in; -1: ours */
	uint64_t number;
	int64_t patience_ns;
};

/* The number of the next command, for its files. */
uint64_t command_number(struct pod *p);
/* A file of a command: "/run/…/7.pid". In the arena. */
const char *command_path(struct arena *a, const struct pod *p, uint64_t number, const char *suffix);
/* The socket for its terminal, and the path to tell the runtime. */
int command_console_open(struct arena *a, struct pod *p, uint64_t number, int *out, const char **path, struct err *e);
/* The terminal that came by it. */
int command_console_take(const struct command *x, int *out, struct err *e);
int command_run(struct pod *p, const struct command_wish *w, struct command **out, struct err *e);
/* What the runtime wrote with --pid-file. */
int command_pid(struct pod *p, const struct command *x, pid_t *out, struct err *e);
/* Whether that process has ended already. */
bool command_orphan(const struct pod *p, pid_t pid, int *status);

/* Of the loop: true where the child is a command. */
bool command_child_ended(struct pod *p, pid_t pid, int status);
void command_orphan_ended(struct pod *p, pid_t pid, int status);
void command_time(struct pod *p, struct command *x);
/* The client is gone; the container or the exec of those commands is. */
void commands_forget_conn(struct pod *p, const struct conn *c);
void commands_forget_container(struct pod *p, const struct container *c);
/* Its start is given up. */
void commands_kill_of(struct pod *p, const struct container *c);

/* --- runner.c: what the commands are for ------------------------------------------------------------------------ */

void runner_command_ended(struct pod *p, struct command *x, const struct err *failure); /* NULL: it succeeded */
int runner_start(struct pod *p, struct container *c, struct request *r, struct err *e);
struct occasion;
int runner_kill(struct pod *p, struct container *c, const struct occasion *o, struct err *e);
int runner_delete(struct pod *p, struct container *c, struct err *e);
struct run_exec;
int runner_exec(struct pod *p, struct exec *x, const struct run_exec *r, struct err *e);

#endif
