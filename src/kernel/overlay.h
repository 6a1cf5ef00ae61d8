/* overlayfs: a writable folder over read-only ones, as a mount that is visible nowhere until someone
 * moves it into place. Linux 6.13 takes the folders as fds, 6.7 one by one as paths; before that
 * they come as one string of at most 255 bytes (some 15 folders), and more than that only through
 * a mount that is attached for a moment.
 *
 * index, metacopy, xino and redirect_dir are off whatever the kernel's defaults: the lower folders
 * are untrusted, and a snapshot may outlive a kernel. */
#ifndef KNARR_KERNEL_OVERLAY_H
#define KNARR_KERNEL_OVERLAY_H

#include "base/err.h"

enum { OVERLAY_VOLATILE = 1,    /* nothing is ever synced: for what a reboot throws away */
       OVERLAY_LOWER_MAX = 500 }; /* the kernel's limit */

/* How the folders are told to the kernel; OVERLAY_BEST finds out. The others are for tests. */
enum overlay_way { OVERLAY_BEST, OVERLAY_BY_FD, OVERLAY_BY_PATH, OVERLAY_BY_SHORT_STRING,
		   OVERLAY_BY_STRING };

struct overlay_spec {
	const int *lower;       /* fds of folders, topmost first; at least one, no folder twice */
	size_t nlower;
	int upper, work;        /* on one file system, work empty; -1 both: read-only, two lower or more */
	unsigned flags;
	enum overlay_way way;
};

/* *mount_fd: a detached mount, the caller's; closing it unmounts. The spec's fds stay the caller's.
 * ERR_EXHAUSTED: too many lower folders. Errors hold what the kernel says about the cause. */
int overlay_mount(const struct overlay_spec *spec, int *mount_fd, struct err *e);

#endif
