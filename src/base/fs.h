/* Files and paths. Reached from a directory fd with a relative path; a path inside a root file
 * system only through path_open_beneath(), which never leaves it. All of it blocks on the disk. */
#ifndef KNARR_BASE_FS_H
#define KNARR_BASE_FS_H

#include "base/arena.h"
#include "base/call.h"
#include "base/fd.h"
#include "base/str.h"

#include <stdio.h>

/* The whole file in the arena, NUL after it. ERR_EXHAUSTED past max bytes. */
int fs_read_file(struct arena *a, int dirfd, const char *path, size_t max, struct str *out, struct err *e);

/* Writes a file whole: into a new file in the same folder, then renamed over the old. Readers see
 * the old bytes or the new, never a part. FS_SYNC: on disk before it returns (file and folder). */
enum { FS_SYNC = 1 };
int fs_replace(int dirfd, const char *path, const void *bytes, size_t n, unsigned mode, int flags,
	       struct err *e);

/* Writes to an existing file in one write(2), as cgroup and proc files want it. */
int fs_write_once(int dirfd, const char *path, const char *text, struct err *e);

/* mkdir -p below dirfd; folders that exist stay as they are. */
int fs_mkdirs(int dirfd, const char *path, unsigned mode, struct err *e);
/* rm -r: does not follow links, does not cross into other mounts; absent is fine. Any depth of
 * folders takes the same few fds. */
int fs_remove_tree(int dirfd, const char *path, struct err *e);
/* The same, for as long as the call goes on; what is left then can be removed later. */
int fs_remove_tree_call(struct call *c, int dirfd, const char *path, struct err *e);
/* unlink; absent is fine. */
int fs_remove_file(int dirfd, const char *path, struct err *e);

/* Opens a path inside the root that rootfd is, resolving links and ".." as if it were "/"
 * (openat2 RESOLVE_IN_ROOT, no magic links). flags and mode as for open. */
int path_open_in_root(int rootfd, const char *path, int flags, unsigned mode, struct err *e);
/* The same, but a link or ".." that would leave the folder is an error (RESOLVE_BENEATH). */
int path_open_beneath(int dirfd, const char *path, int flags, unsigned mode, struct err *e);

/* Pure text: "/a//b/./c/" becomes "/a/b/c"; ".." goes up but never above "/". */
char *path_clean(struct arena *a, const char *path);
char *path_join(struct arena *a, const char *base, const char *rest);
const char *path_base(const char *path); /* after the last '/' */

/* "/proc/self/fd/N", for the few calls that want a path. The buffer is the caller's. */
struct fd_path { char text[32]; };
static inline const char *fd_path(struct fd_path *buffer, int fd)
{
	(void)snprintf(buffer->text, sizeof(buffer->text), "/proc/self/fd/%d", fd);
	return buffer->text;
}

#endif
