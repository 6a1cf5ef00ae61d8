/* What knarr-pod promises to knarrd: containers, logs, exits, execs (session_test.c has the sessions). */
#include "world.h"

TEST(a_container_starts_logs_and_ends)
{
	struct world *w = world_new();
	struct monitor_exit x;
	struct err e;

	pod_start(w, NS_ALL);
	start(w, (struct wish){ "c0", "echo out; echo err >&2; hostname; exit 7" });
	x = wait_exit(w, "c0");
	assert_int_equal(x.code, 7);
	assert_int_equal(x.signal, 0);
	assert_false(x.oom_killed);
	assert_log_has(w, "c0", " stdout F out\n");
	assert_log_has(w, "c0", " stderr F err\n");
	assert_log_has(w, "c0", " stdout F test-host\n");
	OK(monitor_container_forget(&w->call, w->run, "c0", &e));
	assert_err(monitor_exit_read(&w->call.arena, w->state, "c0", &x, &e), e, ERR_NOT_FOUND, "c0");
	assert_err(monitor_container_forget(&w->call, w->run, "c0", &e), e, ERR_NOT_FOUND, "c0");
	pod_end(w);
	world_free(w);
}

/* The owner of a file (or a process) as the host sees it. */
static unsigned owner(int dir, const char *path)
{
	struct stat st;

	assert_int_equal(fstatat(dir, path, &st, 0), 0);
	return st.st_uid;
}

static void user_namespace_life(struct world *w, int pid)
{
	struct monitor_exec_result x;
	struct monitor_process p;
	char proc[64];

	p = start(w, (struct wish){ "c0", "cat /proc/self/uid_map; hostname; echo hi > /dev/null && echo reopened > "
				    "/proc/self/fd/1; ls -d /sys/class/net/lo; echo x > /made; sleep 1000", .pid = pid, .user = true });
	(void)snprintf(proc, sizeof(proc), "/proc/%d/status", p.pid);
	assert_int_equal(owner(AT_FDCWD, proc), 300000);
	x = exec_in(w, "c0", "while [ ! -s /made ]; do sleep 0.02; done; cat /proc/self/gid_map /made; exit 3", 0);
	assert_int_equal(x.exit_code, 3);
	assert_non_null(strstr(x.out.p, "400000"));
	assert_non_null(strstr(x.out.p, "x\n"));
	assert_log_has(w, "c0", "300000");
	assert_log_has(w, "c0", "test-host");
	assert_log_has(w, "c0", "reopened");
	assert_log_has(w, "c0", "/sys/class/net/lo");
	assert_int_equal(owner(w->top, "root/made"), 0); /* the root is an idmapped mount */
	start(w, (struct wish){ "c1", "[ -t 0 ] && echo terminal; exit 4", .pid = pid, .user = true, .tty = true });
	assert_int_equal(wait_exit(w, "c1").code, 4);
	assert_log_has(w, "c1", "terminal");
}

TEST(a_pod_has_a_user_namespace)
{
	static const int pids[] = { PID_OWN, PID_POD };
	struct err e;

	for (size_t i = 0; i < ARRAY_SIZE(pids); i++) {
		struct world *w = world_new();

		pod_start(w, NS_ALL | MONITOR_NS_USER | (pids[i] == PID_POD ? MONITOR_NS_PID : 0));
		assert_true(w->pod.userns_fd >= 0);
		user_namespace_life(w, pids[i]);
		OK(monitor_container_kill(&w->call, w->run, "c0", SIGKILL, MONITOR_KILL_FIRST, &e));
		assert_int_equal(wait_exit(w, "c0").signal, SIGKILL);
		pod_end(w);
		world_free(w);
	}
}

TEST(a_signal_is_told_as_one)
{
	struct world *w = world_new();
	struct monitor_exit x;
	struct err e;

	pod_start(w, NS_ALL);
	start(w, (struct wish){ "c0", "trap 'echo got; exit 3' TERM; echo ready; while :; do sleep 0.05; done" });
	while (!strstr(log_text(w, "c0"), "ready"))
		OK(call_sleep(&w->call, 10 * NS_PER_MS, &e));
	OK(monitor_container_kill(&w->call, w->run, "c0", SIGTERM, MONITOR_KILL_FIRST, &e));
	x = wait_exit(w, "c0");
	assert_int_equal(x.code, 3);
	assert_log_has(w, "c0", "got");
	start(w, (struct wish){ "c1", "sleep 1000" });
	OK(monitor_container_kill(&w->call, w->run, "c1", SIGKILL, MONITOR_KILL_ALL, &e));
	x = wait_exit(w, "c1");
	assert_int_equal(x.code, 137);
	assert_int_equal(x.signal, 9);
	assert_false(x.oom_killed);
	assert_err(monitor_container_kill(&w->call, w->run, "c1", 9, MONITOR_KILL_FIRST, &e), e, ERR_STATE, "exited");
	assert_err(monitor_container_kill(&w->call, w->run, "cx", 9, MONITOR_KILL_FIRST, &e), e, ERR_NOT_FOUND, "cx");
	pod_end(w);
	world_free(w);
}

TEST(a_failed_start_says_why_and_leaves_nothing)
{
	struct world *w = world_new();
	struct monitor_container *list;
	struct monitor_process process;
	struct err e;
	size_t n;

	pod_start(w, NS_ALL);
	assert_err(try_start(w, &(struct wish){ "c0", "/bin/nothing-here", .direct = true }, &process, &e), e,
		   ERR_NOT_FOUND, "nothing-here");
	OK(monitor_list(&w->call, w->run, &list, &n, &e));
	assert_int_equal(n, 0);
	start(w, (struct wish){ "c0", "exit 0" }); /* the id is free */
	assert_err(try_start(w, &(struct wish){ "c0", "exit 0" }, &process, &e), e, ERR_EXISTS, "c0");
	assert_int_equal(wait_exit(w, "c0").code, 0);
	assert_err(try_start(w, &(struct wish){ "../c0", "exit 0", .no_log = true }, &process, &e), e, ERR_INVALID,
		   "container id");
	pod_end(w);
	world_free(w);
}

TEST(an_oom_kill_is_told)
{
	struct world *w = world_new();
	struct monitor_exit x;

	pod_start(w, NS_ALL);
	start(w, (struct wish){ "c0", "tail /dev/zero", .memory = 16 << 20 });
	x = wait_exit(w, "c0");
	assert_int_equal(x.code, 137);
	assert_true(x.oom_killed);
	pod_end(w);
	world_free(w);
}

TEST(containers_that_live_a_millisecond_are_right)
{
	struct world *w = world_new();
	struct err e;

	pod_start(w, NS_ALL);
	for (int i = 0; i < 100; i++) {
		char id[16], script[64], want[64];

		(void)snprintf(id, sizeof(id), "c%d", i);
		(void)snprintf(script, sizeof(script), "echo line-%d; exit %d", i, i);
		(void)snprintf(want, sizeof(want), " stdout F line-%d\n", i);
		start(w, (struct wish){ id, script });
		assert_int_equal(wait_exit(w, id).code, i);
		assert_log_has(w, id, want);
		OK(monitor_container_forget(&w->call, w->run, id, &e));
	}
	pod_end(w);
	world_free(w);
}

TEST(an_exec_answers_with_output_and_code)
{
	struct world *w = world_new();
	struct monitor_exec_result x;

	pod_start(w, NS_ALL);
	start(w, (struct wish){ "c0", "sleep 1000" });
	x = exec_in(w, "c0", "echo hello; echo oops >&2; exit 5", 0);
	assert_int_equal(x.exit_code, 5);
	assert_true(str_eqz(x.out, "hello\n"));
	assert_true(str_eqz(x.err, "oops\n"));
	assert_false(x.timed_out);
	x = exec_in(w, "c0", "kill -9 $$", 0);
	assert_int_equal(x.exit_code, 137);
	x = exec_in(w, "c0", "yes | head -c 3000000", 0);
	assert_int_equal(x.out.len, 3000000);
	assert_memory_equal(x.out.p, "y\ny\n", 4);
	x = exec_in(w, "c0", "yes | head -c 20000000; echo done >&2", 0);
	assert_int_equal(x.out.len, 16 << 20);
	assert_true(x.cut);
	assert_true(str_eqz(x.err, "done\n"));
	pod_end(w);
	world_free(w);
}

TEST(an_exec_of_many_long_words_goes_through)
{
	struct world *w = world_new();
	char *argv[] = { "/bin/sh", "-c", "echo ${#1}", "sh", NULL, NULL };
	struct monitor_exec_request r = { .container_id = "c0", .argv = argv, .output_max_bytes = 1 << 20 };
	struct monitor_exec_result x;
	struct err e;

	argv[4] = calloc(1, 100001);
	memset(argv[4], 'x', 100000);
	pod_start(w, NS_ALL);
	start(w, (struct wish){ "c0", "sleep 1000" });
	OK(monitor_exec_sync(&w->call, w->run, &r, &x, &e));
	assert_true(str_eqz(x.out, "100000\n"));
	free(argv[4]);
	pod_end(w);
	world_free(w);
}

TEST(a_timed_out_exec_is_killed_with_its_grandchildren)
{
	struct world *w = world_new();
	struct monitor_exec_result x;
	int64_t before = clock_mono_ns();

	pod_start(w, NS_ALL);
	start(w, (struct wish){ "c0", "sleep 1000" });
	x = exec_in(w, "c0", "echo begun; (sleep 777 & sleep 777) & sleep 777", 300 * NS_PER_MS);
	assert_true(x.timed_out);
	assert_true(str_eqz(x.out, "begun\n"));
	assert_true(clock_mono_ns() - before < 5 * NS_PER_S);
	x = exec_in(w, "c0", "for p in /proc/[0-9]*; do tr '\\\\0' ' ' < $p/cmdline; echo; done 2>/dev/null", 0);
	assert_null(strstr(x.out.p, "sleep 777"));
	pod_end(w);
	world_free(w);
}

TEST(an_exec_does_not_wait_for_what_it_left_behind)
{
	struct world *w = world_new();
	struct monitor_exec_result x;
	int64_t before;

	pod_start(w, NS_ALL);
	start(w, (struct wish){ "c0", "sleep 1000" });
	before = clock_mono_ns();
	x = exec_in(w, "c0", "sleep 778 & echo left", 0);
	assert_int_equal(x.exit_code, 0);
	assert_true(str_eqz(x.out, "left\n"));
	assert_true(clock_mono_ns() - before < 2 * NS_PER_S);
	x = exec_in(w, "c0", "ps", 0); /* it lives on, in a slot that nobody else gets */
	if (!strstr(x.out.p, "sleep 778"))
		fail_msg("it is gone: %.*s %.*s", STR_ARG(x.out), STR_ARG(x.err));
	pod_end(w);
	world_free(w);
}

TEST(an_exec_ends_when_its_caller_gives_up)
{
	struct world *w = world_new();
	char *argv[] = { "/bin/sleep", "779", NULL };
	struct monitor_exec_request r = { .container_id = "c0", .argv = argv, .output_max_bytes = 1000 };
	struct monitor_exec_result x;
	struct call brief;
	struct err e;

	pod_start(w, NS_ALL);
	start(w, (struct wish){ "c0", "sleep 1000" });
	call_begin(&brief, clock_mono_ns() + 200 * NS_PER_MS);
	assert_err(monitor_exec_sync(&brief, w->run, &r, &x, &e), e, ERR_TIMEOUT, "");
	call_end(&brief);
	for (int i = 0; i < 100; i++) {
		x = exec_in(w, "c0", "ps", 0);
		if (!strstr(x.out.p, "sleep 779"))
			break;
		OK(call_sleep(&w->call, 20 * NS_PER_MS, &e));
	}
	assert_null(strstr(x.out.p, "sleep 779"));
	pod_end(w);
	world_free(w);
}

TEST(a_long_exec_blocks_nobody)
{
	struct world *w = world_new();
	char *argv[] = { "/bin/sleep", "2", NULL };
	auto_fd int fd = -1;
	struct ask q;
	struct err e;
	int64_t before;

	pod_start(w, NS_ALL);
	start(w, (struct wish){ "c0", "sleep 1000" });
	OK(ask_connect(&w->call, w->run, &fd, &e));
	ask_begin(&w->call, &q, MONITOR_OP_EXEC_SYNC, 100);
	message_add_text(&q.w, TAG_CONTAINER_ID, "c0");
	for (char **arg = argv; *arg; arg++)
		message_add_text(&q.w, TAG_ARG, *arg);
	OK(ask_send(&w->call, fd, &q, &e));
	before = clock_mono_ns();
	assert_int_equal(exec_in(w, "c0", "exit 4", 0).exit_code, 4);
	assert_true(clock_mono_ns() - before < NS_PER_S);
	pod_end(w);
	world_free(w);
}

TEST(a_grandchild_with_the_pipe_delays_the_exit_by_a_second_at_most)
{
	struct world *w = world_new();
	int64_t before;

	pod_start(w, NS_ALL | MONITOR_NS_PID);
	assert_true(w->pod.init_pid > 0);
	before = clock_mono_ns();
	/* In a shared PID namespace the rest of its cgroup is killed first. */
	start(w, (struct wish){ "c0", "sleep 780 & echo bye", .pid = PID_POD });
	assert_int_equal(wait_exit(w, "c0").code, 0);
	assert_true(clock_mono_ns() - before < 3 * NS_PER_S);
	assert_log_has(w, "c0", "bye");
	start(w, (struct wish){ "c1", "ps; sleep 1000", .pid = PID_POD });
	while (!strstr(log_text(w, "c1"), "{ps}"))
		(void)usleep(10000);
	assert_log_has(w, "c1", "knarr-init");
	assert_null(strstr(log_text(w, "c1"), "sleep 780"));
	pod_end(w);
	world_free(w);
}

TEST(in_the_hosts_pid_namespace_the_rest_is_killed_too)
{
	struct world *w = world_new();
	char cgroup[128];

	pod_start(w, NS_ALL);
	start(w, (struct wish){ "c0", "sleep 781 & sleep 782 & exit 9", .pid = PID_HOST });
	assert_int_equal(wait_exit(w, "c0").code, 9);
	(void)snprintf(cgroup, sizeof(cgroup), "%s/c/c0", w->parent);
	assert_false(cgroup_is_populated(&w->cgroups, cgroup));
	pod_end(w);
	world_free(w);
}

TEST(a_log_is_reopened_after_a_rename)
{
	struct world *w = world_new();
	auto_fd int fresh = -1;
	struct err e;

	pod_start(w, NS_ALL);
	start(w, (struct wish){ "c0", "echo one; while [ ! -e /tmp/go ]; do sleep 0.02; done; echo two" });
	while (!strstr(log_text(w, "c0"), "one"))
		OK(call_sleep(&w->call, 10 * NS_PER_MS, &e));
	assert_int_equal(renameat(w->top, "log/c0", w->top, "log/c0.1"), 0);
	fresh = log_open(w, "c0");
	OK(monitor_container_reopen_log(&w->call, w->run, "c0", fresh, &e));
	close(openat(w->top, "root/tmp/go", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	assert_int_equal(wait_exit(w, "c0").code, 0);
	assert_log_has(w, "c0", " stdout F two\n");
	assert_log_has(w, "c0.1", " stdout F one\n");
	assert_null(strstr(log_text(w, "c0.1"), "two"));
	pod_end(w);
	world_free(w);
}

TEST(a_terminal_is_logged)
{
	struct world *w = world_new();

	pod_start(w, NS_ALL);
	start(w, (struct wish){ "c0", "[ -t 0 ] && [ -t 1 ] && echo terminal", .tty = true });
	assert_int_equal(wait_exit(w, "c0").code, 0);
	assert_log_has(w, "c0", " stdout F terminal");
	pod_end(w);
	world_free(w);
}

TEST(a_killed_client_changes_nothing)
{
	struct world *w = world_new();
	struct monitor_container *list;
	struct monitor m;
	struct err e;
	size_t n;
	pid_t pid;
	int status, pidfd;

	pod_start(w, NS_ALL);
	start(w, (struct wish){ "c0", "for i in 1 2 3 4 5 6 7 8 9 10; do echo line $i; sleep 0.05; done; exit 6" });
	pid = fork();
	if (pid == 0) { /* a client in the midst of an exec, killed */
		struct call c;
		char *argv[] = { "/bin/sleep", "1000", NULL };
		struct monitor_exec_request r = { .container_id = "c0", .argv = argv };
		struct monitor_exec_result x;

		call_begin(&c, 0);
		(void)monitor_exec_sync(&c, w->run, &r, &x, &e);
		_exit(0);
	}
	OK(call_sleep(&w->call, 100 * NS_PER_MS, &e));
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	fd_close(&w->events); /* and its subscription */
	OK(monitor_find(&w->call, w->run, &m, &pidfd, &e));
	assert_int_equal(m.pid, w->pod.monitor.pid);
	assert_true(m.start_ticks == w->pod.monitor.start_ticks);
	fd_close(&pidfd);
	assert_int_equal(m.protocol, 2); /* what knarr-pod speaks, whatever this side does */
	for (int i = 0; i < 100; i++) {
		OK(monitor_list(&w->call, w->run, &list, &n, &e));
		assert_int_equal(n, 1);
		if (list[0].state == MONITOR_EXITED)
			break;
		OK(call_sleep(&w->call, 100 * NS_PER_MS, &e));
	}
	assert_string_equal(list[0].id, "c0");
	assert_int_equal(list[0].state, MONITOR_EXITED);
	assert_int_equal(list[0].exit.code, 6);
	OK(monitor_subscribe(&w->call, w->run, &w->events, &e));
	assert_int_equal(wait_exit(w, "c0").code, 6); /* told again to whoever comes */
	assert_log_has(w, "c0", "line 1\n");
	assert_log_has(w, "c0", "line 10\n");
	pod_end(w);
	world_free(w);
}

TEST(sysctls_go_into_the_pods_namespaces_only)
{
	struct world *w = world_new();
	struct monitor_sysctl good = { "net.ipv4.ip_unprivileged_port_start", "123" };
	struct monitor_sysctl ipc = { "kernel.shm_rmid_forced", "1" };
	struct monitor_sysctl node = { "vm.swappiness", "1" }, climbs = { "net/../vm/swappiness", "1" };
	struct monitor_exec_result x;
	struct err e;

	pod_start(w, MONITOR_NS_NET | MONITOR_NS_UTS);
	OK(monitor_sysctls(&w->call, w->run, &good, 1, &e));
	assert_err(monitor_sysctls(&w->call, w->run, &node, 1, &e), e, ERR_INVALID, "vm.swappiness");
	assert_err(monitor_sysctls(&w->call, w->run, &climbs, 1, &e), e, ERR_INVALID, "no sysctl");
	assert_err(monitor_sysctls(&w->call, w->run, &ipc, 1, &e), e, ERR_INVALID, "shares its namespace");
	start(w, (struct wish){ "c0", "sleep 1000" });
	x = exec_in(w, "c0", "cat /proc/sys/net/ipv4/ip_unprivileged_port_start", 0);
	assert_string_equal(x.out.p, "123\n");
	x = exec_in(w, "c0", "cat /proc/net/dev", 0);
	assert_non_null(strstr(x.out.p, "lo:"));
	assert_null(strstr(x.out.p, "eth"));
	pod_end(w);
	world_free(w);
}

TEST(rubbish_on_the_socket_hurts_nobody)
{
	struct world *w = world_new();
	static const char *const rubbish[] = { "x", "KNM1", "KNM1aaaabbbbccccdddd", "\0\0\0\0" };
	struct err e;

	pod_start(w, NS_ALL);
	for (size_t i = 0; i < ARRAY_SIZE(rubbish); i++) {
		auto_fd int fd = -1;
		char answer[4096];

		OK(ask_connect(&w->call, w->run, &fd, &e));
		assert_true(send(fd, rubbish[i], strlen(rubbish[i]) + 1, 0) > 0);
		OK(io_wait(&w->call, fd, POLLIN, &e));
		(void)recv(fd, answer, sizeof(answer), 0);
	}
	for (unsigned op = 0; op < 40; op++) { /* every op without its fields; not SUBSCRIBE's stream, not SHUTDOWN */
		auto_answer a = { .nfds = 0 };
		struct ask q;

		if (op == MONITOR_OP_SHUTDOWN)
			continue;
		ask_begin(&w->call, &q, op, 0);
		if (ask_once(&w->call, w->run, &q, &a, &e) < 0)
			assert_int_not_equal(e.kind, ERR_UNAVAILABLE);
	}
	start(w, (struct wish){ "c0", "exit 2" });
	assert_int_equal(wait_exit(w, "c0").code, 2);
	pod_end(w);
	world_free(w);
}

TEST(an_op_of_a_later_version_is_unimplemented_by_name)
{
	struct world *w = world_new();
	auto_answer a = { .nfds = 0 };
	struct ask q;
	struct err e;

	pod_start(w, NS_ALL);
	ask_begin(&w->call, &q, MONITOR_OP_RESIZE_TTY, 0);
	assert_err(ask_once(&w->call, w->run, &q, &a, &e), e, ERR_UNIMPLEMENTED, "RESIZE_TTY");
	pod_end(w);
	world_free(w);
}

TEST(without_its_own_pod_namespaces_it_is_in_the_hosts)
{
	struct world *w = world_new();

	pod_start(w, 0);
	assert_int_equal(w->pod.netns_fd, -1);
	assert_int_equal(w->pod.utsns_fd, -1);
	start(w, (struct wish){ "c0", "exit 0" });
	assert_int_equal(wait_exit(w, "c0").code, 0);
	pod_end(w);
	world_free(w);
}

TEST(when_the_monitor_is_killed_its_containers_end_with_it)
{
	struct world *w = world_new();
	struct monitor_process c;
	char cgroup[128];
	struct err e;

	pod_start(w, NS_ALL | MONITOR_NS_PID);
	c = start(w, (struct wish){ "c0", "sleep 1000", .pid = PID_POD });
	OK(proc_signal(w->pod.pidfd, SIGKILL, &e));
	reap(w);
	(void)snprintf(cgroup, sizeof(cgroup), "%s/c/c0", w->parent);
	for (int i = 0; i < 200 && cgroup_is_populated(&w->cgroups, cgroup); i++)
		OK(call_sleep(&w->call, 10 * NS_PER_MS, &e));
	assert_false(cgroup_is_populated(&w->cgroups, cgroup));
	assert_err(monitor_find(&w->call, w->run, &(struct monitor){ 0 }, &(int){ -1 }, &e), e, ERR_UNAVAILABLE, "");
	(void)c;
	pod_close(w);
	OK(cgroup_remove(&w->cgroups, cgroup, 1000, &e));
	world_free(w);
}

TEST(a_shutdown_ends_everything)
{
	struct world *w = world_new();
	struct err e;

	pod_start(w, NS_ALL | MONITOR_NS_PID);
	for (int i = 0; i < 4; i++) {
		char id[8];

		(void)snprintf(id, sizeof(id), "c%d", i);
		start(w, (struct wish){ id, "trap '' TERM; while :; do sleep 0.1; done", .pid = i % 3 });
	}
	OK(monitor_shutdown(&w->call, w->run, &e));
	OK(monitor_shutdown(&w->call, w->run, &e)); /* gone already: fine */
	reap(w);
	pod_close(w);
	world_free(w);
}

static double micros(int64_t since_ns)
{
	return (double)(clock_mono_ns() - since_ns) / 1000;
}

static long pss_kib(pid_t pid)
{
	char path[64], text[4096], *at;
	struct err e;
	auto_fd int fd = -1;
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
	OK(fd = fd_open(AT_FDCWD, path, O_RDONLY, &e));
	n = read(fd, text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	at = strstr(text, "\nPss:");
	return at ? atol(at + 5) : -1;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *v, size_t n)
{
	qsort(v, n, sizeof(*v), by_value);
	return v[n / 2];
}

/* Figures for people (KNARR_BENCH=1): no promise is checked here. */
TEST(figures)
{
	enum { ROUNDS = 40 };
	double birth[ROUNDS], begin[ROUNDS], exec[ROUNDS];
	struct world *w;
	struct err e;

	if (!getenv("KNARR_BENCH"))
		return;
	w = world_new();
	for (int i = 0; i < ROUNDS; i++) {
		int64_t t = clock_mono_ns();

		pod_start(w, i % 2 ? NS_ALL : 0);
		birth[i] = micros(t);
		t = clock_mono_ns();
		start(w, (struct wish){ "c0", "sleep 1000" });
		begin[i] = micros(t);
		t = clock_mono_ns();
		(void)exec_in(w, "c0", "true", 0);
		exec[i] = micros(t);
		if (i == ROUNDS - 1) {
			OK(call_sleep(&w->call, NS_PER_S, &e));
			printf("PSS %ld KiB\n", pss_kib(w->pod.monitor.pid));
			if (getenv("KNARR_BENCH_WAIT"))
				sleep(4);
		}
		pod_end(w);
		OK(fs_remove_tree(w->top, "state", &e));
		OK(fs_mkdirs(w->top, "state", 0700, &e));
		fd_close(&w->state);
		OK(w->state = fd_open(w->top, "state", O_RDONLY | O_DIRECTORY, &e));
	}
	printf("monitor start %.0f us, container start %.0f us, exec %.0f us (medians)\n", median(birth, ROUNDS),
	       median(begin, ROUNDS), median(exec, ROUNDS));
	world_free(w);
}
