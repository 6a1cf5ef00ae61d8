#include "image/unpack_sandbox.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* --- the root -------------------------------------------------------------------------------------- */

/* Where the machine runs from its initramfs, the root cannot be pivoted: chroot does there, since no
 * capability is left to break out of it. */
static int change_root(int tree, struct err *e)
{
	if (fchdir(tree) < 0)
		return err_sys(e, errno, "enter the layer's folder");
	if (syscall(SYS_pivot_root, ".", ".") == 0) {
		if (umount2(".", MNT_DETACH) < 0)
			return err_sys(e, errno, "leave the host's root (umount2)");
	} else if (errno != EINVAL || chroot(".") < 0) {
		return err_sys(e, errno, "make the layer's folder the root (pivot_root)");
	}
	if (chdir("/") < 0)
		return err_sys(e, errno, "enter the layer's folder");
	return 0;
}

static int enter_namespaces(int dest_fd, struct err *e)
{
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC };
	auto_fd int tree = open_tree(dest_fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	if (tree < 0)
		return err_sys(e, errno, "clone the mount of the layer's folder (open_tree)");
	if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) < 0)
		return err_sys(e, errno, "make namespaces for unpacking (unshare)");
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_sys(e, errno, "make mounts private (mount)");
	if (mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
		return err_sys(e, errno, "set the layer's mount flags (mount_setattr)");
	if (move_mount(tree, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return err_sys(e, errno, "mount the layer's folder (move_mount)");
	return change_root(tree, e);
}

static int close_others(int keep, struct err *e)
{
	if ((keep > 3 && syscall(SYS_close_range, 3, keep - 1, 0) < 0) ||
	    syscall(SYS_close_range, MAX(keep + 1, 3), ~0u, 0) < 0)
		return err_sys(e, errno, "close what is not needed (close_range)");
	return 0;
}

/* --- rights ---------------------------------------------------------------------------------------- */

static int set_limits(struct err *e)
{
	static const struct {
		int what;
		rlim_t most;
	} limits[] = {
		{ RLIMIT_CORE, 0 },
		{ RLIMIT_NOFILE, 1024 },
#ifndef __SANITIZE_ADDRESS__
		{ RLIMIT_AS, (rlim_t)1 << 30 },
#endif
	};

	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		struct rlimit now, l = { limits[i].most, limits[i].most };

		if (getrlimit((__rlimit_resource_t)limits[i].what, &now) < 0)
			return err_sys(e, errno, "read a resource limit");
		l.rlim_cur = l.rlim_max = MIN(l.rlim_max, now.rlim_max);
		if (setrlimit((__rlimit_resource_t)limits[i].what, &l) < 0)
			return err_sys(e, errno, "set a resource limit");
	}
	return 0;
}

static int drop_capabilities(struct err *e)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	uint32_t keep = BIT(CAP_CHOWN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_FOWNER) | BIT(CAP_FSETID) |
			BIT(CAP_MKNOD) | BIT(CAP_SETFCAP);
	struct __user_cap_data_struct data[2] = { 0 };

	if (syscall(SYS_capget, &head, data) < 0)
		return err_sys(e, errno, "read capabilities");
	data[0].permitted &= keep;
	data[0].effective = data[0].permitted;
	data[1].permitted = data[1].effective = 0;
	data[0].inheritable = data[1].inheritable = 0;
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 || syscall(SYS_capset, &head, data) < 0)
		return err_sys(e, errno, "drop capabilities (capset)");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_sys(e, errno, "give up new privileges");
	return 0;
}

/* Since Linux 5.19 (ABI 2): before it, no hard link to another folder could be made. */
static int restrict_files(struct err *e)
{
	uint64_t all = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1; /* ABI 1: bits 0 to 12 */
	uint64_t refer = 1 << 13, truncate_file = 1 << 14;
	struct landlock_ruleset_attr attr = { .handled_access_fs = all | refer };
	struct landlock_path_beneath_attr beneath;
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	auto_fd int rules = -1, root = -1;

	if (abi < 2)
		return 0;
	if (abi >= 3)
		attr.handled_access_fs |= truncate_file;
	rules = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr.handled_access_fs), 0);
	root = fd_open(AT_FDCWD, "/", O_PATH | O_DIRECTORY, e);
	if (root < 0)
		return -1;
	beneath = (struct landlock_path_beneath_attr){
		.allowed_access = attr.handled_access_fs & ~(uint64_t)LANDLOCK_ACCESS_FS_EXECUTE,
		.parent_fd = root,
	};
	if (rules < 0 || syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0) < 0 ||
	    syscall(SYS_landlock_restrict_self, rules, 0) < 0)
		return err_sys(e, errno, "restrict by Landlock");
	return 0;
}

/* --- system calls ---------------------------------------------------------------------------------- */

#if defined(__x86_64__)
enum { ARCH = AUDIT_ARCH_X86_64 };
#elif defined(__aarch64__)
enum { ARCH = AUDIT_ARCH_AARCH64 };
#elif defined(__riscv) && __riscv_xlen == 64
enum { ARCH = AUDIT_ARCH_RISCV64 };
#else
#error "name this processor's AUDIT_ARCH here"
#endif

static const int allowed[] = {
	/* the stream and the files */
	SYS_read, SYS_write, SYS_writev, SYS_pwrite64, SYS_futex, SYS_close, SYS_openat, SYS_openat2,
	SYS_ftruncate, SYS_fchown, SYS_fchmod, SYS_utimensat, SYS_fsetxattr, SYS_mkdirat, SYS_newfstatat,
	SYS_fstat, SYS_symlinkat, SYS_linkat, SYS_unlinkat, SYS_mknodat, SYS_fchownat, SYS_fchmodat,
	SYS_readlinkat, SYS_renameat2, SYS_getdents64, SYS_lseek, SYS_fcntl, SYS_statx,
	/* memory, threads, the end */
	SYS_brk, SYS_munmap, SYS_mremap, SYS_madvise, SYS_set_robust_list, SYS_rt_sigprocmask,
	SYS_rt_sigaction, SYS_rt_sigreturn, SYS_sigaltstack, SYS_sched_yield, SYS_sched_getaffinity,
	SYS_gettid, SYS_getpid, SYS_tgkill, SYS_clock_gettime, SYS_getrandom, SYS_restart_syscall,
	SYS_exit, SYS_exit_group,
#ifdef SYS_rseq
	SYS_rseq,
#endif
};

enum { FILTER_MAX = 2 * ARRAY_SIZE(allowed) + 32 };

struct filter {
	struct sock_filter code[FILTER_MAX];
	unsigned short n;
};

static void add(struct filter *f, struct sock_filter instruction)
{
	f->code[f->n++] = instruction;
}

static void load(struct filter *f, size_t offset)
{
	add(f, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset));
}

static void answer(struct filter *f, uint32_t verdict)
{
	add(f, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, verdict));
}

/* The call, where of its argument's low half the bits `mask` are `value`. Leaves the number loaded. */
static void allow_masked(struct filter *f, int nr, int arg, uint32_t mask, uint32_t value)
{
	size_t at = offsetof(struct seccomp_data, args) + (size_t)arg * 8;

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the low half of an argument is elsewhere"
#endif
	add(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)nr, 0, 5));
	load(f, at);
	add(f, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, mask));
	add(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1));
	answer(f, SECCOMP_RET_ALLOW);
	answer(f, SECCOMP_RET_ERRNO | EPERM);
}

static int restrict_calls(struct err *e)
{
	struct filter f = { .n = 0 };
	struct sock_fprog prog;

	load(&f, offsetof(struct seccomp_data, arch));
	add(&f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0));
	answer(&f, SECCOMP_RET_KILL_PROCESS);
	load(&f, offsetof(struct seccomp_data, nr));
	for (size_t i = 0; i < ARRAY_SIZE(allowed); i++) {
		add(&f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)allowed[i], 0, 1));
		answer(&f, SECCOMP_RET_ALLOW);
	}
	/* No memory becomes code; a clone is a thread. (clone3 hides its flags, "does not exist",
	 * and libc falls back to clone.) */
	allow_masked(&f, SYS_mmap, 2, PROT_EXEC, 0);
	allow_masked(&f, SYS_mprotect, 2, PROT_EXEC, 0);
	allow_masked(&f, SYS_clone, 0, CLONE_THREAD | CLONE_VM | CLONE_NEWUSER, CLONE_THREAD | CLONE_VM);
	answer(&f, SECCOMP_RET_ERRNO | ENOSYS);
	BUG_ON(f.n > FILTER_MAX);
	prog = (struct sock_fprog){ f.n, f.code };
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) < 0)
		return err_sys(e, errno, "filter system calls (seccomp)");
	return 0;
}

int unpack_sandbox_enter(int *dest_fd, int keep, struct err *e)
{
	if (enter_namespaces(*dest_fd, e) < 0)
		return -1;
	fd_close(dest_fd); /* a way back into the host's mounts */
	if (close_others(keep, e) < 0 || set_limits(e) < 0 || drop_capabilities(e) < 0 || restrict_files(e) < 0)
		return -1;
	*dest_fd = fd_open(AT_FDCWD, "/", O_PATH | O_DIRECTORY, e);
	return *dest_fd < 0 ? -1 : restrict_calls(e);
}
