#include "cli/cli.h"

#include "cri.pb-c.h"

#include <stdio.h>

static const char *state_text(struct cli *cli, const struct found *f, struct err *e)
{
	Runtime__V1__ContainerStatusRequest in = RUNTIME__V1__CONTAINER_STATUS_REQUEST__INIT;
	Runtime__V1__ContainerStatusResponse *out;

	if (cli_is_unfinished(f))
		return "unfinished";
	switch (f->state) {
	case RUNTIME__V1__CONTAINER_STATE__CONTAINER_CREATED:
		return "created";
	case RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING:
		return "running";
	case RUNTIME__V1__CONTAINER_STATE__CONTAINER_EXITED:
		break;
	default:
		return "unknown";
	}
	in.container_id = f->id;
	if (CRI_RUNTIME(cli->client, cli->call, ContainerStatus, container_status, &in, &out, e) < 0 || !out->status)
		return "exited";
	return arena_printf(cli->a, "exited (%d%s%s)", out->status->exit_code,
			    streq(out->status->reason, "OOMKilled") || streq(out->status->reason, "StartError") ?
			    ", " : "", streq(out->status->reason, "OOMKilled") ||
			    streq(out->status->reason, "StartError") ? out->status->reason : "");
}

int verb_ps(struct cli *cli, char *const *argv, struct err *e)
{
	bool all = false, quiet = false;
	const struct opt opts[] = {
		{ OPT_FLAG, 'a', "all", &all, NULL, "Those that do not run too" },
		{ OPT_FLAG, 'q', "quiet", &quiet, NULL, "Print only IDs" },
		{ 0 },
	};
	struct table *t = table_new(cli->a, 5);
	struct found *list;
	char **words;
	size_t n;
	int rc = cli_options(cli, "ps", opts, 0, argv, &words, e);

	if (rc)
		return rc < 0 ? -1 : 0;
	if (cli_containers(cli, &list, &n, e) < 0)
		return -1;
	table_row(t, "ID", "NAME", "STATE", "CREATED", "IMAGE");
	for (size_t i = 0; i < n; i++) {
		const struct found *f = &list[i];

		if (!all && f->state != RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING)
			continue;
		if (quiet)
			puts(cli_is_unfinished(f) ? f->pod_id : f->id);
		else
			table_row(t, text_short_id(cli->a, cli_is_unfinished(f) ? f->pod_id : f->id), f->name,
				  state_text(cli, f, e),
				  text_ago(cli->a, f->created_wall_ns), f->image);
	}
	if (!quiet)
		table_print(t);
	return 0;
}
