#include "monitor/message.h"

#include <endian.h>

struct header {
	uint32_t magic;
	uint16_t version, op;
	uint32_t flags;
	uint32_t body_bytes; /* of the fields in this packet */
};
_Static_assert(sizeof(struct header) == MESSAGE_HEADER_BYTES, "the header has no padding");

struct field_header {
	uint16_t tag, zero;
	uint32_t len;
};

enum { FIELD_ALIGN = 4 };

static size_t padded(size_t n)
{
	return (n + FIELD_ALIGN - 1) & ~(size_t)(FIELD_ALIGN - 1);
}

const char *monitor_op_name(unsigned op)
{
	switch (op) {
#define X(name, number)                                                                            \
	case number:                                                                               \
		return #name;
		MONITOR_OPS(X)
#undef X
	default:
		return "unknown";
	}
}

static int value_check(unsigned tag, struct str value, struct err *e)
{
	switch (tag & MESSAGE_CLASS) {
	case MESSAGE_NUMBER:
	case MESSAGE_FD:
		if (value.len != sizeof(uint64_t))
			return err_set(e, ERR_INVALID, "field %x is a number of %zu bytes", tag,
				       value.len);
		return 0;
	case MESSAGE_TEXT:
		if (!value.len || strnlen(value.p, value.len) != value.len - 1)
			return err_set(e, ERR_INVALID, "field %x is no terminated text", tag);
		return 0;
	default:
		return 0;
	}
}

/* Takes one field off the front; -1 without an error where its form is wrong. */
static int field_take(struct str *rest, unsigned *tag, struct str *value)
{
	struct field_header h;

	if (rest->len < sizeof(h))
		return -1;
	memcpy(&h, rest->p, sizeof(h));
	*tag = le16toh(h.tag);
	value->p = rest->p + sizeof(h);
	value->len = le32toh(h.len);
	if (h.zero || value->len > rest->len - sizeof(h) ||
	    padded(value->len) > rest->len - sizeof(h))
		return -1;
	rest->p += sizeof(h) + padded(value->len);
	rest->len -= sizeof(h) + padded(value->len);
	return 0;
}

static int fields_check(struct str fields, struct err *e)
{
	struct str rest = fields, value;
	unsigned tag;

	while (rest.len) {
		size_t at = fields.len - rest.len;

		if (field_take(&rest, &tag, &value) < 0)
			return err_set(e, ERR_INVALID, "field at byte %zu is cut or malformed", at);
		if (value_check(tag, value, e) < 0)
			return -1;
	}
	return 0;
}

int message_parse(struct str packet, struct message *out, struct err *e)
{
	struct header h;

	if (packet.len < sizeof(h))
		return err_set(e, ERR_INVALID, "a message of %zu bytes is too short", packet.len);
	memcpy(&h, packet.p, sizeof(h));
	if (le32toh(h.magic) != MESSAGE_MAGIC)
		return err_set(e, ERR_INVALID, "not a knarr-pod message");
	if (le32toh(h.body_bytes) != packet.len - sizeof(h))
		return err_set(e, ERR_INVALID, "a message of %zu bytes says it has %u", packet.len,
			       (unsigned)le32toh(h.body_bytes));
	*out = (struct message){
		.version = le16toh(h.version),
		.op = le16toh(h.op),
		.flags = le32toh(h.flags),
		.fields = { packet.p + sizeof(h), packet.len - sizeof(h) },
	};
	if (out->flags & MESSAGE_BODY_IN_FD && out->fields.len)
		return err_set(e, ERR_INVALID, "a message has its fields both in itself and in a file");
	return fields_check(out->fields, e);
}

int message_parse_body(struct str body, struct message *m, struct err *e)
{
	if (fields_check(body, e) < 0)
		return -1;
	m->fields = body;
	return 0;
}

bool message_next(struct str *rest, struct message_field *f)
{
	struct str value;
	uint64_t number;

	if (!rest->len || field_take(rest, &f->tag, &value) < 0)
		return false;
	f->number = 0;
	f->bytes = value;
	switch (f->tag & MESSAGE_CLASS) {
	case MESSAGE_NUMBER:
	case MESSAGE_FD:
		memcpy(&number, value.p, sizeof(number));
		f->number = le64toh(number);
		break;
	case MESSAGE_TEXT:
		f->bytes.len--;
		break;
	}
	return true;
}

static bool field_find(const struct message *m, unsigned tag, struct message_field *f)
{
	struct str rest = m->fields;

	while (message_next(&rest, f))
		if (f->tag == tag)
			return true;
	return false;
}

uint64_t message_number(const struct message *m, unsigned tag, uint64_t otherwise)
{
	struct message_field f;

	return field_find(m, tag, &f) ? f.number : otherwise;
}

const char *message_text(const struct message *m, unsigned tag, const char *otherwise)
{
	struct message_field f;

	return field_find(m, tag, &f) ? f.bytes.p : otherwise;
}

struct str message_bytes(const struct message *m, unsigned tag)
{
	struct message_field f;

	return field_find(m, tag, &f) ? f.bytes : (struct str){ "", 0 };
}

int message_need_text(const struct message *m, unsigned tag, const char *name, const char **out,
		      struct err *e)
{
	const char *text = message_text(m, tag, "");

	if (!*text)
		return err_set(e, ERR_INVALID, "%s without its %s", monitor_op_name(m->op), name);
	*out = text;
	return 0;
}

void message_begin(struct message_writer *w, void *space, size_t max, unsigned op, unsigned flags)
{
	struct header h = {
		.magic = htole32(MESSAGE_MAGIC),
		.version = htole16(MESSAGE_VERSION),
		.op = htole16((uint16_t)op),
		.flags = htole32(flags),
	};

	BUG_ON(max < sizeof(h));
	*w = (struct message_writer){ .p = space, .len = sizeof(h), .max = max };
	memcpy(w->p, &h, sizeof(h));
}

/* Room for a field's value of n bytes, zero-padded; NULL where there is none. */
static char *field_add(struct message_writer *w, unsigned tag, size_t n)
{
	struct field_header h = { .tag = htole16((uint16_t)tag), .len = htole32((uint32_t)n) };
	size_t need = sizeof(h) + padded(n);
	char *value;

	if (w->full || n > UINT32_MAX / 2 || need > w->max - w->len) {
		w->full = true;
		return NULL;
	}
	memcpy(w->p + w->len, &h, sizeof(h));
	value = w->p + w->len + sizeof(h);
	memset(value + n, 0, padded(n) - n);
	w->len += need;
	return value;
}

void message_add_number(struct message_writer *w, unsigned tag, uint64_t number)
{
	uint64_t le = htole64(number);
	char *value = field_add(w, tag, sizeof(le));

	if (value)
		memcpy(value, &le, sizeof(le));
}

void message_add_text(struct message_writer *w, unsigned tag, const char *text)
{
	size_t n = strlen(text) + 1;
	char *value = field_add(w, tag, n);

	if (value)
		memcpy(value, text, n);
}

void message_add_bytes(struct message_writer *w, unsigned tag, struct str bytes)
{
	char *value = field_add(w, tag, bytes.len);

	if (value && bytes.len)
		memcpy(value, bytes.p, bytes.len);
}

int message_finish(struct message_writer *w, struct str *out, struct err *e)
{
	uint32_t body = htole32((uint32_t)(w->len - MESSAGE_HEADER_BYTES));

	if (w->full)
		return err_set(e, ERR_EXHAUSTED, "a message is longer than %zu bytes", w->max);
	memcpy(w->p + offsetof(struct header, body_bytes), &body, sizeof(body));
	*out = (struct str){ w->p, w->len };
	return 0;
}

void message_write_error(struct message_writer *w, void *space, size_t max, unsigned op,
			 const struct err *error)
{
	message_begin(w, space, max, op, MESSAGE_ANSWER | MESSAGE_ERROR);
	message_add_number(w, TAG_ERR_CODE, (uint64_t)err_grpc_code(error->kind));
	message_add_number(w, TAG_ERR_SYS, (uint64_t)error->sys);
	message_add_text(w, TAG_ERR_TEXT, error->msg);
}

int message_error(const struct message *m, struct err *e)
{
	enum err_kind kind;
	const char *text;

	if (!(m->flags & MESSAGE_ERROR))
		return 0;
	kind = err_kind_of_grpc((int)message_number(m, TAG_ERR_CODE, 13));
	text = message_text(m, TAG_ERR_TEXT, "knarr-pod gave no reason");
	err_set(e, kind == ERR_NONE ? ERR_INTERNAL : kind, "%s", text);
	e->sys = (int)message_number(m, TAG_ERR_SYS, 0);
	return -1;
}
