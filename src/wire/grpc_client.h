/* The client's end of a gRPC connection: for the knarr command, and for talking to whoever serves
 * gRPC on a unix socket. First a byte machine like grpc_server.h, with any number of calls at a time;
 * below it a thin loop that blocks in one call on a socket. One thread at a time uses a client. */
#ifndef KNARR_WIRE_GRPC_CLIENT_H
#define KNARR_WIRE_GRPC_CLIENT_H

#include "base/buf.h"
#include "base/call.h"
#include "base/err.h"
#include "wire/rpc.h"

struct grpc_client;
struct grpc_client_stream;

struct grpc_client *grpc_client_new(void);
void grpc_client_free(struct grpc_client *g); /* its streams too; NULL is fine */
/* False once the server has said GOAWAY or the connection has ended: a call that failed with
 * ERR_UNAVAILABLE may find another server behind the same address. While true, such an error is the
 * server's own word. */
bool grpc_client_is_open(const struct grpc_client *g);

/* Begins a call with one message (head included, as rpc_pack() makes it; its bytes are taken).
 * timeout_ns: 0 for none. The stream is the caller's until grpc_client_end(), which resets it where
 * it has not ended. ERR_UNAVAILABLE: the server has said GOAWAY. */
int grpc_client_begin(struct grpc_client *g, const char *path, struct buf *message, int64_t timeout_ns,
		      struct grpc_client_stream **out, struct err *e);
void grpc_client_end(struct grpc_client *g, struct grpc_client_stream *st);

int grpc_client_input(struct grpc_client *g, const void *bytes, size_t n, struct err *e);
size_t grpc_client_output(struct grpc_client *g, char *to, size_t cap);

/* The next whole message of the answer, without its head; valid until the next input. False: none yet. */
bool grpc_client_next(struct grpc_client_stream *st, struct str *message);
bool grpc_client_has_ended(const struct grpc_client_stream *st);
/* After its end: 0, or -1 with the server's own status (or what took its place). */
int grpc_client_status(const struct grpc_client_stream *st, struct err *e);

/* --- over a socket ------------------------------------------------------------------------------- */

struct grpc_exchange {
	const char *path;                           /* "/runtime.v1.RuntimeService/Version" */
	ProtobufCMessage *request;
	const ProtobufCMessageDescriptor *response;
	/* Server streaming: called with each message, which is gone after it; -1 ends the call with
	 * that error. NULL for a unary call. */
	int (*message)(void *ctx, const ProtobufCMessage *m, struct err *e);
	void *ctx;
};

/* One call over a connected stream socket (blocking or not), to its end. The call's deadline goes
 * along as grpc-timeout; when the call is over first, the stream is reset. Unary: *out is the answer,
 * in the call's arena; streaming: out may be NULL. Errors carry the server's status;
 * ERR_UNAVAILABLE: the connection ended. */
int grpc_client_call(struct grpc_client *g, int fd, struct call *c, const struct grpc_exchange *x,
		     ProtobufCMessage **out, struct err *e);

/* Connects to the unix socket at `path`. ERR_NOT_FOUND: there is none; ERR_UNAVAILABLE: nobody
 * listens. The caller owns the fd. */
int grpc_client_connect(const char *path, struct err *e);

#endif
