/* What `checkpoint` and `restore` share: runc's options that CRIU is told of. */
#ifndef KNARR_RUNTIME_OCI_CRIU_H
#define KNARR_RUNTIME_OCI_CRIU_H

#include "runtime/criu.h"
#include "runtime/oci.h"

struct oci_criu {
	const char *image_path, *work_path, *parent_path, *page_server, *cgroups_mode;
	char **empty_ns;
	int images_fd, work_fd;
	const char *program;
	struct criu_opts opts;          /* flags stand here as soon as the options are parsed */
};
#define OCI_CRIU_INIT { .images_fd = -1, .work_fd = -1, .opts = { .log_level = 4, .notify_scripts = true, \
			.manage_cgroups = true, .cgroups_given = true, .orphan_pts_master = true, .work_dir_fd = -1 } }

/* After the options: finds criu, opens (or makes) the folders, checks words. */
int oci_criu_begin(struct oci_app *app, const struct oci_config *config, struct oci_criu *x, struct err *e);
void oci_criu_end(struct oci_criu *x);
/* A job with the request's log and options. */
void oci_criu_job(const struct oci_criu *x, int type, const char *log, struct criu_job *job);

#endif
