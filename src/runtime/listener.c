#include "runtime/listener.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { NOT_YET = -1, FAILED = -2 };
static const int64_t patience_ns = 30 * NS_PER_S; /* of a process whose parent is gone */

struct listener_page {
	atomic_int fd;                  /* the child's number of the listener */
	atomic_int taken;
};

struct listener_page *listener_page_new(struct err *e)
{
	struct listener_page *page = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED) {
		(void)err_sys(e, errno, "map a page");
		return NULL;
	}
	atomic_store(&page->fd, NOT_YET);
	return page;
}

void listener_page_drop(struct listener_page *page)
{
	if (page)
		(void)munmap(page, sizeof(*page)); /* ours: it cannot fail */
}

/* No system call: clock_gettime is the vDSO's. */
static void wait_taken(struct listener_page *page)
{
	int64_t end = clock_mono_ns() + patience_ns;

	for (unsigned i = 1; !atomic_load(&page->taken); i++)
		if (i % 4096 == 0 && clock_mono_ns() > end)
			_exit(127);
}

int listener_load(struct listener_page *page, const struct seccomp_filter *f, unsigned flags, struct err *e)
{
	struct sock_fprog program = { .len = f->count, .filter = f->p };
	long fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);

	if (fd < 0) {
		(void)err_sys(e, errno, "load the seccomp filter (%u instructions, with a listener)", f->count);
		atomic_store(&page->fd, FAILED);
		return -1;
	}
	atomic_store(&page->fd, (int)fd);
	wait_taken(page);
	return 0;
}

int listener_take(struct listener_page *page, int pidfd, int *out, struct err *e)
{
	struct pollfd end = { pidfd, POLLIN, 0 };
	int fd, got;

	while ((fd = atomic_load(&page->fd)) == NOT_YET) {
		struct timespec pause = { .tv_nsec = 20000 };

		if (poll(&end, 1, 0) > 0)
			return err_set(e, ERR_STATE, "the container's process ended before its seccomp filter was loaded");
		(void)nanosleep(&pause, NULL);
	}
	if (fd == FAILED)
		return err_set(e, ERR_STATE, "the seccomp filter was not loaded");
	got = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	if (got < 0)
		return err_sys(e, errno, "take the seccomp listener");
	atomic_store(&page->taken, 1);
	*out = got;
	return 0;
}

int listener_connect(const char *path, int *out, struct err *e)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	auto_fd int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof(to.sun_path))
		return err_set(e, ERR_INVALID, "linux.seccomp.listenerPath: too long for a socket: \"%s\"", path);
	memcpy(to.sun_path, path, strlen(path) + 1);
	if (s < 0 || connect(s, (struct sockaddr *)&to, sizeof(to)) < 0)
		return err_sys(e, errno, "linux.seccomp.listenerPath: connect to %s", path);
	*out = fd_take(&s);
	return 0;
}

static int write_report(struct buf *b, const struct listener_report *r, struct err *e)
{
	if (buf_addf(b, e, "{\"ociVersion\":\"%s\",\"fds\":[\"seccompFd\"],\"pid\":%d,", r->state->oci_version, r->pid) < 0)
		return -1;
	if (!str_is_empty(r->metadata) &&
	    (buf_addz(b, "\"metadata\":", e) < 0 || json_write_text(b, r->metadata, e) < 0 || buf_addz(b, ",", e) < 0))
		return -1;
	if (buf_addz(b, "\"state\":", e) < 0 || oci_state_write(b, r->state, e) < 0)
		return -1;
	return buf_addz(b, "}", e);
}

int listener_send(int socket_fd, int listener, const struct listener_report *r, struct err *e)
{
	auto_buf b = BUF(1 << 20);

	if (write_report(&b, r, e) < 0 || fd_send_msg(socket_fd, b.p, b.len, &listener, 1, e) < 0)
		return err_in(e, "linux.seccomp.listenerPath");
	return 0;
}
