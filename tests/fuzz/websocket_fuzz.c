/* A WebSocket peer. The first byte says in pieces of how many bytes it comes. */
#include "wire/websocket.h"

#include <string.h>

static void piece(void *ctx, UNUSED enum websocket_kind kind, unsigned flags, UNUSED const char *bytes, UNUSED size_t n)
{
	bool *open = ctx;

	BUG_ON(*open == !!(flags & WEBSOCKET_FIRST));
	*open = !(flags & WEBSOCKET_LAST);
}

static void closed(UNUSED void *ctx, UNUSED unsigned code)
{
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	static const struct websocket_events events = { piece, closed };
	auto_arena a = { 0 };
	char *copy = size ? arena_memdup(&a, bytes, size) : NULL;
	struct buf out = BUF(1 << 20);
	size_t step = size ? (size_t)bytes[0] + 1 : 1;
	struct websocket w;
	bool open = false;
	struct err e;

	websocket_init(&w, &events, &open, &out);
	for (size_t pos = 1; pos < size; pos += step) {
		if (websocket_input(&w, copy + pos, MIN(step, size - pos), &e) < 0)
			break;
		buf_clear(&out);
	}
	buf_free(&out);
	return 0;
}
