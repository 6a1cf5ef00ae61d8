#include "test.h"

#include "base/fd.h"
#include "image/pull_protocol.h"
#include "image/registry.h"

#include <sys/socket.h>

static void pair(int s[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s), 0);
}

TEST(a_message_arrives_with_its_fds)
{
	char *dirs[] = { (char *)"/a", (char *)"/b", NULL };
	struct pull_message sent = { .type = (char *)"fetch", .id = 7, .digest = (char *)"sha256:x", .size = 5,
				     .manifest = true, .hosts_dirs = dirs }, got;
	auto_arena a = { 0 };
	int s[2], fds[PULL_FDS_MAX];
	struct err e;

	pair(s);
	assert_ok(pull_send(s[0], &sent, s, 1, &e), e);
	assert_int_equal(pull_recv(s[1], &a, &got, fds, &e), 1);
	assert_string_equal(got.type, "fetch");
	assert_string_equal(got.hosts_dirs[1], "/b");
	assert_int_equal(got.id, 7);
	assert_true(got.manifest);
	assert_true(fds[0] >= 0);
	assert_int_equal(fds[1], -1);
	fd_close(&fds[0]);
	fd_close(&s[0]);
	assert_int_equal(pull_recv(s[1], &a, &got, fds, &e), 0);
	fd_close(&s[1]);
}

TEST(what_is_no_message_is_refused_and_its_fds_are_closed)
{
	static const char *const bad[] = { "", "{}", "[]", "{\"type\":5}", "{\"type\":\"x\",\"strange\":1}", "{\"type\":" };
	auto_arena a = { 0 };
	struct pull_message got;
	int s[2], fds[PULL_FDS_MAX];
	struct err e;

	pair(s);
	for (size_t i = 1; i < ARRAY_SIZE(bad); i++) {
		assert_ok(fd_send_msg(s[0], bad[i], strlen(bad[i]), s, 1, &e), e);
		assert_int_equal(pull_recv(s[1], &a, &got, fds, &e), -1);
		assert_int_equal(fds[0], -1);
	}
	fd_close(&s[0]);
	fd_close(&s[1]);
}

TEST(error_kinds_have_names_both_ways)
{
	assert_int_equal(pull_kind_of("not found"), ERR_NOT_FOUND);
	assert_int_equal(pull_kind_of("corrupt"), ERR_DATA_LOSS);
	assert_int_equal(pull_kind_of("no such kind"), ERR_INTERNAL);
	assert_int_equal(pull_kind_of(NULL), ERR_INTERNAL);
}

TEST(credentials_go_to_the_host_they_are_for)
{
	static const struct {
		const char *server_address, *registry, *authority;
		bool origin, goes;
	} cases[] = {
		{ NULL, "r.example", "m.example", false, true },
		{ "", "r.example", "r.example", true, true },
		{ "r.example", "r.example", "r.example", true, true },
		{ "https://r.example/v1/", "r.example", "r.example", true, true },
		{ "r.example", "r.example", "m.example", false, false },
		{ "m.example", "r.example", "m.example", false, true },
		{ "r.example", "r.example:5000", "r.example:5000", true, false },
		{ "r.example.evil", "r.example", "r.example", true, false },
		{ "https://index.docker.io/v1/", "docker.io", "registry-1.docker.io", true, true },
		{ "docker.io", "docker.io", "registry-1.docker.io", true, true },
		{ "docker.io", "docker.io", "m.example", false, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct host h = { .authority = (char *)cases[i].authority, .is_origin = cases[i].origin };

		if (auth_is_for(cases[i].server_address, cases[i].registry, &h) != cases[i].goes)
			fail_msg("case %zu: %s", i, cases[i].server_address);
	}
}
