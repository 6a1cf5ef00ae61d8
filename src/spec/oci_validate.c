#include "spec/oci_config.h"

static int bad(struct err *e, const char *field, const char *what, const char *value)
{
	return err_set(e, ERR_INVALID, "config.json: %s: %s: \"%s\"", field, what, value);
}

static int one_of(const char *value, const char *const *words, const char *field, struct err *e)
{
	for (; *words; words++)
		if (streq(value, *words))
			return 0;
	return bad(e, field, "not known", value);
}

const struct oci_namespace *oci_namespace_find(const struct oci_config *c, const char *type)
{
	if (c->on_linux)
		OCI_EACH(oci_namespace, ns, c->on_linux->namespaces)
			if (streq(ns->type, type))
				return ns;
	return NULL;
}

static int check_version(const char *v, struct err *e)
{
	if (!starts_with(v, "1.") || v[2] < '0' || v[2] > '9')
		return bad(e, "ociVersion", "only 1.x is known", v);
	return 0;
}

static int check_rlimits(const struct oci_process *p, struct err *e)
{
	OCI_EACH(oci_rlimit, r, p->rlimits) {
		if (r->soft > r->hard)
			return bad(e, "process.rlimits", "soft is above hard", r->type);
		OCI_EACH(oci_rlimit, other, p->rlimits)
			if (other < r && streq(other->type, r->type))
				return bad(e, "process.rlimits", "there twice", r->type);
	}
	return 0;
}

static int check_env(char *const *env, struct err *e)
{
	for (; env && *env; env++)
		if (!strchr(*env, '=') || **env == '=')
			return bad(e, "process.env", "not NAME=value", *env);
	return 0;
}

int oci_process_validate(const struct oci_process *p, struct err *e)
{
	if (!p->args || !p->args[0])
		return err_set(e, ERR_INVALID, "config.json: process.args is empty: nothing to run");
	if (str_is_empty(p->cwd) || p->cwd[0] != '/')
		return bad(e, "process.cwd", "must be an absolute path", p->cwd ? p->cwd : "");
	if (p->oom_score_adj && (*p->oom_score_adj < -1000 || *p->oom_score_adj > 1000))
		return err_set(e, ERR_INVALID, "config.json: process.oomScoreAdj: %d is not within -1000 to 1000",
			       *p->oom_score_adj);
	if (check_env(p->env, e) < 0)
		return -1;
	return check_rlimits(p, e);
}

static int check_namespaces(const struct oci_linux *l, struct err *e)
{
	static const char *const types[] = {
		"pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time", NULL
	};

	OCI_EACH(oci_namespace, ns, l->namespaces) {
		if (one_of(ns->type, types, "linux.namespaces.type", e) < 0)
			return -1;
		if (!str_is_empty(ns->path) && ns->path[0] != '/')
			return bad(e, "linux.namespaces.path", "must be absolute", ns->path);
		OCI_EACH(oci_namespace, other, l->namespaces)
			if (other < ns && streq(other->type, ns->type))
				return bad(e, "linux.namespaces", "there twice", ns->type);
	}
	return 0;
}

static int check_devices(const struct oci_linux *l, struct err *e)
{
	static const char *const types[] = { "c", "b", "u", "p", NULL };
	static const char *const rule_types[] = { "a", "c", "b", NULL };

	OCI_EACH(oci_device, d, l->devices) {
		if (d->path[0] != '/')
			return bad(e, "linux.devices.path", "must be absolute", d->path);
		if (one_of(d->type, types, "linux.devices.type", e) < 0)
			return -1;
	}
	if (!l->resources)
		return 0;
	OCI_EACH(oci_device_rule, r, l->resources->devices) {
		if (!str_is_empty(r->type) && one_of(r->type, rule_types, "linux.resources.devices.type", e) < 0)
			return -1;
		if (r->access && r->access[strspn(r->access, "rwma")])
			return bad(e, "linux.resources.devices.access", "only r, w, m (and a, which runc takes and ignores)", r->access);
	}
	return 0;
}

/* Which namespace a sysctl belongs to; NULL: to the whole node, so no container may set it. */
static const char *sysctl_namespace(const char *key)
{
	static const char *const ipc[] = {
		"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall",
		"kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced", NULL
	};

	for (const char *const *k = ipc; *k; k++)
		if (streq(key, *k))
			return "ipc";
	if (starts_with(key, "fs.mqueue."))
		return "ipc";
	if (starts_with(key, "net."))
		return "network";
	if (streq(key, "kernel.domainname") || streq(key, "kernel.hostname"))
		return "uts";
	if (starts_with(key, "user."))
		return "user";
	return NULL;
}

static int check_sysctls(const struct oci_config *c, struct err *e)
{
	const struct json_map *m = &c->on_linux->sysctl;

	for (size_t i = 0; i < m->count; i++) {
		auto_arena a = { 0 };
		char *key = arena_strdup(&a, m->p[i].key);
		const char *type;

		/* "net/ipv4/ip_forward" names the same; an interface's dots are slashes then. */
		if (strcspn(key, "/") < strcspn(key, "."))
			for (char *p = key; *p; p++)
				*p = *p == '/' ? '.' : *p == '.' ? '/' : *p;
		if (strstr(key, "..") || key[0] == '.')
			return bad(e, "linux.sysctl", "not a sysctl's name", m->p[i].key);
		type = sysctl_namespace(key);
		if (!type)
			return bad(e, "linux.sysctl", "belongs to the node, not to a namespace", m->p[i].key);
		if (!oci_namespace_find(c, type))
			return err_set(e, ERR_INVALID, "config.json: linux.sysctl: \"%s\" needs a %s namespace of "
				       "the container's own", m->p[i].key, type);
		if (streq(key, "kernel.hostname") && !str_is_empty(c->hostname))
			return bad(e, "linux.sysctl", "contradicts hostname", m->p[i].key);
	}
	return 0;
}

enum { IDMAP_ENTRIES_MAX = 340 };       /* what the kernel takes */

static bool overlap(uint32_t a, uint32_t a_size, uint32_t b, uint32_t b_size)
{
	return a < b ? b - a < a_size : a - b < b_size;
}

static int check_map(const struct json_vec *v, const char *field, struct err *e)
{
	if (v->count > IDMAP_ENTRIES_MAX)
		return err_set(e, ERR_INVALID, "config.json: %s: %zu entries, the kernel takes %d", field, v->count,
			       IDMAP_ENTRIES_MAX);
	OCI_EACH(oci_idmap, m, *v) {
		size_t at = (size_t)(m - (const struct oci_idmap *)v->p);

		if (!m->size || m->container_id > UINT32_MAX - m->size || m->host_id > UINT32_MAX - m->size)
			return err_set(e, ERR_INVALID, "config.json: %s[%zu].size: %u ids from %u on are no range of ids", field,
				       at, m->size, MAX(m->container_id, m->host_id));
		OCI_EACH(oci_idmap, other, *v)
			if (other < m && (overlap(m->container_id, m->size, other->container_id, other->size) ||
					  overlap(m->host_id, m->size, other->host_id, other->size)))
				return err_set(e, ERR_INVALID, "config.json: %s[%zu] overlaps %s[%zu]", field, at, field,
					       (size_t)(other - (const struct oci_idmap *)v->p));
	}
	return 0;
}

static int check_has_root(const struct json_vec *v, const char *field, struct err *e)
{
	OCI_EACH(oci_idmap, m, *v)
		if (!m->container_id)
			return 0;
	return err_set(e, ERR_INVALID, "config.json: %s: the container's id 0 is not mapped", field);
}

static int check_idmaps(const struct oci_config *c, struct err *e)
{
	const struct oci_namespace *user = oci_namespace_find(c, "user");
	const struct oci_linux *l = c->on_linux;
	bool some = l->uid_mappings.count || l->gid_mappings.count;

	if (some && !user)
		return err_set(e, ERR_INVALID, "config.json: linux.uidMappings: there is no user namespace");
	if (check_map(&l->uid_mappings, "linux.uidMappings", e) < 0 ||
	    check_map(&l->gid_mappings, "linux.gidMappings", e) < 0)
		return -1;
	if (user && (some || str_is_empty(user->path)) &&
	    (check_has_root(&l->uid_mappings, "linux.uidMappings", e) < 0 ||
	     check_has_root(&l->gid_mappings, "linux.gidMappings", e) < 0))
		return -1;
	if (l->time_offsets && (!oci_namespace_find(c, "time") || !str_is_empty(oci_namespace_find(c, "time")->path)))
		return err_set(e, ERR_INVALID, "config.json: linux.timeOffsets: there is no new time namespace");
	return 0;
}

static int check_mounts(const struct oci_config *c, struct err *e)
{
	OCI_EACH(oci_mount, m, c->mounts) {
		struct err wrong;

		if (str_is_empty(m->destination))
			return err_set(e, ERR_INVALID, "config.json: mounts.destination is empty");
		if (check_map(&m->uid_mappings, "uidMappings", &wrong) < 0 ||
		    check_map(&m->gid_mappings, "gidMappings", &wrong) < 0)
			return err_set(e, ERR_INVALID, "config.json: mounts: %s: %s", m->destination,
				       wrong.msg + strlen("config.json: "));
	}
	return 0;
}

enum { INTERFACE_NAME_MAX = 15 };

static bool is_interface_name(const char *name)
{
	size_t n = strlen(name);

	return n && n <= INTERFACE_NAME_MAX && strcspn(name, "/: \t\n\v\f\r") == n && !streq(name, ".") && !streq(name, "..");
}

static int check_net_devices(const struct oci_config *c, struct err *e)
{
	const struct json *all = c->on_linux->net_devices;

	if (!all || (all->type == JSON_OBJECT && !all->count))
		return 0;
	if (all->type != JSON_OBJECT)
		return err_set(e, ERR_INVALID, "config.json: linux.netDevices: not an object");
	if (!oci_namespace_find(c, "network"))
		return err_set(e, ERR_INVALID, "config.json: linux.netDevices: needs a network namespace of the container's own");
	for (const struct json *d = all->first; d; d = d->next) {
		const char *name = oci_net_device_name(d);

		if (!is_interface_name(d->key) || !name || !is_interface_name(name))
			return bad(e, "linux.netDevices", "not the name of an interface", name ? name : d->key);
		for (const struct json *other = all->first; other != d; other = other->next)
			if (streq(oci_net_device_name(other), name))
				return bad(e, "linux.netDevices", "two interfaces of this name", name);
	}
	return 0;
}

const char *oci_net_device_name(const struct json *device)
{
	const struct json *name = json_get(device, "name");

	if (device->type != JSON_OBJECT || (name && name->type != JSON_STRING))
		return NULL;
	return name && *name->text.p ? name->text.p : device->key;
}

static int check_linux(const struct oci_config *c, struct err *e)
{
	static const char *const propagation[] = {
		"", "shared", "rshared", "slave", "rslave", "private", "rprivate", "unbindable", "runbindable",
		NULL
	};
	const struct oci_linux *l = c->on_linux;

	if (check_namespaces(l, e) < 0 || check_devices(l, e) < 0 || check_sysctls(c, e) < 0)
		return -1;
	if (l->rootfs_propagation &&
	    one_of(l->rootfs_propagation, propagation, "linux.rootfsPropagation", e) < 0)
		return -1;
	for (char **p = l->masked_paths; p && *p; p++)
		if (**p != '/')
			return bad(e, "linux.maskedPaths", "must be absolute", *p);
	for (char **p = l->readonly_paths; p && *p; p++)
		if (**p != '/')
			return bad(e, "linux.readonlyPaths", "must be absolute", *p);
	return check_idmaps(c, e) < 0 ? -1 : check_net_devices(c, e);
}

static int check_hooks(const struct oci_hooks *h, struct err *e)
{
	const struct json_vec *const all[] = {
		&h->prestart, &h->create_runtime, &h->create_container, &h->start_container, &h->poststart,
		&h->poststop,
	};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		OCI_EACH(oci_hook, hook, *all[i]) {
			if (hook->path[0] != '/')
				return bad(e, "hooks.path", "must be absolute", hook->path);
			if (hook->timeout && *hook->timeout <= 0)
				return bad(e, "hooks.timeout", "must be above 0", hook->path);
		}
	return 0;
}

int oci_config_validate(const struct oci_config *c, struct err *e)
{
	if (check_version(c->oci_version, e) < 0)
		return -1;
	if (!c->root || str_is_empty(c->root->path))
		return err_set(e, ERR_INVALID, "config.json: root.path is missing");
	if (!c->process)
		return err_set(e, ERR_INVALID, "config.json: process is missing");
	if (oci_process_validate(c->process, e) < 0)
		return -1;
	if (check_mounts(c, e) < 0)
		return -1;
	if (c->hooks && check_hooks(c->hooks, e) < 0)
		return -1;
	if (!str_is_empty(c->hostname) && !oci_namespace_find(c, "uts"))
		return bad(e, "hostname", "needs a uts namespace of the container's own", c->hostname);
	if (!str_is_empty(c->domainname) && !oci_namespace_find(c, "uts"))
		return bad(e, "domainname", "needs a uts namespace of the container's own", c->domainname);
	return c->on_linux ? check_linux(c, e) : 0;
}

/* --- the place of an error ------------------------------------------------------------------------ */

static bool is_name(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* Of an array's objects the one whose member is the value that the error quotes; NULL: none. */
static const struct json *quoted_in(const struct json *array, const char *name, const char *msg)
{
	for (const struct json *item = array->first; item; item = item->next) {
		const struct json *m = json_get(item, name);
		const char *at = m && m->type == JSON_STRING && m->text.len ? strstr(msg, m->text.p) : NULL;

		if (at && at > msg && at[-1] == '"' && at[m->text.len] == '"')
			return m;
	}
	return NULL;
}

void oci_config_place(struct arena *a, struct str text, struct err *e)
{
	const char *msg = starts_with(e->msg, "config.json: ") ? e->msg + 13 : e->msg, *p = msg;
	struct err what = *e, ignored;
	struct json *doc;
	const struct json *at;

	if (json_parse(a, text, &doc, &ignored) < 0)
		return;
	at = doc;
	while (is_name(*p)) {
		size_t n = 0;
		const struct json *next;
		char *name;

		while (is_name(p[n]))
			n++;
		name = arena_strndup(a, p, n);
		next = at->type == JSON_ARRAY ? quoted_in(at, name, msg) : json_get(at, name);
		if (!next)
			break;
		at = next;
		p += n;
		p += *p == '.';
	}
	if (at != doc)
		(void)err_set(e, what.kind, "config.json: line %u column %u: %s", at->line, at->column,
			      what.msg + (msg - e->msg));
}

static bool needs_1_1(const struct oci_config *c)
{
	const struct oci_process *p = c->process;
	const struct oci_linux *l = c->on_linux;
	const struct oci_resources *r = l ? l->resources : NULL;

	if (c->domainname || (p && (p->scheduler || p->io_priority || p->user.umask)))
		return true;
	OCI_EACH(oci_mount, m, c->mounts)
		if (m->uid_mappings.count || m->gid_mappings.count || strv_has(m->options, "rro"))
			return true;
	if (l && (l->time_offsets || oci_namespace_find(c, "time")))
		return true;
	if (l && l->seccomp && (l->seccomp->default_errno_ret || l->seccomp->listener_path || l->seccomp->flags))
		return true;
	return r && (r->unified.count || (r->cpu && (r->cpu->burst || r->cpu->idle)) ||
		     (r->memory && r->memory->check_before_update));
}

const char *oci_config_lowest_version(const struct oci_config *c)
{
	const struct oci_linux *l = c->on_linux;

	if (l && (l->net_devices || l->memory_policy || (l->intel_rdt && l->intel_rdt->schemata)))
		return "1.3.0";
	if (c->process && c->process->exec_cpu_affinity)
		return "1.2.1";
	OCI_EACH(oci_mount, m, c->mounts)
		if (strv_has(m->options, "idmap") || strv_has(m->options, "ridmap"))
			return "1.2.0";
	return needs_1_1(c) ? "1.1.0" : "1.0.2";
}
