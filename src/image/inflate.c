#include "image/inflate.h"

#include "base/arena.h"

#include <isa-l/igzip_lib.h>
#include <string.h>
#include <zstd.h>

enum { IN_BYTES = 256 * 1024, WINDOW_LOG_MAX = 27 };

struct inflate {
	struct arena arena; /* owns this very struct */
	struct inflate_source source;
	enum unpack_format format;
	unsigned char *in;  /* IN_BYTES */
	size_t pos, len;
	bool at_end;
	uint64_t taken;
	bool inside;        /* of a gzip member or a zstd frame */
	bool finished;      /* all members are read */
	struct inflate_state *gzip;
	ZSTD_DStream *zstd;
};

/* More compressed bytes, once those at hand are used up. */
static int refill(struct inflate *in, struct err *e)
{
	size_t n = 0;

	if (in->pos < in->len || in->at_end)
		return 0;
	if (in->source.read(in->source.ctx, in->in, IN_BYTES, &n, e) < 0)
		return -1;
	in->pos = 0;
	in->len = n;
	in->at_end = n == 0;
	in->taken += n;
	return 0;
}

/* Enough of the first bytes to know the format by. */
static int read_magic(struct inflate *in, struct err *e)
{
	while (in->len < 8 && !in->at_end) {
		size_t n = 0;

		if (in->source.read(in->source.ctx, in->in + in->len, IN_BYTES - in->len, &n, e) < 0)
			return -1;
		in->len += n;
		in->taken += n;
		in->at_end = n == 0;
	}
	return 0;
}

static bool has_magic(const struct inflate *in, const char *magic, size_t n)
{
	return in->len >= n && memcmp(in->in, magic, n) == 0;
}

static int detect(struct inflate *in, enum unpack_format want, struct err *e)
{
	bool skippable = in->len >= 4 && (in->in[0] & 0xf0) == 0x50 && memcmp(in->in + 1, "\x2a\x4d\x18", 3) == 0;

	in->format = UNPACK_PLAIN;
	if (has_magic(in, "\x1f\x8b\x08", 3))
		in->format = UNPACK_GZIP;
	else if (has_magic(in, "\x28\xb5\x2f\xfd", 4) || skippable)
		in->format = UNPACK_ZSTD;
	else if (has_magic(in, "\xfd" "7zXZ\0", 6))
		return err_set(e, ERR_UNIMPLEMENTED, "the layer is compressed with xz, which no image specification has");
	else if (has_magic(in, "BZh", 3) && in->len >= 8 && memcmp(in->in + 4, "1AY&", 4) == 0)
		return err_set(e, ERR_UNIMPLEMENTED, "the layer is compressed with bzip2, which no image specification has");
	if (want == UNPACK_PLAIN && in->format != UNPACK_PLAIN)
		return err_set(e, ERR_INVALID, "the layer is compressed (%s), but its media type says it is not",
			       unpack_format_name(in->format));
	return 0;
}

static int start(struct inflate *in, struct err *e)
{
	if (in->format == UNPACK_GZIP) {
		in->gzip = arena_new0(&in->arena, struct inflate_state);
		isal_inflate_init(in->gzip);
		in->gzip->crc_flag = ISAL_GZIP;
	} else if (in->format == UNPACK_ZSTD) {
		in->zstd = ZSTD_createDStream();
		if (!in->zstd)
			BUG("out of memory");
		if (ZSTD_isError(ZSTD_DCtx_setParameter(in->zstd, ZSTD_d_windowLogMax, WINDOW_LOG_MAX)))
			return err_set(e, ERR_INTERNAL, "zstd refuses a window of 128 MiB");
	}
	return 0;
}

int inflate_open(struct inflate_source source, enum unpack_format want, struct inflate **out, struct err *e)
{
	struct arena a = { 0 };
	struct inflate *in = arena_new0(&a, struct inflate);

	in->source = source;
	in->in = arena_alloc(&a, IN_BYTES);
	in->arena = a;
	if (read_magic(in, e) < 0 || detect(in, want, e) < 0 || start(in, e) < 0) {
		inflate_close(in);
		return -1;
	}
	*out = in;
	return 0;
}

void inflate_close(struct inflate *in)
{
	struct arena a;

	if (!in)
		return;
	if (in->zstd)
		(void)ZSTD_freeDStream(in->zstd); /* cannot fail */
	a = in->arena;
	arena_free(&a);
}

const char *unpack_format_name(enum unpack_format f)
{
	static const char *const names[] = { "any", "plain", "gzip", "zstd" };

	return names[f];
}

enum unpack_format inflate_format(const struct inflate *in)
{
	return in->format;
}

uint64_t inflate_taken(const struct inflate *in)
{
	return in->taken - (in->len - in->pos);
}

static int read_plain(struct inflate *in, unsigned char *out, size_t cap, size_t *n, struct err *e)
{
	if (refill(in, e) < 0)
		return -1;
	*n = MIN(cap, in->len - in->pos);
	memcpy(out, in->in + in->pos, *n);
	in->pos += *n;
	in->finished = in->at_end;
	return 0;
}

static int gzip_error(int rc, struct err *e)
{
	switch (rc) {
	case ISAL_INCORRECT_CHECKSUM:
		return err_set(e, ERR_DATA_LOSS, "gzip: a checksum is wrong");
	case ISAL_NEED_DICT:
	case ISAL_UNSUPPORTED_METHOD:
		return err_set(e, ERR_DATA_LOSS, "gzip: an unknown compression method");
	default:
		return err_set(e, ERR_DATA_LOSS, "gzip: the data is damaged");
	}
}

/* After a member: another one, zeros to the end (padding, as gzip itself takes it), or the end. */
static int gzip_next_member(struct inflate *in, struct err *e)
{
	for (;;) {
		if (refill(in, e) < 0)
			return -1;
		if (in->at_end) {
			in->finished = true;
			return 0;
		}
		if (in->in[in->pos] != 0)
			break;
		in->pos++;
	}
	if (in->in[in->pos] != 0x1f)
		return err_set(e, ERR_DATA_LOSS, "gzip: rubbish after the end");
	isal_inflate_reset(in->gzip);
	in->gzip->crc_flag = ISAL_GZIP;
	in->inside = true;
	return 0;
}

static int read_gzip(struct inflate *in, unsigned char *out, size_t cap, size_t *n, struct err *e)
{
	struct inflate_state *s = in->gzip;
	int rc;

	if (!in->inside)
		return gzip_next_member(in, e);
	if (refill(in, e) < 0)
		return -1;
	s->next_in = in->in + in->pos;
	s->avail_in = (uint32_t)(in->len - in->pos);
	s->next_out = out;
	s->avail_out = (uint32_t)cap;
	rc = isal_inflate(s);
	*n = cap - s->avail_out;
	in->pos = in->len - s->avail_in;
	if (rc < 0 || rc == ISAL_NEED_DICT)
		return gzip_error(rc, e);
	if (s->block_state == ISAL_BLOCK_FINISH)
		in->inside = false;
	else if (in->at_end && *n == 0)
		return err_set(e, ERR_DATA_LOSS, "gzip: the data is cut short");
	return 0;
}

static int read_zstd(struct inflate *in, unsigned char *out, size_t cap, size_t *n, struct err *e)
{
	ZSTD_inBuffer from;
	ZSTD_outBuffer to = { out, cap, 0 };
	size_t rc;

	if (refill(in, e) < 0)
		return -1;
	if (in->at_end && !in->inside) {
		in->finished = true;
		return 0;
	}
	from = (ZSTD_inBuffer){ in->in, in->len, in->pos };
	rc = ZSTD_decompressStream(in->zstd, &to, &from);
	in->pos = from.pos;
	*n = to.pos;
	if (ZSTD_isError(rc))
		return err_set(e, ERR_DATA_LOSS, "zstd: %s", ZSTD_getErrorName(rc));
	in->inside = rc != 0;
	if (in->at_end && in->inside && *n == 0)
		return err_set(e, ERR_DATA_LOSS, "zstd: the data is cut short");
	return 0;
}

int inflate_read(struct inflate *in, void *bytes, size_t cap, size_t *n, struct err *e)
{
	size_t have = 0;

	while (have < cap && !in->finished) {
		unsigned char *out = (unsigned char *)bytes + have;
		size_t got = 0;
		int rc = in->format == UNPACK_GZIP ? read_gzip(in, out, cap - have, &got, e) :
			 in->format == UNPACK_ZSTD ? read_zstd(in, out, cap - have, &got, e) :
						     read_plain(in, out, cap - have, &got, e);

		if (rc < 0)
			return -1;
		have += got;
	}
	*n = have;
	return 0;
}
