/* What plugins wish of a container, made in its config.json. */
#include "nri/parts.h"

#include <stdlib.h>

/* --- claims ----------------------------------------------------------------------------------------------- */

struct claimed {
	const char *key, *plugin;
};

static const char *claim_name(struct arena *a, const char *what, const char *key)
{
	return key ? arena_printf(a, "%s %s", what, key) : what;
}

int claim(struct claims *c, const char *plugin, const char *what, const char *key, struct err *e)
{
	struct claimed *mine;
	const struct claimed *other;

	if (!c)
		return 0;
	mine = arena_new0(c->a, struct claimed);
	*mine = (struct claimed){ claim_name(c->a, what, key), plugin };
	other = map_get(&c->map, mine->key);
	if (!other) {
		(void)map_add(&c->map, mine->key, mine);
		return 0;
	}
	if (streq(other->plugin, plugin))
		return 0;
	return err_set(e, ERR_STATE, "NRI plugins %s and %s both want to set %s", other->plugin, plugin, mine->key);
}

void claim_clear(struct claims *c, const char *what, const char *key)
{
	if (c)
		(void)map_remove(&c->map, claim_name(c->a, what, key));
}

static int wish(struct adjuster *j, const char *what, const char *key, struct err *e)
{
	return claim(j->claims, j->plugin, what, key, e);
}

/* A key that begins with "-" is to be removed. */
static bool is_removal(const char *key, const char **rest)
{
	*rest = key[0] == '-' ? key + 1 : key;
	return key[0] == '-';
}

/* --- vectors -------------------------------------------------------------------------------------------------- */

static void vec_add(struct arena *a, struct json_vec *v, size_t size, const void *item)
{
	char *p = arena_array0(a, v->count + 1, size);

	if (v->count > 0)
		memcpy(p, v->p, v->count * size);
	memcpy(p + v->count * size, item, size);
	*v = (struct json_vec){ p, v->count + 1 };
}

static void map_drop(struct json_map *m, const char *key)
{
	size_t n = 0;

	for (size_t i = 0; i < m->count; i++)
		if (!streq(m->p[i].key, key))
			m->p[n++] = m->p[i];
	m->count = n;
}

static void map_set(struct arena *a, struct json_map *m, const char *key, const char *value)
{
	struct json_pair *p = arena_newn0(a, struct json_pair, m->count + 1);

	map_drop(m, key);
	if (m->count > 0)
		memcpy(p, m->p, m->count * sizeof(*p));
	p[m->count] = (struct json_pair){ (char *)key, (char *)value };
	*m = (struct json_map){ p, m->count + 1 };
}

static char **strv_of(struct arena *a, size_t n, char *const *v)
{
	char **out = arena_newn0(a, char *, n + 1);

	if (n > 0)
		memcpy(out, v, n * sizeof(*out));
	return out;
}

/* Every map entry that protoc-c makes of map<string, string> begins like this. */
struct map_entry {
	ProtobufCMessage base;
	char *key, *value;
};

/* Removals come first, so that a plugin can take over what another one has set. */
static int adjust_map(struct adjuster *j, const char *what, size_t n, void *entries, struct json_map *to, struct err *e)
{
	struct map_entry *const *v = entries;
	const char *key;

	for (size_t i = 0; i < n; i++) {
		if (!is_removal(v[i]->key, &key))
			continue;
		claim_clear(j->claims, what, key);
		map_drop(to, key);
	}
	for (size_t i = 0; i < n; i++) {
		if (is_removal(v[i]->key, &key))
			continue;
		if (wish(j, what, key, e) < 0)
			return -1;
		map_set(j->a, to, key, v[i]->value);
	}
	return 0;
}

/* --- the process --------------------------------------------------------------------------------------------------- */

static bool names(const char *entry, const char *key)
{
	size_t n = strlen(key);

	return strncmp(entry, key, n) == 0 && entry[n] == '=';
}

static void env_drop(char **env, const char *key)
{
	size_t n = 0;

	for (size_t i = 0; env && env[i]; i++)
		if (!names(env[i], key))
			env[n++] = env[i];
	if (env)
		env[n] = NULL;
}

static void env_put(struct adjuster *j, const char *key, const char *value)
{
	struct oci_process *p = j->config->process;
	char *entry = arena_printf(j->a, "%s=%s", key, value);

	for (char **v = p->env; v && *v; v++) {
		if (names(*v, key)) {
			*v = entry;
			return;
		}
	}
	p->env = strv_append(j->a, p->env, entry);
}

static int adjust_env(struct adjuster *j, const NRI_T(ContainerAdjustment) *w, struct err *e)
{
	const char *key;

	j->config->process->env = strv_dup(j->a, j->config->process->env);
	for (size_t i = 0; i < w->n_env; i++) {
		if (!is_removal(w->env[i]->key, &key))
			continue;
		claim_clear(j->claims, "environment variable", key);
		env_drop(j->config->process->env, key);
	}
	for (size_t i = 0; i < w->n_env; i++) {
		if (is_removal(w->env[i]->key, &key))
			continue;
		if (!key[0] || strchr(key, '='))
			return err_set(e, ERR_INVALID, "NRI plugin %s: environment variable \"%s\" is no name", j->plugin, key);
		if (wish(j, "environment variable", key, e) < 0)
			return -1;
		env_put(j, key, w->env[i]->value);
	}
	return 0;
}

/* A first argument of "" says: even where another plugin has set them. */
static int adjust_args(struct adjuster *j, const NRI_T(ContainerAdjustment) *w, struct err *e)
{
	size_t first = w->n_args > 0 && !w->args[0][0];

	if (w->n_args == 0)
		return 0;
	if (first)
		claim_clear(j->claims, "arguments", NULL);
	if (wish(j, "arguments", NULL, e) < 0)
		return -1;
	if (w->n_args == first)
		return err_set(e, ERR_INVALID, "NRI plugin %s: args are empty", j->plugin);
	j->config->process->args = strv_of(j->a, w->n_args - first, w->args + first);
	return 0;
}

static int adjust_rlimits(struct adjuster *j, const NRI_T(ContainerAdjustment) *w, struct err *e)
{
	struct json_vec *to = &j->config->process->rlimits;

	for (size_t i = 0; i < w->n_rlimits; i++) {
		const struct oci_rlimit r = { w->rlimits[i]->type, w->rlimits[i]->soft, w->rlimits[i]->hard };
		struct json_vec kept = { 0 };

		if (wish(j, "rlimit", r.type, e) < 0)
			return -1;
		OCI_EACH(oci_rlimit, old, *to)
			if (!streq(old->type, r.type))
				vec_add(j->a, &kept, sizeof(*old), old);
		vec_add(j->a, &kept, sizeof(r), &r);
		*to = kept;
	}
	return 0;
}

static char *enum_name(const ProtobufCEnumDescriptor *type, int value)
{
	const ProtobufCEnumValue *v = protobuf_c_enum_descriptor_get_value(type, value);

	return v ? (char *)v->name : (char *)"unknown";
}

static char **enum_names(struct arena *a, const ProtobufCEnumDescriptor *type, size_t n, const void *values)
{
	const int *v = values;
	char **out = arena_newn0(a, char *, n + 1);

	for (size_t i = 0; i < n; i++)
		out[i] = enum_name(type, v[i]);
	return n > 0 ? out : NULL;
}

static int adjust_scheduling(struct adjuster *j, const NRI_T(LinuxContainerAdjustment) *l, struct err *e)
{
	struct oci_process *p = j->config->process;

	if (l->oom_score_adj) {
		if (wish(j, "the OOM score", NULL, e) < 0)
			return -1;
		p->oom_score_adj = arena_new0(j->a, int32_t);
		*p->oom_score_adj = (int32_t)l->oom_score_adj->value;
	}
	if (l->io_priority) {
		if (wish(j, "the I/O priority", NULL, e) < 0)
			return -1;
		p->io_priority = NULL;
		if (l->io_priority->class_ != 0) {
			p->io_priority = arena_new0(j->a, struct oci_io_priority);
			p->io_priority->class_name = enum_name(&NRI_D(ioprio_class), (int)l->io_priority->class_);
			p->io_priority->priority = l->io_priority->priority;
		}
	}
	if (l->scheduler) {
		const NRI_T(LinuxScheduler) *s = l->scheduler;

		if (wish(j, "the scheduler", NULL, e) < 0)
			return -1;
		p->scheduler = NULL;
		if (s->policy != 0) {
			p->scheduler = arena_new0(j->a, struct oci_scheduler);
			*p->scheduler = (struct oci_scheduler){
				.policy = enum_name(&NRI_D(linux_scheduler_policy), (int)s->policy), .nice = s->nice,
				.priority = s->priority, .runtime = s->runtime, .deadline = s->deadline,
				.period = s->period,
				.flags = enum_names(j->a, &NRI_D(linux_scheduler_flag), s->n_flags, s->flags) };
		}
	}
	return 0;
}

/* --- mounts, hooks, devices ------------------------------------------------------------------------------------------ */

static void mount_drop(struct arena *a, struct json_vec *v, const char *destination)
{
	struct json_vec kept = { 0 };

	OCI_EACH(oci_mount, m, *v)
		if (!streq(m->destination, destination))
			vec_add(a, &kept, sizeof(*m), m);
	*v = kept;
}

static size_t depth(const char *path)
{
	size_t n = 0;

	for (; *path; path++)
		n += *path == '/' && path[1] != '/' && path[1] != '\0';
	return n;
}

/* Behind all that are not deeper, so that none hides it and it hides none that lies in it. */
static void mount_put(struct arena *a, struct json_vec *v, const struct oci_mount *m)
{
	struct json_vec sorted = { 0 };
	size_t at = 0, i = 0;

	OCI_EACH(oci_mount, old, *v) {
		i++;
		if (depth(old->destination) <= depth(m->destination))
			at = i;
	}
	i = 0;
	OCI_EACH(oci_mount, old, *v) {
		if (i++ == at)
			vec_add(a, &sorted, sizeof(*m), m);
		vec_add(a, &sorted, sizeof(*old), old);
	}
	if (at >= v->count)
		vec_add(a, &sorted, sizeof(*m), m);
	*v = sorted;
}

static void raise_propagation(struct oci_linux *l, char *const *options)
{
	for (; options && *options; options++) {
		if (streq(*options, "rshared") || streq(*options, "shared"))
			l->rootfs_propagation = (char *)"rshared";
		else if ((streq(*options, "rslave") || streq(*options, "slave")) &&
			 (!l->rootfs_propagation || !streq(l->rootfs_propagation, "rshared")))
			l->rootfs_propagation = (char *)"rslave";
	}
}

static int adjust_mounts(struct adjuster *j, const NRI_T(ContainerAdjustment) *w, struct err *e)
{
	struct json_vec *to = &j->config->mounts;
	const char *destination;

	for (size_t i = 0; i < w->n_mounts; i++) {
		if (!is_removal(w->mounts[i]->destination, &destination))
			continue;
		claim_clear(j->claims, "mount", destination);
		mount_drop(j->a, to, destination);
	}
	for (size_t i = 0; i < w->n_mounts; i++) {
		const NRI_T(Mount) *m = w->mounts[i];
		const struct oci_mount new = { .destination = m->destination, .type = m->type, .source = m->source,
					       .options = strv_of(j->a, m->n_options, m->options) };

		if (is_removal(m->destination, &destination))
			continue;
		if (wish(j, "mount", destination, e) < 0)
			return -1;
		mount_drop(j->a, to, destination);
		mount_put(j->a, to, &new);
		raise_propagation(j->config->on_linux, new.options);
	}
	return 0;
}

static void hooks_add(struct arena *a, size_t n, NRI_T(Hook) *const *v, struct json_vec *to)
{
	for (size_t i = 0; i < n; i++) {
		const struct oci_hook h = { .path = v[i]->path, .args = strv_of(a, v[i]->n_args, v[i]->args),
					    .env = strv_of(a, v[i]->n_env, v[i]->env),
					    .timeout = v[i]->timeout ? &v[i]->timeout->value : NULL };

		vec_add(a, to, sizeof(h), &h);
	}
}

/* Many may add hooks; nobody owns them. */
static void adjust_hooks(struct adjuster *j, const NRI_T(Hooks) *w)
{
	struct oci_hooks *to = j->config->hooks;

	if (!w || w->n_prestart + w->n_create_runtime + w->n_create_container + w->n_start_container + w->n_poststart +
		  w->n_poststop == 0)
		return;
	if (!to)
		to = j->config->hooks = arena_new0(j->a, struct oci_hooks);
	hooks_add(j->a, w->n_prestart, w->prestart, &to->prestart);
	hooks_add(j->a, w->n_create_runtime, w->create_runtime, &to->create_runtime);
	hooks_add(j->a, w->n_create_container, w->create_container, &to->create_container);
	hooks_add(j->a, w->n_start_container, w->start_container, &to->start_container);
	hooks_add(j->a, w->n_poststart, w->poststart, &to->poststart);
	hooks_add(j->a, w->n_poststop, w->poststop, &to->poststop);
}

static void device_drop(struct arena *a, struct json_vec *v, const char *path)
{
	struct json_vec kept = { 0 };

	OCI_EACH(oci_device, d, *v)
		if (!streq(d->path, path))
			vec_add(a, &kept, sizeof(*d), d);
	*v = kept;
}

static void device_put(struct arena *a, struct oci_linux *l, const NRI_T(LinuxDevice) *d)
{
	const struct oci_device new = { .path = d->path, .type = d->type, .major = d->major, .minor = d->minor,
					.file_mode = d->file_mode ? &d->file_mode->value : NULL,
					.uid = d->uid ? &d->uid->value : NULL, .gid = d->gid ? &d->gid->value : NULL };
	const struct oci_device_rule rule = { .allow = true, .type = d->type, .major = (int64_t *)&d->major,
					      .minor = (int64_t *)&d->minor, .access = (char *)"rwm" };

	vec_add(a, &l->devices, sizeof(new), &new);
	vec_add(a, &l->resources->devices, sizeof(rule), &rule);
}

static int adjust_devices(struct adjuster *j, const NRI_T(LinuxContainerAdjustment) *w, struct err *e)
{
	struct oci_linux *l = j->config->on_linux;
	const char *path;

	for (size_t i = 0; i < w->n_devices; i++) {
		if (!is_removal(w->devices[i]->path, &path))
			continue;
		claim_clear(j->claims, "device", path);
		device_drop(j->a, &l->devices, path);
	}
	for (size_t i = 0; i < w->n_devices; i++) {
		if (is_removal(w->devices[i]->path, &path))
			continue;
		if (wish(j, "device", path, e) < 0)
			return -1;
		device_drop(j->a, &l->devices, path);
		device_put(j->a, l, w->devices[i]);
	}
	return 0;
}

/* --- the rest of linux --------------------------------------------------------------------------------------------------- */

static int adjust_namespaces(struct adjuster *j, const NRI_T(LinuxContainerAdjustment) *w, struct err *e)
{
	struct json_vec *to = &j->config->on_linux->namespaces;

	for (size_t i = 0; i < w->n_namespaces; i++) {
		const char *type;
		bool removal = is_removal(w->namespaces[i]->type, &type);
		const char *path = w->namespaces[i]->path;
		const struct oci_namespace new = { .type = (char *)type, .path = path[0] ? (char *)path : NULL };
		struct json_vec kept = { 0 };

		if (wish(j, "namespace", type, e) < 0)
			return -1;
		OCI_EACH(oci_namespace, ns, *to)
			if (!streq(ns->type, type))
				vec_add(j->a, &kept, sizeof(*ns), ns);
		if (!removal)
			vec_add(j->a, &kept, sizeof(new), &new);
		*to = kept;
	}
	return 0;
}

static int adjust_seccomp(struct adjuster *j, const NRI_T(LinuxSeccomp) *w, struct err *e)
{
	struct oci_seccomp *s;

	if (!w)
		return 0;
	if (wish(j, "the seccomp policy", NULL, e) < 0)
		return -1;
	s = arena_new0(j->a, struct oci_seccomp);
	*s = (struct oci_seccomp){
		.default_action = w->default_action, .default_errno_ret = w->default_errno ? &w->default_errno->value : NULL,
		.architectures = w->n_architectures ? strv_of(j->a, w->n_architectures, w->architectures) : NULL,
		.flags = w->n_flags ? strv_of(j->a, w->n_flags, w->flags) : NULL,
		.listener_path = w->listener_path[0] ? w->listener_path : NULL,
		.listener_metadata = w->listener_metadata[0] ? w->listener_metadata : NULL };
	for (size_t i = 0; i < w->n_syscalls; i++) {
		const NRI_T(LinuxSyscall) *c = w->syscalls[i];
		struct oci_syscall_rule rule = { .names = strv_of(j->a, c->n_names, c->names), .action = c->action,
						 .errno_ret = c->errno_ret ? &c->errno_ret->value : NULL };

		for (size_t k = 0; k < c->n_args; k++) {
			const struct oci_syscall_arg arg = { c->args[k]->index, c->args[k]->value, c->args[k]->value_two,
							     c->args[k]->op };

			vec_add(j->a, &rule.args, sizeof(arg), &arg);
		}
		vec_add(j->a, &s->syscalls, sizeof(rule), &rule);
	}
	j->config->on_linux->seccomp = s;
	return 0;
}

static int adjust_rdt(struct adjuster *j, const NRI_T(LinuxRdt) *w, struct err *e)
{
	static const char *const parts[] = { "RDT class of service", "RDT schemata", "RDT monitoring" };
	struct oci_linux *l = j->config->on_linux;

	if (!w)
		return 0;
	if (w->remove) {
		for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
			claim_clear(j->claims, parts[i], NULL);
		l->intel_rdt = NULL;
	}
	if ((w->clos_id && wish(j, parts[0], NULL, e) < 0) || (w->schemata && wish(j, parts[1], NULL, e) < 0) ||
	    (w->enable_monitoring && wish(j, parts[2], NULL, e) < 0))
		return -1;
	if ((w->clos_id || w->schemata || w->enable_monitoring) && !l->intel_rdt)
		l->intel_rdt = arena_new0(j->a, struct oci_intel_rdt);
	if (w->clos_id)
		l->intel_rdt->clos_id = w->clos_id->value;
	if (w->schemata)
		l->intel_rdt->schemata = strv_of(j->a, w->schemata->n_value, w->schemata->value);
	if (w->enable_monitoring)
		l->intel_rdt->enable_monitoring = w->enable_monitoring->value;
	return 0;
}

static int adjust_memory_policy(struct adjuster *j, const NRI_T(LinuxMemoryPolicy) *w, struct err *e)
{
	struct oci_memory_policy *p;

	if (!w)
		return 0;
	if (wish(j, "the memory policy", NULL, e) < 0)
		return -1;
	p = arena_new0(j->a, struct oci_memory_policy);
	p->mode = enum_name(&NRI_D(mpol_mode), (int)w->mode);
	p->nodes = w->nodes[0] ? w->nodes : NULL;
	p->flags = enum_names(j->a, &NRI_D(mpol_flag), w->n_flags, w->flags);
	j->config->on_linux->memory_policy = p;
	return 0;
}

/* {"eth1": {"name": "net0"}} */
static int add_net_device(struct buf *b, const char *host, const char *name, struct err *e)
{
	if ((b->len > 1 && buf_addz(b, ",", e) < 0) || json_write_text(b, host, e) < 0 || buf_addz(b, ":{", e) < 0)
		return -1;
	if (!str_is_empty(name) && (buf_addz(b, "\"name\":", e) < 0 || json_write_text(b, name, e) < 0))
		return -1;
	return buf_addz(b, "}", e);
}

static int adjust_net_devices(struct adjuster *j, const NRI_T(LinuxContainerAdjustment) *w, struct err *e)
{
	const struct json *old = j->config->on_linux->net_devices;
	auto_buf b = BUF(1 << 20);
	struct json *out;
	const char *key;

	if (w->n_net_devices == 0)
		return 0;
	if (buf_addz(&b, "{", e) < 0)
		return -1;
	for (size_t i = 0; i < w->n_net_devices; i++)
		if (is_removal(w->net_devices[i]->key, &key))
			claim_clear(j->claims, "network device", key);
	for (const struct json *d = old ? old->first : NULL; d; d = d->next) {
		bool gone = false;

		for (size_t i = 0; i < w->n_net_devices; i++) {
			(void)is_removal(w->net_devices[i]->key, &key);
			gone = gone || streq(key, d->key);
		}
		if (!gone && add_net_device(&b, d->key, oci_net_device_name(d), e) < 0)
			return -1;
	}
	for (size_t i = 0; i < w->n_net_devices; i++) {
		const NRI_T(LinuxNetDevice) *d = w->net_devices[i]->value;

		if (is_removal(w->net_devices[i]->key, &key))
			continue;
		if (wish(j, "network device", key, e) < 0 || add_net_device(&b, key, d ? d->name : NULL, e) < 0)
			return -1;
	}
	if (buf_addz(&b, "}", e) < 0 || json_parse(j->a, (struct str){ arena_strdup(j->a, buf_text(&b)), b.len }, &out, e) < 0)
		return -1;
	j->config->on_linux->net_devices = out->count ? out : NULL;
	return 0;
}

static int adjust_linux(struct adjuster *j, const NRI_T(LinuxContainerAdjustment) *w, struct err *e)
{
	struct oci_linux *l = j->config->on_linux;

	if (!w)
		return 0;
	if (w->cgroups_path[0]) {
		if (wish(j, "the cgroups path", NULL, e) < 0)
			return -1;
		l->cgroups_path = w->cgroups_path;
	}
	if (adjust_devices(j, w, e) < 0 || adjust_namespaces(j, w, e) < 0 || adjust_scheduling(j, w, e) < 0 ||
	    adjust_seccomp(j, w->seccomp_policy, e) < 0 || adjust_rdt(j, w->rdt, e) < 0 ||
	    adjust_memory_policy(j, w->memory_policy, e) < 0 || adjust_net_devices(j, w, e) < 0 ||
	    adjust_map(j, "sysctl", w->n_sysctl, w->sysctl, &l->sysctl, e) < 0)
		return -1;
	return w->resources ? adjust_resources(j->a, j->claims, j->plugin, "", w->resources, l->resources, e) : 0;
}

int adjust_apply(struct adjuster *j, const NRI_T(ContainerAdjustment) *w, struct err *e)
{
	if (!j->config->on_linux->resources)
		j->config->on_linux->resources = arena_new0(j->a, struct oci_resources);
	if (adjust_map(j, "annotation", w->n_annotations, w->annotations, &j->config->annotations, e) < 0 ||
	    adjust_env(j, w, e) < 0 || adjust_args(j, w, e) < 0 || adjust_mounts(j, w, e) < 0 ||
	    adjust_rlimits(j, w, e) < 0 || adjust_linux(j, w->linux, e) < 0)
		return -1;
	adjust_hooks(j, w->hooks);
	for (size_t i = 0; i < w->n_cdi_devices; i++) {
		if (wish(j, "CDI device", w->cdi_devices[i]->name, e) < 0)
			return -1;
		j->cdi_devices = strv_append(j->a, j->cdi_devices, w->cdi_devices[i]->name);
	}
	return 0;
}
