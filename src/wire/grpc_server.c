#include "wire/grpc_server.h"

#include "base/clock.h"
#include "base/list.h"
#include "base/mem.h"
#include "wire/grpc.h"

#include <nghttp2/nghttp2.h>
#include <stdio.h>

enum {
	STREAM_WINDOW = 256 * 1024,
	CONNECTION_WINDOW = 1024 * 1024,
	HEADERS_MAX = 16 * 1024,   /* of one request; metadata of kubelet's is a few hundred bytes */
	WAITING_FRAMES_MAX = 20000,
	ANSWER_MAX = 2 * RPC_MESSAGE_MAX, /* a buffer's formal maximum */
};

struct chunk {
	struct list link;
	struct buf bytes;
	size_t sent;
};

struct stream {
	struct list link;
	int32_t id;
	/* the request */
	bool is_post, is_grpc, path_known;
	const struct rpc_method *method;
	char *path;
	int64_t timeout_ns; /* 0: none */
	size_t header_bytes;
	struct buf in;
	bool given;    /* to the owner */
	/* the answer */
	struct list chunks;
	size_t unsent;
	bool above_low;  /* the owner waits for `drained` */
	bool begun;      /* the response's headers are submitted */
	bool deferred;   /* nghttp2 waits for data */
	bool finished;
	struct err *status; /* while finished, until the trailers are submitted */
};

struct grpc_server {
	nghttp2_session *h2;
	const struct grpc_server_events *events;
	void *ctx;
	struct grpc_memory *memory;
	struct list streams;
	const uint8_t *out; /* what nghttp2 gave and nobody took yet */
	size_t out_left;
	bool broken;
};

void grpc_memory_release(struct grpc_memory *m, size_t bytes)
{
	BUG_ON(bytes > m->used_bytes);
	m->used_bytes -= bytes;
}

static void stream_drop_request(struct grpc_server *s, struct stream *st)
{
	grpc_memory_release(s->memory, st->in.len);
	buf_free(&st->in);
}

static void stream_free(struct grpc_server *s, struct stream *st)
{
	stream_drop_request(s, st);
	list_for_each_safe(c, &st->chunks, struct chunk, link) {
		list_del(&c->link);
		buf_free(&c->bytes);
		mem_free(c);
	}
	list_del(&st->link);
	mem_free(st->path);
	mem_free(st->status);
	mem_free(st);
}

static struct stream *stream_of(const struct grpc_server *s, int32_t id)
{
	return nghttp2_session_get_stream_user_data(s->h2, id);
}

/* --- answers ------------------------------------------------------------------------------------- */

#define NV(n, v) { (uint8_t *)(n), (uint8_t *)(v), sizeof(n) - 1, strlen(v), NGHTTP2_NV_FLAG_NO_COPY_NAME }

static void submit_http_error(struct grpc_server *s, struct stream *st, const char *status)
{
	nghttp2_nv nva[] = { NV(":status", status) };

	st->begun = st->finished = true;
	(void)nghttp2_submit_response(s->h2, st->id, nva, ARRAY_SIZE(nva), NULL);
}

/* grpc-status and grpc-message: as trailers, or with the headers where there is nothing else. */
static void submit_status(struct grpc_server *s, struct stream *st)
{
	auto_arena a = { 0 };
	const char *code = arena_printf(&a, "%d", err_grpc_code(st->status->kind));
	const char *text = grpc_message_encode(&a, st->status->msg);
	nghttp2_nv nva[] = { NV(":status", "200"), NV("content-type", "application/grpc"),
			     NV("grpc-status", code), NV("grpc-message", text) };
	size_t n = st->status->kind == ERR_NONE ? ARRAY_SIZE(nva) - 1 : ARRAY_SIZE(nva);

	if (st->begun)
		(void)nghttp2_submit_trailer(s->h2, st->id, nva + 2, n - 2);
	else
		(void)nghttp2_submit_response(s->h2, st->id, nva, n, NULL);
	st->begun = true;
	mem_free(st->status);
	st->status = NULL;
}

static size_t take_unsent(struct stream *st, uint8_t *to, size_t cap)
{
	size_t done = 0;

	list_for_each_safe(c, &st->chunks, struct chunk, link) {
		size_t n = MIN(cap - done, c->bytes.len - c->sent);

		memcpy(to + done, c->bytes.p + c->sent, n);
		c->sent += n;
		done += n;
		if (c->sent < c->bytes.len)
			break;
		list_del(&c->link);
		buf_free(&c->bytes);
		mem_free(c);
	}
	st->unsent -= done;
	return done;
}

static ssize_t on_read_answer(UNUSED nghttp2_session *h2, int32_t id, uint8_t *to, size_t cap,
			      uint32_t *flags, nghttp2_data_source *source, void *ctx)
{
	struct grpc_server *s = ctx;
	struct stream *st = source->ptr;
	size_t n = take_unsent(st, to, cap);

	if (st->above_low && st->unsent <= GRPC_UNSENT_LOW) {
		st->above_low = false;
		s->events->drained(s->ctx, id);
	}
	if (!st->unsent && st->finished) {
		*flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
		submit_status(s, st);
	} else if (!n) {
		st->deferred = true;
		return NGHTTP2_ERR_DEFERRED;
	}
	return (ssize_t)n;
}

static void answer_goes_on(struct grpc_server *s, struct stream *st)
{
	nghttp2_nv nva[] = { NV(":status", "200"), NV("content-type", "application/grpc") };
	nghttp2_data_provider provider = { .source.ptr = st, .read_callback = on_read_answer };

	if (!st->begun) {
		st->begun = true;
		(void)nghttp2_submit_response(s->h2, st->id, nva, ARRAY_SIZE(nva), &provider);
	} else if (st->deferred) {
		st->deferred = false;
		(void)nghttp2_session_resume_data(s->h2, st->id);
	}
}

size_t grpc_server_message(struct grpc_server *s, int32_t id, struct buf *message)
{
	struct stream *st = stream_of(s, id);
	struct chunk *c;

	if (!st || st->finished) {
		buf_free(message);
		return 0;
	}
	c = mem_new0(struct chunk);
	c->bytes = *message;
	*message = BUF(ANSWER_MAX);
	list_add(&st->chunks, &c->link);
	st->unsent += c->bytes.len;
	st->above_low = st->unsent > GRPC_UNSENT_LOW;
	answer_goes_on(s, st);
	return st->unsent;
}

void grpc_server_finish(struct grpc_server *s, int32_t id, const struct err *status)
{
	struct stream *st = stream_of(s, id);

	if (!st || st->finished)
		return;
	st->finished = true;
	st->status = mem_new0(struct err);
	*st->status = *status;
	if (st->begun)
		answer_goes_on(s, st);
	else
		submit_status(s, st);
}

/* An answer of our own, before or instead of the owner's; the request's bytes are no longer wanted. */
static void PRINTF_LIKE(4, 5) refuse(struct grpc_server *s, struct stream *st, enum err_kind kind,
				     const char *fmt, ...)
{
	struct err status = { .kind = kind };
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(status.msg, sizeof(status.msg), fmt, ap);
	va_end(ap);
	stream_drop_request(s, st);
	grpc_server_finish(s, st->id, &status);
}

/* --- requests ------------------------------------------------------------------------------------ */

static int on_begin_headers(nghttp2_session *h2, const nghttp2_frame *frame, void *ctx)
{
	struct grpc_server *s = ctx;
	struct stream *st;

	if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	st = mem_new0(struct stream);
	st->id = frame->hd.stream_id;
	st->in = BUF(GRPC_HEAD + RPC_MESSAGE_MAX);
	list_init(&st->chunks);
	list_add(&s->streams, &st->link);
	(void)nghttp2_session_set_stream_user_data(h2, st->id, st);
	return 0;
}

static int on_header(nghttp2_session *h2, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
		     const uint8_t *value, size_t value_len, UNUSED uint8_t flags, void *ctx)
{
	struct grpc_server *s = ctx;
	struct stream *st = nghttp2_session_get_stream_user_data(h2, frame->hd.stream_id);
	struct str n = { (const char *)name, name_len }, v = { (const char *)value, value_len };
	struct err bad;

	if (!st || st->finished || st->given)
		return 0;
	st->header_bytes += name_len + value_len + 32; /* as RFC 9113, 6.5.2 counts */
	if (st->header_bytes > HEADERS_MAX)
		refuse(s, st, ERR_EXHAUSTED, "the request's headers exceed %d bytes", HEADERS_MAX);
	else if (str_eqz(n, ":method"))
		st->is_post = str_eqz(v, "POST");
	else if (str_eqz(n, "content-type"))
		st->is_grpc = str_eqz(v, "application/grpc") || str_starts(v, "application/grpc+") ||
			      str_starts(v, "application/grpc;");
	else if (str_eqz(n, "grpc-timeout") && grpc_timeout_parse(v, &st->timeout_ns, &bad) < 0)
		refuse(s, st, ERR_INVALID, "%s", bad.msg);
	else if (str_eqz(n, ":path") && !st->path) {
		st->path = mem_alloc0(v.len + 1);
		memcpy(st->path, v.p, v.len);
		st->method = s->events->find(s->ctx, v);
	}
	return 0;
}

static void check_headers(struct grpc_server *s, struct stream *st)
{
	if (st->finished)
		return;
	if (!st->is_post)
		submit_http_error(s, st, "405");
	else if (!st->is_grpc)
		submit_http_error(s, st, "415");
	else if (!st->method)
		refuse(s, st, ERR_UNIMPLEMENTED, "unknown method %s", st->path ? st->path : "(none)");
}

static void check_message(struct grpc_server *s, struct stream *st)
{
	struct grpc_head head;

	if (st->in.len < GRPC_HEAD)
		return;
	head = grpc_head_read(st->in.p);
	if (head.compressed)
		refuse(s, st, ERR_UNIMPLEMENTED, "compressed messages are not taken; send them plain");
	else if (head.message_bytes > RPC_MESSAGE_MAX)
		refuse(s, st, ERR_EXHAUSTED, "the message has %zu bytes; at most %d are taken",
		       head.message_bytes, RPC_MESSAGE_MAX);
	else if (st->in.len - GRPC_HEAD > head.message_bytes)
		refuse(s, st, ERR_UNIMPLEMENTED, "%s takes one message, not a stream of them", st->path);
}

static int on_data(nghttp2_session *h2, UNUSED uint8_t flags, int32_t id, const uint8_t *bytes, size_t n,
		   void *ctx)
{
	struct grpc_server *s = ctx;
	struct stream *st = nghttp2_session_get_stream_user_data(h2, id);
	struct err e;

	if (!st || st->finished || st->given)
		return 0;
	if (n > s->memory->max_bytes - MIN(s->memory->used_bytes, s->memory->max_bytes)) {
		refuse(s, st, ERR_EXHAUSTED, "the requests under way hold %zu bytes; no more are taken for now",
		       s->memory->used_bytes);
		return 0;
	}
	/* The formal maximum holds one message; what comes after a whole one is refused as such. */
	if (buf_add(&st->in, bytes, n, &e) < 0) {
		refuse(s, st, ERR_EXHAUSTED, "the request has more than %d bytes", RPC_MESSAGE_MAX);
		return 0;
	}
	s->memory->used_bytes += n;
	check_message(s, st);
	return 0;
}

static void request_is_complete(struct grpc_server *s, struct stream *st)
{
	struct grpc_request r = { .stream = st->id, .method = st->method };

	if (st->finished || st->given)
		return;
	if (st->in.len < GRPC_HEAD || st->in.len - GRPC_HEAD < grpc_head_read(st->in.p).message_bytes) {
		refuse(s, st, ERR_INTERNAL, "the request ends before its message does");
		return;
	}
	if (st->timeout_ns) {
		int64_t now = clock_mono_ns();

		r.deadline_ns = st->timeout_ns > INT64_MAX - now ? 0 : now + st->timeout_ns;
	}
	st->given = true;
	r.message = st->in;
	st->in = BUF(GRPC_HEAD + RPC_MESSAGE_MAX);
	s->events->request(s->ctx, &r);
	grpc_memory_release(s->memory, r.message.len); /* what was not taken */
	buf_free(&r.message);
}

static int on_frame(nghttp2_session *h2, const nghttp2_frame *frame, void *ctx)
{
	struct grpc_server *s = ctx;
	struct stream *st;

	if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
		return 0;
	st = nghttp2_session_get_stream_user_data(h2, frame->hd.stream_id);
	if (!st)
		return 0;
	if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
		check_headers(s, st);
	if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
		request_is_complete(s, st);
	return 0;
}

/* An answer may end before the request does (an unknown path, 17 MiB): NO_ERROR tells the peer to
 * stop sending and keep the answer (RFC 9113, 8.1). */
static int on_frame_sent(nghttp2_session *h2, const nghttp2_frame *frame, UNUSED void *ctx)
{
	if ((frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) &&
	    (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) &&
	    nghttp2_session_get_stream_remote_close(h2, frame->hd.stream_id) == 0)
		(void)nghttp2_submit_rst_stream(h2, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR);
	return 0;
}

static void stream_ends(struct grpc_server *s, struct stream *st)
{
	if (st->given && !st->finished)
		s->events->cancelled(s->ctx, st->id);
	stream_free(s, st);
}

static int on_stream_close(nghttp2_session *h2, int32_t id, UNUSED uint32_t code, void *ctx)
{
	struct stream *st = nghttp2_session_get_stream_user_data(h2, id);

	if (!st)
		return 0;
	(void)nghttp2_session_set_stream_user_data(h2, id, NULL);
	stream_ends(ctx, st);
	return 0;
}

/* --- the session --------------------------------------------------------------------------------- */

static nghttp2_option *session_options(void)
{
	nghttp2_option *o;

	BUG_ON(nghttp2_option_new(&o) != 0);
	/* An :authority with '/' in it would be a PROTOCOL_ERROR: the headers are checked here. */
	nghttp2_option_set_no_http_messaging(o, 1);
	nghttp2_option_set_no_closed_streams(o, 1);
	return o;
}

struct grpc_server *grpc_server_new(const struct grpc_server_events *events, void *ctx,
				    struct grpc_memory *memory)
{
	static const nghttp2_settings_entry settings[] = {
		{ NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, GRPC_STREAMS_MAX },
		{ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW },
		{ NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HEADERS_MAX },
	};
	struct grpc_server *s = mem_new0(struct grpc_server);
	nghttp2_option *options = session_options();
	nghttp2_session_callbacks *cb;

	*s = (struct grpc_server){ .events = events, .ctx = ctx, .memory = memory };
	list_init(&s->streams);
	BUG_ON(nghttp2_session_callbacks_new(&cb) != 0);
	nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
	nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_sent);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
	BUG_ON(nghttp2_session_server_new2(&s->h2, cb, s, options) != 0);
	nghttp2_session_callbacks_del(cb);
	nghttp2_option_del(options);
	(void)nghttp2_submit_settings(s->h2, NGHTTP2_FLAG_NONE, settings, ARRAY_SIZE(settings));
	(void)nghttp2_session_set_local_window_size(s->h2, NGHTTP2_FLAG_NONE, 0, CONNECTION_WINDOW);
	return s;
}

void grpc_server_free(struct grpc_server *s)
{
	if (!s)
		return;
	list_for_each_safe(st, &s->streams, struct stream, link) {
		(void)nghttp2_session_set_stream_user_data(s->h2, st->id, NULL);
		stream_ends(s, st);
	}
	nghttp2_session_del(s->h2);
	mem_free(s);
}

int grpc_server_input(struct grpc_server *s, const void *bytes, size_t n, struct err *e)
{
	ssize_t rc = nghttp2_session_mem_recv(s->h2, bytes, n);

	if (rc >= 0 && grpc_server_waiting_frames(s) <= WAITING_FRAMES_MAX)
		return 0;
	s->broken = true;
	if (rc >= 0)
		return err_set(e, ERR_EXHAUSTED, "the peer asks and does not read");
	if (rc == NGHTTP2_ERR_NOMEM)
		BUG("out of memory");
	return err_set(e, ERR_INVALID, "HTTP/2: %s", nghttp2_strerror((int)rc));
}

size_t grpc_server_output(struct grpc_server *s, char *to, size_t cap)
{
	size_t done = 0;

	while (done < cap) {
		size_t n;

		if (!s->out_left) {
			ssize_t rc = nghttp2_session_mem_send(s->h2, &s->out);

			if (rc < 0)
				s->broken = true;
			if (rc <= 0)
				break;
			s->out_left = (size_t)rc;
		}
		n = MIN(s->out_left, cap - done);
		memcpy(to + done, s->out, n);
		s->out += n;
		s->out_left -= n;
		done += n;
	}
	return done;
}

size_t grpc_server_waiting_frames(const struct grpc_server *s)
{
	return nghttp2_session_get_outbound_queue_size(s->h2);
}

void grpc_server_shutdown(struct grpc_server *s)
{
	(void)nghttp2_submit_goaway(s->h2, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(s->h2),
				    NGHTTP2_NO_ERROR, NULL, 0);
}

bool grpc_server_is_done(const struct grpc_server *s)
{
	if (s->out_left)
		return false;
	return s->broken || (!nghttp2_session_want_read(s->h2) && !nghttp2_session_want_write(s->h2));
}
