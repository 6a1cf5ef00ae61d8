/* knarr attach: a running container's input and output, from now on. */
#include "cli/session.h"

#include <stdio.h>

int verb_attach(struct cli *cli, char *const *argv, struct err *e)
{
	bool no_stdin = false;
	const struct opt opts[] = {
		{ OPT_FLAG, 0, "no-stdin", &no_stdin, NULL, "Only look at what it writes" },
		{ 0 },
	};
	Knarr__V1__OpenAttachRequest in = KNARR__V1__OPEN_ATTACH_REQUEST__INIT;
	struct monitor_session s = MONITOR_SESSION_NONE;
	struct attended a;
	struct found found;
	const char *name;
	char **words;
	int rc = cli_options(cli, "attach", opts, 0, argv, &words, e);

	if (rc)
		return rc < 0 ? -1 : 0;
	if (cli_one_word(words, "the container", &name, e) < 0 || cli_find(cli, name, &found, e) < 0)
		return -1;
	a = (struct attended){ .container_id = found.id, .signal_fd = session_signals(e), .session = &s };
	if (a.signal_fd < 0)
		return -1;
	in.container_id = found.id;
	in.stdin = !no_stdin;
	in.stdout = in.stderr = true;
	if (session_open_attach(cli, &in, &s, e) < 0)
		return -1;
	rc = attend(cli, &a, e);
	monitor_session_close(&s);
	return rc;
}
