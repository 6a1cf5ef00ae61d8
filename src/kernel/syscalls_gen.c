/* Run at build time: prints the table of system calls by name, from libseccomp's knowledge and that of
 * newer calls, whose numbers are the same everywhere. */
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ARCHES = 8, NAMES_MAX = 1200, NR_MAX = 700 };

static const uint32_t arch[ARCHES] = {
	SCMP_ARCH_X86_64, SCMP_ARCH_X86, SCMP_ARCH_X32, SCMP_ARCH_AARCH64, SCMP_ARCH_ARM, SCMP_ARCH_RISCV64,
	SCMP_ARCH_S390X, SCMP_ARCH_PPC64LE,
};

static const struct {
	const char *name;
	int nr;
} newer[] = {
	{ "futex_waitv", 449 }, { "set_mempolicy_home_node", 450 }, { "cachestat", 451 }, { "fchmodat2", 452 },
	{ "map_shadow_stack", 453 }, { "futex_wake", 454 }, { "futex_wait", 455 }, { "futex_requeue", 456 },
	{ "statmount", 457 }, { "listmount", 458 }, { "lsm_get_self_attr", 459 }, { "lsm_set_self_attr", 460 },
	{ "lsm_list_modules", 461 }, { "mseal", 462 }, { "setxattrat", 463 }, { "getxattrat", 464 },
	{ "listxattrat", 465 }, { "removexattrat", 466 }, { "open_tree_attr", 467 }, { "file_getattr", 468 },
	{ "file_setattr", 469 }, { "listns", 470 },
};

static char *names[NAMES_MAX];
static int count;

static void add(const char *name)
{
	for (int i = 0; i < count; i++)
		if (strcmp(names[i], name) == 0)
			return;
	if (count == NAMES_MAX)
		exit(1);
	names[count++] = strdup(name);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int number(int k, const char *name)
{
	int nr = seccomp_syscall_resolve_name_arch(arch[k], name);

	if (nr >= 0)
		return arch[k] == SCMP_ARCH_X32 ? nr & ~0x40000000 : nr;
	for (size_t i = 0; i < sizeof(newer) / sizeof(newer[0]); i++)
		if (strcmp(newer[i].name, name) == 0)
			return newer[i].nr;
	return -1;
}

int main(void)
{
	for (int k = 0; k < ARCHES; k++)
		for (int nr = 0; nr < NR_MAX; nr++) {
			char *name = seccomp_syscall_resolve_num_arch(
				arch[k], arch[k] == SCMP_ARCH_X32 ? nr | 0x40000000 : nr);

			if (name)
				add(name);
			free(name);
		}
	/* Multiplexed on 32-bit x86: they have no number of their own there. */
	for (size_t i = 0; i < sizeof(newer) / sizeof(newer[0]); i++)
		add(newer[i].name);
	qsort(names, (size_t)count, sizeof(names[0]), by_name);
	puts("/* made by syscalls_gen.c: name, number by enum seccomp_arch */");
	for (int i = 0; i < count; i++) {
		printf("{ \"%s\", { ", names[i]);
		for (int k = 0; k < ARCHES; k++)
			printf("%d, ", number(k, names[i]));
		puts("} },");
	}
	return 0;
}
