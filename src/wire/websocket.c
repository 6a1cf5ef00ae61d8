#include "wire/websocket.h"

#include "wire/base64.h"

#include <string.h>

enum { OP_CONTINUE = 0, OP_CLOSE = 8, OP_PING = 9, OP_PONG = 10, FIN = 0x80, MASKED = 0x80, NO_CODE = 1005 };

void websocket_init(struct websocket *w, const struct websocket_events *events, void *ctx, struct buf *out)
{
	*w = (struct websocket){ .events = events, .ctx = ctx, .out = out };
}

/* --- frames out -------------------------------------------------------------------------------------- */

static int send_frame(struct websocket *w, unsigned opcode, struct str prefix, struct str bytes, struct err *e)
{
	uint64_t n = prefix.len + bytes.len;
	unsigned char head[10] = { (unsigned char)(FIN | opcode) };
	size_t head_len = 2;

	if (w->close_sent)
		return 0;
	if (n < 126) {
		head[1] = (unsigned char)n;
	} else if (n < 65536) {
		head[1] = 126;
		head_len = 4;
	} else {
		head[1] = 127;
		head_len = 10;
	}
	for (size_t i = head_len; i > 2; i--, n >>= 8)
		head[i - 1] = (unsigned char)n;
	if (buf_reserve(w->out, head_len + prefix.len + bytes.len, e) < 0 || buf_add(w->out, head, head_len, e) < 0 ||
	    (prefix.len && buf_add(w->out, prefix.p, prefix.len, e) < 0))
		return -1;
	return bytes.len ? buf_add(w->out, bytes.p, bytes.len, e) : 0;
}

int websocket_send(struct websocket *w, enum websocket_kind kind, struct str prefix, struct str bytes, struct err *e)
{
	return send_frame(w, kind, prefix, bytes, e);
}

int websocket_pong(struct websocket *w, struct err *e)
{
	return send_frame(w, OP_PONG, STR(""), STR(""), e);
}

int websocket_close(struct websocket *w, unsigned code, const char *reason, struct err *e)
{
	const char number[] = { (char)(code >> 8), (char)code };
	struct str text = str_of(reason);

	text.len = MIN(text.len, (size_t)WEBSOCKET_CONTROL_MAX - 2);
	if (send_frame(w, OP_CLOSE, (struct str){ number, 2 }, text, e) < 0)
		return -1;
	w->close_sent = true;
	return 0;
}

/* --- frames in --------------------------------------------------------------------------------------- */

static int offence(struct websocket *w, const char *what, struct err *e)
{
	struct err ignored; /* a full buffer: the connection ends anyway */

	(void)websocket_close(w, WEBSOCKET_PROTOCOL_ERROR, what, &ignored);
	w->closed = true;
	return err_set(e, ERR_INVALID, "WebSocket: %s", what);
}

static unsigned head_size(const struct websocket *w)
{
	unsigned n = 2;

	if (w->have < 2)
		return n;
	if ((w->head[1] & 127) == 126)
		n += 2;
	else if ((w->head[1] & 127) == 127)
		n += 8;
	return w->head[1] & MASKED ? n + 4 : n;
}

static int check_head(struct websocket *w, struct err *e)
{
	if (w->head[0] & 0x70)
		return offence(w, "an extension that was not agreed on", e);
	if (!(w->head[1] & MASKED))
		return offence(w, "a frame that is not masked", e);
	if (w->opcode >= OP_CLOSE) {
		if (w->opcode > OP_PONG)
			return offence(w, "an unknown control frame", e);
		if (!w->fin || w->left > WEBSOCKET_CONTROL_MAX)
			return offence(w, "a control frame that is cut or too long", e);
		return 0;
	}
	if (w->opcode > WEBSOCKET_BINARY)
		return offence(w, "an unknown kind of frame", e);
	if (w->opcode == OP_CONTINUE && !w->kind)
		return offence(w, "a message goes on that never began", e);
	if (w->opcode != OP_CONTINUE && w->kind)
		return offence(w, "a message begins within another", e);
	if (w->left >> 63)
		return offence(w, "a frame of more than 2^63 bytes", e);
	return 0;
}

static int head_is_whole(struct websocket *w, struct err *e)
{
	unsigned small = w->head[1] & 127, extra = small == 126 ? 2 : small == 127 ? 8 : 0;

	w->fin = w->head[0] & FIN;
	w->opcode = w->head[0] & 15;
	w->left = extra ? 0 : small;
	for (unsigned i = 0; i < extra; i++)
		w->left = w->left << 8 | w->head[2 + i];
	if (check_head(w, e) < 0)
		return -1;
	if (w->opcode == WEBSOCKET_TEXT || w->opcode == WEBSOCKET_BINARY) {
		w->kind = (enum websocket_kind)w->opcode;
		w->begun = false;
	}
	w->mask_at = 0;
	w->control_len = 0;
	w->in_payload = true;
	return 0;
}

static void unmask(struct websocket *w, char *p, size_t n)
{
	const unsigned char *mask = w->head + head_size(w) - 4;
	unsigned char four[4];
	uint32_t word, all;

	for (size_t i = 0; i < 4; i++)
		four[i] = mask[(w->mask_at + i) & 3];
	memcpy(&all, four, 4);
	for (; n >= 4; n -= 4, p += 4) {
		memcpy(&word, p, 4);
		word ^= all;
		memcpy(p, &word, 4);
	}
	for (size_t i = 0; i < n; i++)
		p[i] ^= (char)four[i];
	w->mask_at = (w->mask_at + (unsigned)n) & 3;
}

static int on_close(struct websocket *w, struct err *e)
{
	const unsigned char *p = (const unsigned char *)w->control;
	unsigned code = w->control_len >= 2 ? (unsigned)(p[0] << 8 | p[1]) : NO_CODE;

	if (w->control_len == 1 || (w->control_len >= 2 && (code < 1000 || code >= 5000 || (code >= 1004 && code <= 1006))) ||
	    (w->control_len > 2 && !utf8_valid(w->control + 2, w->control_len - 2)))
		return offence(w, "a malformed close", e);
	if (code != NO_CODE) {
		if (websocket_close(w, code, "", e) < 0)
			return -1;
	} else if (send_frame(w, OP_CLOSE, STR(""), STR(""), e) < 0) {
		return -1;
	}
	w->close_sent = w->closed = true;
	w->events->closed(w->ctx, code);
	return 0;
}

static int frame_is_whole(struct websocket *w, struct err *e)
{
	w->in_payload = false;
	w->have = 0;
	if (w->opcode == OP_PING)
		return send_frame(w, OP_PONG, (struct str){ w->control, w->control_len }, STR(""), e);
	if (w->opcode == OP_CLOSE)
		return on_close(w, e);
	if (w->opcode < OP_CLOSE && w->fin)
		w->kind = 0;
	return 0;
}

static int take_payload(struct websocket *w, char *p, size_t n, struct err *e)
{
	bool ends = w->left == n;

	unmask(w, p, n);
	w->left -= n;
	if (w->opcode >= OP_CLOSE) {
		memcpy(w->control + w->control_len, p, n);
		w->control_len += (unsigned)n;
	} else if (n || ends) {
		unsigned flags = (w->begun ? 0 : WEBSOCKET_FIRST) | (ends && w->fin ? WEBSOCKET_LAST : 0);

		w->begun = true;
		w->events->piece(w->ctx, w->kind, flags, p, n);
	}
	return ends ? frame_is_whole(w, e) : 0;
}

int websocket_input(struct websocket *w, char *bytes, size_t n, struct err *e)
{
	size_t pos = 0;

	while (!w->closed && pos < n) {
		while (!w->in_payload && pos < n) {
			w->head[w->have++] = (unsigned char)bytes[pos++];
			if (w->have == head_size(w)) {
				if (head_is_whole(w, e) < 0)
					return -1;
			}
		}
		if (w->in_payload && (pos < n || !w->left)) {
			size_t take = (size_t)MIN((uint64_t)(n - pos), w->left);

			if (take_payload(w, bytes + pos, take, e) < 0)
				return -1;
			pos += take;
		}
	}
	return 0;
}

/* --- the handshake ----------------------------------------------------------------------------------- */

/* SHA-1 (FIPS 180-4), for the handshake alone, where nothing rests on its strength. */
static uint32_t rotated(uint32_t v, unsigned by)
{
	return v << by | v >> (32 - by);
}

static void sha1_block(uint32_t h[5], const unsigned char block[64])
{
	uint32_t w[80], v[5];

	for (size_t i = 0; i < 16; i++)
		w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
		       (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
	for (size_t i = 16; i < 80; i++)
		w[i] = rotated(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
	memcpy(v, h, sizeof(v));
	for (size_t i = 0; i < 80; i++) {
		uint32_t f, next;

		if (i < 20)
			f = ((v[1] & v[2]) | (~v[1] & v[3])) + 0x5a827999;
		else if (i < 40)
			f = (v[1] ^ v[2] ^ v[3]) + 0x6ed9eba1;
		else if (i < 60)
			f = ((v[1] & v[2]) | (v[1] & v[3]) | (v[2] & v[3])) + 0x8f1bbcdc;
		else
			f = (v[1] ^ v[2] ^ v[3]) + 0xca62c1d6;
		next = rotated(v[0], 5) + f + v[4] + w[i];
		v[4] = v[3];
		v[3] = v[2];
		v[2] = rotated(v[1], 30);
		v[1] = v[0];
		v[0] = next;
	}
	for (size_t i = 0; i < 5; i++)
		h[i] += v[i];
}

static void sha1(const unsigned char *p, size_t n, unsigned char out[20])
{
	uint32_t h[5] = { 0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0 };
	unsigned char tail[128] = { 0 };
	size_t left = n, tail_len;

	for (; left >= 64; left -= 64, p += 64)
		sha1_block(h, p);
	memcpy(tail, p, left);
	tail[left] = 0x80;
	tail_len = left < 56 ? 64 : 128;
	for (size_t i = 0; i < 8; i++)
		tail[tail_len - 1 - i] = (unsigned char)((uint64_t)n * 8 >> 8 * i);
	sha1_block(h, tail);
	if (tail_len == 128)
		sha1_block(h, tail + 64);
	for (size_t i = 0; i < 20; i++)
		out[i] = (unsigned char)(h[i / 4] >> (24 - 8 * (i % 4)));
}

void websocket_accept(struct str key, char out[WEBSOCKET_ACCEPT_LEN + 1])
{
	static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; /* RFC 6455, 1.3 */
	unsigned char text[128 + sizeof(guid)], digest[20];
	size_t n = MIN(key.len, (size_t)128);

	memcpy(text, key.p, n);
	memcpy(text + n, guid, sizeof(guid) - 1);
	sha1(text, n + sizeof(guid) - 1, digest);
	base64_encode(out, digest, sizeof(digest));
	out[WEBSOCKET_ACCEPT_LEN] = '\0';
}
