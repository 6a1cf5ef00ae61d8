#include "test.h"

#include "base/buf.h"
#include "base/str.h"
#include "runtime/resources.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct cgroup_layout v1(void)
{
	struct cgroup_layout l = { .mode = CGROUP_V1 };

	memset(l.of, 0, sizeof(l.of));
	l.of[CGROUP_UNIFIED] = -1;
	return l;
}

static struct cgroup_layout v2(void)
{
	struct cgroup_layout l = { .mode = CGROUP_V2 };

	memset(l.of, 0, sizeof(l.of));
	return l;
}

/* The plan as "file=text" words. */
static int plan(struct arena *a, const struct cgroup_layout *l, const char *json, char **out, struct err *e)
{
	struct oci_resources r;
	struct resource_plan p;
	char *text = arena_strdup(a, "");

	if (oci_resources_read(a, str_of(json), &r, e) < 0 || resources_plan(a, l, &r, &p, e) < 0)
		return -1;
	for (size_t i = 0; i < p.count; i++)
		text = arena_printf(a, "%s%s%s=%s", text, i ? "; " : "", p.writes[i].file, p.writes[i].text);
	*out = text;
	return 0;
}

TEST(resources_become_files_of_each_version)
{
	static const struct { const char *json, *v1, *v2; } rows[] = {
		{ "{\"memory\":{\"limit\":1073741824}}", "memory.limit_in_bytes=1073741824", "memory.max=1073741824" },
		{ "{\"memory\":{\"limit\":100,\"swap\":300,\"reservation\":50}}",
		  "memory.limit_in_bytes=100; memory.memsw.limit_in_bytes=300; memory.soft_limit_in_bytes=50",
		  "memory.swap.max=200; memory.max=100; memory.low=50" },
		{ "{\"memory\":{\"limit\":-1,\"swap\":-1}}",
		  "memory.limit_in_bytes=-1; memory.memsw.limit_in_bytes=-1", "memory.swap.max=max; memory.max=max" },
		{ "{\"cpu\":{\"shares\":1024,\"quota\":50000,\"period\":100000,\"cpus\":\"0-1\",\"mems\":\"0\"}}",
		  "cpu.shares=1024; cpu.cfs_period_us=100000; cpu.cfs_quota_us=50000; cpuset.cpus=0-1; cpuset.mems=0",
		  "cpu.weight=100; cpu.max=50000 100000; cpuset.cpus=0-1; cpuset.mems=0" },
		{ "{\"cpu\":{\"quota\":-1}}", "cpu.cfs_quota_us=-1", "cpu.max=max 100000" },
		{ "{\"cpu\":{\"idle\":1,\"shares\":2}}", "cpu.shares=2; cpu.idle=1", "cpu.idle=1" },
		{ "{\"pids\":{\"limit\":20}}", "pids.max=20", "pids.max=20" },
		{ "{\"pids\":{\"limit\":-1}}", "pids.max=max", "pids.max=max" },
		{ "{\"hugepageLimits\":[{\"pageSize\":\"2MB\",\"limit\":0}]}",
		  "hugetlb.2MB.limit_in_bytes=0; hugetlb.2MB.rsvd.limit_in_bytes=0",
		  "hugetlb.2MB.max=0; hugetlb.2MB.rsvd.max=0" },
		{ "{\"blockIO\":{\"throttleReadBpsDevice\":[{\"major\":8,\"minor\":0,\"rate\":600}]}}",
		  "blkio.throttle.read_bps_device=8:0 600", "io.max=8:0 rbps=600" },
		{ "{\"rdma\":{\"mlx5\":{\"hcaHandles\":3}}}", "rdma.max=mlx5 hca_handle=3", "rdma.max=mlx5 hca_handle=3" },
	};
	struct cgroup_layout one = v1(), two = v2();
	auto_arena a = { 0 };
	struct err e;
	char *text;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_ok(plan(&a, &one, rows[i].json, &text, &e), e);
		assert_string_equal(text, rows[i].v1);
		assert_ok(plan(&a, &two, rows[i].json, &text, &e), e);
		assert_string_equal(text, rows[i].v2);
	}
	assert_ok(plan(&a, &two, "{\"unified\":{\"memory.high\":\"5\"}}", &text, &e), e);
	assert_string_equal(text, "memory.high=5");
}

TEST(wishes_that_the_version_cannot_fulfil_are_named)
{
	struct cgroup_layout one = v1(), two = v2();
	auto_arena a = { 0 };
	struct err e;
	char *text;

	assert_err(plan(&a, &one, "{\"unified\":{\"memory.high\":\"5\"}}", &text, &e), e, ERR_INVALID, "unified");
	assert_err(plan(&a, &two, "{\"unified\":{\"../x.y\":\"5\"}}", &text, &e), e, ERR_INVALID, "../x.y");
	assert_err(plan(&a, &two, "{\"memory\":{\"swap\":5}}", &text, &e), e, ERR_INVALID, "memory.swap");
	assert_err(plan(&a, &two, "{\"memory\":{\"disableOOMKiller\":true}}", &text, &e), e, ERR_INVALID,
		   "disableOOMKiller");
}

TEST(weights_follow_the_curve)
{
	assert_int_equal(resources_cpu_weight(2), 1);
	assert_int_equal(resources_cpu_weight(1024), 100);
	assert_int_equal(resources_cpu_weight(262144), 10000);
	assert_int_equal(resources_cpu_shares(100), 1024);
	assert_int_equal(resources_cpu_shares(1), 2);
	assert_int_equal(resources_io_weight(10), 1);
	assert_int_equal(resources_io_weight(1000), 10000);
}

TEST(an_update_is_whole_or_nothing)
{
	auto_arena a = { 0 };
	struct cgroup_layout l;
	struct oci_resources r;
	struct resource_plan p;
	char path[64];
	struct err e;

	if (getuid() != 0)
		skip();
	assert_ok(cgroup_layout_open(&l, &e), e);
	(void)snprintf(path, sizeof(path), "knarr-test-%d", getpid());
	if (cgroup_create(&l, path, &e) < 0) {
		cgroup_layout_close(&l);
		print_message("skipped: no cgroup can be made here: %s\n", e.msg);
		skip();
	}
	assert_ok(oci_resources_read(&a, STR("{\"memory\":{\"limit\":67108864},\"pids\":{\"limit\":10}}"), &r, &e), e);
	assert_ok(resources_plan(&a, &l, &r, &p, &e), e);
	assert_ok(resources_set(&l, path, &p, &e), e);
	assert_ok(oci_resources_read(&a, STR("{\"memory\":{\"limit\":33554432},\"cpu\":{\"cpus\":\"999\"}}"), &r, &e), e);
	assert_int_equal(resources_update(&l, path, &r, &e), -1);
	assert_ok(resources_read(&a, &l, path, &r, &e), e);
	assert_int_equal(*r.memory->limit, 67108864);
	assert_int_equal(*r.pids->limit, 10);
	assert_ok(oci_resources_read(&a, STR("{\"memory\":{\"limit\":33554432},\"cpu\":{\"quota\":20000,\"period\":50000}}"),
				     &r, &e), e);
	assert_ok(resources_update(&l, path, &r, &e), e);
	assert_ok(resources_read(&a, &l, path, &r, &e), e);
	assert_int_equal(*r.memory->limit, 33554432);
	assert_int_equal(*r.cpu->quota, 20000);
	assert_int_equal(*r.cpu->period, 50000);
	assert_ok(cgroup_remove(&l, path, 1000, &e), e);
	cgroup_layout_close(&l);
}
