#include "kernel/cgroup.h"

#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

/* --- v1: devices.allow, devices.deny ------------------------------------------------------------ */

static void number_or_star(char *out, size_t max, int64_t n)
{
	if (n < 0)
		(void)snprintf(out, max, "*");
	else
		(void)snprintf(out, max, "%lld", (long long)n);
}

static void access_text(char out[4], unsigned access)
{
	size_t n = 0;

	if (access & CGROUP_DEVICE_READ)
		out[n++] = 'r';
	if (access & CGROUP_DEVICE_WRITE)
		out[n++] = 'w';
	if (access & CGROUP_DEVICE_MKNOD)
		out[n++] = 'm';
	out[n] = '\0';
}

static int write_rule(const struct cgroup_layout *l, const char *path, const struct cgroup_device_rule *r,
		      struct err *e)
{
	char major[24], minor[24], access[4], text[80];

	number_or_star(major, sizeof(major), r->major);
	number_or_star(minor, sizeof(minor), r->minor);
	access_text(access, r->access);
	(void)snprintf(text, sizeof(text), "%c %s:%s %s", r->type, major, minor, access);
	return cgroup_write(l, CGROUP_DEVICES, path, r->allow ? "devices.allow" : "devices.deny", text, e);
}

static bool is_everything(const struct cgroup_device_rule *r)
{
	return r->type == 'a' && r->major < 0 && r->minor < 0 && r->access == CGROUP_DEVICE_ALL;
}

static bool is_within(const struct cgroup_device_rule *r, const struct cgroup_device_rule *wider)
{
	bool same = r->type == wider->type && r->major == wider->major && r->minor == wider->minor;

	return !same && (wider->type == 'a' || r->type == wider->type) && (wider->major < 0 || r->major == wider->major) &&
	       (wider->minor < 0 || r->minor == wider->minor) && r->access & wider->access;
}

/* Beside "nothing" the kernel keeps a list of what is allowed, and takes an entry away only whole: a part of a wider
 * one would stay allowed, and it says nothing. */
static int check_holes(const char *path, const struct cgroup_device_rule *rules, size_t n, struct err *e)
{
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < i && !rules[i].allow; k++)
			if (rules[k].allow && is_within(&rules[i], &rules[k]))
				return err_set(e, ERR_INVALID, "cgroup %s: cgroup v1 cannot deny the device %c %lld:%lld, a part of a "
					       "wider rule that allows it", path, rules[i].type, (long long)rules[i].major,
					       (long long)rules[i].minor);
	return 0;
}

/* The file `devices.list` starts as "a *:* rwm"; a rule for all kinds clears what was before it. */
static int set_v1(const struct cgroup_layout *l, const char *path, const struct cgroup_device_rule *rules,
		  size_t n, struct err *e)
{
	size_t first = 0;
	bool allow_all = false;

	for (size_t i = 0; i < n; i++)
		if (is_everything(&rules[i])) {
			first = i + 1;
			allow_all = rules[i].allow;
		}
	if (!allow_all && check_holes(path, rules + first, n - first, e) < 0)
		return -1;
	if (cgroup_write(l, CGROUP_DEVICES, path, allow_all ? "devices.allow" : "devices.deny", "a", e) < 0)
		return -1;
	for (size_t i = first; i < n; i++) {
		/* The kernel reads any rule of kind 'a' as "everything": said as b and c it means itself. */
		struct cgroup_device_rule rule = rules[i];

		if (!rule.access)
			continue;
		if (rules[i].type == 'a') {
			rule.type = 'b';
			if (write_rule(l, path, &rule, e) < 0)
				return -1;
			rule.type = 'c';
		}
		if (write_rule(l, path, &rule, e) < 0)
			return -1;
	}
	return 0;
}

/* --- v2: a program ------------------------------------------------------------------------------ */

/* Its registers: r2 type, r3 access, r4 major, r5 minor (struct bpf_cgroup_dev_ctx in r1). */
struct program {
	struct bpf_insn *p;
	size_t n;
};

static void emit(struct program *p, int code, int dst, int src, int off, int imm)
{
	p->p[p->n++] = (struct bpf_insn){ .code = (uint8_t)code, .dst_reg = (uint8_t)dst & 15,
					  .src_reg = (uint8_t)src & 15, .off = (int16_t)off, .imm = imm };
}

enum { RULE_INSN_MAX = 10 };

/* Ends the program where the rule decides; else falls through to the next. Tried from the last rule
 * to the first, so the first that matches here is the last in the document. A denial decides when
 * any of the wanted accesses is in it, a permission when all are. */
static void emit_rule(struct program *p, const struct cgroup_device_rule *r)
{
	size_t jumps[RULE_INSN_MAX], nj = 0;

	if (r->type != 'a') {
		jumps[nj++] = p->n;
		emit(p, BPF_JMP | BPF_JNE | BPF_K, 2, 0, 0, r->type == 'c' ? BPF_DEVCG_DEV_CHAR : BPF_DEVCG_DEV_BLOCK);
	}
	if (r->access != CGROUP_DEVICE_ALL) {
		unsigned bits = (r->access & CGROUP_DEVICE_READ ? BPF_DEVCG_ACC_READ : 0) |
				(r->access & CGROUP_DEVICE_WRITE ? BPF_DEVCG_ACC_WRITE : 0) |
				(r->access & CGROUP_DEVICE_MKNOD ? BPF_DEVCG_ACC_MKNOD : 0);

		emit(p, BPF_ALU | BPF_MOV | BPF_X, 0, 3, 0, 0);
		emit(p, BPF_ALU | BPF_AND | BPF_K, 0, 0, 0, (int)bits);
		jumps[nj++] = p->n;
		if (r->allow)
			emit(p, BPF_JMP | BPF_JNE | BPF_X, 0, 3, 0, 0);
		else
			emit(p, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 0, 0);
	}
	if (r->major >= 0) {
		jumps[nj++] = p->n;
		emit(p, BPF_JMP | BPF_JNE | BPF_K, 4, 0, 0, (int)r->major);
	}
	if (r->minor >= 0) {
		jumps[nj++] = p->n;
		emit(p, BPF_JMP | BPF_JNE | BPF_K, 5, 0, 0, (int)r->minor);
	}
	emit(p, BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, r->allow);
	emit(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
	for (size_t i = 0; i < nj; i++)
		p->p[jumps[i]].off = (int16_t)(p->n - jumps[i] - 1);
}

int cgroup_device_program(const struct cgroup_device_rule *rules, size_t n, struct bpf_insn *out, size_t *count,
			  struct err *e)
{
	struct program p = { .p = out };
	size_t first = 0;

	for (size_t i = 0; i < n; i++)
		if (is_everything(&rules[i]))
			first = i;
	if ((n - first) * RULE_INSN_MAX + 8 > CGROUP_DEVICE_INSN_MAX)
		return err_set(e, ERR_EXHAUSTED, "%zu device rules are too many", n);
	emit(&p, BPF_LDX | BPF_MEM | BPF_W, 2, 1, 0, 0);
	emit(&p, BPF_ALU | BPF_MOV | BPF_X, 3, 2, 0, 0);
	emit(&p, BPF_ALU | BPF_AND | BPF_K, 2, 0, 0, 0xffff);
	emit(&p, BPF_ALU | BPF_RSH | BPF_K, 3, 0, 0, 16);
	emit(&p, BPF_LDX | BPF_MEM | BPF_W, 4, 1, 4, 0);
	emit(&p, BPF_LDX | BPF_MEM | BPF_W, 5, 1, 8, 0);
	for (size_t i = n; i-- > first;) {
		if (!rules[i].access)
			continue;
		emit_rule(&p, &rules[i]);
		if (is_everything(&rules[i])) {
			*count = p.n; /* all is decided: code behind it would be refused as unreachable */
			return 0;
		}
	}
	emit(&p, BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0);
	emit(&p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
	*count = p.n;
	return 0;
}

static int bpf(int cmd, union bpf_attr *attr, size_t size)
{
	return (int)syscall(SYS_bpf, cmd, attr, size);
}

/* The program that is attached already, -1: none. */
static int attached_program(int cgroup_fd)
{
	uint32_t ids[8] = { 0 };
	union bpf_attr query = { .query = { .target_fd = (uint32_t)cgroup_fd, .attach_type = BPF_CGROUP_DEVICE,
					    .prog_ids = (uint64_t)(uintptr_t)ids, .prog_cnt = ARRAY_SIZE(ids) } };
	union bpf_attr get = { 0 };

	if (bpf(BPF_PROG_QUERY, &query, sizeof(query)) < 0 || query.query.prog_cnt != 1)
		return -1;
	get.prog_id = ids[0];
	return bpf(BPF_PROG_GET_FD_BY_ID, &get, sizeof(get));
}

static int set_v2(const struct cgroup_layout *l, const char *path, const struct cgroup_device_rule *rules,
		  size_t n, struct err *e)
{
	auto_arena a = { 0 };
	struct bpf_insn *insns = arena_newn0(&a, struct bpf_insn, CGROUP_DEVICE_INSN_MAX);
	union bpf_attr load = { .prog_type = BPF_PROG_TYPE_CGROUP_DEVICE,
				.insns = (uint64_t)(uintptr_t)insns,
				.license = (uint64_t)(uintptr_t)"Apache-2.0" };
	union bpf_attr attach = { .attach_type = BPF_CGROUP_DEVICE, .attach_flags = BPF_F_ALLOW_MULTI };
	auto_fd int dir = -1, program = -1, old = -1;
	char name[CGROUP_PATH_MAX + 8];
	size_t count;

	if (cgroup_device_program(rules, n, insns, &count, e) < 0)
		return -1;
	(void)snprintf(name, sizeof(name), "%s", path);
	dir = fd_open(l->h[l->of[CGROUP_UNIFIED]].root_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, e);
	if (dir < 0)
		return err_in(e, "cgroup %s", path);
	load.insn_cnt = (uint32_t)count;
	program = bpf(BPF_PROG_LOAD, &load, sizeof(load));
	if (program < 0)
		return err_sys(e, errno, "cgroup %s: load the device rules' program", path);
	old = attached_program(dir);
	if (old >= 0) {
		attach.attach_flags |= BPF_F_REPLACE;
		attach.replace_bpf_fd = (uint32_t)old;
	}
	attach.target_fd = (uint32_t)dir;
	attach.attach_bpf_fd = (uint32_t)program;
	if (bpf(BPF_PROG_ATTACH, &attach, sizeof(attach)) < 0)
		return err_sys(e, errno, "cgroup %s: attach the device rules' program", path);
	return 0;
}

int cgroup_set_devices(const struct cgroup_layout *l, const char *path, const struct cgroup_device_rule *rules,
		       size_t n, struct err *e)
{
	if (l->of[CGROUP_DEVICES] < 0)
		return err_set(e, ERR_NOT_FOUND, "cgroup %s: this kernel has no devices controller", path);
	if (l->mode == CGROUP_V2)
		return set_v2(l, path, rules, n, e);
	return set_v1(l, path, rules, n, e);
}
