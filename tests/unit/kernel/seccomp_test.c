#include "test.h"

#include "kernel/seccomp.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <string.h>

/* The kernel's classic BPF, as far as filters use it. */
static uint32_t run(const struct seccomp_filter *f, const struct seccomp_data *d)
{
	uint32_t a = 0;

	for (size_t pc = 0; pc < f->count; pc++) {
		const struct sock_filter *i = &f->p[pc];
		bool yes;

		switch (BPF_CLASS(i->code)) {
		case BPF_LD:
			assert_true(i->k % 4 == 0 && i->k < sizeof(*d));
			memcpy(&a, (const char *)d + i->k, 4);
			continue;
		case BPF_ALU:
			assert_int_equal(BPF_OP(i->code), BPF_AND);
			a &= i->k;
			continue;
		case BPF_RET:
			return i->k;
		default:
			assert_int_equal(BPF_CLASS(i->code), BPF_JMP);
		}
		if (BPF_OP(i->code) == BPF_JA) {
			pc += i->k;
			continue;
		}
		yes = BPF_OP(i->code) == BPF_JEQ ? a == i->k : BPF_OP(i->code) == BPF_JGT ? a > i->k : a >= i->k;
		pc += yes ? i->jt : i->jf;
	}
	fail_msg("the program has no end");
	return 0;
}

static uint32_t call(const struct seccomp_filter *f, uint32_t arch, int nr, const uint64_t *args)
{
	struct seccomp_data d = { .nr = nr, .arch = arch };

	if (args)
		memcpy(d.args, args, sizeof(d.args));
	return run(f, &d);
}

enum { X = AUDIT_ARCH_X86_64 };
#define NR(name) seccomp_syscall(SECCOMP_ARCH_X86_64, name)
#define ERRNO(n) (SECCOMP_RET_ERRNO | (n))

static void compile(struct arena *a, const struct seccomp_profile *p, struct seccomp_filter *f)
{
	struct err e;

	assert_ok(seccomp_compile(a, p, f, &e), e);
}

TEST(names_have_their_numbers)
{
	assert_int_equal(NR("read"), 0);
	assert_int_equal(NR("clone3"), 435);
	assert_int_equal(NR("mseal"), 462);
	assert_int_equal(NR("fchmodat2"), 452);
	assert_int_equal(seccomp_syscall(SECCOMP_ARCH_X86, "read"), 3);
	assert_int_equal(seccomp_syscall(SECCOMP_ARCH_AARCH64, "openat"), 56);
	assert_int_equal(NR("no_such_call"), -1);
}

TEST(every_call_gets_its_own_answer)
{
	char *const few[] = { "read", "close", "mseal", "nonsense", NULL };
	char *const logged[] = { "openat", NULL };
	const struct seccomp_rule rules[] = { { few, SECCOMP_RET_ALLOW, NULL, 0 },
					      { logged, SECCOMP_RET_LOG, NULL, 0 } };
	const struct seccomp_profile p = { .default_action = ERRNO(EPERM), .rules = rules, .nrules = 2 };
	auto_arena a = { 0 };
	struct seccomp_filter f;

	compile(&a, &p, &f);
	for (int nr = 0; nr < 463; nr++) {
		uint32_t want = nr == 0 || nr == 3 || nr == 462 ? SECCOMP_RET_ALLOW :
				nr == NR("openat") ? SECCOMP_RET_LOG : ERRNO(EPERM);

		assert_int_equal(call(&f, X, nr, NULL), want);
	}
	assert_int_equal(call(&f, X, 463, NULL), ERRNO(ENOSYS)); /* newer than the profile */
	assert_int_equal(call(&f, X, 100000, NULL), ERRNO(ENOSYS));
	assert_int_equal(call(&f, X, 0x40000000, NULL), SECCOMP_RET_KILL_PROCESS);
	assert_int_equal(call(&f, AUDIT_ARCH_I386, 3, NULL), SECCOMP_RET_KILL_PROCESS);
}

TEST(all_comparisons_are_of_64_bits)
{
	static const uint64_t values[] = { 0, 1, 5, 0xffffffff, 0x100000000, 0x100000005, 0x500000000,
					   0x4ffffffff, UINT64_MAX };
	char *const names[] = { "ioctl", NULL };
	auto_arena a = { 0 };

	for (int op = SECCOMP_NE; op <= SECCOMP_MASKED_EQ; op++)
		for (size_t v = 0; v < ARRAY_SIZE(values); v++) {
			const struct seccomp_test t = { 1, (enum seccomp_op)op, values[v], values[v] & 0x100000005 };
			const struct seccomp_rule rule = { names, SECCOMP_RET_ALLOW, &t, 1 };
			const struct seccomp_profile p = { .default_action = ERRNO(1), .rules = &rule, .nrules = 1 };
			struct seccomp_filter f;

			compile(&a, &p, &f);
			for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
				uint64_t x = values[i], y = values[v], args[6] = { 9, x, 9, 9, 9, 9 };
				bool holds[] = { x != y, x < y, x <= y, x == y, x >= y, x > y,
						 (x & y) == (y & 0x100000005) };

				assert_int_equal(call(&f, X, NR("ioctl"), args),
						 holds[op] ? SECCOMP_RET_ALLOW : ERRNO(1));
			}
		}
}

TEST(all_tests_of_a_rule_must_hold_and_rules_come_in_order)
{
	char *const names[] = { "clone", NULL };
	const struct seccomp_test both[] = { { 0, SECCOMP_EQ, 1, 0 }, { 2, SECCOMP_GT, 7, 0 } };
	const struct seccomp_test other = { 0, SECCOMP_EQ, 2, 0 };
	const struct seccomp_rule rules[] = { { names, ERRNO(5), both, 2 }, { names, ERRNO(6), &other, 1 },
					      { names, SECCOMP_RET_ALLOW, NULL, 0 } };
	const struct seccomp_profile p = { .default_action = SECCOMP_RET_TRAP, .rules = rules, .nrules = 3 };
	auto_arena a = { 0 };
	struct seccomp_filter f;

	compile(&a, &p, &f);
	assert_int_equal(call(&f, X, NR("clone"), (uint64_t[6]){ 1, 0, 8 }), ERRNO(5));
	assert_int_equal(call(&f, X, NR("clone"), (uint64_t[6]){ 1, 0, 7 }), SECCOMP_RET_ALLOW);
	assert_int_equal(call(&f, X, NR("clone"), (uint64_t[6]){ 2, 0, 7 }), ERRNO(6));
	assert_int_equal(call(&f, X, NR("read"), NULL), SECCOMP_RET_TRAP);
}

TEST(socketcall_follows_the_calls_it_carries)
{
	char *const names[] = { "connect", "shmget", NULL };
	const struct seccomp_rule rule = { names, SECCOMP_RET_ALLOW, NULL, 0 };
	const struct seccomp_profile p = { .default_action = ERRNO(1), .rules = &rule, .nrules = 1,
					   .arches = BIT(SECCOMP_ARCH_X86) | BIT(SECCOMP_ARCH_X32) };
	auto_arena a = { 0 };
	struct seccomp_filter f;

	compile(&a, &p, &f);
	assert_int_equal(call(&f, AUDIT_ARCH_I386, 102, (uint64_t[6]){ 3 }), SECCOMP_RET_ALLOW);
	assert_int_equal(call(&f, AUDIT_ARCH_I386, 102, (uint64_t[6]){ 4 }), ERRNO(1));
	assert_int_equal(call(&f, AUDIT_ARCH_I386, 117, (uint64_t[6]){ 23 }), SECCOMP_RET_ALLOW);
	assert_int_equal(call(&f, X, 0x40000001, NULL), ERRNO(ENOSYS));
}

TEST(an_argument_that_no_call_has_is_refused)
{
	char *const names[] = { "read", NULL };
	const struct seccomp_test t = { 6, SECCOMP_EQ, 1, 0 };
	const struct seccomp_rule rule = { names, SECCOMP_RET_ALLOW, &t, 1 };
	const struct seccomp_profile p = { .rules = &rule, .nrules = 1 };
	auto_arena a = { 0 };
	struct seccomp_filter f;
	struct err e;

	assert_err(seccomp_compile(&a, &p, &f, &e), e, ERR_INVALID, "no argument 6");
}
