/* gzip, zstd and plain bytes. The first two bytes: in pieces of what size they come and are read. */
#include "image/inflate.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct bytes {
	const uint8_t *p;
	size_t left, piece;
};

static int more(void *ctx, void *out, size_t cap, size_t *n, struct err *e)
{
	struct bytes *b = ctx;

	(void)e;
	*n = MIN(MIN(b->left, b->piece), cap);
	memcpy(out, b->p, *n);
	b->p += *n;
	b->left -= *n;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t out[64 * 1024];
	enum { ENOUGH = 16 << 20 }; /* a bomb is the caller's to stop */
	struct bytes b;
	struct inflate *in;
	size_t n, cap, sum = 0;
	struct err e;

	if (size < 2)
		return 0;
	b = (struct bytes){ data + 2, size - 2, data[0] ? data[0] * 5u : 1u << 20 };
	cap = data[1] ? data[1] * 11u : sizeof(out);
	if (inflate_open((struct inflate_source){ more, &b }, UNPACK_ANY, &in, &e) < 0)
		return 0;
	do {
		n = 0;
		if (inflate_read(in, out, cap, &n, &e) < 0)
			break;
		if (n > cap || inflate_taken(in) > size - 2)
			__builtin_trap();
		sum += n;
	} while (n == cap && sum < ENOUGH);
	inflate_close(in);
	return 0;
}
