#include "test.h"

#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

struct folder {
	char path[64];
	int fd;
};

static void folder_open(struct folder *f)
{
	memcpy(f->path, "/tmp/knarr-test-fs-XXXXXX", sizeof("/tmp/knarr-test-fs-XXXXXX"));
	assert_non_null(mkdtemp(f->path));
	f->fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(f->fd >= 0);
}

static void folder_close(struct folder *f)
{
	struct err e;

	assert_ok(fs_remove_tree(AT_FDCWD, f->path, &e), e);
	close(f->fd);
	assert_int_equal(access(f->path, F_OK), -1);
}

TEST(a_file_is_replaced_whole)
{
	auto_arena a = { 0 };
	struct folder f;
	struct str text;
	struct err e;

	folder_open(&f);
	assert_ok(fs_replace(f.fd, "state", "one", 3, 0600, 0, &e), e);
	assert_ok(fs_replace(f.fd, "state", "second", 6, 0600, FS_SYNC, &e), e);
	assert_ok(fs_read_file(&a, f.fd, "state", 100, &text, &e), e);
	assert_string_equal(text.p, "second");
	assert_err(fs_read_file(&a, f.fd, "state", 5, &text, &e), e, ERR_EXHAUSTED, "larger than 5 bytes");
	assert_err(fs_read_file(&a, f.fd, "nothing", 5, &text, &e), e, ERR_NOT_FOUND, "nothing");
	folder_close(&f);
}

TEST(a_tree_is_removed_without_following_links)
{
	struct folder f, other;
	struct err e;

	folder_open(&f);
	folder_open(&other);
	assert_ok(fs_replace(other.fd, "keep", "x", 1, 0600, 0, &e), e);
	assert_ok(fs_mkdirs(f.fd, "a/b/c", 0755, &e), e);
	assert_ok(fs_mkdirs(f.fd, "a/b/c", 0755, &e), e);
	assert_int_equal(symlinkat(other.path, f.fd, "a/link"), 0);
	assert_ok(fs_replace(f.fd, "a/b/c/file", "x", 1, 0600, 0, &e), e);
	assert_ok(fs_remove_tree(f.fd, "a", &e), e);
	assert_ok(fs_remove_tree(f.fd, "a", &e), e);
	assert_int_equal(faccessat(other.fd, "keep", F_OK, 0), 0);
	folder_close(&other);
	folder_close(&f);
}

TEST(a_path_in_a_root_never_leaves_it)
{
	struct folder f;
	struct err e;
	int fd;

	folder_open(&f);
	assert_ok(fs_mkdirs(f.fd, "root/etc", 0755, &e), e);
	assert_ok(fs_replace(f.fd, "root/etc/passwd", "mine", 4, 0600, 0, &e), e);
	assert_ok(fs_replace(f.fd, "outside", "no", 2, 0600, 0, &e), e);
	assert_int_equal(symlinkat("/etc/passwd", f.fd, "root/abs"), 0);
	assert_int_equal(symlinkat("../../../outside", f.fd, "root/up"), 0);
	fd = openat(f.fd, "root", O_PATH | O_CLOEXEC);
	{
		auto_fd int in = path_open_in_root(fd, "abs", O_RDONLY, 0, &e);
		char text[5] = "";

		assert_true(in >= 0);
		assert_ok(fd_read_full(in, text, 4, &e), e);
		assert_string_equal(text, "mine");
	}
	assert_int_equal(path_open_in_root(fd, "up", O_RDONLY, 0, &e), -1);
	assert_int_equal(path_open_beneath(fd, "abs", O_RDONLY, 0, &e), -1);
	assert_int_equal(e.sys, EXDEV);
	close(fd);
	folder_close(&f);
}

TEST(paths_are_cleaned_as_text)
{
	auto_arena a = { 0 };

	assert_string_equal(path_clean(&a, "/a//b/./c/"), "/a/b/c");
	assert_string_equal(path_clean(&a, "/a/../../../x/.."), "/");
	assert_string_equal(path_clean(&a, "rel/./x"), "/rel/x");
	assert_string_equal(path_join(&a, "/a/", "/b"), "/a/b");
	assert_string_equal(path_base("/a/b"), "b");
}

TEST(fds_travel_with_a_message_and_are_close_on_exec)
{
	int pair[2], got[2];
	size_t n = 2;
	char text[8];
	struct err e;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	assert_ok(fd_send_msg(pair[0], "hello", 5, (int[]){ 1, 2 }, 2, &e), e);
	assert_int_equal(fd_recv_msg(pair[1], text, sizeof(text), got, &n, &e), 5);
	assert_int_equal(n, 2);
	assert_int_equal(fcntl(got[0], F_GETFD), FD_CLOEXEC);
	close(got[0]);
	close(got[1]);
	close(pair[0]);
	close(pair[1]);
}

TEST(a_message_cut_by_the_kernel_leaves_no_fd_open)
{
	int pair[2], before, after, got[1];
	size_t n = 1;
	char text[3];
	struct err e;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	before = dup(0);
	close(before);
	assert_ok(fd_send_msg(pair[0], "hello", 5, (int[]){ 1, 2 }, 2, &e), e);
	assert_err(fd_recv_msg(pair[1], text, sizeof(text), got, &n, &e), e, ERR_DATA_LOSS, "longer than 3 bytes");
	after = dup(0);
	close(after);
	assert_int_equal(before, after);
	close(pair[0]);
	close(pair[1]);
}

TEST(a_buffer_keeps_to_its_maximum)
{
	auto_buf b = BUF(5);
	struct err e;

	assert_ok(buf_addf(&b, &e, "%s", "abc"), e);
	assert_err(buf_addz(&b, "def", &e), e, ERR_EXHAUSTED, "more than 5 bytes");
	assert_string_equal(buf_text(&b), "abc");
	assert_ok(buf_addz(&b, "de", &e), e);
	buf_consume(&b, 3);
	assert_string_equal(buf_text(&b), "de");
}
