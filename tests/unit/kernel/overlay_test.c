#include "test.h"

#include "base/fd.h"
#include "base/fs.h"
#include "kernel/overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Folders for an overlay on a tmpfs of our own, in a mount namespace of our own. */
struct folders {
	int top, lower[40], upper, work;
	size_t nlower;
};

static int folder(int top, const char *name)
{
	if (mkdirat(top, name, 0755) < 0)
		return -1;
	return openat(top, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static bool folders_make(struct folders *f, size_t nlower)
{
	char name[20];

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("tmpfs", "/mnt", "tmpfs", 0, NULL) < 0)
		return false;
	f->top = open("/mnt", O_PATH | O_DIRECTORY | O_CLOEXEC);
	for (f->nlower = 0; f->nlower < nlower; f->nlower++) {
		(void)snprintf(name, sizeof(name), "l%zu", f->nlower);
		f->lower[f->nlower] = folder(f->top, name);
		if (f->lower[f->nlower] < 0 || mkdirat(f->lower[f->nlower], name, 0755) < 0)
			return false;
	}
	f->upper = folder(f->top, "upper");
	f->work = folder(f->top, "work");
	return f->upper >= 0 && f->work >= 0;
}

enum { WORKS, FAILS, UNKNOWN_TO_KERNEL, NO_TMPFS };

/* In a child: the namespace goes with it. */
static int try_way(enum overlay_way way, size_t nlower)
{
	struct folders f;
	struct err e;
	int mnt;

	if (!folders_make(&f, nlower))
		return NO_TMPFS;
	struct overlay_spec s = { .lower = f.lower, .nlower = nlower, .upper = f.upper, .work = f.work, .way = way };

	if (overlay_mount(&s, &mnt, &e) < 0) {
		print_message("way %d: %s\n", (int)way, e.msg);
		return e.sys == EINVAL || e.sys == EOPNOTSUPP ? UNKNOWN_TO_KERNEL : FAILS;
	}
	for (size_t i = 0; i < nlower; i++) {
		char name[20];

		(void)snprintf(name, sizeof(name), "l%zu", i);
		if (faccessat(mnt, name, F_OK, 0) < 0)
			return FAILS;
	}
	return mkdirat(mnt, "new", 0755) == 0 && faccessat(f.upper, "new", F_OK, 0) == 0 ? WORKS : FAILS;
}

static int result(enum overlay_way way, size_t nlower)
{
	int status = -1;
	pid_t pid;

	if (getuid() != 0)
		skip();
	(void)fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(try_way(way, nlower));
	assert_true(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	if (WEXITSTATUS(status) == NO_TMPFS) {
		print_message("skipped: no mount namespace of our own here\n");
		skip();
	}
	return WEXITSTATUS(status);
}

TEST(the_best_way_works_on_every_kernel)
{
	assert_int_equal(result(OVERLAY_BEST, 1), WORKS);
	assert_int_equal(result(OVERLAY_BEST, 3), WORKS);
	assert_int_equal(result(OVERLAY_BEST, 40), WORKS);
}

TEST(strings_are_understood_by_every_kernel)
{
	assert_int_equal(result(OVERLAY_BY_SHORT_STRING, 3), WORKS);
	assert_int_equal(result(OVERLAY_BY_STRING, 3), WORKS);
	assert_int_equal(result(OVERLAY_BY_STRING, 40), WORKS);
	assert_int_equal(result(OVERLAY_BY_SHORT_STRING, 40), UNKNOWN_TO_KERNEL);
}

TEST(a_newer_way_works_or_is_refused_as_unknown)
{
	assert_int_not_equal(result(OVERLAY_BY_FD, 3), FAILS);
	assert_int_not_equal(result(OVERLAY_BY_PATH, 3), FAILS);
}
