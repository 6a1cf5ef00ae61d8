/* All that a monitoring system counts of pods and containers, as cAdvisor does: the kernel's counters, read when asked,
 * under names that src/cri gives (docs/inside/metrics.md). The functions read cgroup files, /proc and the file system's
 * tables; they do not block on anything of a container. What vanishes meanwhile is left out. */
#ifndef KNARR_POD_METRICS_H
#define KNARR_POD_METRICS_H

#include "pod/pod.h"

/* Which values are there. */
enum {
	METRICS_ALIVE = BIT(0),      /* last_seen, start */
	METRICS_CPU = BIT(1),
	METRICS_THROTTLING = BIT(2), /* and bursts */
	METRICS_MEMORY = BIT(3),
	METRICS_PIDS = BIT(4),
	METRICS_PRESSURE = BIT(5),
	METRICS_PROCESSES = BIT(6),  /* processes, fds, sockets */
	METRICS_FILE_LIMIT = BIT(7),
	METRICS_FS = BIT(8),         /* with fs_device */
	METRICS_SPEC = BIT(9),
	METRICS_QUOTA = BIT(10),
};

/* Plain numbers, so that a table reaches them. */
struct metrics_values {
	uint64_t last_seen_ns, start_ns;
	uint64_t cpu_ns, cpu_user_ns, cpu_system_ns;
	uint64_t periods, throttled_periods, throttled_ns, burst_periods, burst_ns;
	uint64_t memory, memory_max, working_set, rss, cache, mapped_file, swap, kernel, active_file, inactive_file;
	uint64_t failures, oom_kills;
	uint64_t page_faults, major_page_faults, own_page_faults, own_major_page_faults;
	uint64_t threads, threads_max; /* threads_max 0: no limit */
	uint64_t cpu_waiting_us, cpu_stalled_us, memory_waiting_us, memory_stalled_us, io_waiting_us, io_stalled_us;
	uint64_t processes, fds, sockets;
	uint64_t file_limit;           /* RLIMIT_NOFILE of its first process */
	uint64_t fs_limit, fs_usage, fs_inodes, fs_inodes_free;
	uint64_t cpu_period_us, cpu_quota_us, cpu_shares;
	uint64_t memory_limit, memory_reservation, swap_limit; /* as wished; 0: none */
};

struct metrics_disk {
	const char *name;              /* "/dev/sda" */
	unsigned major, minor;
	uint64_t read_bytes, write_bytes, reads, writes;
};
struct metrics_hugepages {
	const char *page_size;         /* "2MB" */
	uint64_t usage, max_usage;
	bool has_max;
};

struct container_metrics {
	struct container_view view;
	const char *cgroup;            /* "/kubepods/…/ID" */
	unsigned has;
	struct metrics_values values;
	const char *fs_device;
	struct metrics_disk *disks;
	struct metrics_hugepages *hugepages;
	size_t ndisks, nhugepages;
};
struct pod_metrics {
	struct pod_view view;
	const char *cgroup;            /* the pod's own, "" where it names none */
	unsigned has;                  /* of the pod's cgroup: CPU, THROTTLING, MEMORY, PRESSURE */
	struct metrics_values values;
	struct pod_network_usage *interfaces; /* without lo; none in the host's network */
	size_t ninterfaces;
	struct container_metrics *containers; /* the running ones */
	size_t ncontainers;
};
struct pod_metrics_list {
	struct pod_metrics *v;
	size_t n;
};
void pod_metrics_release(struct pod_metrics_list *l);
#define auto_pod_metrics AUTO(pod_metrics_release) struct pod_metrics_list

/* Of the ready pods. What the pointers mean lives while the list is held; the rest is the arena's. */
int pod_metrics_list(struct pods *ps, struct arena *a, enum pod_owner owner, struct pod_metrics_list *out,
		     struct err *e);

#endif
