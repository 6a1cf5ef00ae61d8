/* One question to a knarr-pod, and its answer. For client.c. */
#ifndef KNARR_MONITOR_ASK_H
#define KNARR_MONITOR_ASK_H

#include "base/call.h"
#include "base/fd.h"
#include "monitor/message.h"

#include <sys/socket.h>

#define MONITOR_SOCKET "monitor.sock"

/* A question being written, with the fds that go with it (lent). */
struct ask {
	struct message_writer w;
	int fds[FD_PASS_MAX];
	size_t nfds;
	bool too_many;
};
/* extra: bytes of text beyond the fixed fields that are to come. */
void ask_begin(struct call *c, struct ask *q, unsigned op, size_t extra);
/* A field that names the fd; -1 is left out. */
void ask_fd(struct ask *q, unsigned tag, int fd);

/* The answer's fds belong to whoever has the struct. */
struct answer {
	struct message m;
	int fds[8];
	size_t nfds;
};
void answer_free(struct answer *a);
#define auto_answer AUTO(answer_free) struct answer
/* The fd that a field names, the caller's then; -1: none. */
int answer_take_fd(struct answer *a, unsigned tag);

/* ERR_UNAVAILABLE: nobody listens. *fd is the caller's. */
int ask_connect(struct call *c, int run_dirfd, int *fd, struct err *e);
int ask_send(struct call *c, int fd, struct ask *q, struct err *e);
/* Waits for one message. The error of an answer that is one; ERR_UNAVAILABLE: the connection ended. */
int ask_receive(struct call *c, int fd, struct answer *out, struct err *e);
/* All three on a connection of its own. */
int ask_once(struct call *c, int run_dirfd, struct ask *q, struct answer *out, struct err *e);

#endif
