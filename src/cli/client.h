/* The command's way to a knarrd: the one behind a socket, or a private one that it starts where none
 * answers. Calls block; a connection that breaks because one knarrd hands over to another is made
 * anew, and a call that can be repeated is repeated. */
#ifndef KNARR_CLI_CLIENT_H
#define KNARR_CLI_CLIENT_H

#include "base/call.h"
#include "wire/rpc.h"

struct client;

struct client_settings {
	const char *socket;  /* NULL: the user's socket of the service, else a private knarrd's */
	const char *config;  /* for a private knarrd; NULL: the default */
};

/* Connects, or starts a private knarrd (only where no socket was named) and connects. */
int client_open(struct client **out, const struct client_settings *s, struct call *c, struct err *e);
void client_close(struct client *cl);

/* What `knarrd --print KEY` says of the configuration, without the line's end, in the call's arena: no knarrd need run. */
int client_ask_knarrd(const struct client_settings *s, struct call *c, const char *key, struct str *out, struct err *e);

/* One unary call: "/service/method", the answer in the call's arena. The error has the server's
 * kind and text. */
int client_call(struct client *cl, struct call *c, const char *path, const ProtobufCMessage *in,
		const ProtobufCMessageDescriptor *type, ProtobufCMessage **out, struct err *e);

/* A server stream: `each` sees every message; its failure ends the call. */
int client_stream(struct client *cl, struct call *c, const char *path, const ProtobufCMessage *in,
		  const ProtobufCMessageDescriptor *type,
		  int (*each)(void *ctx, const ProtobufCMessage *m, struct err *e), void *ctx, struct err *e);

/* "CRI_CALL(cl, c, Version, version, &in.base, &out, e)" for a method and its messages' C names. */
#define CRI_RUNTIME(cl, c, Method, lower, in, out, e)                                             \
	client_call(cl, c, "/runtime.v1.RuntimeService/" #Method, &(in)->base,                    \
		    &runtime__v1__##lower##_response__descriptor, (ProtobufCMessage **)(out), e)
#define CRI_IMAGE(cl, c, Method, lower, in, out, e)                                               \
	client_call(cl, c, "/runtime.v1.ImageService/" #Method, &(in)->base,                      \
		    &runtime__v1__##lower##_response__descriptor, (ProtobufCMessage **)(out), e)
#define KNARR(cl, c, Method, lower, in, out, e)                                                   \
	client_call(cl, c, "/knarr.v1.Knarr/" #Method, &(in)->base,                               \
		    &knarr__v1__##lower##_response__descriptor, (ProtobufCMessage **)(out), e)

#endif
