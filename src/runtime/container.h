/* The OCI runtime as a library: from a config.json to a running first process, and further processes
 * beside it. knarr-pod calls it in process; knarr-oci is its command.
 *
 * For single-threaded programs only: it clones with CLONE_VM|CLONE_VFORK (the caller stands still
 * until the child has exec'ed or failed), and setns()es the caller for the moment of a clone where a
 * pid namespace is joined. The child makes system calls only, in an order that
 * docs/inside/container.md gives with its reasons; the error of the very step that failed in it
 * arrives as the error of the call. The caller is the parent: it reaps by out->pidfd.
 *
 * Nothing of the caller reaches the container but what the spec names: foreign fds are closed, paths
 * in the root are resolved by openat2 inside it, and the caller is not dumpable from runtime_open()
 * on. The program must run from a read-only clone of its own file (runtime_self_protect). */
#ifndef KNARR_RUNTIME_CONTAINER_H
#define KNARR_RUNTIME_CONTAINER_H

#include "base/arena.h"
#include "base/err.h"
#include "kernel/cgroup.h"
#include "kernel/userns.h"
#include "spec/oci_config.h"

#include <sys/types.h>

/* --- what the containers of one process share ---------------------------------------------------- */

/* RUNTIME_LEAN: this process's mount namespace is private in all its mounts (no peer groups with the
 * host), so that a new one needs no walk over the mount table; and at "/" RUNTIME_LEAN_MASK it has a
 * read-only file system with an empty "dir" and "file". */
enum { RUNTIME_LEAN = BIT(0) };
#define RUNTIME_LEAN_MASK "mask"

struct runtime {
	struct cgroup_layout cgroups;
	int proc_fd;            /* the host's /proc, checked: all writes to procfs go through it */
	int pidns_fd;           /* our own pid namespace, to come back to */
	int null_fd;            /* /dev/null, for what has no stdin; -1 until runtime_null() */
	uint64_t own_bounding;  /* the capabilities that we can give at all */
	unsigned flags;
	char *stack;            /* of the children, one at a time */
};

/* Makes the process non-dumpable. ERR_NOT_FOUND: no cgroups, no /proc. */
int runtime_open(struct runtime *rt, unsigned flags, struct err *e);
/* The same where no cgroup file system is mounted: with a layout of the host's, whose fds
 * are taken over. */
int runtime_open_with(struct runtime *rt, const struct cgroup_layout *cgroups, unsigned flags, struct err *e);
/* Opens null_fd where it is not open yet. */
int runtime_null(struct runtime *rt, struct err *e);
void runtime_close(struct runtime *rt);
/* Executes the program anew from a read-only clone of its own file, unless it runs from one (or its
 * file system is read-only): what a container reaches by /proc/self/exe cannot be written then.
 * Returns only when that is not needed, or failed. For a main() before all else. */
int runtime_self_protect(char *const *argv, char *const *envp, struct err *e);

/* --- a container ---------------------------------------------------------------------------------- */

enum { CONTAINER_NS_MINE = -2 };
struct container_ns {           /* overrules the path of config.linux.namespaces of that kind */
	int kind;               /* CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWUTS, CLONE_NEWPID… */
	int fd;                 /* the namespace; CONTAINER_NS_MINE: the caller is in it already */
	struct idmaps maps;     /* a user namespace's: what config.json says where it has none */
};
struct container_mount_fd {     /* the source of config.mounts[index]: a detached open_tree clone, which is */
	uint32_t index;         /* moved into place; its peer group is kept, the mount's options are applied */
	int fd;
};

enum {
	/* Stops before exec: container_create() returns when all else is done, and the process waits
	 * for out->start_fd. Without it container_create() returns after the exec. */
	CONTAINER_WAIT = BIT(0),
	CONTAINER_NO_PIVOT = BIT(1),    /* chroot instead of pivot_root: for roots on an initramfs */
	CONTAINER_NO_KEYRING = BIT(2),  /* keeps the caller's session keyring */
	CONTAINER_NO_SESSION = BIT(3),  /* stays in the caller's session (knarr-oci run in the foreground) */
	CONTAINER_CGROUP_EXISTS = BIT(4), /* a cgroup that is there already is no error and is not removed */
	/* exec_spec.flags: another container in the pid namespace may have CAP_SYS_PTRACE (that of this
	 * container's is seen in its config). Then the process is made outside of the namespace and enters
	 * it last, with nothing in it that a tracer could use. Some 0.2 ms dearer. */
	CONTAINER_TRACED = BIT(5),
	CONTAINER_PLAIN_LINES = BIT(8), /* the terminal leaves a line's end as the program wrote it: our caller has its own */
	CONTAINER_KEEP_GROUPS = BIT(7), /* the caller's supplementary groups stay, additionalGids is not used */
	CONTAINER_IGNORE_PAUSED = BIT(6), /* exec_spec.flags: a frozen container is no error: we stand still until it thaws */
};

struct container_spec {
	const char *id;
	const char *bundle;             /* absolute; relative root paths and hooks' states need it */
	const struct oci_config *config; /* read and validated */
	const char *cgroup;             /* cgroup_path_clean()ed; NULL: the caller's own, no resources */
	int root_fd;                    /* a detached mount of the root; -1: config.root.path */
	const struct container_ns *ns;
	size_t nns;
	const struct container_mount_fd *mount_fds;
	size_t nmount_fds;
	int std_in, std_out, std_err;   /* -1: /dev/null; unused when config.process.terminal */
	unsigned preserve_fds;          /* the caller's fds 3 … 2 + n go into the container as they are */
	int parent_death_signal;        /* 0: none; set after the credentials, as the kernel clears it there */
	int exec_fifo_fd;               /* CONTAINER_WAIT: O_PATH of a fifo; opened for writing by the
	                                 * process, which so waits until someone reads (knarr-oci start).
	                                 * -1: out->start_fd is used */
	int rdt_tasks_fd;               /* where linux.intelRdt puts the process (runtime/rdt.h); -1: nowhere */
	unsigned flags;
};
#define CONTAINER_SPEC_INIT { .rdt_tasks_fd = -1, .root_fd = -1, \
			      .std_in = -1, .std_out = -1, .std_err = -1, .exec_fifo_fd = -1 }

struct container_process {
	pid_t pid;
	int pidfd;
	int console_fd;                 /* the terminal's master; -1: none */
	int start_fd;                   /* CONTAINER_WAIT: close it after writing a byte to exec;
	                                 * just close it to give up. -1: none */
};

/* Makes the cgroup with its resources, then the process. Everything in `a` may be freed afterwards;
 * no fd of the spec is closed. On failure nothing remains (process reaped, cgroup removed).
 *
 * Kinds worth branching on: ERR_NOT_FOUND with "exec: " in front (no such program in the container:
 * exit code 127), ERR_DENIED with it (not executable: 126), ERR_INVALID (the document),
 * ERR_UNIMPLEMENTED (a wish that this version cannot fulfil, named). */
int container_create(struct runtime *rt, struct arena *a, const struct container_spec *s,
		     struct container_process *out, struct err *e);
/* For who makes the process otherwise (a restore): the spec's cgroup alone, with its resources. *made: it was not
 * there before. */
int container_cgroup_make(struct arena *a, const struct runtime *rt, const struct container_spec *s, bool *made,
			  struct err *e);
/* Where a mount goes in a root, made if missing as a folder or a file, as container_create() does. The caller's fd. */
int container_place(int root_fd, const char *path, bool is_folder, struct err *e);
/* After CONTAINER_WAIT: lets it exec; the error of a failed exec comes here. Consumes p->start_fd. */
int container_start(struct container_process *p, struct err *e);
void container_process_close(struct container_process *p);
/* Whether its processes may trace others in their pid namespace (CAP_SYS_PTRACE). */
bool container_may_trace(const struct oci_config *config);

/* --- another process in it ------------------------------------------------------------------------ */

struct exec_cgroup {            /* where an exec goes instead of the container's own cgroup */
	unsigned hierarchies;   /* BIT(index) of struct cgroup_layout's */
	const char *path;
};
struct exec_spec {
	const char *id;
	const char *bundle;             /* for a seccomp agent; NULL: not told to it */
	const struct oci_config *config; /* the container's: namespaces, seccomp */
	const struct oci_process *process; /* what to run */
	int pidfd;                      /* the container's first process */
	const char *cgroup;             /* the container's */
	const char *exec_cgroup;        /* made with cgroup_create_exec(); NULL: the container's own, or, where
	                                 * it takes no process (v2), that of the first process below it */
	const struct exec_cgroup *cgroups; /* existing ones, for knarr-oci exec --cgroup */
	size_t ncgroups;
	int rdt_tasks_fd;
	int std_in, std_out, std_err;
	unsigned preserve_fds;
	int parent_death_signal;
	unsigned flags;                 /* CONTAINER_NO_SESSION, CONTAINER_NO_KEYRING, CONTAINER_TRACED,
	                                 * CONTAINER_IGNORE_PAUSED */
};
#define EXEC_SPEC_INIT { .pidfd = -1, .rdt_tasks_fd = -1, .std_in = -1, .std_out = -1, .std_err = -1 }

/* ERR_STATE: the container has ended, or is frozen. Else as container_create(). */
int container_exec(struct runtime *rt, struct arena *a, const struct exec_spec *s,
		   struct container_process *out, struct err *e);

/* --- the end -------------------------------------------------------------------------------------- */

/* Kills what is left in the cgroup and removes it; waits at most wait_ms for the dying. Absent is
 * fine. Does not reap. */
int container_cgroup_remove(const struct cgroup_layout *l, const char *cgroup, int wait_ms, struct err *e);

/* Runs hooks in order with the state on their stdin (runtime.md, "Hooks"); the error names the hook,
 * its kind (name, as config.json has it) and its place. */
struct oci_state;
struct container_hooks_place {
	char *const *env;               /* of a hook that names none; NULL: empty */
	bool in_cwd;                    /* in the caller's current folder, else in "/" */
};
int container_hooks_run(const char *name, const struct json_vec *hooks, const struct container_hooks_place *at,
			const struct oci_state *state, struct err *e);
/* All of them, whatever fails: that is logged (poststop). */
void container_hooks_run_all(const struct json_vec *hooks, const struct oci_state *state);
/* Where the hooks' stdout and stderr go (run.oci.hooks.stdout, .stderr); -1: nowhere, but a failed hook's stderr
 * is part of the error. For the whole process. */
void container_hooks_output(int out_fd, int err_fd);

#endif
