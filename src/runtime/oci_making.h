/* A container on its way: what `create`, `run` and `restore` share. */
#ifndef KNARR_RUNTIME_OCI_MAKING_H
#define KNARR_RUNTIME_OCI_MAKING_H

#include "runtime/oci.h"
#include "runtime/systemd.h"

struct create_options {
	const char *bundle, *console_socket, *pidfd_socket, *pid_file;
	bool detach, keep, no_pivot, no_new_keyring, no_subreaper;
	int64_t preserve_fds;
};

struct making {
	struct oci_app *app;
	struct create_options o;
	struct oci_config config;
	struct oci_record record;
	struct container_spec spec;
	struct container_process process;
	struct systemd_unit unit;       /* with --systemd-cgroup */
	pid_t holder;                   /* keeps its scope until our process is in it; 0: none */
};
#define MAKING_INIT(the_app) { .app = (the_app), .spec = CONTAINER_SPEC_INIT, \
			       .process = { .pidfd = -1, .console_fd = -1, .start_fd = -1 } }

/* Loads and checks the bundle, reserves the name; no process yet. foreground: our own terminal serves. */
int oci_making_begin(struct making *m, const char *id, bool foreground, struct err *e);
/* The process is there: the record, the pid file; the console and the pidfd go to their sockets. */
int oci_making_save(struct making *m, struct err *e);
/* Undoes all of it. */
void oci_making_give_up(struct making *m);
/* Waits for the end unless detached; returns the exit code. */
int oci_making_end(struct making *m, struct err *e);

#endif
