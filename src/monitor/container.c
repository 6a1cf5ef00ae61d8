#include "monitor/state.h"

#include "base/proc.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DRAIN_READS = 18, /* more than the largest pipe holds */
       CGROUP_LOOK_MS = 2, RECORD_RETRY_MS = 1000 };

static const char *const state_names[] = {
#define X(name, text) text,
	CONTAINER_STATES(X)
#undef X
};

const char *container_state_name(enum container_state s)
{
	return state_names[s];
}

struct container *container_find(struct pod *p, const char *id)
{
	for (size_t i = 0; i < p->containers_top; i++)
		if (p->containers[i].state != CONTAINER_FREE && streq(p->containers[i].id, id))
			return &p->containers[i];
	return NULL;
}

size_t containers_alive(const struct pod *p)
{
	size_t n = 0;

	for (size_t i = 0; i < p->containers_top; i++)
		n += p->containers[i].state != CONTAINER_FREE && p->containers[i].state != CONTAINER_EXITED;
	return n;
}

/* --- streams ---------------------------------------------------------------------------------------- */

enum { STREAM_MORE = 1, STREAM_EMPTY = 0, STREAM_GONE = -1 };

/* One read of what the container wrote, into its log. */
static int stream_read(struct pod *p, struct container *c, enum stream s)
{
	ssize_t n;

	do {
		n = read(c->streams[s], p->scratch, SCRATCH_BYTES);
	} while (n < 0 && errno == EINTR);
	if (n > 0) {
		cri_log_feed(&c->log, &c->lines[s], (struct str){ p->scratch, (size_t)n },
			     clock_wall_ns());
		if (c->attached)
			attach_feed(p, c, s, (struct str){ p->scratch, (size_t)n });
		return STREAM_MORE;
	}
	if (n < 0 && errno == EAGAIN)
		return STREAM_EMPTY;
	/* End of file; or EIO, which is how a terminal says it. */
	cri_log_flush(&c->log, &c->lines[s], clock_wall_ns());
	fd_close(&c->streams[s]);
	return STREAM_GONE;
}

static bool streams_gone(const struct container *c)
{
	return c->streams[STREAM_OUT] < 0 && c->streams[STREAM_ERR] < 0;
}

/* Nobody paces a container that has ended. */
static bool stream_holds(const struct pod *p, const struct container *c, enum stream s)
{
	return c->attached && c->state == CONTAINER_RUNNING && attach_holds(p, c, s);
}

void container_resume(struct pod *p, struct container *c, enum stream s)
{
	if (c->streams[s] >= 0)
		loop_watch_change(p, c->streams[s], EPOLLIN, SOURCE_CONTAINER, (size_t)(c - p->containers), s);
}

void container_readable(struct pod *p, struct container *c, enum stream s)
{
	struct occasion o = { .stream = s };
	struct err ignored;

	if (c->state == CONTAINER_FREE || c->streams[s] < 0)
		return; /* of an event read before it was closed */
	if (stream_holds(p, c, s))
		return;
	if (stream_read(p, c, s) == STREAM_GONE) {
		(void)container_event(p, c, ON_STREAM_ENDED, &o, &ignored);
	} else if (stream_holds(p, c, s)) {
		/* Not even its end is of interest until attach.c changes this back. */
		loop_watch_change(p, c->streams[s], EPOLLET, SOURCE_CONTAINER, (size_t)(c - p->containers), s);
	}
}

static void streams_drain(struct pod *p, struct container *c)
{
	for (int s = 0; s < STREAM_COUNT; s++)
		for (int i = 0; i < DRAIN_READS && c->streams[s] >= 0; i++)
			if (stream_read(p, c, (enum stream)s) != STREAM_MORE)
				break;
}

static void streams_close(struct container *c)
{
	for (int s = 0; s < STREAM_COUNT; s++) {
		cri_log_flush(&c->log, &c->lines[s], clock_wall_ns());
		fd_close(&c->streams[s]);
	}
	fd_close(&c->stdin_end);
}

/* --- the end of a container -------------------------------------------------------------------------- */

static void exit_record_try(struct pod *p, struct container *c)
{
	struct err e;

	c->unrecorded = exit_record_write(p->state_dir, c->id, &c->exit, &e) < 0;
	/* A full disk does not hide the exit: it is told now, and recorded when that is possible. */
	c->deadline_ns = c->unrecorded ? clock_mono_ns() + RECORD_RETRY_MS * NS_PER_MS : 0;
}

void container_finished(struct pod *p, struct container *c)
{
	exit_record_try(p, c);
	c->state = CONTAINER_EXITED;
	serve_tell_exit(p, c);
	attach_container_ended(p, c);
	execs_forget_container(p, c);
	commands_forget_container(p, c);
	run_forget(p, c);
	if (p->state == POD_ENDING && !containers_alive(p))
		serve_shutdown_done(p);
}

static int finish(struct pod *p, struct container *c)
{
	uint64_t oom_kills = 0;
	struct err e;

	streams_close(c);
	cri_log_close(&c->log);
	if (cgroup_oom_kills(&p->runtime.cgroups, c->cgroup, &oom_kills, &e) < 0)
		oom_kills = 0; /* no memory controller: nobody counts */
	c->exit.oom_killed = oom_kills && c->exit.code;
	if (p->handler.path && runner_delete(p, c, &e) == 0)
		c->state = CONTAINER_DELETING;
	else
		container_finished(p, c);
	return 0;
}

/* Others of its cgroup, where no PID namespace of its own took them with it. */
static bool others_alive(struct pod *p, const struct container *c)
{
	return !c->own_pid_ns && cgroup_is_populated(&p->runtime.cgroups, c->cgroup);
}

static int finish_if_quiet(struct pod *p, struct container *c)
{
	int64_t now = clock_mono_ns();
	bool others = others_alive(p, c);

	if ((streams_gone(c) && !others) || now >= c->drain_until_ns)
		return finish(p, c);
	c->deadline_ns = others ? now + CGROUP_LOOK_MS * NS_PER_MS : c->drain_until_ns;
	return 0;
}

static int on_ended(struct pod *p, struct container *c, struct occasion *o, UNUSED struct err *e)
{
	struct err ignored;
	int status = o->wait_status;

	c->exit.finished_wall_ns = clock_wall_ns();
	c->exit.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	c->exit.code = c->exit.signal ? 128 + c->exit.signal : WEXITSTATUS(status);
	fd_close(&c->pidfd);
	fd_close(&c->config_fd);
	if (!c->own_pid_ns)
		(void)cgroup_kill(&p->runtime.cgroups, c->cgroup, &ignored); /* looked after by others_alive() */
	c->state = CONTAINER_ENDING;
	c->drain_until_ns = clock_mono_ns() + LOG_DRAIN_NS;
	for (int s = 0; s < STREAM_COUNT; s++)
		container_resume(p, c, (enum stream)s);
	streams_drain(p, c);
	return finish_if_quiet(p, c);
}

static int on_ended_early(UNUSED struct pod *p, struct container *c, struct occasion *o, UNUSED struct err *e)
{
	c->ended_early = true;
	c->early_status = o->wait_status;
	return 0;
}

static int on_quiet(struct pod *p, struct container *c, UNUSED struct occasion *o, UNUSED struct err *e)
{
	return finish_if_quiet(p, c);
}

static int on_record_again(struct pod *p, struct container *c, UNUSED struct occasion *o,
			   UNUSED struct err *e)
{
	if (c->unrecorded)
		exit_record_try(p, c);
	return 0;
}

/* --- what clients ask --------------------------------------------------------------------------------- */

static int on_kill(struct pod *p, struct container *c, struct occasion *o, struct err *e)
{
	if (o->signal < 1 || o->signal > SIGRTMAX)
		return err_set(e, ERR_INVALID, "%d is no signal", o->signal);
	/* The process of a runtime with a kernel of its own is none that could be asked to end. */
	if (!o->kill_all && p->handler.path && o->signal != SIGKILL)
		return runner_kill(p, c, o, e);
	if (!o->kill_all)
		return proc_signal(c->pidfd, o->signal, e);
	if (o->signal == SIGKILL)
		return cgroup_kill(&p->runtime.cgroups, c->cgroup, e);
	return cgroup_signal(&p->runtime.cgroups, c->cgroup, o->signal, e);
}

/* The start fails, and answers so. */
static int on_kill_early(struct pod *p, struct container *c, UNUSED struct occasion *o, struct err *e)
{
	commands_kill_of(p, c);
	return cgroup_kill(&p->runtime.cgroups, c->cgroup, e);
}

static int on_reopen(UNUSED struct pod *p, struct container *c, struct occasion *o,
		     UNUSED struct err *e)
{
	cri_log_reopen(&c->log, fd_take(&o->log_fd));
	return 0;
}

static int on_nothing(UNUSED struct pod *p, UNUSED struct container *c, UNUSED struct occasion *o,
		      UNUSED struct err *e)
{
	return 0;
}

static int on_forget(struct pod *p, struct container *c, UNUSED struct occasion *o, struct err *e)
{
	if (exit_record_remove(p->state_dir, c->id, e) < 0)
		return -1;
	run_forget(p, c);
	*c = (struct container){ .state = CONTAINER_FREE };
	return 0;
}

static int on_wrong_state(UNUSED struct pod *p, struct container *c, UNUSED struct occasion *o,
			  struct err *e)
{
	return err_set(e, ERR_STATE, "container %s is %s", c->id, container_state_name(c->state));
}

typedef int on_event(struct pod *p, struct container *c, struct occasion *o, struct err *e);

static on_event *const table[CONTAINER_STATE_COUNT][CONTAINER_EVENT_COUNT] = {
	[CONTAINER_STARTING] = {
		[ON_ENDED] = on_ended_early,
		[ON_STREAM_ENDED] = on_nothing,
		[ON_TIME] = on_nothing,
		[ON_KILL] = on_kill_early,
		[ON_REOPEN] = on_reopen,
		[ON_EXEC] = on_wrong_state,
		[ON_FORGET] = on_wrong_state,
	},
	[CONTAINER_RUNNING] = {
		[ON_ENDED] = on_ended,
		[ON_STREAM_ENDED] = on_nothing, /* it may close its output and go on */
		[ON_TIME] = on_nothing,
		[ON_KILL] = on_kill,
		[ON_REOPEN] = on_reopen,
		[ON_EXEC] = on_nothing,
		[ON_FORGET] = on_wrong_state,
	},
	[CONTAINER_ENDING] = {
		[ON_ENDED] = on_nothing,
		[ON_STREAM_ENDED] = on_quiet,
		[ON_TIME] = on_quiet,
		[ON_KILL] = on_wrong_state,
		[ON_REOPEN] = on_reopen,
		[ON_EXEC] = on_wrong_state,
		[ON_FORGET] = on_wrong_state,
	},
	[CONTAINER_DELETING] = {
		[ON_ENDED] = on_nothing,
		[ON_STREAM_ENDED] = on_nothing,
		[ON_TIME] = on_nothing,
		[ON_KILL] = on_wrong_state,
		[ON_REOPEN] = on_nothing,
		[ON_EXEC] = on_wrong_state,
		[ON_FORGET] = on_wrong_state,
	},
	[CONTAINER_EXITED] = {
		[ON_ENDED] = on_nothing,
		[ON_STREAM_ENDED] = on_nothing,
		[ON_TIME] = on_record_again,
		[ON_KILL] = on_wrong_state,
		[ON_REOPEN] = on_nothing,
		[ON_EXEC] = on_wrong_state,
		[ON_FORGET] = on_forget,
	},
};

int container_event(struct pod *p, struct container *c, enum container_event ev, struct occasion *o,
		    struct err *e)
{
	BUG_ON(!table[c->state][ev]);
	return table[c->state][ev](p, c, o, e);
}

void containers_kill_all(struct pod *p)
{
	struct occasion o = { .signal = SIGKILL, .kill_all = true };
	struct err ignored;

	for (size_t i = 0; i < p->containers_top; i++) {
		struct container *c = &p->containers[i];

		if (c->state != CONTAINER_RUNNING && c->state != CONTAINER_STARTING)
			continue;
		if (container_event(p, c, ON_KILL, &o, &ignored) < 0 && c->pidfd >= 0)
			(void)proc_signal(c->pidfd, SIGKILL, &ignored); /* its end is what counts */
	}
}

/* --- START ---------------------------------------------------------------------------------------------- */

static struct container *container_new(struct pod *p, const char *id, struct err *e)
{
	if (container_id_check(id, e) < 0)
		return NULL;
	if (container_find(p, id)) {
		err_set(e, ERR_EXISTS, "container %s exists in pod %s", id, p->id);
		return NULL;
	}
	for (size_t i = 0; i < CONTAINERS_MAX; i++) {
		struct container *c = &p->containers[i];

		if (i < p->containers_top && c->state != CONTAINER_FREE)
			continue;
		p->containers_top = MAX(p->containers_top, i + 1);
		*c = (struct container){
			.pidfd = -1,
			.streams = { -1, -1 },
			.stdin_end = -1,
			.log = { .fd = -1 },
			.lines = { { .name = "stdout" }, { .name = "stderr" } },
			.config_fd = -1,
		};
		memcpy(c->id, id, strlen(id) + 1); /* as long as container_id_check() allows */
		return c;
	}
	err_set(e, ERR_EXHAUSTED, "pod %s has %d containers already", p->id, CONTAINERS_MAX);
	return NULL;
}

static int mounts_read(struct request *r, struct run_mount *mounts, size_t *n, struct err *e)
{
	struct str rest = r->m.fields;
	struct message_field f;
	uint64_t mount = 0;

	*n = 0;
	while (message_next(&rest, &f)) {
		if (f.tag == TAG_MOUNT)
			mount = f.number;
		if (f.tag != TAG_MOUNT_FD)
			continue;
		if (*n == FD_PASS_MAX || mount > UINT32_MAX || f.number >= r->nfds)
			return err_set(e, ERR_INVALID, "START with a mount that has no fd");
		mounts[(*n)++] = (struct run_mount){ (uint32_t)mount, r->fds[f.number] };
	}
	return 0;
}

/* Ends that the container gets; closed here once it has them. */
void run_files_close(struct run_files *x)
{
	fd_close(&x->in);
	fd_close(&x->out);
	fd_close(&x->err);
}

static int stream_open(struct pod *p, struct container *c, enum stream s, int *write_end, struct err *e)
{
	if (fd_pipe(&c->streams[s], write_end, e) < 0 || fd_set_nonblocking(c->streams[s], e) < 0)
		return -1;
	return loop_watch(p, c->streams[s], EPOLLIN, SOURCE_CONTAINER, (size_t)(c - p->containers), s, e);
}

enum { START_STDIN = BIT(0), START_STDIN_ONCE = BIT(1), START_TTY = BIT(2) }; /* TAG_FLAGS */

int container_streams_open(struct pod *p, struct container *c, unsigned flags, struct run_files *x, struct err *e)
{
	c->tty = flags & START_TTY;
	if (c->tty)
		return 0; /* the runtime makes the terminal */
	c->stdin_once = flags & START_STDIN_ONCE;
	if (flags & START_STDIN &&
	    (fd_pipe(&x->in, &c->stdin_end, e) < 0 || fd_set_nonblocking(c->stdin_end, e) < 0))
		return -1;
	if (stream_open(p, c, STREAM_OUT, &x->out, e) < 0)
		return -1;
	return stream_open(p, c, STREAM_ERR, &x->err, e);
}

int container_console(struct pod *p, struct container *c, int console, struct err *e)
{
	c->streams[STREAM_OUT] = console;
	if (fd_set_nonblocking(c->streams[STREAM_OUT], e) < 0)
		return -1;
	return loop_watch(p, c->streams[STREAM_OUT], EPOLLIN, SOURCE_CONTAINER,
			  (size_t)(c - p->containers), STREAM_OUT, e);
}

static int start_process(struct pod *p, struct container *c, struct request *r, struct err *e)
{
	unsigned flags = (unsigned)message_number(&r->m, TAG_FLAGS, 0);
	AUTO(run_files_close) struct run_files x = { -1, -1, -1 };
	struct run_mount mounts[FD_PASS_MAX];
	struct run_start s = { .bundle = message_text(&r->m, TAG_BUNDLE, ""), .mounts = mounts,
			       .tty = flags & START_TTY };
	auto_fd int root = -1;
	int console = -1;

	if (mounts_read(r, mounts, &s.nmounts, e) < 0 ||
	    request_need_fd(r, TAG_ROOT_FD, "root", &root, e) < 0 ||
	    container_streams_open(p, c, flags, &x, e) < 0)
		return -1;
	s.root_fd = root;
	s.files = x; /* in -1: the runtime's null */
	c->exit.started_wall_ns = clock_wall_ns();
	if (run_container(p, c, &s, &console, e) < 0)
		return -1;
	c->exit.pid = c->pid;
	if (s.tty && container_console(p, c, console, e) < 0) {
		/* It runs, but nobody could hear it: ends like one that failed to start. */
		(void)proc_signal(c->pidfd, SIGKILL, &(struct err){ 0 });
		(void)waitpid(c->pid, NULL, 0);
		return -1;
	}
	return 0;
}

void container_abandon(struct pod *p, struct container *c)
{
	streams_close(c);
	cri_log_close(&c->log);
	fd_close(&c->config_fd);
	fd_close(&c->pidfd);
	commands_forget_container(p, c);
	run_forget(p, c);
	*c = (struct container){ .state = CONTAINER_FREE };
}

int container_begin(struct pod *p, struct request *r, struct err *e)
{
	struct err ignored;
	struct container *c;
	const char *id;
	int rc;

	if (message_need_text(&r->m, TAG_CONTAINER_ID, "container id", &id, e) < 0)
		return -1;
	c = container_new(p, id, e);
	if (!c)
		return -1;
	(void)request_need_fd(r, TAG_LOG_FD, "log", &c->log.fd, &ignored); /* -1: no log is wanted */
	rc = request_need_fd(r, TAG_CONFIG_FD, "config", &c->config_fd, e);
	if (rc == 0)
		rc = p->handler.path ? runner_start(p, c, r, e) : start_process(p, c, r, e);
	if (rc < 0) {
		attach_failed(p, id);
		container_abandon(p, c);
		return -1;
	}
	if (rc == REQUEST_WAITS)
		return rc;
	(void)proc_start_time(c->pid, &c->start_ticks, &ignored); /* a zombie at worst: it is not reaped yet */
	c->state = CONTAINER_RUNNING;
	container_describe(&r->answer, c);
	attach_started(p, c);
	return 0;
}
