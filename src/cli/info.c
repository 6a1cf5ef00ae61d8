#include "cli/cli.h"

#include "cri.pb-c.h"

#include <stdio.h>

int verb_info(struct cli *cli, char *const *argv, struct err *e)
{
	static const struct opt opts[] = { { 0 } };
	Runtime__V1__StatusRequest in = RUNTIME__V1__STATUS_REQUEST__INIT;
	Runtime__V1__StatusResponse *out;
	char **words;
	int rc = cli_options(cli, "info", opts, 0, argv, &words, e);

	if (rc)
		return rc < 0 ? -1 : 0;
	in.verbose = true;
	if (cli_connect(cli, e) < 0 ||
	    CRI_RUNTIME(cli->client, cli->call, Status, status, &in, &out, e) < 0)
		return -1;
	for (size_t i = 0; out->status && i < out->status->n_conditions; i++) {
		const Runtime__V1__RuntimeCondition *k = out->status->conditions[i];

		printf("%s: %s%s%s\n", k->type, k->status ? "yes" : "no", str_is_empty(k->message) ? "" : ": ",
		       k->message);
	}
	for (size_t i = 0; i < out->n_runtime_handlers; i++)
		if (!str_is_empty(out->runtime_handlers[i]->name))
			printf("handler: %s\n", out->runtime_handlers[i]->name);
	for (size_t i = 0; i < out->n_info; i++)
		printf("%s: %s\n", out->info[i]->key, out->info[i]->value);
	return 0;
}

int verb_version(struct cli *cli, char *const *argv, struct err *e)
{
	static const struct opt opts[] = { { 0 } };
	Runtime__V1__VersionRequest in = RUNTIME__V1__VERSION_REQUEST__INIT;
	Runtime__V1__VersionResponse *out;
	char **words;
	int rc = cli_options(cli, "version", opts, 0, argv, &words, e);

	if (rc)
		return rc < 0 ? -1 : 0;
	puts("knarr " KNARR_VERSION);
	if (cli_connect(cli, e) < 0 ||
	    CRI_RUNTIME(cli->client, cli->call, Version, version, &in, &out, e) < 0)
		return -1;
	printf("%s %s, CRI %s\n", out->runtime_name, out->runtime_version, out->runtime_api_version);
	return 0;
}
