#include "cli/cli.h"

#include "base/json.h"
#include "cri.pb-c.h"

#include <stdlib.h>

static const char *pod_name(const Runtime__V1__ListPodSandboxResponse *pods, const char *id, const char **ns)
{
	for (size_t i = 0; i < pods->n_items; i++)
		if (streq(pods->items[i]->id, id) && pods->items[i]->metadata) {
			*ns = pods->items[i]->metadata->namespace_;
			return pods->items[i]->metadata->name;
		}
	*ns = "";
	return "";
}

static const char *label(const Runtime__V1__Container *k, const char *key)
{
	for (size_t i = 0; i < k->n_labels; i++)
		if (streq(k->labels[i]->key, key))
			return k->labels[i]->value;
	return NULL;
}

static struct found found_of(struct arena *a, const Runtime__V1__Container *k,
			     const Runtime__V1__ListPodSandboxResponse *pods)
{
	const char *ns, *pod = pod_name(pods, k->pod_sandbox_id, &ns), *own = label(k, LABEL_NAME);
	struct found f = {
		.id = k->id, .pod_id = k->pod_sandbox_id, .state = (int)k->state,
		.created_wall_ns = k->created_at, .log_path = "",
		.image = k->image && !str_is_empty(k->image->user_specified_image) ?
			k->image->user_specified_image : k->image ? k->image->image : "",
	};

	/* A user's container has a name; kubelet's is called by its pod. */
	f.name = own ? (char *)own : arena_printf(a, "%s/%s/%s", ns, pod, k->metadata ? k->metadata->name : "");
	f.labels.p = arena_newn0(a, struct json_pair, k->n_labels + 1);
	for (size_t i = 0; i < k->n_labels; i++)
		f.labels.p[f.labels.count++] = (struct json_pair){ k->labels[i]->key, k->labels[i]->value };
	return f;
}

static bool has_container(const struct found *all, size_t n, const char *pod_id)
{
	for (size_t i = 0; i < n; i++)
		if (streq(all[i].pod_id, pod_id))
			return true;
	return false;
}

static struct found found_unfinished(const Runtime__V1__PodSandbox *p)
{
	return (struct found){ .id = "", .pod_id = p->id, .name = p->metadata->name, .image = "", .log_path = "",
			       .state = -1, .created_wall_ns = p->created_at };
}

/* Pods are asked for first: one of a `knarr run` under way may get its container in between, not lose it. */
int cli_containers(struct cli *cli, struct found **out, size_t *n, struct err *e)
{
	Runtime__V1__ListContainersRequest in = RUNTIME__V1__LIST_CONTAINERS_REQUEST__INIT;
	Runtime__V1__ListPodSandboxRequest pods_in = RUNTIME__V1__LIST_POD_SANDBOX_REQUEST__INIT;
	Runtime__V1__ListContainersResponse *list;
	Runtime__V1__ListPodSandboxResponse *pods;
	struct found *all;
	size_t k = 0;

	if (cli_connect(cli, e) < 0 ||
	    CRI_RUNTIME(cli->client, cli->call, ListPodSandbox, list_pod_sandbox, &pods_in, &pods, e) < 0 ||
	    CRI_RUNTIME(cli->client, cli->call, ListContainers, list_containers, &in, &list, e) < 0)
		return -1;
	all = arena_newn0(cli->a, struct found, list->n_containers + pods->n_items + 1);
	for (; k < list->n_containers; k++)
		all[k] = found_of(cli->a, list->containers[k], pods);
	for (size_t i = 0; i < pods->n_items; i++) {
		const Runtime__V1__PodSandbox *p = pods->items[i];

		if (p->metadata && streq(p->metadata->namespace_, USER_NAMESPACE) && !has_container(all, k, p->id))
			all[k++] = found_unfinished(p);
	}
	*out = all;
	*n = k;
	return 0;
}

bool cli_is_unfinished(const struct found *f)
{
	return !*f->id;
}

static int log_path_of(struct cli *cli, struct found *f, struct err *e)
{
	Runtime__V1__ContainerStatusRequest in = RUNTIME__V1__CONTAINER_STATUS_REQUEST__INIT;
	Runtime__V1__ContainerStatusResponse *status;

	in.container_id = f->id;
	if (CRI_RUNTIME(cli->client, cli->call, ContainerStatus, container_status, &in, &status, e) < 0)
		return -1;
	if (status->status)
		f->log_path = status->status->log_path;
	return 0;
}

int cli_find_any(struct cli *cli, const char *name, struct found *out, struct err *e)
{
	const struct found *by_name = NULL, *by_prefix = NULL;
	struct found *all;
	size_t n, prefixes = 0;

	if (cli_containers(cli, &all, &n, e) < 0)
		return -1;
	for (size_t i = 0; i < n; i++) {
		const char *id = cli_is_unfinished(&all[i]) ? all[i].pod_id : all[i].id;

		if (streq(all[i].name, name) || streq(id, name))
			by_name = &all[i];
		if (*name && starts_with(id, name)) {
			by_prefix = &all[i];
			prefixes++;
		}
	}
	if (!by_name && prefixes > 1)
		return err_set(e, ERR_INVALID, "\"%s\" begins the IDs of %zu containers: give more of it", name, prefixes);
	if (!by_name && !by_prefix)
		return err_set(e, ERR_NOT_FOUND, "no container is called \"%s\"; knarr ps -a lists them all", name);
	*out = by_name ? *by_name : *by_prefix;
	return 0;
}

int cli_find(struct cli *cli, const char *name, struct found *out, struct err *e)
{
	if (cli_find_any(cli, name, out, e) < 0)
		return -1;
	if (cli_is_unfinished(out))
		return err_set(e, ERR_STATE, "%s was never finished; knarr rm %s removes it", out->name, out->name);
	return log_path_of(cli, out, e);
}
