/* A connection's bytes into the gRPC server: after the preface, so that the fuzzer starts at the frames. */
#include "base/buf.h"
#include "wire/grpc_server.h"

static const struct rpc_method method = { .path = "/" };

struct world {
	struct grpc_memory memory;
	struct grpc_server *server;
};

static const struct rpc_method *on_find(UNUSED void *ctx, UNUSED struct str path)
{
	return &method;
}

static void on_request(void *ctx, struct grpc_request *r)
{
	struct world *w = ctx;
	struct err ok = { 0 };

	grpc_memory_release(&w->memory, r->message.len);
	(void)grpc_server_message(w->server, r->stream, &r->message);
	grpc_server_finish(w->server, r->stream, &ok);
}

static void on_stream(UNUSED void *ctx, UNUSED int32_t stream)
{
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct grpc_server_events events = { on_find, on_request, on_stream, on_stream };
	static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0";
	struct world w = { .memory.max_bytes = 1 << 20 };
	char out[4096];
	struct err e;

	w.server = grpc_server_new(&events, &w, &w.memory);
	if (grpc_server_input(w.server, preface, sizeof(preface), &e) == 0)
		(void)grpc_server_input(w.server, data, size, &e);
	while (grpc_server_output(w.server, out, sizeof(out)))
		;
	grpc_server_free(w.server);
	BUG_ON(w.memory.used_bytes);
	return 0;
}
