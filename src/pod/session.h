/* Exec and attach sessions, and connections to a pod's ports, as raw file descriptors: knarr-pod hands them up,
 * no byte of a session passes through it (but an attach's output, of which it makes a copy for each client).
 *
 * All fds are non-blocking and close-on-exec. A relay writes to `in`, reads `out` and `err`, and watches
 * `control`, which becomes readable at the end (never before): then everything that was written is in the pipes;
 * read them until they are empty or at their end (what an exec left running in the background may hold them open
 * for ever), and ask session_result().
 *
 * With a tty there is no `err`; the end of `out` is EIO; to close `in` means nothing to the container. Without
 * one, to close `in` (session_close_in) is the end of file of an exec's stdin, and of a stdin_once container's.
 *
 * An attach gets what is written from then on. Its output goes through a bounded buffer: a client that does not
 * read is dropped (session_result: ERR_EXHAUSTED) and neither the container nor its log waits for it; unless it
 * is `paced`: then the container waits for it as for a terminal. Several may attach; each that asks for stdin may
 * write to it, but a stdin_once container's goes to the first alone. */
#ifndef KNARR_POD_SESSION_H
#define KNARR_POD_SESSION_H

#include "pod/pod.h"

struct session_wish {
	enum pod_owner owner;
	const char *container;       /* ID or prefix */
	char *const *argv;           /* NULL: attach */
	bool tty;                    /* an exec gets a terminal; for an attach counts what the container has */
	bool in, out, err;           /* err is left out with a tty */
	bool paced;                  /* attach: see above */
	bool early;                  /* attach to a created container: only control is there at first, and brings
				      * the rest when it is started (monitor/session.h); for who will own the fds */
	unsigned width, height;      /* of an exec's terminal at its birth; 0: not known */
};

struct session {
	int in;                      /* -1: not wished, or the container takes no (more) stdin: drop what comes */
	int out, err;                /* -1: not wished */
	int tty;                     /* for session_resize(); -1: none */
	int control;                 /* to be polled only */
};
#define SESSION_NONE { .in = -1, .out = -1, .err = -1, .tty = -1, .control = -1 }

/* Runs a command in a running container, with its process's user, folder and environment. ERR_NOT_FOUND: the
 * container, or the program in it; ERR_STATE: it does not run; ERR_UNIMPLEMENTED: its knarr-pod is older. */
int session_exec(struct pods *ps, struct call *c, const struct session_wish *w, struct session *out, struct err *e);
int session_attach(struct pods *ps, struct call *c, const struct session_wish *w, struct session *out,
		   struct err *e);

/* Of the terminal, at any moment; the foreground process hears of it. ERR_STATE: there is none. */
int session_resize(const struct session *s, unsigned width, unsigned height, struct err *e);
void session_close_in(struct session *s);
/* Once control is readable; does not block. *exit_code of the exec, or of the container it was attached to.
 * ERR_STATE: it has not ended; ERR_EXHAUSTED: an attach that was too slow; ERR_UNAVAILABLE: knarr-pod has
 * ended, and the container with it. */
int session_result(const struct session *s, int *exit_code, struct err *e);
/* Closes all. An exec that still runs is killed with all that it has started; a container goes on. */
void session_end(struct session *s);
#define auto_session AUTO(session_end) struct session

/* A TCP connection to localhost:port in the pod's network namespace, by IPv4, else by IPv6; non-blocking.
 * ERR_UNAVAILABLE: nobody listens there. ERR_STATE: the pod is not ready. */
int session_port(struct pods *ps, struct call *c, enum pod_owner owner, const char *pod_id, uint16_t port,
		 int *fd, struct err *e);

#endif
