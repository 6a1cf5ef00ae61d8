#include "daemon/cadvisor.h"

#include "base/call.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"
#include "wire/http_head.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { CONNS_MAX = 32, ANSWER_MAX = 8 << 20, LISTEN_AT = CONNS_MAX, STOP_AT };

struct conn {
	int fd;              /* -1: free */
	struct buf in, out;
	bool ends;           /* closed once `out` is sent */
	int64_t active_ns;
};

struct cadvisor {
	char *path;
	dev_t dev;
	ino_t ino;
	int listen_fd, stop_fd;
	pthread_t thread;
	bool runs;
	cadvisor_answer *answer;
	void *ctx;
	struct conn conns[CONNS_MAX];
};

static void conn_close(struct conn *c)
{
	fd_close(&c->fd);
	buf_free(&c->in);
	buf_free(&c->out);
}

/* --- one request --------------------------------------------------------------------------------------- */

static const char *status_of(const struct err *e)
{
	return e->kind == ERR_NOT_FOUND ? "404 Not Found" : e->kind == ERR_UNAVAILABLE ? "503 Service Unavailable" :
	       e->kind == ERR_INVALID ? "400 Bad Request" : "500 Internal Server Error";
}

static int reply(struct conn *c, const char *status, const char *type, struct str body, struct err *e)
{
	if (buf_addf(&c->out, e, "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s\r\n", status, type, body.len,
		     c->ends ? "Connection: close\r\n" : "") < 0)
		return -1;
	return buf_add(&c->out, body.p, body.len, e);
}

static int answer_path(struct cadvisor *s, struct conn *c, struct str path, struct err *e)
{
	auto_arena a = { 0 };
	struct buf json = { 0 };
	struct err why;
	int rc;

	if (s->answer(s->ctx, &a, path, &json, &why) < 0)
		return reply(c, status_of(&why), "text/plain; charset=utf-8", str_of(why.msg), e);
	rc = reply(c, "200 OK", "application/json", buf_str(&json), e);
	buf_free(&json);
	return rc;
}

static int answer_head(struct cadvisor *s, struct conn *c, const struct http_head *h, struct err *e)
{
	c->ends = http_head_has(h, "connection", "close");
	if (http_head_get(h, "transfer-encoding").p ||
	    (http_head_get(h, "content-length").p && !str_eqz(http_head_get(h, "content-length"), "0"))) {
		c->ends = true; /* its body would be taken for the next request */
		return reply(c, "400 Bad Request", "text/plain", STR("a request has no body here"), e);
	}
	if (!str_eqz(h->method, "GET"))
		return reply(c, "405 Method Not Allowed", "text/plain", STR("only GET"), e);
	return answer_path(s, c, h->path, e);
}

/* Answers what is complete, one request at a time: the next when this answer is sent. -1: the connection ends. */
static int answer_next(struct cadvisor *s, struct conn *c, struct err *e)
{
	struct http_head h;
	ssize_t n;

	if (c->out.len || c->ends)
		return 0;
	n = http_head_parse(c->in.p ? c->in.p : "", c->in.len, &h, e);
	if (n < 0) {
		c->ends = true;
		return reply(c, "400 Bad Request", "text/plain", str_of(e->msg), e);
	}
	if (n == 0)
		return 0;
	if (answer_head(s, c, &h, e) < 0)
		return -1;
	buf_consume(&c->in, (size_t)n);
	return 0;
}

/* --- connections --------------------------------------------------------------------------------------- */

static int conn_read(struct conn *c, struct err *e)
{
	ssize_t n;

	if (buf_reserve(&c->in, 4096, e) < 0)
		return -1;
	n = recv(c->fd, c->in.p + c->in.len, 4096, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return err_set(e, ERR_CANCELLED, "the client has gone");
	c->in.len += (size_t)n;
	return 0;
}

static int conn_write(struct conn *c, struct err *e)
{
	ssize_t n;

	if (!c->out.len)
		return 0;
	n = send(c->fd, c->out.p, c->out.len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		return err_sys(e, errno, "send");
	if (n > 0)
		buf_consume(&c->out, (size_t)n);
	return c->ends && !c->out.len ? err_set(e, ERR_CANCELLED, "all is said") : 0;
}

static void conn_serve(struct cadvisor *s, struct conn *c, short events)
{
	size_t before;
	struct err e;

	c->active_ns = clock_mono_ns();
	if (events & (POLLIN | POLLHUP | POLLERR) && !c->out.len && conn_read(c, &e) < 0) {
		conn_close(c);
		return;
	}
	do {
		before = c->in.len;
		if (answer_next(s, c, &e) < 0 || conn_write(c, &e) < 0) {
			conn_close(c);
			return;
		}
	} while (c->in.len && c->in.len != before && !c->out.len);
}

/* Where there is no room, the one that has been quiet for longest makes it. */
static void conn_accept(struct cadvisor *s)
{
	int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct conn *place = &s->conns[0];

	if (fd < 0)
		return;
	for (size_t i = 0; i < CONNS_MAX && place->fd >= 0; i++)
		if (s->conns[i].fd < 0 || s->conns[i].active_ns < place->active_ns)
			place = &s->conns[i];
	conn_close(place);
	*place = (struct conn){ .fd = fd, .in = BUF(HTTP_HEAD_MAX * 2), .out = BUF(ANSWER_MAX), .active_ns = clock_mono_ns() };
}

static void *serve(void *arg)
{
	struct pollfd fds[CONNS_MAX + 2];
	struct cadvisor *s = arg;
	struct err e;

	for (;;) {
		for (size_t i = 0; i < CONNS_MAX; i++)
			fds[i] = (struct pollfd){ s->conns[i].fd, s->conns[i].out.len ? POLLOUT : POLLIN, 0 };
		fds[LISTEN_AT] = (struct pollfd){ s->listen_fd, POLLIN, 0 };
		fds[STOP_AT] = (struct pollfd){ s->stop_fd, POLLIN, 0 };
		if (io_poll(NULL, fds, ARRAY_SIZE(fds), -1, &e) < 0) {
			log_error("cAdvisor is not answered any more: %s", e.msg);
			return NULL;
		}
		if (fds[STOP_AT].revents)
			return NULL;
		for (size_t i = 0; i < CONNS_MAX; i++)
			if (fds[i].revents && s->conns[i].fd >= 0)
				conn_serve(s, &s->conns[i], fds[i].revents);
		if (fds[LISTEN_AT].revents)
			conn_accept(s);
	}
}

/* --- opening and closing ------------------------------------------------------------------------------- */

static int listen_at(struct cadvisor *s, const char *path, struct err *e)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	auto_fd int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;

	s->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (probe < 0 || s->listen_fd < 0)
		return err_sys(e, errno, "socket");
	if (strlen(path) >= sizeof(address.sun_path))
		return err_set(e, ERR_INVALID, "cadvisor_socket: %s is longer than %zu bytes", path,
			       sizeof(address.sun_path) - 1);
	memcpy(address.sun_path, path, strlen(path));
	if (connect(probe, (struct sockaddr *)&address, sizeof(address)) == 0 || errno == EAGAIN)
		return err_set(e, ERR_EXISTS, "cadvisor_socket: somebody else answers at %s: CRI-O?", path);
	if (fs_remove_file(AT_FDCWD, path, e) < 0)
		return -1;
	if (fchmod(s->listen_fd, 0600) < 0 || bind(s->listen_fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(s->listen_fd, SOMAXCONN) < 0 || stat(path, &st) < 0)
		return err_sys(e, errno, "cadvisor_socket: listen on %s", path);
	s->dev = st.st_dev;
	s->ino = st.st_ino;
	return 0;
}

int cadvisor_open(const char *path, struct cadvisor **out, struct err *e)
{
	struct cadvisor *s = mem_new0(struct cadvisor);

	for (size_t i = 0; i < CONNS_MAX; i++)
		s->conns[i].fd = -1;
	s->listen_fd = -1;
	s->path = mem_strdup(path);
	s->stop_fd = eventfd(0, EFD_CLOEXEC);
	if (s->stop_fd < 0 ? err_sys(e, errno, "eventfd") : listen_at(s, path, e)) {
		cadvisor_close(s);
		return -1;
	}
	*out = s;
	return 0;
}

int cadvisor_start(struct cadvisor *s, cadvisor_answer *answer, void *ctx, struct err *e)
{
	s->answer = answer;
	s->ctx = ctx;
	if (thread_start(&s->thread, "knarrd-cadv", serve, s, e) < 0)
		return -1;
	s->runs = true;
	return 0;
}

void cadvisor_close(struct cadvisor *s)
{
	struct stat st;

	if (!s)
		return;
	if (s->runs) {
		(void)eventfd_write(s->stop_fd, 1); /* cannot fail: the counter is at 0 */
		(void)pthread_join(s->thread, NULL);
	}
	for (size_t i = 0; i < CONNS_MAX; i++)
		conn_close(&s->conns[i]);
	if (s->ino && stat(s->path, &st) == 0 && st.st_dev == s->dev && st.st_ino == s->ino)
		(void)unlink(s->path); /* a path that stays is replaced by the next knarrd */
	fd_close(&s->listen_fd);
	fd_close(&s->stop_fd);
	mem_free(s->path);
	mem_free(s);
}
