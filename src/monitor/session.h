/* A session with knarr-pod: an exec, or an attach to a container. The connection on which it was asked for is the
 * session's from then on (`control`): readable at the end and never before, it carries the exit code; closing it
 * ends an exec with all its process tree, and an attach without the container noticing. The other fds are the
 * streams themselves, all non-blocking. It does not matter which process holds them: knarrd hands those of a
 * `knarr exec` to that command. */
#ifndef KNARR_MONITOR_SESSION_H
#define KNARR_MONITOR_SESSION_H

#include "base/call.h"
#include "monitor/message.h"

struct monitor_session {
	int in, out, err, tty, control; /* -1: none; pod/session.h has what each is for */
};
#define MONITOR_SESSION_NONE { .in = -1, .out = -1, .err = -1, .tty = -1, .control = -1 }
void monitor_session_close(struct monitor_session *s);

struct monitor_session_request {
	const char *container_id;
	char *const *argv;          /* NULL: attach */
	unsigned flags;             /* enum session_flag */
	unsigned width, height;     /* of an exec's terminal; 0: not known */
};
/* Asks, and waits until the exec runs or the client is attached; with SESSION_EARLY, until it is noted: out has
 * the control alone then, and monitor_session_receive() the rest, once the container is started. ERR_NOT_FOUND:
 * the container, or the program in it; ERR_STATE: it has ended; ERR_UNIMPLEMENTED: an older knarr-pod. */
int monitor_session_open(struct call *c, int run_dirfd, const struct monitor_session_request *r,
			 struct monitor_session *out, struct err *e);
/* Fills the streams from what comes over s->control. ERR_STATE: the container could not be started. */
int monitor_session_receive(struct call *c, struct monitor_session *s, struct err *e);

/* Once control is readable; does not block. ERR_STATE: nothing has come; ERR_EXHAUSTED: an attached client that
 * was too slow; ERR_UNAVAILABLE: knarr-pod has ended. */
int monitor_session_result(int control, int *exit_code, struct err *e);
int monitor_session_resize(int tty, unsigned width, unsigned height, struct err *e);

/* Unconnected TCP sockets of the pod's network namespace, non-blocking; -1 where the kernel has no such family. */
int monitor_sockets(struct call *c, int run_dirfd, int *inet, int *inet6, struct err *e);

#endif
