#include "monitor/exit_record.h"

#include "base/fd.h"
#include "base/fs.h"

#include "test.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int folder(char path[64])
{
	struct err e;
	int fd;

	strcpy(path, "/tmp/knarr-test-XXXXXX");
	assert_non_null(mkdtemp(path));
	fd = fd_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, &e);
	assert_true(fd >= 0);
	return fd;
}

TEST(a_record_is_read_as_it_was_written)
{
	struct exit_record in = { .code = 137, .signal = 9, .oom_killed = true, .pid = 42,
				  .started_wall_ns = 1795450445000000007, .finished_wall_ns = 1795450446000000001 };
	struct exit_record out;
	auto_arena a = { 0 };
	char path[64];
	auto_fd int dir = folder(path);
	struct err e;

	assert_ok(exit_record_write(dir, "abc", &in, &e), e);
	assert_ok(exit_record_read(&a, dir, "abc", &out, &e), e);
	assert_int_equal(out.code, 137);
	assert_int_equal(out.signal, 9);
	assert_true(out.oom_killed);
	assert_int_equal(out.pid, 42);
	assert_int_equal(out.started_wall_ns, in.started_wall_ns);
	assert_int_equal(out.finished_wall_ns, in.finished_wall_ns);
	assert_ok(exit_record_remove(dir, "abc", &e), e);
	assert_err(exit_record_read(&a, dir, "abc", &out, &e), e, ERR_NOT_FOUND, "container abc");
	assert_int_equal(rmdir(path), 0);
}

TEST(a_broken_record_is_data_loss)
{
	static const char *const bad[] = {
		"", "{", "[]", "{\"version\":1}",
		"{\"version\":2,\"container\":\"abc\",\"code\":0,\"startedNs\":1,\"finishedNs\":2}",
		"{\"version\":1,\"container\":\"abd\",\"code\":0,\"startedNs\":1,\"finishedNs\":2}",
	};
	struct exit_record out;
	auto_arena a = { 0 };
	char path[64];
	auto_fd int dir = folder(path);
	struct err e;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_ok(fs_replace(dir, "exit-abc", bad[i], strlen(bad[i]), 0600, 0, &e), e);
		assert_err(exit_record_read(&a, dir, "abc", &out, &e), e, ERR_DATA_LOSS, "abc");
	}
	assert_ok(exit_record_remove(dir, "abc", &e), e);
	assert_int_equal(rmdir(path), 0);
}

TEST(an_id_that_is_no_file_name_is_refused)
{
	static const char *const bad[] = { "", ".", "..", ".x", "a/b", "a b", "a\nb", "\xff" };
	struct err e;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_err(container_id_check(bad[i], &e), e, ERR_INVALID, "no container id");
	assert_ok(container_id_check("0123abcDEF_.-", &e), e);
}
