#include "cli/session.h"

#include "base/fd.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { LETTERS_MAX = 8, FILES_AT_ONCE = 200 };

/* What knarrd hands over comes on a socket of ours, under a name that the kernel gives it. */
struct inbox {
	int fd;
	char name[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];
};

static void inbox_close(struct inbox *i)
{
	fd_close(&i->fd);
}
#define auto_inbox AUTO(inbox_close) struct inbox

static int inbox_open(struct inbox *out, struct err *e)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	socklen_t n = sizeof(at);

	out->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (out->fd < 0 || bind(out->fd, (struct sockaddr *)&at, sizeof(sa_family_t)) < 0 || listen(out->fd, 8) < 0 ||
	    getsockname(out->fd, (struct sockaddr *)&at, &n) < 0)
		return err_sys(e, errno, "make a socket for the session");
	n -= (socklen_t)offsetof(struct sockaddr_un, sun_path) + 1;
	memcpy(out->name, at.sun_path + 1, n);
	out->name[n] = '\0';
	return 0;
}

/* Anybody may connect to such a name; only root's word counts, or that of who runs us. */
static bool is_trusted(int fd)
{
	struct ucred peer;
	socklen_t n = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0 && (peer.uid == 0 || peer.uid == geteuid());
}

/* knarrd has answered: it is there. */
static int inbox_accept(struct inbox *i, int *out, struct err *e)
{
	for (;;) {
		auto_fd int fd = accept4(i->fd, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0 && errno == EINTR)
			continue;
		if (fd < 0)
			return err_sys(e, errno, "knarrd handed nothing over");
		if (!is_trusted(fd))
			continue;
		*out = fd_take(&fd);
		return 0;
	}
}

static int inbox_take(struct inbox *i, char *letters, int *fds, size_t *n, struct err *e)
{
	auto_fd int fd = -1;
	ssize_t got;

	if (inbox_accept(i, &fd, e) < 0)
		return -1;
	*n = LETTERS_MAX;
	got = fd_recv_msg(fd, letters, LETTERS_MAX, fds, n, e);
	if (got < 0)
		return err_in(e, "take the session over");
	if ((size_t)got == *n)
		return 0;
	for (size_t k = 0; k < *n; k++)
		fd_close(&fds[k]);
	return err_set(e, ERR_INTERNAL, "knarrd handed over something else than a session");
}

static int inbox_take_one(struct inbox *i, char letter, int *out, struct err *e)
{
	char letters[LETTERS_MAX];
	int fds[LETTERS_MAX];
	size_t n;

	if (inbox_take(i, letters, fds, &n, e) < 0)
		return -1;
	if (n == 1 && letters[0] == letter) {
		*out = fds[0];
		return 0;
	}
	for (size_t k = 0; k < n; k++)
		fd_close(&fds[k]);
	return err_set(e, ERR_INTERNAL, "knarrd handed over something else than what was asked for");
}

static int inbox_session(struct inbox *i, struct monitor_session *out, struct err *e)
{
	struct monitor_session s = MONITOR_SESSION_NONE;
	char letters[LETTERS_MAX];
	int fds[LETTERS_MAX];
	size_t n;

	if (inbox_take(i, letters, fds, &n, e) < 0)
		return -1;
	for (size_t k = 0; k < n; k++) {
		int *place = letters[k] == 'i' ? &s.in : letters[k] == 'o' ? &s.out : letters[k] == 'e' ? &s.err :
			     letters[k] == 't' ? &s.tty : letters[k] == 'c' ? &s.control : NULL;

		if (place && *place < 0)
			*place = fd_take(&fds[k]);
		fd_close(&fds[k]);
	}
	if (s.control < 0) {
		monitor_session_close(&s);
		return err_set(e, ERR_INTERNAL, "knarrd handed over a session without its control");
	}
	*out = s;
	return 0;
}

int session_open_exec(struct cli *cli, Knarr__V1__OpenExecRequest *in, struct monitor_session *out, struct err *e)
{
	auto_inbox box = { .fd = -1 };
	Knarr__V1__OpenExecResponse *answer;

	if (inbox_open(&box, e) < 0)
		return -1;
	in->socket = box.name;
	if (KNARR(cli->client, cli->call, OpenExec, open_exec, in, &answer, e) < 0)
		return -1;
	return inbox_session(&box, out, e);
}

int session_open_attach(struct cli *cli, Knarr__V1__OpenAttachRequest *in, struct monitor_session *out, struct err *e)
{
	auto_inbox box = { .fd = -1 };
	Knarr__V1__OpenAttachResponse *answer;

	if (inbox_open(&box, e) < 0)
		return -1;
	in->socket = box.name;
	if (KNARR(cli->client, cli->call, OpenAttach, open_attach, in, &answer, e) < 0)
		return -1;
	return inbox_session(&box, out, e);
}

int session_open_port(struct client *client, struct call *c, const char *pod_id, unsigned port, int *out, struct err *e)
{
	Knarr__V1__OpenPortRequest in = KNARR__V1__OPEN_PORT_REQUEST__INIT;
	auto_inbox box = { .fd = -1 };
	Knarr__V1__OpenPortResponse *answer;

	if (inbox_open(&box, e) < 0)
		return -1;
	in.pod_id = (char *)pod_id;
	in.port = port;
	in.socket = box.name;
	if (KNARR(client, c, OpenPort, open_port, &in, &answer, e) < 0)
		return -1;
	return inbox_take_one(&box, 'p', out, e);
}

int session_open_blob(struct cli *cli, const char *image, const char *digest, int *fd, struct err *e)
{
	Knarr__V1__OpenBlobRequest in = KNARR__V1__OPEN_BLOB_REQUEST__INIT;
	auto_inbox box = { .fd = -1 };
	Knarr__V1__OpenBlobResponse *answer;

	if (inbox_open(&box, e) < 0)
		return -1;
	in.image = (char *)image;
	in.digest = (char *)digest;
	in.socket = box.name;
	if (KNARR(cli->client, cli->call, OpenBlob, open_blob, &in, &answer, e) < 0)
		return -1;
	return inbox_take_one(&box, 'b', fd, e);
}

struct loading {
	struct inbox box;
	const struct session_files *files;
	int (*each)(void *ctx, const ProtobufCMessage *m, struct err *e);
	void *ctx;
};

static int give_files(struct loading *l, struct err *e)
{
	auto_fd int fd = -1;

	if (inbox_accept(&l->box, &fd, e) < 0)
		return -1;
	for (size_t done = 0; done < l->files->n;) {
		size_t n = MIN(l->files->n - done, (size_t)FILES_AT_ONCE);

		if (fd_send_msg(fd, "f", 1, l->files->fd + done, n, e) < 0)
			return err_in(e, "hand the files to knarrd");
		done += n;
	}
	return 0;
}

static int loading_message(void *ctx, const ProtobufCMessage *m, struct err *e)
{
	struct loading *l = ctx;

	return ((const Knarr__V1__PullImageProgress *)m)->wants_files ? give_files(l, e) : l->each(l->ctx, m, e);
}

int session_load(struct cli *cli, Knarr__V1__LoadImageRequest *in, const struct session_files *files,
		 int (*each)(void *ctx, const ProtobufCMessage *m, struct err *e), void *ctx, struct err *e)
{
	struct loading l = { .box = { .fd = -1 }, .files = files, .each = each, .ctx = ctx };
	int rc;

	if (inbox_open(&l.box, e) < 0)
		return -1;
	in->socket = l.box.name;
	in->files = (uint32_t)files->n;
	rc = client_stream(cli->client, cli->call, "/knarr.v1.Knarr/LoadImage", &in->base,
			   &knarr__v1__pull_image_progress__descriptor, loading_message, &l, e);
	inbox_close(&l.box);
	return rc;
}
