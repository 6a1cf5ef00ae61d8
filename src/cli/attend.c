/* Being with a container until it ends: its streams, our signals, its exit. For run and attach. */
#include "cli/session.h"

#include "base/fd.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

struct forwarding {
	struct cli *cli;
	const struct attended *a;
	unsigned times;
};

static bool asks_to_end(int signal)
{
	return signal == SIGINT || signal == SIGTERM || signal == SIGQUIT;
}

/* A first process without a handler of its own never sees SIGINT: asked twice, it is killed. */
static void forward_signal(void *ctx, int signal)
{
	struct forwarding *f = ctx;
	Knarr__V1__KillContainerRequest in = KNARR__V1__KILL_CONTAINER_REQUEST__INIT;
	Knarr__V1__KillContainerResponse *out;
	struct err e;

	f->times += asks_to_end(signal);
	in.container_id = (char *)f->a->container_id;
	in.signal = (uint32_t)(asks_to_end(signal) && f->times > 1 ? SIGKILL : signal);
	if (KNARR(f->cli->client, f->cli->call, KillContainer, kill_container, &in, &out, &e) < 0 &&
	    e.kind != ERR_STATE && e.kind != ERR_NOT_FOUND)
		(void)cli_fail(&e, 0);
	if (asks_to_end(signal) && f->times == 1 && isatty(STDERR_FILENO))
		fputs("\n(once more to kill it)\n", stderr);
}

/* How it ended, as knarrd has it: it hears of an exit in the moment that we do. */
static int exit_of(struct cli *cli, const char *container_id, struct err *e)
{
	Knarr__V1__WaitContainerRequest in = KNARR__V1__WAIT_CONTAINER_REQUEST__INIT;
	Knarr__V1__WaitContainerResponse *out;

	in.container_id = (char *)container_id;
	if (KNARR(cli->client, cli->call, WaitContainer, wait_container, &in, &out, e) < 0) {
		if (e->kind != ERR_NOT_FOUND)
			return -1;
		(void)err_set(e, ERR_NOT_FOUND, "the container was removed meanwhile");
		return cli_fail(e, 128 + SIGKILL);
	}
	if (out->reason && streq(out->reason, "OOMKilled"))
		fputs("knarr: the container was killed: it used more memory than its limit\n", stderr);
	return out->exit_code;
}

int attend(struct cli *cli, struct attended *a, struct err *e)
{
	struct forwarding f = { .cli = cli, .a = a };
	struct relay r = { .cli = cli, .session = a->session, .signal_fd = a->signal_fd, .on_signal = forward_signal,
			   .ctx = &f };
	enum relay_end end;
	int code;

	a->detached = false;
	if (relay_run(&r, &end, &code, e) < 0) {
		/* A knarr-pod that was killed took the container with it: knarrd knows with which code. */
		if (e->kind == ERR_UNAVAILABLE)
			return exit_of(cli, a->container_id, e);
		return -1;
	}
	a->detached = end == RELAY_DETACHED;
	return a->detached ? 0 : exit_of(cli, a->container_id, e);
}
