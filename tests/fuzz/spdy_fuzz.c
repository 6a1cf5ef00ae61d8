/* A SPDY/3.1 peer. The first byte says in pieces of how many bytes it comes; what comes back is thrown away. */
#include "wire/spdy.h"

struct world {
	struct spdy *spdy;
	struct buf out;
	unsigned calls;
};

static bool opened(void *ctx, uint32_t id, const struct spdy_header *h, size_t n)
{
	struct world *w = ctx;
	struct err e;

	(void)spdy_header_get(h, n, "streamtype");
	if (++w->calls % 7 == 3)
		(void)spdy_end(w->spdy, id, &e);
	return w->calls % 5 != 4;
}

static void data(void *ctx, uint32_t id, const char *bytes, size_t n)
{
	struct world *w = ctx;
	size_t room = spdy_room(w->spdy, id);
	struct err e;

	(void)spdy_consumed(w->spdy, id, n, &e);
	if (++w->calls % 11 == 5)
		(void)spdy_reset(w->spdy, id, SPDY_CANCEL, &e);
	else if (spdy_data(w->spdy, id, bytes, MIN(n, room), &e) < 0)
		buf_clear(&w->out);
}

static void ended(void *ctx, uint32_t id)
{
	struct world *w = ctx;
	struct err e;

	if (++w->calls % 3)
		(void)spdy_end(w->spdy, id, &e);
}

static void gone(void *ctx, uint32_t id)
{
	struct world *w = ctx;

	BUG_ON(spdy_room(w->spdy, id) != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	static const struct spdy_events events = { opened, data, ended, gone };
	struct world w = { .out = BUF(1 << 20) };
	size_t piece = size ? (size_t)bytes[0] + 1 : 1;
	struct err e;

	w.spdy = spdy_new(&events, &w, &w.out);
	for (size_t pos = 1; pos < size; pos += piece) {
		if (spdy_input(w.spdy, (const char *)bytes + pos, MIN(piece, size - pos), &e) < 0)
			break;
		buf_clear(&w.out);
	}
	spdy_free(w.spdy);
	buf_free(&w.out);
	return 0;
}
