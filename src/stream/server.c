#include "stream/loop.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 64, TICK_MS = 1000, BACKLOG = 512, ACCEPTS = 64, KEEPALIVE_S = 30 };

/* --- the address ------------------------------------------------------------------------------------- */

struct address {
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	};
	socklen_t len;
	bool loopback;
};

static int parse_address(const char *text, struct address *out, struct err *e)
{
	const char *colon = strrchr(text, ':');
	bool v6 = text[0] == '[';
	char host[INET6_ADDRSTRLEN + 1] = "";
	size_t n = colon ? (size_t)(colon - text) : 0;
	struct address a = { 0 };
	bool unspecified, ok;
	uint64_t port;

	if (!colon || n >= sizeof(host) || (v6 && (n < 2 || colon[-1] != ']')) || str_to_u64(str_of(colon + 1), &port, e) < 0 ||
	    port > UINT16_MAX)
		return err_set(e, ERR_INVALID, "\"%s\" is no address with a port, such as 127.0.0.1:0 or [::1]:0", text);
	memcpy(host, text + v6, n - 2 * v6);
	if (v6) {
		a.v6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };
		a.len = sizeof(a.v6);
		ok = inet_pton(AF_INET6, host, &a.v6.sin6_addr) == 1;
		a.loopback = IN6_IS_ADDR_LOOPBACK(&a.v6.sin6_addr);
		unspecified = IN6_IS_ADDR_UNSPECIFIED(&a.v6.sin6_addr);
	} else {
		a.v4 = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
		a.len = sizeof(a.v4);
		ok = inet_pton(AF_INET, host, &a.v4.sin_addr) == 1;
		a.loopback = ntohl(a.v4.sin_addr.s_addr) >> 24 == 127;
		unspecified = a.v4.sin_addr.s_addr == htonl(INADDR_ANY);
	}
	if (!ok)
		return err_set(e, ERR_INVALID, "\"%s\" is no IP address with a port, such as 127.0.0.1:0 or [::1]:0", text);
	if (unspecified)
		return err_set(e, ERR_INVALID, "\"%s\": URLs need an address that clients can reach", text);
	*out = a;
	return 0;
}

static int check_settings(const struct stream_settings *s, struct address *out, struct err *e)
{
	if (parse_address(s->address, out, e) < 0)
		return err_in(e, "stream.address");
	if (!s->cert != !s->key)
		return err_set(e, ERR_INVALID, "stream.%s: cert and key come together", s->cert ? "cert" : "key");
	if (s->client_ca && !s->cert)
		return err_set(e, ERR_INVALID, "stream.client_ca: without cert and key there is no TLS");
	if (!out->loopback && !s->client_ca)
		return err_set(e, ERR_INVALID, "stream.address: %s is not loopback: whoever reaches it could try tokens; set "
			       "cert, key and client_ca", s->address);
	return 0;
}

int stream_settings_check(const struct stream_settings *s, struct err *e)
{
	struct address ignored;

	return check_settings(s, &ignored, e);
}

static char *url_of(bool tls, int fd)
{
	struct address a = { .len = sizeof(a.v6) };
	char host[INET6_ADDRSTRLEN] = "", text[INET6_ADDRSTRLEN + 32];
	const char *scheme = tls ? "https" : "http";

	(void)getsockname(fd, &a.any, &a.len); /* of a socket that was just bound */
	if (a.any.sa_family == AF_INET6)
		(void)snprintf(text, sizeof(text), "%s://[%s]:%u", scheme,
			       inet_ntop(AF_INET6, &a.v6.sin6_addr, host, sizeof(host)), ntohs(a.v6.sin6_port));
	else
		(void)snprintf(text, sizeof(text), "%s://%s:%u", scheme,
			       inet_ntop(AF_INET, &a.v4.sin_addr, host, sizeof(host)), ntohs(a.v4.sin_port));
	return mem_strdup(text);
}

/* --- the loop ---------------------------------------------------------------------------------------- */

void source_watch(struct streams *s, struct source *src, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = src };
	int op = !src->watched ? EPOLL_CTL_ADD : events ? EPOLL_CTL_MOD : EPOLL_CTL_DEL;

	if (src->watched == events)
		return;
	src->watched = events;
	/* Memory of the kernel alone can fail here; the session then hangs until its client goes. */
	if (epoll_ctl(s->epoll_fd, op, src->fd, &ev) < 0 && events)
		log_error("stream: epoll_ctl: %s", err_errno_text(errno));
}

void grave_add(struct streams *s, struct grave *g, void (*fn)(struct grave *g))
{
	g->bury = fn;
	list_add(&s->graves, &g->link);
}

static void prepare(int fd)
{
	const int on = 1, idle = KEEPALIVE_S;

	/* Small answers go out at once; a machine that is gone is noticed. None of it is needed to serve. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &idle, sizeof(idle));
}

static void on_listener(struct source *src, UNUSED uint32_t events)
{
	struct streams *s = container_of(src, struct streams, listener);

	for (unsigned i = 0; i < ACCEPTS && s->nconns < CONNS_MAX; i++) {
		int fd = accept4(s->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0) {
			/* Without fds for more, those that there are go on; the next tick tries again. */
			if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
				source_watch(s, &s->listener, 0);
			return;
		}
		prepare(fd);
		conn_new(s, fd);
	}
	if (s->nconns >= CONNS_MAX)
		source_watch(s, &s->listener, 0);
}

static void on_opened(struct source *src, UNUSED uint32_t events)
{
	opener_collect(container_of(src, struct streams, opened));
}

static void on_stop(struct source *src, UNUSED uint32_t events)
{
	struct streams *s = container_of(src, struct streams, stop);
	struct err why;

	s->stopping = true;
	source_watch(s, src, 0);
	source_watch(s, &s->listener, 0);
	(void)err_set(&why, ERR_UNAVAILABLE, "knarrd is being stopped: the session was ended");
	list_for_each_safe(c, &s->conns, struct conn, link)
		conn_stop(c, &why);
}

static void round_ends(struct streams *s)
{
	struct list now;

	list_init(&now);
	list_add_before(s->dirty.next, &now);
	list_del(&s->dirty); /* who gets dirty meanwhile has the next round */
	while (!list_is_empty(&now)) {
		struct conn *c = container_of(now.next, struct conn, dirty);

		list_del(&c->dirty);
		conn_round_ends(c);
	}
	while (!list_is_empty(&s->graves)) {
		struct grave *g = container_of(s->graves.next, struct grave, link);

		list_del(&g->link);
		g->bury(g);
	}
}

static void tick(struct streams *s, int64_t now)
{
	list_for_each_safe(c, &s->conns, struct conn, link)
		conn_tick(c, now);
	if (!s->stopping && s->nconns < CONNS_MAX)
		source_watch(s, &s->listener, EPOLLIN);
}

static bool is_over(struct streams *s)
{
	LOCKED(&s->opener.lock);

	return s->stopping && !s->nconns && !s->opener.unfinished;
}

static void *serve(void *arg)
{
	struct streams *s = arg;
	struct epoll_event events[EVENTS];
	int64_t ticked = clock_mono_ns();

	while (!is_over(s)) {
		int wait = !list_is_empty(&s->dirty) ? 0 : s->nconns ? TICK_MS : -1;
		int n = epoll_wait(s->epoll_fd, events, EVENTS, wait);
		int64_t now = clock_mono_ns();

		for (int i = 0; i < n; i++) {
			struct source *src = events[i].data.ptr;

			if (src->watched)
				src->ready(src, events[i].events);
		}
		if (now - ticked >= TICK_MS * NS_PER_MS) {
			ticked = now;
			tick(s, now);
		}
		round_ends(s);
	}
	return NULL;
}

/* --- begin and end ----------------------------------------------------------------------------------- */

static int listen_at(struct streams *s, const struct stream_settings *settings, struct err *e)
{
	struct address a;
	const int on = 1;

	if (check_settings(settings, &a, e) < 0 ||
	    (settings->cert && tls_new(settings->cert, settings->key, settings->client_ca, &s->tls, e) < 0))
		return -1;
	s->listen_fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s->listen_fd < 0)
		return err_sys(e, errno, "a socket for streaming");
	(void)setsockopt(s->listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)); /* a restart waits for no one */
	if (bind(s->listen_fd, &a.any, a.len) < 0 || listen(s->listen_fd, BACKLOG) < 0)
		return err_sys(e, errno, "stream.address: %s", settings->address);
	s->url = url_of(s->tls, s->listen_fd);
	return 0;
}

static int make_loop(struct streams *s, struct err *e)
{
	s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	s->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->epoll_fd < 0 || s->stop_fd < 0)
		return err_sys(e, errno, "epoll for streaming");
	s->listener = (struct source){ on_listener, s->listen_fd, 0 };
	s->opened = (struct source){ on_opened, s->opener.event_fd, 0 };
	s->stop = (struct source){ on_stop, s->stop_fd, 0 };
	source_watch(s, &s->listener, EPOLLIN);
	source_watch(s, &s->opened, EPOLLIN);
	source_watch(s, &s->stop, EPOLLIN);
	return thread_start(&s->thread, "knarrd-stream", serve, s, e);
}

static void streams_free(struct streams *s)
{
	opener_free(&s->opener);
	tickets_free(&s->tickets);
	tls_free(s->tls);
	mem_free(s->url);
	fd_close(&s->epoll_fd);
	fd_close(&s->listen_fd);
	fd_close(&s->stop_fd);
	mem_free(s);
}

int streams_open(const struct stream_settings *settings, struct pods *pods, struct streams **out, struct err *e)
{
	struct streams *s = mem_new0(struct streams);

	s->pods = pods;
	s->idle_ns = settings->idle_ns;
	s->epoll_fd = s->listen_fd = s->stop_fd = -1;
	list_init(&s->conns);
	list_init(&s->dirty);
	list_init(&s->graves);
	tickets_init(&s->tickets, settings->token_ns);
	if (opener_init(&s->opener, e) < 0 || listen_at(s, settings, e) < 0 || make_loop(s, e) < 0) {
		streams_free(s);
		return -1;
	}
	*out = s;
	return 0;
}

void streams_close(struct streams *s)
{
	if (!s)
		return;
	(void)eventfd_write(s->stop_fd, 1); /* the first write cannot fail */
	(void)pthread_join(s->thread, NULL);
	streams_free(s);
}

/* --- URLs -------------------------------------------------------------------------------------------- */

static int url_for(struct streams *s, struct arena *a, const struct ticket *what, const char **url, struct err *e)
{
	char token[TICKET_TOKEN_LEN + 1];

	if (ticket_new(&s->tickets, what, token, e) < 0)
		return -1;
	*url = arena_printf(a, "%s/%s/%s", s->url, ticket_kind_name[what->kind], token);
	return 0;
}

int stream_exec_url(struct streams *s, struct arena *a, const struct session_wish *w, const char **url, struct err *e)
{
	const struct ticket what = { .kind = TICKET_EXEC, .wish = *w };

	return url_for(s, a, &what, url, e);
}

int stream_attach_url(struct streams *s, struct arena *a, const struct session_wish *w, const char **url, struct err *e)
{
	const struct ticket what = { .kind = TICKET_ATTACH, .wish = *w };

	return url_for(s, a, &what, url, e);
}

int stream_port_url(struct streams *s, struct arena *a, enum pod_owner owner, const struct stream_ports *p,
		    const char **url, struct err *e)
{
	const struct ticket what = { .kind = TICKET_PORTS, .owner = owner, .ports = *p };

	return url_for(s, a, &what, url, e);
}
