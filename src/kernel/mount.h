/* Mounts, by the new mount API (Linux 5.12) where it serves, by mount(2) where it is one call instead
 * of six. A mount is prepared detached (as an fd), given its attributes there, and moved into place
 * once; a place is an O_PATH fd that openat2 resolved, so no path is walked twice.
 *
 * Only system calls and the stack, but for mount_options_parse(): these functions run in the child of
 * a CLONE_VM|CLONE_VFORK clone. */
#ifndef KNARR_KERNEL_MOUNT_H
#define KNARR_KERNEL_MOUNT_H

#include "base/arena.h"
#include "base/err.h"

#include <sys/types.h>

/* What the option words of fstab, mount(8) and the runtime specification mean. */
struct mount_options {
	unsigned long flags;            /* MS_* for mount(2) */
	uint64_t attr_set, attr_clear;  /* MOUNT_ATTR_* for the one mount */
	uint64_t tree_set, tree_clear;  /* rro, rnosuid…: for the whole tree */
	unsigned long propagation;      /* MS_SHARED, MS_SLAVE, MS_PRIVATE, MS_UNBINDABLE; 0: none given */
	bool propagation_tree;          /* rshared, … */
	bool bind, bind_tree;           /* bind, rbind */
	bool copy_up;                   /* tmpcopyup */
	bool idmap, idmap_tree;
	char *data;                     /* the rest, comma-separated; NULL: none */
};
void mount_options_parse(struct arena *a, char *const *words, struct mount_options *out);
/* "rslave" and the like; ERR_INVALID. */
int mount_propagation_parse(const char *word, unsigned long *propagation, bool *tree, struct err *e);

/* A detached clone of the tree (or the one mount) at path; "" means dirfd itself. */
int mount_clone(int dirfd, const char *path, bool tree, struct err *e);
/* Changes a mount, or the tree below it. */
int mount_change(int fd, uint64_t set, uint64_t clear, bool tree, struct err *e);
int mount_set_propagation(int fd, unsigned long propagation, bool tree, struct err *e);
/* A file's owner N is seen as whom the user namespace maps N to. For a detached mount that is not idmapped yet; by the
 * owner of the file system (the host's root). ERR_INVALID: this file system cannot (EINVAL). */
int mount_idmap(int fd, int userns_fd, bool tree, struct err *e);
/* Puts the detached mount onto what `at` is open on; mount(2) onto it. `name` is for the error. */
int mount_move_onto(int fd, int at, const char *name, struct err *e);
struct mount_new {
	const char *source, *type, *data; /* as mount(2) */
	unsigned long flags;
};
int mount_onto(const struct mount_new *m, int at, const char *name, struct err *e);
/* A new file system, detached: fsopen, options ("key=value" or "flag", NULL-terminated), fsmount. */
int mount_detached(const char *type, const char *const *options, uint64_t attrs, struct err *e);

#endif
