/* What the OCI resources mean in the files of cgroup v1 and v2, and setting them.
 *
 * A plan is pure: a list of "this text into that file of that controller", in the order in which the
 * kernel takes them. It is applied whole or not at all: where a write fails, what was written before
 * gets its old value back. Threads may use it freely. */
#ifndef KNARR_RUNTIME_RESOURCES_H
#define KNARR_RUNTIME_RESOURCES_H

#include "kernel/cgroup.h"
#include "spec/oci_config.h"

struct resource_write {
	enum cgroup_controller controller;
	const char *file, *text;
	/* RESOURCE_OPTIONAL: a kernel without this file (or controller) is no error. */
	unsigned flags;
};
enum { RESOURCE_OPTIONAL = BIT(0) };

struct resource_plan {
	struct resource_write *writes;
	size_t count;
	struct cgroup_device_rule *devices; /* NULL: leave them */
	size_t ndevices;
};

/* v2: which file names to use for a controller. A wish that this layout cannot fulfil (kernel memory
 * on v2, unified on v1) is ERR_INVALID or ERR_UNIMPLEMENTED, named by its field. */
int resources_plan(struct arena *a, const struct cgroup_layout *l, const struct oci_resources *r,
		   struct resource_plan *out, struct err *e);

/* For a cgroup just made: in the plan's order, no reading before. */
int resources_set(const struct cgroup_layout *l, const char *cgroup, const struct resource_plan *p,
		  struct err *e);
/* For one in use: all or nothing. Memory limits are ordered so that limit and swap may cross; a
 * memory limit below what is used is ERR_STATE where check_before_update is wished. */
int resources_update(const struct cgroup_layout *l, const char *cgroup, const struct oci_resources *r,
		     struct err *e);

/* The kernel's own values, for ContainerStatus.resources: what a fresh struct holds of memory limit,
 * swap, cpu shares, quota, period, cpus, mems, pids limit, unified (v2). In the arena. */
int resources_read(struct arena *a, const struct cgroup_layout *l, const char *cgroup,
		   struct oci_resources *out, struct err *e);

/* cpu.weight of cpu.shares: 2…262144 to 1…10000, log-quadratic, 1024 shares are 100 (as runc and crun
 * since 2025); blkio weight 10…1000 to io.weight 1…10000. */
uint64_t resources_cpu_weight(uint64_t shares);
uint64_t resources_cpu_shares(uint64_t weight);
uint64_t resources_io_weight(uint64_t blkio_weight);

#endif
