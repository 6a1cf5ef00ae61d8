/* A container's log file in CRI's format: "2026-11-23T16:14:05.123456789Z stdout F text\n".
 *
 * A line longer than CRI_LOG_LINE_MAX is split; all its pieces but the last are tagged P. What is left
 * without a newline when the stream ends is a P piece too, as kubelet expects. The end of a line that
 * has not come yet is kept (at most one line a stream), so a file never holds half of a record, even
 * when the disk fills up in the midst of one. Lines that cannot be written are dropped and counted,
 * and the first line written after that says so: the container never waits for its log.
 *
 * Writing blocks as the file does. Few system calls: one writev for all lines of one read. */
#ifndef KNARR_MONITOR_CRI_LOG_H
#define KNARR_MONITOR_CRI_LOG_H

#include "base/clock.h"
#include "base/err.h"
#include "base/str.h"

enum { CRI_LOG_LINE_MAX = 16 * 1024 };

struct cri_log {
	int fd;                 /* O_APPEND; owned; -1: no log, all is dropped silently */
	uint64_t dropped;       /* lines since the last that could be written */
	int dropped_errno;
};

struct cri_log_stream {
	const char *name;       /* "stdout" or "stderr" */
	char *carry;            /* CRI_LOG_LINE_MAX bytes, mapped while a line is unfinished */
	size_t carried;
};

/* Bytes that the container wrote; wall_ns: the time that its lines get. */
void cri_log_feed(struct cri_log *log, struct cri_log_stream *s, struct str bytes, int64_t wall_ns);
/* The stream has ended: writes what is unfinished, releases the carry. */
void cri_log_flush(struct cri_log *log, struct cri_log_stream *s, int64_t wall_ns);
/* Takes the new fd and closes the old one. */
void cri_log_reopen(struct cri_log *log, int fd);
void cri_log_close(struct cri_log *log);

#endif
