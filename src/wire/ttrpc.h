/* ttrpc (github.com/containerd/ttrpc, PROTOCOL.md) as NRI speaks it: two ttrpc connections, one each way, through one
 * socket. Every frame of NRI's multiplexer is {connection, length, bytes}, numbers big-endian; on connection
 * TTRPC_TO_PLUGIN we are the client, on TTRPC_TO_RUNTIME the server.
 *
 * A byte machine: bytes from the peer go in, complete requests and responses come out by callback; requests and
 * responses are appended to a buffer of the owner's. Unary calls only, which is all that NRI has. No socket, no clock,
 * no thread: one thread at a time uses a reader. What is no ttrpc, or is larger than TTRPC_MESSAGE_MAX, is
 * ERR_INVALID, and the connection is then to be closed. Bytes for a connection that we do not know are dropped, as the
 * multiplexer of NRI's own library does. */
#ifndef KNARR_WIRE_TTRPC_H
#define KNARR_WIRE_TTRPC_H

#include "base/buf.h"
#include "base/err.h"

enum { TTRPC_TO_PLUGIN = 1, TTRPC_TO_RUNTIME = 2, TTRPC_CONNECTIONS = 2 };
enum { TTRPC_MESSAGE_MAX = 4 << 20 };

/* The texts and bytes live until the callback returns. */
struct ttrpc_events {
	void (*request)(void *ctx, uint32_t stream, struct str service, struct str method, struct str payload);
	/* code: gRPC's; 0 is OK. */
	void (*response)(void *ctx, uint32_t stream, int code, struct str message, struct str payload);
};

struct ttrpc_reader {
	const struct ttrpc_events *events;
	void *ctx;
	unsigned char head[8];   /* of the multiplexer's frame */
	size_t head_len;
	uint32_t left;           /* of its bytes */
	uint32_t connection;
	struct buf in[TTRPC_CONNECTIONS];
};

void ttrpc_reader_init(struct ttrpc_reader *r, const struct ttrpc_events *events, void *ctx);
void ttrpc_reader_free(struct ttrpc_reader *r);
int ttrpc_input(struct ttrpc_reader *r, const void *bytes, size_t n, struct err *e);

/* Appends a request, framed and multiplexed. The stream is the caller's odd number, each higher than the one before.
 * ERR_EXHAUSTED: the message is larger than TTRPC_MESSAGE_MAX (nothing is appended), or the buffer is full. */
struct ttrpc_request {
	uint32_t stream;
	const char *service, *method;
	struct str payload;
	int64_t timeout_ns;      /* 0: none */
};
int ttrpc_add_request(struct buf *out, const struct ttrpc_request *r, struct err *e);
/* The answer to a request: `status` of kind ERR_NONE is OK and goes with the payload. */
int ttrpc_add_response(struct buf *out, uint32_t stream, const struct err *status, struct str payload, struct err *e);

#endif
