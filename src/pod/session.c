#include "pod/session.h"

#include "monitor/session.h"
#include "pod/model.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

static unsigned wish_flags(const struct session_wish *w)
{
	return (w->in ? SESSION_IN : 0u) | (w->out ? SESSION_OUT : 0u) |
	       (w->err && !(w->argv && w->tty) ? SESSION_ERR : 0u) | (w->argv && w->tty ? SESSION_TTY : 0u) |
	       (w->paced ? SESSION_PACED : 0u) | (w->early ? SESSION_EARLY : 0u);
}

/* Of an older knarr's pod only its own words would be told. */
static int explain(const struct container *k, const char *what, struct err *e)
{
	if (e->kind == ERR_UNIMPLEMENTED)
		return err_set(e, ERR_UNIMPLEMENTED, "%s container %s: its pod was started by an older knarr that has no "
			       "sessions; it has them when it is started anew", what, k->id);
	return err_in(e, "%s container %s", what, k->id);
}

static int session_ask(struct container *k, struct call *c, const struct session_wish *w, struct session *out,
		       struct err *e)
{
	const struct monitor_session_request r = { .container_id = k->id, .argv = w->argv, .flags = wish_flags(w),
						   .width = w->width, .height = w->height };
	struct monitor_session s;

	if (monitor_session_open(c, k->pod->run_dirfd, &r, &s, e) < 0)
		return explain(k, w->argv ? "exec in" : "attach to", e);
	*out = (struct session){ s.in, s.out, s.err, s.tty, s.control };
	return 0;
}

int session_exec(struct pods *ps, struct call *c, const struct session_wish *w, struct session *out, struct err *e)
{
	auto_container *k = NULL;

	if (!w->argv || str_is_empty(w->argv[0]))
		return err_set(e, ERR_INVALID, "no command to execute");
	k = container_running(ps, w->owner, w->container, e);
	return k ? session_ask(k, c, w, out, e) : -1;
}

int session_attach(struct pods *ps, struct call *c, const struct session_wish *w, struct session *out,
		   struct err *e)
{
	auto_container *k = w->early ? container_get(ps, w->owner, w->container, e) :
			    container_running(ps, w->owner, w->container, e);
	struct session_wish attach = *w;

	attach.argv = NULL;
	return k ? session_ask(k, c, &attach, out, e) : -1;
}

int session_resize(const struct session *s, unsigned width, unsigned height, struct err *e)
{
	return monitor_session_resize(s->tty, width, height, e);
}

void session_close_in(struct session *s)
{
	fd_close(&s->in);
}

int session_result(const struct session *s, int *exit_code, struct err *e)
{
	return monitor_session_result(s->control, exit_code, e);
}

void session_end(struct session *s)
{
	fd_close(&s->in);
	fd_close(&s->out);
	fd_close(&s->err);
	fd_close(&s->tty);
	fd_close(&s->control);
}

/* --- ports -------------------------------------------------------------------------------------------------- */

struct port_sockets {
	int inet, inet6;
};

static void port_sockets_close(struct port_sockets *s)
{
	fd_close(&s->inet);
	fd_close(&s->inet6);
}

static int own_socket(int family, struct err *e)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd < 0 && errno != EAFNOSUPPORT ? err_sys(e, errno, "make a socket") : fd;
}

/* A pod in the host's network has our own; any other's are made by its knarr-pod, which lives there. */
static int sockets_make(struct pod *p, struct call *c, struct port_sockets *out, struct err *e)
{
	err_clear(e);
	if (p->netns_path) {
		if (monitor_sockets(c, p->run_dirfd, &out->inet, &out->inet6, e) == 0)
			return 0;
		return e->kind == ERR_UNIMPLEMENTED ?
		       err_set(e, ERR_UNIMPLEMENTED, "pod %s was started by an older knarr that forwards no ports; it "
			       "does when it is started anew", p->id) : err_in(e, "pod %s", p->id);
	}
	out->inet = own_socket(AF_INET, e);
	if (e->kind == ERR_NONE)
		out->inet6 = own_socket(AF_INET6, e);
	return e->kind == ERR_NONE ? 0 : -1;
}

/* 0, or the errno of why not; -1: the call is over. */
static int connected(struct call *c, int fd, const struct sockaddr *to, socklen_t n, struct err *e)
{
	int error = 0;
	socklen_t size = sizeof(error);

	if (fd < 0)
		return EAFNOSUPPORT;
	if (connect(fd, to, n) == 0)
		return 0;
	if (errno != EINPROGRESS)
		return errno;
	if (io_wait(c, fd, POLLOUT, e) < 0)
		return -1;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
		return errno;
	return error;
}

static int port_connect(struct pod *p, struct call *c, struct port_sockets *s, uint16_t port, struct err *e)
{
	const struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port),
					.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	const struct sockaddr_in6 to6 = { .sin6_family = AF_INET6, .sin6_port = htons(port),
					  .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	int why = connected(c, s->inet, (const struct sockaddr *)&to, sizeof(to), e), why6;

	if (why == 0)
		return fd_take(&s->inet);
	why6 = why < 0 ? -1 : connected(c, s->inet6, (const struct sockaddr *)&to6, sizeof(to6), e);
	if (why6 == 0)
		return fd_take(&s->inet6);
	if (why < 0 || why6 < 0)
		return err_in(e, "connect to port %u of pod %s", port, p->id);
	return err_set(e, ERR_UNAVAILABLE, "nobody answers on port %u of pod %s: 127.0.0.1: %s; ::1: %s", port, p->id,
		       err_errno_text(why), err_errno_text(why6));
}

int session_port(struct pods *ps, struct call *c, enum pod_owner owner, const char *pod_id, uint16_t port, int *fd,
		 struct err *e)
{
	AUTO(port_sockets_close) struct port_sockets s = { -1, -1 };
	auto_pod *p = pod_get(ps, owner, pod_id, e);
	enum pod_state state;
	int got;

	if (!p)
		return -1;
	lock_acquire(&ps->lock);
	state = p->state;
	lock_release(&ps->lock);
	if (state != POD_READY)
		return err_set(e, ERR_STATE, "pod %s is %s: no port of it can be reached", p->id, pod_state_name[state]);
	if (!port)
		return err_set(e, ERR_INVALID, "port 0 is none");
	if (sockets_make(p, c, &s, e) < 0)
		return -1;
	got = port_connect(p, c, &s, port, e);
	if (got < 0)
		return -1;
	*fd = got;
	return 0;
}
