#include "test.h"

#include "runtime/systemd.h"

static void unit_is(const char *path, unsigned flags, const char *name, const char *slice, const char *cgroup)
{
	auto_arena a = { 0 };
	struct systemd_unit u;
	struct err e;

	assert_ok(systemd_unit_parse(&a, path, "c1", flags, &u, &e), e);
	assert_string_equal(u.name, name);
	assert_string_equal(u.slice, slice);
	assert_string_equal(u.cgroup, cgroup);
}

TEST(a_unit_is_read_as_runc_reads_it)
{
	unit_is("a-b-c.slice:pre:one", 0, "pre-one.scope", "a-b-c.slice",
		"a.slice/a-b.slice/a-b-c.slice/pre-one.scope");
	unit_is(":pre:one", 0, "pre-one.scope", "system.slice", "system.slice/pre-one.scope");
	unit_is(":pre:one", SYSTEMD_USER, "pre-one.scope", "user.slice", "user.slice/pre-one.scope");
	unit_is("-.slice:pre:one", 0, "pre-one.scope", "-.slice", "pre-one.scope");
	unit_is(NULL, 0, "knarr-oci-c1.scope", "system.slice", "system.slice/knarr-oci-c1.scope");
}

TEST(what_is_no_unit_is_refused_by_name)
{
	static const char *const bad[] = { "/a/b", "a:b", "a.slice:b:c:d", "a:b:c", "a--b.slice:b:c", "-a.slice:b:c",
					   "a-.slice:b:c", ".slice:b:c", "a/b.slice:c:d", "a.slice:b:", "a.slice:b:c/d",
					   "a.slice:b:c.slice" };
	auto_arena a = { 0 };
	struct systemd_unit u;
	struct err e;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_err(systemd_unit_parse(&a, bad[i], "c1", 0, &u, &e), e, ERR_INVALID, bad[i]);
}

static const struct cgroup_layout *layout(bool v2)
{
	static struct cgroup_layout l[2];
	struct cgroup_layout *out = &l[v2];

	*out = (struct cgroup_layout){ .mode = v2 ? CGROUP_V2 : CGROUP_V1, .nh = 1 };
	if (!v2)
		out->of[CGROUP_UNIFIED] = -1;
	return out;
}

static const struct dbus_value *property(const struct systemd_properties *p, const char *name)
{
	const struct dbus_value *found = NULL;

	for (size_t i = 0; i < p->n; i++)
		if (streq(p->p[i].name, name))
			found = &p->p[i].value;
	return found;
}

static void properties_of(struct arena *a, const char *json, bool v2, struct systemd_properties *out)
{
	struct oci_resources r = { 0 };
	struct err e;

	assert_ok(oci_resources_read(a, str_of(json), &r, &e), e);
	assert_ok(systemd_resources(a, layout(v2), &r, out, &e), e);
}

static uint64_t number(const struct systemd_properties *p, const char *name)
{
	const struct dbus_value *v = property(p, name);

	if (!v)
		fail_msg("no property %s", name);
	return v->n;
}

TEST(every_resource_has_its_property_on_v2)
{
	struct systemd_properties p = { 0 };
	auto_arena a = { 0 };

	properties_of(&a, "{\"memory\":{\"limit\":1000,\"swap\":1500,\"reservation\":500},\"pids\":{\"limit\":-1},"
			  "\"cpu\":{\"shares\":1024,\"quota\":12345,\"cpus\":\"0-2,9\",\"mems\":\"0\"},"
			  "\"blockIO\":{\"weight\":1000,\"throttleReadBpsDevice\":[{\"major\":8,\"minor\":0,\"rate\":5}]}}", true, &p);
	assert_int_equal(number(&p, "MemoryMax"), 1000);
	assert_int_equal(number(&p, "MemorySwapMax"), 500);
	assert_int_equal(number(&p, "MemoryLow"), 500);
	assert_true(number(&p, "TasksMax") == UINT64_MAX);
	assert_int_equal(number(&p, "CPUWeight"), 100);
	assert_int_equal(number(&p, "CPUQuotaPerSecUSec"), 130000); /* 12.345 % in whole percents, upwards */
	assert_null(property(&p, "CPUQuotaPeriodUSec"));
	assert_int_equal(number(&p, "IOWeight"), 10000);
	assert_int_equal(property(&p, "AllowedCPUs")->nitems, 2);
	assert_int_equal(property(&p, "AllowedCPUs")->items[0].n, 7);
	assert_int_equal(property(&p, "AllowedCPUs")->items[1].n, 2);
	assert_string_equal(property(&p, "IOReadBandwidthMax")->items[0].items[0].text, "/dev/block/8:0");
}

TEST(every_resource_has_its_property_on_v1)
{
	struct systemd_properties p = { 0 };
	auto_arena a = { 0 };

	properties_of(&a, "{\"memory\":{\"limit\":1000,\"swap\":1500},\"cpu\":{\"shares\":512,\"quota\":-1,\"period\":50000},"
			  "\"blockIO\":{\"weight\":500}}", false, &p);
	assert_int_equal(number(&p, "MemoryLimit"), 1000);
	assert_null(property(&p, "MemorySwapMax"));
	assert_int_equal(number(&p, "CPUShares"), 512);
	assert_true(number(&p, "CPUQuotaPerSecUSec") == UINT64_MAX);
	assert_int_equal(number(&p, "CPUQuotaPeriodUSec"), 50000);
	assert_int_equal(number(&p, "BlockIOWeight"), 500);
}

TEST(files_of_the_unified_hierarchy_are_told_where_systemd_has_a_word)
{
	struct systemd_properties p = { 0 };
	auto_arena a = { 0 };

	properties_of(&a, "{\"unified\":{\"memory.high\":\"max\",\"memory.min\":\"4096\",\"cpu.max\":\"20000 100000\","
			  "\"pids.max\":\"9\",\"memory.oom.group\":\"1\"}}", true, &p);
	assert_true(number(&p, "MemoryHigh") == UINT64_MAX);
	assert_int_equal(number(&p, "MemoryMin"), 4096);
	assert_int_equal(number(&p, "CPUQuotaPerSecUSec"), 200000);
	assert_int_equal(number(&p, "TasksMax"), 9);
}

TEST(systemd_allows_no_less_than_the_device_rules)
{
	struct systemd_properties p = { 0 };
	const struct dbus_value *list;
	bool null = false, any = false;
	auto_arena a = { 0 };

	properties_of(&a, "{\"devices\":[{\"allow\":false,\"access\":\"rwm\"},"
			  "{\"allow\":true,\"type\":\"c\",\"major\":10,\"minor\":200,\"access\":\"rw\"}]}", true, &p);
	assert_string_equal(property(&p, "DevicePolicy")->text, "strict");
	list = property(&p, "DeviceAllow");
	for (size_t i = 0; i < list->nitems; i++) {
		null |= streq(list->items[i].items[0].text, "/dev/char/1:3") && streq(list->items[i].items[1].text, "rwm");
		any |= streq(list->items[i].items[0].text, "/dev/char/10:200") && streq(list->items[i].items[1].text, "rw");
	}
	assert_true(null && any);
	p.n = 0;
	properties_of(&a, "{\"devices\":[{\"allow\":true,\"access\":\"rwm\"}]}", true, &p);
	assert_string_equal(property(&p, "DevicePolicy")->text, "auto");
	assert_int_equal(property(&p, "DeviceAllow")->nitems, 0);
}

TEST(annotations_are_properties_and_seconds_become_microseconds)
{
	struct json_pair pairs[] = { { (char *)"org.systemd.property.TimeoutStopSec", (char *)"uint64 3" },
				     { (char *)"org.systemd.property.CollectMode", (char *)"'inactive'" },
				     { (char *)"something.else", (char *)"x" } };
	struct json_map m = { pairs, ARRAY_SIZE(pairs) };
	struct systemd_properties p = { 0 };
	auto_arena a = { 0 };
	struct err e;

	assert_ok(systemd_annotations(&a, &m, &p, &e), e);
	assert_int_equal(p.n, 2);
	assert_int_equal(number(&p, "TimeoutStopUSec"), 3000000);
	assert_string_equal(property(&p, "CollectMode")->text, "inactive");
	pairs[0].value = (char *)"'x'";
	assert_err(systemd_annotations(&a, &m, &p, &e), e, ERR_INVALID, "org.systemd.property.TimeoutStopSec");
	pairs[0].key = (char *)"org.systemd.property.a-b";
	assert_err(systemd_annotations(&a, &m, &p, &e), e, ERR_INVALID, "org.systemd.property.a-b");
}
