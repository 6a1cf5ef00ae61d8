#include "daemon/server.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "daemon/job.h"
#include "daemon/pool.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	EVENTS = 64,
	IO_BYTES = 64 * 1024,
	CONNECTIONS_MAX = 1000,
	REQUEST_BYTES_MAX = 256 * 1024 * 1024, /* of all requests under way */
	WAITING_FRAMES = 1000,  /* of a connection: above it is not read until it reads */
	PARKED_MAX = 2000,      /* calls that wait for readiness */
	QUEUED_MAX = 4000,
	RESERVED_WORKERS = 8,
	CANCELLED_WAIT_S = 3,   /* for calls that were cancelled at the end */
	ACCEPT_PAUSE_MS = 100,
};

/* What epoll's events point to. */
struct source {
	void (*ready)(struct server *s, struct source *src, uint32_t events);
};

struct listener {
	struct source source;
	int fd;
	struct server_socket socket;
	dev_t dev; /* of the socket's file, to remove no one else's */
	ino_t ino;
};

struct conn {
	struct source source;
	struct list link;
	struct list dirty; /* on the server's list while it may have something to send */
	struct server *server;
	int fd;
	enum rpc_owner owner;
	struct grpc_server *h2;
	struct list jobs;
	struct buf unsent;
	uint32_t watched; /* epoll's events */
	bool closing;     /* once what can be sent is sent */
	bool dead;        /* freed at the end of the round */
};

struct server {
	struct server_settings settings;
	int epoll_fd, signal_fd;
	struct source signals, mail;
	struct listener *listeners;
	size_t nlisteners;
	int64_t accept_again_ns;  /* 0: accepting */
	struct mailbox mailbox;
	struct grpc_memory memory;
	struct pool *lane, *workers;
	struct list conns, dirty, parked;
	size_t nconns, nparked, njobs;
	int64_t idle_since_ns;
	bool is_ready, stopping, cancelled;
	int64_t stop_until_ns;
	/* under the mailbox's lock */
	struct {
		bool ready, end, failed;
		void *app;
		struct err why;
	} said;
	void *app;
	char in[IO_BYTES], out[IO_BYTES];
};

/* --- epoll ----------------------------------------------------------------------------------------- */

static int watch(struct server *s, int op, int fd, uint32_t events, struct source *src, struct err *e)
{
	struct epoll_event ev = { .events = events, .data.ptr = src };

	if (epoll_ctl(s->epoll_fd, op, fd, &ev) < 0)
		return err_sys(e, errno, "epoll_ctl");
	return 0;
}

/* Before each close: a child that is just being spawned still has a copy of the fd, and while it has, epoll would
 * go on telling of what is freed here. */
static void unwatch(struct server *s, int fd)
{
	(void)epoll_ctl(s->epoll_fd, EPOLL_CTL_DEL, fd, NULL); /* not watched is fine */
}

static void conn_mark_dirty(struct conn *c)
{
	if (list_is_empty(&c->dirty))
		list_add(&c->server->dirty, &c->dirty);
}

/* --- jobs ------------------------------------------------------------------------------------------ */

static void job_drop(struct server *s, struct job *j)
{
	grpc_memory_release(&s->memory, j->charged_bytes);
	s->njobs--;
	job_free(j);
}

static void job_refuse(struct server *s, struct job *j, const struct err *why)
{
	struct conn *c = j->conn;

	if (c) {
		grpc_server_finish(c->h2, j->stream, why);
		conn_mark_dirty(c);
	}
	job_drop(s, j);
}

static void job_start(struct server *s, struct job *j)
{
	struct pool *pool = j->ctx.method->flags & RPC_RESERVED_LANE ? s->lane : s->workers;
	struct err e;

	j->ctx.app = s->app;
	if (pool_submit(pool, &j->pool_job, &e) < 0) {
		log_warn("%s refused: %s", j->ctx.method->path, e.msg);
		job_refuse(s, j, &e);
	}
}

static void job_park(struct server *s, struct job *j)
{
	struct err e;

	if (s->nparked >= PARKED_MAX) {
		(void)err_set(&e, ERR_UNAVAILABLE, "knarrd is recovering its pods; ask again in a moment");
		job_refuse(s, j, &e);
		return;
	}
	j->waits_until_ns = clock_mono_ns() + s->settings.ready_wait_ns;
	if (j->call.deadline_ns && j->call.deadline_ns < j->waits_until_ns)
		j->waits_until_ns = j->call.deadline_ns;
	list_del(&j->link);
	list_add(&s->parked, &j->link);
	s->nparked++;
}

static void job_unpark(struct server *s, struct job *j)
{
	struct conn *c = j->conn;

	list_del(&j->link);
	list_add(&c->jobs, &j->link);
	s->nparked--;
	j->waits_until_ns = 0;
}

static void parked_expire(struct server *s, int64_t now)
{
	struct err e;

	list_for_each_safe(j, &s->parked, struct job, link) {
		if (j->waits_until_ns > now && !s->stopping)
			continue;
		(void)err_set(&e, ERR_UNAVAILABLE, s->stopping ? "knarrd is stopping" :
			      "knarrd is recovering its pods; ask again in a moment");
		job_unpark(s, j);
		job_refuse(s, j, &e);
	}
}

static void becomes_ready(struct server *s, void *app)
{
	s->is_ready = true;
	s->app = app;
	list_for_each_safe(j, &s->parked, struct job, link) {
		job_unpark(s, j);
		job_start(s, j);
	}
}

/* --- what a connection's session calls --------------------------------------------------------------- */

static const struct rpc_method *on_find(void *ctx, struct str path)
{
	struct conn *c = ctx;

	for (const struct rpc_method *const *t = c->server->settings.methods; *t; t++) {
		const struct rpc_method *m = rpc_find(*t, path);

		if (m)
			return m;
	}
	return NULL;
}

static void on_request(void *ctx, struct grpc_request *r)
{
	struct conn *c = ctx;
	struct server *s = c->server;
	struct job *j = job_new(&s->mailbox, r, c->owner);
	struct err e;

	j->conn = c;
	list_add(&c->jobs, &j->link);
	s->njobs++;
	if (s->stopping) {
		(void)err_set(&e, ERR_UNAVAILABLE, "knarrd is stopping");
		job_refuse(s, j, &e);
	} else if (!s->is_ready && !(r->method->flags & RPC_ANYTIME)) {
		job_park(s, j);
	} else {
		job_start(s, j);
	}
}

static struct job *job_of(struct conn *c, int32_t stream)
{
	list_for_each(j, &c->jobs, struct job, link)
		if (j->stream == stream)
			return j;
	list_for_each(j, &c->server->parked, struct job, link)
		if (j->conn == c && j->stream == stream)
			return j;
	return NULL;
}

static void on_cancelled(void *ctx, int32_t stream)
{
	struct conn *c = ctx;
	struct job *j = job_of(c, stream);

	if (!j)
		return;
	j->conn = NULL;
	list_del(&j->link);
	if (j->waits_until_ns) {
		c->server->nparked--;
		job_drop(c->server, j);
		return;
	}
	call_cancel(&j->call);
}

static void on_drained(void *ctx, int32_t stream)
{
	struct job *j = job_of(ctx, stream);

	if (j)
		job_unsent(j, GRPC_UNSENT_LOW);
}

static const struct grpc_server_events session_events = { on_find, on_request, on_cancelled, on_drained };

/* --- connections ------------------------------------------------------------------------------------- */

static void conn_kill(struct conn *c)
{
	c->dead = true;
	conn_mark_dirty(c);
}

static void conn_free(struct conn *c)
{
	struct server *s = c->server;

	grpc_server_free(c->h2); /* cancels its jobs */
	BUG_ON(!list_is_empty(&c->jobs));
	unwatch(s, c->fd);
	fd_close(&c->fd);
	buf_free(&c->unsent);
	list_del(&c->link);
	list_del(&c->dirty);
	s->nconns--;
	s->idle_since_ns = clock_mono_ns();
	mem_free(c);
}

/* One send; false: the socket is full or gone. */
static bool conn_send(struct conn *c)
{
	struct server *s = c->server;
	const char *p = c->unsent.len ? c->unsent.p : s->out;
	size_t n = c->unsent.len;
	struct err e;
	ssize_t sent;

	if (!n)
		n = grpc_server_output(c->h2, s->out, IO_BYTES);
	if (!n)
		return false;
	sent = send(c->fd, p, n, MSG_NOSIGNAL);
	if (sent < 0 && errno != EAGAIN && errno != EINTR) {
		c->dead = true;
		return false;
	}
	sent = MAX(sent, 0);
	if (p != s->out)
		buf_consume(&c->unsent, (size_t)sent);
	else if ((size_t)sent < n && buf_add(&c->unsent, p + sent, n - (size_t)sent, &e) < 0)
		BUG("an emptied buffer has no room");
	if (!c->unsent.len)
		buf_free(&c->unsent);
	return (size_t)sent == n;
}

static void conn_flush(struct conn *c)
{
	uint32_t events = EPOLLIN;
	struct err e;

	while (!c->dead && conn_send(c))
		;
	if (c->closing || (!c->unsent.len && grpc_server_is_done(c->h2)))
		c->dead = true;
	if (c->dead) {
		conn_free(c);
		return;
	}
	if (c->unsent.len)
		events = grpc_server_waiting_frames(c->h2) > WAITING_FRAMES ? EPOLLOUT : EPOLLIN | EPOLLOUT;
	if (events == c->watched)
		return;
	c->watched = events;
	if (watch(c->server, EPOLL_CTL_MOD, c->fd, events, &c->source, &e) < 0)
		BUG("a connection is not watched");
}

static void conn_ready(struct server *s, struct source *src, uint32_t events)
{
	struct conn *c = container_of(src, struct conn, source);
	struct err e;
	ssize_t n;

	conn_mark_dirty(c);
	if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)) || c->dead)
		return;
	n = recv(c->fd, s->in, IO_BYTES, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		conn_kill(c);
		return;
	}
	if (grpc_server_input(c->h2, s->in, (size_t)n, &e) < 0) {
		log_warn("a client's connection is closed: %s", e.msg);
		c->closing = true;
	}
}

static void conn_new(struct server *s, int fd, enum rpc_owner owner)
{
	struct conn *c = mem_new0(struct conn);
	struct err e;

	*c = (struct conn){ .source.ready = conn_ready, .server = s, .fd = fd, .owner = owner,
			    .unsent = BUF(IO_BYTES), .watched = EPOLLIN };
	list_init(&c->jobs);
	list_init(&c->dirty);
	list_add(&s->conns, &c->link);
	s->nconns++;
	c->h2 = grpc_server_new(&session_events, c, &s->memory);
	if (watch(s, EPOLL_CTL_ADD, fd, EPOLLIN, &c->source, &e) < 0) {
		log_warn("a client's connection is closed: %s", e.msg);
		c->dead = true;
	}
	conn_mark_dirty(c); /* our SETTINGS */
}

/* --- listening --------------------------------------------------------------------------------------- */

/* Out of fds or connections: the rest waits in the kernel's queue. */
static void accept_pause(struct server *s, const char *why)
{
	struct err e;

	log_warn("no connections are taken for a moment: %s", why);
	for (size_t i = 0; i < s->nlisteners; i++)
		(void)watch(s, EPOLL_CTL_MOD, s->listeners[i].fd, 0, &s->listeners[i].source, &e);
	s->accept_again_ns = clock_mono_ns() + ACCEPT_PAUSE_MS * NS_PER_MS;
}

static void accept_go_on(struct server *s)
{
	struct err e;

	for (size_t i = 0; i < s->nlisteners; i++)
		(void)watch(s, EPOLL_CTL_MOD, s->listeners[i].fd, EPOLLIN, &s->listeners[i].source, &e);
	s->accept_again_ns = 0;
}

static void listener_ready(struct server *s, struct source *src, UNUSED uint32_t events)
{
	struct listener *l = container_of(src, struct listener, source);
	int fd;

	if (s->nconns >= CONNECTIONS_MAX) {
		accept_pause(s, "as many as may be are open");
		return;
	}
	fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd >= 0)
		conn_new(s, fd, l->socket.owner);
	else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
		accept_pause(s, err_errno_text(errno));
}

static int listener_open(struct server *s, struct listener *l, const struct server_socket *at, struct err *e)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct stat st;

	*l = (struct listener){ .source.ready = listener_ready, .socket = *at };
	l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (l->fd < 0)
		return err_sys(e, errno, "socket");
	if (strlen(at->path) >= sizeof(address.sun_path))
		return err_set(e, ERR_INVALID, "socket path %s is longer than %zu bytes", at->path,
			       sizeof(address.sun_path) - 1);
	memcpy(address.sun_path, at->path, strlen(at->path));
	if (fs_remove_file(AT_FDCWD, at->path, e) < 0)
		return -1;
	/* Only root, from its first moment on: bind makes the file with the socket's own mode. */
	if (fchmod(l->fd, 0600) < 0 || bind(l->fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(l->fd, SOMAXCONN) < 0)
		return err_sys(e, errno, "listen on %s", at->path);
	if (stat(at->path, &st) < 0)
		return err_sys(e, errno, "%s", at->path);
	l->dev = st.st_dev;
	l->ino = st.st_ino;
	return watch(s, EPOLL_CTL_ADD, l->fd, EPOLLIN, &l->source, e);
}

static void listener_close(struct server *s, struct listener *l)
{
	struct stat st;

	if (l->fd < 0)
		return;
	if (l->ino && stat(l->socket.path, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->ino)
		(void)unlink(l->socket.path); /* a path that stays is replaced by the next knarrd */
	unwatch(s, l->fd);
	fd_close(&l->fd);
}

/* --- the end ------------------------------------------------------------------------------------------ */

static void cancel_calls(struct server *s, unsigned which)
{
	list_for_each(c, &s->conns, struct conn, link)
		list_for_each(j, &c->jobs, struct job, link)
			if (!which || (j->ctx.method->flags & which))
				call_cancel(&j->call);
}

static void begin_stop(struct server *s)
{
	if (s->stopping)
		return;
	s->stopping = true;
	s->stop_until_ns = clock_mono_ns() + s->settings.stop_wait_ns;
	for (size_t i = 0; i < s->nlisteners; i++)
		listener_close(s, &s->listeners[i]);
	s->nlisteners = 0;
	s->accept_again_ns = 0;
	parked_expire(s, 0);
	list_for_each(c, &s->conns, struct conn, link) {
		grpc_server_shutdown(c->h2);
		conn_mark_dirty(c);
	}
	cancel_calls(s, RPC_STREAMING | RPC_WAITS);
}

static bool has_stopped(struct server *s, int64_t now)
{
	if (!s->stopping)
		return false;
	if (s->njobs == 0 && s->nconns == 0)
		return true;
	if (now < s->stop_until_ns)
		return false;
	if (s->cancelled || s->njobs == 0)
		return true; /* connections whose clients do not read */
	log_warn("calls under way are cancelled: %zu have not ended by themselves", s->njobs);
	cancel_calls(s, 0);
	s->cancelled = true;
	s->stop_until_ns = now + CANCELLED_WAIT_S * NS_PER_S;
	return false;
}

static void signals_ready(struct server *s, UNUSED struct source *src, UNUSED uint32_t events)
{
	struct signalfd_siginfo info;

	while (read(s->signal_fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGHUP) {
			log_info("SIGHUP is ignored: a new configuration takes a restart, which leaves pods running");
			continue;
		}
		log_info("stopping; pods go on signal=%u", info.ssi_signo);
		begin_stop(s);
	}
}

/* --- mail from workers -------------------------------------------------------------------------------- */

static void deliver(struct server *s, struct job *j, struct list *frames, bool done)
{
	struct conn *c = j->conn;
	size_t unsent = 0;

	list_for_each_safe(f, frames, struct frame, link) {
		if (c)
			unsent = grpc_server_message(c->h2, j->stream, &f->bytes);
		frame_free(f);
	}
	if (c)
		conn_mark_dirty(c);
	if (!done) {
		job_unsent(j, unsent);
		return;
	}
	if (s->stopping && j->status.kind == ERR_CANCELLED)
		(void)err_set(&j->status, ERR_UNAVAILABLE, "knarrd is stopping");
	if (c)
		grpc_server_finish(c->h2, j->stream, &j->status);
	job_drop(s, j);
}

static void mail_ready(struct server *s, UNUSED struct source *src, UNUSED uint32_t events)
{
	struct list frames;
	struct job *j;
	uint64_t count;
	bool done;

	(void)!read(s->mailbox.wake_fd, &count, sizeof(count)); /* first: a knock after it is kept */
	while ((j = mailbox_fetch(&s->mailbox, &frames, &done)))
		deliver(s, j, &frames, done);
	lock_acquire(&s->mailbox.lock);
	bool ready = s->said.ready, end = s->said.end;
	void *app = s->said.app;

	s->said.ready = false;
	lock_release(&s->mailbox.lock);
	if (ready && !s->stopping)
		becomes_ready(s, app);
	if (end)
		begin_stop(s);
}

void server_ready(struct server *s, void *app)
{
	LOCKED(&s->mailbox.lock);

	s->said.ready = true;
	s->said.app = app;
	mailbox_knock(&s->mailbox);
}

void server_end(struct server *s, const struct err *why)
{
	LOCKED(&s->mailbox.lock);

	s->said.end = true;
	if (why && !s->said.failed) {
		s->said.failed = true;
		s->said.why = *why;
	}
	mailbox_knock(&s->mailbox);
}

/* --- the loop ----------------------------------------------------------------------------------------- */

static int64_t sooner(int64_t a, int64_t b)
{
	return !a ? b : !b ? a : MIN(a, b);
}

static int64_t next_timer(const struct server *s)
{
	int64_t at = sooner(s->accept_again_ns, s->stopping ? s->stop_until_ns : 0);

	list_for_each(j, &s->parked, struct job, link)
		at = sooner(at, j->waits_until_ns);
	if (s->settings.idle_end_ns && !s->nconns && !s->stopping)
		at = sooner(at, s->idle_since_ns + s->settings.idle_end_ns);
	return at;
}

static int timeout_ms(const struct server *s)
{
	int64_t at = next_timer(s), left;

	if (!at)
		return -1;
	left = (at - clock_mono_ns() + NS_PER_MS - 1) / NS_PER_MS;
	return (int)MIN(MAX(left, INT64_C(0)), (int64_t)INT_MAX);
}

static void run_timers(struct server *s)
{
	int64_t now = clock_mono_ns();

	if (s->accept_again_ns && now >= s->accept_again_ns)
		accept_go_on(s);
	if (s->nparked)
		parked_expire(s, now);
	if (s->settings.idle_end_ns && !s->nconns && !s->stopping &&
	    now >= s->idle_since_ns + s->settings.idle_end_ns) {
		log_info("stopping: no client for a while");
		begin_stop(s);
	}
}

static void flush_dirty(struct server *s)
{
	while (!list_is_empty(&s->dirty)) {
		struct conn *c = container_of(s->dirty.next, struct conn, dirty);

		list_del(&c->dirty);
		conn_flush(c);
	}
}

int server_run(struct server *s, struct err *e)
{
	struct epoll_event events[EVENTS];

	s->idle_since_ns = clock_mono_ns();
	do {
		int n = epoll_wait(s->epoll_fd, events, EVENTS, timeout_ms(s));

		if (n < 0 && errno != EINTR)
			return err_sys(e, errno, "epoll_wait");
		for (int i = 0; i < n; i++) {
			struct source *src = events[i].data.ptr;

			src->ready(s, src, events[i].events);
		}
		run_timers(s);
		flush_dirty(s);
	} while (!has_stopped(s, clock_mono_ns()));

	LOCKED(&s->mailbox.lock);
	if (s->said.failed) {
		*e = s->said.why;
		return -1;
	}
	return 0;
}

static int signals_open(struct server *s, struct err *e)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	(void)pthread_sigmask(SIG_BLOCK, &set, NULL);
	s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->signal_fd < 0)
		return err_sys(e, errno, "signalfd");
	s->signals.ready = signals_ready;
	return watch(s, EPOLL_CTL_ADD, s->signal_fd, EPOLLIN, &s->signals, e);
}

static int server_open(struct server *s, struct err *e)
{
	s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (s->epoll_fd < 0)
		return err_sys(e, errno, "epoll_create1");
	if (signals_open(s, e) < 0 || mailbox_init(&s->mailbox, e) < 0)
		return -1;
	s->mail.ready = mail_ready;
	if (watch(s, EPOLL_CTL_ADD, s->mailbox.wake_fd, EPOLLIN, &s->mail, e) < 0)
		return -1;
	for (size_t i = 0; i < s->settings.nsockets; i++) {
		s->nlisteners = i + 1;
		if (listener_open(s, &s->listeners[i], &s->settings.sockets[i], e) < 0)
			return -1;
	}
	return 0;
}

int server_new(const struct server_settings *settings, struct server **out, struct err *e)
{
	struct server *s = mem_new0(struct server);

	s->settings = *settings;
	s->memory.max_bytes = REQUEST_BYTES_MAX;
	s->epoll_fd = s->signal_fd = s->mailbox.wake_fd = -1;
	list_init(&s->conns);
	list_init(&s->dirty);
	list_init(&s->parked);
	list_init(&s->mailbox.jobs);
	lock_init(&s->mailbox.lock);
	s->listeners = mem_alloc0(settings->nsockets * sizeof(*s->listeners));
	s->lane = pool_new("knarrd-lane", RESERVED_WORKERS, QUEUED_MAX);
	s->workers = pool_new("knarrd-work", settings->workers, QUEUED_MAX);
	if (server_open(s, e) < 0) {
		server_free(s);
		return -1;
	}
	*out = s;
	return 0;
}

bool server_is_quiet(const struct server *s)
{
	return s->njobs == 0;
}

/* After the workers have ended, what they left in the mailbox is all there is. */
static void drop_mail(struct server *s)
{
	struct list frames;
	struct job *j;
	bool done;

	while ((j = mailbox_fetch(&s->mailbox, &frames, &done))) {
		list_for_each_safe(f, &frames, struct frame, link)
			frame_free(f);
		if (done)
			job_drop(s, j);
	}
}

void server_free(struct server *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->nlisteners; i++)
		listener_close(s, &s->listeners[i]);
	list_for_each_safe(c, &s->conns, struct conn, link)
		conn_free(c);
	pool_free(s->lane);
	pool_free(s->workers);
	drop_mail(s);
	BUG_ON(s->njobs);
	mailbox_destroy(&s->mailbox);
	fd_close(&s->signal_fd);
	fd_close(&s->epoll_fd);
	mem_free(s->listeners);
	mem_free(s);
}
