/* knarr-oci's insides: the records of its containers and what its commands share. runc's command line,
 * its state folder by container, its texts on stdout. */
#ifndef KNARR_RUNTIME_OCI_H
#define KNARR_RUNTIME_OCI_H

#include "base/opt.h"
#include "runtime/container.h"
#include "spec/oci_state.h"

struct oci_app;

struct oci_command {
	const char *name;
	int (*run)(struct oci_app *app, char *const *argv, struct err *e);
	unsigned flags;
	const char *args;               /* what follows the options, for its help */
	const char *help;
};

struct oci_app {
	struct arena arena;             /* the whole run's */
	const char *root;               /* --root: one folder a container */
	bool root_given;
	const char *log, *log_format;
	int log_fd;                     /* --log's; -1: stderr alone */
	const char *criu;               /* --criu: the program; NULL: that on PATH */
	bool debug, systemd_cgroup, no_cgroup; /* no_cgroup: --cgroup-manager=disabled */
	unsigned container_flags;       /* CONTAINER_…, of annotations */
	const struct oci_command *command; /* the one under way */
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
	bool shares_pids;               /* it has no pid namespace of its own */
	bool has_poststart;             /* `start` has hooks to run */
	char *rdt_group, *rdt_monitor;  /* what linux.intelRdt made; NULL: nothing to remove */
	char *unit, *slice;             /* with --systemd-cgroup; NULL: no unit */
	bool user_unit;                 /* of the user's own systemd */
	char **stdio;                   /* what fds 0, 1, 2 were ("pipe:[7]"); NULL: a terminal */
};

struct oci_report {             /* runc's own form of the state */
	char *oci_version, *id;
	int32_t pid;
	char *status, *bundle, *rootfs, *created;
	struct json_map annotations;
	char *owner;
};

int oci_record_load(struct oci_app *app, const char *id, struct oci_record *out, struct err *e);
int oci_record_save(struct oci_app *app, const struct oci_record *r, struct err *e);
/* ERR_EXISTS; ERR_INVALID: not a container's name. */
int oci_record_reserve(struct oci_app *app, const char *id, struct err *e);
int oci_record_drop(struct oci_app *app, const char *id, struct err *e);
char *oci_record_path(struct oci_app *app, const char *id, const char *file);
/* *pidfd: the first process while it lives, else -1. */
enum oci_status oci_record_status(struct oci_app *app, const struct oci_record *r, int *pidfd);
/* By name. ERR_NOT_FOUND: --root names a folder that is not there. */
int oci_record_ids(struct oci_app *app, char ***out, struct err *e);

int oci_runtime(struct oci_app *app, struct err *e); /* opens app->rt once */
int oci_bundle_load(struct oci_app *app, const char *bundle, struct oci_config *out, struct err *e);
/* As oci_config_validate(), with the place in the text. */
int oci_bundle_validate(struct oci_app *app, const char *bundle, const struct oci_config *c, struct err *e);
/* Clears a container away whose process has ended (or ends now): cgroup, unit, RDT, hooks, record. */
int oci_record_end(struct oci_app *app, const struct oci_record *r, struct err *e);
/* Runs the hooks for the end, if the bundle is still there; what fails is logged. */
void oci_poststop(struct oci_app *app, const struct oci_record *r);
/* Sets HOME where p's environment has none or an empty one, as runc does: the user's in root's /etc/passwd, else "/". */
void oci_home_set(struct oci_app *app, const char *root, struct oci_process *p);

/* The annotations run.oci.… that change the document (knarr-oci(8)). */
int oci_annotations_apply(struct oci_app *app, struct oci_config *c, struct err *e);
/* ERR_STATE: the container was made without a cgroup of its own. */
int oci_need_cgroup(const struct oci_record *r, const char *command, struct err *e);
int oci_load_running(struct oci_app *app, const char *id, struct oci_record *r, enum oci_status *status, struct err *e);

/* opts_parse() for a command; --help prints its help and ends the program. */
int oci_options(struct oci_app *app, const struct opt *opts, int flags, char *const *argv, char ***words, struct err *e);
/* For a command without options: its one argument. */
int oci_only_id(struct oci_app *app, char *const *argv, const char **id, struct err *e);
/* The fds 3 … 2 + n are the caller's; else ERR_INVALID names the first that is not. */
int oci_check_fds(int64_t n, struct err *e);
/* Compact JSON with a line a member, as Go's MarshalIndent prints it. */
int oci_json_indent(struct buf *b, struct str compact, const char *unit, struct err *e);

/* oci_rdt.c: linux.intelRdt of a container that is made, joined, updated, deleted. */
int oci_rdt_create(struct oci_app *app, const struct oci_config *c, struct oci_record *r, int *tasks_fd, struct err *e);
int oci_rdt_join(struct oci_app *app, const struct oci_config *c, const struct oci_record *r, int *tasks_fd,
		 struct err *e);
int oci_rdt_update(struct oci_app *app, const struct oci_record *r, const char *l3, const char *bandwidth, struct err *e);
int oci_rdt_remove(const struct oci_record *r, struct err *e);

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
int oci_events_command(struct oci_app *app, char *const *argv, struct err *e);
int oci_update_command(struct oci_app *app, char *const *argv, struct err *e);
int oci_spec_command(struct oci_app *app, char *const *argv, struct err *e);
int oci_features_command(struct oci_app *app, char *const *argv, struct err *e);
int oci_checkpoint_command(struct oci_app *app, char *const *argv, struct err *e);
int oci_restore_command(struct oci_app *app, char *const *argv, struct err *e);

/* oci_systemd.c: containers that are systemd's units. */
struct systemd_unit;            /* runtime/systemd.h */
int oci_unit_of(struct oci_app *app, const char *cgroups_path, const char *id, struct systemd_unit *out, struct err *e);
/* Starts the scope with a holder in it. When the container's process is there: oci_scope_begun(). */
int oci_scope_begin(struct oci_app *app, const struct systemd_unit *u, const struct oci_config *c, pid_t *holder,
		    struct err *e);
int oci_scope_begun(struct oci_app *app, const struct systemd_unit *u, const struct oci_config *c, pid_t *holder,
		    struct err *e);
bool oci_record_unit(const struct oci_record *r, struct systemd_unit *out); /* false: it has none */
void oci_unit_end(const struct oci_record *r);
struct oci_resources;
int oci_resources_update(struct oci_app *app, const struct oci_record *r, const struct oci_resources *res,
			 struct err *e);

/* oci_console.c */
int oci_console_send(const char *socket_path, int console_fd, struct err *e);
/* The text and the fd in one message to whoever listens on the socket. */
int oci_fd_send(const char *socket_path, const char *text, int fd, struct err *e);
/* Waits for the process and passes on signals and, where console_fd is one, the terminal's bytes. */
int oci_foreground(const struct container_process *p, int console_fd, int *code, struct err *e);

#endif
