/* Those who watch a container: each gets by pipes a copy of what it writes, from the moment of the attach on. */
#include "monitor/state.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

/* Kept for a paced client: one read, and at the container's end what was in its pipe still. */
enum { PENDING_BYTES = 2 << 20, PIPE_BYTES = 1 << 20, REPLY_BYTES = 1024 };

static size_t attach_index(const struct pod *p, const struct attach *a)
{
	return (size_t)(a - p->attaches);
}

/* --- a pipe to a client --------------------------------------------------------------------------------- */

static bool is_pending(const struct attach_pipe *k)
{
	return k->from < k->to;
}

static void pending_free(struct attach_pipe *k)
{
	if (k->pending)
		(void)munmap(k->pending, PENDING_BYTES);
	k->pending = NULL;
	k->from = k->to = 0;
}

static void pipe_close(struct attach_pipe *k)
{
	fd_close(&k->fd); /* and so it leaves epoll */
	pending_free(k);
}

/* How much of it the pipe took; a client that has closed its end wants no more. */
static size_t pipe_push(struct attach_pipe *k, const char *bytes, size_t n)
{
	size_t done = 0;

	while (done < n) {
		ssize_t took = write(k->fd, bytes + done, n - done);

		if (took < 0 && errno == EINTR)
			continue;
		if (took < 0 && errno == EAGAIN)
			break;
		if (took < 0) {
			pipe_close(k);
			return n;
		}
		done += (size_t)took;
	}
	return done;
}

/* False where there is no room for it. */
static bool pending_add(struct pod *p, struct attach *a, enum stream s, const char *bytes, size_t n)
{
	struct attach_pipe *k = &a->pipes[s];
	struct err ignored;
	void *at;

	if (!k->pending) {
		at = mmap(NULL, PENDING_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (at == MAP_FAILED)
			return false;
		k->pending = at;
		if (loop_watch(p, k->fd, EPOLLOUT, SOURCE_ATTACH, attach_index(p, a), s, &ignored) < 0)
			return false;
	}
	if (n > PENDING_BYTES - k->to)
		return false;
	memcpy(k->pending + k->to, bytes, n);
	k->to += n;
	return true;
}

static int pipe_open(struct attach_pipe *k, int *read_end, struct err *e)
{
	if (fd_pipe(read_end, &k->fd, e) < 0 || fd_set_nonblocking(k->fd, e) < 0 ||
	    fd_set_nonblocking(*read_end, e) < 0)
		return -1;
	(void)fcntl(k->fd, F_SETPIPE_SZ, PIPE_BYTES); /* the more, the later a client counts as too slow */
	return 0;
}

/* --- the end of an attach ---------------------------------------------------------------------------------- */

static void attach_free(struct pod *p, struct attach *a)
{
	struct container *c = a->container;

	for (int s = 0; s < STREAM_COUNT; s++)
		pipe_close(&a->pipes[s]);
	*a = (struct attach){ .state = ATTACH_FREE };
	if (!c)
		return;
	c->attached--;
	for (int s = 0; s < STREAM_COUNT; s++)
		container_resume(p, c, (enum stream)s);
}

static void attach_refuse(struct pod *p, struct attach *a, const struct err *why)
{
	struct conn *conn = a->conn;

	attach_free(p, a); /* before the connection: it is nobody's then */
	conn_send_error(p, conn, MONITOR_OP_ATTACH, why);
	conn_close(p, conn);
}

static void attach_drop(struct pod *p, struct attach *a)
{
	struct err why;

	(void)err_set(&why, ERR_EXHAUSTED, "the output of container %s came faster than it was read", a->container
		      ? a->container->id : a->id);
	attach_refuse(p, a, &why);
}

static void attach_end_if_empty(struct pod *p, struct attach *a)
{
	struct conn *conn = a->conn;
	char space[REPLY_BYTES];
	struct message_writer w;
	int code = a->code;

	if (is_pending(&a->pipes[STREAM_OUT]) || is_pending(&a->pipes[STREAM_ERR]))
		return;
	attach_free(p, a);
	message_begin(&w, space, sizeof(space), MONITOR_OP_ATTACH, MESSAGE_ANSWER);
	message_add_number(&w, TAG_EXIT_CODE, (uint64_t)code);
	conn_send(p, conn, &w, NULL, 0);
	conn_close(p, conn);
}

void attach_container_ended(struct pod *p, struct container *c)
{
	for (size_t i = 0; i < p->attaches_top; i++) {
		struct attach *a = &p->attaches[i];

		if (a->state != ATTACH_OPEN || a->container != c)
			continue;
		a->state = ATTACH_ENDING;
		a->container = NULL;
		a->code = c->exit.code;
		memcpy(a->id, c->id, sizeof(a->id));
		attach_end_if_empty(p, a);
	}
	c->attached = 0;
}

void attach_client_gone(struct pod *p, struct attach *a)
{
	attach_free(p, a);
}

/* --- output -------------------------------------------------------------------------------------------------- */

static void feed_one(struct pod *p, struct attach *a, enum stream s, struct str bytes)
{
	struct attach_pipe *k = &a->pipes[s];
	size_t done = is_pending(k) ? 0 : pipe_push(k, bytes.p, bytes.len);

	if (done == bytes.len)
		return;
	if (!(a->flags & SESSION_PACED) || !pending_add(p, a, s, bytes.p + done, bytes.len - done))
		attach_drop(p, a);
}

void attach_feed(struct pod *p, struct container *c, enum stream s, struct str bytes)
{
	for (size_t i = 0; i < p->attaches_top; i++) {
		struct attach *a = &p->attaches[i];

		if (a->state == ATTACH_OPEN && a->container == c && a->pipes[s].fd >= 0)
			feed_one(p, a, s, bytes);
	}
}

bool attach_holds(const struct pod *p, const struct container *c, enum stream s)
{
	for (size_t i = 0; i < p->attaches_top; i++)
		if (p->attaches[i].state == ATTACH_OPEN && p->attaches[i].container == c &&
		    is_pending(&p->attaches[i].pipes[s]))
			return true;
	return false;
}

void attach_writable(struct pod *p, struct attach *a, enum stream s)
{
	struct attach_pipe *k = &a->pipes[s];
	size_t took;

	if (a->state == ATTACH_FREE || k->fd < 0 || !is_pending(k))
		return; /* of an event read before it was freed */
	took = pipe_push(k, k->pending + k->from, k->to - k->from);
	k->from += took;
	if (k->fd >= 0 && is_pending(k))
		return;
	if (k->fd >= 0)
		loop_unwatch(p, k->fd);
	pending_free(k);
	if (a->state == ATTACH_ENDING)
		attach_end_if_empty(p, a);
	else
		container_resume(p, a->container, s);
}

/* --- its beginning --------------------------------------------------------------------------------------------- */

/* The ends that the client gets: lent but for those made here. */
struct client_ends {
	int read[STREAM_COUNT];
	int in, tty;
};

static void client_ends_close(struct client_ends *x)
{
	for (int s = 0; s < STREAM_COUNT; s++)
		fd_close(&x->read[s]);
}

static int ends_open(struct attach *a, struct client_ends *x, struct err *e)
{
	static const unsigned wish[] = { SESSION_OUT, SESSION_ERR };
	const struct container *c = a->container;

	for (int s = 0; s < STREAM_COUNT; s++) {
		if (!(a->flags & wish[s]) || (s == STREAM_ERR && c->tty))
			continue;
		if (pipe_open(&a->pipes[s], &x->read[s], e) < 0)
			return -1;
		if (c->streams[s] < 0) /* the container has closed it: so its end is there at once */
			pipe_close(&a->pipes[s]);
	}
	x->tty = c->tty ? c->streams[STREAM_OUT] : -1;
	if (a->flags & SESSION_IN)
		x->in = c->tty ? x->tty : c->stdin_end;
	return 0;
}

static void fd_field(struct message_writer *w, int *fds, size_t *n, unsigned tag, int fd)
{
	if (fd < 0)
		return;
	message_add_number(w, tag, *n);
	fds[(*n)++] = fd;
}

/* The client has its fds. What follows on the connection is the end alone. */
static int attach_open(struct pod *p, struct attach *a, struct container *c, struct err *e)
{
	AUTO(client_ends_close) struct client_ends x = { { -1, -1 }, -1, -1 };
	char space[REPLY_BYTES];
	struct message_writer w;
	size_t n = 0;
	int fds[4];

	a->state = ATTACH_OPEN;
	a->container = c;
	c->attached++;
	if (ends_open(a, &x, e) < 0)
		return -1;
	message_begin(&w, space, sizeof(space), MONITOR_OP_ATTACH, MESSAGE_ANSWER | MESSAGE_MORE);
	fd_field(&w, fds, &n, TAG_SESSION_IN_FD, x.in);
	fd_field(&w, fds, &n, TAG_SESSION_OUT_FD, x.read[STREAM_OUT]);
	fd_field(&w, fds, &n, TAG_SESSION_ERR_FD, x.read[STREAM_ERR]);
	fd_field(&w, fds, &n, TAG_SESSION_TTY_FD, x.tty);
	/* A client that has gone takes the attach with it. */
	if (conn_tell(p, a->conn, &w, fds, n) && x.in >= 0 && !c->tty && c->stdin_once)
		fd_close(&c->stdin_end); /* it is the client's now: its end is the container's end of file */
	return 0;
}

void attach_started(struct pod *p, struct container *c)
{
	for (size_t i = 0; i < p->attaches_top; i++) {
		struct attach *a = &p->attaches[i];
		struct err e;

		if (a->state == ATTACH_EARLY && streq(a->id, c->id) && attach_open(p, a, c, &e) < 0)
			attach_refuse(p, a, &e);
	}
}

void attach_failed(struct pod *p, const char *container_id)
{
	struct err why;

	(void)err_set(&why, ERR_STATE, "container %s could not be started", container_id);
	for (size_t i = 0; i < p->attaches_top; i++)
		if (p->attaches[i].state == ATTACH_EARLY && streq(p->attaches[i].id, container_id))
			attach_refuse(p, &p->attaches[i], &why);
}

static struct attach *attach_new(struct pod *p, struct request *r, struct err *e)
{
	for (size_t i = 0; i < ATTACHES_MAX; i++) {
		struct attach *a = &p->attaches[i];

		if (i < p->attaches_top && a->state != ATTACH_FREE)
			continue;
		p->attaches_top = MAX(p->attaches_top, i + 1);
		*a = (struct attach){ .conn = r->conn, .pipes = { { .fd = -1 }, { .fd = -1 } },
				      .flags = (unsigned)message_number(&r->m, TAG_FLAGS, 0) };
		return a;
	}
	err_set(e, ERR_EXHAUSTED, "pod %s has %d attached clients already", p->id, ATTACHES_MAX);
	return NULL;
}

static int attach_early(struct pod *p, struct request *r, struct attach *a, const char *id, struct err *e)
{
	if (container_id_check(id, e) < 0)
		return -1;
	a->state = ATTACH_EARLY;
	memcpy(a->id, id, strlen(id) + 1); /* as long as the check allows */
	message_begin(&r->answer, r->answer.p, r->answer.max, MONITOR_OP_ATTACH, MESSAGE_ANSWER | MESSAGE_MORE);
	(void)conn_tell(p, r->conn, &r->answer, NULL, 0);
	return REQUEST_WAITS;
}

int attach_begin(struct pod *p, struct request *r, struct err *e)
{
	struct occasion o = { 0 };
	struct container *c;
	struct attach *a;
	const char *id;

	if (message_need_text(&r->m, TAG_CONTAINER_ID, "container id", &id, e) < 0)
		return -1;
	c = container_find(p, id);
	if (!c && !(message_number(&r->m, TAG_FLAGS, 0) & SESSION_EARLY))
		return err_set(e, ERR_NOT_FOUND, "no container %s in pod %s", id, p->id);
	if (c && container_event(p, c, ON_EXEC, &o, e) < 0)
		return -1;
	a = attach_new(p, r, e);
	if (!a)
		return -1;
	if (!c)
		return attach_early(p, r, a, id, e);
	if (attach_open(p, a, c, e) < 0) {
		attach_free(p, a);
		return -1;
	}
	return REQUEST_WAITS;
}
