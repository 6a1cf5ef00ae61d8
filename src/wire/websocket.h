/* The server's end of one WebSocket (RFC 6455) as a byte machine: bytes from the peer go in, pieces of messages come
 * out by callback; frames for the peer go into the owner's buffer. No extensions. A message may have any length:
 * its bytes are handed on as they come, never collected.
 *
 * Answered here: pings, and the peer's close (its code comes back). An offence against the protocol is an error of
 * websocket_input(), after a close frame with the code that RFC 6455, 7.4.1 has for it. */
#ifndef KNARR_WIRE_WEBSOCKET_H
#define KNARR_WIRE_WEBSOCKET_H

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

enum { WEBSOCKET_NORMAL = 1000, WEBSOCKET_GOING_AWAY = 1001, WEBSOCKET_PROTOCOL_ERROR = 1002,
       WEBSOCKET_BAD_DATA = 1007, WEBSOCKET_POLICY = 1008, WEBSOCKET_INTERNAL = 1011 };
enum websocket_kind { WEBSOCKET_TEXT = 1, WEBSOCKET_BINARY = 2 };

enum { WEBSOCKET_FIRST = BIT(0), WEBSOCKET_LAST = BIT(1) }; /* a piece that begins, that ends its message */
struct websocket_events {
	void (*piece)(void *ctx, enum websocket_kind kind, unsigned flags, const char *bytes, size_t n);
	void (*closed)(void *ctx, unsigned code); /* the peer's code, 1005 for none */
};

enum { WEBSOCKET_CONTROL_MAX = 125, WEBSOCKET_HEAD_MAX = 14 };
struct websocket {
	const struct websocket_events *events;
	void *ctx;
	struct buf *out;
	/* the frame that is being read */
	unsigned char head[WEBSOCKET_HEAD_MAX];
	unsigned have, opcode;
	bool fin, in_payload;
	uint64_t left;
	unsigned mask_at;
	/* the message */
	enum websocket_kind kind; /* 0: none is open */
	bool begun;               /* its first piece is told */
	char control[WEBSOCKET_CONTROL_MAX];
	unsigned control_len;
	bool closed, close_sent;
};

void websocket_init(struct websocket *w, const struct websocket_events *events, void *ctx, struct buf *out);
/* The bytes are unmasked in place. After a close nothing more is read. */
int websocket_input(struct websocket *w, char *bytes, size_t n, struct err *e);

/* A whole message with these bytes after a prefix (NULL: none). ERR_EXHAUSTED: the buffer's maximum. Nothing is sent
 * after a close. */
int websocket_send(struct websocket *w, enum websocket_kind kind, struct str prefix, struct str bytes, struct err *e);
int websocket_pong(struct websocket *w, struct err *e); /* unasked: a sign of life */
int websocket_close(struct websocket *w, unsigned code, const char *reason, struct err *e);

/* Sec-WebSocket-Accept for a Sec-WebSocket-Key. */
enum { WEBSOCKET_ACCEPT_LEN = 28 };
void websocket_accept(struct str key, char out[WEBSOCKET_ACCEPT_LEN + 1]);

#endif
