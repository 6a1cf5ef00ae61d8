/* Seccomp profiles as people write them: the OCI form, and docker's with its conditions (archMap;
 * includes and excludes by capability, architecture and kernel). A profile is resolved for one
 * container to the plain OCI form. Pure; hostile text is refused with line, column and field. */
#ifndef KNARR_POD_SECCOMP_PROFILE_H
#define KNARR_POD_SECCOMP_PROFILE_H

#include "spec/oci_config.h"

struct seccomp_condition {
	char **caps;                 /* CAP_ names */
	char **arches;               /* as Go names them: "amd64", "arm64", "s390x"… */
	char *min_kernel;            /* "4.8" */
};

struct seccomp_rule {
	char *name;                  /* docker's old form: one name */
	char **names;
	char *action;                /* SCMP_ACT_… */
	uint32_t *errno_ret;
	struct json_vec args;        /* struct oci_syscall_arg */
	struct seccomp_condition *includes, *excludes; /* all of includes must hold, nothing of excludes */
};

struct seccomp_arch {
	char *architecture;          /* SCMP_ARCH_… */
	char **sub_architectures;
};

struct seccomp_profile {
	char *default_action;
	uint32_t *default_errno_ret;
	char **architectures;
	struct json_vec arch_map;    /* struct seccomp_arch; used where it names this machine's */
	char **flags;
	char *listener_path, *listener_metadata;
	struct json_vec rules;       /* struct seccomp_rule */
};

enum { SECCOMP_PROFILE_MAX = 1 << 20 };

/* ERR_INVALID names line, column and field. */
int seccomp_profile_parse(struct arena *a, struct str text, struct seccomp_profile *out, struct err *e);

/* For whom a profile is resolved. */
struct seccomp_target {
	char *const *caps;           /* the container's bounding set */
	const char *arch;            /* as Go names it; NULL: this machine's */
	unsigned kernel_major, kernel_minor;
};
int seccomp_profile_resolve(struct arena *a, const struct seccomp_profile *p, const struct seccomp_target *t,
			    struct oci_seccomp *out, struct err *e);

/* RuntimeDefault: an allow list with the meaning of docker's and containerd's; what is not named fails
 * with EPERM. */
extern const struct seccomp_profile seccomp_default_profile;

#endif
