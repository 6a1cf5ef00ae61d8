#include "test.h"

#include "base/fd.h"

#include <poll.h>

/* A pipe's only writing end is closed: the reader hears of it, be it at once or from the kernel's collector. */
TEST(an_fd_that_is_closed_later_is_closed)
{
	auto_fd int from = -1, to = -1;
	struct pollfd reader = { 0 };
	struct err e;

	assert_ok(fd_pipe(&from, &to, &e), e);
	fd_close_later(&to);
	assert_int_equal(to, -1);
	reader.fd = from;
	assert_int_equal(poll(&reader, 1, 60000), 1);
	assert_true(reader.revents & POLLHUP);
}

TEST(closing_nothing_later_does_nothing)
{
	int none = -1;

	fd_close_later(&none);
	assert_int_equal(none, -1);
}
