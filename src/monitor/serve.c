#include "monitor/client.h"
#include "monitor/state.h"

#include "base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SUBSCRIBER_BUFFER_BYTES = 1 << 20, REPLY_BYTES = 4096 };

/* --- connections -------------------------------------------------------------------------------------- */

static size_t conn_index(const struct pod *p, const struct conn *c)
{
	return (size_t)(c - p->conns);
}

void conn_close(struct pod *p, struct conn *c)
{
	if (c->fd < 0)
		return;
	fd_close(&c->fd);
	c->subscriber = false;
	if (p->shutdown_conn == c)
		p->shutdown_conn = NULL;
	if (!c->waits)
		return;
	c->waits = false;
	for (size_t i = 0; i < p->execs_top; i++)
		if (p->execs[i].state != EXEC_FREE && p->execs[i].conn == c)
			exec_event(p, &p->execs[i], EXEC_ON_CLIENT_GONE, 0);
	for (size_t i = 0; i < p->containers_top; i++)
		if (p->containers[i].starter == c)
			p->containers[i].starter = NULL;
	commands_forget_conn(p, c);
	for (size_t i = 0; i < p->attaches_top; i++)
		if (p->attaches[i].state != ATTACH_FREE && p->attaches[i].conn == c)
			attach_client_gone(p, &p->attaches[i]);
}

/* While a request waits for its answer only the end of the connection is of interest. */
static void conn_waits(struct pod *p, struct conn *c, bool waits)
{
	if (c->waits == waits)
		return;
	c->waits = waits;
	loop_watch_change(p, c->fd, waits ? EPOLLRDHUP : EPOLLIN | EPOLLRDHUP, SOURCE_CONN, conn_index(p, c),
			  STREAM_OUT);
}

bool conn_tell(struct pod *p, struct conn *c, struct message_writer *w, const int *fds, size_t nfds)
{
	struct str packet;
	struct err e;

	if (c->fd < 0)
		return false;
	if (message_finish(w, &packet, &e) < 0) {
		char space[REPLY_BYTES];
		struct message_writer sorry;

		message_write_error(&sorry, space, sizeof(space), MONITOR_OP_HELLO, &e);
		BUG_ON(message_finish(&sorry, &packet, &e) < 0);
		(void)fd_send_msg(c->fd, packet.p, packet.len, NULL, 0, &e);
		conn_close(p, c);
		return false;
	}
	if (fd_send_msg(c->fd, packet.p, packet.len, fds, nfds, &e) < 0) {
		conn_close(p, c); /* gone, or does not read: it can ask again */
		return false;
	}
	return true;
}

void conn_send(struct pod *p, struct conn *c, struct message_writer *w, const int *fds, size_t nfds)
{
	if (conn_tell(p, c, w, fds, nfds))
		conn_waits(p, c, false);
}

void conn_send_error(struct pod *p, struct conn *c, unsigned op, const struct err *error)
{
	char space[REPLY_BYTES];
	struct message_writer w;

	message_write_error(&w, space, sizeof(space), op, error);
	conn_send(p, c, &w, NULL, 0);
}

int serve_adopt(struct pod *p, int fd, struct err *e)
{
	for (size_t i = 0; i < CONNS_MAX; i++) {
		if (i < p->conns_top && p->conns[i].fd >= 0)
			continue;
		if (loop_watch(p, fd, EPOLLIN | EPOLLRDHUP, SOURCE_CONN, i, STREAM_OUT, e) < 0)
			return -1;
		p->conns[i] = (struct conn){ .fd = fd };
		p->conns_top = MAX(p->conns_top, i + 1);
		return 0;
	}
	return err_set(e, ERR_EXHAUSTED, "%d connections already", CONNS_MAX);
}

static bool peer_is_root(int fd)
{
	struct ucred peer;
	socklen_t n = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0 && peer.uid == 0;
}

void serve_accept(struct pod *p)
{
	auto_fd int fd = accept4(p->listen, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct err ignored;

	if (fd < 0 || !peer_is_root(fd))
		return; /* closed: the peer sees the end of the connection */
	if (serve_adopt(p, fd, &ignored) == 0)
		(void)fd_take(&fd);
}

/* --- requests ----------------------------------------------------------------------------------------- */

int request_take_fd(struct request *r, uint64_t index, int *out, struct err *e)
{
	if (index >= r->nfds || r->fds[index] < 0)
		return err_set(e, ERR_INVALID, "%s names a file descriptor that did not come",
			       monitor_op_name(r->m.op));
	*out = fd_take(&r->fds[index]);
	return 0;
}

int request_need_fd(struct request *r, unsigned tag, const char *name, int *out, struct err *e)
{
	uint64_t index = message_number(&r->m, tag, UINT64_MAX);

	if (index == UINT64_MAX)
		return err_set(e, ERR_INVALID, "%s without the fd of its %s", monitor_op_name(r->m.op),
			       name);
	return request_take_fd(r, index, out, e);
}

void answer_fd(struct request *r, unsigned tag, int fd)
{
	BUG_ON(r->answer_nfds == ARRAY_SIZE(r->answer_fds));
	if (fd < 0)
		return;
	message_add_number(&r->answer, tag, r->answer_nfds);
	r->answer_fds[r->answer_nfds++] = fd;
}

void container_describe(struct message_writer *w, const struct container *c)
{
	message_add_text(w, TAG_CONTAINER_ID, c->id);
	message_add_number(w, TAG_STATE, c->state == CONTAINER_EXITED ? MONITOR_EXITED : MONITOR_RUNNING);
	message_add_number(w, TAG_PID, (uint64_t)c->pid);
	message_add_number(w, TAG_START_TICKS, c->start_ticks);
	message_add_number(w, TAG_STARTED_NS, (uint64_t)c->exit.started_wall_ns);
	if (c->state != CONTAINER_EXITED)
		return;
	message_add_number(w, TAG_FINISHED_NS, (uint64_t)c->exit.finished_wall_ns);
	message_add_number(w, TAG_EXIT_CODE, (uint64_t)c->exit.code);
	message_add_number(w, TAG_EXIT_SIGNAL, (uint64_t)c->exit.signal);
	message_add_number(w, TAG_OOM_KILLED, c->exit.oom_killed);
}

static void send_container(struct pod *p, struct conn *conn, unsigned op, unsigned flags,
			   const struct container *c)
{
	char space[REPLY_BYTES];
	struct message_writer w;

	message_begin(&w, space, sizeof(space), op, flags);
	container_describe(&w, c);
	conn_send(p, conn, &w, NULL, 0);
}

void serve_tell_exit(struct pod *p, const struct container *c)
{
	for (size_t i = 0; i < p->conns_top; i++)
		if (p->conns[i].fd >= 0 && p->conns[i].subscriber)
			send_container(p, &p->conns[i], MONITOR_OP_EVENT, 0, c);
}

static int op_hello(struct pod *p, struct request *r, UNUSED struct err *e)
{
	uint64_t ticks = 0;
	struct err ignored;

	(void)proc_start_time(getpid(), &ticks, &ignored); /* 0: the client looks itself */
	message_add_number(&r->answer, TAG_PROTOCOL_LEAST, 1);
	message_add_number(&r->answer, TAG_PROTOCOL_MOST, MESSAGE_VERSION);
	message_add_text(&r->answer, TAG_VERSION_TEXT, KNARR_VERSION);
	message_add_text(&r->answer, TAG_POD_ID, p->id);
	message_add_number(&r->answer, TAG_PID, (uint64_t)getpid());
	message_add_number(&r->answer, TAG_START_TICKS, ticks);
	message_add_number(&r->answer, TAG_INIT_PID, (uint64_t)p->init_pid);
	message_add_number(&r->answer, TAG_NAMESPACES, p->namespaces);
	return 0;
}

static int op_sysctls(struct pod *p, struct request *r, struct err *e)
{
	return setup_sysctls(p, &r->m, e);
}

/* Finds the container that the request names. */
static int request_container(struct pod *p, struct request *r, struct container **out, struct err *e)
{
	const char *id;

	if (message_need_text(&r->m, TAG_CONTAINER_ID, "container id", &id, e) < 0)
		return -1;
	*out = container_find(p, id);
	return *out ? 0 : err_set(e, ERR_NOT_FOUND, "no container %s in pod %s", id, p->id);
}

static int op_kill(struct pod *p, struct request *r, struct err *e)
{
	struct occasion o = {
		.signal = (int)MIN(message_number(&r->m, TAG_SIGNAL, 0), UINT64_C(1000)),
		.kill_all = message_number(&r->m, TAG_KILL_WHAT, 0) == MONITOR_KILL_ALL,
		.conn = r->conn,
	};
	struct container *c;

	return request_container(p, r, &c, e) < 0 ? -1 : container_event(p, c, ON_KILL, &o, e);
}

static int op_reopen(struct pod *p, struct request *r, struct err *e)
{
	struct occasion o = { .log_fd = -1 };
	struct container *c;
	int rc;

	if (request_container(p, r, &c, e) < 0 ||
	    request_need_fd(r, TAG_LOG_FD, "log", &o.log_fd, e) < 0)
		return -1;
	rc = container_event(p, c, ON_REOPEN, &o, e);
	fd_close(&o.log_fd);
	return rc;
}

static int op_forget(struct pod *p, struct request *r, struct err *e)
{
	struct occasion o = { 0 };
	struct container *c;

	return request_container(p, r, &c, e) < 0 ? -1 : container_event(p, c, ON_FORGET, &o, e);
}

/* Many messages may wait unread in the socket: room for them. */
static void conn_grow(struct conn *c)
{
	int bytes = SUBSCRIBER_BUFFER_BYTES;

	(void)setsockopt(c->fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)); /* helps, is not needed */
}

static int op_list(struct pod *p, struct request *r, UNUSED struct err *e)
{
	conn_grow(r->conn);
	for (size_t i = 0; i < p->containers_top; i++)
		if (p->containers[i].state != CONTAINER_FREE)
			send_container(p, r->conn, MONITOR_OP_LIST, MESSAGE_ANSWER | MESSAGE_MORE,
				       &p->containers[i]);
	return 0;
}

static int op_subscribe(struct pod *p, struct request *r, UNUSED struct err *e)
{
	struct conn *conn = r->conn;

	conn_grow(conn);
	conn_send(p, conn, &r->answer, NULL, 0);
	conn->subscriber = conn->fd >= 0;
	for (size_t i = 0; i < p->containers_top; i++)
		if (p->containers[i].state == CONTAINER_EXITED)
			send_container(p, conn, MONITOR_OP_EVENT, 0, &p->containers[i]);
	return REQUEST_WAITS; /* answered above, before the events */
}

static int op_shutdown(struct pod *p, struct request *r, UNUSED struct err *e)
{
	if (p->shutdown_conn)
		return err_set(e, ERR_STATE, "pod %s is shut down already", p->id);
	p->state = POD_ENDING;
	p->shutdown_conn = r->conn;
	p->shutdown_deadline_ns = clock_mono_ns() + KILL_PATIENCE_NS;
	containers_kill_all(p);
	execs_kill_all(p);
	if (!containers_alive(p))
		p->shutdown_deadline_ns = 1; /* done at the end of this round of the loop */
	return REQUEST_WAITS;
}

/* They belong for good to the network namespace that they are made in: whoever gets them connects, and no one
 * enters the pod's namespace for it. */
static int op_sockets(UNUSED struct pod *p, struct request *r, struct err *e)
{
	static const struct {
		int family;
		unsigned tag;
	} all[] = { { AF_INET, TAG_INET_FD }, { AF_INET6, TAG_INET6_FD } };

	BUG_ON(r->nfds > FD_PASS_MAX - ARRAY_SIZE(all));
	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		int fd = socket(all[i].family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

		if (fd < 0 && errno == EAFNOSUPPORT)
			continue;
		if (fd < 0)
			return err_sys(e, errno, "make a socket");
		r->fds[r->nfds++] = fd; /* closed with the request */
		answer_fd(r, all[i].tag, fd);
	}
	return 0;
}

static void init_end(struct pod *p)
{
	if (p->init_pid <= 0)
		return;
	(void)kill(p->init_pid, SIGKILL); /* our child, not reaped yet: the id is its */
	(void)waitpid(p->init_pid, NULL, 0);
	p->init_pid = 0;
}

void serve_shutdown_done(struct pod *p)
{
	struct conn *conn = p->shutdown_conn;
	char space[REPLY_BYTES];
	struct message_writer w;
	struct err e;

	p->shutdown_deadline_ns = 0;
	p->shutdown_conn = NULL;
	if (containers_alive(p)) {
		err_set(&e, ERR_TIMEOUT, "%zu containers of pod %s do not die", containers_alive(p), p->id);
		if (conn)
			conn_send_error(p, conn, MONITOR_OP_SHUTDOWN, &e);
		return;
	}
	init_end(p);
	p->quit = true;
	if (!conn)
		return;
	message_begin(&w, space, sizeof(space), MONITOR_OP_SHUTDOWN, MESSAGE_ANSWER);
	conn_send(p, conn, &w, NULL, 0);
}

/* --- who may ask what, when ----------------------------------------------------------------------------- */

struct op {
	int (*handler)(struct pod *p, struct request *r, struct err *e);
	unsigned states; /* of the pod */
};

static const struct op ops[MONITOR_OP_COUNT] = {
	[MONITOR_OP_HELLO] = { op_hello, BIT(POD_UP) | BIT(POD_ENDING) },
	[MONITOR_OP_SETUP] = { setup_pod, BIT(POD_BORN) },
	[MONITOR_OP_SYSCTLS] = { op_sysctls, BIT(POD_UP) },
	[MONITOR_OP_START] = { container_begin, BIT(POD_UP) },
	[MONITOR_OP_KILL] = { op_kill, BIT(POD_UP) | BIT(POD_ENDING) },
	[MONITOR_OP_REOPEN_LOG] = { op_reopen, BIT(POD_UP) | BIT(POD_ENDING) },
	[MONITOR_OP_LIST] = { op_list, BIT(POD_UP) | BIT(POD_ENDING) },
	[MONITOR_OP_FORGET] = { op_forget, BIT(POD_UP) | BIT(POD_ENDING) },
	[MONITOR_OP_EXEC_SYNC] = { exec_start, BIT(POD_UP) },
	[MONITOR_OP_EXEC_STREAM] = { exec_session, BIT(POD_UP) },
	[MONITOR_OP_ATTACH] = { attach_begin, BIT(POD_UP) },
	[MONITOR_OP_SOCKETS] = { op_sockets, BIT(POD_UP) },
	[MONITOR_OP_SUBSCRIBE] = { op_subscribe, BIT(POD_UP) | BIT(POD_ENDING) },
	[MONITOR_OP_SHUTDOWN] = { op_shutdown, BIT(POD_UP) | BIT(POD_ENDING) },
};

static int request_run(struct pod *p, struct request *r, struct err *e)
{
	static const char *const state_name[] = { "not set up", "up", "ending" };

	if (r->m.op >= MONITOR_OP_COUNT || !ops[r->m.op].handler)
		return err_set(e, ERR_UNIMPLEMENTED, "knarr-pod %s cannot %s (%u)", KNARR_VERSION,
			       monitor_op_name(r->m.op), r->m.op);
	if (!(ops[r->m.op].states & BIT(p->state)))
		return err_set(e, ERR_STATE, "pod %s is %s: no %s now", p->id, state_name[p->state],
			       monitor_op_name(r->m.op));
	return ops[r->m.op].handler(p, r, e);
}

/* The fields that came in a memfd, mapped. */
static int body_map(struct request *r, struct str *body, struct err *e)
{
	auto_fd int fd = -1;
	struct stat st;
	void *at;

	if (request_take_fd(r, 0, &fd, e) < 0)
		return -1;
	if (fstat(fd, &st) < 0 || st.st_size <= 0 || st.st_size > MESSAGE_BODY_MAX)
		return err_set(e, ERR_INVALID, "%s with a body of %lld bytes", monitor_op_name(r->m.op),
			       (long long)st.st_size);
	/* A seal keeps the file from shrinking under us. */
	if (fcntl(fd, F_GET_SEALS) < 0 || !(fcntl(fd, F_GET_SEALS) & F_SEAL_SHRINK))
		return err_set(e, ERR_INVALID, "%s with a body that is not sealed", monitor_op_name(r->m.op));
	at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (at == MAP_FAILED)
		return err_sys(e, errno, "map the body of %s", monitor_op_name(r->m.op));
	*body = (struct str){ at, (size_t)st.st_size };
	return message_parse_body(*body, &r->m, e);
}

static int request_with_body(struct pod *p, struct request *r, struct err *e)
{
	struct str body = { NULL, 0 };
	int rc;

	if (!(r->m.flags & MESSAGE_BODY_IN_FD))
		return request_run(p, r, e);
	rc = body_map(r, &body, e);
	if (rc == 0)
		rc = request_run(p, r, e);
	if (body.p)
		(void)munmap((void *)body.p, body.len);
	return rc;
}

static void request_serve(struct pod *p, struct request *r)
{
	char space[REPLY_BYTES];
	struct err e;
	int rc;

	message_begin(&r->answer, space, sizeof(space), r->m.op, MESSAGE_ANSWER);
	conn_waits(p, r->conn, true);
	rc = request_with_body(p, r, &e);
	if (rc < 0)
		conn_send_error(p, r->conn, r->m.op, &e);
	else if (rc == 0)
		conn_send(p, r->conn, &r->answer, r->answer_fds, r->answer_nfds);
}

void serve_readable(struct pod *p, struct conn *c)
{
	struct request r = { .conn = c, .nfds = FD_PASS_MAX };
	struct err e;
	ssize_t n;

	if (c->fd < 0)
		return; /* of an event read before it was closed */
	if (c->waits) {
		conn_close(p, c); /* only its end is watched */
		return;
	}
	n = fd_recv_msg(c->fd, p->packet, MESSAGE_MAX, r.fds, &r.nfds, &e);
	if (n < 0 && e.sys == EAGAIN)
		return;
	if (n <= 0) {
		conn_close(p, c);
		return;
	}
	if (message_parse((struct str){ p->packet, (size_t)n }, &r.m, &e) < 0) {
		conn_send_error(p, c, MONITOR_OP_HELLO, &e);
		conn_close(p, c);
	} else {
		request_serve(p, &r);
	}
	for (size_t i = 0; i < r.nfds; i++)
		fd_close(&r.fds[i]);
}
