#include "runtime/plan.h"

#include "base/str.h"

#include <errno.h>
#include <linux/seccomp.h>

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5) /* Linux 5.19 */
#endif

static int action_of(const char *field, const char *name, const uint32_t *errno_ret, uint32_t *out, struct err *e)
{
	static const struct {
		const char *name;
		uint32_t action;
	} actions[] = {
		{ "SCMP_ACT_ALLOW", SECCOMP_RET_ALLOW }, { "SCMP_ACT_ERRNO", SECCOMP_RET_ERRNO },
		{ "SCMP_ACT_KILL", SECCOMP_RET_KILL_THREAD }, { "SCMP_ACT_KILL_THREAD", SECCOMP_RET_KILL_THREAD },
		{ "SCMP_ACT_KILL_PROCESS", SECCOMP_RET_KILL_PROCESS }, { "SCMP_ACT_TRAP", SECCOMP_RET_TRAP },
		{ "SCMP_ACT_TRACE", SECCOMP_RET_TRACE }, { "SCMP_ACT_LOG", SECCOMP_RET_LOG },
		{ "SCMP_ACT_NOTIFY", SECCOMP_RET_USER_NOTIF },
	};

	for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
		uint32_t a = actions[i].action;

		if (!streq(name, actions[i].name))
			continue;
		if (errno_ret && *errno_ret && a != SECCOMP_RET_ERRNO && a != SECCOMP_RET_TRACE)
			return err_set(e, ERR_INVALID, "%s: %s takes no errnoRet", field, name);
		if (a == SECCOMP_RET_ERRNO || a == SECCOMP_RET_TRACE)
			a |= (errno_ret ? *errno_ret : EPERM) & SECCOMP_RET_DATA;
		*out = a;
		return 0;
	}
	return err_set(e, ERR_INVALID, "%s: unknown action \"%s\"", field, name);
}

static int test_of(const struct oci_syscall_arg *arg, struct seccomp_test *out, struct err *e)
{
	static const char *const ops[] = {
		[SECCOMP_NE] = "SCMP_CMP_NE", [SECCOMP_LT] = "SCMP_CMP_LT", [SECCOMP_LE] = "SCMP_CMP_LE",
		[SECCOMP_EQ] = "SCMP_CMP_EQ", [SECCOMP_GE] = "SCMP_CMP_GE", [SECCOMP_GT] = "SCMP_CMP_GT",
		[SECCOMP_MASKED_EQ] = "SCMP_CMP_MASKED_EQ",
	};

	for (size_t i = 0; i < ARRAY_SIZE(ops); i++)
		if (streq(arg->op, ops[i])) {
			*out = (struct seccomp_test){ arg->index, (enum seccomp_op)i, arg->value, arg->value_two };
			return 0;
		}
	return err_set(e, ERR_INVALID, "linux.seccomp.syscalls.args.op: unknown comparison \"%s\"", arg->op);
}

static bool same_index_twice(const struct oci_syscall_rule *r)
{
	unsigned seen = 0;

	OCI_EACH(oci_syscall_arg, arg, r->args) {
		if (arg->index < 6 && seen & BIT(arg->index))
			return true;
		seen |= arg->index < 6 ? BIT(arg->index) : 0;
	}
	return false;
}

/* All tests of a rule must hold; but where two are of one argument, each is a rule by itself (so runc,
 * and so profiles are written). */
static int rule_of(struct arena *a, const struct oci_syscall_rule *r, struct seccomp_rule *out, size_t *n,
		   struct err *e)
{
	struct seccomp_test *tests = arena_newn0(a, struct seccomp_test, r->args.count + 1);
	bool apart = same_index_twice(r);
	size_t count = 0;
	uint32_t action;

	if (action_of("linux.seccomp.syscalls.action", r->action, r->errno_ret, &action, e) < 0)
		return -1;
	OCI_EACH(oci_syscall_arg, arg, r->args)
		if (test_of(arg, &tests[count++], e) < 0)
			return -1;
	for (size_t i = 0; i < (apart ? count : 1); i++)
		out[(*n)++] = (struct seccomp_rule){ r->names, action, tests + (apart ? i : 0), apart ? 1 : count };
	return 0;
}

static int filter_flags_of(char *const *words, unsigned *out, struct err *e)
{
	static const struct {
		const char *name;
		unsigned flag;
	} known[] = {
		{ "SECCOMP_FILTER_FLAG_TSYNC", SECCOMP_FILTER_FLAG_TSYNC },
		{ "SECCOMP_FILTER_FLAG_LOG", SECCOMP_FILTER_FLAG_LOG },
		{ "SECCOMP_FILTER_FLAG_SPEC_ALLOW", SECCOMP_FILTER_FLAG_SPEC_ALLOW },
		{ "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV },
	};
	unsigned flags = 0;

	for (; words && *words; words++) {
		size_t i = 0;

		while (i < ARRAY_SIZE(known) && !streq(known[i].name, *words))
			i++;
		if (i == ARRAY_SIZE(known))
			return err_set(e, ERR_INVALID, "linux.seccomp.flags: unknown flag \"%s\"", *words);
		flags |= known[i].flag;
	}
	*out = flags;
	return 0;
}

/* What the container's process calls between the filter and its agent's first word: answered by nobody, it
 * would wait for ever. */
static int check_notified(const struct seccomp_profile *p, const struct oci_seccomp *s, struct err *e)
{
	if (p->default_action == SECCOMP_RET_USER_NOTIF)
		return err_set(e, ERR_INVALID, "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY cannot be the default");
	for (size_t i = 0; i < p->nrules; i++)
		if (p->rules[i].action == SECCOMP_RET_USER_NOTIF && strv_has(p->rules[i].names, "write"))
			return err_set(e, ERR_INVALID, "linux.seccomp.syscalls.names: SCMP_ACT_NOTIFY cannot be used for "
				       "the write syscall");
	if (!str_is_empty(s->listener_path) && s->listener_path[0] != '/')
		return err_set(e, ERR_INVALID, "linux.seccomp.listenerPath: must be absolute: \"%s\"", s->listener_path);
	return 0;
}

static bool notifies(const struct seccomp_profile *p)
{
	for (size_t i = 0; i < p->nrules; i++)
		if (p->rules[i].action == SECCOMP_RET_USER_NOTIF)
			return true;
	return false;
}

static int arches_of(char *const *names, unsigned *out, struct err *e)
{
	/* Of machines that we are not built for: their calls cannot come. */
	static const char *const elsewhere[] = {
		"SCMP_ARCH_LOONGARCH64", "SCMP_ARCH_M68K", "SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64", "SCMP_ARCH_MIPS64N32",
		"SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PARISC",
		"SCMP_ARCH_PARISC64", "SCMP_ARCH_PPC", "SCMP_ARCH_PPC64", "SCMP_ARCH_S390", "SCMP_ARCH_SH",
		"SCMP_ARCH_SHEB", NULL
	};

	for (; names && *names; names++) {
		int arch = seccomp_arch_by_name(*names);

		if (arch >= 0)
			*out |= BIT(arch);
		else if (!strv_has((char *const *)elsewhere, *names))
			return err_set(e, ERR_INVALID, "linux.seccomp.architectures: unknown architecture \"%s\"", *names);
	}
	return 0;
}

int plan_seccomp(struct arena *a, const struct oci_seccomp *s, struct plan_process *out, struct err *e)
{
	struct seccomp_profile p = { 0 };
	struct seccomp_rule *rules;
	size_t most = 1;

	if (action_of("linux.seccomp.defaultAction", s->default_action, s->default_errno_ret, &p.default_action, e) < 0 ||
	    filter_flags_of(s->flags, &out->filter_flags, e) < 0 || arches_of(s->architectures, &p.arches, e) < 0)
		return -1;
	OCI_EACH(oci_syscall_rule, r, s->syscalls)
		most += MAX(r->args.count, 1);
	rules = arena_newn0(a, struct seccomp_rule, most);
	OCI_EACH(oci_syscall_rule, r, s->syscalls)
		if (rule_of(a, r, rules, &p.nrules, e) < 0)
			return -1;
	p.rules = rules;
	if (check_notified(&p, s, e) < 0)
		return -1;
	/* Without an agent such calls fail with ENOSYS: the kernel's own answer where nobody listens. */
	if (notifies(&p) && !str_is_empty(s->listener_path)) {
		out->filter_flags |= SECCOMP_FILTER_FLAG_NEW_LISTENER;
		/* The two exclude each other unless the thread's number is given up; and there is one thread only. */
		out->filter_flags &= ~(unsigned)SECCOMP_FILTER_FLAG_TSYNC;
		out->listener_path = s->listener_path;
		out->listener_metadata = s->listener_metadata;
	} else {
		out->filter_flags &= ~(unsigned)SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV; /* of listeners only */
	}
	return seccomp_compile(a, &p, &out->filter, e);
}
