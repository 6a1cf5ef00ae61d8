/* What RuntimeDefault allows: everything a well-behaved program needs. What is not here fails with
 * EPERM: loading code into the kernel, changing the machine's clock, keys, io_uring, namespaces and
 * mounts without CAP_SYS_ADMIN, and sockets of the families AF_ALG and AF_VSOCK, which reach kernel
 * code and hypervisors that containers have no business with. */
#include "pod/seccomp_profile.h"

#include <errno.h>
#include <sched.h>
#include <sys/personality.h>
#include <sys/socket.h>

/* Files, folders and what is in them. */
static char *const files_and_folders[] = {
	"_llseek", "access", "chdir", "chmod", "chown", "chown32", "close", "close_range",
	"copy_file_range", "creat", "dup", "dup2", "dup3", "faccessat", "faccessat2", "fadvise64",
	"fadvise64_64", "fallocate", "fchdir", "fchmod", "fchmodat", "fchmodat2", "fchown",
	"fchown32", "fchownat", "fcntl", "fcntl64", "fdatasync", "flock", "fstat", "fstat64",
	"fstatat64", "fstatfs", "fstatfs64", "fsync", "ftruncate", "ftruncate64", "futimesat",
	"getcwd", "getdents", "getdents64", "ioctl", "lchown", "lchown32", "link", "linkat",
	"listmount", "lseek", "lstat", "lstat64", "mkdir", "mkdirat", "mknod", "mknodat",
	"name_to_handle_at", "newfstatat", "open", "openat", "openat2", "pipe", "pipe2", "pread64",
	"preadv", "preadv2", "pwrite64", "pwritev", "pwritev2", "read", "readahead", "readlink",
	"readlinkat", "readv", "rename", "renameat", "renameat2", "rmdir", "splice", "stat",
	"stat64", "statfs", "statfs64", "statmount", "statx", "symlink", "symlinkat", "sync",
	"sync_file_range", "syncfs", "tee", "truncate", "truncate64", "umask", "unlink",
	"unlinkat", "utime", "utimensat", "utimensat_time64", "utimes", "vmsplice", "write",
	"writev", NULL,
};

/* Extended attributes. */
static char *const xattrs[] = {
	"fgetxattr", "flistxattr", "fremovexattr", "fsetxattr", "getxattr", "getxattrat",
	"lgetxattr", "listxattr", "listxattrat", "llistxattr", "lremovexattr", "lsetxattr",
	"removexattr", "removexattrat", "setxattr", "setxattrat", NULL,
};

/* Waiting for files and events. */
static char *const watching[] = {
	"_newselect", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_pwait",
	"epoll_pwait2", "epoll_wait", "epoll_wait_old", "eventfd", "eventfd2", "fanotify_mark",
	"inotify_add_watch", "inotify_init", "inotify_init1", "inotify_rm_watch", "io_cancel",
	"io_destroy", "io_getevents", "io_pgetevents", "io_pgetevents_time64", "io_setup",
	"io_submit", "poll", "ppoll", "ppoll_time64", "pselect6", "pselect6_time64", "select",
	"signalfd", "signalfd4", "timerfd_create", "timerfd_gettime", "timerfd_gettime64",
	"timerfd_settime", "timerfd_settime64", NULL,
};

/* Memory. */
static char *const memory[] = {
	"brk", "cachestat", "madvise", "map_shadow_stack", "membarrier", "memfd_create",
	"memfd_secret", "mincore", "mlock", "mlock2", "mlockall", "mmap", "mmap2", "mprotect",
	"mremap", "mseal", "msync", "munlock", "munlockall", "munmap", "pkey_alloc", "pkey_free",
	"pkey_mprotect", "process_mrelease", "remap_file_pages", "uretprobe", NULL,
};

/* Processes, threads and signals. */
static char *const processes[] = {
	"execve", "execveat", "exit", "exit_group", "fork", "futex", "futex_requeue",
	"futex_time64", "futex_wait", "futex_waitv", "futex_wake", "get_robust_list",
	"get_thread_area", "getcpu", "getpgrp", "getpid", "getppid", "getpriority", "getrlimit",
	"getrusage", "getsid", "gettid", "ioprio_get", "ioprio_set", "kill", "landlock_add_rule",
	"landlock_create_ruleset", "landlock_restrict_self", "lsm_get_self_attr",
	"lsm_list_modules", "lsm_set_self_attr", "pause", "pidfd_open", "pidfd_send_signal",
	"prctl", "prlimit64", "restart_syscall", "rseq", "rt_sigaction", "rt_sigpending",
	"rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait",
	"rt_sigtimedwait_time64", "rt_tgsigqueueinfo", "sched_get_priority_max",
	"sched_get_priority_min", "sched_getaffinity", "sched_getattr", "sched_getparam",
	"sched_getscheduler", "sched_rr_get_interval", "sched_rr_get_interval_time64",
	"sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler",
	"sched_yield", "seccomp", "set_robust_list", "set_thread_area", "set_tid_address",
	"setpriority", "setrlimit", "setsid", "sigaltstack", "sigprocmask", "sigreturn", "tgkill",
	"tkill", "ugetrlimit", "vfork", "wait4", "waitid", "waitpid", NULL,
};

/* Who one is. */
static char *const identities[] = {
	"capget", "capset", "getegid", "getegid32", "geteuid", "geteuid32", "getgid", "getgid32",
	"getgroups", "getgroups32", "getpgid", "getresgid", "getresgid32", "getresuid",
	"getresuid32", "getuid", "getuid32", "setfsgid", "setfsgid32", "setfsuid", "setfsuid32",
	"setgid", "setgid32", "setgroups", "setgroups32", "setpgid", "setregid", "setregid32",
	"setresgid", "setresgid32", "setresuid", "setresuid32", "setreuid", "setreuid32", "setuid",
	"setuid32", NULL,
};

/* Network; socket(2) itself has rules of its own below. */
static char *const network[] = {
	"accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt",
	"listen", "recv", "recvfrom", "recvmmsg", "recvmmsg_time64", "recvmsg", "send", "sendfile",
	"sendfile64", "sendmmsg", "sendmsg", "sendto", "setsockopt", "shutdown", "socketcall",
	"socketpair", NULL,
};

/* System V and POSIX IPC. */
static char *const ipc[] = {
	"ipc", "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive",
	"mq_timedreceive_time64", "mq_timedsend", "mq_timedsend_time64", "mq_unlink", "msgctl",
	"msgget", "msgrcv", "msgsnd", "semctl", "semget", "semop", "semtimedop",
	"semtimedop_time64", "shmat", "shmctl", "shmdt", "shmget", NULL,
};

/* Time and clocks. */
static char *const clocks[] = {
	"adjtimex", "alarm", "clock_adjtime", "clock_adjtime64", "clock_getres",
	"clock_getres_time64", "clock_gettime", "clock_gettime64", "clock_nanosleep",
	"clock_nanosleep_time64", "getitimer", "gettimeofday", "nanosleep", "setitimer", "time",
	"timer_create", "timer_delete", "timer_getoverrun", "timer_gettime", "timer_gettime64",
	"timer_settime", "timer_settime64", "times", NULL,
};

static char *const the_rest[] = {
	"getrandom", "sysinfo", "uname", NULL,
};
#define NAMES(...) ((char *[]){ __VA_ARGS__, NULL })
#define ALLOW .action = (char *)"SCMP_ACT_ALLOW"
#define ARG0(compare, what) .args = { (struct oci_syscall_arg[]){                    \
	{ .index = 0, .value = (what), .op = (char *)"SCMP_CMP_" #compare } }, 1 }
#define IF_CAP(cap) .includes = &(struct seccomp_condition){ .caps = NAMES("CAP_" #cap) }
#define UNLESS_CAP(cap) .excludes = &(struct seccomp_condition){ .caps = NAMES("CAP_" #cap) }
#define IF_ARCH(...) .includes = &(struct seccomp_condition){ .arches = NAMES(__VA_ARGS__) }

/* clone(2)'s flags that make a namespace; time namespaces come by unshare(2) and clone3(2) only. */
#define CLONE_NAMESPACES                                                              \
	(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | \
	 CLONE_NEWCGROUP)

static const struct seccomp_rule rules[] = {
	{ .names = (char **)files_and_folders, ALLOW },
	{ .names = (char **)xattrs, ALLOW },
	{ .names = (char **)watching, ALLOW },
	{ .names = (char **)memory, ALLOW },
	{ .names = (char **)processes, ALLOW },
	{ .names = (char **)identities, ALLOW },
	{ .names = (char **)network, ALLOW },
	{ .names = (char **)ipc, ALLOW },
	{ .names = (char **)clocks, ALLOW },
	{ .names = (char **)the_rest, ALLOW },

	/* All families but AF_ALG and AF_VSOCK, as three ranges: two "not equal" in one rule would be
	 * read as either-or by runtimes that split rules with a repeated argument. */
	{ .names = NAMES("socket"), ALLOW, ARG0(LT, AF_ALG) },
	{ .names = NAMES("socket"), ALLOW, ARG0(EQ, AF_ALG + 1) },
	{ .names = NAMES("socket"), ALLOW, ARG0(GT, AF_VSOCK) },

	{ .names = NAMES("personality"), ALLOW, ARG0(EQ, PER_LINUX) },
	{ .names = NAMES("personality"), ALLOW, ARG0(EQ, PER_LINUX32) },
	{ .names = NAMES("personality"), ALLOW, ARG0(EQ, UNAME26) },
	{ .names = NAMES("personality"), ALLOW, ARG0(EQ, UNAME26 | PER_LINUX32) },
	{ .names = NAMES("personality"), ALLOW, ARG0(EQ, 0xffffffff) /* only asks */ },

	/* Since 4.8 ptrace cannot be used to slip past a filter. */
	{ .names = NAMES("process_vm_readv", "process_vm_writev", "ptrace"), ALLOW,
	  .includes = &(struct seccomp_condition){ .min_kernel = (char *)"4.8" } },

	{ .names = NAMES("arch_prctl", "modify_ldt"), ALLOW, IF_ARCH("amd64") },
	{ .names = NAMES("modify_ldt"), ALLOW, IF_ARCH("386") },
	{ .names = NAMES("arm_fadvise64_64", "arm_sync_file_range", "sync_file_range2", "breakpoint",
			 "cacheflush", "set_tls"), ALLOW, IF_ARCH("arm", "arm64") },
	{ .names = NAMES("sync_file_range2", "swapcontext"), ALLOW, IF_ARCH("ppc64le") },
	{ .names = NAMES("s390_pci_mmio_read", "s390_pci_mmio_write", "s390_runtime_instr"), ALLOW,
	  IF_ARCH("s390x") },
	{ .names = NAMES("riscv_flush_icache", "riscv_hwprobe"), ALLOW, IF_ARCH("riscv64") },

	{ .names = NAMES("open_by_handle_at"), ALLOW, IF_CAP(DAC_READ_SEARCH) },
	{ .names = NAMES("bpf", "clone", "clone3", "fanotify_init", "fsconfig", "fsmount", "fsopen",
			 "fspick", "lookup_dcookie", "mount", "mount_setattr", "move_mount", "open_tree",
			 "perf_event_open", "quotactl", "quotactl_fd", "setdomainname", "sethostname",
			 "setns", "syslog", "umount", "umount2", "unshare"), ALLOW, IF_CAP(SYS_ADMIN) },
	{ .names = NAMES("reboot"), ALLOW, IF_CAP(SYS_BOOT) },
	{ .names = NAMES("chroot"), ALLOW, IF_CAP(SYS_CHROOT) },
	{ .names = NAMES("delete_module", "init_module", "finit_module"), ALLOW, IF_CAP(SYS_MODULE) },
	{ .names = NAMES("acct"), ALLOW, IF_CAP(SYS_PACCT) },
	{ .names = NAMES("kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev",
			 "ptrace"), ALLOW, IF_CAP(SYS_PTRACE) },
	{ .names = NAMES("iopl", "ioperm"), ALLOW, IF_CAP(SYS_RAWIO) },
	{ .names = NAMES("settimeofday", "stime", "clock_settime", "clock_settime64"), ALLOW,
	  IF_CAP(SYS_TIME) },
	{ .names = NAMES("vhangup"), ALLOW, IF_CAP(SYS_TTY_CONFIG) },
	{ .names = NAMES("get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"), ALLOW,
	  IF_CAP(SYS_NICE) },
	{ .names = NAMES("syslog"), ALLOW, IF_CAP(SYSLOG) },
	{ .names = NAMES("bpf"), ALLOW, IF_CAP(BPF) },
	{ .names = NAMES("perf_event_open"), ALLOW, IF_CAP(PERFMON) },

	/* Without CAP_SYS_ADMIN clone makes no namespaces. Its flags are the second argument on s390. */
	{ .names = NAMES("clone"), ALLOW,
	  .args = { (struct oci_syscall_arg[]){ { .index = 0, .value = CLONE_NAMESPACES, .value_two = 0,
						  .op = (char *)"SCMP_CMP_MASKED_EQ" } }, 1 },
	  .excludes = &(struct seccomp_condition){ .caps = NAMES("CAP_SYS_ADMIN"), .arches = NAMES("s390x") } },
	{ .names = NAMES("clone"), ALLOW,
	  .args = { (struct oci_syscall_arg[]){ { .index = 1, .value = CLONE_NAMESPACES, .value_two = 0,
						  .op = (char *)"SCMP_CMP_MASKED_EQ" } }, 1 },
	  IF_ARCH("s390x"), UNLESS_CAP(SYS_ADMIN) },
	/* clone3's flags lie in memory where no filter can look. ENOSYS, not EPERM: the C library then
	 * falls back to clone. */
	{ .names = NAMES("clone3"), .action = (char *)"SCMP_ACT_ERRNO", .errno_ret = &(uint32_t){ ENOSYS },
	  UNLESS_CAP(SYS_ADMIN) },
};

const struct seccomp_profile seccomp_default_profile = {
	.default_action = (char *)"SCMP_ACT_ERRNO",
	.rules = { (void *)rules, ARRAY_SIZE(rules) },
};
