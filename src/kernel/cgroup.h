/* Control groups, whatever the layout: v1 (a hierarchy per controller), hybrid (v1 with the unified
 * hierarchy mounted beside it) and v2. A cgroup is named by one path below the mounts, "a/b/ID",
 * the same in every hierarchy; no leading slash, no "..".
 *
 * A struct cgroup_layout is read once and then only read: any number of threads may share it. Files
 * are opened from the hierarchies' own fds, so a process in another mount namespace (knarr-pod, a
 * child on its way into a container) can still use it. What values mean (the OCI resources) is
 * runtime/resources.h's business; here are files, members, counters. Errors name the cgroup and the
 * file. ERR_NOT_FOUND: there is no such cgroup (or no such controller). */
#ifndef KNARR_KERNEL_CGROUP_H
#define KNARR_KERNEL_CGROUP_H

#include "base/arena.h"
#include "base/err.h"

#include <sys/types.h>

enum cgroup_mode { CGROUP_V1, CGROUP_HYBRID, CGROUP_V2 };

#define CGROUP_CONTROLLERS(X)                                                                     \
	X(CPU, "cpu") X(CPUACCT, "cpuacct") X(CPUSET, "cpuset") X(MEMORY, "memory")               \
	X(DEVICES, "devices") X(FREEZER, "freezer") X(BLKIO, "blkio") X(PIDS, "pids")             \
	X(HUGETLB, "hugetlb") X(NET_CLS, "net_cls") X(NET_PRIO, "net_prio")                       \
	X(PERF_EVENT, "perf_event") X(RDMA, "rdma") X(MISC, "misc")                               \
	X(SYSTEMD, "name=systemd") X(UNIFIED, "unified")

enum cgroup_controller {
#define X(name, text) CGROUP_##name,
	CGROUP_CONTROLLERS(X)
#undef X
	CGROUP_CONTROLLER_COUNT
};

enum { CGROUP_HIERARCHY_MAX = 20, CGROUP_PATH_MAX = 4000 };

struct cgroup_hierarchy {
	char name[64];          /* as mounted: "cpu", "cpu,cpuacct", "systemd"; v2: "" */
	unsigned controllers;   /* BIT(enum cgroup_controller) */
	int root_fd;            /* its mount's folder */
};

struct cgroup_layout {
	enum cgroup_mode mode;
	char mount[64];         /* "/sys/fs/cgroup" */
	struct cgroup_hierarchy h[CGROUP_HIERARCHY_MAX];
	size_t nh;
	/* Which hierarchy has a controller, -1: none. [CGROUP_UNIFIED]: the v2 hierarchy. On v2 a
	 * v1-only controller (cpuacct, devices, freezer…) is the unified hierarchy too: the same
	 * duty lives in other files there. */
	int8_t of[CGROUP_CONTROLLER_COUNT];
	unsigned v2_controllers; /* those that the v2 root offers */
};

/* Reads /proc/self/mountinfo. ERR_NOT_FOUND: no cgroup file system is mounted. */
int cgroup_layout_open(struct cgroup_layout *out, struct err *e);
void cgroup_layout_close(struct cgroup_layout *l);
const char *cgroup_controller_name(enum cgroup_controller c);

/* ERR_INVALID unless it is a usable path; out gets it without slashes at the ends. */
int cgroup_path_clean(struct arena *a, const char *path, const char **out, struct err *e);

/* --- folders ----------------------------------------------------------------------------------- */

/* mkdir -p in every hierarchy. On v1 an empty cpuset takes its parent's cpus and mems; on v2 each
 * ancestor hands down every controller that it has (where it must not, because processes sit in it,
 * the controller is simply missing below). Existing ones stay as they are; on failure what this
 * call made is removed. */
int cgroup_create(const struct cgroup_layout *l, const char *path, struct err *e);
/* In the one hierarchy that holds an exec's processes together (unified where there is one, else
 * freezer, else the first): without controllers of its own. */
int cgroup_create_exec(const struct cgroup_layout *l, const char *path, struct err *e);
size_t cgroup_exec_hierarchy(const struct cgroup_layout *l);
/* Removes it and all below it, in every hierarchy. Members that are just dying are waited for, at
 * most wait_ms; ERR_STATE: it still has members. Absent is fine. */
int cgroup_remove(const struct cgroup_layout *l, const char *path, int wait_ms, struct err *e);
bool cgroup_exists(const struct cgroup_layout *l, const char *path);
/* The folder in the v2 hierarchy for CLONE_INTO_CGROUP; the caller's. ERR_NOT_FOUND: no v2 here. */
int cgroup_open_unified(const struct cgroup_layout *l, const char *path, int *out, struct err *e);

/* One file of a cgroup. The value is written in one write(2); a value read is cut at the room's end,
 * NUL after it, the trailing newline gone. */
struct cgroup_text {
	char p[8192];
	size_t len;
};
int cgroup_write(const struct cgroup_layout *l, enum cgroup_controller c, const char *path,
		 const char *file, const char *text, struct err *e);
int cgroup_read(const struct cgroup_layout *l, enum cgroup_controller c, const char *path,
		const char *file, struct cgroup_text *out, struct err *e);

/* --- members ----------------------------------------------------------------------------------- */

/* The calling process (single-threaded) joins: "0" into each v1 `tasks`, which costs no RCU grace
 * period as cgroup.procs does, and into cgroup.procs on v2. Only system calls and the stack: for
 * the child of a CLONE_VM|CLONE_VFORK clone. CGROUP_SKIP_UNIFIED: it was cloned into that one.
 * exec_path: for the exec hierarchy alone, NULL: the same path. */
enum { CGROUP_SKIP_UNIFIED = BIT(0) };
int cgroup_join_self(const struct cgroup_layout *l, const char *path, const char *exec_path, int flags,
		     struct err *e);
/* The same, in the hierarchies of these indexes alone. */
int cgroup_join_self_in(const struct cgroup_layout *l, const char *path, unsigned hierarchies, struct err *e);
/* Another process, whole (cgroup.procs); for tests and for monitors. */
int cgroup_join_pid(const struct cgroup_layout *l, const char *path, pid_t pid, struct err *e);
/* In the exec hierarchy alone. */
int cgroup_join_pid_exec(const struct cgroup_layout *l, const char *path, pid_t pid, struct err *e);
/* v1 with the unified hierarchy beside it, which is the exec hierarchy then and which other runtimes do not use. */
bool cgroup_is_hybrid(const struct cgroup_layout *l);

/* All processes in it and below, in the arena; in the exec hierarchy (all are in every one). */
int cgroup_pids(struct arena *a, const struct cgroup_layout *l, const char *path, pid_t **out, size_t *n,
		struct err *e);
bool cgroup_is_populated(const struct cgroup_layout *l, const char *path);
/* Sends a signal to each process, again until no new one appears. */
int cgroup_signal(const struct cgroup_layout *l, const char *path, int sig, struct err *e);
/* SIGKILL for all of them, so that none escapes by forking: cgroup.kill, else frozen and killed.
 * Does not wait for their end; absent or empty is fine. */
int cgroup_kill(const struct cgroup_layout *l, const char *path, struct err *e);

/* Stops and continues all tasks; waits until the kernel says so (at most 2 s; then thawed again and
 * ERR_TIMEOUT). */
int cgroup_freeze(const struct cgroup_layout *l, const char *path, struct err *e);
int cgroup_thaw(const struct cgroup_layout *l, const char *path, struct err *e);
bool cgroup_is_frozen(const struct cgroup_layout *l, const char *path);

/* --- counters ---------------------------------------------------------------------------------- */

struct cgroup_pressure {                /* PSI: v2, and v1 where the unified hierarchy is there too */
	double some_avg10, some_avg60, some_avg300, full_avg10, full_avg60, full_avg300;
	uint64_t some_total_us, full_total_us;
};

enum { CGROUP_HAS_CPU = BIT(0), CGROUP_HAS_MEMORY = BIT(1), CGROUP_HAS_PIDS = BIT(2),
       CGROUP_HAS_IO = BIT(3), CGROUP_HAS_PRESSURE = BIT(4), CGROUP_HAS_THROTTLING = BIT(5) };

enum { CGROUP_IO_DEVICES_MAX = 16 };

struct cgroup_stats {
	unsigned has;
	struct {
		uint64_t usage_ns, user_ns, system_ns;
		uint64_t periods, throttled_periods, throttled_ns, burst_periods, burst_ns;
	} cpu;
	struct {
		uint64_t usage, max_usage;      /* max_usage 0: the kernel has none */
		uint64_t limit;                 /* UINT64_MAX: none */
		uint64_t working_set;           /* usage without inactive files, as kubelet counts */
		uint64_t rss, cache, mapped_file, swap, swap_limit;
		uint64_t active_file, inactive_file, kernel;
		uint64_t page_faults, major_page_faults;
		uint64_t own_page_faults, own_major_page_faults; /* v1: without the groups below; v2: the same */
		uint64_t failures;              /* times the limit was met */
		uint64_t oom_kills;
	} memory;
	struct {
		uint64_t current, limit;        /* UINT64_MAX: none */
	} pids;
	struct {
		uint64_t read_bytes, write_bytes, reads, writes;
		struct cgroup_io_device {
			unsigned major, minor;
			uint64_t read_bytes, write_bytes, reads, writes;
		} devices[CGROUP_IO_DEVICES_MAX]; /* more than these are in the sums only */
		size_t ndevices;
	} io;
	struct cgroup_pressure cpu_pressure, memory_pressure, io_pressure;
};

/* What the present controllers tell; `has` says which parts are filled. ERR_NOT_FOUND: it is gone. Each part costs its
 * files: cgroup_stats_of() reads only what `want` names, and memory's limits with CGROUP_WANT_LIMITS only. */
enum { CGROUP_WANT_LIMITS = BIT(31) };
int cgroup_stats_of(const struct cgroup_layout *l, const char *path, unsigned want, struct cgroup_stats *out,
		    struct err *e);
int cgroup_stats(const struct cgroup_layout *l, const char *path, struct cgroup_stats *out, struct err *e);
/* Pages of one size, "2MB" or "1GB". The kernel has no maximum on v2 (has_max). ERR_NOT_FOUND: no such controller, size
 * or group. */
struct cgroup_hugepages {
	uint64_t usage, max_usage;
	bool has_max;
};
int cgroup_hugepages(const struct cgroup_layout *l, const char *path, const char *size, struct cgroup_hugepages *out,
		     struct err *e);
/* How many processes the kernel's OOM killer took in it and below. */
int cgroup_oom_kills(const struct cgroup_layout *l, const char *path, uint64_t *out, struct err *e);

/* --- devices ----------------------------------------------------------------------------------- */

enum { CGROUP_DEVICE_READ = BIT(0), CGROUP_DEVICE_WRITE = BIT(1), CGROUP_DEVICE_MKNOD = BIT(2),
       CGROUP_DEVICE_ALL = 7 };
struct cgroup_device_rule {
	bool allow;
	char type;              /* 'a', 'b', 'c' */
	int64_t major, minor;   /* -1: all */
	unsigned access;
};

/* The rules in their order; the last that matches decides, and where none does, all is denied. v1:
 * devices.deny and devices.allow. v2: a BPF program, which replaces the one before it. */
int cgroup_set_devices(const struct cgroup_layout *l, const char *path, const struct cgroup_device_rule *rules,
		       size_t n, struct err *e);
/* The program for v2 alone, for tests: instructions of struct bpf_insn. */
enum { CGROUP_DEVICE_INSN_MAX = 4096 };
struct bpf_insn;
int cgroup_device_program(const struct cgroup_device_rule *rules, size_t n, struct bpf_insn *out, size_t *count,
			  struct err *e);

#endif
