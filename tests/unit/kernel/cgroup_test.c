#include "test.h"

#include "base/str.h"
#include "kernel/cgroup.h"

#include <linux/bpf.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

TEST(a_path_is_clean_or_refused)
{
	auto_arena a = { 0 };
	const char *out;
	struct err e;

	assert_ok(cgroup_path_clean(&a, "/kubepods//burstable/./x/", &out, &e), e);
	assert_string_equal(out, "kubepods/burstable/x");
	assert_err(cgroup_path_clean(&a, "/a/../../b", &out, &e), e, ERR_INVALID, "cannot be");
	assert_err(cgroup_path_clean(&a, "/a/..", &out, &e), e, ERR_INVALID, "cannot be");
	assert_err(cgroup_path_clean(&a, "//", &out, &e), e, ERR_INVALID, "root cgroup");
	assert_err(cgroup_path_clean(&a, "", &out, &e), e, ERR_INVALID, "cannot be");
}

/* --- a tiny machine for the device program ------------------------------------------------------- */

static uint64_t operand(const struct bpf_insn *i, const uint64_t *r)
{
	return BPF_SRC(i->code) == BPF_X ? r[i->src_reg] : (uint64_t)(int64_t)i->imm;
}

static int run(const struct bpf_insn *p, size_t n, uint32_t type, uint32_t access, uint32_t major, uint32_t minor)
{
	uint32_t ctx[3] = { type | access << 16, major, minor };
	uint64_t r[11] = { 0 };

	for (size_t pc = 0; pc < n; pc++) {
		const struct bpf_insn *i = &p[pc];
		uint64_t v = operand(i, r);

		switch (BPF_CLASS(i->code)) {
		case BPF_LDX:
			r[i->dst_reg] = ctx[i->off / 4];
			break;
		case BPF_ALU:
		case BPF_ALU64:
			if (BPF_OP(i->code) == BPF_MOV)
				r[i->dst_reg] = v;
			else if (BPF_OP(i->code) == BPF_AND)
				r[i->dst_reg] &= v;
			else
				r[i->dst_reg] >>= v;
			if (BPF_CLASS(i->code) == BPF_ALU)
				r[i->dst_reg] = (uint32_t)r[i->dst_reg];
			break;
		case BPF_JMP:
			if (BPF_OP(i->code) == BPF_EXIT)
				return (int)r[0];
			if ((BPF_OP(i->code) == BPF_JNE) == (r[i->dst_reg] != v))
				pc += (size_t)i->off;
			break;
		default:
			fail_msg("instruction %zu: code %x", pc, i->code);
		}
	}
	fail_msg("ran off the end");
	return -1;
}

TEST(the_last_device_rule_that_matches_decides)
{
	static const struct cgroup_device_rule rules[] = {
		{ true, 'c', 9, 9, CGROUP_DEVICE_ALL },   /* before "all": forgotten */
		{ false, 'a', -1, -1, CGROUP_DEVICE_ALL },
		{ true, 'c', -1, -1, CGROUP_DEVICE_MKNOD },
		{ true, 'c', 1, 3, CGROUP_DEVICE_ALL },
		{ true, 'b', 8, -1, CGROUP_DEVICE_READ },
		{ false, 'b', 8, 5, CGROUP_DEVICE_READ },
	};
	struct bpf_insn p[CGROUP_DEVICE_INSN_MAX];
	size_t n;
	struct err e;
	enum { B = BPF_DEVCG_DEV_BLOCK, C = BPF_DEVCG_DEV_CHAR, R = BPF_DEVCG_ACC_READ,
	       W = BPF_DEVCG_ACC_WRITE, M = BPF_DEVCG_ACC_MKNOD };

	assert_ok(cgroup_device_program(rules, ARRAY_SIZE(rules), p, &n, &e), e);
	assert_int_equal(run(p, n, C, R | W, 1, 3), 1);
	assert_int_equal(run(p, n, C, M, 9, 9), 1);
	assert_int_equal(run(p, n, C, R, 9, 9), 0);
	assert_int_equal(run(p, n, C, M | R, 7, 7), 0);
	assert_int_equal(run(p, n, B, R, 8, 1), 1);
	assert_int_equal(run(p, n, B, R | W, 8, 1), 0);
	assert_int_equal(run(p, n, B, R, 8, 5), 0);
	assert_int_equal(run(p, n, B, R, 9, 0), 0);
	assert_ok(cgroup_device_program(rules, 0, p, &n, &e), e);
	assert_int_equal(run(p, n, C, R, 1, 3), 0);
}

/* --- on the machine's own cgroups ---------------------------------------------------------------- */

struct group {
	struct cgroup_layout l;
	char path[64], below[80];
};

static void group_begin(struct group *g)
{
	struct err e;

	if (getuid() != 0)
		skip();
	assert_ok(cgroup_layout_open(&g->l, &e), e);
	(void)snprintf(g->path, sizeof(g->path), "knarr-test-%d", getpid());
	(void)snprintf(g->below, sizeof(g->below), "%s/a/b", g->path);
	if (cgroup_create(&g->l, g->below, &e) < 0) {
		cgroup_layout_close(&g->l);
		print_message("skipped: no cgroup can be made here: %s\n", e.msg);
		skip();
	}
}

static void group_end(struct group *g)
{
	struct err e;

	assert_ok(cgroup_remove(&g->l, g->path, 2000, &e), e);
	assert_false(cgroup_exists(&g->l, g->path));
	cgroup_layout_close(&g->l);
}

static pid_t sleeper(const struct group *g)
{
	pid_t pid = fork();

	if (pid == 0) {
		struct err e;

		if (cgroup_join_self(&g->l, g->below, NULL, 0, &e) < 0) {
			(void)fprintf(stderr, "%s\n", e.msg);
			_exit(1);
		}
		for (;;)
			(void)pause();
	}
	for (int i = 0; i < 2000 && !cgroup_is_populated(&g->l, g->path); i++)
		(void)usleep(1000);
	return pid;
}

TEST(members_are_seen_frozen_counted_and_killed)
{
	auto_arena a = { 0 };
	struct cgroup_stats s;
	struct group g;
	struct err e;
	pid_t pid, *pids;
	size_t n;
	int status;

	group_begin(&g);
	pid = sleeper(&g);
	assert_true(cgroup_is_populated(&g.l, g.path));
	assert_ok(cgroup_pids(&a, &g.l, g.path, &pids, &n, &e), e);
	assert_int_equal(n, 1);
	assert_int_equal(pids[0], pid);
	assert_err(cgroup_remove(&g.l, g.path, 5, &e), e, ERR_STATE, "remove");
	assert_ok(cgroup_freeze(&g.l, g.path, &e), e);
	assert_true(cgroup_is_frozen(&g.l, g.path));
	assert_ok(cgroup_stats(&g.l, g.path, &s, &e), e);
	assert_true(s.has & CGROUP_HAS_CPU);
	if (s.has & CGROUP_HAS_PIDS)
		assert_int_equal(s.pids.current, 1);
	assert_ok(cgroup_kill(&g.l, g.path, &e), e); /* frozen as it is */
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	group_end(&g);
}

TEST(a_missing_group_has_a_name)
{
	struct cgroup_stats s;
	struct group g;
	struct err e;

	group_begin(&g);
	assert_err(cgroup_stats(&g.l, "knarr-test-none/x", &s, &e), e, ERR_NOT_FOUND, "knarr-test-none/x");
	assert_ok(cgroup_kill(&g.l, "knarr-test-none", &e), e);
	assert_ok(cgroup_remove(&g.l, "knarr-test-none", 0, &e), e);
	group_end(&g);
}

TEST(devices_are_set_by_the_kernel_too)
{
	static const struct cgroup_device_rule rules[] = {
		{ false, 'a', -1, -1, CGROUP_DEVICE_ALL },
		{ true, 'c', 1, 3, CGROUP_DEVICE_READ | CGROUP_DEVICE_WRITE },
		{ true, 'a', 7, -1, CGROUP_DEVICE_MKNOD },
	};
	struct cgroup_text text;
	struct group g;
	struct err e;

	group_begin(&g);
	assert_ok(cgroup_set_devices(&g.l, g.below, rules, ARRAY_SIZE(rules), &e), e);
	assert_ok(cgroup_set_devices(&g.l, g.below, rules, ARRAY_SIZE(rules), &e), e);
	if (g.l.mode != CGROUP_V2) {
		assert_ok(cgroup_read(&g.l, CGROUP_DEVICES, g.below, "devices.list", &text, &e), e);
		assert_string_equal(text.p, "c 1:3 rw\nb 7:* m\nc 7:* m");
	}
	group_end(&g);
}
