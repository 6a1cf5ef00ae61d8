/* Writes a layer's entries below one directory. No path leaves it: every parent is opened by
 * openat2 from the root with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS; a parent that is a symbolic
 * link of the same layer is followed in text, inside the layer, as containerd and podman do.
 *
 * Entries may come in any order: parents that are missing are made (0755, root; tmp and var/tmp
 * 1777), a later entry replaces an earlier one, hard links wait for their target, and the times of
 * folders are set at the end. OCI whiteouts (image-spec, layer.md) become what overlayfs wants: a
 * character device 0/0; folders to be opaque are listed, for knarrd to mark them (trusted.* takes
 * a capability that no unpacker should have).
 *
 * umask must be 0. For single-threaded use; changes the current folder for rare calls. */
#ifndef KNARR_IMAGE_TREE_H
#define KNARR_IMAGE_TREE_H

#include "base/arena.h"
#include "image/tar.h"

enum { TREE_DEPTH_MAX = 256, TREE_PARENTS = 16, TREE_MEMORY_MAX = 256 * 1024 * 1024 };

struct tree_parent {
	char *path;
	size_t cap;
	int fd;      /* O_PATH; -1: unused */
};

struct tree_time;
struct tree_link;
struct tree_name;

struct tree {
	int root_fd;                /* the caller's */
	struct arena arena;         /* the three lists' texts */
	struct tree_parent parents[TREE_PARENTS];
	unsigned next_parent;
	struct tree_time *times;    /* of folders, newest first */
	struct tree_link *links;    /* whose target was not there yet, newest first */
	struct tree_name *opaque;
	bool odd_folders;           /* one is setgid or has a default ACL: owner and mode are always set */
	bool replaced;              /* a folder made way for something else */
	bool root_given;
	uint64_t disk_bytes, inodes, xattrs_dropped;
};

void tree_open(struct tree *t, int root_fd);
void tree_close(struct tree *t);

/* One entry, its data read from the reader. */
int tree_add(struct tree *t, struct tar_reader *tar, const struct tar_entry *entry, struct err *e);
/* After the last entry. *opaque: in `a`, NULL-terminated. */
int tree_finish(struct tree *t, struct arena *a, char ***opaque, struct err *e);

/* Pure text, for the tests: "./a//b/../c/" becomes "a/c", the root "". ERR_INVALID: it leaves the
 * root; ERR_EXHAUSTED: too deep. `out` has room for TAR_PATH_MAX + 1 bytes. */
int tree_path_clean(const char *path, char *out, struct err *e);

#endif
