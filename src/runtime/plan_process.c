#include "runtime/plan.h"

#include "base/log.h"
#include "base/str.h"

#include <errno.h>
#include <linux/ioprio.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/personality.h>

/* --- seccomp -------------------------------------------------------------------------------------- */

static int action_of(const char *name, const uint32_t *errno_ret, uint32_t *out, struct err *e)
{
	static const struct {
		const char *name;
		uint32_t action;
	} actions[] = {
		{ "SCMP_ACT_ALLOW", SECCOMP_RET_ALLOW }, { "SCMP_ACT_ERRNO", SECCOMP_RET_ERRNO },
		{ "SCMP_ACT_KILL", SECCOMP_RET_KILL_THREAD }, { "SCMP_ACT_KILL_THREAD", SECCOMP_RET_KILL_THREAD },
		{ "SCMP_ACT_KILL_PROCESS", SECCOMP_RET_KILL_PROCESS }, { "SCMP_ACT_TRAP", SECCOMP_RET_TRAP },
		{ "SCMP_ACT_TRACE", SECCOMP_RET_TRACE }, { "SCMP_ACT_LOG", SECCOMP_RET_LOG },
	};

	for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
		uint32_t a = actions[i].action;

		if (!streq(name, actions[i].name))
			continue;
		if (a == SECCOMP_RET_ERRNO || a == SECCOMP_RET_TRACE)
			a |= (errno_ret ? *errno_ret : EPERM) & SECCOMP_RET_DATA;
		*out = a;
		return 0;
	}
	if (streq(name, "SCMP_ACT_NOTIFY"))
		return err_set(e, ERR_UNIMPLEMENTED, "seccomp: SCMP_ACT_NOTIFY (an agent at listenerPath) is not "
			       "supported by this version");
	return err_set(e, ERR_INVALID, "seccomp: unknown action \"%s\"", name);
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
	return err_set(e, ERR_INVALID, "seccomp: unknown comparison \"%s\"", arg->op);
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

	if (action_of(r->action, r->errno_ret, &action, e) < 0)
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
		{ "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", 0 }, /* means something for notifications only */
	};
	unsigned flags = 0;

	for (; words && *words; words++) {
		size_t i = 0;

		while (i < ARRAY_SIZE(known) && !streq(known[i].name, *words))
			i++;
		if (i == ARRAY_SIZE(known))
			return err_set(e, ERR_INVALID, "seccomp: unknown flag \"%s\"", *words);
		flags |= known[i].flag;
	}
	*out = flags;
	return 0;
}

int plan_seccomp(struct arena *a, const struct oci_seccomp *s, struct seccomp_filter *out, unsigned *flags,
		 struct err *e)
{
	struct seccomp_profile p = { 0 };
	struct seccomp_rule *rules;
	size_t most = 1;

	if (action_of(s->default_action, s->default_errno_ret, &p.default_action, e) < 0 ||
	    filter_flags_of(s->flags, flags, e) < 0)
		return -1;
	for (char **name = s->architectures; name && *name; name++) {
		int arch = seccomp_arch_by_name(*name);

		if (arch >= 0)
			p.arches |= BIT(arch);
		else if (!starts_with(*name, "SCMP_ARCH_"))
			return err_set(e, ERR_INVALID, "seccomp: unknown architecture \"%s\"", *name);
	}
	OCI_EACH(oci_syscall_rule, r, s->syscalls)
		most += MAX(r->args.count, 1);
	rules = arena_newn0(a, struct seccomp_rule, most);
	OCI_EACH(oci_syscall_rule, r, s->syscalls)
		if (rule_of(a, r, rules, &p.nrules, e) < 0)
			return -1;
	p.rules = rules;
	return seccomp_compile(a, &p, out, e);
}

/* --- the rest of a process ------------------------------------------------------------------------ */

static int rlimits_of(struct arena *a, const struct oci_process *p, struct plan_process *out, struct err *e)
{
	static const struct {
		const char *name;
		int resource;
	} known[] = {
		{ "RLIMIT_AS", RLIMIT_AS }, { "RLIMIT_CORE", RLIMIT_CORE }, { "RLIMIT_CPU", RLIMIT_CPU },
		{ "RLIMIT_DATA", RLIMIT_DATA }, { "RLIMIT_FSIZE", RLIMIT_FSIZE },
		{ "RLIMIT_LOCKS", RLIMIT_LOCKS }, { "RLIMIT_MEMLOCK", RLIMIT_MEMLOCK },
		{ "RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE }, { "RLIMIT_NICE", RLIMIT_NICE },
		{ "RLIMIT_NOFILE", RLIMIT_NOFILE }, { "RLIMIT_NPROC", RLIMIT_NPROC },
		{ "RLIMIT_RSS", RLIMIT_RSS }, { "RLIMIT_RTPRIO", RLIMIT_RTPRIO },
		{ "RLIMIT_RTTIME", RLIMIT_RTTIME }, { "RLIMIT_SIGPENDING", RLIMIT_SIGPENDING },
		{ "RLIMIT_STACK", RLIMIT_STACK },
	};
	struct plan_rlimit *limits = arena_newn0(a, struct plan_rlimit, p->rlimits.count + 1);
	size_t n = 0;

	OCI_EACH(oci_rlimit, r, p->rlimits) {
		size_t i = 0;

		while (i < ARRAY_SIZE(known) && !streq(known[i].name, r->type))
			i++;
		if (i == ARRAY_SIZE(known))
			return err_set(e, ERR_INVALID, "process.rlimits: unknown type \"%s\"", r->type);
		limits[n++] = (struct plan_rlimit){ known[i].resource, { r->soft, r->hard } };
	}
	out->rlimits = limits;
	out->nrlimits = n;
	return 0;
}

/* "All capabilities" means all that we may give: what our own bounding set lacks is left out, with a
 * line in the log, instead of a container that cannot start. */
static void caps_of(const struct oci_capabilities *c, struct plan_process *out)
{
	const char *unknown = NULL;
	uint64_t own = out->own_bounding, lacking;

	if (!c)
		return;
	out->caps = (struct caps){
		.bounding = caps_by_names(c->bounding, &unknown),
		.effective = caps_by_names(c->effective, &unknown),
		.permitted = caps_by_names(c->permitted, &unknown),
		.inheritable = caps_by_names(c->inheritable, &unknown),
		.ambient = caps_by_names(c->ambient, &unknown),
	};
	if (unknown)
		log_warn("capability %s is not known to this version and not given", unknown);
	lacking = (out->caps.bounding | out->caps.permitted | out->caps.inheritable) & ~own;
	for (int bit = 0; bit < 64; bit++)
		if (lacking >> bit & 1)
			log_debug("capability %s is not ours to give and left out", cap_name(bit));
	out->caps.bounding &= own;
	out->caps.permitted &= own;
	out->caps.effective &= out->caps.permitted;
	out->caps.inheritable &= own;
	out->caps.ambient &= out->caps.permitted & out->caps.inheritable;
}

static int io_priority_of(const struct oci_io_priority *p, int *out, struct err *e)
{
	static const char *const classes[] = { "", "IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE" };

	if (!p)
		return 0;
	for (int i = 1; i < 4; i++)
		if (streq(p->class_name, classes[i])) {
			*out = IOPRIO_PRIO_VALUE(i, p->priority);
			return 0;
		}
	return err_set(e, ERR_INVALID, "process.ioPriority: unknown class \"%s\"", p->class_name);
}

static int scheduler_of(const struct oci_scheduler *s, struct plan_process *out, struct err *e)
{
	static const char *const policies[] = {
		[SCHED_OTHER] = "SCHED_OTHER", [SCHED_FIFO] = "SCHED_FIFO", [SCHED_RR] = "SCHED_RR",
		[SCHED_BATCH] = "SCHED_BATCH", [4] = "SCHED_ISO", [SCHED_IDLE] = "SCHED_IDLE",
		[SCHED_DEADLINE] = "SCHED_DEADLINE",
	};
	static const char *const flags[] = {
		"SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN",
		"SCHED_FLAG_KEEP_POLICY", "SCHED_FLAG_KEEP_PARAMS", "SCHED_FLAG_UTIL_CLAMP_MIN",
		"SCHED_FLAG_UTIL_CLAMP_MAX",
	};

	out->scheduler_policy = -1;
	if (!s)
		return 0;
	for (int i = 0; i < (int)ARRAY_SIZE(policies); i++)
		if (policies[i] && streq(s->policy, policies[i]))
			out->scheduler_policy = i;
	if (out->scheduler_policy < 0)
		return err_set(e, ERR_INVALID, "process.scheduler: unknown policy \"%s\"", s->policy);
	for (char **f = s->flags; f && *f; f++) {
		size_t i = 0;

		while (i < ARRAY_SIZE(flags) && !streq(flags[i], *f))
			i++;
		if (i == ARRAY_SIZE(flags))
			return err_set(e, ERR_INVALID, "process.scheduler: unknown flag \"%s\"", *f);
		out->scheduler_flags |= BIT(i);
	}
	out->scheduler = s;
	return 0;
}

static int personality_of(const struct oci_personality *p, long *out, struct err *e)
{
	if (!p)
		return 0;
	if (streq(p->domain, "LINUX"))
		*out = PER_LINUX;
	else if (streq(p->domain, "LINUX32"))
		*out = PER_LINUX32;
	else
		return err_set(e, ERR_INVALID, "linux.personality: unknown domain \"%s\"", p->domain);
	if (p->flags && p->flags[0])
		return err_set(e, ERR_UNIMPLEMENTED, "linux.personality: the flag \"%s\" is not supported", p->flags[0]);
	return 0;
}

int plan_process_make(struct arena *a, const struct runtime *rt, const struct oci_process *p,
		      const struct oci_linux *l, struct plan_process *out, struct err *e)
{
	struct plan_process q = {
		.args = p->args, .env = p->env, .cwd = p->cwd, .path = NULL,
		.uid = p->user.uid, .gid = p->user.gid, .umask = p->user.umask ? *p->user.umask : 022,
		.gids = p->user.additional_gids.p, .ngids = p->user.additional_gids.count,
		.no_new_privs = p->no_new_privileges, .terminal = p->terminal, .console_size = p->console_size,
		.oom_score_adj = p->oom_score_adj, .apparmor = p->apparmor_profile, .selinux = p->selinux_label,
		.io_priority = -1, .personality = -1, .std = { -1, -1, -1 },
		.own_bounding = rt->own_bounding,
	};
	static char *const no_env[] = { NULL };

	if (!q.env)
		q.env = no_env;
	for (char *const *v = q.env; *v; v++)
		if (starts_with(*v, "PATH="))
			q.path = *v + 5;
	if (!q.path)
		q.path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	if (p->exec_cpu_affinity)
		return err_set(e, ERR_UNIMPLEMENTED, "process.execCPUAffinity is not supported by this version");
	caps_of(p->capabilities, &q);
	if (rlimits_of(a, p, &q, e) < 0 || io_priority_of(p->io_priority, &q.io_priority, e) < 0 ||
	    scheduler_of(p->scheduler, &q, e) < 0 ||
	    personality_of(l ? l->personality : NULL, &q.personality, e) < 0)
		return -1;
	if (l && l->seccomp && plan_seccomp(a, l->seccomp, &q.filter, &q.filter_flags, e) < 0)
		return -1;
	*out = q;
	return 0;
}
