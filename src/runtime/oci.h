/* knarr-oci's insides: the records of its containers and what its commands share. runc's command line,
 * its state folder by container, its texts on stdout. */
#ifndef KNARR_RUNTIME_OCI_H
#define KNARR_RUNTIME_OCI_H

#include "runtime/container.h"
#include "spec/oci_state.h"

struct oci_app {
	struct arena arena;             /* the whole run's */
	const char *root;               /* --root: one folder a container */
	const char *log, *log_format;
	bool debug, systemd_cgroup;
	struct runtime rt;
	bool rt_open;
	char *const *envp;
};

/* ROOT/ID/state.json: docs/formats/oci-state.md. */
struct oci_record {
	char *oci_version, *id, *bundle, *rootfs, *cgroup, *created, *owner;
	int32_t pid;
	uint64_t start_ticks;           /* with pid: names the process for good */
	struct json_map annotations;
};

int oci_record_load(struct oci_app *app, const char *id, struct oci_record *out, struct err *e);
int oci_record_save(struct oci_app *app, const struct oci_record *r, struct err *e);
/* ERR_EXISTS; ERR_INVALID: not a container's name. */
int oci_record_reserve(struct oci_app *app, const char *id, struct err *e);
int oci_record_drop(struct oci_app *app, const char *id, struct err *e);
char *oci_record_path(struct oci_app *app, const char *id, const char *file);
/* *pidfd: the first process while it lives, else -1. */
enum oci_status oci_record_status(struct oci_app *app, const struct oci_record *r, int *pidfd);
int oci_record_ids(struct oci_app *app, char ***out, struct err *e);

int oci_runtime(struct oci_app *app, struct err *e); /* opens app->rt once */
int oci_bundle_load(struct oci_app *app, const char *bundle, struct oci_config *out, struct err *e);
/* Sets HOME where p's environment has none, as runc does: the user's in root's /etc/passwd, else "/". */
void oci_home_set(struct oci_app *app, const char *root, struct oci_process *p);

/* The commands: argv[0] is the command's name; they return the exit code, -1 with *e. */
int oci_create_command(struct oci_app *app, char *const *argv, struct err *e);
int oci_run_command(struct oci_app *app, char *const *argv, struct err *e);
int oci_start_command(struct oci_app *app, char *const *argv, struct err *e);
int oci_exec_command(struct oci_app *app, char *const *argv, struct err *e);
int oci_kill_command(struct oci_app *app, char *const *argv, struct err *e);
int oci_delete_command(struct oci_app *app, char *const *argv, struct err *e);
int oci_state_command(struct oci_app *app, char *const *argv, struct err *e);
int oci_list_command(struct oci_app *app, char *const *argv, struct err *e);
int oci_ps_command(struct oci_app *app, char *const *argv, struct err *e);
int oci_pause_command(struct oci_app *app, char *const *argv, struct err *e);
int oci_resume_command(struct oci_app *app, char *const *argv, struct err *e);
int oci_update_command(struct oci_app *app, char *const *argv, struct err *e);
int oci_spec_command(struct oci_app *app, char *const *argv, struct err *e);
int oci_features_command(struct oci_app *app, char *const *argv, struct err *e);

/* oci_console.c */
int oci_console_send(const char *socket_path, int console_fd, struct err *e);
/* Waits for the process and passes on signals and, where console_fd is one, the terminal's bytes. */
int oci_foreground(const struct container_process *p, int console_fd, int *code, struct err *e);

#endif
