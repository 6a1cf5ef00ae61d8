#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

void fd_close(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		(void)close(*fd); /* nothing to do about it: the fd is gone either way */
	*fd = -1;
	errno = saved;
}

int fd_create(int dirfd, const char *path, int flags, unsigned mode, struct err *e)
{
	int fd;

	do {
		fd = openat(dirfd, path, flags | O_CLOEXEC, mode);
	} while (fd < 0 && errno == EINTR);
	if (fd < 0)
		return err_sys(e, errno, "open %s", path);
	return fd;
}

int fd_open(int dirfd, const char *path, int flags, struct err *e)
{
	return fd_create(dirfd, path, flags, 0600, e);
}

int fd_write_all(int fd, const void *bytes, size_t n, struct err *e)
{
	const char *p = bytes;

	while (n) {
		ssize_t w = write(fd, p, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0)
			return err_sys(e, errno, "write %zu bytes", n);
		p += w;
		n -= (size_t)w;
	}
	return 0;
}

int fd_read_full(int fd, void *bytes, size_t n, struct err *e)
{
	char *p = bytes;

	while (n) {
		ssize_t r = read(fd, p, n);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return err_sys(e, errno, "read %zu bytes", n);
		if (r == 0)
			return err_set(e, ERR_DATA_LOSS, "ended %zu bytes early", n);
		p += r;
		n -= (size_t)r;
	}
	return 0;
}

int fd_read_to_end(int fd, struct buf *b, struct err *e)
{
	for (;;) {
		size_t room = MIN(b->max - b->len, (size_t)16384);
		ssize_t r;
		char one;

		if (!room) { /* full: is there anything more? */
			r = read(fd, &one, 1);
			if (r < 0 && errno == EINTR)
				continue;
			if (r == 0)
				return 0;
			return r < 0 ? err_sys(e, errno, "read")
				     : err_set(e, ERR_EXHAUSTED, "more than %zu bytes", b->max);
		}
		if (buf_reserve(b, room, e) < 0)
			return -1;
		r = read(fd, b->p + b->len, room);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return err_sys(e, errno, "read");
		b->len += (size_t)r;
		b->p[b->len] = '\0';
		if (r == 0)
			return 0;
	}
}

int fd_set_nonblocking(int fd, struct err *e)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return err_sys(e, errno, "set O_NONBLOCK");
	return 0;
}

int fd_pipe(int *read_end, int *write_end, struct err *e)
{
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return err_sys(e, errno, "pipe");
	*read_end = p[0];
	*write_end = p[1];
	return 0;
}

union fd_control {
	struct cmsghdr header;
	char space[CMSG_SPACE(sizeof(int) * FD_PASS_MAX)];
};

int fd_send_msg(int sock, const void *bytes, size_t n, const int *fds, size_t nfds, struct err *e)
{
	struct iovec iov = { .iov_base = (void *)bytes, .iov_len = n };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	union fd_control control;
	ssize_t sent;

	BUG_ON(nfds > FD_PASS_MAX || !n);
	if (nfds) {
		msg.msg_control = control.space;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * nfds);
		memset(control.space, 0, msg.msg_controllen);
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(sizeof(int) * nfds);
		memcpy(CMSG_DATA(&control.header), fds, sizeof(int) * nfds);
	}
	do {
		sent = sendmsg(sock, &msg, MSG_NOSIGNAL);
	} while (sent < 0 && errno == EINTR);
	if (sent < 0)
		return err_sys(e, errno, "send a message of %zu bytes", n);
	if ((size_t)sent < n)
		return fd_write_all(sock, (const char *)bytes + sent, n - (size_t)sent, e);
	return 0;
}

/* A socket in its own queue is what the kernel's collector looks for; what is in the queue with it goes too. */
void fd_close_later(int *fd)
{
	struct err ignored;
	int pair[2];

	if (*fd < 0)
		return;
	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) == 0) {
		(void)fd_send_msg(pair[1], "", 1, (int[]){ pair[0], *fd }, 2, &ignored);
		fd_close(&pair[0]);
		fd_close(fd);
		fd_close(&pair[1]); /* that begins the collection */
	}
	fd_close(fd);
}

static void close_received(struct msghdr *msg)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			fd_close(&fd);
		}
	}
}

ssize_t fd_recv_msg(int sock, void *bytes, size_t max, int *fds, size_t *nfds, struct err *e)
{
	struct iovec iov = { .iov_base = bytes, .iov_len = max };
	union fd_control control;
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space,
			      .msg_controllen = sizeof(control.space) };
	size_t room = nfds ? *nfds : 0, count = 0;
	struct cmsghdr *c;
	ssize_t got;

	do {
		got = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return err_sys(e, errno, "receive a message");
	c = CMSG_FIRSTHDR(&msg);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
		count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	if (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC) || count > room) {
		close_received(&msg);
		return err_set(e, ERR_DATA_LOSS, "a message was longer than %zu bytes or had more than %zu fds",
			       max, room);
	}
	if (count)
		memcpy(fds, CMSG_DATA(c), count * sizeof(int));
	if (nfds)
		*nfds = count;
	return got;
}

int fd_memfd(const char *name, const void *bytes, size_t n, struct err *e)
{
	auto_fd int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return err_sys(e, errno, "memfd_create %s", name);
	if (fd_write_all(fd, bytes, n, e) < 0)
		return err_in(e, "memfd %s", name);
	if (lseek(fd, 0, SEEK_SET) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
		return err_sys(e, errno, "seal memfd %s", name);
	return fd_take(&fd);
}
