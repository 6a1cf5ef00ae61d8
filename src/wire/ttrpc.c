#include "wire/ttrpc.h"

enum { MUX_HEAD = 8, FRAME_HEAD = 10, TYPE_REQUEST = 1, TYPE_RESPONSE = 2 };
/* A peer in Go reads through a buffer of this size, and a multiplexer's frame must fit into what it reads into: the
 * first frame of a message therefore has at most as many bytes, the second all others. More frames than two are not
 * wise either: the peer drops the connection when 256 wait. */
enum { FIRST_PART_MAX = 4096 };
enum { STATUS_MESSAGE_MAX = 1000 };

static uint32_t get_u32(const unsigned char *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void put_u32(unsigned char *p, uint32_t n)
{
	p[0] = (unsigned char)(n >> 24);
	p[1] = (unsigned char)(n >> 16);
	p[2] = (unsigned char)(n >> 8);
	p[3] = (unsigned char)n;
}

/* --- the envelope: protobuf by hand, since it is three fields -------------------------------------------------- */

struct field {
	uint32_t number;
	uint64_t value;    /* of a varint */
	struct str bytes;  /* of what has a length */
};

static int varint(struct str *in, uint64_t *out, struct err *e)
{
	uint64_t n = 0;

	for (unsigned shift = 0; shift < 64 && in->len > 0; shift += 7) {
		unsigned char c = (unsigned char)*in->p;

		in->p++;
		in->len--;
		n |= (uint64_t)(c & 0x7f) << shift;
		if (!(c & 0x80)) {
			*out = n;
			return 0;
		}
	}
	return err_set(e, ERR_INVALID, "ttrpc: a number is cut or too long");
}

static int skip(struct str *in, uint64_t n, struct str *out, struct err *e)
{
	if (n > in->len)
		return err_set(e, ERR_INVALID, "ttrpc: a field is longer than its message");
	*out = (struct str){ in->p, (size_t)n };
	in->p += n;
	in->len -= (size_t)n;
	return 0;
}

static int field_next(struct str *in, struct field *f, struct err *e)
{
	uint64_t key, n;

	*f = (struct field){ .bytes = { "", 0 } };
	if (varint(in, &key, e) < 0)
		return -1;
	f->number = (uint32_t)(key >> 3);
	switch (key & 7) {
	case 0:
		return varint(in, &f->value, e);
	case 1:
		return skip(in, 8, &f->bytes, e);
	case 2:
		return varint(in, &n, e) < 0 ? -1 : skip(in, n, &f->bytes, e);
	case 5:
		return skip(in, 4, &f->bytes, e);
	default:
		return err_set(e, ERR_INVALID, "ttrpc: a field of wire type %u", (unsigned)(key & 7));
	}
}

static int read_request(struct ttrpc_reader *r, uint32_t stream, struct str in, struct err *e)
{
	struct str parts[4] = { { "", 0 }, { "", 0 }, { "", 0 }, { "", 0 } };
	struct field f;

	while (in.len > 0) {
		if (field_next(&in, &f, e) < 0)
			return -1;
		if (f.number >= 1 && f.number <= 3)
			parts[f.number] = f.bytes;
	}
	r->events->request(r->ctx, stream, parts[1], parts[2], parts[3]);
	return 0;
}

static int read_status(struct str in, int *code, struct str *message, struct err *e)
{
	struct field f;

	while (in.len > 0) {
		if (field_next(&in, &f, e) < 0)
			return -1;
		if (f.number == 1)
			*code = (int)f.value;
		else if (f.number == 2)
			*message = f.bytes;
	}
	return 0;
}

static int read_response(struct ttrpc_reader *r, uint32_t stream, struct str in, struct err *e)
{
	struct str message = { "", 0 }, payload = { "", 0 };
	struct field f;
	int code = 0;

	while (in.len > 0) {
		if (field_next(&in, &f, e) < 0 || (f.number == 1 && read_status(f.bytes, &code, &message, e) < 0))
			return -1;
		if (f.number == 2)
			payload = f.bytes;
	}
	r->events->response(r->ctx, stream, code, message, payload);
	return 0;
}

/* --- in ---------------------------------------------------------------------------------------------------------- */

void ttrpc_reader_init(struct ttrpc_reader *r, const struct ttrpc_events *events, void *ctx)
{
	*r = (struct ttrpc_reader){ .events = events, .ctx = ctx };
	for (size_t i = 0; i < TTRPC_CONNECTIONS; i++)
		r->in[i] = BUF(FRAME_HEAD + TTRPC_MESSAGE_MAX);
}

void ttrpc_reader_free(struct ttrpc_reader *r)
{
	for (size_t i = 0; i < TTRPC_CONNECTIONS; i++)
		buf_free(&r->in[i]);
}

static int frame(struct ttrpc_reader *r, uint32_t connection, const unsigned char *head, struct str body, struct err *e)
{
	uint32_t stream = get_u32(head + 4);

	if (connection == TTRPC_TO_RUNTIME && head[8] == TYPE_REQUEST)
		return read_request(r, stream, body, e);
	if (connection == TTRPC_TO_PLUGIN && head[8] == TYPE_RESPONSE)
		return read_response(r, stream, body, e);
	return err_set(e, ERR_INVALID, "ttrpc: a message of type %u on connection %u", head[8], connection);
}

/* What the frame still lacks, 0: it was complete and is handled. */
static int take(struct ttrpc_reader *r, struct buf *b, size_t *lacks, struct err *e)
{
	const unsigned char *head = (const unsigned char *)b->p;
	size_t whole = FRAME_HEAD;

	if (b->len >= FRAME_HEAD) {
		if (get_u32(head) > TTRPC_MESSAGE_MAX)
			return err_set(e, ERR_INVALID, "ttrpc: a message of %u bytes, more than %d", get_u32(head),
				       TTRPC_MESSAGE_MAX);
		whole += get_u32(head);
	}
	*lacks = whole - b->len;
	if (*lacks > 0)
		return 0;
	if (frame(r, r->connection, head, (struct str){ b->p + FRAME_HEAD, whole - FRAME_HEAD }, e) < 0)
		return -1;
	/* Nothing is behind it: no more was taken than it lacked. A large one's memory is given back. */
	if (b->cap > FIRST_PART_MAX)
		buf_free(b), *b = BUF(FRAME_HEAD + TTRPC_MESSAGE_MAX);
	else
		buf_clear(b);
	return 0;
}

static int channel_input(struct ttrpc_reader *r, const char *bytes, size_t n, struct err *e)
{
	struct buf *b = &r->in[r->connection - 1];

	while (n > 0) {
		size_t lacks, part;

		if (b->len < FRAME_HEAD)
			lacks = FRAME_HEAD - b->len;
		else
			lacks = FRAME_HEAD + get_u32((const unsigned char *)b->p) - b->len;
		part = MIN(lacks, n);
		if (buf_add(b, bytes, part, e) < 0)
			return -1;
		bytes += part;
		n -= part;
		if (take(r, b, &lacks, e) < 0)
			return -1;
	}
	return 0;
}

static int mux_head(struct ttrpc_reader *r, struct err *e)
{
	r->connection = get_u32(r->head);
	r->left = get_u32(r->head + 4);
	r->head_len = 0;
	if (r->left > FRAME_HEAD + TTRPC_MESSAGE_MAX)
		return err_set(e, ERR_INVALID, "NRI: a frame of %u bytes", r->left);
	return 0;
}

int ttrpc_input(struct ttrpc_reader *r, const void *bytes, size_t n, struct err *e)
{
	const char *p = bytes;

	while (n > 0) {
		size_t part;

		if (r->left == 0) {
			r->head[r->head_len++] = (unsigned char)*p++;
			n--;
			if (r->head_len == MUX_HEAD && mux_head(r, e) < 0)
				return -1;
			continue;
		}
		part = MIN(n, r->left);
		if (r->connection >= 1 && r->connection <= TTRPC_CONNECTIONS && channel_input(r, p, part, e) < 0)
			return -1;
		p += part;
		n -= part;
		r->left -= (uint32_t)part;
	}
	return 0;
}

/* --- out --------------------------------------------------------------------------------------------------------- */

static int add_varint(struct buf *b, uint64_t n, struct err *e)
{
	unsigned char text[10];
	size_t len = 0;

	for (; n >= 0x80; n >>= 7)
		text[len++] = (unsigned char)(n | 0x80);
	text[len++] = (unsigned char)n;
	return buf_add(b, text, len, e);
}

static int add_bytes(struct buf *b, unsigned number, struct str s, struct err *e)
{
	if (s.len == 0)
		return 0;
	if (add_varint(b, number << 3 | 2, e) < 0 || add_varint(b, s.len, e) < 0)
		return -1;
	return buf_add(b, s.p, s.len, e);
}

static int add_number(struct buf *b, unsigned number, uint64_t n, struct err *e)
{
	if (n == 0)
		return 0;
	return add_varint(b, number << 3, e) < 0 ? -1 : add_varint(b, n, e);
}

static int add_part(struct buf *out, uint32_t connection, const char *p, size_t n, struct err *e)
{
	unsigned char head[MUX_HEAD];

	if (n == 0)
		return 0;
	put_u32(head, connection);
	put_u32(head + 4, (uint32_t)n);
	return buf_add(out, head, sizeof(head), e) < 0 ? -1 : buf_add(out, p, n, e);
}

/* `message` begins with FRAME_HEAD bytes that are filled here. */
static int add_frame(struct buf *out, uint32_t connection, uint32_t stream, unsigned char type, struct buf *message,
		     struct err *e)
{
	unsigned char *head = (unsigned char *)message->p;
	size_t first = MIN(message->len, FIRST_PART_MAX);

	put_u32(head, (uint32_t)(message->len - FRAME_HEAD));
	put_u32(head + 4, stream);
	head[8] = type;
	head[9] = 0;
	if (buf_reserve(out, message->len + 2 * MUX_HEAD, e) < 0 ||
	    add_part(out, connection, message->p, first, e) < 0)
		return -1;
	return add_part(out, connection, message->p + first, message->len - first, e);
}

static int message_begin(struct buf *b, struct err *e)
{
	static const char head[FRAME_HEAD];

	*b = BUF(FRAME_HEAD + TTRPC_MESSAGE_MAX);
	return buf_add(b, head, sizeof(head), e);
}

int ttrpc_add_request(struct buf *out, const struct ttrpc_request *r, struct err *e)
{
	auto_buf m = { 0 };

	if (message_begin(&m, e) < 0 || add_bytes(&m, 1, str_of(r->service), e) < 0 ||
	    add_bytes(&m, 2, str_of(r->method), e) < 0 || add_bytes(&m, 3, r->payload, e) < 0 ||
	    add_number(&m, 4, (uint64_t)r->timeout_ns, e) < 0)
		return err_in(e, "ttrpc request %s", r->method);
	return add_frame(out, TTRPC_TO_PLUGIN, r->stream, TYPE_REQUEST, &m, e);
}

int ttrpc_add_response(struct buf *out, uint32_t stream, const struct err *status, struct str payload, struct err *e)
{
	auto_buf m = { 0 }, s = BUF(STATUS_MESSAGE_MAX + 100);

	if (message_begin(&m, e) < 0)
		return -1;
	if (status->kind != ERR_NONE) {
		struct str text = str_of(status->msg);

		text.len = MIN(text.len, STATUS_MESSAGE_MAX);
		if (add_number(&s, 1, (uint64_t)err_grpc_code(status->kind), e) < 0 || add_bytes(&s, 2, text, e) < 0 ||
		    add_bytes(&m, 1, buf_str(&s), e) < 0)
			return -1;
	} else if (add_bytes(&m, 2, payload, e) < 0) {
		return err_in(e, "ttrpc response");
	}
	return add_frame(out, TTRPC_TO_RUNTIME, stream, TYPE_RESPONSE, &m, e);
}
