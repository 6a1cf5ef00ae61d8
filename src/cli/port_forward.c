/* knarr port-forward: local ports that lead to a container's pod. */
#include "cli/session.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/thread.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LISTENERS_MAX = 32, CONNECTIONS_MAX = 1000, PIPE_BYTES = 256 * 1024 };

struct listener {
	int fd;
	unsigned remote;
};

struct forward {
	struct cli *cli;
	const char *pod_id;
	struct listener listeners[LISTENERS_MAX];
	size_t n;
	atomic_int connections;
};

/* --- one connection, in a thread of its own ------------------------------------------------------------------------ */

/* One direction: from a socket by a pipe to the other, without a copy in this program. */
struct way {
	int from, to, in, out; /* in, out: the pipe's ends */
	size_t held;
	bool ended;             /* `from` has */
	bool over;
};

static void way_step(struct way *w)
{
	ssize_t n = 0;

	if (!w->ended && !w->held) {
		n = splice(w->from, NULL, w->in, NULL, PIPE_BYTES, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
		w->ended = n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
		w->held += n > 0 ? (size_t)n : 0;
	}
	if (w->held) {
		n = splice(w->out, NULL, w->to, NULL, w->held, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
		if (n > 0)
			w->held -= (size_t)n;
		else if (n == 0 || (errno != EAGAIN && errno != EINTR))
			w->over = true;
	}
	if (w->ended && !w->held && !w->over) {
		(void)shutdown(w->to, SHUT_WR); /* it may be gone already */
		w->over = true;
	}
}

static struct pollfd way_poll(const struct way *w)
{
	if (w->over)
		return (struct pollfd){ .fd = -1 };
	return w->held ? (struct pollfd){ w->to, POLLOUT, 0 } : (struct pollfd){ w->from, POLLIN, 0 };
}

static int way_open(struct way *w, int from, int to, struct err *e)
{
	*w = (struct way){ .from = from, .to = to, .in = -1, .out = -1 };
	if (fd_pipe(&w->out, &w->in, e) < 0)
		return -1;
	(void)fcntl(w->in, F_SETPIPE_SZ, PIPE_BYTES); /* helps, is not needed */
	return 0;
}

static void ways_run(int a, int b, struct err *e)
{
	struct way w[2] = { { .in = -1, .out = -1 }, { .in = -1, .out = -1 } };

	if (way_open(&w[0], a, b, e) == 0 && way_open(&w[1], b, a, e) == 0) {
		while (!(w[0].over && w[1].over)) {
			struct pollfd fds[] = { way_poll(&w[0]), way_poll(&w[1]) };

			if (io_poll(NULL, fds, ARRAY_SIZE(fds), -1, e) < 0)
				break;
			for (size_t i = 0; i < ARRAY_SIZE(w); i++) {
				if (!fds[i].revents || w[i].over)
					continue;
				way_step(&w[i]);
				/* Whom nothing can be written to reads nothing more that matters. */
				if (w[i].over && !w[i].ended)
					w[1 - i].over = true;
			}
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(w); i++) {
		fd_close(&w[i].in);
		fd_close(&w[i].out);
	}
}

struct connection {
	struct forward *f;
	int fd;
	unsigned remote;
};

static int connection_carry(const struct connection *k, struct err *e)
{
	auto_fd int far = -1;
	struct client *client;
	auto_call c;
	int rc;

	call_begin(&c, 0);
	if (client_open(&client, &k->f->cli->settings, &c, e) < 0)
		return -1;
	rc = session_open_port(client, &c, k->f->pod_id, k->remote, &far, e);
	client_close(client);
	if (rc < 0)
		return -1;
	if (fd_set_nonblocking(k->fd, e) < 0)
		return -1;
	err_clear(e);
	ways_run(k->fd, far, e);
	return e->kind == ERR_NONE ? 0 : -1;
}

static void *connection_run(void *arg)
{
	struct connection *k = arg;
	struct err e;

	if (connection_carry(k, &e) < 0)
		(void)cli_fail(&e, 0); /* that connection's end, not ours */
	fd_close(&k->fd);
	atomic_fetch_sub(&k->f->connections, 1);
	mem_free(k);
	return NULL;
}

static void connection_begin(struct forward *f, const struct listener *l)
{
	struct connection *k;
	pthread_t thread;
	struct err e;
	int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0) {
		/* Gone again; or there are no fds left, and it waits until there are. */
		if (errno == EMFILE || errno == ENFILE)
			(void)call_sleep(f->cli->call, 100 * NS_PER_MS, &e);
		return;
	}
	if (atomic_load(&f->connections) >= CONNECTIONS_MAX) {
		(void)err_set(&e, ERR_EXHAUSTED, "%d connections at once are the limit: one more was closed",
			      CONNECTIONS_MAX);
		(void)cli_fail(&e, 0);
		fd_close(&fd);
		return;
	}
	k = mem_new0(struct connection);
	*k = (struct connection){ .f = f, .fd = fd, .remote = l->remote };
	atomic_fetch_add(&f->connections, 1);
	if (thread_start(&thread, "forward", connection_run, k, &e) == 0) {
		(void)pthread_detach(thread); /* it ends by itself, or with the program */
		return;
	}
	(void)cli_fail(&e, 0);
	fd_close(&k->fd);
	atomic_fetch_sub(&f->connections, 1);
	mem_free(k);
}

/* --- listening -------------------------------------------------------------------------------------------------------- */

static int port_of(struct str text, const char *whole, unsigned least, unsigned *out, struct err *e)
{
	int64_t port;

	if (str_to_i64(text, &port, e) < 0)
		return err_in(e, "port %s", whole);
	if (port < least || port > UINT16_MAX)
		return err_set(e, ERR_INVALID, "port %s: a port is %u to 65535", whole, least);
	*out = (unsigned)port;
	return 0;
}

static int listen_at(const struct sockaddr *at, socklen_t n, struct err *e)
{
	auto_fd int fd = socket(at->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1;

	if (fd < 0)
		return err_sys(e, errno, "socket");
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (at->sa_family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	if (bind(fd, at, n) < 0 || listen(fd, 128) < 0)
		return err_sys(e, errno, "listen");
	return fd_take(&fd);
}

static unsigned bound_port(int fd)
{
	struct sockaddr_in at;
	socklen_t n = sizeof(at);

	return getsockname(fd, (struct sockaddr *)&at, &n) == 0 ? ntohs(at.sin_port) : 0;
}

/* "LOCAL:REMOTE", "REMOTE" (the same on both sides), ":REMOTE" (any that is free here). */
static int listener_add(struct forward *f, const char *text, struct err *e)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_in6 at6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct str rest = str_of(text), first = str_cut(&rest, ':');
	unsigned local = 0, remote;
	struct err ignored;
	int fd;

	if (f->n + 2 > LISTENERS_MAX)
		return err_set(e, ERR_EXHAUSTED, "more than %d ports", LISTENERS_MAX / 2);
	if (port_of(rest.p ? rest : first, text, 1, &remote, e) < 0 ||
	    (first.len && port_of(first, text, 0, &local, e) < 0))
		return -1;
	at.sin_port = htons((uint16_t)local);
	fd = listen_at((struct sockaddr *)&at, sizeof(at), e);
	if (fd < 0)
		return err_in(e, "port %s: 127.0.0.1", text);
	local = bound_port(fd);
	f->listeners[f->n++] = (struct listener){ fd, remote };
	printf("127.0.0.1:%u -> %u\n", local, remote);
	at6.sin6_port = htons((uint16_t)local);
	fd = listen_at((struct sockaddr *)&at6, sizeof(at6), &ignored); /* a machine may have no IPv6 */
	if (fd < 0)
		return 0;
	f->listeners[f->n++] = (struct listener){ fd, remote };
	printf("[::1]:%u -> %u\n", local, remote);
	return 0;
}

static int forward_run(struct forward *f, int signal_fd, struct err *e)
{
	struct pollfd fds[LISTENERS_MAX + 1] = { { signal_fd, POLLIN, 0 } };

	for (size_t i = 0; i < f->n; i++)
		fds[i + 1] = (struct pollfd){ f->listeners[i].fd, POLLIN, 0 };
	for (;;) {
		int status = 0;

		if (io_poll(f->cli->call, fds, f->n + 1, -1, e) < 0)
			return -1;
		for (size_t i = 0; i < f->n; i++)
			if (fds[i + 1].revents)
				connection_begin(f, &f->listeners[i]);
		if (fds[0].revents && (status = session_signal_taken(signal_fd)))
			return status;
	}
}

/* Six for each connection. */
static void files_allow(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit); /* fewer connections at once then */
}

int verb_port_forward(struct cli *cli, char *const *argv, struct err *e)
{
	const struct opt opts[] = { { 0 } };
	struct forward f = { .cli = cli };
	auto_fd int signal_fd = -1;
	struct found found;
	char **words;
	int rc = cli_options(cli, "port-forward", opts, 0, argv, &words, e);

	if (rc)
		return rc < 0 ? -1 : 0;
	if (!words[0] || !words[1])
		return err_set(e, ERR_INVALID, "knarr port-forward: give a container and ports: LOCAL:REMOTE…");
	if (cli_find(cli, words[0], &found, e) < 0)
		return -1;
	f.pod_id = found.pod_id;
	signal_fd = session_signals(e);
	if (signal_fd < 0)
		return -1;
	for (char **p = words + 1; *p; p++)
		if (listener_add(&f, *p, e) < 0)
			return -1;
	(void)fflush(stdout); /* a script waits for these lines */
	files_allow();
	rc = forward_run(&f, signal_fd, e);
	if (rc < 0)
		rc = cli_fail(e, CLI_FAILED);
	_exit(rc); /* the connections' threads use what is ours here */
}
