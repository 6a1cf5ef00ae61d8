/* A plugin's end of an NRI connection. The first byte says in pieces of how many bytes it comes. */
#include "wire/ttrpc.h"

static void request(void *ctx, uint32_t stream, UNUSED struct str service, UNUSED struct str method, struct str payload)
{
	static const struct err refusal = { .kind = ERR_UNIMPLEMENTED, .msg = "no" }, fine = { 0 };
	struct buf *out = ctx;
	struct err e;

	buf_clear(out);
	BUG_ON(ttrpc_add_response(out, stream, payload.len % 2 ? &fine : &refusal, payload, &e) < 0 && payload.len < 1000);
}

static void response(UNUSED void *ctx, UNUSED uint32_t stream, UNUSED int code, UNUSED struct str message,
		     UNUSED struct str payload)
{
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	static const struct ttrpc_events events = { request, response };
	size_t step = size ? (size_t)bytes[0] + 1 : 1;
	auto_buf out = BUF(16 << 20);
	struct ttrpc_reader r;
	struct err e;

	ttrpc_reader_init(&r, &events, &out);
	for (size_t pos = 1; pos < size; pos += step)
		if (ttrpc_input(&r, bytes + pos, MIN(step, size - pos), &e) < 0)
			break;
	ttrpc_reader_free(&r);
	return 0;
}
