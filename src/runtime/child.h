/* The container's first process on its way from clone to exec, and the processes that join later. It
 * runs on its parent's memory (CLONE_VM|CLONE_VFORK), or, where it must wait for its parent on the
 * way, on a copy. System calls and the stack only. Each function returns -1 with the error set. */
#ifndef KNARR_RUNTIME_CHILD_H
#define KNARR_RUNTIME_CHILD_H

#include "runtime/listener.h"
#include "runtime/plan.h"

struct child {
	const struct runtime *rt;
	const struct plan *plan;        /* NULL for an exec */
	const struct plan_process *process;
	const struct oci_hooks *hooks;
	const struct container_spec *spec;
	const char *cgroup, *exec_cgroup; /* NULL: none to join */
	const struct exec_cgroup *cgroups; /* joined after those */
	size_t ncgroups;
	int rdt_tasks_fd;               /* -1 */
	bool in_unified;                /* cloned into the v2 cgroup */
	const struct plan_join *joins;
	size_t njoins;
	int join_pidfd;                 /* an exec joins by its pidfd; -1 */
	int join_flags;
	int sync_fd;                    /* to the parent; -1: shared memory, and nothing to wait for */
	int console_sock;               /* the terminal's master goes here; -1: none wanted */
	int fifo_fd;
	int rootfd;
	int old_root_fd;                /* -1, unless rootfsPropagation is shared */
	int mask_fd;                    /* a read-only tmpfs with an empty "dir" and "file"; -1: none yet */
	int host_pid;                   /* for the hooks' state */
	pid_t *second;                  /* a plan in stages: the container's process; on shared memory */
	pid_t *guard;                   /* a guarded exec: the joining process, which comes last; on shared memory.
					 * NULL: this one joins the pid namespace at its birth */
	struct listener_page *listener; /* of a filter that notifies an agent; NULL */
	struct err *e;
};

/* What goes over sync_fd, each a message of its own. */
enum child_stage { CHILD_FAILED, CHILD_IN_NAMESPACES, CHILD_READY, CHILD_LISTENS };
struct child_message {
	enum child_stage stage;
	int pid;                        /* parent to child: its pid as the parent sees it */
	struct err e;
};

/* The bodies; they never return (not declared so: sanitizers would look for their caller's stack). */
void child_container(void *child);
void child_exec(void *child);

/* child_mounts.c: everything of the file system up to and with pivot_root. */
int child_mounts(struct child *c, struct err *e);
int child_pivot(struct child *c, struct err *e);
/* child_stage.c: the first of two stages; makes the second, which runs `next`, and ends; -1: it failed. */
int child_stage(struct child *c, void (*next)(void *), struct err *e);
/* child_process.c: from the finished surroundings to exec; returns only with an error. */
int child_early(struct child *c, struct err *e);        /* still with the caller's rights */
int child_session(struct child *c, struct err *e);
int child_join(struct child *c, struct err *e);
int child_terminal(struct child *c, int devpts_fd, struct err *e);
int child_exec_terminal(struct child *c, struct err *e);
int child_finish(struct child *c, struct err *e);
int child_wait(struct child *c, enum child_stage stage, int *pid, struct err *e);

/* The startContainer hooks, in the container. */
int child_start_hooks(struct child *c, struct err *e);

#endif
