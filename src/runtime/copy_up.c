#include "runtime/copy_up.h"

#include "base/fd.h"
#include "base/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { DEPTH_MAX = 24, LIST_BYTES = 2048, CHUNK = 1 << 30 };

static int copy_below(int from, int to, int depth, struct err *e);

/* The mode last: a change of owner takes setuid away. */
static int set_owner(int to, const char *name, const struct stat *st, struct err *e)
{
	if (fchownat(to, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0 && errno != EPERM && errno != EINVAL)
		return err_sys(e, errno, "give %s to its owner", name);
	if (S_ISLNK(st->st_mode))
		return 0;
	return fchmodat(to, name, st->st_mode & 07777, 0) < 0 ? err_sys(e, errno, "set the mode of %s", name) : 0;
}

static int copy_file(int from, int to, const char *name, struct err *e)
{
	auto_fd int in = openat(from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC), out = -1;
	ssize_t n;

	if (in < 0)
		return err_sys(e, errno, "open %s", name);
	out = openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (out < 0)
		return err_sys(e, errno, "make %s", name);
	do {
		n = sendfile(out, in, NULL, CHUNK);
	} while (n > 0 || (n < 0 && errno == EINTR));
	return n < 0 ? err_sys(e, errno, "copy %s", name) : 0;
}

static int copy_link(int from, int to, const char *name, struct err *e)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(from, name, target, sizeof(target) - 1);

	if (n < 0)
		return err_sys(e, errno, "read the link %s", name);
	target[n] = '\0';
	return symlinkat(target, to, name) < 0 ? err_sys(e, errno, "link %s", name) : 0;
}

static int copy_sub(int from, int to, const char *name, int depth, struct err *e)
{
	auto_fd int in = openat(from, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), out = -1;

	if (in < 0)
		return err_sys(e, errno, "open %s", name);
	if (mkdirat(to, name, 0700) < 0)
		return err_sys(e, errno, "make %s", name);
	out = openat(to, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (out < 0)
		return err_sys(e, errno, "open %s", name);
	return copy_below(in, out, depth + 1, e);
}

static int copy_one(int from, int to, const char *name, int depth, struct err *e)
{
	struct stat st;
	int rc;

	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys(e, errno, "stat %s", name);
	switch (st.st_mode & S_IFMT) {
	case S_IFREG:
		rc = copy_file(from, to, name, e);
		break;
	case S_IFDIR:
		rc = copy_sub(from, to, name, depth, e);
		break;
	case S_IFLNK:
		rc = copy_link(from, to, name, e);
		break;
	default:
		rc = mknodat(to, name, st.st_mode, st.st_rdev) < 0 ? err_sys(e, errno, "make %s", name) : 0;
		break;
	}
	return rc < 0 ? -1 : set_owner(to, name, &st, e);
}

/* What getdents64 fills. */
struct entry {
	uint64_t inode;
	int64_t next;
	unsigned short bytes;
	unsigned char type;
	char name[];
};

static int copy_below(int from, int to, int depth, struct err *e)
{
	auto_fd int list = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char space[LIST_BYTES] __attribute__((aligned(8)));
	long n;

	if (depth > DEPTH_MAX)
		return err_set(e, ERR_EXHAUSTED, "more than %d folders deep", DEPTH_MAX);
	if (list < 0)
		return err_sys(e, errno, "open the folder");
	while ((n = syscall(SYS_getdents64, list, space, sizeof(space))) > 0) {
		for (long at = 0; at < n;) {
			const struct entry *d = (const struct entry *)(space + at);

			at += d->bytes;
			if (!streq(d->name, ".") && !streq(d->name, "..") && copy_one(from, to, d->name, depth, e) < 0)
				return -1;
		}
	}
	return n < 0 ? err_sys(e, errno, "read the folder") : 0;
}

int copy_folder(int from, int to, struct err *e)
{
	return copy_below(from, to, 0, e);
}
