#include "test.h"

#include "corpus.h"
#include "wire/websocket.h"

struct peer {
	struct websocket w;
	struct buf out, got;
	unsigned messages, close_code;
};

static void piece(void *ctx, UNUSED enum websocket_kind kind, unsigned flags, const char *bytes, size_t n)
{
	struct peer *p = ctx;
	struct err e;

	assert_ok(buf_add(&p->got, bytes, n, &e), e);
	if (flags & WEBSOCKET_LAST)
		p->messages++;
}

static void closed(void *ctx, unsigned code)
{
	((struct peer *)ctx)->close_code = code;
}

static const struct websocket_events events = { piece, closed };

static int feed(struct peer *p, struct str bytes, size_t step, struct err *e)
{
	auto_arena a = { 0 };
	char *copy = arena_memdup(&a, bytes.p, bytes.len + 1);

	*p = (struct peer){ .out = BUF(1 << 20), .got = BUF(1 << 20) };
	websocket_init(&p->w, &events, p, &p->out);
	for (size_t pos = 0; pos < bytes.len; pos += step)
		if (websocket_input(&p->w, copy + pos, MIN(step, bytes.len - pos), e) < 0)
			return -1;
	return 0;
}

static void release(struct peer *p)
{
	buf_free(&p->out);
	buf_free(&p->got);
}

static void good(const char *name, struct str bytes)
{
	struct peer p;
	struct err e;

	if (feed(&p, (struct str){ bytes.p + 1, bytes.len - 1 }, (size_t)(unsigned char)bytes.p[0] + 1, &e) < 0)
		fail_msg("%s: %s", name, e.msg);
	release(&p);
}

/* The offence is told the peer by a close frame with 1002. */
static void bad(const char *name, struct str bytes)
{
	struct peer p;
	struct err e;

	if (feed(&p, (struct str){ bytes.p + 1, bytes.len - 1 }, 3, &e) == 0)
		fail_msg("%s is taken", name);
	assert_true(p.out.len >= 4);
	assert_memory_equal(p.out.p + p.out.len - 2 - ((unsigned char)p.out.p[1] - 2) - 2, "\x88", 1);
	release(&p);
}

TEST(websocket_good_peers_are_understood)
{
	corpus_each("websocket/good", good);
}

TEST(websocket_bad_peers_are_told_so)
{
	corpus_each("websocket/bad", bad);
}

TEST(websocket_messages_come_unmasked_whatever_the_pieces)
{
	static const char text[] = "\x02\x83mask\x0c\x03\x10\x80\x83mask\x09\x04\x15"; /* "abc" + "def", in two frames */

	for (size_t step = 1; step < sizeof(text); step++) {
		struct peer p;
		struct err e;

		assert_ok(feed(&p, (struct str){ text, sizeof(text) - 1 }, step, &e), e);
		assert_int_equal(p.messages, 1);
		assert_true(str_eqz(buf_str(&p.got), "abcdef") || p.got.len == 6);
		release(&p);
	}
}

TEST(websocket_answers_pings_and_the_close)
{
	static const char text[] = "\x89\x82\0\0\0\0hi\x88\x82\0\0\0\0\x03\xe8";
	struct peer p;
	struct err e;

	assert_ok(feed(&p, (struct str){ text, sizeof(text) - 1 }, 1, &e), e);
	assert_int_equal(p.out.len, 8);
	assert_memory_equal(p.out.p, "\x8a\x02hi\x88\x02\x03\xe8", 8);
	assert_int_equal(p.close_code, WEBSOCKET_NORMAL);
	assert_ok(websocket_send(&p.w, WEBSOCKET_BINARY, STR(""), STR("late"), &e), e);
	assert_int_equal(p.out.len, 8);
	release(&p);
}

TEST(websocket_lengths_are_written_short)
{
	static const struct { size_t n, head; } cases[] = { { 0, 2 }, { 125, 2 }, { 126, 4 }, { 65535, 4 }, { 65536, 10 } };
	static char bytes[65536];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct peer p;
		struct err e;

		assert_ok(feed(&p, STR(""), 1, &e), e);
		assert_ok(websocket_send(&p.w, WEBSOCKET_BINARY, STR(""), (struct str){ bytes, cases[i].n }, &e), e);
		assert_int_equal(p.out.len, cases[i].head + cases[i].n);
		release(&p);
	}
}

TEST(websocket_accept_is_the_rfcs)
{
	char out[WEBSOCKET_ACCEPT_LEN + 1];

	websocket_accept(STR("dGhlIHNhbXBsZSBub25jZQ=="), out);
	assert_string_equal(out, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}
