#include "monitor/message.h"

#include "base/fs.h"

#include "test.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

static struct str build(char *space, size_t max)
{
	struct message_writer w;
	struct str packet;
	struct err e;

	message_begin(&w, space, max, MONITOR_OP_KILL, 0);
	message_add_text(&w, TAG_CONTAINER_ID, "abc");
	message_add_number(&w, TAG_SIGNAL, 9);
	message_add_bytes(&w, TAG_OUTPUT, STR("xyzzy"));
	message_add_text(&w, TAG_ARG, "");
	assert_ok(message_finish(&w, &packet, &e), e);
	return packet;
}

TEST(what_is_written_is_read_back)
{
	char space[256];
	struct message m;
	struct err e;

	assert_ok(message_parse(build(space, sizeof(space)), &m, &e), e);
	assert_int_equal(m.op, MONITOR_OP_KILL);
	assert_int_equal(m.version, MESSAGE_VERSION);
	assert_string_equal(message_text(&m, TAG_CONTAINER_ID, ""), "abc");
	assert_string_equal(message_text(&m, TAG_ARG, "none"), "");
	assert_int_equal(message_number(&m, TAG_SIGNAL, 0), 9);
	assert_true(str_eqz(message_bytes(&m, TAG_OUTPUT), "xyzzy"));
	assert_int_equal(message_number(&m, TAG_PID, 42), 42);
}

TEST(a_field_nobody_knows_is_skipped)
{
	char space[256];
	struct message_writer w;
	struct str packet;
	struct message m;
	struct err e;

	message_begin(&w, space, sizeof(space), 999, 0);
	message_add_bytes(&w, 0x7abc, STR("from the future"));
	message_add_number(&w, TAG_PID, 7);
	assert_ok(message_finish(&w, &packet, &e), e);
	assert_ok(message_parse(packet, &m, &e), e);
	assert_int_equal(message_number(&m, TAG_PID, 0), 7);
	assert_string_equal(monitor_op_name(m.op), "unknown");
}

TEST(every_cut_of_a_message_is_refused)
{
	char space[256];
	struct str packet = build(space, sizeof(space));
	struct message m;
	struct err e;

	for (size_t n = 0; n < packet.len; n++)
		assert_int_equal(message_parse((struct str){ packet.p, n }, &m, &e), -1);
}

TEST(a_text_without_its_end_is_refused)
{
	char space[256];
	struct str packet = build(space, sizeof(space));
	struct message m;
	struct err e;

	space[MESSAGE_HEADER_BYTES + 8 + 3] = 'x'; /* the NUL of "abc" */
	assert_err(message_parse(packet, &m, &e), e, ERR_INVALID, "no terminated text");
}

TEST(a_message_too_long_fails_once_at_its_end)
{
	char space[64];
	struct message_writer w;
	struct str packet;
	struct err e;

	message_begin(&w, space, sizeof(space), MONITOR_OP_KILL, 0);
	for (int i = 0; i < 10; i++)
		message_add_number(&w, TAG_SIGNAL, 1);
	assert_err(message_finish(&w, &packet, &e), e, ERR_EXHAUSTED, "longer than 64");
}

TEST(an_error_keeps_kind_errno_and_text)
{
	char space[2048];
	struct message_writer w;
	struct str packet;
	struct message m;
	struct err e, got;

	err_sys(&e, 2, "exec /bin/nothing");
	message_write_error(&w, space, sizeof(space), MONITOR_OP_START, &e);
	assert_ok(message_finish(&w, &packet, &got), got);
	assert_ok(message_parse(packet, &m, &got), got);
	assert_int_equal(message_error(&m, &got), -1);
	assert_int_equal(got.kind, ERR_NOT_FOUND);
	assert_int_equal(got.sys, 2);
	assert_string_equal(got.msg, e.msg);
}

TEST(fields_in_a_file_are_checked_the_same)
{
	char space[256];
	struct str packet = build(space, sizeof(space));
	struct str body = { packet.p + MESSAGE_HEADER_BYTES, packet.len - MESSAGE_HEADER_BYTES };
	struct message m = { .op = MONITOR_OP_KILL };
	struct err e;

	assert_ok(message_parse_body(body, &m, &e), e);
	assert_int_equal(message_number(&m, TAG_SIGNAL, 0), 9);
	body.len -= 1;
	assert_int_equal(message_parse_body(body, &m, &e), -1);
}

static void each_file(const char *folder, void (*check)(const char *name, struct str bytes))
{
	char path[4096];
	DIR *dir;
	int seen = 0;

	(void)snprintf(path, sizeof(path), TEST_DATA "/monitor/%s", folder);
	dir = opendir(path);
	assert_non_null(dir);
	for (struct dirent *d; (d = readdir(dir));) {
		auto_arena a = { 0 };
		struct str bytes;
		struct err e;

		if (d->d_name[0] == '.')
			continue;
		assert_ok(fs_read_file(&a, dirfd(dir), d->d_name, MESSAGE_MAX, &bytes, &e), e);
		check(d->d_name, bytes);
		seen++;
	}
	(void)closedir(dir);
	assert_true(seen > 0);
}

static void is_good(const char *name, struct str bytes)
{
	struct message m;
	struct err e;

	if (message_parse(bytes, &m, &e) < 0)
		fail_msg("%s is refused: %s", name, e.msg);
}

static void is_bad(const char *name, struct str bytes)
{
	struct message m;
	struct err e = { 0 };

	if (message_parse(bytes, &m, &e) == 0)
		fail_msg("%s is taken", name);
	assert_int_equal(e.kind, ERR_INVALID);
}

TEST(good_files_are_taken)
{
	each_file("good", is_good);
}

TEST(bad_files_are_refused)
{
	each_file("bad", is_bad);
}
