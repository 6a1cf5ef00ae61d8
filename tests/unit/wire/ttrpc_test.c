#include "test.h"

#include "corpus.h"
#include "wire/ttrpc.h"

struct heard {
	unsigned requests, responses;
	uint32_t stream;
	int code;
	struct buf text, payload;
};

static void request(void *ctx, uint32_t stream, struct str service, struct str method, struct str payload)
{
	struct heard *h = ctx;
	struct err e;

	h->requests++;
	h->stream = stream;
	buf_clear(&h->text);
	buf_clear(&h->payload);
	assert_ok(buf_addf(&h->text, &e, "%.*s/%.*s", STR_ARG(service), STR_ARG(method)), e);
	assert_ok(buf_add(&h->payload, payload.p, payload.len, &e), e);
}

static void response(void *ctx, uint32_t stream, int code, struct str message, struct str payload)
{
	struct heard *h = ctx;
	struct err e;

	h->responses++;
	h->stream = stream;
	h->code = code;
	buf_clear(&h->text);
	buf_clear(&h->payload);
	assert_ok(buf_add(&h->text, message.p, message.len, &e), e);
	assert_ok(buf_add(&h->payload, payload.p, payload.len, &e), e);
}

static const struct ttrpc_events events = { request, response };

static int feed(struct heard *h, struct str bytes, size_t step, struct err *e)
{
	struct ttrpc_reader r;
	int rc = 0;

	*h = (struct heard){ .text = BUF(1 << 20), .payload = BUF(8 << 20) };
	ttrpc_reader_init(&r, &events, h);
	for (size_t pos = 0; rc == 0 && pos < bytes.len; pos += step)
		rc = ttrpc_input(&r, bytes.p + pos, MIN(step, bytes.len - pos), e);
	ttrpc_reader_free(&r);
	return rc;
}

static void release(struct heard *h)
{
	buf_free(&h->text);
	buf_free(&h->payload);
}

/* What we write for one side is read by the other: only the connection's number differs. */
static void turn_around(struct buf *b, unsigned char connection)
{
	size_t pos = 0;

	while (pos < b->len) {
		const unsigned char *p = (const unsigned char *)b->p + pos;
		size_t n = (size_t)p[4] << 24 | (size_t)p[5] << 16 | (size_t)p[6] << 8 | p[7];

		b->p[pos + 3] = (char)connection;
		pos += 8 + n;
	}
}

TEST(a_request_is_read_as_it_was_written_in_any_pieces)
{
	static const size_t steps[] = { 1, 3, 4096, 1 << 20 };
	static const size_t sizes[] = { 0, 5, 4000, 4096, 4097, 100000 };
	static char payload[100000];
	struct err e;

	memset(payload, 'x', sizeof(payload));
	for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
		const struct ttrpc_request r = { .stream = 7, .service = "a.Plugin", .method = "Configure",
						 .payload = { payload, sizes[s] }, .timeout_ns = 2000000000 };
		auto_buf out = BUF(16 << 20);

		assert_ok(ttrpc_add_request(&out, &r, &e), e);
		turn_around(&out, TTRPC_TO_RUNTIME);
		for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
			struct heard h;

			assert_ok(feed(&h, buf_str(&out), steps[i], &e), e);
			assert_int_equal(h.requests, 1);
			assert_int_equal(h.stream, 7);
			assert_string_equal(buf_text(&h.text), "a.Plugin/Configure");
			assert_int_equal(h.payload.len, sizes[s]);
			release(&h);
		}
	}
}

TEST(a_response_carries_its_status)
{
	const struct err refusal = { .kind = ERR_NOT_FOUND, .msg = "no such container" }, fine = { 0 };
	auto_buf out = BUF(1 << 20);
	struct heard h;
	struct err e;

	assert_ok(ttrpc_add_response(&out, 1, &fine, STR("answer"), &e), e);
	assert_ok(ttrpc_add_response(&out, 3, &refusal, STR("lost"), &e), e);
	turn_around(&out, TTRPC_TO_PLUGIN);
	assert_ok(feed(&h, buf_str(&out), 2, &e), e);
	assert_int_equal(h.responses, 2);
	assert_int_equal(h.stream, 3);
	assert_int_equal(h.code, 5);
	assert_string_equal(buf_text(&h.text), "no such container");
	assert_int_equal(h.payload.len, 0);
	release(&h);
}

/* Go's reader takes a message through a buffer of 4096 bytes, and drops a connection with 256 frames waiting. */
TEST(a_large_message_goes_in_two_frames_the_first_of_4096_bytes)
{
	static char payload[1 << 20];
	const struct ttrpc_request r = { .stream = 1, .service = "s", .method = "m", .payload = { payload, sizeof(payload) } };
	auto_buf out = BUF(16 << 20);
	const unsigned char *p;
	struct err e;

	assert_ok(ttrpc_add_request(&out, &r, &e), e);
	p = (const unsigned char *)out.p;
	assert_int_equal(p[6] << 8 | p[7], 4096);
	p += 8 + 4096;
	assert_int_equal((size_t)p[4] << 24 | (size_t)p[5] << 16 | (size_t)p[6] << 8 | p[7], out.len - 2 * 8 - 4096);
}

TEST(a_message_beyond_the_limit_is_not_sent)
{
	static char payload[TTRPC_MESSAGE_MAX];
	const struct ttrpc_request r = { .stream = 1, .service = "s", .method = "m", .payload = { payload, sizeof(payload) } };
	auto_buf out = BUF(16 << 20);
	struct err e;

	assert_err(ttrpc_add_request(&out, &r, &e), e, ERR_EXHAUSTED, "ttrpc request m");
	assert_int_equal(out.len, 0);
}

TEST(what_is_for_an_unknown_connection_is_dropped)
{
	static const char bytes[] = { 0, 0, 0, 9, 0, 0, 0, 3, 'a', 'b', 'c' };
	struct heard h;
	struct err e;

	assert_ok(feed(&h, (struct str){ bytes, sizeof(bytes) }, 2, &e), e);
	assert_int_equal(h.requests + h.responses, 0);
	release(&h);
}

static void good(const char *name, struct str bytes)
{
	struct heard h;
	struct err e;

	if (feed(&h, (struct str){ bytes.p + 1, bytes.len - 1 }, (size_t)(unsigned char)bytes.p[0] + 1, &e) < 0)
		fail_msg("%s: %s", name, e.msg);
	release(&h);
}

static void bad(const char *name, struct str bytes)
{
	struct heard h;
	struct err e;

	if (feed(&h, (struct str){ bytes.p + 1, bytes.len - 1 }, (size_t)(unsigned char)bytes.p[0] + 1, &e) == 0)
		fail_msg("%s was accepted", name);
	release(&h);
}

TEST(good_bytes_are_read)
{
	corpus_each("ttrpc/good", good);
}

TEST(bad_bytes_are_refused)
{
	corpus_each("ttrpc/bad", bad);
}
