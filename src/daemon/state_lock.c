#include "daemon/state_lock.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#define PRIVATE_WORD "private\n"

/* A POSIX lock, since only that kind tells who has it. It would end with the first close of any fd of
 * the file, so nothing else in knarrd opens it. 0: taken; else the holder's pid. */
static int try_lock(int fd, const char *path, pid_t *holder, struct err *e)
{
	struct flock want = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	*holder = 0;
	if (fcntl(fd, F_SETLK, &want) == 0)
		return 0;
	if (errno != EACCES && errno != EAGAIN)
		return err_sys(e, errno, "lock %s", path);
	if (fcntl(fd, F_GETLK, &want) < 0)
		return err_sys(e, errno, "lock %s", path);
	*holder = want.l_type == F_UNLCK ? -1 : want.l_pid; /* -1: it has just ended */
	return 0;
}

static bool says_private(int fd)
{
	char word[sizeof(PRIVATE_WORD)] = "";

	return pread(fd, word, sizeof(word) - 1, 0) == (ssize_t)sizeof(PRIVATE_WORD) - 1 &&
	       memcmp(word, PRIVATE_WORD, sizeof(PRIVATE_WORD) - 1) == 0;
}

static void ask_to_hand_over(pid_t holder)
{
	struct err e;
	auto_fd int pidfd = proc_pidfd_open(holder, &e);

	log_info("a private knarrd hands over pid=%d", (int)holder);
	if (pidfd < 0 || proc_signal(pidfd, SIGTERM, &e) < 0)
		log_warn("ask the private knarrd to end: %s", e.msg);
}

/* Waits for the lock of a holder that ends, or is asked to. */
static int lock_in_time(struct call *c, int fd, const char *path, unsigned flags, struct err *e)
{
	pid_t holder, asked = 0;

	for (;;) {
		if (try_lock(fd, path, &holder, e) < 0)
			return -1;
		if (!holder)
			return 0;
		if (holder > 0 && ((flags & STATE_LOCK_PRIVATE) || (!asked && !says_private(fd))))
			return err_set(e, ERR_UNAVAILABLE, "another knarrd works in this root folder: pid %d has %s",
				       (int)holder, path);
		/* Between two looks a command may have started another private knarrd: it is asked as well. */
		if (holder > 0 && holder != asked && says_private(fd)) {
			ask_to_hand_over(holder);
			asked = holder;
		}
		if (call_sleep(c, 20 * NS_PER_MS, e) < 0)
			return err_in(e, "wait for the knarrd with pid %d to end", (int)holder);
	}
}

int state_lock(struct call *c, const char *root, unsigned flags, int *out, struct err *e)
{
	const char *path = path_join(&c->arena, root, "knarrd.lock");
	const char *word = flags & STATE_LOCK_PRIVATE ? PRIVATE_WORD : "service\n";
	auto_fd int fd = fd_create(AT_FDCWD, path, O_RDWR | O_CREAT, 0600, e);

	if (fd < 0 || lock_in_time(c, fd, path, flags, e) < 0)
		return -1;
	if (ftruncate(fd, 0) < 0 || pwrite(fd, word, strlen(word), 0) != (ssize_t)strlen(word))
		return err_sys(e, errno, "write %s", path);
	*out = fd_take(&fd);
	return 0;
}
