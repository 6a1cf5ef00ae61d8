/* User namespaces: made with their maps of ids, and with namespaces that they own.
 *
 * A namespace is held by its fd; the process that it was made with is gone when userns_make() returns.
 * For single-threaded programs. Where the caller may not write a map by itself (it is not root), newuidmap and
 * newgidmap write it, as /etc/subuid and /etc/subgid allow. */
#ifndef KNARR_KERNEL_USERNS_H
#define KNARR_KERNEL_USERNS_H

#include "base/err.h"

#include <sys/types.h>

struct idmap {
	uint32_t inside, outside, size;
};
struct idmaps {
	const struct idmap *uids, *gids;
	size_t nuids, ngids;
};
enum { IDMAP_MAX = 340 };               /* lines that the kernel takes */

/* The id outside of the namespace; false: it is not mapped. */
bool idmap_outside(const struct idmap *map, size_t n, uint32_t inside, uint32_t *out);

struct userns_part {                    /* a namespace to be made with it */
	int kind;                       /* CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWUTS */
	int fd;                         /* out: the caller's */
};
/* *out is the caller's. proc_fd: /proc. ERR_DENIED, and errors that say which map (uids or gids) was refused. On
 * failure no part has an fd. */
int userns_make(int proc_fd, const struct idmaps *maps, struct userns_part *parts, size_t nparts, int *out,
		struct err *e);

/* For a child (system calls only): enters it and becomes its root. Where the id 0 is not mapped that is an
 * error. Supplementary groups go, unless the namespace forbids to change them. */
int userns_enter(int fd, struct err *e);
int userns_become_root(struct err *e);

#endif
