#include "wire/grpc_client.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/list.h"
#include "base/mem.h"
#include "wire/grpc.h"

#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <sys/socket.h>
#include <sys/un.h>

enum {
	STREAM_WINDOW = 1024 * 1024,
	CONNECTION_WINDOW = 16 * 1024 * 1024,
	IO_BYTES = 16 * 1024,
	STATUS_NONE = -1,
};

struct grpc_client_stream {
	struct list link;
	int32_t id;
	struct buf out;
	size_t sent;
	struct buf in;
	size_t taken;      /* of `in`, by grpc_client_next() */
	int http_status, grpc_status;
	struct arena arena; /* of `message` */
	const char *message;
	bool ended;
	uint32_t reset_code;
	struct err broken; /* a kind other than NONE: why it ended before its status */
};

struct grpc_client {
	nghttp2_session *h2;
	struct list streams;
	const uint8_t *out; /* what nghttp2 gave and nobody took yet */
	size_t out_left;
	/* over a socket */
	struct buf unsent;
	bool peer_is_deaf; /* it reads no more, but may have said something before */
	bool ended;
};

static void stream_free(struct grpc_client_stream *st)
{
	list_del(&st->link);
	buf_free(&st->out);
	buf_free(&st->in);
	arena_free(&st->arena);
	mem_free(st);
}

static ssize_t on_read_request(nghttp2_session *h2, int32_t id, uint8_t *to, size_t cap,
			       uint32_t *flags, UNUSED nghttp2_data_source *source, UNUSED void *ctx)
{
	struct grpc_client_stream *st = nghttp2_session_get_stream_user_data(h2, id);
	size_t n;

	if (!st)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	n = MIN(cap, st->out.len - st->sent);
	memcpy(to, st->out.p + st->sent, n);
	st->sent += n;
	if (st->sent == st->out.len) {
		*flags |= NGHTTP2_DATA_FLAG_EOF;
		buf_free(&st->out);
		st->sent = 0;
	}
	return (ssize_t)n;
}

static void read_header(struct grpc_client_stream *st, struct str name, struct str value)
{
	struct err ignored;
	int64_t n;

	if (str_eqz(name, ":status") && str_to_i64(value, &n, &ignored) == 0)
		st->http_status = (int)n;
	else if (str_eqz(name, "grpc-status") && str_to_i64(value, &n, &ignored) == 0 && n >= 0 && n < 1000)
		st->grpc_status = (int)n;
	else if (str_eqz(name, "grpc-message"))
		st->message = grpc_message_decode(&st->arena, value);
}

static int on_header(nghttp2_session *h2, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
		     const uint8_t *value, size_t value_len, UNUSED uint8_t flags, UNUSED void *ctx)
{
	struct grpc_client_stream *st = nghttp2_session_get_stream_user_data(h2, frame->hd.stream_id);

	if (st)
		read_header(st, (struct str){ (const char *)name, name_len },
			    (struct str){ (const char *)value, value_len });
	return 0;
}

static void check_message(struct grpc_client_stream *st)
{
	struct grpc_head head;

	if (st->in.len - st->taken < GRPC_HEAD || st->broken.kind)
		return;
	head = grpc_head_read(st->in.p + st->taken);
	if (head.compressed)
		(void)err_set(&st->broken, ERR_UNIMPLEMENTED, "the answer is compressed");
	else if (head.message_bytes > RPC_MESSAGE_MAX)
		(void)err_set(&st->broken, ERR_EXHAUSTED, "the answer has %zu bytes; at most %d are taken",
			      head.message_bytes, RPC_MESSAGE_MAX);
}

static int on_data(nghttp2_session *h2, UNUSED uint8_t flags, int32_t id, const uint8_t *bytes, size_t n,
		   UNUSED void *ctx)
{
	struct grpc_client_stream *st = nghttp2_session_get_stream_user_data(h2, id);

	if (!st || st->broken.kind)
		return 0;
	buf_consume(&st->in, st->taken);
	st->taken = 0;
	if (buf_add(&st->in, bytes, n, &st->broken) == 0)
		check_message(st);
	if (st->broken.kind)
		(void)nghttp2_submit_rst_stream(h2, NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL);
	return 0;
}

static int on_stream_close(nghttp2_session *h2, int32_t id, uint32_t code, UNUSED void *ctx)
{
	struct grpc_client_stream *st = nghttp2_session_get_stream_user_data(h2, id);

	if (!st)
		return 0;
	st->ended = true;
	st->reset_code = code;
	return 0;
}

struct grpc_client *grpc_client_new(void)
{
	static const nghttp2_settings_entry settings[] = {
		{ NGHTTP2_SETTINGS_ENABLE_PUSH, 0 },
		{ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW },
	};
	struct grpc_client *g = mem_new0(struct grpc_client);
	nghttp2_session_callbacks *cb;
	nghttp2_option *options;

	list_init(&g->streams);
	g->unsent = BUF(IO_BYTES);
	BUG_ON(nghttp2_option_new(&options) != 0);
	nghttp2_option_set_no_http_messaging(options, 1);
	BUG_ON(nghttp2_session_callbacks_new(&cb) != 0);
	nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
	BUG_ON(nghttp2_session_client_new2(&g->h2, cb, g, options) != 0);
	nghttp2_session_callbacks_del(cb);
	nghttp2_option_del(options);
	(void)nghttp2_submit_settings(g->h2, NGHTTP2_FLAG_NONE, settings, ARRAY_SIZE(settings));
	(void)nghttp2_session_set_local_window_size(g->h2, NGHTTP2_FLAG_NONE, 0, CONNECTION_WINDOW);
	return g;
}

void grpc_client_free(struct grpc_client *g)
{
	if (!g)
		return;
	nghttp2_session_del(g->h2);
	buf_free(&g->unsent);
	list_for_each_safe(st, &g->streams, struct grpc_client_stream, link)
		stream_free(st);
	mem_free(g);
}

bool grpc_client_is_open(const struct grpc_client *g)
{
	return !g->ended && nghttp2_session_check_request_allowed(g->h2);
}

#define NV(n, v) { (uint8_t *)(n), (uint8_t *)(v), sizeof(n) - 1, strlen(v), NGHTTP2_NV_FLAG_NONE }

int grpc_client_begin(struct grpc_client *g, const char *path, struct buf *message, int64_t timeout_ns,
		      struct grpc_client_stream **out, struct err *e)
{
	auto_arena a = { 0 };
	nghttp2_nv nva[] = {
		NV(":method", "POST"), NV(":scheme", "http"), NV(":path", path), NV(":authority", "localhost"),
		NV("te", "trailers"), NV("content-type", "application/grpc"),
		NV("user-agent", "knarr/" KNARR_VERSION),
		NV("grpc-timeout", grpc_timeout_format(&a, timeout_ns)),
	};
	size_t n = timeout_ns ? ARRAY_SIZE(nva) : ARRAY_SIZE(nva) - 1;
	nghttp2_data_provider provider = { .read_callback = on_read_request };
	struct grpc_client_stream *st;

	if (!nghttp2_session_check_request_allowed(g->h2))
		return err_set(e, ERR_UNAVAILABLE, "the server takes no more calls");
	st = mem_new0(struct grpc_client_stream);
	st->grpc_status = STATUS_NONE;
	st->in = BUF(GRPC_HEAD + RPC_MESSAGE_MAX + STREAM_WINDOW);
	st->out = *message;
	*message = BUF(message->max);
	st->id = nghttp2_submit_request(g->h2, NULL, nva, n, &provider, st);
	BUG_ON(st->id < 0);
	list_add(&g->streams, &st->link);
	*out = st;
	return 0;
}

void grpc_client_end(struct grpc_client *g, struct grpc_client_stream *st)
{
	if (!st)
		return;
	if (!st->ended) {
		(void)nghttp2_submit_rst_stream(g->h2, NGHTTP2_FLAG_NONE, st->id, NGHTTP2_CANCEL);
		(void)nghttp2_session_set_stream_user_data(g->h2, st->id, NULL);
	}
	stream_free(st);
}

/* What is under way learns why it will never be answered. */
static int connection_is_broken(struct grpc_client *g, const struct err *why)
{
	g->ended = true;
	list_for_each(st, &g->streams, struct grpc_client_stream, link) {
		if (st->ended)
			continue;
		(void)nghttp2_session_set_stream_user_data(g->h2, st->id, NULL);
		st->ended = true;
		if (!st->broken.kind)
			st->broken = *why;
	}
	return -1;
}

int grpc_client_input(struct grpc_client *g, const void *bytes, size_t n, struct err *e)
{
	ssize_t rc = nghttp2_session_mem_recv(g->h2, bytes, n);

	if (rc >= 0 && (nghttp2_session_want_read(g->h2) || nghttp2_session_want_write(g->h2)))
		return 0;
	(void)err_set(e, ERR_UNAVAILABLE, "the connection has ended%s%s", rc < 0 ? ": HTTP/2: " : "",
		      rc < 0 ? nghttp2_strerror((int)rc) : "");
	return connection_is_broken(g, e);
}

size_t grpc_client_output(struct grpc_client *g, char *to, size_t cap)
{
	size_t done = 0;

	while (done < cap) {
		size_t n;

		if (!g->out_left) {
			ssize_t rc = nghttp2_session_mem_send(g->h2, &g->out);

			if (rc <= 0)
				break;
			g->out_left = (size_t)rc;
		}
		n = MIN(g->out_left, cap - done);
		memcpy(to + done, g->out, n);
		g->out += n;
		g->out_left -= n;
		done += n;
	}
	return done;
}

bool grpc_client_next(struct grpc_client_stream *st, struct str *message)
{
	size_t have = st->in.len - st->taken;
	struct grpc_head head;

	if (st->broken.kind || have < GRPC_HEAD)
		return false;
	head = grpc_head_read(st->in.p + st->taken);
	if (have - GRPC_HEAD < head.message_bytes)
		return false;
	*message = (struct str){ st->in.p + st->taken + GRPC_HEAD, head.message_bytes };
	st->taken += GRPC_HEAD + head.message_bytes;
	check_message(st);
	return true;
}

bool grpc_client_has_ended(const struct grpc_client_stream *st)
{
	return st->ended || st->broken.kind;
}

int grpc_client_status(const struct grpc_client_stream *st, struct err *e)
{
	BUG_ON(!grpc_client_has_ended(st));
	if (st->broken.kind) {
		*e = st->broken;
		return -1;
	}
	if (st->grpc_status == 0)
		return 0;
	if (st->grpc_status > 0)
		return err_set(e, err_kind_of_grpc(st->grpc_status), "%s", st->message ? st->message : "");
	if (st->http_status && st->http_status != 200)
		return err_set(e, ERR_UNAVAILABLE, "the server answers HTTP %d, no gRPC", st->http_status);
	return err_set(e, ERR_UNAVAILABLE, "the server broke off the call (%s)",
		       nghttp2_http2_strerror(st->reset_code));
}

/* --- over a socket ------------------------------------------------------------------------------- */

/* Sends what the socket takes. Where the peer reads no more, the reading side is to find out why: a
 * server that ends leaves its last words in the socket. */
static void send_some(struct grpc_client *g, int fd)
{
	struct err never;

	while (!g->peer_is_deaf) {
		ssize_t n;

		if (!g->unsent.len) {
			BUG_ON(buf_reserve(&g->unsent, IO_BYTES, &never) < 0);
			g->unsent.len = grpc_client_output(g, g->unsent.p, IO_BYTES);
			if (!g->unsent.len)
				return;
		}
		n = send(fd, g->unsent.p, g->unsent.len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n >= 0)
			buf_consume(&g->unsent, (size_t)n);
		else if (errno == EAGAIN)
			return;
		else if (errno != EINTR)
			g->peer_is_deaf = true;
	}
	buf_clear(&g->unsent);
}

static int receive_some(struct grpc_client *g, int fd, struct err *e)
{
	char bytes[IO_BYTES];
	ssize_t n;

	n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (n <= 0) {
		(void)err_set(e, ERR_UNAVAILABLE, "the connection has ended%s%s", n < 0 ? ": " : "",
			      n < 0 ? err_errno_text(errno) : "");
		return connection_is_broken(g, e);
	}
	return grpc_client_input(g, bytes, (size_t)n, e);
}

static int take_messages(struct grpc_client_stream *st, struct call *c, const struct grpc_exchange *x,
			 ProtobufCMessage **answer, struct err *e)
{
	struct str bytes;

	while (grpc_client_next(st, &bytes)) {
		auto_arena own = { 0 };
		ProtobufCMessage *m;

		if (!x->message && *answer)
			return err_set(e, ERR_INTERNAL, "%s was answered twice", x->path);
		if (rpc_unpack(x->message ? &own : &c->arena, x->response, bytes, &m, e) < 0)
			return err_in(e, "%s", x->path);
		if (!x->message)
			*answer = m;
		else if (x->message(x->ctx, m, e) < 0)
			return -1;
	}
	return 0;
}

static int run_call(struct grpc_client *g, int fd, struct call *c, const struct grpc_exchange *x,
		    struct grpc_client_stream *st, ProtobufCMessage **answer, struct err *e)
{
	for (;;) {
		int events;

		send_some(g, fd);
		if (take_messages(st, c, x, answer, e) < 0)
			return -1;
		if (grpc_client_has_ended(st))
			return grpc_client_status(st, e);
		events = io_wait(c, fd, g->unsent.len ? POLLIN | POLLOUT : POLLIN, e);
		if (events < 0)
			return -1;
		if ((events & ~POLLOUT) && receive_some(g, fd, e) < 0 && !grpc_client_has_ended(st))
			return -1;
	}
}

int grpc_client_call(struct grpc_client *g, int fd, struct call *c, const struct grpc_exchange *x,
		     ProtobufCMessage **out, struct err *e)
{
	int64_t timeout_ns = c->deadline_ns ? MAX(c->deadline_ns - clock_mono_ns(), INT64_C(1)) : 0;
	auto_buf message = BUF(GRPC_HEAD + RPC_MESSAGE_MAX);
	struct grpc_client_stream *st;
	ProtobufCMessage *answer = NULL;
	int rc;

	if (call_check(c, e) < 0 || rpc_pack(&c->arena, x->request, &message, e) < 0 ||
	    grpc_client_begin(g, x->path, &message, timeout_ns, &st, e) < 0)
		return -1;
	rc = run_call(g, fd, c, x, st, &answer, e);
	grpc_client_end(g, st);
	send_some(g, fd); /* a RST_STREAM, as far as the socket takes it */
	if (rc < 0)
		return -1;
	if (x->message)
		return 0;
	if (!answer)
		return err_set(e, ERR_INTERNAL, "%s was answered without a message", x->path);
	*out = answer;
	return 0;
}

int grpc_client_connect(const char *path, struct err *e)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	auto_fd int fd = -1;

	if (strlen(path) >= sizeof(address.sun_path))
		return err_set(e, ERR_INVALID, "socket path %s is longer than %zu bytes", path,
			       sizeof(address.sun_path) - 1);
	memcpy(address.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_sys(e, errno, "socket");
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		if (errno == ECONNREFUSED)
			return err_set(e, ERR_UNAVAILABLE, "nobody listens on %s", path);
		return err_sys(e, errno, "connect to %s", path);
	}
	return fd_take(&fd);
}
