/* Sessions with knarr-pod: execs with streams, attaches, sockets of the pod's network. */
#include "world.h"

#include "monitor/session.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

static struct monitor_session exec_session(struct world *w, const char *script, unsigned flags)
{
	char *argv[] = { "/bin/sh", "-c", (char *)script, NULL };
	struct monitor_session_request r = { .container_id = "c0", .argv = argv, .flags = flags };
	struct monitor_session s;
	struct err e;

	OK(monitor_session_open(&w->call, w->run, &r, &s, &e));
	return s;
}

static struct monitor_session attach(struct world *w, const char *id, unsigned flags)
{
	struct monitor_session_request r = { .container_id = id, .flags = flags };
	struct monitor_session s;
	struct err e;

	OK(monitor_session_open(&w->call, w->run, &r, &s, &e));
	return s;
}

/* Reads until the text has come; what came, in the call's arena. */
static char *read_until(struct world *w, int fd, const char *text)
{
	size_t max = 65536, n = 0;
	char *at = arena_alloc(&w->call.arena, max);
	struct err e;

	at[0] = '\0';
	while (!strstr(at, text)) {
		ssize_t got;

		OK(io_wait(&w->call, fd, POLLIN, &e));
		got = read(fd, at + n, max - n - 1);
		if (got <= 0)
			fail_msg("\"%s\" does not come, only: %s", text, at);
		n += (size_t)got;
		at[n] = '\0';
	}
	return at;
}

/* Bytes to the end of file, or of what there is once the session has ended. */
static size_t read_all(struct world *w, int fd, uint64_t *sum)
{
	static unsigned char bytes[1 << 16];
	size_t n = 0;

	for (;;) {
		ssize_t got = read(fd, bytes, sizeof(bytes));
		struct err e;

		if (got < 0 && errno == EAGAIN) {
			OK(io_wait(&w->call, fd, POLLIN, &e));
			continue;
		}
		if (got <= 0)
			return n;
		for (ssize_t i = 0; sum && i < got; i++)
			*sum += bytes[i];
		n += (size_t)got;
	}
}

static int end_of(struct world *w, struct monitor_session *s)
{
	struct err e;
	int code = -1;

	OK(io_wait(&w->call, s->control, POLLIN, &e));
	OK(monitor_session_result(s->control, &code, &e));
	monitor_session_close(s);
	return code;
}

static void say(int fd, const char *text)
{
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

static bool runs(struct world *w, const char *what)
{
	return strstr(exec_in(w, "c0", "ps", 0).out.p, what);
}

static void assert_goes(struct world *w, const char *what)
{
	struct err e;

	for (int i = 0; i < 1000 && runs(w, what); i++)
		OK(call_sleep(&w->call, 20 * NS_PER_MS, &e));
	assert_false(runs(w, what));
}

enum { ALL = SESSION_IN | SESSION_OUT | SESSION_ERR };

TEST(an_exec_session_has_its_streams_and_a_code)
{
	struct world *w = world_new();
	struct monitor_session s;
	struct err e;
	int code;

	pod_start(w, NS_ALL);
	start(w, (struct wish){ "c0", "sleep 1000" });
	s = exec_session(w, "read x; echo got $x; echo oops >&2; cat; exit 5", ALL);
	assert_int_equal(s.tty, -1);
	assert_err(monitor_session_result(s.control, &code, &e), e, ERR_STATE, "not ended");
	say(s.in, "one\ntwo");
	read_until(w, s.out, "got one\ntwo");
	read_until(w, s.err, "oops\n");
	fd_close(&s.in);
	assert_int_equal(end_of(w, &s), 5);
	s = exec_session(w, "kill -9 $$", 0); /* none of the streams is wished */
	assert_true(s.in < 0 && s.out < 0 && s.err < 0);
	assert_int_equal(end_of(w, &s), 137);
	pod_end(w);
	world_free(w);
}

TEST(a_session_that_cannot_begin_says_why)
{
	struct world *w = world_new();
	char *argv[] = { "/bin/nothing-here", NULL };
	struct monitor_session_request r = { .container_id = "c0", .argv = argv, .flags = ALL };
	struct monitor_session s;
	struct err e;

	pod_start(w, NS_ALL);
	assert_err(monitor_session_open(&w->call, w->run, &r, &s, &e), e, ERR_NOT_FOUND, "c0");
	start(w, (struct wish){ "c0", "sleep 1000" });
	assert_err(monitor_session_open(&w->call, w->run, &r, &s, &e), e, ERR_NOT_FOUND, "nothing-here");
	r.flags |= SESSION_TTY;
	assert_err(monitor_session_open(&w->call, w->run, &r, &s, &e), e, ERR_NOT_FOUND, "nothing-here");
	start(w, (struct wish){ "c1", "exit 0" });
	(void)wait_exit(w, "c1");
	r = (struct monitor_session_request){ .container_id = "c1", .flags = ALL };
	assert_err(monitor_session_open(&w->call, w->run, &r, &s, &e), e, ERR_STATE, "c1");
	assert_int_equal(exec_in(w, "c0", "exit 3", 0).exit_code, 3);
	pod_end(w);
	world_free(w);
}

TEST(an_exec_session_carries_much_both_ways)
{
	enum { BYTES = 200 << 20 };
	struct world *w = world_new();
	struct monitor_session s;
	static char block[1 << 16];
	uint64_t sent = 0, got = 0, sum_out = 0, sum_in = 0;
	struct err e;

	pod_start(w, NS_ALL);
	start(w, (struct wish){ "c0", "sleep 1000" });
	s = exec_session(w, "exec cat", ALL);
	for (size_t i = 0; i < sizeof(block); i++)
		block[i] = (char)(i * 7 + i / 256);
	while (got < BYTES) {
		struct pollfd fds[] = { { s.in, POLLOUT, 0 }, { s.out, POLLIN, 0 } };
		static unsigned char back[1 << 16];
		ssize_t n;

		OK(io_poll(&w->call, fds, 2, -1, &e));
		if (s.in >= 0 && fds[0].revents) {
			n = write(s.in, block + sent % sizeof(block),
				  MIN(sizeof(block) - sent % sizeof(block), BYTES - sent));
			for (ssize_t i = 0; i < n; i++)
				sum_out += (unsigned char)block[(sent + (uint64_t)i) % sizeof(block)] * (sent + (uint64_t)i);
			sent += n > 0 ? (uint64_t)n : 0;
			if (sent == BYTES)
				fd_close(&s.in);
		}
		n = fds[1].revents ? read(s.out, back, sizeof(back)) : 0;
		for (ssize_t i = 0; i < n; i++)
			sum_in += back[i] * (got + (uint64_t)i);
		got += n > 0 ? (uint64_t)n : 0;
	}
	assert_true(sum_in == sum_out);
	assert_int_equal(end_of(w, &s), 0);
	pod_end(w);
	world_free(w);
}

TEST(an_exec_with_a_terminal_has_one)
{
	struct world *w = world_new();
	char *argv[] = { "/bin/sh", "-c", "stty size; [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo terminal; echo term=$TERM; "
			 "trap 'stty size; exit 9' WINCH; echo ready; while :; do sleep 0.02; done", NULL };
	struct monitor_session_request r = { .container_id = "c0", .argv = argv, .flags = ALL | SESSION_TTY,
					     .width = 91, .height = 17 };
	struct monitor_session s;
	struct err e;

	pod_start(w, NS_ALL);
	start(w, (struct wish){ "c0", "sleep 1000" });
	OK(monitor_session_open(&w->call, w->run, &r, &s, &e));
	assert_int_equal(s.err, -1);
	read_until(w, s.out, "17 91\r\nterminal\r\nterm=xterm\r\nready\r\n");
	OK(monitor_session_resize(s.tty, 123, 45, &e));
	read_until(w, s.out, "45 123\r\n");
	assert_int_equal(end_of(w, &s), 9);
	s = exec_session(w, "sleep 771", ALL | SESSION_TTY);
	say(s.in, "\003"); /* Ctrl-C: it is the controlling terminal */
	assert_int_equal(end_of(w, &s), 130);
	pod_end(w);
	world_free(w);
}

TEST(an_exec_ends_with_its_session)
{
	struct world *w = world_new();
	struct monitor_session s;

	pod_start(w, NS_ALL);
	start(w, (struct wish){ "c0", "sleep 1000" });
	for (unsigned tty = 0; tty <= SESSION_TTY; tty += SESSION_TTY) {
		s = exec_session(w, "(trap '' HUP TERM; sleep 772; sleep 772) & sleep 772; true", ALL | tty);
		while (!runs(w, "sleep 772"))
			(void)usleep(10000);
		monitor_session_close(&s);
		assert_goes(w, "sleep 772");
	}
	pod_end(w);
	world_free(w);
}

TEST(sessions_work_in_a_user_namespace)
{
	static const int pids[] = { PID_OWN, PID_POD };

	for (size_t i = 0; i < ARRAY_SIZE(pids); i++) {
		struct world *w = world_new();
		struct monitor_session s;

		pod_start(w, NS_ALL | MONITOR_NS_USER | (pids[i] == PID_POD ? MONITOR_NS_PID : 0));
		start(w, (struct wish){ "c0", "read x; echo got $x; exit 3", .pid = pids[i], .user = true, .tty = true, .in = true });
		s = exec_session(w, "stty size; echo again > /dev/tty; read x; echo $x; exit 4", ALL | SESSION_TTY);
		read_until(w, s.out, "again\r\n");
		say(s.in, "word\n");
		read_until(w, s.out, "word\r\nword\r\n"); /* the echo, and it */
		assert_int_equal(end_of(w, &s), 4);
		s = exec_session(w, "cat; echo reopened > /proc/self/fd/1; echo oops >&2", ALL);
		say(s.in, "text\n");
		fd_close(&s.in);
		read_until(w, s.out, "text\nreopened\n");
		read_until(w, s.err, "oops\n");
		assert_int_equal(end_of(w, &s), 0);
		s = attach(w, "c0", ALL);
		say(s.in, "word\n");
		read_until(w, s.out, "got word\r\n");
		assert_int_equal(end_of(w, &s), 3);
		pod_end(w);
		world_free(w);
	}
}

TEST(what_an_exec_leaves_behind_lives_on)
{
	struct world *w = world_new();
	struct monitor_session s;

	pod_start(w, NS_ALL);
	start(w, (struct wish){ "c0", "sleep 1000" });
	s = exec_session(w, "sleep 773 & echo left", ALL);
	read_until(w, s.out, "left\n");
	assert_int_equal(end_of(w, &s), 0);
	assert_true(runs(w, "sleep 773"));
	pod_end(w);
	world_free(w);
}

TEST(a_killed_client_leaves_no_exec)
{
	struct world *w = world_new();
	int pipe_fds[2], status;
	char byte;
	pid_t pid;

	pod_start(w, NS_ALL);
	start(w, (struct wish){ "c0", "sleep 1000" });
	assert_int_equal(pipe(pipe_fds), 0);
	pid = fork();
	if (pid == 0) {
		(void)exec_session(w, "sleep 774; true", ALL);
		(void)!write(pipe_fds[1], "x", 1);
		pause();
		_exit(0);
	}
	assert_int_equal(read(pipe_fds[0], &byte, 1), 1);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	assert_goes(w, "sleep 774");
	pod_end(w);
	world_free(w);
}

TEST(five_hundred_execs_at_once)
{
	enum { MANY = 500 };
	struct world *w = world_new();
	static struct monitor_session s[MANY];
	struct rlimit files;

	pod_start(w, NS_ALL);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0); /* ours: knarr-pod has its own already */
	files.rlim_cur = files.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
	start(w, (struct wish){ "c0", "sleep 1000" });
	for (int i = 0; i < MANY; i++)
		s[i] = exec_session(w, "read x; exit $x", SESSION_IN);
	for (int i = 0; i < MANY; i++) {
		char text[16];

		(void)snprintf(text, sizeof(text), "%d\n", i % 200);
		say(s[i].in, text);
	}
	for (int i = 0; i < MANY; i++)
		assert_int_equal(end_of(w, &s[i]), i % 200);
	pod_end(w);
	world_free(w);
}

TEST(an_attach_gets_what_is_written_from_then_on)
{
	struct world *w = world_new();
	struct monitor_session a, b;
	struct err e;
	char *text;

	pod_start(w, NS_ALL);
	start(w, (struct wish){ "c0", "echo early; read x; echo got $x; echo oops >&2; read x; exit $x", .in = true });
	while (!strstr(log_text(w, "c0"), "early"))
		OK(call_sleep(&w->call, 10 * NS_PER_MS, &e));
	a = attach(w, "c0", ALL);
	b = attach(w, "c0", SESSION_OUT);
	assert_true(b.in < 0 && b.err < 0 && b.tty < 0);
	say(a.in, "one\n");
	text = read_until(w, a.out, "got one\n");
	assert_null(strstr(text, "early"));
	read_until(w, b.out, "got one\n");
	read_until(w, a.err, "oops\n");
	monitor_session_close(&a); /* it detaches: the container and its stdin stay */
	a = attach(w, "c0", ALL);
	say(a.in, "42\n");
	assert_int_equal(read_all(w, a.out, NULL), 0);
	assert_int_equal(end_of(w, &a), 42);
	assert_int_equal(end_of(w, &b), 42);
	assert_log_has(w, "c0", " stdout F got one\n");
	assert_log_has(w, "c0", " stderr F oops\n");
	pod_end(w);
	world_free(w);
}

TEST(stdin_once_is_the_first_clients)
{
	struct world *w = world_new();
	struct monitor_session a, b;

	pod_start(w, NS_ALL);
	start(w, (struct wish){ "c0", "wc -c; exit 8", .in = true, .in_once = true });
	a = attach(w, "c0", ALL);
	b = attach(w, "c0", ALL);
	assert_true(a.in >= 0);
	assert_int_equal(b.in, -1);
	say(a.in, "12345");
	fd_close(&a.in); /* the end of the file, while the output is still read */
	read_until(w, a.out, "5\n");
	read_until(w, b.out, "5\n");
	assert_int_equal(end_of(w, &a), 8);
	assert_int_equal(end_of(w, &b), 8);
	start(w, (struct wish){ "c1", "sleep 1000" });
	a = attach(w, "c1", ALL);
	assert_int_equal(a.in, -1); /* it has no stdin at all */
	monitor_session_close(&a);
	pod_end(w);
	world_free(w);
}

TEST(an_attach_to_a_terminal_types_and_resizes)
{
	struct world *w = world_new();
	struct monitor_session a, b;
	struct err e;

	pod_start(w, NS_ALL);
	start(w, (struct wish){ "c0", "read x; stty size; echo got $x; read x; exit $x", .tty = true, .in = true,
				.in_once = true });
	a = attach(w, "c0", ALL);
	assert_int_equal(a.err, -1);
	OK(monitor_session_resize(a.tty, 77, 33, &e));
	say(a.in, "one\n");
	read_until(w, a.out, "33 77\r\ngot one\r\n");
	monitor_session_close(&a);
	a = attach(w, "c0", ALL); /* a terminal is not used up by the first */
	b = attach(w, "c0", ALL);
	say(b.in, "6\n");
	assert_int_equal(end_of(w, &a), 6);
	assert_int_equal(end_of(w, &b), 6);
	assert_log_has(w, "c0", "got one");
	pod_end(w);
	world_free(w);
}

TEST(a_slow_client_is_dropped_and_nobody_waits)
{
	enum { LINES = 300000 };
	struct world *w = world_new();
	struct monitor_session slow, quick;
	struct err e;
	int code;
	size_t n;

	pod_start(w, NS_ALL);
	start(w, (struct wish){ "c0", "read x; seq 300000; exit 4", .in = true });
	slow = attach(w, "c0", SESSION_IN | SESSION_OUT);
	quick = attach(w, "c0", SESSION_OUT | SESSION_PACED);
	say(slow.in, "\n");
	n = read_all(w, quick.out, NULL);
	assert_int_equal(n, 1988895); /* all of seq's */
	assert_int_equal(end_of(w, &quick), 4);
	OK(io_wait(&w->call, slow.control, POLLIN, &e));
	assert_err(monitor_session_result(slow.control, &code, &e), e, ERR_EXHAUSTED, "faster than it was read");
	monitor_session_close(&slow);
	assert_int_equal(wait_exit(w, "c0").code, 4);
	assert_log_has(w, "c0", " stdout F 300000\n");
	pod_end(w);
	world_free(w);
}

enum { SEQ_BYTES = 1638895 }; /* of seq 250000: more than all the pipes hold */

static void read_bytes(struct world *w, int fd, size_t n)
{
	static char bytes[1 << 16];
	struct err e;

	while (n) {
		ssize_t got = read(fd, bytes, MIN(n, sizeof(bytes)));

		if (got < 0 && errno == EAGAIN) {
			OK(io_wait(&w->call, fd, POLLIN, &e));
			continue;
		}
		if (got <= 0)
			fail_msg("the end, %zu bytes early", n);
		n -= (size_t)got;
	}
}

/* Until the log has stopped growing. */
static off_t log_rests(struct world *w, const char *path)
{
	struct stat before, after;
	struct err e;

	do {
		assert_int_equal(fstatat(w->top, path, &before, 0), 0);
		OK(call_sleep(&w->call, 300 * NS_PER_MS, &e));
		assert_int_equal(fstatat(w->top, path, &after, 0), 0);
	} while (!after.st_size || after.st_size != before.st_size);
	return after.st_size;
}

TEST(a_container_waits_for_a_paced_client)
{
	struct world *w = world_new();
	struct monitor_session a;

	pod_start(w, NS_ALL);
	start(w, (struct wish){ "c0", "read x; seq 250000; seq 250000 >&2; exit 3", .in = true });
	a = attach(w, "c0", ALL | SESSION_PACED);
	say(a.in, "\n");
	(void)log_rests(w, "log/c0");
	assert_null(strstr(log_text(w, "c0"), "F 250000\n"));
	assert_int_equal(exec_in(w, "c0", "exit 7", 0).exit_code, 7); /* all else goes on */
	read_bytes(w, a.out, SEQ_BYTES);
	(void)log_rests(w, "log/c0");
	read_bytes(w, a.err, SEQ_BYTES - (1 << 20) - 1000);
	assert_int_equal(wait_exit(w, "c0").code, 3); /* what is kept for the client outlives the container */
	read_bytes(w, a.err, (1 << 20) + 1000);
	assert_int_equal(read_all(w, a.err, NULL), 0);
	assert_int_equal(read_all(w, a.out, NULL), 0);
	assert_int_equal(end_of(w, &a), 3);
	pod_end(w);
	world_free(w);
}

TEST(a_paced_client_that_goes_frees_the_container)
{
	struct world *w = world_new();
	struct monitor_session a;

	pod_start(w, NS_ALL);
	start(w, (struct wish){ "c0", "read x; seq 250000; exit 2", .in = true });
	a = attach(w, "c0", ALL | SESSION_PACED);
	say(a.in, "\n");
	(void)log_rests(w, "log/c0");
	monitor_session_close(&a);
	assert_int_equal(wait_exit(w, "c0").code, 2);
	assert_log_has(w, "c0", "F 250000\n");
	pod_end(w);
	world_free(w);
}

TEST(an_early_attach_misses_nothing)
{
	struct world *w = world_new();
	struct monitor_process process;
	struct monitor_session a;
	struct err e;

	pod_start(w, NS_ALL);
	a = attach(w, "c0", ALL | SESSION_EARLY);
	assert_true(a.out < 0 && a.tty < 0);
	start(w, (struct wish){ "c0", "echo first; exit 6" });
	OK(monitor_session_receive(&w->call, &a, &e));
	read_until(w, a.out, "first\n");
	assert_int_equal(end_of(w, &a), 6);
	a = attach(w, "c1", ALL | SESSION_EARLY);
	assert_err(try_start(w, &(struct wish){ "c1", "/bin/nothing-here", .direct = true }, &process, &e), e,
		   ERR_NOT_FOUND, "nothing-here");
	assert_err(monitor_session_receive(&w->call, &a, &e), e, ERR_STATE, "c1");
	monitor_session_close(&a);
	a = attach(w, "c2", ALL | SESSION_EARLY); /* and goes again before there is anything */
	monitor_session_close(&a);
	start(w, (struct wish){ "c2", "exit 0" });
	pod_end(w);
	world_free(w);
}

TEST(the_pods_sockets_are_of_its_network)
{
	struct world *w = world_new();
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(7777),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int inet, inet6;
	struct err e;

	pod_start(w, NS_ALL);
	start(w, (struct wish){ "c0", "echo hello | nc -l -p 7777; sleep 1000" });
	for (int i = 0;; i++) { /* until it listens */
		int error = 0;
		socklen_t size = sizeof(error);

		OK(monitor_sockets(&w->call, w->run, &inet, &inet6, &e));
		fd_close(&inet6);
		(void)connect(inet, (struct sockaddr *)&to, sizeof(to));
		OK(io_wait(&w->call, inet, POLLOUT, &e));
		assert_int_equal(getsockopt(inet, SOL_SOCKET, SO_ERROR, &error, &size), 0);
		if (!error)
			break;
		fd_close(&inet);
		assert_true(i < 1000);
		OK(call_sleep(&w->call, 20 * NS_PER_MS, &e));
	}
	read_until(w, inet, "hello\n");
	fd_close(&inet);
	pod_end(w);
	world_free(w);
}

TEST(a_session_hears_of_the_monitors_death)
{
	struct world *w = world_new();
	struct monitor_session x, a;
	char cgroup[128];
	struct err e;
	int code;

	pod_start(w, NS_ALL);
	start(w, (struct wish){ "c0", "sleep 1000" });
	x = exec_session(w, "sleep 775; true", ALL);
	a = attach(w, "c0", ALL);
	OK(proc_signal(w->pod.pidfd, SIGKILL, &e));
	reap(w);
	OK(io_wait(&w->call, x.control, POLLIN, &e));
	assert_err(monitor_session_result(x.control, &code, &e), e, ERR_UNAVAILABLE, "ended");
	assert_err(monitor_session_result(a.control, &code, &e), e, ERR_UNAVAILABLE, "ended");
	monitor_session_close(&x);
	monitor_session_close(&a);
	(void)snprintf(cgroup, sizeof(cgroup), "%s/c/c0", w->parent);
	for (int i = 0; i < 1000 && cgroup_is_populated(&w->cgroups, cgroup); i++)
		OK(call_sleep(&w->call, 10 * NS_PER_MS, &e));
	assert_false(cgroup_is_populated(&w->cgroups, cgroup));
	pod_close(w);
	OK(cgroup_remove(&w->cgroups, cgroup, 1000, &e));
	world_free(w);
}
