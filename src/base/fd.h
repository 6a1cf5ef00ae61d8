/* File descriptors: every one is close-on-exec from birth and lives in an `auto_fd` or in one struct
 * field that owns it. -1 means none. */
#ifndef KNARR_BASE_FD_H
#define KNARR_BASE_FD_H

#include "base/buf.h"
#include "base/err.h"

#include <sys/types.h>

void fd_close(int *fd); /* keeps errno; *fd becomes -1 */
#define auto_fd AUTO(fd_close)

/* Moves the fd out of an auto_ variable: `*out = fd_take(&fd);` */
static inline int fd_take(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

/* openat with O_CLOEXEC added; dirfd may be AT_FDCWD. Returns the fd, -1 with *e naming the path.
 * Mode 0600 for O_CREAT unless fd_create is used. */
int fd_open(int dirfd, const char *path, int flags, struct err *e);
int fd_create(int dirfd, const char *path, int flags, unsigned mode, struct err *e);

/* Writes or reads all n bytes, through EINTR and short counts. fd_read_full: ERR_DATA_LOSS where the
 * file ends earlier. Block as the fd does. */
int fd_write_all(int fd, const void *bytes, size_t n, struct err *e);
int fd_read_full(int fd, void *bytes, size_t n, struct err *e);
/* Reads to the end of file into b; ERR_EXHAUSTED past b's maximum. */
int fd_read_to_end(int fd, struct buf *b, struct err *e);

int fd_set_nonblocking(int fd, struct err *e);
int fd_pipe(int *read_end, int *write_end, struct err *e);

enum { FD_PASS_MAX = 250 }; /* the kernel's SCM_MAX_FD is 253 */
/* One message with fds over a unix socket (SOCK_SEQPACKET or SOCK_STREAM). fd_send_msg sends all or
 * fails. fd_recv_msg returns the bytes read (0: the peer closed), -1 on error; the received fds are
 * close-on-exec and the caller's; *nfds says how many room there is, then how many came. A message
 * cut by the kernel (too long, too many fds) is ERR_DATA_LOSS and none of its fds stays open. */
int fd_send_msg(int sock, const void *bytes, size_t n, const int *fds, size_t nfds, struct err *e);
ssize_t fd_recv_msg(int sock, void *bytes, size_t max, int *fds, size_t *nfds, struct err *e);

/* Closes an fd whose end the caller need not wait for: that of a detached mount waits for an RCU grace period (0.05 to
 * 20 ms). Left as garbage among the kernel's unix sockets, it is closed by a thread of the kernel's own (since Linux
 * 6.10; before, and where that fails, it is a plain close). */
void fd_close_later(int *fd);

/* A sealed memfd with these bytes, read position 0. */
int fd_memfd(const char *name, const void *bytes, size_t n, struct err *e);

#endif
