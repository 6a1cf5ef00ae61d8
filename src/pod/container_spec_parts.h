/* The parts that container_spec_build() is made of; for src/pod/container_*.c only. */
#ifndef KNARR_POD_CONTAINER_SPEC_PARTS_H
#define KNARR_POD_CONTAINER_SPEC_PARTS_H

#include "pod/container_spec.h"

/* "CAP_CHOWN" … in the order of the kernel's numbers. */
enum { CAPABILITY_COUNT = 41 };
extern char *const capability_names[CAPABILITY_COUNT + 1];

static inline bool config_is_privileged(const struct container_spec_input *in)
{
	return in->config->privileged;
}

/* Whom the process begins as (container_user.c). */
int spec_user(struct arena *a, const struct container_spec_input *in, struct oci_user *out, const char **home,
	      struct err *e);
/* The sets of a container that adds and drops (container_caps.c). */
int spec_capabilities(struct arena *a, const struct container_spec_input *in, struct oci_capabilities **out,
		      struct err *e);
/* Mounts, propagation of the root (container_mounts.c). */
int spec_mounts(struct arena *a, const struct container_spec_input *in, struct oci_config *c, size_t **mount_at,
		struct err *e);
struct json_vec spec_idmaps(struct arena *a, struct json_vec maps); /* struct config_id_map become struct oci_idmap */
/* Devices and their rules, cgroup limits (container_resources.c). */
int spec_devices_and_limits(struct arena *a, const struct container_spec_input *in, struct oci_linux *l,
			    struct err *e);
/* CDI devices, but for their mounts; last, since it edits (container_cdi.c). */
void spec_cdi(struct arena *a, const struct container_spec_input *in, struct oci_config *c);
/* seccomp, AppArmor, SELinux, masked and read-only paths (container_security.c); wants the
 * capabilities to be there. */
int spec_security(struct arena *a, const struct container_spec_input *in, struct oci_config *c, struct err *e);

#endif
