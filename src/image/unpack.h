/* One layer's bytes become files: knarr-unpack, a short-lived sandboxed program, does it; this is
 * knarrd's side of it. The compressed bytes go into a pipe (or come from a file), the files appear
 * below a directory that the caller made, and a result comes back.
 *
 *	unpack_start(&spec, &u, &bytes_fd, e);      // hand bytes_fd to whoever fetches, close it here
 *	…                                            // the writer closes its end: the layer is complete
 *	unpack_wait(call, &u, arena, &result, e);    // also when the writer failed
 *
 * knarr-unpack dies with the thread that called unpack_start (PR_SET_PDEATHSIG): that thread must
 * be the one to wait. It reads on to the end of the stream, so the writer never blocks for good;
 * where it fails, the writer gets EPIPE. Its limits are in docs/inside/unpack.md. */
#ifndef KNARR_IMAGE_UNPACK_H
#define KNARR_IMAGE_UNPACK_H

#include "base/call.h"
#include "base/proc.h"

/* What the media type promises. The bytes decide by their magic: UNPACK_GZIP and UNPACK_ZSTD take
 * any of the three (images in the wild lie among them, and the diff ID is what counts); compressed
 * bytes where the media type says plain are ERR_INVALID. */
enum unpack_format { UNPACK_ANY, UNPACK_PLAIN, UNPACK_GZIP, UNPACK_ZSTD };

struct unpack_limits {          /* 0: the default */
	uint64_t max_bytes;     /* of the uncompressed stream; 64 GiB */
	uint64_t max_entries;   /* 4 million */
	uint64_t max_ratio;     /* uncompressed : compressed, once it is past 1 GiB; 2000 */
};

struct unpack_spec {
	const char *program;    /* path of knarr-unpack */
	const char *name;       /* what to call the layer in errors: its digest */
	int dest_fd;            /* an empty directory, mode 0755; stays the caller's */
	int source_fd;          /* a file to read instead of a pipe; -1: make a pipe. Stays the caller's */
	enum unpack_format format;
	struct unpack_limits limits;
};
#define UNPACK_SPEC_INIT { .dest_fd = -1, .source_fd = -1 }

struct unpack {
	const char *name;       /* the spec's: must live as long */
	struct proc proc;
	int result_fd;
};

struct unpack_result {
	char *diff_id;          /* "sha256:…" of the uncompressed stream */
	char *format;           /* "plain", "gzip", "zstd" */
	uint64_t size;          /* of the uncompressed stream */
	uint64_t entries;       /* of the archive */
	uint64_t disk_bytes, inodes; /* what the tree takes */
	char **opaque;          /* folders, relative, "." is the root: they hide what lower layers have there */
	bool has_root;          /* the archive says owner, mode and time of the root itself */
	uint64_t xattrs_dropped;/* those that a layer may not set (trusted.*, …) or the file system lacks */
};

/* *bytes_fd: the pipe's write end, the caller's; -1 where spec->source_fd was given. */
int unpack_start(const struct unpack_spec *spec, struct unpack *u, int *bytes_fd, struct err *e);

/* Waits for the end and reaps; the result lives in `a`. Folders that are to be opaque are marked
 * (below dest_fd). When the call is over first, knarr-unpack is killed. Always ends `u`.
 * ERR_DATA_LOSS: not an archive, cut short, or a wrong checksum; ERR_INVALID: an archive that may
 * not be (a path out of it, a link to nowhere); ERR_EXHAUSTED: past a limit, or the disk is full. */
int unpack_wait(struct call *c, struct unpack *u, int dest_fd, struct arena *a, struct unpack_result *out,
		struct err *e);
/* Kills and reaps, for those who do not want the result. Harmless on one that has ended. */
void unpack_kill(struct unpack *u);

#endif
