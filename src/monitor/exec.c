#include "base/fs.h"
#include "monitor/state.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SMALL_BYTES = 8 * 1024, DRAIN_READS = 18, ARGS_MAX = 65536 };

/* --- what it prints ----------------------------------------------------------------------------------- */

static void collector_free(struct collector *k)
{
	fd_close(&k->fd);
	fd_close(&k->file);
	if (k->small)
		(void)munmap(k->small, SMALL_BYTES);
	*k = (struct collector){ .fd = -1, .file = -1 };
}

/* Little output stays in memory and travels in the answer; more goes to a file in memory. */
static int collector_keep(struct collector *k, const char *bytes, size_t n)
{
	struct err ignored;

	if (k->file < 0 && k->kept + n <= SMALL_BYTES) {
		if (!k->small) {
			void *p = mmap(NULL, SMALL_BYTES, PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

			if (p == MAP_FAILED)
				return -1;
			k->small = p;
		}
		memcpy(k->small + k->kept, bytes, n);
		k->kept += n;
		return 0;
	}
	if (k->file < 0) {
		k->file = memfd_create("knarr-exec", MFD_CLOEXEC);
		if (k->file < 0 ||
		    (k->kept && fd_write_all(k->file, k->small, k->kept, &ignored) < 0))
			return -1;
	}
	if (fd_write_all(k->file, bytes, n, &ignored) < 0)
		return -1;
	k->kept += n;
	return 0;
}

/* True once the stream is at its end. */
static bool collector_read(struct pod *p, struct exec *x, struct collector *k, bool *more)
{
	size_t take;
	ssize_t n;

	do {
		n = read(k->fd, p->scratch, SCRATCH_BYTES);
	} while (n < 0 && errno == EINTR);
	*more = n > 0;
	if (n < 0 && errno == EAGAIN)
		return false;
	if (n <= 0) {
		fd_close(&k->fd);
		return true;
	}
	take = (size_t)MIN((uint64_t)n, x->output_max - k->kept);
	if (take && collector_keep(k, p->scratch, take) < 0)
		take = 0; /* out of memory: as if it were above the cap */
	k->cut |= take < (size_t)n;
	return false;
}

static bool streams_gone(const struct exec *x)
{
	return x->streams[STREAM_OUT].fd < 0 && x->streams[STREAM_ERR].fd < 0;
}

void exec_readable(struct pod *p, struct exec *x, enum stream s)
{
	bool more;

	if (x->state == EXEC_FREE || x->streams[s].fd < 0)
		return;
	if (collector_read(p, x, &x->streams[s], &more))
		exec_event(p, x, EXEC_ON_STREAM_ENDED, 0);
}

static void streams_drain(struct pod *p, struct exec *x)
{
	for (int s = 0; s < STREAM_COUNT; s++) {
		bool more = true;

		for (int i = 0; i < DRAIN_READS && more && x->streams[s].fd >= 0; i++)
			(void)collector_read(p, x, &x->streams[s], &more);
	}
}

/* --- its end -------------------------------------------------------------------------------------------- */

static void answer_stream(struct message_writer *w, struct collector *k, enum stream s, int *fds, size_t *nfds)
{
	static const unsigned file_tag[] = { TAG_OUTPUT_FD, TAG_ERROUT_FD };
	static const unsigned size_tag[] = { TAG_OUT_BYTES, TAG_ERR_BYTES };
	static const unsigned bytes_tag[] = { TAG_OUTPUT, TAG_ERROUT };

	if (k->file < 0) {
		message_add_bytes(w, bytes_tag[s], (struct str){ k->small, k->kept });
		return;
	}
	message_add_number(w, size_tag[s], k->kept);
	message_add_number(w, file_tag[s], *nfds);
	fds[(*nfds)++] = k->file;
}

/* A session's client has the output: it is told of the end, and nothing else ever on that connection. */
static void answer_session(struct pod *p, struct exec *x)
{
	struct conn *conn = x->conn;
	struct message_writer w;
	char space[1024];

	if (!conn)
		return;
	x->conn = NULL;
	message_begin(&w, space, sizeof(space), MONITOR_OP_EXEC_STREAM, MESSAGE_ANSWER);
	message_add_number(&w, TAG_EXIT_CODE, (uint64_t)x->code);
	conn_send(p, conn, &w, NULL, 0);
	conn_close(p, conn);
}

static void answer_sync(struct pod *p, struct exec *x)
{
	char space[2 * SMALL_BYTES + 1024];
	struct conn *conn = x->conn;
	struct message_writer w;
	int fds[STREAM_COUNT];
	size_t nfds = 0;

	if (!conn)
		return;
	x->conn = NULL;
	message_begin(&w, space, sizeof(space), MONITOR_OP_EXEC_SYNC, MESSAGE_ANSWER);
	message_add_number(&w, TAG_EXIT_CODE, (uint64_t)x->code);
	message_add_number(&w, TAG_TIMED_OUT, x->timed_out);
	message_add_number(&w, TAG_CUT, x->streams[STREAM_OUT].cut || x->streams[STREAM_ERR].cut);
	for (int s = 0; s < STREAM_COUNT; s++)
		answer_stream(&w, &x->streams[s], (enum stream)s, fds, &nfds);
	conn_send(p, conn, &w, fds, nfds);
}

static void answer(struct pod *p, struct exec *x)
{
	if (x->session)
		answer_session(p, x);
	else
		answer_sync(p, x);
}

/* --- which exec cgroups are in use ---------------------------------------------------------------------- */

static uint64_t slot_bit(unsigned slot)
{
	return UINT64_C(1) << slot % 64;
}

static bool slot_has(const uint64_t *set, unsigned slot)
{
	return set[slot / 64] & slot_bit(slot);
}

static void slot_add(uint64_t *set, unsigned slot)
{
	set[slot / 64] |= slot_bit(slot);
}

static void slot_drop(uint64_t *set, unsigned slot)
{
	set[slot / 64] &= ~slot_bit(slot);
}

/* Such an exec never got one. */
enum { SLOT_NONE = EXEC_SLOTS_MAX };

static void exec_free(struct exec *x)
{
	for (int s = 0; s < STREAM_COUNT; s++)
		collector_free(&x->streams[s]);
	for (size_t i = 0; i < ARRAY_SIZE(x->client); i++)
		fd_close(&x->client[i]);
	if (x->container && x->slot != SLOT_NONE)
		slot_drop(x->container->slots_used, x->slot);
	*x = (struct exec){ .state = EXEC_FREE };
}

static void tree_kill(struct pod *p, struct exec *x)
{
	char path[CGROUP_TEXT_MAX + 32];
	struct err ignored;

	if (!x->container)
		return; /* its whole cgroup was killed */
	run_cgroup_slot(x->container, x->slot, path, sizeof(path));
	slot_add(x->container->slots_killed, x->slot);
	if (cgroup_kill(&p->runtime.cgroups, path, &ignored) < 0 && x->pid > 0)
		(void)kill(x->pid, SIGKILL); /* our child, not reaped: the number is its */
}

/* --- (state x event) ------------------------------------------------------------------------------------ */

static void on_nothing(UNUSED struct pod *p, UNUSED struct exec *x, UNUSED int status)
{
}

static void on_finish(struct pod *p, struct exec *x, UNUSED int status)
{
	answer(p, x);
	exec_free(x);
}

static void on_stream_ended_late(struct pod *p, struct exec *x, int status)
{
	if (streams_gone(x))
		on_finish(p, x, status);
}

static void on_ended(struct pod *p, struct exec *x, int status)
{
	x->code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	x->pid = 0;
	if (x->session) {
		on_finish(p, x, status);
		return;
	}
	streams_drain(p, x);
	x->state = EXEC_DRAINING;
	x->deadline_ns = clock_mono_ns() + EXEC_DRAIN_NS;
	if (streams_gone(x) || !x->conn)
		on_finish(p, x, status);
}

static void on_timeout(struct pod *p, struct exec *x, UNUSED int status)
{
	x->timed_out = true;
	x->state = EXEC_KILLED;
	x->deadline_ns = clock_mono_ns() + KILL_PATIENCE_NS;
	tree_kill(p, x);
}

static void on_client_gone(struct pod *p, struct exec *x, UNUSED int status)
{
	x->conn = NULL;
	x->state = EXEC_KILLED;
	x->deadline_ns = 0;
	tree_kill(p, x);
}

/* Killed, and still there: whoever waits is told of the timeout; the process is reaped when it ends. */
static void on_does_not_die(struct pod *p, struct exec *x, UNUSED int status)
{
	x->code = 128 + SIGKILL;
	answer(p, x);
}

static void on_client_lost(UNUSED struct pod *p, struct exec *x, UNUSED int status)
{
	x->conn = NULL;
}

/* It is killed as soon as it is known. */
static void on_timeout_early(UNUSED struct pod *p, struct exec *x, UNUSED int status)
{
	x->timed_out = true;
}

typedef void on_event(struct pod *p, struct exec *x, int status);

static on_event *const table[EXEC_STATE_COUNT][EXEC_EVENT_COUNT] = {
	[EXEC_STARTING] = {
		[EXEC_ON_ENDED] = on_nothing,
		[EXEC_ON_STREAM_ENDED] = on_nothing,
		[EXEC_ON_TIME] = on_timeout_early,
		[EXEC_ON_CLIENT_GONE] = on_client_lost,
	},
	[EXEC_RUNNING] = {
		[EXEC_ON_ENDED] = on_ended,
		[EXEC_ON_STREAM_ENDED] = on_nothing,
		[EXEC_ON_TIME] = on_timeout,
		[EXEC_ON_CLIENT_GONE] = on_client_gone,
	},
	[EXEC_KILLED] = {
		[EXEC_ON_ENDED] = on_ended,
		[EXEC_ON_STREAM_ENDED] = on_nothing,
		[EXEC_ON_TIME] = on_does_not_die,
		[EXEC_ON_CLIENT_GONE] = on_client_lost,
	},
	[EXEC_DRAINING] = {
		[EXEC_ON_ENDED] = on_nothing,
		[EXEC_ON_STREAM_ENDED] = on_stream_ended_late,
		[EXEC_ON_TIME] = on_finish,
		[EXEC_ON_CLIENT_GONE] = on_finish,
	},
};

void exec_event(struct pod *p, struct exec *x, enum exec_event ev, int wait_status)
{
	BUG_ON(!table[x->state][ev]);
	if (ev == EXEC_ON_CLIENT_GONE && x->state == EXEC_DRAINING)
		x->conn = NULL;
	table[x->state][ev](p, x, wait_status);
}

void execs_forget_container(struct pod *p, const struct container *c)
{
	for (size_t i = 0; i < p->execs_top; i++)
		if (p->execs[i].state != EXEC_FREE && p->execs[i].container == c)
			p->execs[i].container = NULL;
}

void execs_kill_all(struct pod *p)
{
	for (size_t i = 0; i < p->execs_top; i++)
		if (p->execs[i].state == EXEC_RUNNING || p->execs[i].state == EXEC_STARTING)
			exec_event(p, &p->execs[i], EXEC_ON_TIME, 0);
}

/* --- its beginning -------------------------------------------------------------------------------------------- */

static struct exec *exec_new(struct pod *p, struct container *c, struct err *e)
{
	for (size_t i = 0; i < EXECS_MAX; i++) {
		struct exec *x = &p->execs[i];

		if (i < p->execs_top && x->state != EXEC_FREE)
			continue;
		p->execs_top = MAX(p->execs_top, i + 1);
		*x = (struct exec){ .container = c, .slot = SLOT_NONE,
				    .streams = { { .fd = -1, .file = -1 }, { .fd = -1, .file = -1 } },
				    .client = { -1, -1, -1 } };
		return x;
	}
	err_set(e, ERR_EXHAUSTED, "pod %s runs %d execs already", p->id, EXECS_MAX);
	return NULL;
}

/* A cgroup that was killed once kills whatever is cloned into it ever after (6.12 and newer compare the
 * count of kills with that of the parent's cgroup): it must go, and another be made. False: what is in
 * it has not died yet. */
static bool slot_renew(struct pod *p, struct container *c, unsigned slot, const char *path)
{
	struct err ignored;

	if (!slot_has(c->slots_killed, slot))
		return true;
	if (cgroup_remove(&p->runtime.cgroups, path, 0, &ignored) < 0)
		return false;
	slot_drop(c->slots_killed, slot);
	slot_drop(c->slots_made, slot);
	return true;
}

/* An exec cgroup of the container that no process is in, made where there is none. */
static int slot_take(struct pod *p, struct exec *x, struct err *e)
{
	struct container *c = x->container;
	char path[CGROUP_TEXT_MAX + 32];

	for (unsigned i = 0; i < EXEC_SLOTS_MAX; i++) {
		if (slot_has(c->slots_used, i))
			continue;
		run_cgroup_slot(c, i, path, sizeof(path));
		if (slot_has(c->slots_made, i) && cgroup_is_populated(&p->runtime.cgroups, path))
			continue; /* what an earlier exec left running */
		if (slot_has(c->slots_made, i) && !cgroup_exists(&p->runtime.cgroups, path))
			slot_drop(c->slots_made, i); /* the container, which may on v2, removed it */
		if (!slot_renew(p, c, i, path))
			continue;
		if (!slot_has(c->slots_made, i) && cgroup_create_exec(&p->runtime.cgroups, path, e) < 0)
			return -1;
		slot_add(c->slots_made, i);
		slot_add(c->slots_used, i);
		x->slot = i;
		return 0;
	}
	return err_set(e, ERR_EXHAUSTED, "container %s runs %d execs already", c->id, EXEC_SLOTS_MAX);
}

static int argv_read(struct arena *a, const struct message *m, char ***out, struct err *e)
{
	struct str rest = m->fields;
	struct message_field f;
	size_t n = 0;
	char **argv;

	while (message_next(&rest, &f))
		n += f.tag == TAG_ARG;
	if (!n || n > ARGS_MAX)
		return err_set(e, ERR_INVALID, "a command of %zu words", n);
	argv = arena_newn0(a, char *, n + 1);
	rest = m->fields;
	n = 0;
	while (message_next(&rest, &f))
		if (f.tag == TAG_ARG)
			argv[n++] = (char *)f.bytes.p;
	*out = argv;
	return 0;
}

static int collector_open(struct pod *p, struct exec *x, enum stream s, int *write_end, struct err *e)
{
	struct collector *k = &x->streams[s];

	if (fd_pipe(&k->fd, write_end, e) < 0 || fd_set_nonblocking(k->fd, e) < 0)
		return -1;
	return loop_watch(p, k->fd, EPOLLIN, SOURCE_EXEC, (size_t)(x - p->execs), s, e);
}

/* By another runtime: exec_begun() goes on. */
static int exec_begin(struct pod *p, struct exec *x, const struct run_exec *run, struct err *e)
{
	if (runner_exec(p, x, run, e) < 0)
		return -1;
	x->state = EXEC_STARTING;
	return 0;
}

static int sync_run(struct pod *p, struct exec *x, struct request *r, struct err *e)
{
	struct run_exec run = { .slot = x->slot };
	auto_fd int out = -1, err_end = -1;
	auto_arena a = { 0 };
	char **argv;
	int no_console;

	if (argv_read(&a, &r->m, &argv, e) < 0 || collector_open(p, x, STREAM_OUT, &out, e) < 0 ||
	    collector_open(p, x, STREAM_ERR, &err_end, e) < 0)
		return -1;
	run.argv = argv;
	run.files = (struct run_files){ -1, out, err_end };
	if (p->handler.path)
		return exec_begin(p, x, &run, e);
	return run_exec(p, x->container, &run, &x->pid, &no_console, e);
}

/* Both ends of a session's streams: those of the process and those of the client. */
struct session_ends {
	struct run_files process, client;
	int tty;
};

static void session_ends_close(struct session_ends *x)
{
	int *const all[] = { &x->process.in, &x->process.out, &x->process.err, &x->client.in, &x->client.out,
			     &x->client.err, &x->tty };

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		fd_close(all[i]);
}

/* The client's ends do not block; the process's are as any program expects them. */
static int session_pipes(unsigned flags, struct session_ends *x, struct err *e)
{
	if (flags & SESSION_IN &&
	    (fd_pipe(&x->process.in, &x->client.in, e) < 0 || fd_set_nonblocking(x->client.in, e) < 0))
		return -1;
	if (flags & SESSION_OUT &&
	    (fd_pipe(&x->client.out, &x->process.out, e) < 0 || fd_set_nonblocking(x->client.out, e) < 0))
		return -1;
	if (flags & SESSION_ERR &&
	    (fd_pipe(&x->client.err, &x->process.err, e) < 0 || fd_set_nonblocking(x->client.err, e) < 0))
		return -1;
	return 0;
}

static void session_answer(struct pod *p, struct exec *x, const struct run_files *client, int tty)
{
	struct request r = { .conn = x->conn };
	char space[1024];

	message_begin(&r.answer, space, sizeof(space), MONITOR_OP_EXEC_STREAM, MESSAGE_ANSWER | MESSAGE_MORE);
	answer_fd(&r, TAG_SESSION_IN_FD, tty >= 0 && x->flags & SESSION_IN ? tty : client->in);
	answer_fd(&r, TAG_SESSION_OUT_FD, tty >= 0 && x->flags & SESSION_OUT ? tty : client->out);
	answer_fd(&r, TAG_SESSION_ERR_FD, client->err);
	answer_fd(&r, TAG_SESSION_TTY_FD, tty);
	(void)conn_tell(p, r.conn, &r.answer, r.answer_fds, r.answer_nfds); /* one that has gone ends the exec */
}

static int session_run(struct pod *p, struct exec *x, struct request *r, struct session_ends *ends, struct err *e)
{
	unsigned flags = (unsigned)message_number(&r->m, TAG_FLAGS, 0);
	struct run_exec run = { .slot = x->slot, .tty = flags & SESSION_TTY,
				.width = (unsigned)message_number(&r->m, TAG_WIDTH, 0),
				.height = (unsigned)message_number(&r->m, TAG_HEIGHT, 0) };
	auto_arena a = { 0 };
	char **argv;

	if (argv_read(&a, &r->m, &argv, e) < 0 || (!run.tty && session_pipes(flags, ends, e) < 0))
		return -1;
	run.argv = argv;
	run.files = ends->process;
	x->flags = flags;
	if (p->handler.path) {
		if (exec_begin(p, x, &run, e) < 0)
			return -1;
		x->client[STREAM_OUT] = fd_take(&ends->client.out);
		x->client[STREAM_ERR] = fd_take(&ends->client.err);
		x->client[STREAM_COUNT] = fd_take(&ends->client.in);
		return 0;
	}
	if (run_exec(p, x->container, &run, &x->pid, &ends->tty, e) < 0)
		return -1;
	if (ends->tty < 0 || fd_set_nonblocking(ends->tty, e) == 0)
		return 0;
	tree_kill(p, x);
	return -1;
}

/* An exec with its cgroup in the container that the request names. */
static int exec_prepare(struct pod *p, struct request *r, struct exec **out, struct err *e)
{
	struct occasion o = { 0 };
	struct container *c;
	struct exec *x;
	const char *id;

	if (message_need_text(&r->m, TAG_CONTAINER_ID, "container id", &id, e) < 0)
		return -1;
	c = container_find(p, id);
	if (!c)
		return err_set(e, ERR_NOT_FOUND, "no container %s in pod %s", id, p->id);
	if (container_event(p, c, ON_EXEC, &o, e) < 0)
		return -1;
	x = exec_new(p, c, e);
	if (!x || slot_take(p, x, e) < 0)
		return -1;
	*out = x;
	return 0;
}

static void exec_runs(struct exec *x, struct request *r)
{
	if (x->state != EXEC_STARTING)
		x->state = EXEC_RUNNING;
	x->conn = r->conn;
}

int exec_start(struct pod *p, struct request *r, struct err *e)
{
	int64_t timeout_ns = (int64_t)message_number(&r->m, TAG_TIMEOUT_NS, 0);
	struct exec *x;

	if (exec_prepare(p, r, &x, e) < 0)
		return -1;
	x->output_max = message_number(&r->m, TAG_OUTPUT_MAX, 16 << 20);
	if (sync_run(p, x, r, e) < 0) {
		exec_free(x);
		return -1;
	}
	exec_runs(x, r);
	x->deadline_ns = timeout_ns > 0 ? clock_mono_ns() + timeout_ns : 0;
	return REQUEST_WAITS;
}

int exec_session(struct pod *p, struct request *r, struct err *e)
{
	AUTO(session_ends_close) struct session_ends ends = { { -1, -1, -1 }, { -1, -1, -1 }, -1 };
	struct exec *x;

	if (exec_prepare(p, r, &x, e) < 0)
		return -1;
	x->session = true;
	if (session_run(p, x, r, &ends, e) < 0) {
		exec_free(x);
		return -1;
	}
	exec_runs(x, r);
	if (x->state == EXEC_RUNNING)
		session_answer(p, x, &ends.client, ends.tty);
	return REQUEST_WAITS;
}

/* --- by another runtime --------------------------------------------------------------------------------------- */

enum { CHILDREN_MAX = 4096, DEPTH_MAX = 64 };

/* The process, and what it has forked meanwhile, into the exec's cgroup. */
static void tree_place(struct pod *p, const char *cgroup, pid_t pid, unsigned depth)
{
	auto_arena a = { 0 };
	struct err ignored;
	struct str text;
	int64_t child;

	/* It may have ended. */
	if (cgroup_join_pid_exec(&p->runtime.cgroups, cgroup, pid, &ignored) < 0 || depth == DEPTH_MAX ||
	    fs_read_file(&a, AT_FDCWD, arena_printf(&a, "/proc/%d/task/%d/children", pid, pid), CHILDREN_MAX, &text,
			 &ignored) < 0)
		return;
	while (text.p)
		if (str_to_i64(str_cut(&text, ' '), &child, &ignored) == 0 && child > 1 && child <= INT32_MAX)
			tree_place(p, cgroup, (pid_t)child, depth + 1);
}

static int begun(struct pod *p, struct exec *x, const struct command *by, int *tty, struct err *e)
{
	char cgroup[CGROUP_TEXT_MAX + 32];

	if (command_pid(p, by, &x->pid, e) < 0)
		return -1;
	if (x->container && x->container->cgroup[0]) {
		run_cgroup_slot(x->container, x->slot, cgroup, sizeof(cgroup));
		tree_place(p, cgroup, x->pid, 0);
	}
	if (by->console < 0)
		return 0;
	if (command_console_take(by, tty, e) == 0 && fd_set_nonblocking(*tty, e) == 0)
		return 0;
	tree_kill(p, x); /* an orphan then */
	return -1;
}

void exec_begun(struct pod *p, struct exec *x, const struct command *by, const struct err *failure)
{
	const struct run_files client = { x->client[STREAM_COUNT], x->client[STREAM_OUT], x->client[STREAM_ERR] };
	struct conn *conn = x->conn;
	auto_fd int tty = -1;
	struct err e;
	int status;

	if (failure)
		e = *failure;
	if (failure || begun(p, x, by, &tty, &e) < 0) {
		unsigned op = x->session ? MONITOR_OP_EXEC_STREAM : MONITOR_OP_EXEC_SYNC;

		exec_free(x);
		if (conn)
			conn_send_error(p, conn, op, &e);
		return;
	}
	x->state = EXEC_RUNNING;
	if (x->session && conn)
		session_answer(p, x, &client, tty);
	for (size_t i = 0; i < ARRAY_SIZE(x->client); i++)
		fd_close(&x->client[i]);
	if (x->state == EXEC_FREE)
		return;
	if (command_orphan(p, x->pid, &status))
		exec_event(p, x, EXEC_ON_ENDED, status);
	else if (!x->conn)
		exec_event(p, x, EXEC_ON_CLIENT_GONE, 0);
	else if (x->timed_out)
		exec_event(p, x, EXEC_ON_TIME, 0);
}
