/* What the OCI resources are in systemd's words (org.freedesktop.systemd1(5), systemd.resource-control(5)), as runc has
 * them. */
#include "runtime/systemd.h"

#include "base/fs.h"

#include <fcntl.h>
#include <stdlib.h>

enum { CPU_PERIOD_US = 100000, CPUS_MAX = 8192 };

struct adder {
	struct arena *a;
	struct systemd_properties *out;
	struct err *e;
	int rc;
};

static void add(struct adder *p, const char *name, struct dbus_value v)
{
	if (p->rc < 0)
		return;
	if (p->out->n == SYSTEMD_PROPERTIES_MAX) {
		p->rc = err_set(p->e, ERR_EXHAUSTED, "more than %d properties of a systemd unit", SYSTEMD_PROPERTIES_MAX);
		return;
	}
	p->out->p[p->out->n++] = (struct systemd_property){ name, v };
}

static void add_u64(struct adder *p, const char *name, uint64_t v)
{
	add(p, name, (struct dbus_value){ .signature = "t", .n = v });
}

static void add_text(struct adder *p, const char *name, const char *v)
{
	add(p, name, (struct dbus_value){ .signature = "s", .text = v });
}

/* Below 0: no limit, which systemd writes as the largest number. */
static uint64_t limit_of(int64_t v)
{
	return v < 0 ? UINT64_MAX : (uint64_t)v;
}

/* --- cpu -------------------------------------------------------------------------------------------- */

static void add_quota(struct adder *p, int64_t quota, uint64_t period)
{
	uint64_t per_second = UINT64_MAX;

	if (!quota && !period)
		return;
	if (period)
		add_u64(p, "CPUQuotaPeriodUSec", period);
	if (quota > 0) {
		uint64_t of = period ? period : CPU_PERIOD_US;

		per_second = (uint64_t)((unsigned __int128)quota * 1000000 / of);
		/* systemd keeps whole percents: rounded up, so that the exact value, which we write, fits below it. */
		per_second = (per_second + 9999) / 10000 * 10000;
	}
	add_u64(p, "CPUQuotaPerSecUSec", per_second);
}

/* "0-3,7": a byte for eight, the lowest first. */
static void add_mask(struct adder *p, const char *name, const char *field, const char *list)
{
	struct dbus_value *bytes = arena_newn0(p->a, struct dbus_value, CPUS_MAX / 8);
	size_t top = 0;

	for (struct str rest = str_of(list); rest.p;) {
		struct str to = str_trim(str_cut(&rest, ',')), from = str_cut(&to, '-');
		uint64_t low, high;

		if (str_to_u64(from, &low, p->e) < 0 || (to.p && str_to_u64(to, &high, p->e) < 0)) {
			p->rc = err_in(p->e, "linux.resources.cpu.%s", field);
			return;
		}
		high = to.p ? high : low;
		if (low > high || high >= CPUS_MAX) {
			p->rc = err_set(p->e, ERR_INVALID, "linux.resources.cpu.%s: \"%.200s\" is no list", field, list);
			return;
		}
		for (uint64_t i = low; i <= high; i++)
			bytes[i / 8].n |= BIT(i % 8);
		top = MAX(top, high / 8 + 1);
	}
	for (size_t i = 0; i < top; i++)
		bytes[i].signature = "y";
	add(p, name, (struct dbus_value){ .signature = "ay", .items = bytes, .nitems = top });
}

static void add_cpu(struct adder *p, bool v2, const struct oci_cpu *c)
{
	/* An idle group has no weight; that it is idle systemd can be told from 252 on only, and leaves alone. */
	if (c->shares && *c->shares && !(v2 && c->idle && *c->idle == 1))
		add_u64(p, v2 ? "CPUWeight" : "CPUShares", v2 ? resources_cpu_weight(*c->shares) : *c->shares);
	add_quota(p, c->quota ? *c->quota : 0, c->period ? *c->period : 0);
	if (v2 && !str_is_empty(c->cpus))
		add_mask(p, "AllowedCPUs", "cpus", c->cpus);
	if (v2 && !str_is_empty(c->mems))
		add_mask(p, "AllowedMemoryNodes", "mems", c->mems);
}

/* --- memory, pids, io ------------------------------------------------------------------------------- */

static void add_memory(struct adder *p, bool v2, const struct oci_memory *m)
{
	if (m->limit && *m->limit)
		add_u64(p, v2 ? "MemoryMax" : "MemoryLimit", limit_of(*m->limit));
	if (!v2)
		return;
	if (m->reservation && *m->reservation)
		add_u64(p, "MemoryLow", limit_of(*m->reservation));
	if (m->swap && *m->swap)
		add_u64(p, "MemorySwapMax", *m->swap < 0 ? UINT64_MAX :
			(uint64_t)(*m->swap - (m->limit && *m->limit > 0 ? MIN(*m->limit, *m->swap) : 0)));
}

static void add_throttle(struct adder *p, const char *name, const struct json_vec *v)
{
	struct dbus_value *all = arena_newn0(p->a, struct dbus_value, v->count);
	size_t n = 0;

	OCI_EACH(oci_throttle_device, d, *v) {
		struct dbus_value *pair = arena_newn0(p->a, struct dbus_value, 2);

		pair[0] = (struct dbus_value){ .signature = "s", .text = arena_printf(
			p->a, "/dev/block/%lld:%lld", (long long)d->major, (long long)d->minor) };
		pair[1] = (struct dbus_value){ .signature = "t", .n = d->rate ? d->rate : UINT64_MAX };
		all[n++] = (struct dbus_value){ .signature = "(st)", .items = pair, .nitems = 2 };
	}
	if (n)
		add(p, name, (struct dbus_value){ .signature = "a(st)", .items = all, .nitems = n });
}

static void add_block_io(struct adder *p, bool v2, const struct oci_block_io *b)
{
	if (b->weight && *b->weight)
		add_u64(p, v2 ? "IOWeight" : "BlockIOWeight", v2 ? resources_io_weight(*b->weight) : *b->weight);
	add_throttle(p, v2 ? "IOReadBandwidthMax" : "BlockIOReadBandwidth", &b->throttle_read_bps);
	add_throttle(p, v2 ? "IOWriteBandwidthMax" : "BlockIOWriteBandwidth", &b->throttle_write_bps);
	if (v2) {
		add_throttle(p, "IOReadIOPSMax", &b->throttle_read_iops);
		add_throttle(p, "IOWriteIOPSMax", &b->throttle_write_iops);
	}
}

/* --- devices ---------------------------------------------------------------------------------------- */

/* The driver's name, by which systemd knows a major number with all its minors: a line "136 pts" of /proc/devices. */
static const char *driver_of(struct arena *a, char type, int64_t major)
{
	bool block = false;
	struct str text;
	struct err ignored;

	if (fs_read_file(a, AT_FDCWD, "/proc/devices", 1 << 20, &text, &ignored) < 0)
		return NULL;
	while (text.p) {
		struct str line = str_trim(str_cut(&text, '\n')), number = str_cut(&line, ' ');
		int64_t n;

		if (str_starts(number, "Block"))
			block = true;
		if (str_to_i64(number, &n, &ignored) == 0 && n == major && block == (type == 'b') && line.p)
			return str_dup(a, line);
	}
	return NULL;
}

static const char *device_name(struct arena *a, const struct cgroup_device_rule *r)
{
	const char *kind = r->type == 'b' ? "block" : "char", *driver;

	if (r->major < 0)
		return arena_printf(a, "%s-*", kind);
	if (r->minor >= 0)
		return arena_printf(a, "/dev/%s/%lld:%lld", kind, (long long)r->major, (long long)r->minor);
	driver = driver_of(a, r->type, r->major);
	return driver ? arena_printf(a, "%s-%s", kind, driver) : NULL;
}

static struct dbus_value device_entry(struct arena *a, const char *name, unsigned access)
{
	struct dbus_value *pair = arena_newn0(a, struct dbus_value, 2);

	pair[0] = (struct dbus_value){ .signature = "s", .text = name };
	pair[1] = (struct dbus_value){ .signature = "s", .text = arena_printf(
		a, "%s%s%s", access & CGROUP_DEVICE_READ ? "r" : "", access & CGROUP_DEVICE_WRITE ? "w" : "",
		access & CGROUP_DEVICE_MKNOD ? "m" : "") };
	return (struct dbus_value){ .signature = "(ss)", .items = pair, .nitems = 2 };
}

/* The last rule for all devices decides on the list's beginning; systemd's list allows only, so what is denied of a
 * device alone is left to the rules in the cgroup itself. A driver that is not loaded has no name: nor devices. */
static void add_devices(struct adder *p, const struct cgroup_device_rule *rules, size_t n)
{
	struct dbus_value *list = arena_newn0(p->a, struct dbus_value, n * 2 + 1);
	size_t first = 0, count = 0;
	bool all = false;

	for (size_t i = 0; i < n; i++)
		if (rules[i].type == 'a' && rules[i].major < 0 && rules[i].minor < 0 &&
		    rules[i].access == CGROUP_DEVICE_ALL) {
			all = rules[i].allow;
			first = i + 1;
		}
	for (size_t i = first; i < n && !all; i++) {
		struct cgroup_device_rule r = rules[i];

		for (const char *type = "bc"; *type && r.allow && r.access; type++) {
			const char *name;

			if (rules[i].type != 'a' && rules[i].type != *type)
				continue;
			r.type = *type;
			name = device_name(p->a, &r);
			if (name)
				list[count++] = device_entry(p->a, name, r.access);
		}
	}
	add_text(p, "DevicePolicy", all ? "auto" : "strict");
	/* An empty list first: others are appended to what the unit has. */
	add(p, "DeviceAllow", (struct dbus_value){ .signature = "a(ss)" });
	if (count)
		add(p, "DeviceAllow", (struct dbus_value){ .signature = "a(ss)", .items = list, .nitems = count });
}

/* --- unified ---------------------------------------------------------------------------------------- */

static void unified_number(struct adder *p, const char *key, const char *name, const char *value)
{
	struct str text = str_trim(str_of(value));
	uint64_t n = UINT64_MAX;

	if (!str_eqz(text, "max") && str_to_u64(text, &n, p->e) < 0)
		p->rc = err_in(p->e, "linux.resources.unified: %s", key);
	else
		add_u64(p, name, n);
}

static void unified_cpu_max(struct adder *p, const char *value)
{
	struct str rest = str_trim(str_of(value)), quota = str_cut(&rest, ' ');
	uint64_t us = 0, period = CPU_PERIOD_US;

	if ((!str_eqz(quota, "max") && str_to_u64(quota, &us, p->e) < 0) ||
	    (rest.p && str_to_u64(str_trim(rest), &period, p->e) < 0) || us > INT64_MAX || !period)
		p->rc = err_set(p->e, ERR_INVALID, "linux.resources.unified: cpu.max: \"%.100s\" is no quota and period", value);
	else
		add_quota(p, us ? (int64_t)us : -1, period);
}

/* What has no property is written into the cgroup alone. */
static void add_unified(struct adder *p, const struct json_map *m)
{
	static const struct {
		const char *key, *name;
	} numbers[] = {
		{ "cpu.weight", "CPUWeight" }, { "memory.min", "MemoryMin" }, { "memory.low", "MemoryLow" },
		{ "memory.high", "MemoryHigh" }, { "memory.max", "MemoryMax" }, { "memory.swap.max", "MemorySwapMax" },
		{ "pids.max", "TasksMax" },
	};

	for (size_t i = 0; i < m->count && p->rc == 0; i++) {
		const char *key = m->p[i].key, *value = m->p[i].value;

		for (size_t k = 0; k < ARRAY_SIZE(numbers); k++)
			if (streq(key, numbers[k].key))
				unified_number(p, key, numbers[k].name, value);
		if (streq(key, "cpu.max"))
			unified_cpu_max(p, value);
		else if (streq(key, "cpuset.cpus") || streq(key, "cpuset.mems"))
			add_mask(p, streq(key, "cpuset.cpus") ? "AllowedCPUs" : "AllowedMemoryNodes", key + 7, value);
	}
}

/* --- all -------------------------------------------------------------------------------------------- */

int systemd_resources(struct arena *a, const struct cgroup_layout *l, const struct oci_resources *r,
		      struct systemd_properties *out, struct err *e)
{
	bool v2 = l->mode == CGROUP_V2;
	struct adder p = { a, out, e, 0 };
	struct resource_plan plan;

	add(&p, v2 ? "IOAccounting" : "BlockIOAccounting", (struct dbus_value){ .signature = "b", .n = 1 });
	if (!r)
		return p.rc;
	if (resources_plan(a, l, r, &plan, e) < 0)
		return -1;
	if (plan.devices)
		add_devices(&p, plan.devices, plan.ndevices);
	if (r->memory)
		add_memory(&p, v2, r->memory);
	if (r->cpu)
		add_cpu(&p, v2, r->cpu);
	if (r->pids && r->pids->limit)
		add_u64(&p, "TasksMax", *r->pids->limit > 0 ? (uint64_t)*r->pids->limit : UINT64_MAX);
	if (r->block_io)
		add_block_io(&p, v2, r->block_io);
	if (v2)
		add_unified(&p, &r->unified);
	return p.rc;
}

/* --- annotations ------------------------------------------------------------------------------------ */

static bool is_property_name(const char *name)
{
	return strlen(name) >= 3 && !name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")];
}

/* "TimeoutStopSec" is "TimeoutStopUSec" on the bus, in microseconds. */
static int seconds_to_us(struct dbus_value *v, struct err *e)
{
	double us;

	if (*v->signature == 'd')
		us = v->d * 1e6;
	else if (strchr("nix", *v->signature))
		us = (double)(int64_t)v->n * 1e6;
	else if (strchr("yqut", *v->signature))
		us = (double)v->n * 1e6;
	else
		return err_set(e, ERR_INVALID, "seconds are a number");
	if (!(us >= 0 && us < 18e18))
		return err_set(e, ERR_INVALID, "so many seconds cannot be");
	*v = (struct dbus_value){ .signature = "t", .n = (uint64_t)us };
	return 0;
}

int systemd_annotations(struct arena *a, const struct json_map *annotations, struct systemd_properties *out,
			struct err *e)
{
	static const char prefix[] = "org.systemd.property.";
	struct adder p = { a, out, e, 0 };

	for (size_t i = 0; i < annotations->count && p.rc == 0; i++) {
		const char *key = annotations->p[i].key, *name = key + sizeof(prefix) - 1;
		struct dbus_value v;
		size_t n;

		if (!starts_with(key, prefix))
			continue;
		if (!is_property_name(name))
			return err_set(e, ERR_INVALID, "annotation %.200s: this is no property's name", key);
		if (dbus_value_parse(a, annotations->p[i].value, &v, e) < 0)
			return err_in(e, "annotation %.200s", key);
		n = strlen(name);
		if (ends_with(name, "Sec") && n > 3 && name[n - 4] >= 'a' && name[n - 4] <= 'z') {
			if (seconds_to_us(&v, e) < 0)
				return err_in(e, "annotation %.200s", key);
			name = arena_printf(a, "%.*sUSec", (int)(n - 3), name);
		}
		add(&p, name, v);
	}
	return p.rc;
}
