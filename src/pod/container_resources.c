#include "pod/container_spec_parts.h"

static int64_t *opt_i64(struct arena *a, int64_t n)
{
	return arena_memdup(a, &n, sizeof(n));
}

static uint64_t *opt_u64(struct arena *a, int64_t n)
{
	return arena_memdup(a, &n, sizeof(n));
}

static uint32_t *opt_u32(struct arena *a, uint32_t n)
{
	return arena_memdup(a, &n, sizeof(n));
}

static int check_not_negative(const char *field, int64_t n, int64_t least, struct err *e)
{
	if (n < least)
		return err_set(e, ERR_INVALID, "resources: %s is %lld", field, (long long)n);
	return 0;
}

static int resources_check(const struct config_resources *r, struct err *e)
{
	if (check_not_negative("cpu_period", r->cpu_period_us, 0, e) < 0 ||
	    check_not_negative("cpu_quota", r->cpu_quota_us, -1, e) < 0 ||
	    check_not_negative("cpu_shares", r->cpu_shares, 0, e) < 0 ||
	    check_not_negative("memory_limit_in_bytes", r->memory_bytes, -1, e) < 0 ||
	    check_not_negative("memory_swap_limit_in_bytes", r->memory_swap_bytes, -1, e) < 0 ||
	    check_not_negative("oom_score_adj", r->oom_score_adj, -1000, e) < 0)
		return -1;
	if (r->oom_score_adj > 1000)
		return err_set(e, ERR_INVALID, "resources: oom_score_adj is %lld, more than 1000",
			       (long long)r->oom_score_adj);
	if (r->memory_swap_bytes > 0 && r->memory_swap_bytes < r->memory_bytes)
		return err_set(e, ERR_INVALID,
			       "resources: memory_swap_limit_in_bytes %lld is less than memory_limit_in_bytes %lld",
			       (long long)r->memory_swap_bytes, (long long)r->memory_bytes);
	return 0;
}

static struct oci_cpu *cpu_of(struct arena *a, const struct config_resources *r)
{
	struct oci_cpu *cpu = arena_new0(a, struct oci_cpu);

	if (r->cpu_period_us)
		cpu->period = opt_u64(a, r->cpu_period_us);
	if (r->cpu_quota_us)
		cpu->quota = opt_i64(a, r->cpu_quota_us);
	if (r->cpu_shares)
		cpu->shares = opt_u64(a, r->cpu_shares);
	cpu->cpus = str_is_empty(r->cpuset_cpus) ? NULL : r->cpuset_cpus;
	cpu->mems = str_is_empty(r->cpuset_mems) ? NULL : r->cpuset_mems;
	return cpu->period || cpu->quota || cpu->shares || cpu->cpus || cpu->mems ? cpu : NULL;
}

static struct oci_memory *memory_of(struct arena *a, const struct config_resources *r,
				    const struct container_facts *facts)
{
	struct oci_memory *memory = arena_new0(a, struct oci_memory);
	int64_t swap = r->memory_swap_bytes;

	if (r->memory_bytes)
		memory->limit = opt_i64(a, r->memory_bytes);
	/* A limit of memory alone would let the container swap as much again: by default it may not. */
	if (!swap)
		swap = r->memory_bytes;
	if (swap && facts->swap_supported)
		memory->swap = opt_i64(a, swap);
	return memory->limit || memory->swap ? memory : NULL;
}

static int hugepages_of(struct arena *a, const struct config_resources *r, const struct container_facts *facts,
			struct json_vec *out, struct err *e)
{
	struct oci_hugepage_limit *limits = arena_newn0(a, struct oci_hugepage_limit, r->hugepages.count + 1);
	size_t n = 0;

	OCI_EACH(config_hugepage, page, r->hugepages) {
		if (str_is_empty(page->page_size))
			return err_set(e, ERR_INVALID, "resources: hugepage_limits[%zu].page_size is empty", n);
		if (!facts->hugetlb_supported && page->limit_bytes > 0)
			return err_set(e, ERR_STATE,
				       "resources: a limit of %s pages: this machine has no hugetlb cgroup controller",
				       page->page_size);
		limits[n++] = (struct oci_hugepage_limit){ page->page_size, page->limit_bytes };
	}
	/* kubelet names every page size with 0; without the controller none can be used anyway. */
	if (facts->hugetlb_supported && n > 0)
		*out = (struct json_vec){ limits, n };
	return 0;
}

int container_spec_resources(struct arena *a, const struct config_resources *r,
			     const struct container_facts *facts, struct oci_resources *out, struct err *e)
{
	struct oci_resources res = { 0 };

	if (resources_check(r, e) < 0 || hugepages_of(a, r, facts, &res.hugepage_limits, e) < 0)
		return -1;
	if (r->unified.count > 0 && !facts->cgroup_v2)
		return err_set(e, ERR_INVALID, "resources: unified \"%s\": this machine runs on cgroup v1",
			       r->unified.p[0].key);
	for (size_t i = 0; i < r->unified.count; i++) {
		const char *key = r->unified.p[i].key;

		if (strchr(key, '/') || starts_with(key, "cgroup.") || !strchr(key, '.'))
			return err_set(e, ERR_INVALID, "resources: unified: \"%s\" is no controller's file", key);
	}
	res.unified = r->unified;
	res.cpu = cpu_of(a, r);
	res.memory = memory_of(a, r, facts);
	*out = res;
	return 0;
}

#define NUMBER(n) (&(int64_t){ n })
/* After "deny all": devices that every container has, and mknod of what it may not open. */
static const struct oci_device_rule basic_rules[] = {
	{ .allow = false, .access = (char *)"rwm" },
	{ .allow = true, .type = (char *)"c", .access = (char *)"m" },
	{ .allow = true, .type = (char *)"b", .access = (char *)"m" },
	{ .allow = true, .type = (char *)"c", .major = NUMBER(1), .minor = NUMBER(3), .access = (char *)"rwm" },
	{ .allow = true, .type = (char *)"c", .major = NUMBER(1), .minor = NUMBER(5), .access = (char *)"rwm" },
	{ .allow = true, .type = (char *)"c", .major = NUMBER(1), .minor = NUMBER(7), .access = (char *)"rwm" },
	{ .allow = true, .type = (char *)"c", .major = NUMBER(1), .minor = NUMBER(8), .access = (char *)"rwm" },
	{ .allow = true, .type = (char *)"c", .major = NUMBER(1), .minor = NUMBER(9), .access = (char *)"rwm" },
	{ .allow = true, .type = (char *)"c", .major = NUMBER(5), .minor = NUMBER(0), .access = (char *)"rwm" },
	{ .allow = true, .type = (char *)"c", .major = NUMBER(5), .minor = NUMBER(1), .access = (char *)"rwm" },
	{ .allow = true, .type = (char *)"c", .major = NUMBER(5), .minor = NUMBER(2), .access = (char *)"rwm" },
	{ .allow = true, .type = (char *)"c", .major = NUMBER(136), .access = (char *)"rwm" },
};
static const struct oci_device_rule all_devices = { .allow = true, .access = (char *)"rwm" };

static const char *const own_devices[] = {
	"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/console",
	"/dev/ptmx",
};

static bool is_own_device(const char *path)
{
	for (size_t i = 0; i < ARRAY_SIZE(own_devices); i++) {
		if (streq(own_devices[i], path))
			return true;
	}
	return false;
}

static void add_device(struct arena *a, const struct container_spec_device *d, struct json_vec *devices)
{
	OCI_EACH(oci_device, there, *devices) {
		if (streq(there->path, d->path))
			return;
	}
	((struct oci_device *)devices->p)[devices->count++] = (struct oci_device){
		.path = d->path, .type = (char *)(d->type == 'b' ? "b" : "c"),
		.major = d->major, .minor = d->minor, .file_mode = opt_u32(a, d->file_mode),
		.uid = opt_u32(a, d->uid), .gid = opt_u32(a, d->gid),
	};
}

static int access_check(const struct container_spec_device *d, struct err *e)
{
	const char *access = d->access ? d->access : "";

	if (strspn(access, "rwm") != strlen(access))
		return err_set(e, ERR_INVALID, "device %s: permissions \"%s\" are not of r, w and m", d->path, access);
	return 0;
}

static int devices_of(struct arena *a, const struct container_spec_input *in, struct oci_linux *l, struct err *e)
{
	size_t most = in->ndevices + in->nhost_devices, n = ARRAY_SIZE(basic_rules);
	struct oci_device_rule *rules = arena_newn0(a, struct oci_device_rule, n + in->ndevices);

	memcpy(rules, basic_rules, sizeof(basic_rules));
	l->devices.p = arena_newn0(a, struct oci_device, most + 1);
	for (size_t i = 0; i < in->ndevices; i++) {
		const struct container_spec_device *d = &in->devices[i];

		if (access_check(d, e) < 0)
			return -1;
		add_device(a, d, &l->devices);
		rules[n++] = (struct oci_device_rule){
			.allow = true, .type = (char *)(d->type == 'b' ? "b" : "c"), .major = opt_i64(a, d->major),
			.minor = opt_i64(a, d->minor), .access = str_is_empty(d->access) ? (char *)"rwm" : d->access,
		};
	}
	for (size_t i = 0; config_is_privileged(in) && i < in->nhost_devices; i++) {
		if (!is_own_device(in->host_devices[i].path))
			add_device(a, &in->host_devices[i], &l->devices);
	}
	if (l->devices.count == 0)
		l->devices.p = NULL;
	l->resources->devices = config_is_privileged(in) ? (struct json_vec){ (void *)&all_devices, 1 }
							 : (struct json_vec){ rules, n };
	return 0;
}

int spec_devices_and_limits(struct arena *a, const struct container_spec_input *in, struct oci_linux *l,
			    struct err *e)
{
	static const struct config_resources none;
	const struct config_resources *r = in->config->resources ? in->config->resources : &none;

	l->resources = arena_new0(a, struct oci_resources);
	if (container_spec_resources(a, r, in->facts, l->resources, e) < 0)
		return -1;
	if (in->facts->pids_limit > 0) {
		l->resources->pids = arena_new0(a, struct oci_pids);
		l->resources->pids->limit = opt_i64(a, in->facts->pids_limit);
	}
	return devices_of(a, in, l, e);
}
