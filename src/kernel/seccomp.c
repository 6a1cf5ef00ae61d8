#include "kernel/seccomp.h"

#include "base/str.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct syscall_row {
	char name[30];
	int16_t nr[SECCOMP_ARCH_COUNT];
} syscalls[] = {
#include "syscalls.inc"
};

static int row_compare(const void *key, const void *row)
{
	return strcmp(key, ((const struct syscall_row *)row)->name);
}

static const struct syscall_row *row_find(const char *name)
{
	return bsearch(name, syscalls, ARRAY_SIZE(syscalls), sizeof(syscalls[0]), row_compare);
}

int seccomp_syscall(enum seccomp_arch arch, const char *name)
{
	const struct syscall_row *row = row_find(name);

	return row ? row->nr[arch] : -1;
}

static const struct {
	const char *name;
	uint32_t audit;
	bool narrow; /* 32 bits an argument */
} arches[SECCOMP_ARCH_COUNT] = {
	[SECCOMP_ARCH_X86_64] = { "SCMP_ARCH_X86_64", AUDIT_ARCH_X86_64, false },
	[SECCOMP_ARCH_X86] = { "SCMP_ARCH_X86", AUDIT_ARCH_I386, true },
	[SECCOMP_ARCH_X32] = { "SCMP_ARCH_X32", AUDIT_ARCH_X86_64, false },
	[SECCOMP_ARCH_AARCH64] = { "SCMP_ARCH_AARCH64", AUDIT_ARCH_AARCH64, false },
	[SECCOMP_ARCH_ARM] = { "SCMP_ARCH_ARM", AUDIT_ARCH_ARM, true },
	[SECCOMP_ARCH_RISCV64] = { "SCMP_ARCH_RISCV64", AUDIT_ARCH_RISCV64, false },
	[SECCOMP_ARCH_S390X] = { "SCMP_ARCH_S390X", AUDIT_ARCH_S390X, false },
	[SECCOMP_ARCH_PPC64LE] = { "SCMP_ARCH_PPC64LE", AUDIT_ARCH_PPC64LE, false },
};

int seccomp_arch_by_name(const char *name)
{
	for (int i = 0; i < SECCOMP_ARCH_COUNT; i++)
		if (streq(arches[i].name, name))
			return i;
	return -1;
}

enum seccomp_arch seccomp_arch_native(void)
{
#if defined(__x86_64__)
	return SECCOMP_ARCH_X86_64;
#elif defined(__aarch64__)
	return SECCOMP_ARCH_AARCH64;
#elif defined(__riscv)
	return SECCOMP_ARCH_RISCV64;
#elif defined(__s390x__)
	return SECCOMP_ARCH_S390X;
#elif defined(__powerpc64__)
	return SECCOMP_ARCH_PPC64LE;
#else
#error "seccomp: this architecture is not known"
#endif
}

/* --- what each call answers --------------------------------------------------------------------- */

enum { NR_MAX = 700, INSN_MAX = 4096 };

/* A call's rules with tests, in their order. */
struct tested {
	const struct seccomp_rule *rule;
	struct seccomp_test mux; /* index 0 is this call's number in socketcall or ipc */
	bool has_mux;
	struct tested *next;
};

struct answer {
	uint32_t action;
	bool fixed;              /* a rule without tests said so */
	struct tested *first, **tail;
};

struct compiler {
	struct arena *a;
	const struct seccomp_profile *profile;
	const struct syscall_row **rows; /* of the rules' names, one after the other; NULL: no architecture's */
	struct sock_filter *p;
	size_t n;
	bool overflow;
	bool narrow;
	int starts[NR_MAX + 1];
	size_t nstarts;
	struct answer answers[NR_MAX];
};

static const struct {
	const char *name;
	int number;
} socketcalls[] = {
	{ "socket", 1 }, { "bind", 2 }, { "connect", 3 }, { "listen", 4 }, { "accept", 5 },
	{ "getsockname", 6 }, { "getpeername", 7 }, { "socketpair", 8 }, { "send", 9 }, { "recv", 10 },
	{ "sendto", 11 }, { "recvfrom", 12 }, { "shutdown", 13 }, { "setsockopt", 14 },
	{ "getsockopt", 15 }, { "sendmsg", 16 }, { "recvmsg", 17 }, { "accept4", 18 }, { "recvmmsg", 19 },
	{ "sendmmsg", 20 },
}, ipc_calls[] = {
	{ "semop", 1 }, { "semget", 2 }, { "semctl", 3 }, { "semtimedop", 4 }, { "msgsnd", 11 },
	{ "msgrcv", 12 }, { "msgget", 13 }, { "msgctl", 14 }, { "shmat", 21 }, { "shmdt", 22 },
	{ "shmget", 23 }, { "shmctl", 24 },
};

static void add_tested(struct compiler *c, int nr, const struct seccomp_rule *r, int mux)
{
	struct answer *at = &c->answers[nr];
	struct tested *t = arena_new0(c->a, struct tested);

	t->rule = r;
	t->has_mux = mux > 0;
	t->mux = (struct seccomp_test){ 0, SECCOMP_EQ, (uint64_t)mux, 0 };
	if (!at->tail)
		at->tail = &at->first;
	*at->tail = t;
	at->tail = &t->next;
}

/* Arguments of multiplexed calls lie behind a pointer, so only rules without tests can hold there. */
static void add_multiplexed(struct compiler *c, const char *name, const struct seccomp_rule *r)
{
	if (r->ntests)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(socketcalls); i++)
		if (streq(name, socketcalls[i].name))
			add_tested(c, 102, r, socketcalls[i].number);
	for (size_t i = 0; i < ARRAY_SIZE(ipc_calls); i++)
		if (streq(name, ipc_calls[i].name))
			add_tested(c, 117, r, ipc_calls[i].number);
}

/* Names are looked up once, not for each architecture. */
static void find_rows(struct compiler *c)
{
	const struct seccomp_profile *p = c->profile;
	size_t n = 0, at = 0;

	for (size_t i = 0; i < p->nrules; i++)
		n += strv_len(p->rules[i].names);
	c->rows = arena_alloc(c->a, (n + 1) * sizeof(*c->rows));
	for (size_t i = 0; i < p->nrules; i++)
		for (char *const *name = p->rules[i].names; name && *name; name++)
			c->rows[at++] = row_find(*name);
}

/* `row`: of its first name. Returns that of the next rule's. */
static const struct syscall_row **add_rule(struct compiler *c, enum seccomp_arch arch, const struct seccomp_rule *r,
					   const struct syscall_row **row, int *highest)
{
	for (char *const *name = r->names; name && *name; name++, row++) {
		int nr = *row ? (*row)->nr[arch] : -1;

		if (arch == SECCOMP_ARCH_X86)
			add_multiplexed(c, *name, r);
		if (nr < 0 || nr >= NR_MAX)
			continue;
		*highest = MAX(*highest, nr);
		if (r->ntests) {
			add_tested(c, nr, r, 0);
		} else if (!c->answers[nr].fixed) {
			c->answers[nr].fixed = true;
			c->answers[nr].action = r->action;
		}
	}
	return row;
}

static uint32_t answer_of_newer(uint32_t default_action)
{
	if ((default_action & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_ERRNO)
		return SECCOMP_RET_ERRNO | ENOSYS;
	return default_action;
}

static void find_answers(struct compiler *c, enum seccomp_arch arch)
{
	const struct seccomp_profile *p = c->profile;
	const struct syscall_row **row = c->rows;
	int highest = -1;

	memset(c->answers, 0, sizeof(c->answers));
	for (size_t i = 0; i < p->nrules; i++)
		row = add_rule(c, arch, &p->rules[i], row, &highest);
	for (int nr = 0; nr < NR_MAX; nr++)
		if (!c->answers[nr].fixed)
			c->answers[nr].action = nr > highest && highest >= 0 ? answer_of_newer(p->default_action) :
						p->default_action;
	c->nstarts = 0;
	for (int nr = 0; nr < NR_MAX; nr++) {
		const struct answer *now = &c->answers[nr], *before = nr ? now - 1 : NULL;

		if (!before || now->first || before->first || now->action != before->action)
			c->starts[c->nstarts++] = nr;
	}
}

/* --- instructions -------------------------------------------------------------------------------- */

static size_t put(struct compiler *c, int code, uint32_t k, int jt, int jf)
{
	if (c->n == INSN_MAX) {
		c->overflow = true;
		return c->n - 1;
	}
	c->p[c->n] = (struct sock_filter){ (uint16_t)code, (uint8_t)jt, (uint8_t)jf, k };
	return c->n++;
}

static void load(struct compiler *c, uint32_t offset)
{
	(void)put(c, BPF_LD | BPF_W | BPF_ABS, offset, 0, 0);
}

/* Jumps of a test that go to "the test fails" or "it holds", patched when both are known. */
struct jumps {
	struct { uint16_t at; bool on_true; } fail[8], pass[8];
	size_t nfail, npass;
};

static void jump(struct compiler *c, struct jumps *j, int op, uint32_t k, char on_true, char on_false)
{
	uint16_t at = (uint16_t)put(c, BPF_JMP | op | BPF_K, k, 0, 0);

	for (int t = 0; t < 2; t++) {
		char where = t ? on_true : on_false;

		if (where == 'F') {
			j->fail[j->nfail].at = at;
			j->fail[j->nfail++].on_true = t;
		} else if (where == 'P') {
			j->pass[j->npass].at = at;
			j->pass[j->npass++].on_true = t;
		}
	}
}

static void patch(struct compiler *c, uint16_t at, bool on_true, size_t to)
{
	uint8_t offset = (uint8_t)(to - at - 1);

	if (on_true)
		c->p[at].jt = offset;
	else
		c->p[at].jf = offset;
}

/* One comparison of 64 bits by halves: P holds, F fails, else on to the next instruction (which, at
 * the end, means that it holds). */
static void put_test(struct compiler *c, const struct seccomp_test *t, struct jumps *j)
{
	uint64_t value = c->narrow ? (uint32_t)t->value : t->value;
	uint64_t two = c->narrow ? (uint32_t)t->value_two : t->value_two;
	uint32_t high = (uint32_t)(value >> 32), low = (uint32_t)value, at = 16 + 8 * t->index;
	bool big_endian = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__;

	load(c, at + (big_endian ? 0 : 4));
	switch (t->op) {
	case SECCOMP_EQ:
		jump(c, j, BPF_JEQ, high, 0, 'F');
		break;
	case SECCOMP_NE:
		jump(c, j, BPF_JEQ, high, 0, 'P');
		break;
	case SECCOMP_GT:
	case SECCOMP_GE:
		jump(c, j, BPF_JGT, high, 'P', 0);
		jump(c, j, BPF_JEQ, high, 0, 'F');
		break;
	case SECCOMP_LT:
	case SECCOMP_LE:
		jump(c, j, BPF_JGT, high, 'F', 0);
		jump(c, j, BPF_JEQ, high, 0, 'P');
		break;
	case SECCOMP_MASKED_EQ:
		(void)put(c, BPF_ALU | BPF_AND | BPF_K, high, 0, 0);
		jump(c, j, BPF_JEQ, (uint32_t)(two >> 32), 0, 'F');
		break;
	}
	load(c, at + (big_endian ? 4 : 0));
	switch (t->op) {
	case SECCOMP_EQ:
		jump(c, j, BPF_JEQ, low, 0, 'F');
		break;
	case SECCOMP_NE:
		jump(c, j, BPF_JEQ, low, 'F', 0);
		break;
	case SECCOMP_GT:
		jump(c, j, BPF_JGT, low, 0, 'F');
		break;
	case SECCOMP_GE:
		jump(c, j, BPF_JGE, low, 0, 'F');
		break;
	case SECCOMP_LT:
		jump(c, j, BPF_JGE, low, 'F', 0);
		break;
	case SECCOMP_LE:
		jump(c, j, BPF_JGT, low, 'F', 0);
		break;
	case SECCOMP_MASKED_EQ:
		(void)put(c, BPF_ALU | BPF_AND | BPF_K, low, 0, 0);
		jump(c, j, BPF_JEQ, (uint32_t)two, 0, 'F');
		break;
	}
}

static void put_tested(struct compiler *c, const struct tested *t)
{
	struct { uint16_t at; bool on_true; } fails[48];
	size_t nfails = 0;

	for (size_t i = 0; i < t->rule->ntests + t->has_mux; i++) {
		const struct seccomp_test *test = i < t->rule->ntests ? &t->rule->tests[i] : &t->mux;
		struct jumps j = { 0 };

		put_test(c, test, &j);
		for (size_t k = 0; k < j.npass; k++)
			patch(c, j.pass[k].at, j.pass[k].on_true, c->n);
		for (size_t k = 0; k < j.nfail && nfails < ARRAY_SIZE(fails); k++) {
			fails[nfails].at = j.fail[k].at;
			fails[nfails++].on_true = j.fail[k].on_true;
		}
	}
	(void)put(c, BPF_RET | BPF_K, t->rule->action, 0, 0);
	for (size_t k = 0; k < nfails; k++)
		patch(c, fails[k].at, fails[k].on_true, c->n);
}

static void put_leaf(struct compiler *c, int nr)
{
	for (const struct tested *t = c->answers[nr].first; t; t = t->next)
		put_tested(c, t);
	(void)put(c, BPF_RET | BPF_K, c->answers[nr].action, 0, 0);
}

/* Ranges [from, to): the accumulator holds the number. No leaf falls through. */
static void put_tree(struct compiler *c, size_t from, size_t to)
{
	size_t middle = (from + to) / 2, branch, start;

	if (to - from == 1) {
		put_leaf(c, c->starts[from]);
		return;
	}
	/* The near form reaches 255 instructions; where the left side is longer it is compiled anew
	 * behind the far form. */
	start = c->n;
	branch = put(c, BPF_JMP | BPF_JGE | BPF_K, (uint32_t)c->starts[middle], 0, 0);
	put_tree(c, from, middle);
	if (c->n - branch - 1 > 255 && !c->overflow) {
		size_t far;

		c->n = start;
		(void)put(c, BPF_JMP | BPF_JGE | BPF_K, (uint32_t)c->starts[middle], 0, 1);
		far = put(c, BPF_JMP | BPF_JA, 0, 0, 0);
		put_tree(c, from, middle);
		c->p[far].k = (uint32_t)(c->n - far - 1);
	} else {
		c->p[branch].jt = (uint8_t)(c->n - branch - 1);
	}
	put_tree(c, middle, to);
}

static void put_arch(struct compiler *c, enum seccomp_arch arch, bool has_x32)
{
	size_t skip;

	(void)put(c, BPF_JMP | BPF_JEQ | BPF_K, arches[arch].audit, 1, 0);
	skip = put(c, BPF_JMP | BPF_JA, 0, 0, 0);
	load(c, 0);
	if (arch == SECCOMP_ARCH_X86_64) {
		(void)put(c, BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1);
		(void)put(c, BPF_RET | BPF_K,
			  has_x32 ? SECCOMP_RET_ERRNO | ENOSYS : SECCOMP_RET_KILL_PROCESS, 0, 0);
	}
	c->narrow = arches[arch].narrow;
	find_answers(c, arch);
	put_tree(c, 0, c->nstarts);
	c->p[skip].k = (uint32_t)(c->n - skip - 1);
}

int seccomp_compile(struct arena *a, const struct seccomp_profile *p, struct seccomp_filter *out,
		    struct err *e)
{
	struct compiler *c = arena_alloc(a, sizeof(*c)); /* most of it is not touched, and so costs no page */
	unsigned wanted = p->arches | BIT(seccomp_arch_native());

	for (size_t i = 0; i < p->nrules; i++) {
		if (p->rules[i].ntests > 6)
			return err_set(e, ERR_INVALID, "seccomp: more than 6 tests in a rule for %s",
				       p->rules[i].names[0] ? p->rules[i].names[0] : "nothing");
		for (size_t k = 0; k < p->rules[i].ntests; k++)
			if (p->rules[i].tests[k].index > 5)
				return err_set(e, ERR_INVALID, "seccomp: system calls have no argument %u",
					       p->rules[i].tests[k].index);
	}
	c->a = a;
	c->profile = p;
	c->n = 0;
	c->overflow = c->narrow = false;
	c->p = arena_alloc(a, INSN_MAX * sizeof(*c->p));
	find_rows(c);
	load(c, 4);
	/* Native first: it is the one that runs. */
	put_arch(c, seccomp_arch_native(), wanted & BIT(SECCOMP_ARCH_X32));
	for (int arch = 0; arch < SECCOMP_ARCH_COUNT && !c->overflow; arch++)
		if (wanted & BIT(arch) && arch != (int)seccomp_arch_native() && arch != SECCOMP_ARCH_X32)
			put_arch(c, (enum seccomp_arch)arch, false);
	(void)put(c, BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
	if (c->overflow)
		return err_set(e, ERR_INVALID, "seccomp: the rules need more than %d instructions", INSN_MAX);
	*out = (struct seccomp_filter){ c->p, (unsigned short)c->n };
	return 0;
}

int seccomp_load(const struct seccomp_filter *f, unsigned flags, struct err *e)
{
	struct sock_fprog program = { .len = f->count, .filter = f->p };

	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program) < 0)
		return err_sys(e, errno, "load the seccomp filter of %u instructions", f->count);
	return 0;
}
