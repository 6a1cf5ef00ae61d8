#include "stream/loop.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>

enum {
	OUT_MAX = 4 << 20,       /* never reached: what fills it is UNSENT_HIGH and a round's answers */
	HEAD_LIMIT_S = 30,       /* for the request to come */
	END_LIMIT_S = 20,        /* for the client to read the end and close */
	PONG_S = 10,
	CLOSE_CHANNEL = 255,     /* v5.channel.k8s.io */
};

void conn_mark_dirty(struct conn *c)
{
	if (!c->dead && list_is_empty(&c->dirty))
		list_add(&c->server->dirty, &c->dirty);
}

static size_t unsent(const struct conn *c)
{
	return c->out.len - c->sent + c->tunnelled.len;
}

/* --- the end ----------------------------------------------------------------------------------------- */

static void conn_free(struct grave *g)
{
	struct conn *c = container_of(g, struct conn, grave);

	tls_session_free(c->tls);
	spdy_free(c->spdy);
	buf_free(&c->head);
	buf_free(&c->out);
	buf_free(&c->tunnelled);
	ticket_unref(c->ticket);
	mem_free(c->session);
	mem_free(c);
}

void conn_drop(struct conn *c)
{
	if (c->dead)
		return;
	c->dead = true;
	if (c->user)
		c->user->gone(c);
	source_watch(c->server, &c->source, 0);
	fd_close(&c->source.fd);
	list_del(&c->link);
	list_del(&c->dirty);
	c->server->nconns--;
	grave_add(c->server, &c->grave, conn_free);
}

/* --- to the client ----------------------------------------------------------------------------------- */

/* Nothing bounds the few words of a status or an error, but the buffer itself. */
static void check(struct conn *c, int rc)
{
	conn_mark_dirty(c);
	if (rc < 0)
		conn_drop(c);
}

size_t conn_room(struct conn *c, uint32_t channel)
{
	size_t held = unsent(c), room = held < UNSENT_HIGH ? UNSENT_HIGH - held : 0;

	if (c->dead || c->finished)
		return 0;
	return c->mode == CONN_WEBSOCKET ? room : MIN(room, spdy_room(c->spdy, channel));
}

static int send_message(struct conn *c, uint32_t channel, const char *bytes, size_t n, struct err *e)
{
	char number = (char)(c->base64 ? '0' + channel : channel);
	struct str prefix = { &number, 1 }, text = { bytes, n };

	if (c->base64) {
		struct streams *s = c->server;

		base64_encode(s->coded, bytes, n);
		text = (struct str){ s->coded, base64_length(n) };
	}
	return websocket_send(&c->ws, c->base64 ? WEBSOCKET_TEXT : WEBSOCKET_BINARY, prefix, text, e);
}

void conn_send(struct conn *c, uint32_t channel, const char *bytes, size_t n)
{
	struct err e;

	if (c->dead || c->finished)
		return;
	c->active_ns = clock_mono_ns();
	if (c->mode == CONN_WEBSOCKET)
		check(c, send_message(c, channel, bytes, n, &e));
	else
		check(c, spdy_data(c->spdy, channel, bytes, MIN(n, spdy_room(c->spdy, channel)), &e));
}

void conn_end(struct conn *c, uint32_t channel)
{
	struct err e;

	if (!c->dead && c->mode != CONN_WEBSOCKET)
		check(c, spdy_end(c->spdy, channel, &e));
}

void conn_reset(struct conn *c, uint32_t channel)
{
	struct err e;

	if (!c->dead && c->mode != CONN_WEBSOCKET)
		check(c, spdy_reset(c->spdy, channel, SPDY_CANCEL, &e));
}

void conn_consumed(struct conn *c, uint32_t channel, size_t n)
{
	struct err e;

	if (!c->dead && c->mode != CONN_WEBSOCKET)
		check(c, spdy_consumed(c->spdy, channel, n, &e));
}

void conn_say(struct conn *c, const char *fmt, ...)
{
	char text[1000];
	struct err e;
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	check(c, buf_addz(&c->out, text, &e));
}

static void wrap_tunnelled(struct conn *c)
{
	struct err e;

	if (!c->tunnelled.len)
		return;
	check(c, websocket_send(&c->ws, WEBSOCKET_BINARY, STR(""), buf_str(&c->tunnelled), &e));
	buf_clear(&c->tunnelled);
}

void conn_finish(struct conn *c)
{
	struct err e;

	if (c->finished || c->dead)
		return;
	c->finished = true;
	c->deadline_ns = clock_mono_ns() + END_LIMIT_S * NS_PER_S;
	if (c->spdy)
		check(c, spdy_goaway(c->spdy, &e));
	wrap_tunnelled(c);
	if (!c->dead && (c->mode == CONN_WEBSOCKET || c->mode == CONN_TUNNEL))
		check(c, websocket_close(&c->ws, WEBSOCKET_NORMAL, "", &e));
	conn_mark_dirty(c);
}

/* Whether the client is still there. */
static bool flush(struct conn *c)
{
	wrap_tunnelled(c);
	while (!c->dead && c->sent < c->out.len) {
		const char *at = c->out.p + c->sent;
		ssize_t n = c->tls ? tls_write(c->tls, at, c->out.len - c->sent)
				   : send(c->source.fd, at, c->out.len - c->sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n <= 0)
			return false;
		c->sent += (size_t)n;
	}
	if (c->sent == c->out.len) {
		buf_free(&c->out);
		c->out = BUF(OUT_MAX);
		c->sent = 0;
	} else if (c->sent > UNSENT_HIGH) {
		buf_consume(&c->out, c->sent);
		c->sent = 0;
	}
	return !c->dead;
}

static void pump_waiting(struct conn *c)
{
	struct list mine;

	if (list_is_empty(&c->waiting) || unsent(c) > UNSENT_HIGH / 2)
		return;
	list_init(&mine);
	list_add_before(c->waiting.next, &mine); /* takes the whole list over: who has no room comes back to c's */
	list_del(&c->waiting);
	while (!c->dead && !list_is_empty(&mine))
		relay_out_pump(container_of(mine.next, struct relay_out, waiting));
	while (!list_is_empty(&mine))
		list_del(mine.next);
}

/* --- from the client --------------------------------------------------------------------------------- */

static bool spdy_opened(void *ctx, uint32_t id, const struct spdy_header *h, size_t n)
{
	struct conn *c = ctx;

	return !c->finished && c->user->opened(c, id, h, n);
}

static void spdy_data_came(void *ctx, uint32_t id, const char *bytes, size_t n)
{
	struct conn *c = ctx;

	c->active_ns = clock_mono_ns();
	c->user->data(c, id, bytes, n);
}

static void spdy_ended(void *ctx, uint32_t id)
{
	struct conn *c = ctx;

	c->user->ended(c, id);
}

static void spdy_was_reset(void *ctx, uint32_t id)
{
	struct conn *c = ctx;

	c->user->reset(c, id);
}

static const struct spdy_events spdy_events = { spdy_opened, spdy_data_came, spdy_ended, spdy_was_reset };

static void bad_message(struct conn *c, unsigned code, const char *why)
{
	struct err e;

	c->finished = true;
	c->deadline_ns = clock_mono_ns() + END_LIMIT_S * NS_PER_S;
	check(c, websocket_close(&c->ws, code, why, &e));
}

/* The channel's number is a message's first byte; in base64 a digit. */
static bool take_number(struct conn *c, const char **bytes, size_t *n)
{
	if (c->channel >= 0 || !*n)
		return c->channel >= 0;
	c->channel = (unsigned char)**bytes - (c->base64 ? '0' : 0);
	c->decoder = (struct base64_reader){ 0 };
	++*bytes;
	--*n;
	return true;
}

static void message_piece(struct conn *c, unsigned flags, const char *bytes, size_t n)
{
	struct streams *s = c->server;

	if (flags & WEBSOCKET_FIRST)
		c->channel = -1;
	if (!take_number(c, &bytes, &n))
		return;
	if (c->base64) {
		long got = base64_read(&c->decoder, bytes, n, s->coded);

		if (got < 0 || ((flags & WEBSOCKET_LAST) && !base64_is_whole(&c->decoder))) {
			bad_message(c, WEBSOCKET_BAD_DATA, "this is no base64");
			return;
		}
		bytes = s->coded;
		n = (size_t)got;
	}
	if (c->version >= 5 && c->channel == CLOSE_CHANNEL) {
		for (size_t i = 0; i < n && !c->dead; i++)
			c->user->ended(c, (unsigned char)bytes[i]);
	} else if (n) {
		c->user->data(c, (uint32_t)c->channel, bytes, n);
	}
}

static void ws_piece(void *ctx, enum websocket_kind kind, unsigned flags, const char *bytes, size_t n)
{
	struct conn *c = ctx;
	struct err e;

	if (c->dead || c->finished)
		return;
	c->active_ns = clock_mono_ns();
	if (c->mode == CONN_TUNNEL) {
		if (kind != WEBSOCKET_BINARY)
			bad_message(c, WEBSOCKET_POLICY, "SPDY comes in binary messages");
		else if (spdy_input(c->spdy, bytes, n, &e) < 0)
			conn_finish(c);
		return;
	}
	message_piece(c, flags, bytes, n);
}

/* After the answer to its close the client closes the connection (RFC 6455, 7.1.1), or the deadline does. */
static void ws_closed(void *ctx, UNUSED unsigned code)
{
	struct conn *c = ctx;

	if (c->finished)
		return;
	c->finished = true;
	c->deadline_ns = clock_mono_ns() + END_LIMIT_S * NS_PER_S;
	if (c->user) {
		c->user->gone(c);
		c->user = NULL;
	}
}

static const struct websocket_events ws_events = { ws_piece, ws_closed };

void conn_input(struct conn *c, char *bytes, size_t n)
{
	struct err e;
	int rc;

	if (c->mode == CONN_SPDY)
		rc = spdy_input(c->spdy, bytes, n, &e);
	else
		rc = websocket_input(&c->ws, bytes, n, &e);
	conn_mark_dirty(c);
	if (rc == 0 || c->dead)
		return;
	/* The client is told in its protocol what it did; then the connection ends. */
	(void)flush(c);
	conn_drop(c);
}

static void head_input(struct conn *c, const char *bytes, size_t n)
{
	struct http_head h;
	struct err e;
	ssize_t len;

	if (buf_add(&c->head, bytes, n, &e) < 0) {
		conn_drop(c);
		return;
	}
	len = http_head_parse(c->head.p, c->head.len, &h, &e);
	if (len == 0)
		return;
	c->deadline_ns = 0;
	if (len < 0) {
		conn_say(c, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n"
			    "Content-Length: %zu\r\n\r\n%s\n", strlen(e.msg) + 1, e.msg);
		conn_finish(c);
		return;
	}
	conn_upgrade(c, &h);
	if (c->dead || c->finished)
		return;
	if (c->mode != CONN_SPDY)
		websocket_init(&c->ws, &ws_events, c, &c->out);
	if (c->mode != CONN_WEBSOCKET)
		c->spdy = spdy_new(&spdy_events, c, c->mode == CONN_TUNNEL ? &c->tunnelled : &c->out);
	c->user->begin(c);
	if (!c->dead && c->head.len > (size_t)len)
		conn_input(c, c->head.p + len, c->head.len - (size_t)len);
	buf_free(&c->head);
}

static void input(struct conn *c, char *bytes, size_t n)
{
	if (c->mode == CONN_HEAD && !c->finished)
		head_input(c, bytes, n);
	else if (c->mode != CONN_HEAD && c->user)
		conn_input(c, bytes, n);
}

/* One piece, so that others get their turn; with TLS all that it holds already, of which epoll knows nothing. */
static void read_some(struct conn *c)
{
	struct streams *s = c->server;

	do {
		ssize_t n = c->tls ? tls_read(c->tls, s->in, sizeof(s->in))
				   : recv(c->source.fd, s->in, sizeof(s->in), 0);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0)
			conn_drop(c);
		else
			input(c, s->in, (size_t)n);
	} while (!c->dead && c->tls && !c->blocked && unsent(c) <= UNSENT_HIGH);
}

static void ready(struct source *src, uint32_t events)
{
	struct conn *c = container_of(src, struct conn, source);
	bool may_read = !c->blocked && unsent(c) <= 2 * UNSENT_HIGH;

	conn_mark_dirty(c);
	if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) && may_read)
		read_some(c);
	else if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		conn_drop(c); /* nobody is there to hear of what it sent last */
}

void conn_round_ends(struct conn *c)
{
	if (c->dead)
		return;
	if (c->read_again && !c->blocked && c->tls)
		read_some(c);
	c->read_again = false;
	if (!c->dead && !flush(c)) {
		conn_drop(c);
		return;
	}
	pump_waiting(c);
	if (!c->dead && !flush(c))
		conn_drop(c);
	if (c->dead)
		return;
	if (c->mode == CONN_HEAD && c->finished && c->sent == c->out.len)
		(void)shutdown(c->source.fd, SHUT_WR); /* the client reads the answer, then the end */
	source_watch(c->server, &c->source, EPOLLRDHUP | (!c->blocked && unsent(c) <= 2 * UNSENT_HIGH ? EPOLLIN : 0) |
					    (c->sent < c->out.len || (c->tls && tls_wants_to_write(c->tls)) ? EPOLLOUT : 0));
	/* Who had no room before this was sent has some now, and no event will tell. */
	list_for_each(r, &c->waiting, struct relay_out, waiting) {
		if (unsent(c) <= UNSENT_HIGH / 2 && conn_room(c, r->channel)) {
			conn_mark_dirty(c);
			break;
		}
	}
}

/* A client's heart beats as long as it is answered: while it is not read, it hears of us unasked. */
static void keep_alive(struct conn *c, int64_t now_ns)
{
	struct err e;

	if (!c->blocked || c->spdy || c->mode != CONN_WEBSOCKET || now_ns - c->pong_ns < PONG_S * NS_PER_S)
		return;
	c->pong_ns = now_ns;
	check(c, websocket_pong(&c->ws, &e));
}

/* Without a status Kubernetes' SPDY client takes the end of the connection for success. */
void conn_stop(struct conn *c, const struct err *why)
{
	if (c->mode != CONN_HEAD && !c->finished && !c->dead)
		c->user->fail(c, why);
	(void)flush(c);
	conn_drop(c);
}

void conn_tick(struct conn *c, int64_t now_ns)
{
	struct err e;

	if (c->deadline_ns && now_ns > c->deadline_ns) {
		conn_drop(c);
		return;
	}
	if (c->mode == CONN_HEAD || c->finished)
		return;
	if (now_ns - c->active_ns > c->server->idle_ns) {
		(void)err_set(&e, ERR_TIMEOUT, "no data came or went for %" PRId64 " s (stream.idle_timeout): the session was ended",
			      c->server->idle_ns / NS_PER_S);
		c->user->fail(c, &e);
		return;
	}
	keep_alive(c, now_ns);
	if (!c->dead && c->user)
		c->user->tick(c, now_ns);
}

void conn_new(struct streams *s, int fd)
{
	struct conn *c = mem_new0(struct conn);
	int64_t now = clock_mono_ns();

	*c = (struct conn){ .source = { ready, fd, 0 }, .server = s, .head = BUF(HTTP_HEAD_MAX + PIECE_BYTES),
			    .out = BUF(OUT_MAX), .tunnelled = BUF(OUT_MAX), .channel = -1, .active_ns = now,
			    .deadline_ns = now + HEAD_LIMIT_S * NS_PER_S };
	list_init(&c->dirty);
	list_init(&c->waiting);
	if (s->tls)
		c->tls = tls_session_new(s->tls, fd);
	list_add(&s->conns, &c->link);
	s->nconns++;
	conn_mark_dirty(c);
}
