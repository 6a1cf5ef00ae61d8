/* Sessions of exec, attach and run: the command holds the container's own pipes or terminal and moves bytes between
 * them and its stdin, stdout and stderr. knarrd is asked for the fds alone (docs/inside/sessions.md). */
#ifndef KNARR_CLI_SESSION_H
#define KNARR_CLI_SESSION_H

#include "cli/cli.h"
#include "knarr.pb-c.h"
#include "monitor/session.h"

/* The request's socket is filled in here. */
int session_open_exec(struct cli *cli, Knarr__V1__OpenExecRequest *in, struct monitor_session *out, struct err *e);
int session_open_attach(struct cli *cli, Knarr__V1__OpenAttachRequest *in, struct monitor_session *out, struct err *e);
/* A connection to a port of a pod, non-blocking. */
int session_open_port(struct client *client, struct call *c, const char *pod_id, unsigned port, int *out, struct err *e);

/* A blob of an image, for reading; the caller owns *fd. */
int session_open_blob(struct cli *cli, const char *image, const char *digest, int *fd, struct err *e);
/* LoadImage with these files, which stay ours: the request's socket and count are filled in here, `each` sees the
 * progress. */
struct session_files {
	const int *fd;
	size_t n;
};
int session_load(struct cli *cli, Knarr__V1__LoadImageRequest *in, const struct session_files *files,
		 int (*each)(void *ctx, const ProtobufCMessage *m, struct err *e), void *ctx, struct err *e);

/* --- the relay ------------------------------------------------------------------------------------------------ */

/* Signals as a readable fd: all those that end or resize. Blocked in all threads from then on. */
int session_signals(struct err *e);

/* The signal that the fd had, as an exit status; 0: one that does not end a program. */
int session_signal_taken(int signal_fd);

struct relay {
	struct cli *cli;
	struct monitor_session *session;
	int signal_fd;
	bool is_exec;           /* it ends with us: nothing to detach from */
	/* What to do with a signal that asks to end; NULL: the relay ends with 128 + its number. */
	void (*on_signal)(void *ctx, int signal);
	void *ctx;
};
enum relay_end { RELAY_ENDED, RELAY_DETACHED, RELAY_SIGNALLED };
/* Until the session's end, the detach keys (Ctrl-P Ctrl-Q, on a terminal) or a signal. *code: the exit code, or the
 * signal. With a terminal on both sides ours is raw meanwhile, and as it was on every way out. */
int relay_run(struct relay *r, enum relay_end *end, int *code, struct err *e);

/* A container that this command is with: its output here, our signals there (twice SIGINT: it is killed), its exit
 * code ours. */
struct attended {
	const char *container_id;
	int signal_fd;
	struct monitor_session *session;
	bool detached;          /* out: by the keys; it goes on */
};
int attend(struct cli *cli, struct attended *a, struct err *e); /* the status to end with */

/* --- our terminal ----------------------------------------------------------------------------------------------- */

/* Raw until terminal_restore(), which a signal that ends the program does as well. Neither does anything where fd
 * is no terminal. */
void terminal_raw(int fd);
void terminal_restore(void);
bool terminal_size(unsigned *width, unsigned *height);

#endif
