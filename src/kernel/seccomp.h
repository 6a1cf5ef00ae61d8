/* System call filters: from rules to the kernel's classic BPF, compiled by us. Per architecture a
 * binary search over ranges of call numbers that have the same answer; a call with argument rules is
 * a range of one with its tests. A filter of Docker's size is some 380 instructions, a third of
 * libseccomp's. Pure but for seccomp_load().
 *
 * What the rules mean, where libseccomp and the specification leave it open: a call's rules with
 * arguments are tried in their order, then its first rule without; then the default. Calls newer
 * than all that the profile names answer ENOSYS where the default is another errno (so that libc
 * falls back, as with runc). Names that no architecture knows are ignored. On 32-bit x86, rules for
 * socket and System V IPC calls hold for socketcall and ipc too. x32 calls answer ENOSYS where the
 * profile lists that architecture, else kill; so do calls of an architecture that is not listed. */
#ifndef KNARR_KERNEL_SECCOMP_H
#define KNARR_KERNEL_SECCOMP_H

#include "base/arena.h"
#include "base/err.h"

#include <linux/filter.h>

enum seccomp_op { SECCOMP_NE, SECCOMP_LT, SECCOMP_LE, SECCOMP_EQ, SECCOMP_GE, SECCOMP_GT, SECCOMP_MASKED_EQ };
struct seccomp_test {
	unsigned index;                 /* argument 0…5 */
	enum seccomp_op op;
	uint64_t value, value_two;      /* MASKED_EQ: (argument & value) == value_two */
};
struct seccomp_rule {
	char *const *names;
	uint32_t action;                /* SECCOMP_RET_… with its data */
	const struct seccomp_test *tests; /* all must hold */
	size_t ntests;
};
enum seccomp_arch { SECCOMP_ARCH_X86_64, SECCOMP_ARCH_X86, SECCOMP_ARCH_X32, SECCOMP_ARCH_AARCH64,
		    SECCOMP_ARCH_ARM, SECCOMP_ARCH_RISCV64, SECCOMP_ARCH_S390X, SECCOMP_ARCH_PPC64LE,
		    SECCOMP_ARCH_COUNT };
struct seccomp_profile {
	uint32_t default_action;
	unsigned arches;                /* BIT(enum seccomp_arch); 0: the native one */
	const struct seccomp_rule *rules;
	size_t nrules;
};
struct seccomp_filter {
	struct sock_filter *p;
	unsigned short count;
};

/* ERR_INVALID: an argument index above 5, more than the kernel's 4096 instructions. */
int seccomp_compile(struct arena *a, const struct seccomp_profile *p, struct seccomp_filter *out,
		    struct err *e);
/* For the child; flags: SECCOMP_FILTER_FLAG_… */
int seccomp_load(const struct seccomp_filter *f, unsigned flags, struct err *e);

/* "SCMP_ARCH_X86_64"; -1: unknown, or of no concern on this machine. */
int seccomp_arch_by_name(const char *name);
enum seccomp_arch seccomp_arch_native(void);
/* The number of a call, -1: there is none. */
int seccomp_syscall(enum seccomp_arch arch, const char *name);

#endif
