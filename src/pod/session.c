#include "pod/session.h"

#include "base/fd.h"

#include <errno.h>
#include <sys/ioctl.h>

int session_exec(UNUSED struct pods *ps, UNUSED struct call *c, const struct session_wish *w, UNUSED struct session *out,
		 struct err *e)
{
	return err_set(e, ERR_UNIMPLEMENTED, "container %s: no exec sessions", w->container);
}

int session_attach(UNUSED struct pods *ps, UNUSED struct call *c, const struct session_wish *w,
		   UNUSED struct session *out, struct err *e)
{
	return err_set(e, ERR_UNIMPLEMENTED, "container %s: no attach sessions", w->container);
}

int session_resize(const struct session *s, unsigned width, unsigned height, struct err *e)
{
	struct winsize size = { .ws_col = (unsigned short)MIN(width, UINT16_MAX),
				.ws_row = (unsigned short)MIN(height, UINT16_MAX) };

	if (s->tty < 0)
		return err_set(e, ERR_STATE, "the session has no terminal");
	return ioctl(s->tty, TIOCSWINSZ, &size) < 0 ? err_sys(e, errno, "resize the terminal") : 0;
}

void session_close_in(struct session *s)
{
	fd_close(&s->in);
}

int session_result(UNUSED const struct session *s, UNUSED int *exit_code, struct err *e)
{
	return err_set(e, ERR_STATE, "the session has not ended");
}

void session_end(struct session *s)
{
	fd_close(&s->in);
	fd_close(&s->out);
	fd_close(&s->err);
	fd_close(&s->tty);
	fd_close(&s->control);
}

int session_port(UNUSED struct pods *ps, UNUSED struct call *c, UNUSED enum pod_owner owner, const char *pod_id,
		 uint16_t port, UNUSED int *fd, struct err *e)
{
	return err_set(e, ERR_UNIMPLEMENTED, "pod %s: no connection to port %u", pod_id, port);
}
