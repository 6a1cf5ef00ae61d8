/* What CDI devices change in config.json, but their mounts, which are put in order with the others
 * (container_mounts.c). */
#include "pod/container_spec_parts.h"

static void edit_env(struct arena *a, struct oci_process *p, char *const *env)
{
	for (; env && *env; env++) {
		size_t name = (size_t)(strchr(*env, '=') - *env) + 1;
		bool found = false;

		for (char **old = p->env; old && *old; old++) {
			if (strncmp(*old, *env, name) == 0) {
				*old = *env;
				found = true;
			}
		}
		if (!found)
			p->env = strv_append(a, p->env, *env);
	}
}

/* A copy with room for `more`. */
static void *grown(struct arena *a, const struct json_vec *v, size_t more, size_t size)
{
	char *copy = arena_array0(a, v->count + more + 1, size);

	if (v->count)
		memcpy(copy, v->p, v->count * size);
	return copy;
}

static uint32_t *owner(struct arena *a, uint32_t *wished, uint32_t process)
{
	return wished ? wished : process > 0 ? arena_memdup(a, &process, sizeof(process)) : NULL;
}

static void edit_device(struct arena *a, const struct cdi_device_node *d, struct oci_config *c)
{
	struct json_vec *list = &c->on_linux->devices, *rules = &c->on_linux->resources->devices;
	struct oci_device *devices = grown(a, list, 1, sizeof(*devices));
	struct oci_device_rule *allow = grown(a, rules, 1, sizeof(*allow));
	size_t n = 0;

	for (size_t i = 0; i < list->count; i++)
		if (!streq(devices[i].path, d->path))
			devices[n++] = devices[i];
	devices[n++] = (struct oci_device){
		.path = d->path, .type = d->type, .major = d->major, .minor = d->minor, .file_mode = d->file_mode,
		.uid = owner(a, d->uid, c->process->user.uid), .gid = owner(a, d->gid, c->process->user.gid),
	};
	*list = (struct json_vec){ devices, n };
	if ((d->type[0] != 'b' && d->type[0] != 'c') || streq_null(d->permissions, "none"))
		return;
	allow[rules->count] = (struct oci_device_rule){
		.allow = true, .type = d->type, .major = arena_memdup(a, &d->major, sizeof(d->major)),
		.minor = arena_memdup(a, &d->minor, sizeof(d->minor)),
		.access = str_is_empty(d->permissions) ? (char *)"rwm" : d->permissions,
	};
	*rules = (struct json_vec){ allow, rules->count + 1 };
}

static struct json_vec *hooks_of(struct oci_hooks *h, const char *name)
{
	return streq(name, "prestart") ? &h->prestart : streq(name, "createRuntime") ? &h->create_runtime :
	       streq(name, "createContainer") ? &h->create_container :
	       streq(name, "startContainer") ? &h->start_container : streq(name, "poststart") ? &h->poststart : &h->poststop;
}

static void edit_hook(struct arena *a, const struct cdi_hook *h, struct oci_config *c)
{
	struct json_vec *list;
	struct oci_hook *hooks;

	if (!c->hooks)
		c->hooks = arena_new0(a, struct oci_hooks);
	list = hooks_of(c->hooks, h->name);
	hooks = grown(a, list, 1, sizeof(*hooks));
	hooks[list->count] = (struct oci_hook){ .path = h->path, .args = h->args, .env = h->env, .timeout = h->timeout };
	*list = (struct json_vec){ hooks, list->count + 1 };
}

/* Ascending, as they are. */
static void edit_gid(struct arena *a, uint32_t gid, struct oci_user *u)
{
	uint32_t *gids = grown(a, &u->additional_gids, 1, sizeof(*gids));
	size_t n = u->additional_gids.count, at = 0;

	while (at < n && gids[at] < gid)
		at++;
	if (gid == 0 || (at < n && gids[at] == gid))
		return;
	memmove(gids + at + 1, gids + at, (n - at) * sizeof(*gids));
	gids[at] = gid;
	u->additional_gids = (struct json_vec){ gids, n + 1 };
}

static struct json *json_new(struct arena *a, enum json_type type, const char *key)
{
	struct json *j = arena_new0(a, struct json);

	*j = (struct json){ .type = type, .key = key };
	return j;
}

static void edit_net_device(struct arena *a, const struct cdi_net_device *d, struct oci_linux *l)
{
	struct json *all = json_new(a, JSON_OBJECT, NULL), *one = json_new(a, JSON_OBJECT, d->host_name),
		    *name = json_new(a, JSON_STRING, "name");

	if (l->net_devices)
		*all = *l->net_devices;
	name->text = str_of(d->name);
	one->first = name;
	one->count = 1;
	one->next = all->first;
	all->first = one;
	all->count++;
	l->net_devices = all;
}

void spec_cdi(struct arena *a, const struct container_spec_input *in, struct oci_config *c)
{
	OCI_EACH(cdi_edits, x, in->cdi) {
		const uint32_t *gids = x->additional_gids.p;

		edit_env(a, c->process, x->env);
		OCI_EACH(cdi_device_node, d, x->device_nodes)
			edit_device(a, d, c);
		OCI_EACH(cdi_net_device, d, x->net_devices)
			edit_net_device(a, d, c->on_linux);
		OCI_EACH(cdi_hook, h, x->hooks)
			edit_hook(a, h, c);
		for (size_t i = 0; i < x->additional_gids.count; i++)
			edit_gid(a, gids[i], &c->process->user);
		if (x->intel_rdt)
			c->on_linux->intel_rdt = x->intel_rdt;
	}
}
