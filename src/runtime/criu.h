/* Driving CRIU (https://criu.org): one `criu swrk` a request, on a socket pair (wire/criu_rpc.h).
 *
 * criu is run as a program and never linked: it is found on PATH or named. What it says of a failure stands in its
 * log, whose first error becomes part of ours. A dump is never broken off: who kills criu half-way leaves its code in
 * the container's processes.
 *
 * What a container has that is not its own (bind mounts, cgroup mounts, masks, namespaces by path) is told to CRIU as
 * external, under the same keys at both ends: a mount's key is the place where it is in the container. */
#ifndef KNARR_RUNTIME_CRIU_H
#define KNARR_RUNTIME_CRIU_H

#include "base/arena.h"
#include "base/call.h"
#include "kernel/cgroup.h"
#include "spec/oci_config.h"
#include "wire/criu_rpc.h"

#include <sys/types.h>

enum { CRIU_STD_FDS = 3, CRIU_FDS_MAX = 16 };
/* Their order is also that of the fds in the child: fds[i] is CRIU_FD_FIRST + i there. */
enum { CRIU_SOCKET_FD = 3, CRIU_FD_FIRST = 4 };

struct criu_job {
	const char *program;            /* criu_find()'s */
	struct criu_request request;
	int std[CRIU_STD_FDS];          /* -1: /dev/null */
	int fds[CRIU_FDS_MAX];          /* passed on; for inherit_fd */
	size_t nfds;
	int mount_ns_fd;                /* where criu runs; -1: ours */
	const char *log_dir, *log_file; /* where the request lets criu write its log; NULL: nowhere */
	/* Before the request is sent: criu's process may be put where the restored ones shall be. NULL: nothing to do. */
	int (*born)(void *ctx, pid_t pid, struct err *e);
	/* Each notification: r->script says which. fd: what came with it (orphan-pts-master), -1: none; it is closed
	 * afterwards. */
	int (*notify)(void *ctx, const struct criu_response *r, int fd, struct err *e);
	void *ctx;
};
#define CRIU_JOB_INIT { .std = { -1, -1, -1 }, .mount_ns_fd = -1 }

/* The program on PATH, or `named` itself. ERR_UNAVAILABLE: there is no criu. */
int criu_find(struct arena *a, const char *named, const char **out, struct err *e);
/* Runs the request to its end. Blocks as long as criu takes. */
int criu_run(struct arena *a, const struct criu_job *job, struct criu_response *out, struct err *e);
/* ERR_UNAVAILABLE where criu is older than major.minor; ERR_UNIMPLEMENTED where it (or the kernel) lacks a feature. */
int criu_need_version(struct arena *a, const char *program, int major, int minor, struct err *e);
int criu_need_feature(struct arena *a, const char *program, unsigned feature, struct err *e);
/* soft, full, strict, ignore, "" (the default); ERR_INVALID. */
int criu_cgroups_parse(const char *word, int32_t *out, struct err *e);

/* A container as both ends know it. */
struct criu_container {
	const struct oci_config *config;
	const struct cgroup_layout *cgroups;
	const char *cgroup;             /* NULL: none of its own */
	int root_fd;                    /* its root: of /proc/PID/root, or of the mount that it is restored on */
	const char *root_path;          /* what of root_fd's path is not the container's ("" at a dump) */
	const char *mask_dir;           /* a restore: a folder with an empty "file" and "dir"; NULL at a dump */
};
/* The mounts that are not the container's own. ERR_UNIMPLEMENTED: one that CRIU cannot put back (an idmapped one). */
int criu_external_mounts(struct arena *a, const struct criu_container *c, struct criu_opts *o, struct err *e);
/* Where the cgroup's freezer is: frozen, its processes stand still at one moment and none escapes by forking. NULL: no
 * freezer is mounted. */
char *criu_freezer_path(struct arena *a, const struct cgroup_layout *l, const char *cgroup);
/* A file of options for CRIU, as with runc: the annotation org.criu.config names it, else /etc/criu/runc.conf; an empty
 * annotation: NULL. */
char *criu_config_file(const struct oci_config *config);
/* Namespaces by path. A dump: network and pid become external. */
int criu_dump_namespaces(struct arena *a, const struct oci_config *config, struct criu_opts *o, struct err *e);
/* A restore: network and pid are inherited (their fds are added to the job), others joined. */
int criu_restore_namespaces(struct arena *a, const struct oci_config *config, struct criu_job *job, struct criu_opts *o,
			    struct err *e);

/* --- stdin, stdout, stderr ------------------------------------------------------------------------ */

/* "descriptors.json" of runc, podman and containerd: what fds 0, 1, 2 were, so that a restore connects others. */
#define CRIU_DESCRIPTORS "descriptors.json"
/* What the links in /proc/PID/fd say. */
char **criu_descriptors_of(struct arena *a, const char *proc, struct err *e);
/* A dump: those that lie outside of the container (its mounts do not hold them) become external. */
int criu_dump_descriptors(struct arena *a, pid_t pid, char **was, int images_fd, struct criu_opts *o, struct err *e);
/* A restore: the job's std fds take their places. */
int criu_restore_descriptors(struct arena *a, int images_fd, struct criu_opts *o, struct err *e);

#endif
