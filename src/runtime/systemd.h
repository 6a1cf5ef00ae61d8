/* The systemd cgroup driver: cgroups are units of systemd's, scopes in slices, made and told over D-Bus; what systemd
 * has no property for is written into the cgroup's own files, which it has delegated to us.
 *
 * Each function opens a connection of its own, asks, waits for systemd's job, and closes it, so threads may use them
 * freely. Block as the call lets them, at most SYSTEMD_WAIT_S. Errors name the unit, the method and the D-Bus
 * error. ERR_UNAVAILABLE: no systemd answers. systemd 245 or newer.
 *
 * A scope lives as long as a process is in it, and cannot be made without one. The container's comes later: until
 * then another one, the holder, keeps its place (docs/inside/systemd.md). */
#ifndef KNARR_RUNTIME_SYSTEMD_H
#define KNARR_RUNTIME_SYSTEMD_H

#include "base/call.h"
#include "kernel/cgroup.h"
#include "runtime/resources.h"
#include "spec/oci_config.h"
#include "wire/dbus.h"

enum { SYSTEMD_WAIT_S = 30, SYSTEMD_PROPERTIES_MAX = 128 };

struct systemd_unit {
	const char *name;       /* "knarr-oci-ID.scope" */
	const char *slice;      /* "user-1000.slice" */
	const char *cgroup;     /* "user.slice/user-1000.slice/knarr-oci-ID.scope", below the cgroup mounts */
	bool user;              /* of the user's own systemd */
};

/* SYSTEMD_USER: the user's manager: the slice is user.slice by default; u->cgroup is below the manager's own
 * cgroup, which systemd_unit_locate() puts in front. */
enum { SYSTEMD_USER = BIT(0) };
/* Of linux.cgroupsPath: "slice:prefix:name", as runc reads it; NULL or "": PREFIX-ID.scope in the default slice.
 * ERR_INVALID: it has another form. Pure. */
int systemd_unit_parse(struct arena *a, const char *cgroups_path, const char *id, unsigned flags,
		       struct systemd_unit *out, struct err *e);
bool systemd_is_unit_path(const char *cgroups_path); /* has that form, and can be no cgroup's path */
/* "a-b.slice" lies in "a.slice/a-b.slice"; "-.slice" in "". ERR_INVALID: no slice's name. Pure. */
int systemd_slice_path(struct arena *a, const char *slice, const char **out, struct err *e);
int systemd_unit_locate(struct call *c, struct arena *a, struct systemd_unit *u, struct err *e);

struct systemd_property {
	const char *name;
	struct dbus_value value;
};
struct systemd_properties {
	struct systemd_property p[SYSTEMD_PROPERTIES_MAX];
	size_t n;
};
/* What of the resources (NULL: none) systemd has words for, on v1 or v2; appended, and that I/O is counted. The device
 * rules are those of resources_plan(); where systemd's lists cannot say the same they allow more, since ours hold as
 * well. Pure but for /proc/devices. */
int systemd_resources(struct arena *a, const struct cgroup_layout *l, const struct oci_resources *r,
		      struct systemd_properties *out, struct err *e);
/* Annotations org.systemd.property.NAME, in GVariant's text form; NAMESec becomes NAMEUSec. Pure. */
int systemd_annotations(struct arena *a, const struct json_map *annotations, struct systemd_properties *out,
			struct err *e);

/* Starts the scope with this process in it, delegated to us and accounted. A failed one of this name is forgotten
 * first. ERR_EXISTS: there is a living one. */
int systemd_scope_start(struct call *c, const struct systemd_unit *u, pid_t pid, const char *description,
			const struct systemd_properties *more, struct err *e);
int systemd_unit_set(struct call *c, const struct systemd_unit *u, const struct systemd_properties *p, struct err *e);
/* Stops and forgets it; none of this name is fine. */
int systemd_unit_stop(struct call *c, const struct systemd_unit *u, struct err *e);

/* For single-threaded programs: a child of ours that does nothing until it is killed. */
int systemd_holder_start(pid_t *pid, struct err *e);
void systemd_holder_end(pid_t *pid); /* *pid becomes 0; 0: nothing */

/* While a holder sits in the cgroup, a limit of the number of processes is one more: the resources are changed, and
 * changed back with the kernel's file when it has gone. NULL: nothing. */
void systemd_pids_make_room(const struct oci_resources *r);
int systemd_pids_settle(const struct cgroup_layout *l, const char *cgroup, const struct oci_resources *r, struct err *e);

/* resources_update() of a unit's cgroup: systemd is told first, so that it does not undo ours later. v1: while
 * systemd rewrites the device rules, nothing in it runs. */
int systemd_update(struct call *c, const struct cgroup_layout *l, const struct systemd_unit *u,
		   const struct oci_resources *r, struct err *e);

#endif
