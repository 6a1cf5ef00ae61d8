/* The server's end of one SPDY/3.1 connection as a byte machine: bytes from the peer go in, streams and their data
 * come out by callback; frames for the peer go into the owner's buffer. Only the peer opens streams, as Kubernetes'
 * clients do; one thread at a time uses a session.
 *
 * Answered here: PING, what belongs to no stream (RST_STREAM), and header blocks, which are inflated up to
 * SPDY_HEADERS_MAX bytes. An offence against the framing is an error of spdy_input(), after a GOAWAY.
 *
 * Flow control: the windows of the peer, the streams' and the session's, bound what spdy_room() lets out, from the
 * first WINDOW_UPDATE or initial window of its settings on. Until then the peer is taken for one that knows none:
 * Kubernetes' own client (spdystream) neither sends updates nor minds ours; TCP slows both sides down then. Ours
 * are opened again by spdy_consumed(), as the data is really gone. */
#ifndef KNARR_WIRE_SPDY_H
#define KNARR_WIRE_SPDY_H

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

struct spdy;

enum {
	SPDY_WINDOW = 65536,             /* where every window begins */
	SPDY_STREAMS_MAX = 2048,         /* at once */
	SPDY_CONTROL_MAX = 16 * 1024,    /* a control frame's length */
	SPDY_HEADERS_MAX = 16 * 1024,    /* a header block's, inflated */
	SPDY_HEADERS_COUNT = 64,
};
enum spdy_reset { SPDY_PROTOCOL_ERROR = 1, SPDY_INVALID_STREAM = 2, SPDY_REFUSED_STREAM = 3, SPDY_CANCEL = 5,
		  SPDY_INTERNAL_ERROR = 6, SPDY_FLOW_CONTROL_ERROR = 7, SPDY_STREAM_CLOSED = 9 };

struct spdy_header {
	struct str name, value; /* a name with several values has a NUL between them */
};
struct str spdy_header_get(const struct spdy_header *h, size_t n, const char *name); /* in any case; p NULL: none */

/* From within spdy_input(); all functions below may be called from here. */
struct spdy_events {
	/* True takes the stream (SYN_REPLY), false refuses it. Headers are valid until it returns. */
	bool (*opened)(void *ctx, uint32_t id, const struct spdy_header *headers, size_t n);
	void (*data)(void *ctx, uint32_t id, const char *bytes, size_t n);
	void (*ended)(void *ctx, uint32_t id); /* no more data comes */
	void (*reset)(void *ctx, uint32_t id); /* the stream is gone, in both directions */
};

struct spdy *spdy_new(const struct spdy_events *events, void *ctx, struct buf *out);
void spdy_free(struct spdy *s); /* NULL is fine */
int spdy_input(struct spdy *s, const char *bytes, size_t n, struct err *e);

/* How many bytes the windows let out now; 0 also for a stream that is not there, or closed by us. */
size_t spdy_room(const struct spdy *s, uint32_t id);
/* At most spdy_room() bytes. ERR_EXHAUSTED: the buffer's maximum. */
int spdy_data(struct spdy *s, uint32_t id, const char *bytes, size_t n, struct err *e);
/* No more data comes from us. A stream that both have ended is forgotten. */
int spdy_end(struct spdy *s, uint32_t id, struct err *e);
int spdy_reset(struct spdy *s, uint32_t id, enum spdy_reset why, struct err *e);
/* So many bytes of the stream's data have found their way; the stream may be gone. */
int spdy_consumed(struct spdy *s, uint32_t id, size_t n, struct err *e);
int spdy_goaway(struct spdy *s, struct err *e);

#endif
