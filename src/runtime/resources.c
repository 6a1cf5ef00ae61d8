#include "runtime/resources.h"

#include "base/str.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* --- conversions ---------------------------------------------------------------------------------- */

/* (log2(shares)² + 125·log2(shares)) / 612 − 7/34, as a power of ten: 2, 1024, 262144 are 1, 100, 10000. */
uint64_t resources_cpu_weight(uint64_t shares)
{
	double l;

	if (shares == 0)
		return 0;
	if (shares <= 2)
		return 1;
	if (shares >= 262144)
		return 10000;
	l = log2((double)shares);
	return (uint64_t)ceil(pow(10, (l * l + 125 * l) / 612.0 - 7.0 / 34.0));
}

uint64_t resources_cpu_shares(uint64_t weight)
{
	uint64_t low = 2, high = 262144;

	/* The smallest shares with this weight, by halving: the curve rises everywhere. */
	while (low < high) {
		uint64_t middle = (low + high) / 2;

		if (resources_cpu_weight(middle) < weight)
			low = middle + 1;
		else
			high = middle;
	}
	/* Weights that the default shares give mean the default shares. */
	return weight == resources_cpu_weight(1024) ? 1024 : low;
}

uint64_t resources_io_weight(uint64_t w)
{
	return w == 0 ? 0 : 1 + (MAX(w, 10) - 10) * 9999 / 990;
}

/* --- planning ------------------------------------------------------------------------------------- */

struct planner {
	struct arena *a;
	const struct cgroup_layout *l;
	struct resource_plan *out;
	size_t cap;
};

static void add(struct planner *p, enum cgroup_controller c, const char *file, const char *text, unsigned flags)
{
	struct resource_plan *o = p->out;

	if (o->count == p->cap) {
		struct resource_write *more = arena_newn0(p->a, struct resource_write, p->cap ? p->cap * 2 : 32);

		if (o->count)
			memcpy(more, o->writes, o->count * sizeof(*more));
		o->writes = more;
		p->cap = p->cap ? p->cap * 2 : 32;
	}
	o->writes[o->count++] = (struct resource_write){ c, file, text, flags };
}

static void add_i64(struct planner *p, enum cgroup_controller c, const char *file, int64_t v)
{
	add(p, c, file, arena_printf(p->a, "%lld", (long long)v), 0);
}

static void add_u64(struct planner *p, enum cgroup_controller c, const char *file, uint64_t v)
{
	add(p, c, file, arena_printf(p->a, "%llu", (unsigned long long)v), 0);
}

/* v2: -1 is "max". */
static void add_max(struct planner *p, enum cgroup_controller c, const char *file, int64_t v)
{
	if (v < 0)
		add(p, c, file, "max", 0);
	else
		add_i64(p, c, file, v);
}

static bool is_v2(const struct planner *p, enum cgroup_controller c)
{
	return p->l->of[c] >= 0 && p->l->of[c] == p->l->of[CGROUP_UNIFIED];
}

static int plan_memory_v2(struct planner *p, const struct oci_memory *m, struct err *e)
{
	if (m->swap && *m->swap != 0) {
		int64_t limit = m->limit ? *m->limit : 0, swap = *m->swap;

		if (swap > 0 && limit <= 0)
			return err_set(e, ERR_INVALID, "linux.resources.memory.swap: needs a memory limit beside it");
		if (swap > 0 && swap < limit)
			return err_set(e, ERR_INVALID, "linux.resources.memory.swap: %lld is below the memory limit %lld",
				       (long long)swap, (long long)limit);
		/* A node without swap has no such file: then nothing can be swapped anyway. */
		add(p, CGROUP_MEMORY, "memory.swap.max",
		    swap < 0 ? "max" : arena_printf(p->a, "%lld", (long long)(swap - limit)), RESOURCE_OPTIONAL);
	}
	if (m->limit && *m->limit != 0)
		add_max(p, CGROUP_MEMORY, "memory.max", *m->limit);
	if (m->reservation && *m->reservation != 0)
		add_max(p, CGROUP_MEMORY, "memory.low", *m->reservation);
	if (m->disable_oom_killer && *m->disable_oom_killer)
		return err_set(e, ERR_INVALID, "linux.resources.memory.disableOOMKiller: cgroup v2 cannot");
	return 0;
}

static int plan_memory_v1(struct planner *p, const struct oci_memory *m, struct err *e)
{
	/* The largest number is older documents' word for none. */
	if (m->swappiness && *m->swappiness > 100 && *m->swappiness != UINT64_MAX)
		return err_set(e, ERR_INVALID, "linux.resources.memory.swappiness: %llu is not within 0 to 100",
			       (unsigned long long)*m->swappiness);
	if (m->limit && *m->limit != 0)
		add_i64(p, CGROUP_MEMORY, "memory.limit_in_bytes", *m->limit);
	if (m->swap && *m->swap != 0)
		add(p, CGROUP_MEMORY, "memory.memsw.limit_in_bytes",
		    arena_printf(p->a, "%lld", (long long)*m->swap), RESOURCE_OPTIONAL);
	if (m->reservation && *m->reservation != 0)
		add_i64(p, CGROUP_MEMORY, "memory.soft_limit_in_bytes", *m->reservation);
	/* Kernel memory limits left the kernel in 5.16: where the file is gone the wish is ignored. */
	if (m->kernel_tcp && *m->kernel_tcp != 0)
		add(p, CGROUP_MEMORY, "memory.kmem.tcp.limit_in_bytes",
		    arena_printf(p->a, "%lld", (long long)*m->kernel_tcp), RESOURCE_OPTIONAL);
	if (m->swappiness && *m->swappiness <= 100)
		add_u64(p, CGROUP_MEMORY, "memory.swappiness", *m->swappiness);
	if (m->disable_oom_killer && *m->disable_oom_killer)
		add(p, CGROUP_MEMORY, "memory.oom_control", "1", 0);
	return 0;
}

static void plan_cpu_v2(struct planner *p, const struct oci_cpu *c)
{
	if (c->idle)
		add_i64(p, CGROUP_CPU, "cpu.idle", *c->idle);
	if (c->shares && *c->shares && !(c->idle && *c->idle > 0))
		add_u64(p, CGROUP_CPU, "cpu.weight", resources_cpu_weight(*c->shares));
	if (c->burst && *c->burst == 0)
		add(p, CGROUP_CPU, "cpu.max.burst", "0", RESOURCE_OPTIONAL);
	if ((c->quota && *c->quota) || (c->period && *c->period)) {
		char quota[24] = "max";

		if (c->quota && *c->quota > 0)
			(void)snprintf(quota, sizeof(quota), "%lld", (long long)*c->quota);
		/* A period alone keeps the quota: "cpu.max" takes the quota alone, not the period. */
		add(p, CGROUP_CPU, "cpu.max",
		    arena_printf(p->a, "%s %llu", quota,
				 (unsigned long long)(c->period && *c->period ? *c->period : 100000)), 0);
	}
	if (c->burst && *c->burst)
		add_u64(p, CGROUP_CPU, "cpu.max.burst", *c->burst);
}

static void plan_cpu_v1(struct planner *p, const struct oci_cpu *c)
{
	if (c->shares && *c->shares)
		add_u64(p, CGROUP_CPU, "cpu.shares", *c->shares);
	if (c->burst && *c->burst == 0)
		add(p, CGROUP_CPU, "cpu.cfs_burst_us", "0", RESOURCE_OPTIONAL);
	if (c->period && *c->period)
		add_u64(p, CGROUP_CPU, "cpu.cfs_period_us", *c->period);
	if (c->quota && *c->quota)
		add_i64(p, CGROUP_CPU, "cpu.cfs_quota_us", *c->quota);
	if (c->burst && *c->burst)
		add_u64(p, CGROUP_CPU, "cpu.cfs_burst_us", *c->burst);
	if (c->realtime_period && *c->realtime_period)
		add_u64(p, CGROUP_CPU, "cpu.rt_period_us", *c->realtime_period);
	if (c->realtime_runtime && *c->realtime_runtime)
		add_i64(p, CGROUP_CPU, "cpu.rt_runtime_us", *c->realtime_runtime);
	if (c->idle)
		add_i64(p, CGROUP_CPU, "cpu.idle", *c->idle);
}

static int plan_cpu(struct planner *p, const struct oci_cpu *c, struct err *e)
{
	if (is_v2(p, CGROUP_CPU)) {
		if ((c->realtime_period && *c->realtime_period) || (c->realtime_runtime && *c->realtime_runtime))
			return err_set(e, ERR_INVALID, "linux.resources.cpu.realtimeRuntime: cgroup v2 cannot");
		plan_cpu_v2(p, c);
	} else {
		plan_cpu_v1(p, c);
	}
	if (!str_is_empty(c->cpus))
		add(p, CGROUP_CPUSET, "cpuset.cpus", c->cpus, 0);
	if (!str_is_empty(c->mems))
		add(p, CGROUP_CPUSET, "cpuset.mems", c->mems, 0);
	return 0;
}

static void plan_throttle(struct planner *p, const struct json_vec *v, const char *v1_file, const char *v2_key)
{
	OCI_EACH(oci_throttle_device, d, *v) {
		bool v2 = is_v2(p, CGROUP_BLKIO);
		char rate[24] = "max";

		if (!v2 || d->rate)
			(void)snprintf(rate, sizeof(rate), "%llu", (unsigned long long)d->rate);
		if (v2)
			add(p, CGROUP_BLKIO, "io.max", arena_printf(p->a, "%lld:%lld %s=%s", (long long)d->major,
								    (long long)d->minor, v2_key, rate), 0);
		else
			add(p, CGROUP_BLKIO, v1_file, arena_printf(p->a, "%lld:%lld %s", (long long)d->major,
								   (long long)d->minor, rate), 0);
	}
}

static void plan_block_io(struct planner *p, const struct oci_block_io *b)
{
	bool v2 = is_v2(p, CGROUP_BLKIO);

	if (b->weight && *b->weight) {
		/* Which of the two there is depends on the I/O scheduler; without either there is no weight. */
		add(p, CGROUP_BLKIO, v2 ? "io.bfq.weight" : "blkio.bfq.weight", arena_printf(p->a, "%u", *b->weight),
		    RESOURCE_OPTIONAL);
		add(p, CGROUP_BLKIO, v2 ? "io.weight" : "blkio.weight",
		    v2 ? arena_printf(p->a, "default %llu", (unsigned long long)resources_io_weight(*b->weight)) :
		    arena_printf(p->a, "%u", *b->weight), RESOURCE_OPTIONAL);
	}
	OCI_EACH(oci_weight_device, leaf, b->weight_device)
		if (leaf->leaf_weight && !v2)
			add(p, CGROUP_BLKIO, "blkio.leaf_weight_device",
			    arena_printf(p->a, "%lld:%lld %u", (long long)leaf->major, (long long)leaf->minor, *leaf->leaf_weight),
			    RESOURCE_OPTIONAL);
	if (b->leaf_weight && *b->leaf_weight && !v2)
		add(p, CGROUP_BLKIO, "blkio.leaf_weight", arena_printf(p->a, "%u", *b->leaf_weight),
		    RESOURCE_OPTIONAL);
	OCI_EACH(oci_weight_device, d, b->weight_device)
		if (d->weight)
			add(p, CGROUP_BLKIO, v2 ? "io.bfq.weight" : "blkio.bfq.weight_device",
			    arena_printf(p->a, "%lld:%lld %u", (long long)d->major, (long long)d->minor, *d->weight), 0);
	plan_throttle(p, &b->throttle_read_bps, "blkio.throttle.read_bps_device", "rbps");
	plan_throttle(p, &b->throttle_write_bps, "blkio.throttle.write_bps_device", "wbps");
	plan_throttle(p, &b->throttle_read_iops, "blkio.throttle.read_iops_device", "riops");
	plan_throttle(p, &b->throttle_write_iops, "blkio.throttle.write_iops_device", "wiops");
}

static void plan_rest(struct planner *p, const struct oci_resources *r)
{
	if (r->pids && r->pids->limit) {
		/* 0 is a limit, too (runtime-spec 1.3): nobody but the first process, as with runc. */
		if (*r->pids->limit >= 0)
			add_i64(p, CGROUP_PIDS, "pids.max", MAX(*r->pids->limit, 1));
		else
			add(p, CGROUP_PIDS, "pids.max", "max", RESOURCE_OPTIONAL);
	}
	OCI_EACH(oci_hugepage_limit, h, r->hugepage_limits) {
		bool v2 = is_v2(p, CGROUP_HUGETLB);
		char *limit = arena_printf(p->a, "%llu", (unsigned long long)h->limit);

		/* kubelet limits every size to 0; a kernel without the controller has no huge pages to count. */
		add(p, CGROUP_HUGETLB, arena_printf(p->a, "hugetlb.%s.%s", h->page_size, v2 ? "max" : "limit_in_bytes"),
		    limit, h->limit ? 0 : RESOURCE_OPTIONAL);
		add(p, CGROUP_HUGETLB, arena_printf(p->a, "hugetlb.%s.rsvd.%s", h->page_size,
						    v2 ? "max" : "limit_in_bytes"), limit, RESOURCE_OPTIONAL);
	}
	if (r->network && p->l->mode != CGROUP_V2) {
		if (r->network->class_id)
			add_u64(p, CGROUP_NET_CLS, "net_cls.classid", *r->network->class_id);
		OCI_EACH(oci_interface_priority, i, r->network->priorities)
			add(p, CGROUP_NET_PRIO, "net_prio.ifpriomap", arena_printf(p->a, "%s %u", i->name, i->priority), 0);
	}
}

static int plan_rdma(struct planner *p, const struct json *rdma, struct err *e)
{
	for (const struct json *d = rdma ? rdma->first : NULL; d; d = d->next) {
		const struct json *handles = json_get(d, "hcaHandles"), *objects = json_get(d, "hcaObjects");

		if ((handles && handles->type != JSON_NUMBER) || (objects && objects->type != JSON_NUMBER))
			return err_set(e, ERR_INVALID, "linux.resources.rdma.%s: hcaHandles and hcaObjects are numbers",
				       d->key);
		add(p, CGROUP_RDMA, "rdma.max",
		    arena_printf(p->a, "%s%s%s%s%s", d->key, handles ? " hca_handle=" : "",
				 handles ? handles->text.p : "", objects ? " hca_object=" : "",
				 objects ? objects->text.p : ""), 0);
	}
	return 0;
}

static int plan_unified(struct planner *p, const struct json_map *m, struct err *e)
{
	if (m->count && p->l->mode != CGROUP_V2)
		return err_set(e, ERR_INVALID, "invalid configuration: linux.resources.unified: this node has its controllers "
			       "in cgroup v1");
	for (size_t i = 0; i < m->count; i++) {
		if (strchr(m->p[i].key, '/') || !strchr(m->p[i].key, '.'))
			return err_set(e, ERR_INVALID, "linux.resources.unified: \"%s\" is no cgroup file", m->p[i].key);
		/* One write a line, as "io.max" wants it. */
		for (struct str rest = str_of(m->p[i].value); rest.p;) {
			struct str line = str_cut(&rest, '\n');

			if (line.len || !rest.p)
				add(p, CGROUP_UNIFIED, m->p[i].key, str_dup(p->a, line), 0);
		}
	}
	return 0;
}

/* Whether the rule is there already, and nothing after it takes it away. */
static bool device_rule_stands(const struct cgroup_device_rule *rules, size_t n, const struct cgroup_device_rule *r)
{
	while (n-- > 0 && rules[n].allow)
		if (rules[n].type == r->type && rules[n].major == r->major && rules[n].minor == r->minor &&
		    (rules[n].access & r->access) == r->access)
			return true;
	return false;
}

static void plan_devices(struct planner *p, const struct json_vec *v)
{
	/* What every container may do with its own /dev, whatever the document says (config-linux.md). */
	static const struct cgroup_device_rule always[] = {
		{ true, 'c', -1, -1, CGROUP_DEVICE_MKNOD }, { true, 'b', -1, -1, CGROUP_DEVICE_MKNOD },
		{ true, 'c', 1, 3, CGROUP_DEVICE_ALL }, { true, 'c', 1, 8, CGROUP_DEVICE_ALL },
		{ true, 'c', 1, 7, CGROUP_DEVICE_ALL }, { true, 'c', 5, 0, CGROUP_DEVICE_ALL },
		{ true, 'c', 1, 5, CGROUP_DEVICE_ALL }, { true, 'c', 1, 9, CGROUP_DEVICE_ALL },
		{ true, 'c', 136, -1, CGROUP_DEVICE_ALL }, { true, 'c', 5, 2, CGROUP_DEVICE_ALL },
	};
	struct cgroup_device_rule *rules;
	size_t n = 0;

	if (!v->count)
		return;
	rules = arena_newn0(p->a, struct cgroup_device_rule, v->count + ARRAY_SIZE(always));
	OCI_EACH(oci_device_rule, r, *v) {
		unsigned access = 0;

		for (const char *c = r->access ? r->access : "rwm"; *c; c++)
			access |= *c == 'r' ? CGROUP_DEVICE_READ : *c == 'w' ? CGROUP_DEVICE_WRITE :
				  *c == 'm' ? CGROUP_DEVICE_MKNOD : 0;
		rules[n++] = (struct cgroup_device_rule){
			.allow = r->allow, .type = str_is_empty(r->type) ? 'a' : r->type[0],
			.major = r->major ? *r->major : -1, .minor = r->minor ? *r->minor : -1, .access = access,
		};
	}
	/* Everything is allowed: nothing to add. */
	if (!(n && rules[n - 1].allow && rules[n - 1].type == 'a' && rules[n - 1].major < 0)) {
		for (size_t i = 0; i < ARRAY_SIZE(always); i++)
			if (!device_rule_stands(rules, n, &always[i]))
				rules[n++] = always[i];
	}
	p->out->devices = rules;
	p->out->ndevices = n;
}

int resources_plan(struct arena *a, const struct cgroup_layout *l, const struct oci_resources *r,
		   struct resource_plan *out, struct err *e)
{
	struct resource_plan plan = { 0 };
	struct planner p = { .a = a, .l = l, .out = &plan };

	plan_devices(&p, &r->devices);
	if (r->memory) {
		if (is_v2(&p, CGROUP_MEMORY)) {
			if (plan_memory_v2(&p, r->memory, e) < 0)
				return -1;
		} else if (plan_memory_v1(&p, r->memory, e) < 0) {
			return -1;
		}
	}
	if (r->cpu && plan_cpu(&p, r->cpu, e) < 0)
		return -1;
	plan_rest(&p, r);
	if (r->block_io)
		plan_block_io(&p, r->block_io);
	if (plan_rdma(&p, r->rdma, e) < 0 || plan_unified(&p, &r->unified, e) < 0)
		return -1;
	*out = plan;
	return 0;
}

/* --- setting -------------------------------------------------------------------------------------- */

static int write_one(const struct cgroup_layout *l, const char *cgroup, const struct resource_write *w,
		     struct err *e)
{
	if (cgroup_write(l, w->controller, cgroup, w->file, w->text, e) == 0)
		return 0;
	if (e->kind == ERR_NOT_FOUND && w->flags & RESOURCE_OPTIONAL)
		return 0;
	return -1;
}

static bool is_pair(const struct resource_write *w, const struct resource_write *end, const char *first,
		    const char *second)
{
	return w + 1 < end && streq(w->file, first) && streq(w[1].file, second);
}

/* Where the order decides whether the kernel takes the two, the other order is tried too. */
static int write_pair(const struct cgroup_layout *l, const char *cgroup, const struct resource_write *w,
		      struct err *e)
{
	struct err ignored;

	if (write_one(l, cgroup, w, e) == 0)
		return write_one(l, cgroup, w + 1, e);
	if (e->sys != EINVAL || write_one(l, cgroup, w + 1, &ignored) < 0)
		return -1;
	return write_one(l, cgroup, w, e);
}

static int write_all(const struct cgroup_layout *l, const char *cgroup, const struct resource_plan *p,
		     size_t *done, struct err *e)
{
	const struct resource_write *end = p->writes + p->count;

	for (const struct resource_write *w = p->writes; w != end; w++) {
		bool pair = is_pair(w, end, "cpu.cfs_period_us", "cpu.cfs_quota_us") ||
			    is_pair(w, end, "cpu.rt_period_us", "cpu.rt_runtime_us") ||
			    is_pair(w, end, "memory.limit_in_bytes", "memory.memsw.limit_in_bytes");

		*done = (size_t)(w - p->writes) + 1 + pair;
		if ((pair ? write_pair(l, cgroup, w, e) : write_one(l, cgroup, w, e)) < 0)
			return -1;
		w += pair;
	}
	return 0;
}

int resources_set(const struct cgroup_layout *l, const char *cgroup, const struct resource_plan *p,
		  struct err *e)
{
	size_t done;

	if (p->devices && cgroup_set_devices(l, cgroup, p->devices, p->ndevices, e) < 0)
		return -1;
	return write_all(l, cgroup, p, &done, e);
}

static int check_memory(const struct cgroup_layout *l, const char *cgroup, const struct oci_memory *m,
			struct err *e)
{
	struct cgroup_stats s;

	if (!m || !m->limit || *m->limit <= 0 || !m->check_before_update || !*m->check_before_update)
		return 0;
	if (cgroup_stats(l, cgroup, &s, e) < 0)
		return -1;
	if (s.memory.usage > (uint64_t)*m->limit)
		return err_set(e, ERR_STATE, "cgroup %s: a memory limit of %lld is below the %llu in use", cgroup,
			       (long long)*m->limit, (unsigned long long)s.memory.usage);
	return 0;
}

static void restore(const struct cgroup_layout *l, const char *cgroup, const struct resource_plan *p,
		    const char *const *old, size_t done)
{
	/* Twice: a limit and its swap may have to cross back in the other order. */
	for (int round = 0; round < 2; round++)
		for (size_t i = done; i-- > 0;) {
			struct resource_write w = p->writes[i];
			struct err ignored;

			w.text = old[i];
			if (old[i])
				(void)write_one(l, cgroup, &w, &ignored);
		}
}

int resources_update(const struct cgroup_layout *l, const char *cgroup, const struct oci_resources *r,
		     struct err *e)
{
	auto_arena a = { 0 };
	struct resource_plan p;
	const char **old;
	size_t done = 0;

	if (resources_plan(&a, l, r, &p, e) < 0 || check_memory(l, cgroup, r->memory, e) < 0)
		return -1;
	old = arena_newn0(&a, const char *, p.count + 1);
	for (size_t i = 0; i < p.count; i++) {
		struct cgroup_text text;
		struct err ignored;

		if (cgroup_read(l, p.writes[i].controller, cgroup, p.writes[i].file, &text, &ignored) == 0 &&
		    text.len && !strchr(text.p, '\n'))
			old[i] = arena_strdup(&a, text.p);
	}
	if (write_all(l, cgroup, &p, &done, e) < 0) {
		restore(l, cgroup, &p, old, done);
		return -1;
	}
	return p.devices ? cgroup_set_devices(l, cgroup, p.devices, p.ndevices, e) : 0;
}

/* --- reading -------------------------------------------------------------------------------------- */

struct reading {
	struct arena *a;
	const struct cgroup_layout *l;
	const char *cgroup;
	struct cgroup_text text;
};

static bool get(struct reading *r, enum cgroup_controller c, const char *file)
{
	struct err ignored;

	return cgroup_read(r->l, c, r->cgroup, file, &r->text, &ignored) == 0;
}

static int64_t *number(struct reading *r, enum cgroup_controller c, const char *file)
{
	int64_t *out;

	if (!get(r, c, file))
		return NULL;
	out = arena_new0(r->a, int64_t);
	*out = starts_with(r->text.p, "max") ? -1 : strtoll(r->text.p, NULL, 10);
	if (*out >= INT64_C(0x7ffffffffffff000))
		*out = -1;
	return out;
}

static char *words(struct reading *r, enum cgroup_controller c, const char *file)
{
	return get(r, c, file) ? arena_strdup(r->a, r->text.p) : NULL;
}

static void read_cpu_v2(struct reading *r, struct oci_cpu *cpu)
{
	int64_t *weight = number(r, CGROUP_CPU, "cpu.weight");
	char *space;

	if (weight) {
		cpu->shares = arena_new0(r->a, uint64_t);
		*cpu->shares = resources_cpu_shares((uint64_t)*weight);
	}
	if (!get(r, CGROUP_CPU, "cpu.max"))
		return;
	cpu->quota = arena_new0(r->a, int64_t);
	*cpu->quota = starts_with(r->text.p, "max") ? -1 : strtoll(r->text.p, NULL, 10);
	space = strchr(r->text.p, ' ');
	if (space) {
		cpu->period = arena_new0(r->a, uint64_t);
		*cpu->period = strtoull(space, NULL, 10);
	}
}

static void read_memory(struct reading *r, bool v2, struct oci_memory *m)
{
	int64_t *swap;

	if (!v2) {
		m->limit = number(r, CGROUP_MEMORY, "memory.limit_in_bytes");
		m->swap = number(r, CGROUP_MEMORY, "memory.memsw.limit_in_bytes");
		return;
	}
	m->limit = number(r, CGROUP_MEMORY, "memory.max");
	swap = number(r, CGROUP_MEMORY, "memory.swap.max");
	/* The specification counts memory and swap together. */
	if (swap && m->limit && *swap >= 0 && *m->limit >= 0)
		*swap += *m->limit;
	m->swap = swap;
}

int resources_read(struct arena *a, const struct cgroup_layout *l, const char *cgroup,
		   struct oci_resources *out, struct err *e)
{
	struct reading r = { .a = a, .l = l, .cgroup = cgroup };
	struct oci_resources res = { 0 };
	int8_t unified = l->of[CGROUP_UNIFIED];

	if (!cgroup_exists(l, cgroup))
		return err_set(e, ERR_NOT_FOUND, "cgroup %s does not exist", cgroup);
	res.memory = arena_new0(a, struct oci_memory);
	res.cpu = arena_new0(a, struct oci_cpu);
	res.pids = arena_new0(a, struct oci_pids);
	read_memory(&r, l->of[CGROUP_MEMORY] >= 0 && l->of[CGROUP_MEMORY] == unified, res.memory);
	if (l->of[CGROUP_CPU] >= 0 && l->of[CGROUP_CPU] == unified) {
		read_cpu_v2(&r, res.cpu);
	} else {
		res.cpu->shares = (uint64_t *)number(&r, CGROUP_CPU, "cpu.shares");
		res.cpu->quota = number(&r, CGROUP_CPU, "cpu.cfs_quota_us");
		res.cpu->period = (uint64_t *)number(&r, CGROUP_CPU, "cpu.cfs_period_us");
	}
	res.cpu->cpus = words(&r, CGROUP_CPUSET, "cpuset.cpus");
	res.cpu->mems = words(&r, CGROUP_CPUSET, "cpuset.mems");
	res.pids->limit = number(&r, CGROUP_PIDS, "pids.max");
	*out = res;
	return 0;
}
