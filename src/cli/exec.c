#include "cli/session.h"

#include "base/clock.h"
#include "base/fd.h"
#include "cri.pb-c.h"

#include <unistd.h>

struct exec_wish {
	bool interactive, terminal;
	int64_t timeout_ns;
	const char *container_id;
	char **command;
};

/* With a timeout knarr-pod keeps it, whatever becomes of this command. A pod of an older knarr knows this way alone. */
static int exec_sync(struct cli *cli, const struct exec_wish *w, struct err *e)
{
	Runtime__V1__ExecSyncRequest in = RUNTIME__V1__EXEC_SYNC_REQUEST__INIT;
	Runtime__V1__ExecSyncResponse *out;

	in.container_id = (char *)w->container_id;
	in.cmd = w->command;
	in.n_cmd = strv_len(in.cmd);
	in.timeout = (w->timeout_ns + NS_PER_S - 1) / NS_PER_S;
	if (CRI_RUNTIME(cli->client, cli->call, ExecSync, exec_sync, &in, &out, e) < 0)
		return cli_fail(e, cli_start_status(e));
	if (fd_write_all(STDOUT_FILENO, out->stdout.data, out->stdout.len, e) < 0 ||
	    fd_write_all(STDERR_FILENO, out->stderr.data, out->stderr.len, e) < 0)
		return -1;
	return out->exit_code;
}

static int exec_relay(struct cli *cli, struct monitor_session *s, int signal_fd, struct err *e)
{
	struct relay r = { .cli = cli, .session = s, .signal_fd = signal_fd, .is_exec = true };
	enum relay_end end;
	int code;

	if (relay_run(&r, &end, &code, e) < 0)
		return -1;
	return end == RELAY_SIGNALLED ? 128 + code : code;
}

static int exec_session(struct cli *cli, const struct exec_wish *w, struct err *e)
{
	Knarr__V1__OpenExecRequest in = KNARR__V1__OPEN_EXEC_REQUEST__INIT;
	struct monitor_session s = MONITOR_SESSION_NONE;
	auto_fd int signal_fd = session_signals(e);
	int rc;

	if (signal_fd < 0)
		return -1;
	in.container_id = (char *)w->container_id;
	in.cmd = w->command;
	in.n_cmd = strv_len(in.cmd);
	in.stdin = w->interactive;
	in.stdout = in.stderr = true;
	in.tty = w->terminal;
	if (w->terminal)
		(void)terminal_size(&in.width, &in.height); /* without one it stays unknown */
	if (session_open_exec(cli, &in, &s, e) < 0) {
		if (e->kind == ERR_UNIMPLEMENTED && !w->interactive && !w->terminal)
			return exec_sync(cli, w, e);
		return cli_fail(e, cli_start_status(e));
	}
	rc = exec_relay(cli, &s, signal_fd, e);
	monitor_session_close(&s); /* what still runs of it ends so */
	return rc;
}

int verb_exec(struct cli *cli, char *const *argv, struct err *e)
{
	struct exec_wish w = { 0 };
	const struct opt opts[] = {
		{ OPT_FLAG, 'i', "interactive", &w.interactive, NULL, "Pass stdin on to it" },
		{ OPT_FLAG, 't', "tty", &w.terminal, NULL, "Give it a terminal" },
		{ OPT_DURATION, 0, "timeout", &w.timeout_ns, "SECONDS", "Kill it, with all it started, after so long" },
		{ 0 },
	};
	struct found found;
	char **words;
	int rc = cli_options(cli, "exec", opts, OPTS_STOP_AT_WORD, argv, &words, e);

	if (rc)
		return rc < 0 ? -1 : 0;
	if (!words[0] || !words[1])
		return err_set(e, ERR_INVALID, "knarr exec: give a container and a command");
	if (w.timeout_ns && (w.interactive || w.terminal))
		return err_set(e, ERR_INVALID, "knarr exec: --timeout goes with neither -i nor -t");
	if (cli_find(cli, words[0], &found, e) < 0)
		return -1;
	w.container_id = found.id;
	w.command = words + 1;
	return w.timeout_ns ? exec_sync(cli, &w, e) : exec_session(cli, &w, e);
}
