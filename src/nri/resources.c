/* Limits that a plugin wishes, over those that are there. */
#include "nri/parts.h"

struct limits {
	struct arena *a;
	struct claims *claims;
	const char *plugin, *where;
};

static int wish(struct limits *l, const char *what, const char *key, struct err *e)
{
	const char *name = l->where[0] ? arena_printf(l->a, "%s%s", l->where, what) : what;

	return claim(l->claims, l->plugin, name, key, e);
}

#define TAKE(from, to, what)                                                          \
	do {                                                                          \
		if (from) {                                                           \
			if (wish(l, what, NULL, e) < 0)                               \
				return -1;                                            \
			to = arena_alloc0(l->a, sizeof(*(to)));                       \
			*(to) = (from)->value;                                        \
		}                                                                     \
	} while (0)

static int take_memory(struct limits *l, const NRI_T(LinuxMemory) *w, struct oci_resources *r, struct err *e)
{
	struct oci_memory *m = arena_new0(l->a, struct oci_memory);

	if (!w)
		return 0;
	if (r->memory)
		*m = *r->memory;
	bool swapping = m->swap;
	TAKE(w->limit, m->limit, "memory.limit");
	TAKE(w->reservation, m->reservation, "memory.reservation");
	TAKE(w->swap, m->swap, "memory.swap");
	TAKE(w->kernel, m->kernel, "memory.kernel");
	TAKE(w->kernel_tcp, m->kernel_tcp, "memory.kernel_tcp");
	TAKE(w->swappiness, m->swappiness, "memory.swappiness");
	TAKE(w->disable_oom_killer, m->disable_oom_killer, "memory.disable_oom_killer");
	TAKE(w->use_hierarchy, m->use_hierarchy, "memory.use_hierarchy");
	/* Memory and swap together: as with kubelet's limits, none beyond the memory's unless it is said. */
	if (w->limit && !w->swap && swapping)
		m->swap = m->limit;
	r->memory = m;
	return 0;
}

static int take_cpu(struct limits *l, const NRI_T(LinuxCPU) *w, struct oci_resources *r, struct err *e)
{
	struct oci_cpu *c = arena_new0(l->a, struct oci_cpu);

	if (!w)
		return 0;
	if (r->cpu)
		*c = *r->cpu;
	TAKE(w->shares, c->shares, "cpu.shares");
	TAKE(w->quota, c->quota, "cpu.quota");
	TAKE(w->period, c->period, "cpu.period");
	TAKE(w->realtime_runtime, c->realtime_runtime, "cpu.realtime_runtime");
	TAKE(w->realtime_period, c->realtime_period, "cpu.realtime_period");
	if ((w->cpus[0] && wish(l, "cpu.cpus", NULL, e) < 0) || (w->mems[0] && wish(l, "cpu.mems", NULL, e) < 0))
		return -1;
	if (w->cpus[0])
		c->cpus = w->cpus;
	if (w->mems[0])
		c->mems = w->mems;
	r->cpu = c;
	return 0;
}

static int take_hugepages(struct limits *l, const NRI_T(LinuxResources) *w, struct oci_resources *r, struct err *e)
{
	struct oci_hugepage_limit *all = arena_newn0(l->a, struct oci_hugepage_limit,
						     r->hugepage_limits.count + w->n_hugepage_limits + 1);
	size_t n = 0;

	if (w->n_hugepage_limits == 0)
		return 0;
	OCI_EACH(oci_hugepage_limit, h, r->hugepage_limits) {
		bool replaced = false;

		for (size_t i = 0; i < w->n_hugepage_limits; i++)
			replaced = replaced || streq(w->hugepage_limits[i]->page_size, h->page_size);
		if (!replaced)
			all[n++] = *h;
	}
	for (size_t i = 0; i < w->n_hugepage_limits; i++) {
		if (wish(l, "huge pages of", w->hugepage_limits[i]->page_size, e) < 0)
			return -1;
		all[n++] = (struct oci_hugepage_limit){ w->hugepage_limits[i]->page_size, w->hugepage_limits[i]->limit };
	}
	r->hugepage_limits = (struct json_vec){ all, n };
	return 0;
}

static int take_unified(struct limits *l, const NRI_T(LinuxResources) *w, struct oci_resources *r, struct err *e)
{
	struct json_pair *all = arena_newn0(l->a, struct json_pair, r->unified.count + w->n_unified + 1);
	size_t n = 0;

	if (w->n_unified == 0)
		return 0;
	for (size_t i = 0; i < r->unified.count; i++) {
		bool replaced = false;

		for (size_t k = 0; k < w->n_unified; k++)
			replaced = replaced || streq(w->unified[k]->key, r->unified.p[i].key);
		if (!replaced)
			all[n++] = r->unified.p[i];
	}
	for (size_t i = 0; i < w->n_unified; i++) {
		if (wish(l, "cgroup file", w->unified[i]->key, e) < 0)
			return -1;
		all[n++] = (struct json_pair){ w->unified[i]->key, w->unified[i]->value };
	}
	r->unified = (struct json_map){ all, n };
	return 0;
}

static void take_rules(struct limits *l, const NRI_T(LinuxResources) *w, struct oci_resources *r)
{
	struct oci_device_rule *all = arena_newn0(l->a, struct oci_device_rule, r->devices.count + w->n_devices + 1);

	if (w->n_devices == 0)
		return;
	if (r->devices.count > 0)
		memcpy(all, r->devices.p, r->devices.count * sizeof(*all));
	for (size_t i = 0; i < w->n_devices; i++) {
		const NRI_T(LinuxDeviceCgroup) *d = w->devices[i];

		all[r->devices.count + i] = (struct oci_device_rule){
			.allow = d->allow, .type = d->type[0] ? d->type : NULL, .access = d->access[0] ? d->access : NULL,
			.major = d->major ? &d->major->value : NULL, .minor = d->minor ? &d->minor->value : NULL };
	}
	r->devices = (struct json_vec){ all, r->devices.count + w->n_devices };
}

static int check_classes(const struct limits *l, const NRI_T(LinuxResources) *w, struct err *e)
{
	if (w->blockio_class && w->blockio_class->value[0])
		return err_set(e, ERR_UNIMPLEMENTED, "NRI plugin %s: block I/O class \"%s\": knarrd has no classes configured",
			       l->plugin, w->blockio_class->value);
	if (w->rdt_class && w->rdt_class->value[0])
		return err_set(e, ERR_UNIMPLEMENTED, "NRI plugin %s: RDT class \"%s\": knarrd has no classes configured",
			       l->plugin, w->rdt_class->value);
	return 0;
}

int adjust_resources(struct arena *a, struct claims *claims, const char *plugin, const char *where,
		     const NRI_T(LinuxResources) *w, struct oci_resources *r, struct err *e)
{
	struct limits room = { a, claims, plugin, where }, *l = &room;

	if (check_classes(l, w, e) < 0 || take_memory(l, w->memory, r, e) < 0 || take_cpu(l, w->cpu, r, e) < 0 ||
	    take_hugepages(l, w, r, e) < 0 || take_unified(l, w, r, e) < 0)
		return -1;
	take_rules(l, w, r);
	if (w->pids) {
		if (wish(l, "pids.limit", NULL, e) < 0)
			return -1;
		r->pids = arena_new0(a, struct oci_pids);
		r->pids->limit = &w->pids->limit;
	}
	return 0;
}
