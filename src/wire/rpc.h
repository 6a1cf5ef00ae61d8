/* What a gRPC method is to the rooms that answer it: a path, two protobuf-c messages and one function
 * of straight-line blocking code. The daemon finds the method by its path, runs it in a worker and
 * sends what it left in `out`.
 *
 * A table of methods ends with an entry whose path is NULL. */
#ifndef KNARR_WIRE_RPC_H
#define KNARR_WIRE_RPC_H

#include "base/buf.h"
#include "base/call.h"
#include "base/err.h"
#include "base/str.h"

#include <protobuf-c/protobuf-c.h>

enum { RPC_MESSAGE_MAX = 16 * 1024 * 1024 }; /* of one message, both ways; kubelet's own limit */

enum rpc_flags {
	RPC_RESERVED_LANE = BIT(0), /* runs in workers of its own: a stuck pull never delays it */
	RPC_ANYTIME = BIT(1),       /* answers while knarrd still recovers; all others wait for that */
	RPC_STREAMING = BIT(2),     /* server streaming: answers go out by rpc_send() */
	RPC_WAITS = BIT(3),         /* does nothing but wait: the end of the server ends it at once, as it does streams */
};

/* Which socket the call came through; a pod belongs to the one it was made through. */
enum rpc_owner { RPC_OWNER_KUBELET, RPC_OWNER_USER };

struct rpc_method;

struct rpc_context {
	void *app;                       /* what the daemon serves: src/cri's own struct */
	enum rpc_owner owner;
	const struct rpc_method *method; /* so that one function may serve several paths */
	/* Set for RPC_STREAMING; use rpc_send(). */
	int (*send)(struct rpc_context *ctx, struct call *c, const ProtobufCMessage *message, struct err *e);
};

struct rpc_method {
	const char *path; /* "/runtime.v1.RuntimeService/Version" */
	const ProtobufCMessageDescriptor *request, *response;
	/* in:  unpacked in c->arena; its strings are UTF-8.
	 * out: initialised (zero, of type `response`); the function sets its fields to memory in
	 *      c->arena. For RPC_STREAMING it is of the streamed type and is not sent by itself.
	 * c:   carries the caller's deadline; cancelled by RST_STREAM and by the connection's end. Work
	 *      that outlives its caller runs under a call of its own in a thread of its own.
	 * ctx and c end with the function. An error becomes grpc-status and grpc-message. */
	int (*run)(struct rpc_context *ctx, struct call *c, const ProtobufCMessage *in, ProtobufCMessage *out,
		   struct err *e);
	unsigned flags;
};

/* Sends one message of a stream, from the thread that runs the method. The message is packed before
 * it returns. Waits while the peer reads too slowly; ERR_CANCELLED or ERR_TIMEOUT once the call is
 * over, ERR_EXHAUSTED for a message larger than RPC_MESSAGE_MAX. */
static inline int rpc_send(struct rpc_context *ctx, struct call *c, const ProtobufCMessage *message,
			   struct err *e)
{
	return ctx->send(ctx, c, message, e);
}

/* The method of this path in a table, NULL: none. */
const struct rpc_method *rpc_find(const struct rpc_method *table, struct str path);

/* protobuf-c does not look at UTF-8, but every other implementation refuses a message with a bad
 * string. The first bad string of an incoming message is ERR_INVALID, with the field's name... */
int rpc_message_check(const ProtobufCMessage *m, struct err *e);
/* ...and in an outgoing one each bad byte becomes U+FFFD, so that one container's odd label does not
 * cost kubelet the whole list. Strings are replaced by new ones in the arena. */
void rpc_message_clean(struct arena *a, ProtobufCMessage *m);

/* Unpacks into the arena (nothing needs to be freed), strings checked. ERR_INVALID names the type. */
int rpc_unpack(struct arena *a, const ProtobufCMessageDescriptor *type, struct str bytes,
	       ProtobufCMessage **out, struct err *e);
/* Cleans the strings (in the arena) and packs into *out, gRPC's head of five bytes first: a buffer of
 * its own, since an answer outlives its call until it is sent. ERR_EXHAUSTED past RPC_MESSAGE_MAX. */
int rpc_pack(struct arena *a, ProtobufCMessage *m, struct buf *out, struct err *e);

#endif
