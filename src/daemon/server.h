/* The I/O thread: epoll over the listening sockets, the connections and the signals. A complete
 * request becomes a job with a struct call of its own, which a worker runs as straight-line blocking
 * code; the answer comes back through a list and an eventfd, so only this thread ever touches a
 * connection.
 *
 * A method marked RPC_RESERVED_LANE has workers of its own. Until server_ready(), all methods but
 * those marked RPC_ANYTIME wait, at most `ready_wait_ns`, then they answer UNAVAILABLE.
 * SIGTERM and SIGINT end it in order: GOAWAY to every client, calls under way finish (within
 * stop_wait_ns, then they are cancelled), streams end with UNAVAILABLE. SIGHUP is ignored with a line
 * in the log: there is nothing to reload but the network folder, which is watched. */
#ifndef KNARR_DAEMON_SERVER_H
#define KNARR_DAEMON_SERVER_H

#include "base/err.h"
#include "wire/rpc.h"

struct server;

struct server_socket {
	const char *path;
	enum rpc_owner owner;
};

struct server_settings {
	const struct server_socket *sockets; /* their folders exist; what lies at the path is replaced */
	size_t nsockets;
	const struct rpc_method *const *methods; /* tables, the last one NULL */
	int64_t ready_wait_ns, stop_wait_ns;
	int64_t idle_end_ns;                 /* ends after so long without a connection; 0: never */
	unsigned workers;                    /* at most so many calls at once, the reserved lane aside */
};

/* Blocks SIGTERM, SIGINT and SIGHUP (before any thread is made, so that all inherit it) and listens. */
int server_new(const struct server_settings *settings, struct server **out, struct err *e);
/* Serves until a signal, idleness or server_end(). 0: it ended in order; -1: what server_end() said. */
int server_run(struct server *s, struct err *e);
/* After server_run(): no call is under way. One that does not even end when cancelled hangs in the
 * kernel; server_free() would wait for it, so the process had better just exit. */
bool server_is_quiet(const struct server *s);
/* Waits for its workers, removes the sockets. */
void server_free(struct server *s);

/* What handlers get as ctx->app; set before server_ready(). The next two may come from any thread. */
void server_ready(struct server *s, void *app);
void server_end(struct server *s, const struct err *why); /* NULL: in order, as by SIGTERM */

#endif
