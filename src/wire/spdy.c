#include "wire/spdy.h"

#include "base/list.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <zlib.h>

#include "spdy_dictionary.inc"

enum {
	HEAD = 8,
	CONTROL = 0x80,
	VERSION = 3,
	SYN_STREAM = 1, SYN_REPLY = 2, RST_STREAM = 3, SETTINGS = 4, PING = 6, GOAWAY = 7, HEADERS = 8, WINDOW_UPDATE = 9,
	FLAG_FIN = 1, FLAG_UNIDIRECTIONAL = 2,
	SETTING_INITIAL_WINDOW = 7,
	NO_WINDOW_ROOM = 1 << 20, /* what a peer without windows is sent at once, as far as spdy_room() says */
	GOAWAY_PROTOCOL_ERROR = 1,
};
#define WINDOW_MAX INT64_C(0x7fffffff)

struct stream {
	struct list link;
	uint32_t id;
	int64_t send_window;
	size_t unacked; /* consumed, and not told the peer */
	bool ours_ended, theirs_ended;
};

struct spdy {
	const struct spdy_events *events;
	void *ctx;
	struct buf *out;
	z_stream inflater;
	struct list streams;
	size_t nstreams;
	uint32_t last_id;
	bool has_windows;   /* the peer's are known to mean something */
	bool reply_begun;   /* the first of our header blocks carries zlib's own head */
	bool broken;
	int64_t send_window, initial_window;
	size_t unacked;
	/* the frame that is being read */
	unsigned char head[HEAD];
	size_t have;
	uint32_t left;
	bool fresh; /* none of its payload has been looked at */
	struct buf control;
};

struct block {
	char text[SPDY_HEADERS_MAX];
	struct spdy_header headers[SPDY_HEADERS_COUNT];
	size_t n;
};

static uint32_t get32(const void *at)
{
	const unsigned char *p = at;

	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void put32(unsigned char *p, uint32_t v)
{
	p[0] = (unsigned char)(v >> 24);
	p[1] = (unsigned char)(v >> 16);
	p[2] = (unsigned char)(v >> 8);
	p[3] = (unsigned char)v;
}

/* zlib's memory is our own: zeroed, and it aborts rather than fail. */
static void *zlib_alloc(UNUSED void *opaque, unsigned n, unsigned size)
{
	return mem_alloc0((size_t)n * size);
}

static void zlib_free(UNUSED void *opaque, void *p)
{
	mem_free(p);
}

struct spdy *spdy_new(const struct spdy_events *events, void *ctx, struct buf *out)
{
	struct spdy *s = mem_new0(struct spdy);

	*s = (struct spdy){ .events = events, .ctx = ctx, .out = out, .control = BUF(SPDY_CONTROL_MAX),
			    .send_window = SPDY_WINDOW, .initial_window = SPDY_WINDOW };
	s->inflater.zalloc = zlib_alloc;
	s->inflater.zfree = zlib_free;
	BUG_ON(inflateInit(&s->inflater) != Z_OK);
	list_init(&s->streams);
	return s;
}

void spdy_free(struct spdy *s)
{
	if (!s)
		return;
	list_for_each_safe(st, &s->streams, struct stream, link)
		mem_free(st);
	(void)inflateEnd(&s->inflater); /* only says that data was left */
	buf_free(&s->control);
	mem_free(s);
}

struct str spdy_header_get(const struct spdy_header *h, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (h[i].name.len == strlen(name) && strncasecmp(h[i].name.p, name, h[i].name.len) == 0)
			return h[i].value;
	return (struct str){ NULL, 0 };
}

/* The one asked for last is asked for again: it moves to the front. */
static struct stream *stream_of(const struct spdy *s, uint32_t id)
{
	list_for_each(st, &s->streams, struct stream, link) {
		if (st->id != id)
			continue;
		list_del(&st->link);
		list_add(s->streams.next, &st->link);
		return st;
	}
	return NULL;
}

static void stream_forget(struct spdy *s, struct stream *st)
{
	list_del(&st->link);
	mem_free(st);
	s->nstreams--;
}

/* --- frames out -------------------------------------------------------------------------------------- */

static int put_control(struct spdy *s, unsigned type, const uint32_t *words, size_t n, struct err *e)
{
	unsigned char frame[HEAD + 8] = { CONTROL, VERSION, 0, (unsigned char)type };

	put32(frame + 4, (uint32_t)(4 * n));
	for (size_t i = 0; i < n; i++)
		put32(frame + HEAD + 4 * i, words[i]);
	return buf_add(s->out, frame, HEAD + 4 * n, e);
}

static int put_reset(struct spdy *s, uint32_t id, enum spdy_reset why, struct err *e)
{
	return put_control(s, RST_STREAM, (uint32_t[]){ id, why }, 2, e);
}

static int put_window_update(struct spdy *s, uint32_t id, size_t n, struct err *e)
{
	return put_control(s, WINDOW_UPDATE, (uint32_t[]){ id, (uint32_t)n }, 2, e);
}

/* No headers: a count of 0, as a stored block (RFC 1951, 3.2.4), and an empty one, the sign to hand out what came before
 * it. A deflater would cost a quarter of a megabyte. */
static int put_reply(struct spdy *s, uint32_t id, struct err *e)
{
	static const unsigned char zlib_head[] = { 0x78, 0x01 },
				   no_headers[] = { 0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };
	size_t begin = s->reply_begun ? 0 : sizeof(zlib_head);
	unsigned char frame[HEAD + 4] = { CONTROL, VERSION, 0, SYN_REPLY };

	put32(frame + 4, (uint32_t)(4 + begin + sizeof(no_headers)));
	put32(frame + HEAD, id);
	if (buf_reserve(s->out, sizeof(frame) + begin + sizeof(no_headers), e) < 0 ||
	    buf_add(s->out, frame, sizeof(frame), e) < 0 || buf_add(s->out, zlib_head, begin, e) < 0 ||
	    buf_add(s->out, no_headers, sizeof(no_headers), e) < 0)
		return -1;
	s->reply_begun = true;
	return 0;
}

static int put_data(struct spdy *s, uint32_t id, unsigned flags, const char *bytes, size_t n, struct err *e)
{
	unsigned char head[HEAD];

	put32(head, id);
	put32(head + 4, (uint32_t)(flags << 24 | n));
	if (buf_reserve(s->out, HEAD + n, e) < 0 || buf_add(s->out, head, HEAD, e) < 0)
		return -1;
	return n ? buf_add(s->out, bytes, n, e) : 0;
}

size_t spdy_room(const struct spdy *s, uint32_t id)
{
	const struct stream *st = stream_of(s, id);
	int64_t room;

	if (!st || st->ours_ended)
		return 0;
	if (!s->has_windows)
		return NO_WINDOW_ROOM;
	room = MIN(st->send_window, s->send_window);
	return room > 0 ? (size_t)MIN(room, (int64_t)NO_WINDOW_ROOM) : 0;
}

int spdy_data(struct spdy *s, uint32_t id, const char *bytes, size_t n, struct err *e)
{
	struct stream *st = stream_of(s, id);

	BUG_ON(n > spdy_room(s, id));
	if (put_data(s, id, 0, bytes, n, e) < 0)
		return -1;
	st->send_window -= (int64_t)n;
	s->send_window -= (int64_t)n;
	return 0;
}

int spdy_end(struct spdy *s, uint32_t id, struct err *e)
{
	struct stream *st = stream_of(s, id);

	if (!st || st->ours_ended)
		return 0;
	st->ours_ended = true;
	if (put_data(s, id, FLAG_FIN, NULL, 0, e) < 0)
		return -1;
	if (st->theirs_ended)
		stream_forget(s, st);
	return 0;
}

int spdy_reset(struct spdy *s, uint32_t id, enum spdy_reset why, struct err *e)
{
	struct stream *st = stream_of(s, id);

	if (!st)
		return 0;
	stream_forget(s, st);
	return put_reset(s, id, why, e);
}

int spdy_consumed(struct spdy *s, uint32_t id, size_t n, struct err *e)
{
	struct stream *st = stream_of(s, id);

	s->unacked += n;
	if (s->unacked >= SPDY_WINDOW / 2) {
		if (put_window_update(s, 0, s->unacked, e) < 0)
			return -1;
		s->unacked = 0;
	}
	if (!st || st->theirs_ended)
		return 0;
	st->unacked += n;
	if (st->unacked >= SPDY_WINDOW / 2) {
		if (put_window_update(s, id, st->unacked, e) < 0)
			return -1;
		st->unacked = 0;
	}
	return 0;
}

int spdy_goaway(struct spdy *s, struct err *e)
{
	return put_control(s, GOAWAY, (uint32_t[]){ s->last_id, 0 }, 2, e);
}

/* --- frames in --------------------------------------------------------------------------------------- */

static int PRINTF_LIKE(3, 4) offence(struct spdy *s, struct err *e, const char *fmt, ...)
{
	char what[200];
	struct err ignored; /* a full buffer: the connection ends anyway */
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	s->broken = true;
	(void)put_control(s, GOAWAY, (uint32_t[]){ s->last_id, GOAWAY_PROTOCOL_ERROR }, 2, &ignored);
	return err_set(e, ERR_INVALID, "SPDY: %s", what);
}

/* One inflater for all blocks of a session, so that each must be read, wanted or not. */
static int inflate_block(struct spdy *s, struct str from, struct block *b, struct str *out, struct err *e)
{
	z_stream *z = &s->inflater;

	z->next_in = (unsigned char *)(uintptr_t)from.p;
	z->avail_in = (unsigned)from.len;
	z->next_out = (unsigned char *)b->text;
	z->avail_out = sizeof(b->text);
	while (z->avail_in) {
		int rc = inflate(z, Z_SYNC_FLUSH);

		if (rc == Z_NEED_DICT)
			rc = inflateSetDictionary(z, (const unsigned char *)spdy_dictionary, sizeof(spdy_dictionary) - 1);
		if (rc != Z_OK && !(rc == Z_BUF_ERROR && !z->avail_out))
			return offence(s, e, "a header block that does not inflate");
		if (!z->avail_out)
			return offence(s, e, "a header block of more than %d bytes", SPDY_HEADERS_MAX);
	}
	*out = (struct str){ b->text, sizeof(b->text) - z->avail_out };
	return 0;
}

static bool take_text(struct str *rest, struct str *out)
{
	uint32_t n;

	if (rest->len < 4)
		return false;
	n = get32(rest->p);
	if (n > rest->len - 4)
		return false;
	*out = (struct str){ rest->p + 4, n };
	*rest = (struct str){ rest->p + 4 + n, rest->len - 4 - n };
	return true;
}

static int read_headers(struct spdy *s, struct str from, struct block *b, struct err *e)
{
	struct str rest;
	uint32_t n;

	if (inflate_block(s, from, b, &rest, e) < 0)
		return -1;
	if (rest.len < 4)
		return offence(s, e, "a header block without a count");
	n = get32(rest.p);
	if (n > SPDY_HEADERS_COUNT)
		return offence(s, e, "%u headers; at most %d are taken", n, SPDY_HEADERS_COUNT);
	rest = (struct str){ rest.p + 4, rest.len - 4 };
	for (uint32_t i = 0; i < n; i++)
		if (!take_text(&rest, &b->headers[i].name) || !take_text(&rest, &b->headers[i].value) ||
		    !b->headers[i].name.len)
			return offence(s, e, "a header block that is cut");
	b->n = n;
	return 0;
}

/* The peer's half ends; the owner hears of it unless the stream is gone with that. */
static void theirs_ends(struct spdy *s, struct stream *st)
{
	uint32_t id = st->id;

	st->theirs_ended = true;
	if (st->ours_ended)
		stream_forget(s, st);
	s->events->ended(s->ctx, id);
}

static int on_syn_stream(struct spdy *s, unsigned flags, struct str p, struct err *e)
{
	struct stream *st;
	struct block b;
	uint32_t id;

	if (p.len < 10)
		return offence(s, e, "a SYN_STREAM of %zu bytes", p.len);
	id = get32(p.p) & 0x7fffffff;
	if (read_headers(s, (struct str){ p.p + 10, p.len - 10 }, &b, e) < 0)
		return -1;
	if (!(id & 1) || id <= s->last_id)
		return offence(s, e, "stream %u after stream %u", id, s->last_id);
	s->last_id = id;
	if (s->nstreams >= SPDY_STREAMS_MAX)
		return put_reset(s, id, SPDY_REFUSED_STREAM, e);
	st = mem_new0(struct stream);
	st->id = id;
	st->send_window = s->initial_window;
	st->ours_ended = flags & FLAG_UNIDIRECTIONAL;
	list_add(&s->streams, &st->link);
	s->nstreams++;
	if (!s->events->opened(s->ctx, id, b.headers, b.n))
		return spdy_reset(s, id, SPDY_REFUSED_STREAM, e);
	st = stream_of(s, id);
	if (st && !(flags & FLAG_UNIDIRECTIONAL) && put_reply(s, id, e) < 0)
		return -1;
	if (st && (flags & FLAG_FIN))
		theirs_ends(s, st);
	return 0;
}

static int on_headers(struct spdy *s, unsigned flags, struct str p, struct err *e)
{
	struct stream *st;
	struct block b;

	if (p.len < 4)
		return offence(s, e, "a HEADERS of %zu bytes", p.len);
	if (read_headers(s, (struct str){ p.p + 4, p.len - 4 }, &b, e) < 0)
		return -1;
	st = stream_of(s, get32(p.p) & 0x7fffffff);
	if (st && !st->theirs_ended && (flags & FLAG_FIN))
		theirs_ends(s, st);
	return 0;
}

static int on_rst_stream(struct spdy *s, struct str p, struct err *e)
{
	struct stream *st;
	uint32_t id;

	if (p.len != 8)
		return offence(s, e, "a RST_STREAM of %zu bytes", p.len);
	id = get32(p.p) & 0x7fffffff;
	st = stream_of(s, id);
	if (st) {
		stream_forget(s, st);
		s->events->reset(s->ctx, id);
	}
	return 0;
}

static int set_initial_window(struct spdy *s, uint32_t size, struct err *e)
{
	int64_t change = (int64_t)size - s->initial_window;

	if (size > WINDOW_MAX)
		return offence(s, e, "an initial window of %u", size);
	s->has_windows = true;
	s->initial_window = size;
	list_for_each(st, &s->streams, struct stream, link)
		st->send_window = MIN(st->send_window + change, WINDOW_MAX);
	return 0;
}

static int on_settings(struct spdy *s, struct str p, struct err *e)
{
	uint32_t n = p.len < 4 ? 0 : get32(p.p);

	if (p.len < 4 || n > (p.len - 4) / 8 || p.len != 4 + 8 * (size_t)n)
		return offence(s, e, "a SETTINGS that is cut");
	for (uint32_t i = 0; i < n; i++) {
		const char *entry = p.p + 4 + 8 * i;

		if ((get32(entry) & 0xffffff) == SETTING_INITIAL_WINDOW && set_initial_window(s, get32(entry + 4), e) < 0)
			return -1;
	}
	return 0;
}

static int on_window_update(struct spdy *s, struct str p, struct err *e)
{
	struct stream *st;
	uint32_t id;
	int64_t by;

	if (p.len != 8)
		return offence(s, e, "a WINDOW_UPDATE of %zu bytes", p.len);
	id = get32(p.p) & 0x7fffffff;
	by = get32(p.p + 4) & 0x7fffffff;
	s->has_windows = true;
	if (!id) {
		if (!by || s->send_window + by > WINDOW_MAX)
			return offence(s, e, "the session's window beyond its range");
		s->send_window += by;
		return 0;
	}
	st = stream_of(s, id);
	if (!st)
		return 0;
	if (by && st->send_window + by <= WINDOW_MAX) {
		st->send_window += by;
		return 0;
	}
	stream_forget(s, st);
	s->events->reset(s->ctx, id);
	return put_reset(s, id, SPDY_FLOW_CONTROL_ERROR, e);
}

static int on_ping(struct spdy *s, struct str p, struct err *e)
{
	if (p.len != 4)
		return offence(s, e, "a PING of %zu bytes", p.len);
	if (!(get32(p.p) & 1)) /* an answer to one of ours, of which there are none */
		return 0;
	return put_control(s, PING, (uint32_t[]){ get32(p.p) }, 1, e);
}

static int on_control(struct spdy *s, struct err *e)
{
	struct str p = { buf_text(&s->control), s->control.len };
	unsigned type = (unsigned)s->head[2] << 8 | s->head[3], flags = s->head[4];

	switch (type) {
	case SYN_STREAM:
		return on_syn_stream(s, flags, p, e);
	case HEADERS:
		return on_headers(s, flags, p, e);
	case RST_STREAM:
		return on_rst_stream(s, p, e);
	case SETTINGS:
		return on_settings(s, p, e);
	case WINDOW_UPDATE:
		return on_window_update(s, p, e);
	case PING:
		return on_ping(s, p, e);
	case SYN_REPLY:
		return offence(s, e, "a SYN_REPLY to a stream that we never opened");
	default: /* GOAWAY: the peer opens no more streams; what we do not know is passed over (2.2.1) */
		return 0;
	}
}

static int head_is_whole(struct spdy *s, struct err *e)
{
	s->left = get32(s->head + 4) & 0xffffff;
	if (!(s->head[0] & CONTROL))
		return 0;
	if ((s->head[0] & ~CONTROL) != 0 || s->head[1] != VERSION)
		return offence(s, e, "version %u", (unsigned)(s->head[0] & ~CONTROL) << 8 | s->head[1]);
	if (s->left > SPDY_CONTROL_MAX)
		return offence(s, e, "a control frame of %u bytes", s->left);
	buf_clear(&s->control);
	return 0;
}

/* A piece of a data frame, its last one perhaps. */
static int take_data(struct spdy *s, const char *p, size_t n, struct err *e)
{
	uint32_t id = get32(s->head) & 0x7fffffff;
	struct stream *st = stream_of(s, id);

	s->left -= (uint32_t)n;
	if (!st || st->theirs_ended) {
		/* One that was reset a moment ago is no offence; the session's window must not suffer. */
		enum spdy_reset why = id > s->last_id || !(id & 1) ? SPDY_INVALID_STREAM : SPDY_STREAM_CLOSED;

		if (s->fresh && put_reset(s, id, why, e) < 0)
			return -1;
		return n ? spdy_consumed(s, 0, n, e) : 0;
	}
	if (n)
		s->events->data(s->ctx, id, p, n);
	if (!s->left && (s->head[4] & FLAG_FIN)) {
		st = stream_of(s, id);
		if (st)
			theirs_ends(s, st);
	}
	return 0;
}

static int take_payload(struct spdy *s, const char *p, size_t n, struct err *e)
{
	if (!(s->head[0] & CONTROL))
		return take_data(s, p, n, e);
	s->left -= (uint32_t)n;
	if (n && buf_add(&s->control, p, n, e) < 0)
		return -1;
	return s->left ? 0 : on_control(s, e);
}

int spdy_input(struct spdy *s, const char *bytes, size_t n, struct err *e)
{
	size_t pos = 0;

	if (s->broken)
		return err_set(e, ERR_STATE, "SPDY: the session has failed before");
	while (pos < n) {
		size_t take;

		if (s->have < HEAD) {
			s->head[s->have++] = (unsigned char)bytes[pos++];
			if (s->have < HEAD)
				continue;
			if (head_is_whole(s, e) < 0)
				return -1;
			s->fresh = true;
			if (pos == n && s->left)
				return 0;
		}
		take = MIN(n - pos, (size_t)s->left);
		if (take_payload(s, bytes + pos, take, e) < 0) {
			s->broken = true;
			return -1;
		}
		s->fresh = false;
		pos += take;
		if (!s->left)
			s->have = 0;
	}
	return 0;
}
