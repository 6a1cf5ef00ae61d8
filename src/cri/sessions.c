/* Sessions for the user's command: the fds go to the socket that it listens on, and no byte of the session comes
 * this way, nor does a worker wait for its end. */
#include "cri/parts.h"

#include "base/fd.h"
#include "knarr.pb-c.h"
#include "pod/session.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* What is handed over: a letter for each fd, in order. */
struct parcel {
	char letters[8];
	int fds[8];
	size_t n;
};

static void parcel_add(struct parcel *p, char letter, int fd)
{
	if (fd < 0)
		return;
	p->letters[p->n] = letter;
	p->fds[p->n++] = fd;
}

/* A name in the abstract namespace: it needs no folder that both can write, and leaves no file. */
int socket_of_caller(const char *name, int *out, struct err *e)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	auto_fd int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	size_t n = strlen(name);

	if (fd < 0)
		return err_sys(e, errno, "socket");
	if (!n || n >= sizeof(to.sun_path))
		return err_set(e, ERR_INVALID, "socket: a name of %zu bytes", n);
	memcpy(to.sun_path + 1, name, n);
	if (connect(fd, (struct sockaddr *)&to, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + n)) < 0) {
		(void)err_sys(e, errno, "hand the session over to the socket @%s of whoever asked for it (it must be in "
			      "knarrd's network namespace)", name);
		return err_kind_to(e, ERR_STATE);
	}
	*out = fd_take(&fd);
	return 0;
}

static int hand_over(const char *name, const struct parcel *p, struct err *e)
{
	auto_fd int fd = -1;

	if (socket_of_caller(name, &fd, e) < 0)
		return -1;
	return fd_send_msg(fd, p->letters, p->n, p->fds, p->n, e);
}

int hand_over_one(const char *name, char letter, int one, struct err *e)
{
	struct parcel p = { .n = 0 };

	parcel_add(&p, letter, one);
	return hand_over(name, &p, e);
}

static int session_hand_over(const char *socket, const struct session *s, struct err *e)
{
	struct parcel p = { .n = 0 };

	parcel_add(&p, 'i', s->in);
	parcel_add(&p, 'o', s->out);
	parcel_add(&p, 'e', s->err);
	parcel_add(&p, 't', s->tty);
	parcel_add(&p, 'c', s->control);
	return hand_over(socket, &p, e);
}

CRI_METHOD(open_exec)
{
	const Knarr__V1__OpenExecRequest *in = (const Knarr__V1__OpenExecRequest *)request;
	const struct session_wish w = {
		.owner = owner_of(ctx), .container = in->container_id, .argv = strv_in(&c->arena, in->n_cmd, in->cmd),
		.tty = in->tty, .in = in->stdin, .out = in->stdout, .err = in->stderr, .width = in->width,
		.height = in->height,
	};
	auto_session s = SESSION_NONE;

	(void)response;
	if (require(in->container_id, "container_id", e) < 0)
		return -1;
	if (in->n_cmd == 0 || !*in->cmd[0])
		return err_set(e, ERR_INVALID, "cmd is empty");
	if (session_exec(cri_of(ctx)->pods, c, &w, &s, e) < 0)
		return -1;
	return session_hand_over(in->socket, &s, e);
}

CRI_METHOD(open_attach)
{
	const Knarr__V1__OpenAttachRequest *in = (const Knarr__V1__OpenAttachRequest *)request;
	const struct session_wish w = {
		.owner = owner_of(ctx), .container = in->container_id, .in = in->stdin, .out = in->stdout,
		.err = in->stderr, .early = in->early, .paced = true,
	};
	auto_session s = SESSION_NONE;

	(void)response;
	if (require(in->container_id, "container_id", e) < 0 || session_attach(cri_of(ctx)->pods, c, &w, &s, e) < 0)
		return -1;
	return session_hand_over(in->socket, &s, e);
}

CRI_METHOD(open_port)
{
	const Knarr__V1__OpenPortRequest *in = (const Knarr__V1__OpenPortRequest *)request;
	struct parcel p = { .n = 0 };
	auto_fd int fd = -1;

	(void)response;
	if (require(in->pod_id, "pod_id", e) < 0)
		return -1;
	if (in->port < 1 || in->port > UINT16_MAX)
		return err_set(e, ERR_INVALID, "port %u is none", in->port);
	if (session_port(cri_of(ctx)->pods, c, owner_of(ctx), in->pod_id, (uint16_t)in->port, &fd, e) < 0)
		return -1;
	parcel_add(&p, 'p', fd);
	return hand_over(in->socket, &p, e);
}
