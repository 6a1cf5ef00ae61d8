#include "cli/cli.h"

#include "cri.pb-c.h"

#include <stdio.h>

static int inspect_image(struct cli *cli, const char *name, struct err *e)
{
	Runtime__V1__ImageStatusRequest in = RUNTIME__V1__IMAGE_STATUS_REQUEST__INIT;
	Runtime__V1__ImageSpec spec = RUNTIME__V1__IMAGE_SPEC__INIT;
	Runtime__V1__ImageStatusResponse *out;

	spec.image = (char *)name;
	in.image = &spec;
	in.verbose = true;
	if (CRI_IMAGE(cli->client, cli->call, ImageStatus, image_status, &in, &out, e) < 0)
		return -1;
	if (!out->image)
		return err_set(e, ERR_NOT_FOUND, "there is neither a container nor an image called \"%s\"", name);
	return message_print(cli, &out->base, e);
}

int verb_inspect(struct cli *cli, char *const *argv, struct err *e)
{
	static const struct opt opts[] = { { 0 } };
	Runtime__V1__ContainerStatusRequest in = RUNTIME__V1__CONTAINER_STATUS_REQUEST__INIT;
	Runtime__V1__ContainerStatusResponse *out;
	struct found found;
	const char *name;
	char **words;
	int rc = cli_options(cli, "inspect", opts, 0, argv, &words, e);

	if (rc)
		return rc < 0 ? -1 : 0;
	if (cli_one_word(words, "the container or image", &name, e) < 0)
		return -1;
	if (cli_find(cli, name, &found, e) < 0)
		return e->kind == ERR_NOT_FOUND ? inspect_image(cli, name, e) : -1;
	in.container_id = found.id;
	in.verbose = true;
	if (CRI_RUNTIME(cli->client, cli->call, ContainerStatus, container_status, &in, &out, e) < 0)
		return -1;
	return message_print(cli, &out->base, e);
}

static void stats_row(struct cli *cli, struct table *t, const struct found *f, const Runtime__V1__ContainerStats *s)
{
	uint64_t memory = s->memory && s->memory->working_set_bytes ? s->memory->working_set_bytes->value : 0;
	uint64_t nanocores = s->cpu && s->cpu->usage_nano_cores ? s->cpu->usage_nano_cores->value : 0;
	uint64_t seconds = s->cpu && s->cpu->usage_core_nano_seconds ? s->cpu->usage_core_nano_seconds->value : 0;
	uint64_t layer = s->writable_layer && s->writable_layer->used_bytes ? s->writable_layer->used_bytes->value : 0;

	table_row(t, text_short_id(cli->a, f->id), f->name, arena_printf(cli->a, "%.1f%%", (double)nanocores / 1e7),
		  arena_printf(cli->a, "%.2fs", (double)seconds / 1e9), text_size(cli->a, memory),
		  text_size(cli->a, layer));
}

/* The words as IDs, or NULL where there are none. */
static int ids_of(struct cli *cli, char *const *words, char ***out, struct err *e)
{
	struct found found;

	*out = NULL;
	for (; *words; words++) {
		if (cli_find(cli, *words, &found, e) < 0)
			return -1;
		*out = strv_append(cli->a, *out, found.id);
	}
	return 0;
}

int verb_stats(struct cli *cli, char *const *argv, struct err *e)
{
	static const struct opt opts[] = { { 0 } };
	Runtime__V1__ListContainerStatsRequest in = RUNTIME__V1__LIST_CONTAINER_STATS_REQUEST__INIT;
	Runtime__V1__ListContainerStatsResponse *out;
	struct table *t = table_new(cli->a, 6);
	struct found *all;
	char **words, **only;
	size_t n;
	int rc = cli_options(cli, "stats", opts, 0, argv, &words, e);

	if (rc)
		return rc < 0 ? -1 : 0;
	if (ids_of(cli, words, &only, e) < 0 || cli_containers(cli, &all, &n, e) < 0 ||
	    CRI_RUNTIME(cli->client, cli->call, ListContainerStats, list_container_stats, &in, &out, e) < 0)
		return -1;
	table_row(t, "ID", "NAME", "CPU", "CPU TIME", "MEMORY", "WRITTEN");
	for (size_t i = 0; i < out->n_stats; i++)
		for (size_t j = 0; j < n; j++)
			if (out->stats[i]->attributes && streq(out->stats[i]->attributes->id, all[j].id) &&
			    (!only || strv_has(only, all[j].id)))
				stats_row(cli, t, &all[j], out->stats[i]);
	table_print(t);
	return 0;
}
