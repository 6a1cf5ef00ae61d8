#include "monitor/cri_log.h"

#include "base/fd.h"

#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define WHEN "2026-11-23T16:14:05.000000007Z"
static const int64_t when_ns = INT64_C(1795450445) * NS_PER_S + 7;

static struct cri_log log_new(void)
{
	struct cri_log log = { .fd = memfd_create("log", MFD_CLOEXEC) };

	assert_true(log.fd >= 0);
	assert_int_equal(fcntl(log.fd, F_SETFL, O_APPEND), 0);
	return log;
}

static char *content(const struct cri_log *log)
{
	static char text[200000];
	ssize_t n = pread(log->fd, text, sizeof(text) - 1, 0);

	assert_true(n >= 0);
	text[n] = '\0';
	return text;
}

static void feed(struct cri_log *log, struct cri_log_stream *s, const char *text)
{
	cri_log_feed(log, s, str_of(text), when_ns);
}

TEST(each_line_is_a_full_record)
{
	struct cri_log log = log_new();
	struct cri_log_stream out = { .name = "stdout" }, err = { .name = "stderr" };

	feed(&log, &out, "one\n\ntwo\n");
	feed(&log, &err, "three\n");
	assert_string_equal(content(&log), WHEN " stdout F one\n" WHEN " stdout F \n" WHEN
					       " stdout F two\n" WHEN " stderr F three\n");
	assert_null(out.carry);
	cri_log_close(&log);
}

TEST(a_line_that_comes_in_pieces_is_one_record)
{
	struct cri_log log = log_new();
	struct cri_log_stream out = { .name = "stdout" };

	feed(&log, &out, "on");
	assert_string_equal(content(&log), "");
	feed(&log, &out, "e");
	feed(&log, &out, "\ntwo\nthr");
	assert_string_equal(content(&log), WHEN " stdout F one\n" WHEN " stdout F two\n");
	feed(&log, &out, "ee\n");
	assert_string_equal(content(&log), WHEN " stdout F one\n" WHEN " stdout F two\n" WHEN
					       " stdout F three\n");
	cri_log_close(&log);
}

TEST(what_has_no_newline_at_the_end_is_a_partial_record)
{
	struct cri_log log = log_new();
	struct cri_log_stream out = { .name = "stdout" };

	feed(&log, &out, "prompt> ");
	cri_log_flush(&log, &out, when_ns);
	assert_string_equal(content(&log), WHEN " stdout P prompt> \n");
	cri_log_flush(&log, &out, when_ns);
	assert_string_equal(content(&log), WHEN " stdout P prompt> \n");
	assert_null(out.carry);
	cri_log_close(&log);
}

/* The records of a line of n bytes fed in chunks: every piece but the last has 16 KiB and a P. */
static void long_line(size_t n, size_t chunk)
{
	struct cri_log log = log_new();
	struct cri_log_stream out = { .name = "stdout" };
	char *line = malloc(n + 1), *at;
	size_t seen = 0;

	assert_non_null(line);
	memset(line, 'x', n);
	line[n] = '\n';
	for (size_t i = 0; i < n + 1; i += chunk)
		cri_log_feed(&log, &out, (struct str){ line + i, MIN(chunk, n + 1 - i) }, when_ns);
	for (at = content(&log); *at;) {
		char *end = strchr(at, '\n');
		size_t len = (size_t)(end - at) - strlen(WHEN " stdout F ");
		bool last = !end[1];

		assert_memory_equal(at, WHEN " stdout ", strlen(WHEN " stdout "));
		assert_int_equal(at[strlen(WHEN " stdout ")], last ? 'F' : 'P');
		if (!last)
			assert_int_equal(len, CRI_LOG_LINE_MAX);
		seen += len;
		at = end + 1;
	}
	assert_int_equal(seen, n);
	assert_null(out.carry);
	free(line);
	cri_log_close(&log);
}

TEST(a_long_line_is_split_at_16_kib)
{
	static const size_t lengths[] = { 16383, 16384, 16385, 32768, 32769, 100000 };
	static const size_t chunks[] = { 1000, 16384, 16385, 65536, 200000 };

	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++)
		for (size_t k = 0; k < ARRAY_SIZE(chunks); k++)
			long_line(lengths[i], chunks[k]);
}

TEST(many_lines_of_one_read_are_all_there)
{
	struct cri_log log = log_new();
	struct cri_log_stream out = { .name = "stdout" };
	char lines[4000];
	size_t count = 0;

	for (size_t i = 0; i < sizeof(lines); i += 2)
		memcpy(lines + i, "a\n", 2);
	cri_log_feed(&log, &out, (struct str){ lines, sizeof(lines) }, when_ns);
	for (char *at = content(&log); (at = strchr(at, '\n')); at++)
		count++;
	assert_int_equal(count, sizeof(lines) / 2);
	cri_log_close(&log);
}

/* A disk that is full after `bytes` more. */
static void limit(rlim_t bytes)
{
	struct rlimit r;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &r), 0);
	r.rlim_cur = bytes ? bytes : r.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &r), 0);
}

TEST(a_full_disk_drops_whole_lines_and_says_so_later)
{
	struct cri_log log = log_new();
	struct cri_log_stream out = { .name = "stdout" };
	char want[400];

	(void)signal(SIGXFSZ, SIG_IGN);
	feed(&log, &out, "one\n");
	limit(strlen(content(&log)) + 50); /* the second line fits, the third is cut */
	feed(&log, &out, "two\nthree\nfour\n");
	assert_string_equal(content(&log), WHEN " stdout F one\n" WHEN " stdout F two\n");
	feed(&log, &out, "five\n");
	limit(0);
	assert_int_equal(log.dropped, 3);
	feed(&log, &out, "six\n");
	(void)snprintf(want, sizeof(want),
		       WHEN " stdout F one\n" WHEN " stdout F two\n" WHEN
			    " stderr F knarr: 3 lines of this log were dropped: %s\n" WHEN
			    " stdout F six\n",
		       err_errno_text(EFBIG));
	assert_string_equal(content(&log), want);
	assert_int_equal(log.dropped, 0);
	cri_log_close(&log);
}

TEST(without_a_log_all_is_dropped)
{
	struct cri_log log = { .fd = -1 };
	struct cri_log_stream out = { .name = "stdout" };

	feed(&log, &out, "one\ntwo");
	cri_log_flush(&log, &out, when_ns);
	assert_int_equal(log.dropped, 0);
	assert_null(out.carry);
}

TEST(a_reopened_log_goes_on_in_the_new_file)
{
	struct cri_log log = log_new(), other = log_new();
	struct cri_log_stream out = { .name = "stdout" };

	feed(&log, &out, "one\ntw");
	cri_log_reopen(&log, other.fd);
	feed(&log, &out, "o\n");
	assert_string_equal(content(&log), WHEN " stdout F two\n");
	cri_log_close(&log);
}
