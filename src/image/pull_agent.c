#include "image/pull_agent.h"

#include "base/fd.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* How the network is reached is in the environment; nothing else of it goes along. */
static char **environment(struct arena *a)
{
	static const char *const names[] = { "http_proxy", "https_proxy", "all_proxy", "no_proxy",
					     "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE",
					     "SSL_CERT_DIR" };
	const char *upper = getenv("HTTP_PROXY");
	char **v = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		const char *value = getenv(names[i]);

		if (value)
			v = strv_append(a, v, arena_printf(a, "%s=%s", names[i], value));
	}
	/* libcurl knows only the small one, Go's programs the large one too. */
	if (upper && !getenv("http_proxy"))
		v = strv_append(a, v, arena_printf(a, "http_proxy=%s", upper));
	return v;
}

int pull_agent_start(struct pull_agent *g, const char *program, const struct pull_message *start, struct err *e)
{
	char *argv[] = { (char *)"knarr-pull", NULL };
	struct proc_spec spec = PROC_SPEC_INIT;
	auto_fd int near_end = -1, far_end = -1;
	auto_arena a = { 0 };
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(e, errno, "a socket to knarr-pull");
	near_end = pair[0];
	far_end = pair[1];
	spec.file = program;
	spec.argv = argv;
	spec.envp = environment(&a);
	spec.std_err = STDERR_FILENO;
	spec.fds[0].from = far_end;
	spec.fds[0].to = PULL_SOCKET_FD;
	spec.nfds = 1;
	spec.parent_death_signal = SIGKILL;
	*g = (struct pull_agent){ .sock = -1, .proc = { .pidfd = -1 } };
	list_init(&g->fetches);
	if (proc_spawn(&spec, &g->proc, e) < 0)
		return err_in(e, "start %s", program);
	g->sock = fd_take(&near_end);
	if (pull_send(g->sock, start, NULL, 0, e) == 0)
		return 0;
	pull_agent_stop(g);
	return err_in(e, "knarr-pull");
}

void pull_agent_stop(struct pull_agent *g)
{
	if (g->sock < 0)
		return;
	fd_close(&g->sock);
	proc_kill_and_reap(&g->proc);
	fd_close(&g->proc.pidfd);
}

static int order_send(struct pull_agent *g, struct pull_fetching *f, const struct pull_message *order, const int *fds,
		     size_t nfds, struct err *e)
{
	struct pull_message m = *order;

	*f = (struct pull_fetching){ .id = ++g->last_id };
	list_init(&f->link);
	m.id = f->id;
	if (pull_send(g->sock, &m, fds, nfds, e) < 0)
		return err_in(e, "knarr-pull");
	list_add(&g->fetches, &f->link);
	return 0;
}

int pull_agent_fetch(struct pull_agent *g, struct pull_fetching *f, const struct pull_message *order, int file,
		     int pipe, struct err *e)
{
	const int fds[] = { file, pipe };
	struct pull_message m = *order;

	m.type = (char *)"fetch";
	return order_send(g, f, &m, fds, pipe < 0 ? 1 : 2, e);
}

int pull_agent_copy(struct pull_agent *g, struct pull_fetching *f, const struct pull_message *order, int file, int pipe,
		    int source, struct err *e)
{
	const int fds[] = { file, pipe < 0 ? source : pipe, source };
	struct pull_message m = *order;

	m.type = (char *)"copy";
	return order_send(g, f, &m, fds, pipe < 0 ? 2 : 3, e);
}

int pull_agent_push(struct pull_agent *g, struct pull_fetching *f, const struct pull_message *order, int source,
		    struct err *e)
{
	struct pull_message m = *order;

	m.type = (char *)"push";
	return order_send(g, f, &m, &source, 1, e);
}

static int take_failure(struct err *to, const struct pull_message *m)
{
	return err_set(to, pull_kind_of(m->kind), "%s", m->text ? m->text : "the pull failed");
}

static int take_end(struct pull_agent *g, const struct pull_message *m, bool ok, struct err *e)
{
	list_for_each_safe(f, &g->fetches, struct pull_fetching, link) {
		if (f->id != m->id)
			continue;
		list_del(&f->link);
		f->ended = true;
		f->ok = ok;
		f->discard = m->discard;
		f->again = m->again;
		if (!ok)
			(void)take_failure(&f->err, m);
		return 0;
	}
	return err_set(e, ERR_INTERNAL, "knarr-pull speaks of a fetch that was not ordered");
}

static int take_message(struct pull_agent *g, const struct pull_message *m, struct err *e)
{
	if (streq(m->type, "progress"))
		g->bytes = MAX(g->bytes, m->bytes);
	else if (streq(m->type, "done"))
		return take_end(g, m, true, e);
	else if (streq(m->type, "failed") && m->id != 0)
		return take_end(g, m, false, e);
	else if (streq(m->type, "failed"))
		return take_failure(e, m);
	else if (streq(m->type, "resolved") && !g->resolved) {
		g->what = *m;
		g->resolved = true;
	} else
		return err_set(e, ERR_INTERNAL, "knarr-pull says \"%.50s\" out of turn", m->type);
	return 0;
}

int pull_agent_hear(struct pull_agent *g, struct arena *a, struct err *e)
{
	int fds[PULL_FDS_MAX], r;
	struct pull_message m;

	r = pull_recv(g->sock, a, &m, fds, e);
	for (size_t i = 0; r > 0 && i < PULL_FDS_MAX; i++)
		fd_close(&fds[i]);
	if (r < 0)
		return -1;
	if (r == 0)
		return err_set(e, ERR_INTERNAL, "knarr-pull has ended unexpectedly");
	return take_message(g, &m, e);
}
