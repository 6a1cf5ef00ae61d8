/* A file of the Container Device Interface (CDI 0.3.0 to 1.1.0, github.com/cncf-tags/container-device-interface
 * SPEC.md): devices by name, and what each wants changed in a container's configuration.
 *
 * As the specification demands, an unknown field is an error, and so is a field that is younger than the version the file
 * names. Everything lives in the arena. Pure. */
#ifndef KNARR_SPEC_CDI_H
#define KNARR_SPEC_CDI_H

#include "spec/oci_config.h"

struct cdi_device_node {
	char *path, *host_path;         /* host_path NULL: path */
	char *type;                     /* b c u p; NULL: the host's */
	int64_t major, minor;           /* 0: the host's */
	uint32_t *file_mode, *uid, *gid;
	char *permissions;              /* of r w m; NULL: rwm; "none" */
};

struct cdi_mount {
	char *host_path, *container_path, *type;
	char **options;
};

struct cdi_hook {
	char *name, *path;              /* name: prestart createRuntime createContainer startContainer poststart poststop */
	char **args, **env;
	int64_t *timeout;               /* seconds */
};

struct cdi_net_device {
	char *host_name, *name;
};

struct cdi_edits {
	char **env;
	struct json_vec device_nodes;   /* struct cdi_device_node */
	struct json_vec net_devices;    /* struct cdi_net_device */
	struct json_vec mounts;         /* struct cdi_mount */
	struct json_vec hooks;          /* struct cdi_hook */
	struct json_vec additional_gids; /* uint32_t; 0 counts for nothing */
	struct oci_intel_rdt *intel_rdt;
};

struct cdi_device {
	char *name;
	const struct json *annotations;
	struct cdi_edits edits;
};

struct cdi_spec {
	char *version, *kind;           /* "vendor.com/class" */
	const struct json *annotations;
	struct json_vec devices;        /* struct cdi_device */
	struct cdi_edits edits;         /* for all of them */
};

enum { CDI_SPEC_MAX = 4 << 20 };        /* bytes of a file that we read */

/* ERR_INVALID names the line and the field. */
int cdi_spec_read(struct arena *a, const struct json *doc, struct cdi_spec *out, struct err *e);

/* "vendor.com/class=name" is taken apart. ERR_INVALID. */
struct cdi_name {
	struct str kind, device;
};
int cdi_name_parse(const char *text, struct cdi_name *out, struct err *e);

#endif
