/* clone3 with a function to run, as glibc has no wrapper for it: into namespaces and a cgroup, with a
 * pidfd. For single-threaded programs. */
#ifndef KNARR_KERNEL_CLONE_H
#define KNARR_KERNEL_CLONE_H

#include "base/err.h"

#include <sys/types.h>

enum {
	CLONE_SHARE = BIT(0),   /* CLONE_VM|CLONE_VFORK: the caller waits until the child execs or ends */
	CLONE_SIBLING = BIT(1), /* CLONE_PARENT: the caller's parent reaps it */
};
struct clone_spec {
	uint64_t namespaces;    /* CLONE_NEW* */
	int cgroup_fd;          /* CLONE_INTO_CGROUP (v2), -1: the caller's */
	char *stack;
	size_t stack_bytes;
	unsigned flags;
	pid_t *pid_at;          /* NULL; or gets its pid before it runs */
};
/* The child starts with default signal handlers and every signal blocked. Returns its pid. `fn` must
 * not return. */
pid_t clone_run(const struct clone_spec *s, void (*fn)(void *), void *arg, int *pidfd, struct err *e);

#endif
