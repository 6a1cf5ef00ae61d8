#include "nri/parts.h"

#include "base/log.h"

static char *text(const char *s)
{
	return s ? (char *)s : (char *)"";
}

/* Every map entry that protoc-c makes of map<string, string> begins like this. */
struct map_entry {
	ProtobufCMessage base;
	char *key, *value;
};

static void *map_out(struct arena *a, const struct json_map *m, const ProtobufCMessageDescriptor *type, size_t *n)
{
	struct map_entry **v = NRI_NEWV(a, m->count);

	for (size_t i = 0; i < m->count; i++) {
		v[i] = nri_message_new(a, type);
		v[i]->key = text(m->p[i].key);
		v[i]->value = text(m->p[i].value);
	}
	*n = m->count;
	return v;
}

/* An Optional… message around a value. */
#define OPTIONAL(name, type)                                                          \
	static NRI_T(type) *name(struct arena *a, int64_t value)                      \
	{                                                                             \
		NRI_T(type) *m = nri_message_new(a, &OPTIONAL_##name);                \
		m->value = (__typeof__(m->value))value;                               \
		return m;                                                             \
	}
#define OPTIONAL_opt_int NRI_D(optional_int)
#define OPTIONAL_opt_i64 NRI_D(optional_int64)
#define OPTIONAL_opt_u64 NRI_D(optional_uint64)
#define OPTIONAL_opt_u32 NRI_D(optional_uint32)
#define OPTIONAL_opt_bool NRI_D(optional_bool)
#define OPTIONAL_opt_mode NRI_D(optional_file_mode)
OPTIONAL(opt_int, OptionalInt)
OPTIONAL(opt_i64, OptionalInt64)
OPTIONAL(opt_u64, OptionalUInt64)
OPTIONAL(opt_u32, OptionalUInt32)
OPTIONAL(opt_bool, OptionalBool)
OPTIONAL(opt_mode, OptionalFileMode)
#define MAYBE(make, p) ((p) ? make(a, (int64_t)*(p)) : NULL)

/* --- resources ------------------------------------------------------------------------------------------------- */

static NRI_T(LinuxMemory) *memory_out(struct arena *a, const struct oci_memory *m)
{
	NRI_T(LinuxMemory) *out = NRI_NEW(a, linux_memory);

	out->limit = MAYBE(opt_i64, m->limit);
	out->reservation = MAYBE(opt_i64, m->reservation);
	out->swap = MAYBE(opt_i64, m->swap);
	out->kernel = MAYBE(opt_i64, m->kernel);
	out->kernel_tcp = MAYBE(opt_i64, m->kernel_tcp);
	out->swappiness = MAYBE(opt_u64, m->swappiness);
	out->disable_oom_killer = MAYBE(opt_bool, m->disable_oom_killer);
	out->use_hierarchy = MAYBE(opt_bool, m->use_hierarchy);
	return out;
}

static NRI_T(LinuxCPU) *cpu_out(struct arena *a, const struct oci_cpu *c)
{
	NRI_T(LinuxCPU) *out = NRI_NEW(a, linux_cpu);

	out->shares = MAYBE(opt_u64, c->shares);
	out->quota = MAYBE(opt_i64, c->quota);
	out->period = MAYBE(opt_u64, c->period);
	out->realtime_runtime = MAYBE(opt_i64, c->realtime_runtime);
	out->realtime_period = MAYBE(opt_u64, c->realtime_period);
	out->cpus = text(c->cpus);
	out->mems = text(c->mems);
	return out;
}

static void hugepages_out(struct arena *a, const struct json_vec *v, NRI_T(LinuxResources) *out)
{
	out->hugepage_limits = NRI_NEWV(a, v->count);
	OCI_EACH(oci_hugepage_limit, h, *v) {
		NRI_T(HugepageLimit) *m = NRI_NEW(a, hugepage_limit);

		m->page_size = text(h->page_size);
		m->limit = h->limit;
		out->hugepage_limits[out->n_hugepage_limits++] = m;
	}
}

static void rules_out(struct arena *a, const struct json_vec *v, NRI_T(LinuxResources) *out)
{
	out->devices = NRI_NEWV(a, v->count);
	OCI_EACH(oci_device_rule, d, *v) {
		NRI_T(LinuxDeviceCgroup) *m = NRI_NEW(a, linux_device_cgroup);

		m->allow = d->allow;
		m->type = text(d->type);
		m->major = MAYBE(opt_i64, d->major);
		m->minor = MAYBE(opt_i64, d->minor);
		m->access = text(d->access);
		out->devices[out->n_devices++] = m;
	}
}

NRI_T(LinuxResources) *describe_resources(struct arena *a, const struct oci_resources *r)
{
	NRI_T(LinuxResources) *out = NRI_NEW(a, linux_resources);

	if (r->memory)
		out->memory = memory_out(a, r->memory);
	if (r->cpu)
		out->cpu = cpu_out(a, r->cpu);
	if (r->pids && r->pids->limit) {
		out->pids = NRI_NEW(a, linux_pids);
		out->pids->limit = *r->pids->limit;
	}
	hugepages_out(a, &r->hugepage_limits, out);
	rules_out(a, &r->devices, out);
	out->unified = map_out(a, &r->unified, &NRI_D(linux_resources__unified_entry), &out->n_unified);
	return out;
}

NRI_T(LinuxResources) *describe_wished(struct arena *a, const struct config_resources *r)
{
	struct oci_memory memory = { 0 };
	struct oci_cpu cpu = { 0 };
	struct oci_resources oci = { .unified = r->unified, .memory = &memory, .cpu = &cpu };
	struct oci_hugepage_limit *pages = arena_newn0(a, struct oci_hugepage_limit, r->hugepages.count + 1);
	const struct config_hugepage *wished = r->hugepages.p;
	int64_t limit = r->memory_bytes, swap = r->memory_swap_bytes, quota = r->cpu_quota_us;
	uint64_t shares = (uint64_t)r->cpu_shares, period = (uint64_t)r->cpu_period_us;

	memory.limit = limit ? &limit : NULL;
	memory.swap = swap ? &swap : NULL;
	cpu = (struct oci_cpu){ .shares = shares ? &shares : NULL, .quota = quota ? &quota : NULL,
				.period = period ? &period : NULL, .cpus = r->cpuset_cpus, .mems = r->cpuset_mems };
	for (size_t i = 0; i < r->hugepages.count; i++)
		pages[i] = (struct oci_hugepage_limit){ wished[i].page_size, wished[i].limit_bytes };
	oci.hugepage_limits = (struct json_vec){ pages, r->hugepages.count };
	return describe_resources(a, &oci);
}

/* --- a pod --------------------------------------------------------------------------------------------------------- */

static NRI_T(LinuxNamespace) *namespace_out(struct arena *a, const char *type, const char *path)
{
	NRI_T(LinuxNamespace) *m = NRI_NEW(a, linux_namespace);

	m->type = text(type);
	m->path = text(path);
	return m;
}

static NRI_T(LinuxPodSandbox) *pod_linux(struct arena *a, const struct pod_view *p)
{
	NRI_T(LinuxPodSandbox) *l = NRI_NEW(a, linux_pod_sandbox);
	static const char *const files[][2] = { { "ipc", "ipc" }, { "uts", "uts" } };

	l->cgroup_parent = text(p->config->cgroup_parent);
	if (p->config->overhead)
		l->pod_overhead = describe_wished(a, p->config->overhead);
	if (p->config->resources)
		l->pod_resources = describe_wished(a, p->config->resources);
	l->namespaces = NRI_NEWV(a, ARRAY_SIZE(files) + 1);
	if (p->netns_path)
		l->namespaces[l->n_namespaces++] = namespace_out(a, "network", p->netns_path);
	for (size_t i = 0; p->monitor_pid && i < ARRAY_SIZE(files); i++)
		l->namespaces[l->n_namespaces++] = namespace_out(a, files[i][0],
			arena_printf(a, "/proc/%d/ns/%s", (int)p->monitor_pid, files[i][1]));
	return l;
}

NRI_T(PodSandbox) *describe_pod(struct arena *a, const struct pod_view *p)
{
	NRI_T(PodSandbox) *m = NRI_NEW(a, pod_sandbox);

	m->id = text(p->id);
	m->name = text(p->config->name);
	m->uid = text(p->config->uid);
	m->namespace_ = text(p->config->namespace_);
	m->labels = map_out(a, &p->config->labels, &NRI_D(pod_sandbox__labels_entry), &m->n_labels);
	m->annotations = map_out(a, &p->config->annotations, &NRI_D(pod_sandbox__annotations_entry), &m->n_annotations);
	m->runtime_handler = text(p->handler);
	m->linux = pod_linux(a, p);
	m->pid = (uint32_t)p->monitor_pid;
	m->ips = (char **)p->ips;
	m->n_ips = strv_len(p->ips);
	return m;
}

/* --- a container ------------------------------------------------------------------------------------------------------- */

static void mounts_out(struct arena *a, const struct oci_config *c, NRI_T(Container) *m)
{
	m->mounts = NRI_NEWV(a, c->mounts.count);
	OCI_EACH(oci_mount, from, c->mounts) {
		NRI_T(Mount) *out = NRI_NEW(a, mount);

		out->destination = text(from->destination);
		out->type = text(from->type);
		out->source = text(from->source);
		out->options = from->options;
		out->n_options = strv_len(from->options);
		m->mounts[m->n_mounts++] = out;
	}
}

static void hooks_of(struct arena *a, const struct json_vec *v, NRI_T(Hook) ***out, size_t *n)
{
	*out = NRI_NEWV(a, v->count);
	OCI_EACH(oci_hook, h, *v) {
		NRI_T(Hook) *m = NRI_NEW(a, hook);

		m->path = text(h->path);
		m->args = h->args;
		m->n_args = strv_len(h->args);
		m->env = h->env;
		m->n_env = strv_len(h->env);
		m->timeout = MAYBE(opt_int, h->timeout);
		(*out)[(*n)++] = m;
	}
}

static NRI_T(Hooks) *hooks_out(struct arena *a, const struct oci_hooks *h)
{
	NRI_T(Hooks) *m = NRI_NEW(a, hooks);

	hooks_of(a, &h->prestart, &m->prestart, &m->n_prestart);
	hooks_of(a, &h->create_runtime, &m->create_runtime, &m->n_create_runtime);
	hooks_of(a, &h->create_container, &m->create_container, &m->n_create_container);
	hooks_of(a, &h->start_container, &m->start_container, &m->n_start_container);
	hooks_of(a, &h->poststart, &m->poststart, &m->n_poststart);
	hooks_of(a, &h->poststop, &m->poststop, &m->n_poststop);
	return m;
}

static void devices_out(struct arena *a, const struct oci_linux *l, NRI_T(LinuxContainer) *m)
{
	m->devices = NRI_NEWV(a, l->devices.count);
	OCI_EACH(oci_device, d, l->devices) {
		NRI_T(LinuxDevice) *out = NRI_NEW(a, linux_device);

		out->path = text(d->path);
		out->type = text(d->type);
		out->major = d->major;
		out->minor = d->minor;
		out->file_mode = MAYBE(opt_mode, d->file_mode);
		out->uid = MAYBE(opt_u32, d->uid);
		out->gid = MAYBE(opt_u32, d->gid);
		m->devices[m->n_devices++] = out;
	}
}

static NRI_T(LinuxSeccomp) *seccomp_out(struct arena *a, const struct oci_seccomp *s)
{
	NRI_T(LinuxSeccomp) *m = NRI_NEW(a, linux_seccomp);

	m->default_action = text(s->default_action);
	m->default_errno = MAYBE(opt_u32, s->default_errno_ret);
	m->architectures = s->architectures;
	m->n_architectures = strv_len(s->architectures);
	m->flags = s->flags;
	m->n_flags = strv_len(s->flags);
	m->listener_path = text(s->listener_path);
	m->listener_metadata = text(s->listener_metadata);
	m->syscalls = NRI_NEWV(a, s->syscalls.count);
	OCI_EACH(oci_syscall_rule, r, s->syscalls) {
		NRI_T(LinuxSyscall) *out = NRI_NEW(a, linux_syscall);

		out->names = r->names;
		out->n_names = strv_len(r->names);
		out->action = text(r->action);
		out->errno_ret = MAYBE(opt_u32, r->errno_ret);
		out->args = NRI_NEWV(a, r->args.count);
		OCI_EACH(oci_syscall_arg, arg, r->args) {
			NRI_T(LinuxSeccompArg) *to = NRI_NEW(a, linux_seccomp_arg);

			to->index = arg->index;
			to->value = arg->value;
			to->value_two = arg->value_two;
			to->op = text(arg->op);
			out->args[out->n_args++] = to;
		}
		m->syscalls[m->n_syscalls++] = out;
	}
	return m;
}

static int enum_value(const ProtobufCEnumDescriptor *type, const char *name)
{
	const ProtobufCEnumValue *v = name ? protobuf_c_enum_descriptor_get_value_by_name(type, name) : NULL;

	return v ? v->value : 0;
}

static void scheduling_out(struct arena *a, const struct oci_process *p, NRI_T(LinuxContainer) *m)
{
	m->oom_score_adj = MAYBE(opt_int, p->oom_score_adj);
	if (p->io_priority) {
		m->io_priority = NRI_NEW(a, linux_iopriority);
		m->io_priority->class_ = (NRI_T(IOPrioClass))enum_value(&NRI_D(ioprio_class), p->io_priority->class_name);
		m->io_priority->priority = p->io_priority->priority;
	}
	if (p->scheduler) {
		const struct oci_scheduler *s = p->scheduler;
		NRI_T(LinuxScheduler) *out = NRI_NEW(a, linux_scheduler);

		out->policy = (NRI_T(LinuxSchedulerPolicy))enum_value(&NRI_D(linux_scheduler_policy), s->policy);
		out->nice = s->nice;
		out->priority = s->priority;
		out->runtime = s->runtime;
		out->deadline = s->deadline;
		out->period = s->period;
		out->flags = arena_newn0(a, NRI_T(LinuxSchedulerFlag), strv_len(s->flags) + 1);
		for (char **f = s->flags; f && *f; f++)
			out->flags[out->n_flags++] =
				(NRI_T(LinuxSchedulerFlag))enum_value(&NRI_D(linux_scheduler_flag), *f);
		m->scheduler = out;
	}
}

static void linux_out(struct arena *a, const struct oci_linux *l, NRI_T(LinuxContainer) *m)
{
	m->namespaces = NRI_NEWV(a, l->namespaces.count);
	OCI_EACH(oci_namespace, ns, l->namespaces)
		m->namespaces[m->n_namespaces++] = namespace_out(a, ns->type, ns->path);
	devices_out(a, l, m);
	if (l->resources)
		m->resources = describe_resources(a, l->resources);
	m->cgroups_path = text(l->cgroups_path);
	if (l->seccomp)
		m->seccomp_policy = seccomp_out(a, l->seccomp);
	m->sysctl = map_out(a, &l->sysctl, &NRI_D(linux_container__sysctl_entry), &m->n_sysctl);
	if (l->intel_rdt) {
		m->rdt = NRI_NEW(a, linux_rdt);
		m->rdt->clos_id = NRI_NEW(a, optional_string);
		m->rdt->clos_id->value = text(l->intel_rdt->clos_id);
		m->rdt->schemata = NRI_NEW(a, optional_repeated_string);
		m->rdt->schemata->value = l->intel_rdt->schemata;
		m->rdt->schemata->n_value = strv_len(l->intel_rdt->schemata);
		m->rdt->enable_monitoring = opt_bool(a, l->intel_rdt->enable_monitoring);
	}
}

static void seccomp_profile_out(struct arena *a, const struct config_profile *p, NRI_T(LinuxContainer) *m)
{
	if (!p)
		return;
	m->seccomp_profile = NRI_NEW(a, security_profile);
	m->seccomp_profile->profile_type = (NRI_T(SecurityProfile__ProfileType))p->type; /* the numbers are CRI's */
	m->seccomp_profile->localhost_ref = text(p->localhost);
}

static void process_out(struct arena *a, const struct oci_process *p, NRI_T(Container) *m)
{
	m->args = p->args;
	m->n_args = strv_len(p->args);
	m->env = p->env;
	m->n_env = strv_len(p->env);
	m->rlimits = NRI_NEWV(a, p->rlimits.count);
	OCI_EACH(oci_rlimit, r, p->rlimits) {
		NRI_T(POSIXRlimit) *out = NRI_NEW(a, posixrlimit);

		out->type = text(r->type);
		out->soft = r->soft;
		out->hard = r->hard;
		m->rlimits[m->n_rlimits++] = out;
	}
	m->user = NRI_NEW(a, user);
	m->user->uid = p->user.uid;
	m->user->gid = p->user.gid;
	m->user->additional_gids = p->user.additional_gids.p;
	m->user->n_additional_gids = p->user.additional_gids.count;
	scheduling_out(a, p, m->linux);
}

static NRI_T(ContainerState) state_out(enum container_state s)
{
	switch (s) {
	case CONTAINER_CREATED:
		return NRI__PKG__API__V1ALPHA1__CONTAINER_STATE__CONTAINER_CREATED;
	case CONTAINER_RUNNING:
		return NRI__PKG__API__V1ALPHA1__CONTAINER_STATE__CONTAINER_RUNNING;
	case CONTAINER_EXITED:
		return NRI__PKG__API__V1ALPHA1__CONTAINER_STATE__CONTAINER_STOPPED;
	default:
		return NRI__PKG__API__V1ALPHA1__CONTAINER_STATE__CONTAINER_UNKNOWN;
	}
}

/* The caller's annotations, then those of config.json. */
static struct json_map all_annotations(struct arena *a, const struct container_view *k, const struct oci_config *c)
{
	const struct json_map *wished = &k->config->annotations;
	struct json_pair *all = arena_newn0(a, struct json_pair, wished->count + (c ? c->annotations.count : 0) + 1);
	size_t n = 0;

	for (size_t i = 0; i < wished->count; i++)
		if (!c || !json_map_get(&c->annotations, wished->p[i].key))
			all[n++] = wished->p[i];
	for (size_t i = 0; c && i < c->annotations.count; i++)
		all[n++] = c->annotations.p[i];
	return (struct json_map){ all, n };
}

NRI_T(Container) *describe_container(struct arena *a, const struct container_view *k, const struct oci_config *c)
{
	NRI_T(Container) *m = NRI_NEW(a, container);
	const struct json_map annotations = all_annotations(a, k, c);

	m->id = text(k->id);
	m->pod_sandbox_id = text(k->pod_id);
	m->name = text(k->config->name);
	m->state = state_out(k->state);
	m->labels = map_out(a, &k->config->labels, &NRI_D(container__labels_entry), &m->n_labels);
	m->annotations = map_out(a, &annotations, &NRI_D(container__annotations_entry), &m->n_annotations);
	m->pid = (uint32_t)k->pid;
	m->created_at = k->created_wall_ns;
	m->started_at = k->started_wall_ns;
	m->finished_at = k->finished_wall_ns;
	m->exit_code = k->exit_code;
	m->status_reason = text(k->reason);
	m->status_message = text(k->message);
	m->cdi_devices = NRI_NEWV(a, strv_len(k->config->cdi_devices));
	for (char **d = k->config->cdi_devices; d && *d; d++) {
		m->cdi_devices[m->n_cdi_devices] = NRI_NEW(a, cdidevice);
		m->cdi_devices[m->n_cdi_devices++]->name = *d;
	}
	m->image = NRI_NEW(a, image);
	m->image->name = text(k->config->image_user_specified ? k->config->image_user_specified : k->config->image);
	m->image->config_digest = text(k->image_id);
	m->linux = NRI_NEW(a, linux_container);
	seccomp_profile_out(a, k->config->seccomp, m->linux);
	m->hooks = c && c->hooks ? hooks_out(a, c->hooks) : NRI_NEW(a, hooks);
	if (c) {
		mounts_out(a, c, m);
		if (c->on_linux)
			linux_out(a, c->on_linux, m->linux);
		if (c->process)
			process_out(a, c->process, m);
	}
	return m;
}

NRI_T(Container) *describe_existing(struct arena *a, const struct container_view *k)
{
	struct oci_config c = { 0 };
	struct err e;

	if (container_view_config(k, a, &c, &e) == 0)
		return describe_container(a, k, &c);
	log_debug("described without config.json container=%s: %s", k->id, e.msg);
	return describe_container(a, k, NULL);
}
