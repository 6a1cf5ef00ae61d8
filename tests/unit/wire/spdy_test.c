#include "test.h"

#include "corpus.h"
#include "wire/spdy.h"

struct peer {
	struct spdy *spdy;
	struct buf out, got;
	uint32_t opened[8];
	size_t nopened, nended, nreset;
	bool refuse;
};

static bool on_opened(void *ctx, uint32_t id, const struct spdy_header *h, size_t n)
{
	struct peer *p = ctx;

	if (n)
		assert_non_null(spdy_header_get(h, n, "StreamType").p);
	p->opened[p->nopened++ % ARRAY_SIZE(p->opened)] = id;
	return !p->refuse;
}

static void on_data(void *ctx, UNUSED uint32_t id, const char *bytes, size_t n)
{
	struct err e;

	assert_ok(buf_add(&((struct peer *)ctx)->got, bytes, n, &e), e);
}

static void on_ended(void *ctx, UNUSED uint32_t id)
{
	((struct peer *)ctx)->nended++;
}

static void on_reset(void *ctx, UNUSED uint32_t id)
{
	((struct peer *)ctx)->nreset++;
}

static const struct spdy_events events = { on_opened, on_data, on_ended, on_reset };

static void peer_begin(struct peer *p)
{
	*p = (struct peer){ .out = BUF(1 << 20), .got = BUF(1 << 20) };
	p->spdy = spdy_new(&events, p, &p->out);
}

static void peer_end(struct peer *p)
{
	spdy_free(p->spdy);
	buf_free(&p->out);
	buf_free(&p->got);
}

static int feed(struct peer *p, struct str file, struct err *e)
{
	size_t step = (size_t)(unsigned char)file.p[0] + 1;

	for (size_t pos = 1; pos < file.len; pos += step)
		if (spdy_input(p->spdy, file.p + pos, MIN(step, file.len - pos), e) < 0)
			return -1;
	return 0;
}

static void feed_named(struct peer *p, const char *name)
{
	auto_arena a = { 0 };
	struct str file;
	struct err e;

	assert_ok(fs_read_file(&a, AT_FDCWD, arena_printf(&a, TEST_DATA "/spdy/%s", name), 1 << 20, &file, &e), e);
	assert_ok(feed(p, file, &e), e);
}

static void good(const char *name, struct str bytes)
{
	struct peer p;
	struct err e;

	peer_begin(&p);
	if (feed(&p, bytes, &e) < 0)
		fail_msg("%s: %s", name, e.msg);
	peer_end(&p);
}

static void bad(const char *name, struct str bytes)
{
	struct peer p;
	struct err e;

	peer_begin(&p);
	if (feed(&p, bytes, &e) == 0)
		fail_msg("%s is taken", name);
	assert_true(p.out.len >= 16);
	assert_memory_equal(p.out.p + p.out.len - 16, "\x80\3\0\7", 4); /* the last word is a GOAWAY */
	assert_err(spdy_input(p.spdy, "x", 1, &e), e, ERR_STATE, "failed before");
	peer_end(&p);
}

TEST(spdy_good_peers_are_understood)
{
	corpus_each("spdy/good", good);
}

TEST(spdy_bad_peers_are_sent_away)
{
	corpus_each("spdy/bad", bad);
}

TEST(spdy_streams_open_carry_data_and_end)
{
	struct peer p;

	peer_begin(&p);
	feed_named(&p, "good/bytewise");
	assert_int_equal(p.nopened, 2);
	assert_int_equal(p.opened[1], 3);
	assert_string_equal(buf_text(&p.got), "hello");
	assert_int_equal(p.nended, 1);
	assert_int_equal(p.nreset, 1);
	assert_int_equal(spdy_room(p.spdy, 1), 0);
	assert_true(spdy_room(p.spdy, 3) > 0);
	peer_end(&p);
}

TEST(spdy_answers_streams_and_pings)
{
	static const char reply[] = "\x80\3\0\2\0\0\0\x14\0\0\0\1\x78\1\0\4\0\xfb\xff\0\0\0\0\0\0\0\xff\xff"
				    "\x80\3\0\2\0\0\0\x12\0\0\0\3\0\4\0\xfb\xff\0\0\0\0\0\0\0\xff\xff"
				    "\x80\3\0\6\0\0\0\4\0\0\0\1";
	struct peer p;

	peer_begin(&p);
	feed_named(&p, "good/exec");
	assert_int_equal(p.out.len, sizeof(reply) - 1);
	assert_memory_equal(p.out.p, reply, sizeof(reply) - 1);
	peer_end(&p);
}

TEST(spdy_a_refused_stream_is_reset)
{
	struct peer p;

	peer_begin(&p);
	p.refuse = true;
	feed_named(&p, "good/exec");
	assert_memory_equal(p.out.p, "\x80\3\0\3\0\0\0\x08\0\0\0\1\0\0\0\3", 16);
	assert_int_equal(p.got.len, 0);
	peer_end(&p);
}

TEST(spdy_windows_bind_once_the_peer_shows_them)
{
	struct peer p;
	struct err e;

	peer_begin(&p);
	feed_named(&p, "good/windows"); /* 10 at first, then 1000 more */
	assert_int_equal(spdy_room(p.spdy, 1), 1010);
	assert_ok(spdy_data(p.spdy, 1, (char[1000]){ 0 }, 1000, &e), e);
	assert_int_equal(spdy_room(p.spdy, 1), 10);
	assert_ok(spdy_end(p.spdy, 1, &e), e);
	assert_int_equal(spdy_room(p.spdy, 1), 0);
	peer_end(&p);
}

TEST(spdy_consumed_data_opens_the_windows_again)
{
	struct peer p;
	struct err e;

	peer_begin(&p);
	feed_named(&p, "good/exec");
	buf_clear(&p.out);
	assert_ok(spdy_consumed(p.spdy, 3, 1000, &e), e);
	assert_int_equal(p.out.len, 0);
	assert_ok(spdy_consumed(p.spdy, 3, SPDY_WINDOW / 2, &e), e);
	assert_int_equal(p.out.len, 16); /* the session's alone: the stream has ended */
	peer_end(&p);
}

TEST(spdy_a_window_beyond_its_range_resets_the_stream)
{
	struct peer p;

	peer_begin(&p);
	feed_named(&p, "good/overflow-of-a-stream");
	assert_int_equal(p.nreset, 1);
	assert_memory_equal(p.out.p + p.out.len - 4, "\0\0\0\7", 4);
	peer_end(&p);
}
