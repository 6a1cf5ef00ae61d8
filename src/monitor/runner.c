/* A pod's containers by another OCI runtime: create and start of it are a START, its delete ends a container, exec and
 * kill are what they are called. What is watched is the same as with our own: the processes are our children (we are their
 * subreaper), their output comes by our pipes and terminals, and their cgroup is the one in config.json. */
#include "base/buf.h"
#include "base/fd.h"
#include "base/proc.h"
#include "monitor/client.h"
#include "monitor/state.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define START_PATIENCE_NS (120 * NS_PER_S)
#define DELETE_PATIENCE_NS (30 * NS_PER_S)
#define KILL_ANSWER_NS (600 * NS_PER_MS)        /* knarrd takes us for dead after a second */
enum { ANSWER_BYTES = 4096, PROCESS_JSON_MAX = 4 << 20 };

static struct err *start_error(struct pod *p, const struct container *c)
{
	return &p->start_errors[c - p->containers];
}

/* --- START ------------------------------------------------------------------------------------------------------ */

static int create(struct pod *p, struct container *c, const char *bundle, struct run_files *x, struct err *e)
{
	uint64_t number = command_number(p);
	auto_arena a = { 0 };
	const char *console_path;
	auto_fd int console = -1;
	struct command *run;
	char *words[] = { (char *)"create", (char *)"--bundle", (char *)bundle, (char *)"--pid-file",
			  (char *)command_path(&a, p, number, "pid"), NULL, NULL, NULL };
	struct command_wish w = { .purpose = COMMAND_CREATE, .words = words, .last = { c->id }, .in = x->in,
				  .out = x->out, .err = x->err, .number = number, .cgroup_fd = -1,
				  .patience_ns = START_PATIENCE_NS };

	if (c->tty) {
		if (command_console_open(&a, p, number, &console, &console_path, e) < 0)
			return -1;
		words[5] = (char *)"--console-socket";
		words[6] = (char *)console_path;
	}
	w.console = fd_take(&console);
	if (command_run(p, &w, &run, e) < 0)
		return -1;
	run->container = c;
	return 0;
}

int runner_start(struct pod *p, struct container *c, struct request *r, struct err *e)
{
	unsigned flags = (unsigned)message_number(&r->m, TAG_FLAGS, 0);
	AUTO(run_files_close) struct run_files x = { -1, -1, -1 };
	const char *bundle;

	if (message_need_text(&r->m, TAG_BUNDLE, "bundle", &bundle, e) < 0 ||
	    container_streams_open(p, c, flags, &x, e) < 0 || run_describe(c, e) < 0)
		return -1;
	c->exit.started_wall_ns = clock_wall_ns();
	if (create(p, c, bundle, &x, e) < 0)
		return -1;
	c->state = CONTAINER_STARTING;
	c->starter = r->conn;
	return REQUEST_WAITS;
}

static void start_failed(struct pod *p, struct container *c)
{
	struct conn *conn = c->starter;

	c->starter = NULL;
	attach_failed(p, c->id);
	if (conn) {
		container_abandon(p, c);
		conn_send_error(p, conn, MONITOR_OP_START, start_error(p, c));
	} else {
		/* Nobody hears the error: who comes next finds a container that has ended. */
		c->exit.code = 128;
		c->exit.finished_wall_ns = clock_wall_ns();
		container_finished(p, c);
	}
	if (p->state == POD_ENDING && !containers_alive(p))
		serve_shutdown_done(p);
}

/* What the runtime has made of it goes first. */
static void start_fails(struct pod *p, struct container *c, const struct err *why)
{
	struct err ignored;

	*start_error(p, c) = *why;
	(void)cgroup_kill(&p->runtime.cgroups, c->cgroup, &ignored);
	if (runner_delete(p, c, &ignored) < 0)
		start_failed(p, c);
}

/* Cgroup v1 beside a unified hierarchy: no other runtime knows the latter, where we look for processes. */
static int hybrid_join(struct pod *p, struct container *c, struct err *e)
{
	if (!cgroup_is_hybrid(&p->runtime.cgroups))
		return 0;
	if (cgroup_create_exec(&p->runtime.cgroups, c->cgroup, e) < 0)
		return -1;
	return cgroup_join_pid_exec(&p->runtime.cgroups, c->cgroup, c->pid, e);
}

static int take_process(struct pod *p, struct container *c, const struct command *x, struct err *e)
{
	struct err ignored;
	int console = -1;

	if (command_pid(p, x, &c->pid, e) < 0)
		return -1;
	c->exit.pid = c->pid;
	c->ended_early = command_orphan(p, c->pid, &c->early_status);
	if (!c->ended_early) {
		c->pidfd = proc_pidfd_open(c->pid, e);
		if (c->pidfd < 0 || hybrid_join(p, c, e) < 0)
			return -1;
		(void)proc_start_time(c->pid, &c->start_ticks, &ignored); /* a zombie at worst */
	}
	if (!c->tty)
		return 0;
	return command_console_take(x, &console, e) < 0 ? -1 : container_console(p, c, console, e);
}

static void on_created(struct pod *p, const struct command *x, const struct err *failure)
{
	char *const words[] = { (char *)"start", NULL };
	struct container *c = x->container;
	const struct command_wish w = { .purpose = COMMAND_START, .words = words, .last = { c->id }, .in = -1,
					.out = -1, .err = -1, .console = -1, .number = command_number(p),
					.cgroup_fd = -1, .patience_ns = START_PATIENCE_NS };
	struct command *start;
	struct err e;

	if (failure) {
		start_fails(p, c, failure);
		return;
	}
	if (take_process(p, c, x, &e) < 0 || command_run(p, &w, &start, &e) < 0) {
		start_fails(p, c, &e);
		return;
	}
	start->container = c;
}

static void on_started(struct pod *p, const struct command *x, const struct err *failure)
{
	struct container *c = x->container;
	struct conn *conn = c->starter;
	struct occasion o = { .wait_status = c->early_status };
	char space[ANSWER_BYTES];
	struct message_writer w;
	struct err ignored;

	if (failure) {
		start_fails(p, c, failure);
		return;
	}
	c->starter = NULL;
	c->state = CONTAINER_RUNNING;
	if (conn) {
		message_begin(&w, space, sizeof(space), MONITOR_OP_START, MESSAGE_ANSWER);
		container_describe(&w, c);
		conn_send(p, conn, &w, NULL, 0);
	}
	attach_started(p, c);
	if (c->ended_early)
		(void)container_event(p, c, ON_ENDED, &o, &ignored);
}

/* --- its end ---------------------------------------------------------------------------------------------------- */

int runner_delete(struct pod *p, struct container *c, struct err *e)
{
	char *const words[] = { (char *)"delete", (char *)"--force", NULL };
	const struct command_wish w = { .purpose = COMMAND_DELETE, .words = words, .last = { c->id }, .in = -1,
					.out = -1, .err = -1, .console = -1, .number = command_number(p),
					.cgroup_fd = -1, .patience_ns = DELETE_PATIENCE_NS };
	struct command *run;

	if (command_run(p, &w, &run, e) < 0)
		return -1;
	run->container = c;
	return 0;
}

/* Whether it succeeded or not: the processes are dead, the cgroup is ours to remove, the rest is in the runtime's root,
 * which goes with the pod. */
static void on_deleted(struct pod *p, const struct command *x)
{
	if (x->container->state == CONTAINER_STARTING)
		start_failed(p, x->container);
	else
		container_finished(p, x->container);
}

/* --- KILL ------------------------------------------------------------------------------------------------------- */

int runner_kill(struct pod *p, struct container *c, const struct occasion *o, struct err *e)
{
	char *const words[] = { (char *)"kill", NULL };
	struct command_wish w = { .purpose = COMMAND_KILL, .words = words, .in = -1, .out = -1, .err = -1,
				  .console = -1, .number = command_number(p), .cgroup_fd = -1,
				  .patience_ns = KILL_ANSWER_NS };
	struct command *run;
	char signal[16];

	(void)snprintf(signal, sizeof(signal), "%d", o->signal);
	w.last[0] = c->id;
	w.last[1] = signal;
	if (command_run(p, &w, &run, e) < 0)
		return -1;
	run->container = c;
	run->conn = o->conn;
	return REQUEST_WAITS;
}

static bool has_ended(const struct container *c)
{
	return !c || c->state != CONTAINER_RUNNING || proc_pidfd_is_dead(c->pidfd);
}

static void on_killed(struct pod *p, const struct command *x, const struct err *failure)
{
	char space[ANSWER_BYTES];
	struct message_writer w;

	if (!x->conn)
		return;
	if (failure && !has_ended(x->container)) {
		conn_send_error(p, x->conn, MONITOR_OP_KILL, failure);
		return;
	}
	message_begin(&w, space, sizeof(space), MONITOR_OP_KILL, MESSAGE_ANSWER);
	conn_send(p, x->conn, &w, NULL, 0);
}

/* --- EXEC ------------------------------------------------------------------------------------------------------- */

static int process_write(struct pod *p, struct container *c, const struct run_exec *r, uint64_t number, struct err *e)
{
	auto_buf b = BUF(PROCESS_JSON_MAX);
	auto_fd int fd = -1;
	char name[64];

	(void)snprintf(name, sizeof(name), "%llu.json", (unsigned long long)number);
	if (run_exec_json(c, r, &b, e) < 0)
		return -1;
	fd = fd_create(p->handler.dir_fd, name, O_WRONLY | O_CREAT | O_EXCL, 0600, e);
	return fd < 0 ? -1 : fd_write_all(fd, b.p, b.len, e);
}

int runner_exec(struct pod *p, struct exec *x, const struct run_exec *r, struct err *e)
{
	char slot[CGROUP_TEXT_MAX + 32];
	uint64_t number = command_number(p);
	auto_fd int console = -1, cgroup = -1;
	auto_arena a = { 0 };
	const char *console_path;
	struct command *run;
	char *words[] = { (char *)"exec", (char *)"--detach", (char *)"--process",
			  (char *)command_path(&a, p, number, "json"), (char *)"--pid-file",
			  (char *)command_path(&a, p, number, "pid"), NULL, NULL, NULL };
	struct command_wish w = { .purpose = COMMAND_EXEC, .words = words, .last = { x->container->id },
				  .in = r->files.in, .out = r->files.out, .err = r->files.err, .number = number,
				  .patience_ns = START_PATIENCE_NS };

	if (process_write(p, x->container, r, number, e) < 0)
		return -1;
	if (r->tty) {
		if (command_console_open(&a, p, number, &console, &console_path, e) < 0)
			return -1;
		words[6] = (char *)"--console-socket";
		words[7] = (char *)console_path;
		w.in = w.out = w.err = -1;
	}
	run_cgroup_slot(x->container, r->slot, slot, sizeof(slot));
	if (cgroup_is_hybrid(&p->runtime.cgroups) && cgroup_open_unified(&p->runtime.cgroups, slot, &cgroup, e) < 0)
		return -1;
	w.cgroup_fd = cgroup;
	w.console = fd_take(&console);
	if (command_run(p, &w, &run, e) < 0)
		return -1;
	run->exec = x;
	return 0;
}

void runner_command_ended(struct pod *p, struct command *x, const struct err *failure)
{
	switch (x->purpose) {
	case COMMAND_NONE:
		break;
	case COMMAND_CREATE:
		on_created(p, x, failure);
		break;
	case COMMAND_START:
		on_started(p, x, failure);
		break;
	case COMMAND_DELETE:
		on_deleted(p, x);
		break;
	case COMMAND_KILL:
		on_killed(p, x, failure);
		break;
	case COMMAND_EXEC:
		exec_begun(p, x->exec, x, failure);
		break;
	}
}
