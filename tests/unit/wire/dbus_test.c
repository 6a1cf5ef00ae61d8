#include "test.h"

#include "wire/dbus.h"

static const struct dbus_call call = { "org.a", "/org/a", "org.a.B", "Do", "" };

static struct dbus_message read_back(struct arena *a, const struct buf *b)
{
	struct dbus_message m;
	struct err e;
	size_t used;

	assert_ok(dbus_message_read(a, buf_str(b), &m, &used, &e), e);
	assert_int_equal(used, b->len);
	return m;
}

TEST(a_call_is_read_as_it_was_written)
{
	static const char *const answers[] = { "one", "two" };
	auto_arena a = { 0 };
	auto_buf b = BUF(4096);
	struct dbus_call with = call;
	struct dbus_reader r, in;
	struct dbus_message m;
	struct dbus_writer w;
	struct dbus_value v = { .signature = "t", .n = UINT64_MAX };
	const char *text;
	struct err e;
	uint32_t n;

	with.signature = "usvs";
	dbus_write_begin(&w, &b, 7, &with);
	dbus_write_u32(&w, 99);
	dbus_write_text(&w, answers[0]);
	dbus_write_variant(&w, &v);
	dbus_write_text(&w, answers[1]);
	assert_ok(dbus_write_end(&w, &e), e);
	m = read_back(&a, &b);
	assert_int_equal(m.type, DBUS_CALL);
	assert_int_equal(m.serial, 7);
	assert_string_equal(m.path, "/org/a");
	assert_string_equal(m.member, "Do");
	assert_string_equal(m.signature, "usvs");
	r = dbus_body(&m);
	assert_ok(dbus_read_u32(&r, &n, &e), e);
	assert_int_equal(n, 99);
	assert_ok(dbus_read_text(&r, &text, &e), e);
	assert_string_equal(text, "one");
	assert_ok(dbus_read_variant(&r, &in, &e), e);
	assert_string_equal(in.signature, "t");
	assert_ok(dbus_read_text(&r, &text, &e), e);
	assert_string_equal(text, "two");
}

TEST(a_message_that_is_not_whole_is_waited_for_and_never_misread)
{
	auto_arena a = { 0 };
	auto_buf b = BUF(4096);
	struct dbus_message m;
	struct dbus_writer w;
	struct err e;
	size_t used;

	dbus_write_begin(&w, &b, 1, &call);
	assert_ok(dbus_write_end(&w, &e), e);
	for (size_t n = 0; n < b.len; n++) {
		assert_ok(dbus_message_read(&a, (struct str){ b.p, n }, &m, &used, &e), e);
		assert_int_equal(used, 0);
	}
}

TEST(a_signal_in_the_other_byte_order_is_read)
{
	/* Big endian: a reply to 2 with the text "hi". */
	static const char bytes[] = "B\2\1\1" "\0\0\0\7" "\0\0\0\1" "\0\0\0\17"
				    "\5\1u\0\0\0\0\2" "\10\1g\0\1s\0" "\0" "\0\0\0\2hi\0";
	auto_arena a = { 0 };
	struct dbus_message m;
	struct dbus_reader r;
	const char *text;
	struct err e;
	size_t used;

	assert_ok(dbus_message_read(&a, (struct str){ bytes, sizeof(bytes) - 1 }, &m, &used, &e), e);
	assert_int_equal(used, sizeof(bytes) - 1);
	assert_int_equal(m.reply_to, 2);
	r = dbus_body(&m);
	assert_ok(dbus_read_text(&r, &text, &e), e);
	assert_string_equal(text, "hi");
}

TEST(every_changed_byte_is_refused_or_read_without_harm)
{
	auto_buf b = BUF(4096);
	struct dbus_call with = call;
	struct dbus_writer w;
	struct dbus_value item = { .signature = "s", .text = "x" }, list = { .signature = "as", .items = &item, .nitems = 1 };
	struct err e;

	with.signature = "sv";
	dbus_write_begin(&w, &b, 1, &with);
	dbus_write_text(&w, "text");
	dbus_write_variant(&w, &list);
	assert_ok(dbus_write_end(&w, &e), e);
	for (size_t i = 0; i < b.len; i++)
		for (int value = 0; value < 256; value++) {
			auto_arena a = { 0 };
			struct dbus_message m;
			char was = b.p[i];
			size_t used;

			b.p[i] = (char)value;
			(void)dbus_message_read(&a, buf_str(&b), &m, &used, &e);
			b.p[i] = was;
		}
}

TEST(a_server_that_refuses_us_is_denied)
{
	struct err e;
	size_t used;
	bool done;

	assert_ok(dbus_auth_read(STR("DATA\r\nOK 123\r\nl\1"), &used, &done, &e), e);
	assert_true(done);
	assert_int_equal(used, 14);
	assert_ok(dbus_auth_read(STR("DATA\r\nO"), &used, &done, &e), e);
	assert_false(done);
	assert_err(dbus_auth_read(STR("REJECTED EXTERNAL\r\n"), &used, &done, &e), e, ERR_DENIED, "credentials");
	assert_err(dbus_auth_read(STR("HTTP/1.1 400\r\n"), &used, &done, &e), e, ERR_INVALID, "HTTP");
}

TEST(the_first_unix_socket_of_an_address_is_taken)
{
	auto_arena a = { 0 };
	struct dbus_address out;
	struct err e;

	assert_ok(dbus_address_read(&a, "tcp:host=x;unix:path=/run/a%20b,guid=1", &out, &e), e);
	assert_string_equal(out.path, "/run/a b");
	assert_false(out.abstract);
	assert_ok(dbus_address_read(&a, "unix:abstract=/tmp/x", &out, &e), e);
	assert_true(out.abstract);
	assert_err(dbus_address_read(&a, "tcp:host=x", &out, &e), e, ERR_UNIMPLEMENTED, "tcp:host=x");
}

static void taken(const char *text, const char *signature, uint64_t n)
{
	auto_arena a = { 0 };
	struct dbus_value v;
	struct err e;

	assert_ok(dbus_value_parse(&a, text, &v, &e), e);
	assert_string_equal(v.signature, signature);
	if (!strchr("das(", signature[0]))
		assert_int_equal(v.n, n);
}

TEST(the_values_of_annotations_have_the_types_of_gvariant)
{
	taken("true", "b", 1);
	taken("false", "b", 0);
	taken("7", "i", 7);
	taken("-7", "i", (uint64_t)-7);
	taken("uint64 123456789", "t", 123456789);
	taken("0x10", "i", 16);
	taken(" byte 255 ", "y", 255);
	taken("1.5", "d", 0);
	taken("'it\\'s'", "s", 0);
	taken("[\"a\", 'b']", "as", 0);
	taken("@as []", "as", 0);
	taken("[uint32 1, 2]", "au", 0);
	taken("[('/dev/null', 'rw')]", "a(ss)", 0);
	taken("@a(st) []", "a(st)", 0);
}

TEST(an_annotation_that_is_no_value_says_where)
{
	static const char *const bad[] = { "", "x", "7 8", "'a", "[]", "[1, 'a']", "byte 256", "uint64 -1", "4294967296",
					   "{'a': 1}", "<1>", "@a( []", "b'x'", "int32 'a'", "true1", "1e", "'\\u0041'" };
	auto_arena a = { 0 };
	struct dbus_value v;
	struct err e;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_err(dbus_value_parse(&a, bad[i], &v, &e), e, ERR_INVALID, " at character ");
}

TEST(a_message_past_the_buffer_leaves_nothing_behind)
{
	auto_buf b = BUF(64);
	struct dbus_writer w;
	struct err e;

	dbus_write_begin(&w, &b, 1, &call);
	dbus_write_text(&w, "a text that does not fit any more");
	assert_err(dbus_write_end(&w, &e), e, ERR_EXHAUSTED, "too long");
	assert_int_equal(b.len, 0);
}
