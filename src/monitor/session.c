#include "monitor/session.h"

#include "monitor/ask.h"

#include <errno.h>
#include <sys/ioctl.h>

enum { END_MAX = 4096 };

void monitor_session_close(struct monitor_session *s)
{
	fd_close(&s->in);
	fd_close(&s->out);
	fd_close(&s->err);
	fd_close(&s->tty);
	fd_close(&s->control);
}

static void request_write(struct call *c, struct ask *q, const struct monitor_session_request *r)
{
	size_t extra = strlen(r->container_id);

	for (char *const *arg = r->argv; arg && *arg; arg++)
		extra += strlen(*arg) + 16;
	ask_begin(c, q, r->argv ? MONITOR_OP_EXEC_STREAM : MONITOR_OP_ATTACH, extra);
	message_add_text(&q->w, TAG_CONTAINER_ID, r->container_id);
	message_add_number(&q->w, TAG_FLAGS, r->flags);
	message_add_number(&q->w, TAG_WIDTH, r->width);
	message_add_number(&q->w, TAG_HEIGHT, r->height);
	for (char *const *arg = r->argv; arg && *arg; arg++)
		message_add_text(&q->w, TAG_ARG, *arg);
}

static void streams_take(struct answer *a, struct monitor_session *s)
{
	s->in = answer_take_fd(a, TAG_SESSION_IN_FD);
	s->out = answer_take_fd(a, TAG_SESSION_OUT_FD);
	s->err = answer_take_fd(a, TAG_SESSION_ERR_FD);
	s->tty = answer_take_fd(a, TAG_SESSION_TTY_FD);
}

int monitor_session_open(struct call *c, int run_dirfd, const struct monitor_session_request *r,
			 struct monitor_session *out, struct err *e)
{
	struct monitor_session s = MONITOR_SESSION_NONE;
	auto_answer a = { .nfds = 0 };
	auto_fd int control = -1;
	struct ask q;

	request_write(c, &q, r);
	if (ask_connect(c, run_dirfd, &control, e) < 0 || ask_send(c, control, &q, e) < 0 ||
	    ask_receive(c, control, &a, e) < 0)
		return -1;
	streams_take(&a, &s);
	s.control = fd_take(&control);
	*out = s;
	return 0;
}

int monitor_session_receive(struct call *c, struct monitor_session *s, struct err *e)
{
	auto_answer a = { .nfds = 0 };

	if (ask_receive(c, s->control, &a, e) < 0)
		return -1;
	streams_take(&a, s);
	return 0;
}

int monitor_session_result(int control, int *exit_code, struct err *e)
{
	char packet[END_MAX];
	struct message m;
	ssize_t n = fd_recv_msg(control, packet, sizeof(packet), NULL, NULL, e);

	if (n < 0 && e->sys == EAGAIN)
		return err_set(e, ERR_STATE, "the session has not ended");
	if (n <= 0)
		return err_set(e, ERR_UNAVAILABLE, "knarr-pod has ended");
	if (message_parse((struct str){ packet, (size_t)n }, &m, e) < 0)
		return err_in(e, "knarr-pod's answer");
	if (message_error(&m, e) < 0)
		return -1;
	*exit_code = (int)message_number(&m, TAG_EXIT_CODE, 255);
	return 0;
}

int monitor_session_resize(int tty, unsigned width, unsigned height, struct err *e)
{
	struct winsize size = { .ws_col = (unsigned short)MIN(width, (unsigned)UINT16_MAX),
				.ws_row = (unsigned short)MIN(height, (unsigned)UINT16_MAX) };

	if (tty < 0)
		return err_set(e, ERR_STATE, "the session has no terminal");
	return ioctl(tty, TIOCSWINSZ, &size) < 0 ? err_sys(e, errno, "resize the terminal") : 0;
}

int monitor_sockets(struct call *c, int run_dirfd, int *inet, int *inet6, struct err *e)
{
	auto_answer a = { .nfds = 0 };
	struct ask q;

	ask_begin(c, &q, MONITOR_OP_SOCKETS, 0);
	if (ask_once(c, run_dirfd, &q, &a, e) < 0)
		return -1;
	*inet = answer_take_fd(&a, TAG_INET_FD);
	*inet6 = answer_take_fd(&a, TAG_INET6_FD);
	return 0;
}
