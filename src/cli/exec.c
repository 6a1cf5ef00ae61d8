#include "cli/cli.h"

#include "base/clock.h"
#include "base/fd.h"
#include "cri.pb-c.h"

#include <unistd.h>

int verb_exec(struct cli *cli, char *const *argv, struct err *e)
{
	int64_t timeout_ns = 0;
	const struct opt opts[] = {
		{ OPT_DURATION, 0, "timeout", &timeout_ns, "SECONDS", "Kill it, with all it started, after so long" },
		{ 0 },
	};
	Runtime__V1__ExecSyncRequest in = RUNTIME__V1__EXEC_SYNC_REQUEST__INIT;
	Runtime__V1__ExecSyncResponse *out;
	struct found found;
	char **words;
	int rc = cli_options(cli, "exec", opts, OPTS_STOP_AT_WORD, argv, &words, e);

	if (rc)
		return rc < 0 ? -1 : 0;
	if (!words[0] || !words[1])
		return err_set(e, ERR_INVALID, "knarr exec: give a container and a command");
	if (cli_find(cli, words[0], &found, e) < 0)
		return -1;
	in.container_id = found.id;
	in.cmd = words + 1;
	in.n_cmd = strv_len(in.cmd);
	in.timeout = (timeout_ns + NS_PER_S - 1) / NS_PER_S;
	if (CRI_RUNTIME(cli->client, cli->call, ExecSync, exec_sync, &in, &out, e) < 0)
		return cli_fail(e, cli_start_status(e));
	if (fd_write_all(STDOUT_FILENO, out->stdout.data, out->stdout.len, e) < 0 ||
	    fd_write_all(STDERR_FILENO, out->stderr.data, out->stderr.len, e) < 0)
		return -1;
	return out->exit_code;
}
