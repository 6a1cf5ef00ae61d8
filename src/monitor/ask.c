#include "monitor/ask.h"

#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

enum { FIXED_BYTES = 8 * 1024, FIELD_BYTES = 16 };

void ask_begin(struct call *c, struct ask *q, unsigned op, size_t extra)
{
	size_t max = FIXED_BYTES + FD_PASS_MAX * 2 * FIELD_BYTES + extra;

	q->nfds = 0;
	q->too_many = false;
	message_begin(&q->w, arena_alloc(&c->arena, max), max, op, 0);
}

void ask_fd(struct ask *q, unsigned tag, int fd)
{
	if (fd < 0)
		return;
	if (q->nfds == FD_PASS_MAX) {
		q->too_many = true;
		return;
	}
	message_add_number(&q->w, tag, q->nfds);
	q->fds[q->nfds++] = fd;
}

void answer_free(struct answer *a)
{
	for (size_t i = 0; i < a->nfds; i++)
		fd_close(&a->fds[i]);
	a->nfds = 0;
}

int answer_take_fd(struct answer *a, unsigned tag)
{
	uint64_t i = message_number(&a->m, tag, UINT64_MAX);

	return i < a->nfds ? fd_take(&a->fds[i]) : -1;
}

int ask_connect(struct call *c, int run_dirfd, int *out, struct err *e)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	auto_fd int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return err_sys(e, errno, "socket");
	(void)snprintf(at.sun_path, sizeof(at.sun_path), "/proc/self/fd/%d/" MONITOR_SOCKET, run_dirfd);
	while (connect(fd, (struct sockaddr *)&at, sizeof(at)) < 0) {
		if (errno == EAGAIN) { /* its queue is full: it works at something */
			if (call_sleep(c, NS_PER_MS, e) < 0)
				return err_in(e, "connect to knarr-pod");
			continue;
		}
		if (errno == EINTR)
			continue;
		err_sys(e, errno, "connect to knarr-pod");
		return e->sys == ECONNREFUSED || e->sys == ENOENT ? err_kind_to(e, ERR_UNAVAILABLE) : -1;
	}
	*out = fd_take(&fd);
	return 0;
}

/* Fields too long for a packet travel in a memfd, as the first fd: no other may be named then. */
static int send_in_file(int fd, const struct ask *q, struct str packet, struct err *e)
{
	struct message_writer head;
	char space[MESSAGE_HEADER_BYTES];
	auto_fd int file = -1;
	struct message m;
	struct str bytes;

	if (q->nfds)
		return err_set(e, ERR_EXHAUSTED, "a message of %zu bytes with fds", packet.len);
	if (packet.len > MESSAGE_BODY_MAX)
		return err_set(e, ERR_EXHAUSTED, "a message of %zu bytes; at most %d", packet.len,
			       MESSAGE_BODY_MAX);
	if (message_parse(packet, &m, e) < 0)
		return -1;
	file = fd_memfd("knarr-message", m.fields.p, m.fields.len, e);
	if (file < 0)
		return -1;
	message_begin(&head, space, sizeof(space), m.op, MESSAGE_BODY_IN_FD);
	if (message_finish(&head, &bytes, e) < 0)
		return -1;
	return fd_send_msg(fd, bytes.p, bytes.len, &file, 1, e);
}

static int send_gone(struct err *e)
{
	if (e->sys == EPIPE || e->sys == ECONNRESET || e->sys == ECONNREFUSED)
		return err_set(e, ERR_UNAVAILABLE, "knarr-pod has ended");
	return -1;
}

int ask_send(struct call *c, int fd, struct ask *q, struct err *e)
{
	struct str packet;

	if (q->too_many)
		return err_set(e, ERR_EXHAUSTED, "more than %d fds for knarr-pod", FD_PASS_MAX);
	if (call_check(c, e) < 0 || message_finish(&q->w, &packet, e) < 0)
		return -1;
	/* A fresh connection has room for a packet: this does not block. */
	if (packet.len > MESSAGE_MAX ? send_in_file(fd, q, packet, e) < 0
				     : fd_send_msg(fd, packet.p, packet.len, q->fds, q->nfds, e) < 0)
		return send_gone(e);
	return 0;
}

int ask_receive(struct call *c, int fd, struct answer *out, struct err *e)
{
	char *packet = arena_alloc(&c->arena, MESSAGE_MAX);
	auto_answer a = { .nfds = 0 };
	ssize_t n;

	a.nfds = 0;
	if (io_wait(c, fd, POLLIN, e) < 0)
		return err_in(e, "wait for knarr-pod");
	a.nfds = ARRAY_SIZE(a.fds);
	n = fd_recv_msg(fd, packet, MESSAGE_MAX, a.fds, &a.nfds, e);
	if (n < 0) {
		a.nfds = 0;
		return send_gone(e);
	}
	if (n == 0)
		return err_set(e, ERR_UNAVAILABLE, "knarr-pod has ended");
	if (message_parse((struct str){ packet, (size_t)n }, &a.m, e) < 0)
		return err_in(e, "knarr-pod's answer");
	if (message_error(&a.m, e) < 0)
		return -1;
	*out = a;
	a.nfds = 0;
	return 0;
}

int ask_once(struct call *c, int run_dirfd, struct ask *q, struct answer *out, struct err *e)
{
	auto_fd int fd = -1;

	if (ask_connect(c, run_dirfd, &fd, e) < 0 || ask_send(c, fd, q, e) < 0)
		return -1;
	return ask_receive(c, fd, out, e);
}
