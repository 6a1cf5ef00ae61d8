#include "test.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "daemon/state_lock.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

struct world {
	char dir[64];
	pid_t holder;
};

/* A process that holds the lock until it is told to end. */
static void hold(struct world *w, unsigned flags)
{
	int ready[2];
	char byte;

	(void)snprintf(w->dir, sizeof(w->dir), "/tmp/knarr-test-lock-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	assert_int_equal(pipe(ready), 0);
	w->holder = fork();
	if (w->holder == 0) {
		struct call c;
		struct err e;
		int fd;

		(void)signal(SIGTERM, SIG_DFL);
		call_begin(&c, 0);
		if (state_lock(&c, w->dir, flags, &fd, &e) < 0)
			_exit(1);
		(void)!write(ready[1], "x", 1);
		for (;;)
			(void)pause();
	}
	(void)close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	(void)close(ready[0]);
}

static void end(struct world *w)
{
	struct err e;

	(void)kill(w->holder, SIGKILL);
	(void)waitpid(w->holder, NULL, 0);
	assert_ok(fs_remove_tree(AT_FDCWD, w->dir, &e), e);
}

static int lock_for_a_second(const struct world *w, unsigned flags, struct err *e)
{
	auto_call c;
	auto_fd int fd = -1;

	call_begin(&c, clock_mono_ns() + NS_PER_S);
	return state_lock(&c, w->dir, flags, &fd, e);
}

TEST(a_second_service_is_refused_with_the_pid_of_the_first)
{
	struct world w;
	struct err e;
	char pid[32];

	hold(&w, 0);
	(void)snprintf(pid, sizeof(pid), "pid %d", (int)w.holder);
	assert_err(lock_for_a_second(&w, 0, &e), e, ERR_UNAVAILABLE, pid);
	assert_err(lock_for_a_second(&w, STATE_LOCK_PRIVATE, &e), e, ERR_UNAVAILABLE, pid);
	end(&w);
}

TEST(a_private_one_hands_over_to_a_service_only)
{
	struct world w;
	struct err e;

	hold(&w, STATE_LOCK_PRIVATE);
	assert_err(lock_for_a_second(&w, STATE_LOCK_PRIVATE, &e), e, ERR_UNAVAILABLE, "another knarrd");
	log_configure(LOG_ERROR, LOG_TEXT, STDERR_FILENO);
	assert_ok(lock_for_a_second(&w, 0, &e), e);
	end(&w);
}

TEST(the_lock_of_a_killed_one_is_free)
{
	struct world w;
	struct err e;

	hold(&w, 0);
	(void)kill(w.holder, SIGKILL);
	(void)waitpid(w.holder, NULL, 0);
	assert_ok(lock_for_a_second(&w, 0, &e), e);
	w.holder = fork();
	if (w.holder == 0)
		_exit(0);
	end(&w);
}
