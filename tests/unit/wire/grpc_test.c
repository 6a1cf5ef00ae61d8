#include "test.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "wire/grpc.h"
#include "wire/grpc_client.h"
#include "wire/grpc_server.h"

/* --- texts ------------------------------------------------------------------------------------------- */

TEST(messages_are_percent_encoded_and_back)
{
	static const struct { const char *text, *wire; } rows[] = {
		{ "", "" },
		{ "plain text.", "plain text." },
		{ "100 %", "100 %25" },
		{ "a\nb", "a%0Ab" },
		{ "w\xc3\xb6rld", "w%C3%B6rld" },
	};
	auto_arena a = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_string_equal(grpc_message_encode(&a, rows[i].text), rows[i].wire);
		assert_string_equal(grpc_message_decode(&a, str_of(rows[i].wire)), rows[i].text);
	}
	assert_string_equal(grpc_message_encode(&a, "\xff"), "%EF%BF%BD");
	assert_string_equal(grpc_message_decode(&a, str_of("50% %zz %4")), "50% %zz %4");
}

TEST(timeouts_are_read_and_written)
{
	static const struct { const char *text; int64_t ns; } good[] = {
		{ "1H", 3600 * NS_PER_S }, { "2M", 120 * NS_PER_S }, { "3S", 3 * NS_PER_S },
		{ "4m", 4 * NS_PER_MS }, { "5u", 5000 }, { "6n", 6 }, { "0S", 0 },
		{ "99999999H", INT64_MAX },
	};
	static const char *const bad[] = { "", "S", "1", "1s", "-1S", "+1S", "123456789S", "1.5S", " 1S", "1S " };
	auto_arena a = { 0 };
	struct err e;
	int64_t ns;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_ok(grpc_timeout_parse(str_of(good[i].text), &ns, &e), e);
		assert_int_equal(ns, good[i].ns);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_err(grpc_timeout_parse(str_of(bad[i]), &ns, &e), e, ERR_INVALID, "grpc-timeout");
	assert_string_equal(grpc_timeout_format(&a, 1), "1n");
	assert_string_equal(grpc_timeout_format(&a, 100 * NS_PER_S + 1), "100001m");
	assert_string_equal(grpc_timeout_format(&a, INT64_MAX), "2562048H");
}

/* --- a client and a server, mouth to ear ---------------------------------------------------------------- */

struct world {
	struct grpc_server *server;
	struct grpc_client *client;
	struct grpc_memory memory;
	int requests, cancelled, drained;
	int32_t last;      /* stream */
	int64_t deadline_ns;
	struct buf message; /* the last request's */
	bool echo;
};

static const struct rpc_method method = { .path = "/s/M" };

static const struct rpc_method *on_find(UNUSED void *ctx, struct str path)
{
	return str_eqz(path, method.path) ? &method : NULL;
}

static void on_request(void *ctx, struct grpc_request *r)
{
	struct world *w = ctx;
	struct err ok = { 0 };

	w->requests++;
	w->last = r->stream;
	w->deadline_ns = r->deadline_ns;
	grpc_memory_release(&w->memory, r->message.len);
	if (w->echo) {
		(void)grpc_server_message(w->server, r->stream, &r->message);
		grpc_server_finish(w->server, r->stream, &ok);
		return;
	}
	buf_free(&w->message);
	w->message = r->message;
	r->message = BUF(0);
}

static void on_cancelled(void *ctx, UNUSED int32_t stream)
{
	((struct world *)ctx)->cancelled++;
}

static void on_drained(void *ctx, UNUSED int32_t stream)
{
	((struct world *)ctx)->drained++;
}

static const struct grpc_server_events events = { on_find, on_request, on_cancelled, on_drained };

static void world_begin(struct world *w)
{
	*w = (struct world){ .memory.max_bytes = 64 << 20, .echo = true };
	w->server = grpc_server_new(&events, w, &w->memory);
	w->client = grpc_client_new();
}

static void world_end(struct world *w)
{
	grpc_server_free(w->server);
	grpc_client_free(w->client);
	buf_free(&w->message);
	assert_int_equal(w->memory.used_bytes, 0);
}

static void talk(struct world *w)
{
	char bytes[10000];
	struct err e;
	size_t n, m;

	do {
		n = grpc_client_output(w->client, bytes, sizeof(bytes));
		if (n)
			assert_ok(grpc_server_input(w->server, bytes, n, &e), e);
		m = grpc_server_output(w->server, bytes, sizeof(bytes));
		if (m)
			(void)grpc_client_input(w->client, bytes, m, &e);
	} while (n || m);
}

static struct buf message_of(size_t size)
{
	struct buf b = BUF(size + GRPC_HEAD);
	struct err e;

	assert_ok(buf_reserve(&b, size + GRPC_HEAD, &e), e);
	grpc_head_write(b.p, size);
	memset(b.p + GRPC_HEAD, 'm', size);
	b.len = size + GRPC_HEAD;
	return b;
}

static struct grpc_client_stream *begin(struct world *w, const char *path, size_t size)
{
	struct grpc_client_stream *st;
	struct buf b = message_of(size);
	struct err e;

	assert_ok(grpc_client_begin(w->client, path, &b, 0, &st, &e), e);
	return st;
}

TEST(messages_of_every_size_come_back)
{
	static const size_t sizes[] = { 0, 1, 16383, 16384, 262144, 1 << 20, RPC_MESSAGE_MAX };
	struct world w;

	world_begin(&w);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct grpc_client_stream *st = begin(&w, "/s/M", sizes[i]);
		struct str answer;
		struct err e;

		talk(&w);
		assert_true(grpc_client_next(st, &answer));
		assert_int_equal(answer.len, sizes[i]);
		assert_true(grpc_client_has_ended(st));
		assert_ok(grpc_client_status(st, &e), e);
		grpc_client_end(w.client, st);
	}
	world_end(&w);
}

static void expect_status(struct world *w, struct grpc_client_stream *st, enum err_kind kind, const char *text)
{
	struct err e;

	talk(w);
	assert_true(grpc_client_has_ended(st));
	assert_err(grpc_client_status(st, &e), e, kind, text);
	grpc_client_end(w->client, st);
}

TEST(what_cannot_be_served_is_answered_at_once)
{
	struct world w;
	struct buf b;
	struct grpc_client_stream *st;
	struct err e;

	world_begin(&w);
	expect_status(&w, begin(&w, "/s/Other", 1 << 20), ERR_UNIMPLEMENTED, "unknown method /s/Other");
	expect_status(&w, begin(&w, "/s/M", RPC_MESSAGE_MAX + 1), ERR_EXHAUSTED, "16777217 bytes");

	b = message_of(10);
	b.p[0] = 1;
	assert_ok(grpc_client_begin(w.client, "/s/M", &b, 0, &st, &e), e);
	expect_status(&w, st, ERR_UNIMPLEMENTED, "compressed");

	b = message_of(10);
	b.len -= 3;
	assert_ok(grpc_client_begin(w.client, "/s/M", &b, 0, &st, &e), e);
	expect_status(&w, st, ERR_INTERNAL, "ends before its message does");

	b = message_of(10);
	b.p[4] = 5;
	assert_ok(grpc_client_begin(w.client, "/s/M", &b, 0, &st, &e), e);
	expect_status(&w, st, ERR_UNIMPLEMENTED, "one message");
	assert_int_equal(w.requests, 0);

	w.memory.max_bytes = 1000;
	expect_status(&w, begin(&w, "/s/M", 5000), ERR_EXHAUSTED, "no more are taken for now");
	world_end(&w);
}

TEST(an_error_comes_as_it_was_said)
{
	struct err said = { .kind = ERR_NOT_FOUND, .msg = "no pod \"\xc3\xa4\" 100 %" };
	struct grpc_client_stream *st;
	struct world w;

	world_begin(&w);
	w.echo = false;
	st = begin(&w, "/s/M", 10);
	talk(&w);
	assert_int_equal(w.requests, 1);
	grpc_server_finish(w.server, w.last, &said);
	expect_status(&w, st, ERR_NOT_FOUND, said.msg);
	assert_int_equal(w.cancelled, 0);
	world_end(&w);
}

TEST(a_stream_of_messages_ends_with_its_status)
{
	struct err said = { .kind = ERR_STATE, .msg = "enough" };
	struct grpc_client_stream *st;
	struct world w;
	struct str answer;
	int got = 0;

	world_begin(&w);
	w.echo = false;
	st = begin(&w, "/s/M", 0);
	talk(&w);
	for (int i = 0; i < 100; i++) {
		struct buf b = message_of((size_t)i * 100);

		(void)grpc_server_message(w.server, w.last, &b);
		if (i % 7 == 0)
			talk(&w);
	}
	talk(&w);
	while (grpc_client_next(st, &answer))
		assert_int_equal(answer.len, 100 * got++);
	assert_int_equal(got, 100);
	assert_false(grpc_client_has_ended(st));
	grpc_server_finish(w.server, w.last, &said);
	expect_status(&w, st, ERR_STATE, "enough");
	world_end(&w);
}

TEST(the_owner_hears_when_a_full_stream_drains)
{
	struct grpc_client_stream *st;
	struct buf b = message_of(1 << 20);
	struct world w;

	world_begin(&w);
	w.echo = false;
	st = begin(&w, "/s/M", 0);
	talk(&w);
	assert_true(grpc_server_message(w.server, w.last, &b) > GRPC_UNSENT_LOW);
	assert_int_equal(w.drained, 0);
	talk(&w);
	assert_int_equal(w.drained, 1);
	grpc_client_end(w.client, st);
	talk(&w);
	assert_int_equal(w.cancelled, 1);
	world_end(&w);
}

TEST(reset_and_the_connections_end_cancel)
{
	struct grpc_client_stream *one;
	struct err ok = { 0 };
	struct world w;

	world_begin(&w);
	w.echo = false;
	one = begin(&w, "/s/M", 10);
	(void)begin(&w, "/s/M", 10);
	talk(&w);
	grpc_client_end(w.client, one);
	talk(&w);
	assert_int_equal(w.cancelled, 1);
	grpc_server_finish(w.server, 1, &ok); /* goes nowhere */
	talk(&w);
	grpc_server_free(w.server);
	w.server = NULL;
	assert_int_equal(w.cancelled, 2);
	world_end(&w);
}

TEST(a_timeout_becomes_a_deadline)
{
	struct grpc_client_stream *st;
	struct buf b = message_of(1);
	int64_t now = clock_mono_ns();
	struct world w;
	struct err e;

	world_begin(&w);
	assert_ok(grpc_client_begin(w.client, "/s/M", &b, 5 * NS_PER_S, &st, &e), e);
	talk(&w);
	assert_true(w.deadline_ns >= now + 5 * NS_PER_S && w.deadline_ns < now + 20 * NS_PER_S);
	grpc_client_end(w.client, st);
	world_end(&w);
}

TEST(shutdown_lets_what_is_under_way_end)
{
	struct grpc_client_stream *st, *late;
	struct err ok = { 0 }, e;
	struct world w;
	struct buf b = message_of(3), answer = message_of(3);

	world_begin(&w);
	w.echo = false;
	st = begin(&w, "/s/M", 10);
	talk(&w);
	grpc_server_shutdown(w.server);
	talk(&w);
	assert_false(grpc_server_is_done(w.server));
	assert_err(grpc_client_begin(w.client, "/s/M", &b, 0, &late, &e), e, ERR_UNAVAILABLE, "no more calls");
	buf_free(&b);
	(void)grpc_server_message(w.server, w.last, &answer);
	grpc_server_finish(w.server, w.last, &ok);
	talk(&w);
	assert_ok(grpc_client_status(st, &e), e);
	assert_true(grpc_server_is_done(w.server));
	grpc_client_end(w.client, st);
	world_end(&w);
}

TEST(what_is_no_http2_is_an_error)
{
	struct world w;
	struct err e;

	world_begin(&w);
	assert_err(grpc_server_input(w.server, "GET / HTTP/1.1\r\n\r\n", 18, &e), e, ERR_INVALID, "HTTP/2");
	world_end(&w);
}
