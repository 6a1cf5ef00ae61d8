/* The small texts of gRPC over HTTP/2 that both ends need
 * (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md). Pure; nothing blocks. */
#ifndef KNARR_WIRE_GRPC_H
#define KNARR_WIRE_GRPC_H

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"

/* Before each message: one byte (1: compressed) and its length in four, the highest first. */
enum { GRPC_HEAD = 5 };

struct grpc_head {
	bool compressed;
	size_t message_bytes;
};
struct grpc_head grpc_head_read(const char bytes[GRPC_HEAD]);
void grpc_head_write(char bytes[GRPC_HEAD], size_t message_bytes);

/* grpc-message: percent-encoded; what is not UTF-8 is replaced first. */
const char *grpc_message_encode(struct arena *a, const char *text);
/* Wrong escapes stay as they are, as the standard wants it. */
const char *grpc_message_decode(struct arena *a, struct str text);

/* grpc-timeout: at most 8 digits and one of H M S m u n. ERR_INVALID otherwise. */
int grpc_timeout_parse(struct str text, int64_t *ns, struct err *e);
/* Rounded up, so that the peer never gives up first. */
const char *grpc_timeout_format(struct arena *a, int64_t ns);

#endif
