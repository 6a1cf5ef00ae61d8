/* The server's end of one gRPC connection as a byte machine: bytes from the peer go in, complete
 * requests come out by callback; answers go in, bytes for the peer come out. No socket, no clock but
 * for deadlines, no thread: one thread at a time uses a session.
 *
 * Every method takes exactly one message (unary, or server streaming). Answered here, without ever
 * reaching the owner: paths that `find` does not know and compressed messages (UNIMPLEMENTED),
 * messages beyond RPC_MESSAGE_MAX or beyond what all requests under way may take together
 * (RESOURCE_EXHAUSTED), what is no gRPC (HTTP 405, 415), and streams beyond GRPC_STREAMS_MAX. An
 * `:authority` with a path in it, as clients of unix sockets send, is let through. */
#ifndef KNARR_WIRE_GRPC_SERVER_H
#define KNARR_WIRE_GRPC_SERVER_H

#include "base/buf.h"
#include "base/err.h"
#include "wire/rpc.h"

struct grpc_server;

enum { GRPC_STREAMS_MAX = 1000 };

/* What the requests under way of all connections hold in memory, and how much they may. Plain
 * numbers of the one thread that serves. */
struct grpc_memory {
	size_t used_bytes, max_bytes;
};

struct grpc_request {
	int32_t stream;
	const struct rpc_method *method;
	int64_t deadline_ns;  /* CLOCK_MONOTONIC; 0: none */
	/* The message with its head of GRPC_HEAD bytes. Whoever takes it (and leaves an empty buffer)
	 * gives the bytes back to the grpc_memory with grpc_memory_release() when it frees them. */
	struct buf message;
};
void grpc_memory_release(struct grpc_memory *m, size_t bytes);

/* Called from grpc_server_input() and grpc_server_free(); they may answer at once, but must not free
 * the session. */
struct grpc_server_events {
	const struct rpc_method *(*find)(void *ctx, struct str path);
	void (*request)(void *ctx, struct grpc_request *r);
	/* The peer reset the stream, or the connection ended: an answer would go nowhere. Only for
	 * streams that were given to `request` and have not been finished. */
	void (*cancelled)(void *ctx, int32_t stream);
	/* The stream's unsent bytes have fallen to GRPC_UNSENT_LOW or less after having been above. */
	void (*drained)(void *ctx, int32_t stream);
};
enum { GRPC_UNSENT_LOW = 256 * 1024 };

struct grpc_server *grpc_server_new(const struct grpc_server_events *events, void *ctx,
				    struct grpc_memory *memory);
void grpc_server_free(struct grpc_server *s);

/* Feeds bytes. -1: the peer does not speak HTTP/2, or abuses it; send what grpc_server_output() still
 * has (the GOAWAY) and close. */
int grpc_server_input(struct grpc_server *s, const void *bytes, size_t n, struct err *e);

/* Fills `to` with bytes for the peer; returns how many, 0: none for now. */
size_t grpc_server_output(struct grpc_server *s, char *to, size_t cap);

/* How many frames wait to be sent: stop feeding a peer that asks but does not read. */
size_t grpc_server_waiting_frames(const struct grpc_server *s);

/* Queues one message (head included, GRPC_HEAD) of the answer and takes the buffer's bytes. A stream
 * that is gone is fine. Returns the stream's unsent bytes. */
size_t grpc_server_message(struct grpc_server *s, int32_t stream, struct buf *message);
/* Ends the answer: status->kind ERR_NONE is OK. A stream that is gone is fine. */
void grpc_server_finish(struct grpc_server *s, int32_t stream, const struct err *status);

/* GOAWAY: what is under way goes on, nothing new is taken. */
void grpc_server_shutdown(struct grpc_server *s);
/* Nothing more to read or write: close the connection. */
bool grpc_server_is_done(const struct grpc_server *s);

#endif
