/* The durable record of a container's exit: a small JSON file "exit-CONTAINER" in the pod's state
 * folder, replaced whole by rename and never synced (docs/formats/exit.md). knarr-pod writes it before
 * it tells anybody; knarrd reads it, also when knarr-pod is gone. */
#ifndef KNARR_MONITOR_EXIT_RECORD_H
#define KNARR_MONITOR_EXIT_RECORD_H

#include "base/arena.h"
#include "base/err.h"

#include <sys/types.h>

struct exit_record {
	int code;                  /* 128 + signal when killed */
	int signal;
	bool oom_killed;
	pid_t pid;                 /* what it was */
	int64_t started_wall_ns, finished_wall_ns;
};

enum { CONTAINER_ID_MAX = 128 };
/* Letters, digits, '_', '.', '-', no leading '.', at most CONTAINER_ID_MAX: it becomes a file's name. */
int container_id_check(const char *id, struct err *e);

int exit_record_write(int state_dirfd, const char *container_id, const struct exit_record *r, struct err *e);
/* ERR_NOT_FOUND: there is none. ERR_DATA_LOSS: it is no such record. */
int exit_record_read(struct arena *a, int state_dirfd, const char *container_id, struct exit_record *out,
		     struct err *e);
/* Absent is fine. */
int exit_record_remove(int state_dirfd, const char *container_id, struct err *e);

#endif
