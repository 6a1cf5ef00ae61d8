/* Intel RDT and AMD QoS by the kernel's resctrl file system (config-linux.md, "Intel RDT"): a folder a class of
 * service with its schemata, and below it mon_groups/ID for a container's own counters. A container's processes
 * are born into its group: the first one writes itself into `tasks` before it does anything else.
 *
 * Where resctrl is not mounted, a document that wants it is ERR_UNIMPLEMENTED: nothing is left out silently. */
#ifndef KNARR_RUNTIME_RDT_H
#define KNARR_RUNTIME_RDT_H

#include "base/arena.h"
#include "base/err.h"
#include "spec/oci_config.h"

/* What was made, for the record: names below the mount, NULL: nothing to remove. */
struct rdt {
	char *group;            /* "" is the root's own class */
	char *monitor;          /* "mon_groups/ID" below it */
	bool made_group;        /* and it is the container's alone: closID names none */
	int tasks_fd;           /* of the monitor group, else of the group; -1 */
};
#define RDT_INIT { .tasks_fd = -1 }

/* The folder where resctrl is mounted; the caller's fd. */
int rdt_open(int *out, struct err *e);
/* Makes and fills the groups below the mount. A named class that exists already must not be given another schema
 * by l3CacheSchema or memBwSchema: ERR_STATE. On failure what it made is gone. */
int rdt_create(struct arena *a, int mount_fd, const char *id, const struct oci_intel_rdt *wish, struct rdt *out,
	       struct err *e);
/* The same names, for a process that joins: opens tasks_fd. */
int rdt_join(struct arena *a, int mount_fd, const char *id, const struct oci_intel_rdt *wish, struct rdt *out,
	     struct err *e);
/* Absent is fine. */
int rdt_remove(int mount_fd, const struct rdt *r, struct err *e);
/* The lines of one or both schemas, for `update`; NULL: leave. */
int rdt_write_schema(int mount_fd, const char *group, const char *l3, const char *bandwidth, struct err *e);

#endif
