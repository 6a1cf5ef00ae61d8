#include "runtime/plan.h"

#include "base/str.h"

#include <linux/ioprio.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <sys/personality.h>

struct word {
	const char *name;
	int64_t value;
};

static const struct word *find_word(const struct word *list, const char *name)
{
	for (; list->name; list++)
		if (streq(list->name, name))
			return list;
	return NULL;
}

static int flags_of(const struct word *known, char *const *names, const char *field, uint64_t *out, struct err *e)
{
	for (; names && *names; names++) {
		const struct word *w = find_word(known, *names);

		if (!w)
			return err_set(e, ERR_INVALID, "%s: unknown flag \"%s\"", field, *names);
		*out |= (uint64_t)w->value;
	}
	return 0;
}

/* --- I/O priority --------------------------------------------------------------------------------- */

static int io_priority_of(const struct oci_io_priority *p, int *out, struct err *e)
{
	static const struct word classes[] = {
		{ "IOPRIO_CLASS_RT", IOPRIO_CLASS_RT }, { "IOPRIO_CLASS_BE", IOPRIO_CLASS_BE },
		{ "IOPRIO_CLASS_IDLE", IOPRIO_CLASS_IDLE }, { 0 }
	};
	const struct word *w;

	if (!p)
		return 0;
	w = find_word(classes, p->class_name);
	if (!w)
		return err_set(e, ERR_INVALID, "process.ioPriority.class: unknown class \"%s\"", p->class_name);
	if (p->priority < 0 || p->priority > 7)
		return err_set(e, ERR_INVALID, "process.ioPriority.priority: %d is not within 0 to 7", p->priority);
	*out = IOPRIO_PRIO_VALUE((int)w->value, p->priority);
	return 0;
}

/* --- scheduler ------------------------------------------------------------------------------------ */

static int check_scheduler(const struct oci_scheduler *s, int policy, struct err *e)
{
	if (s->nice < -20 || s->nice > 19)
		return err_set(e, ERR_INVALID, "process.scheduler.nice: %d is not within -20 to 19", s->nice);
	if (s->priority && policy != SCHED_FIFO && policy != SCHED_RR)
		return err_set(e, ERR_INVALID, "process.scheduler.priority: only SCHED_FIFO and SCHED_RR have one, not %s",
			       s->policy);
	if ((policy == SCHED_FIFO || policy == SCHED_RR) && (s->priority < 1 || s->priority > 99))
		return err_set(e, ERR_INVALID, "process.scheduler.priority: %d is not within 1 to 99", s->priority);
	if ((s->runtime || s->deadline || s->period) && policy != SCHED_DEADLINE)
		return err_set(e, ERR_INVALID, "process.scheduler: runtime, deadline and period are SCHED_DEADLINE's, not %s's",
			       s->policy);
	if (policy == SCHED_DEADLINE && (!s->runtime || s->runtime > s->deadline ||
					 (s->period && s->deadline > s->period)))
		return err_set(e, ERR_INVALID, "process.scheduler: SCHED_DEADLINE needs runtime <= deadline <= period");
	return 0;
}

static int scheduler_of(const struct oci_scheduler *s, struct plan_process *out, struct err *e)
{
	static const struct word policies[] = {
		{ "SCHED_OTHER", SCHED_OTHER }, { "SCHED_FIFO", SCHED_FIFO }, { "SCHED_RR", SCHED_RR },
		{ "SCHED_BATCH", SCHED_BATCH }, { "SCHED_ISO", 4 }, { "SCHED_IDLE", SCHED_IDLE },
		{ "SCHED_DEADLINE", SCHED_DEADLINE }, { 0 }
	};
	static const struct word flags[] = {
		{ "SCHED_FLAG_RESET_ON_FORK", 1 }, { "SCHED_FLAG_RECLAIM", 2 }, { "SCHED_FLAG_DL_OVERRUN", 4 },
		{ "SCHED_FLAG_KEEP_POLICY", 8 }, { "SCHED_FLAG_KEEP_PARAMS", 16 },
		{ "SCHED_FLAG_UTIL_CLAMP_MIN", 32 }, { "SCHED_FLAG_UTIL_CLAMP_MAX", 64 }, { 0 }
	};
	const struct word *w;

	if (!s)
		return 0;
	w = find_word(policies, s->policy);
	if (!w)
		return err_set(e, ERR_INVALID, "process.scheduler.policy: unknown policy \"%s\"", s->policy);
	if (check_scheduler(s, (int)w->value, e) < 0 ||
	    flags_of(flags, s->flags, "process.scheduler.flags", &out->scheduler_flags, e) < 0)
		return -1;
	out->scheduler_policy = (int)w->value;
	out->scheduler = s;
	return 0;
}

/* --- personality ---------------------------------------------------------------------------------- */

/* The specification names no flag yet; these are the kernel's (personality(2)). */
static int personality_of(const struct oci_personality *p, long *out, struct err *e)
{
	static const struct word flags[] = {
		{ "UNAME26", UNAME26 }, { "ADDR_NO_RANDOMIZE", ADDR_NO_RANDOMIZE },
		{ "FDPIC_FUNCPTRS", FDPIC_FUNCPTRS }, { "MMAP_PAGE_ZERO", MMAP_PAGE_ZERO },
		{ "ADDR_COMPAT_LAYOUT", ADDR_COMPAT_LAYOUT }, { "READ_IMPLIES_EXEC", READ_IMPLIES_EXEC },
		{ "ADDR_LIMIT_32BIT", ADDR_LIMIT_32BIT }, { "SHORT_INODE", SHORT_INODE },
		{ "WHOLE_SECONDS", WHOLE_SECONDS }, { "STICKY_TIMEOUTS", STICKY_TIMEOUTS },
		{ "ADDR_LIMIT_3GB", ADDR_LIMIT_3GB }, { 0 }
	};
	static const struct word domains[] = { { "LINUX", PER_LINUX }, { "LINUX32", PER_LINUX32 }, { 0 } };
	const struct word *w;
	uint64_t bits = 0;

	if (!p)
		return 0;
	w = find_word(domains, p->domain);
	if (!w)
		return err_set(e, ERR_INVALID, "linux.personality.domain: unknown domain \"%s\"", p->domain);
	if (flags_of(flags, p->flags, "linux.personality.flags", &bits, e) < 0)
		return -1;
	*out = w->value | (long)bits;
	return 0;
}

/* --- sets of CPUs and of memory nodes ------------------------------------------------------------- */

/* "0-3,7". */
static int set_of(struct arena *a, const char *text, const char *field, struct plan_bits *out, struct err *e)
{
	enum { MOST = 8192, PER = 8 * sizeof(unsigned long) };
	unsigned long *bits = arena_newn0(a, unsigned long, MOST / PER);
	struct str rest = str_of(text);
	struct err ignored;

	while (rest.p) {
		struct str last = str_trim(str_cut(&rest, ',')), first = str_cut(&last, '-');
		uint32_t from, to;

		if (str_to_u32_base(first, 10, &from, &ignored) < 0 ||
		    str_to_u32_base(last.p ? last : first, 10, &to, &ignored) < 0 || from > to || to >= MOST)
			return err_set(e, ERR_INVALID, "%s: \"%s\" is not a list such as 0-3,7", field, text);
		for (; from <= to; from++)
			bits[from / PER] |= 1UL << from % PER;
	}
	*out = (struct plan_bits){ bits, MOST };
	return 0;
}

static int affinity_of(struct arena *a, const struct oci_exec_cpu_affinity *p, struct plan_process *out, struct err *e)
{
	if (!p)
		return 0;
	if (!str_is_empty(p->initial) &&
	    set_of(a, p->initial, "process.execCPUAffinity.initial", &out->cpus_initial, e) < 0)
		return -1;
	return str_is_empty(p->final) ? 0 : set_of(a, p->final, "process.execCPUAffinity.final", &out->cpus_final, e);
}

static int memory_policy_of(struct arena *a, const struct oci_memory_policy *p, struct plan_process *out, struct err *e)
{
	static const struct word modes[] = {
		{ "MPOL_DEFAULT", MPOL_DEFAULT }, { "MPOL_PREFERRED", MPOL_PREFERRED }, { "MPOL_BIND", MPOL_BIND },
		{ "MPOL_INTERLEAVE", MPOL_INTERLEAVE }, { "MPOL_LOCAL", MPOL_LOCAL }, { "MPOL_PREFERRED_MANY", 5 },
		{ "MPOL_WEIGHTED_INTERLEAVE", 6 }, { 0 }
	};
	static const struct word flags[] = {
		{ "MPOL_F_STATIC_NODES", 1 << 15 }, { "MPOL_F_RELATIVE_NODES", 1 << 14 },
		{ "MPOL_F_NUMA_BALANCING", 1 << 13 }, { 0 }
	};
	const struct word *w;
	uint64_t bits = 0;

	if (!p)
		return 0;
	w = find_word(modes, p->mode);
	if (!w)
		return err_set(e, ERR_INVALID, "linux.memoryPolicy.mode: unknown mode \"%s\"", p->mode);
	if (flags_of(flags, p->flags, "linux.memoryPolicy.flags", &bits, e) < 0)
		return -1;
	if (!str_is_empty(p->nodes) && set_of(a, p->nodes, "linux.memoryPolicy.nodes", &out->memory_nodes, e) < 0)
		return -1;
	out->memory_policy = (int)w->value | (int)bits;
	return 0;
}

int plan_scheduling(struct arena *a, const struct oci_process *p, const struct oci_linux *l, struct plan_process *out,
		    struct err *e)
{
	out->io_priority = out->scheduler_policy = out->memory_policy = -1;
	out->personality = -1;
	if (io_priority_of(p->io_priority, &out->io_priority, e) < 0 || scheduler_of(p->scheduler, out, e) < 0 ||
	    affinity_of(a, p->exec_cpu_affinity, out, e) < 0)
		return -1;
	if (l && (personality_of(l->personality, &out->personality, e) < 0 ||
		  memory_policy_of(a, l->memory_policy, out, e) < 0))
		return -1;
	return 0;
}
