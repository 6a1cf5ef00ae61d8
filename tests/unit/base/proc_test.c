#include "test.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/proc.h"
#include "base/thread.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static struct proc_spec sh(char **argv, char *script)
{
	struct proc_spec s = PROC_SPEC_INIT;

	argv[0] = "sh";
	argv[1] = "-c";
	argv[2] = script;
	argv[3] = NULL;
	s.file = "/bin/sh";
	s.argv = argv;
	return s;
}

struct ran {
	struct buf out, err_out;
	struct proc_output result;
};

static int run(struct ran *r, char *script, int64_t deadline_ns, struct err *e)
{
	auto_call c;
	char *argv[4];
	struct proc_spec s = sh(argv, script);

	call_begin(&c, deadline_ns);
	*r = (struct ran){ .out = BUF(1000), .err_out = BUF(1000) };
	return proc_run(&c, &s, STR("input"), &r->out, &r->err_out, &r->result, e);
}

static void ran_free(struct ran *r)
{
	buf_free(&r->out);
	buf_free(&r->err_out);
}

TEST(a_program_gets_its_input_and_gives_output_and_exit_code)
{
	struct ran r;
	struct err e;

	assert_ok(run(&r, "cat; echo oops >&2; exit 3", 0, &e), e);
	assert_string_equal(buf_text(&r.out), "input");
	assert_string_equal(buf_text(&r.err_out), "oops\n");
	assert_int_equal(r.result.exit.code, 3);
	ran_free(&r);
}

TEST(a_signal_is_128_and_its_number)
{
	struct ran r;
	struct err e;

	assert_ok(run(&r, "kill -9 $$", 0, &e), e);
	assert_int_equal(r.result.exit.code, 137);
	assert_int_equal(r.result.exit.signal, 9);
	ran_free(&r);
}

TEST(output_past_the_maximum_is_cut_and_noted)
{
	struct ran r;
	struct err e;

	assert_ok(run(&r, "i=0; while [ $i -lt 300 ]; do echo 0123456789; i=$((i+1)); done", 0, &e), e);
	assert_int_equal(r.out.len, 1000);
	assert_true(r.result.cut);
	ran_free(&r);
}

TEST(a_program_past_the_deadline_is_killed_with_its_session)
{
	struct ran r;
	struct err e;

	assert_err(run(&r, "sleep 77.31 & sleep 77.31", clock_mono_ns() + 100 * NS_PER_MS, &e), e, ERR_TIMEOUT, "deadline");
	assert_int_not_equal(system("pgrep -f '^sleep 77.31' >/dev/null"), 0);
	ran_free(&r);
}

TEST(a_program_that_is_not_there_is_named)
{
	char *argv[4];
	struct proc_spec s = sh(argv, "");
	struct proc p;
	struct err e;

	s.file = "/no/such/program";
	assert_err(proc_spawn(&s, &p, &e), e, ERR_NOT_FOUND, "exec /no/such/program: No such file");
}

TEST(a_child_has_only_the_fds_it_was_given)
{
	int leak = dup(0);
	struct ran r;
	struct err e;

	assert_ok(run(&r, "ls /proc/self/fd | tr '\\n' ' '", 0, &e), e);
	assert_string_equal(buf_text(&r.out), "0 1 2 3 "); /* 3: ls reads the folder */
	close(leak);
	ran_free(&r);
}

static void *cancel_soon(void *call)
{
	(void)usleep(30000);
	call_cancel(call);
	return NULL;
}

TEST(a_cancel_ends_a_wait)
{
	auto_call c;
	auto_fd int r = -1, w = -1;
	pthread_t t;
	struct err e;

	call_begin(&c, 0);
	assert_ok(fd_pipe(&r, &w, &e), e);
	assert_ok(thread_start(&t, "cancel", cancel_soon, &c, &e), e);
	assert_err(io_wait(&c, r, POLLIN, &e), e, ERR_CANCELLED, "cancelled");
	pthread_join(t, NULL);
}

TEST(a_cancel_ends_a_wait_on_a_condition)
{
	auto_call c;
	struct lock l = LOCK_INIT;
	struct cond cond;
	pthread_t t;
	struct err e;

	call_begin(&c, 0);
	cond_init(&cond);
	assert_ok(thread_start(&t, "cancel", cancel_soon, &c, &e), e);
	lock_acquire(&l);
	while (cond_wait(&c, &cond, &l, &e) == 0)
		;
	lock_release(&l);
	assert_int_equal(e.kind, ERR_CANCELLED);
	pthread_join(t, NULL);
	cond_destroy(&cond);
	lock_destroy(&l);
}

TEST(times_are_written_and_read_as_rfc3339)
{
	char text[CLOCK_TEXT_MAX];
	int64_t ns;
	struct err e;

	clock_format_rfc3339(INT64_C(1700000000123456789), text);
	assert_string_equal(text, "2023-11-14T22:13:20.123456789Z");
	assert_ok(clock_parse_rfc3339(str_of("2023-11-14T23:13:20.123456789+01:00"), &ns, &e), e);
	assert_true(ns == INT64_C(1700000000123456789));
	assert_err(clock_parse_rfc3339(str_of("2023-11-14 22:13"), &ns, &e), e, ERR_INVALID, "RFC 3339");
	assert_ok(clock_parse_duration(str_of("1h2m3.5s"), &ns, &e), e);
	assert_true(ns == INT64_C(3723500000000));
	assert_err(clock_parse_duration(str_of("5"), &ns, &e), e, ERR_INVALID, "duration");
}

TEST(a_program_that_does_not_read_its_input_is_no_error)
{
	auto_arena a = { 0 };
	struct str in = { arena_alloc0(&a, 1 << 20), 1 << 20 };
	char *argv[] = { (char *)"true", NULL };

	for (int i = 0; i < 20; i++) {
		auto_buf out = BUF(100), err_out = BUF(100);
		struct proc_spec spec = PROC_SPEC_INIT;
		struct proc_output end;
		auto_call c = { 0 };
		struct err e;

		call_begin(&c, 0);
		spec.file = "/bin/true";
		spec.argv = argv;
		assert_ok(proc_run(&c, &spec, in, &out, &err_out, &end, &e), e);
		assert_int_equal(end.exit.code, 0);
	}
}
