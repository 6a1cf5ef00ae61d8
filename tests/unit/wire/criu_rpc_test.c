#include "test.h"

#include "wire/criu_rpc.h"

#define BYTES(text) ((struct str){ text, sizeof(text) - 1 })

TEST(a_request_has_the_protocols_bytes)
{
	struct criu_opts o = { .images_dir_fd = 5, .work_dir_fd = -1, .pid = 300, .leave_running = true, .log_file = (char *)"l" };
	struct criu_request r = { .type = CRIU_DUMP, .opts = &o };
	static const char want[] = "\x08\x01\x12\x0a\x08\x05\x18\x01\x52\x01l\x10\xac\x02";
	auto_buf b = BUF(CRIU_PACKET_MAX);
	struct err e;

	assert_ok(criu_request_write(&b, &r, &e), e);
	assert_int_equal(b.len, sizeof(want) - 1);
	assert_memory_equal(b.p, want, b.len);
}

TEST(what_is_outside_is_a_message_each)
{
	struct criu_opts o = { .work_dir_fd = -1 };
	struct criu_request r = { .type = CRIU_RESTORE, .opts = &o };
	auto_buf b = BUF(CRIU_PACKET_MAX);
	auto_arena a = { 0 };
	struct err e;

	criu_opts_mount(&a, &o, "/k", "/v");
	criu_opts_inherit(&a, &o, "pipe:[7]", 1);
	assert_ok(criu_request_write(&b, &r, &e), e);
	assert_non_null(memmem(b.p, b.len, "\xba\x01\x08\x0a\x02/k\x12\x02/v", 11));
	assert_non_null(memmem(b.p, b.len, "\xda\x01\x0c\x0a\x08pipe:[7]\x10\x01", 15));
}

TEST(a_notification_is_read)
{
	auto_arena a = { 0 };
	struct criu_response r;
	struct err e;

	assert_ok(criu_response_read(&a, BYTES("\x08\x06\x10\x01\x2a\x07\x0a\x02hi\x10\xac\x02\x9a\x06\x01x"), &r, &e), e);
	assert_int_equal(r.type, CRIU_NOTIFY);
	assert_true(r.success);
	assert_string_equal(r.script, "hi");
	assert_int_equal(r.script_pid, 300);
}

TEST(version_and_features_are_read)
{
	auto_arena a = { 0 };
	struct criu_response r;
	struct err e;

	assert_ok(criu_response_read(&a, BYTES("\x08\x0a\x10\x01\x52\x06\x08\x04\x10\x02\x20\x01\x42\x04\x08\x01\x10\x00"), &r, &e), e);
	assert_int_equal(r.version_major, 4);
	assert_int_equal(r.version_minor, 2);
	assert_int_equal(r.version_sublevel, 1);
	assert_int_equal(r.features, CRIU_FEATURE_MEM_TRACK);
}

TEST(rubbish_is_refused)
{
	static const struct str bad[] = {
		BYTES(""), BYTES("\x10\x01"), BYTES("\x08"), BYTES("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), BYTES("\x08\x06\x2a\x7f"),
		BYTES("\x08\x06\x28\x01"), BYTES("\x08\x06\x2b"), BYTES("\x08\x06\x2a\x03\x0a\x01\x00"),
	};
	auto_arena a = { 0 };
	struct criu_response r;
	struct err e;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(criu_response_read(&a, bad[i], &r, &e), -1);
		assert_int_equal(e.kind, ERR_DATA_LOSS);
	}
}
