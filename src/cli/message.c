/* A protobuf message as JSON, by its descriptor: for `inspect`. */
#include "cli/cli.h"

#include "base/buf.h"
#include "base/json.h"

#include <stdio.h>

enum { PRINT_MAX = 64 * 1024 * 1024 };

static int add_message(struct buf *b, const ProtobufCMessage *m, int depth, struct err *e);

static int new_line(struct buf *b, int depth, struct err *e)
{
	return buf_addf(b, e, "\n%*s", depth * 2, "");
}

static int add_bytes(struct buf *b, const ProtobufCBinaryData *d, struct err *e)
{
	auto_arena a = { 0 };

	return json_write_text(b, utf8_clean(&a, arena_strndup(&a, (const char *)d->data, d->len)), e);
}

static int add_scalar(struct buf *b, const ProtobufCFieldDescriptor *f, const void *at, int depth, struct err *e)
{
	const ProtobufCEnumValue *value;
	const char *text;

	switch (f->type) {
	case PROTOBUF_C_TYPE_STRING:
		text = *(char *const *)at;
		return json_write_text(b, text ? text : "", e);
	case PROTOBUF_C_TYPE_BYTES:
		return add_bytes(b, at, e);
	case PROTOBUF_C_TYPE_BOOL:
		return buf_addz(b, *(const protobuf_c_boolean *)at ? "true" : "false", e);
	case PROTOBUF_C_TYPE_ENUM:
		value = protobuf_c_enum_descriptor_get_value(f->descriptor, *(const int *)at);
		return value ? json_write_text(b, value->name, e) : buf_addf(b, e, "%d", *(const int *)at);
	case PROTOBUF_C_TYPE_MESSAGE:
		return add_message(b, *(ProtobufCMessage *const *)at, depth, e);
	case PROTOBUF_C_TYPE_INT32: case PROTOBUF_C_TYPE_SINT32: case PROTOBUF_C_TYPE_SFIXED32:
		return buf_addf(b, e, "%d", *(const int32_t *)at);
	case PROTOBUF_C_TYPE_UINT32: case PROTOBUF_C_TYPE_FIXED32:
		return buf_addf(b, e, "%u", *(const uint32_t *)at);
	case PROTOBUF_C_TYPE_INT64: case PROTOBUF_C_TYPE_SINT64: case PROTOBUF_C_TYPE_SFIXED64:
		return buf_addf(b, e, "%lld", (long long)*(const int64_t *)at);
	case PROTOBUF_C_TYPE_UINT64: case PROTOBUF_C_TYPE_FIXED64:
		return buf_addf(b, e, "%llu", (unsigned long long)*(const uint64_t *)at);
	case PROTOBUF_C_TYPE_DOUBLE:
		return buf_addf(b, e, "%g", *(const double *)at);
	case PROTOBUF_C_TYPE_FLOAT:
		return buf_addf(b, e, "%g", (double)*(const float *)at);
	}
	return buf_addz(b, "null", e);
}

static size_t element_size(const ProtobufCFieldDescriptor *f)
{
	switch (f->type) {
	case PROTOBUF_C_TYPE_BYTES:
		return sizeof(ProtobufCBinaryData);
	case PROTOBUF_C_TYPE_BOOL:
		return sizeof(protobuf_c_boolean);
	case PROTOBUF_C_TYPE_STRING: case PROTOBUF_C_TYPE_MESSAGE: case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64: case PROTOBUF_C_TYPE_SFIXED64: case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64: case PROTOBUF_C_TYPE_DOUBLE:
		return 8;
	default:
		return 4;
	}
}

/* protobuf-c has no mark for a map: it is a repeated message of "key" and "value" called …Entry. */
static bool is_map(const ProtobufCFieldDescriptor *f)
{
	const ProtobufCMessageDescriptor *d = f->descriptor;

	return f->type == PROTOBUF_C_TYPE_MESSAGE && d->n_fields == 2 && ends_with(d->short_name, "Entry") &&
	       streq(d->fields[0].name, "key");
}

static int add_repeated(struct buf *b, const ProtobufCFieldDescriptor *f, const char *m, int depth, struct err *e)
{
	size_t n = *(const size_t *)(m + f->quantifier_offset), size = element_size(f);
	const char *p = *(const char *const *)(m + f->offset);
	bool map = is_map(f);

	if (buf_addz(b, map ? "{" : "[", e) < 0)
		return -1;
	for (size_t i = 0; i < n; i++) {
		const void *at = p + i * size;

		if ((i && buf_addz(b, ",", e) < 0) || new_line(b, depth + 1, e) < 0)
			return -1;
		if (map) {
			const char *entry = *(const char *const *)at;
			const ProtobufCMessageDescriptor *d = f->descriptor;

			if (add_scalar(b, &d->fields[0], entry + d->fields[0].offset, depth + 1, e) < 0 ||
			    buf_addz(b, ": ", e) < 0 ||
			    add_scalar(b, &d->fields[1], entry + d->fields[1].offset, depth + 1, e) < 0)
				return -1;
		} else if (add_scalar(b, f, at, depth + 1, e) < 0) {
			return -1;
		}
	}
	if (n && new_line(b, depth, e) < 0)
		return -1;
	return buf_addz(b, map ? "}" : "]", e);
}

static bool is_set(const ProtobufCFieldDescriptor *f, const char *m)
{
	static const char zero[16];

	if (f->label == PROTOBUF_C_LABEL_REPEATED)
		return *(const size_t *)(m + f->quantifier_offset) > 0;
	if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
		return *(const uint32_t *)(m + f->quantifier_offset) == f->id;
	if (f->type == PROTOBUF_C_TYPE_STRING)
		return !str_is_empty(*(char *const *)(m + f->offset));
	if (f->type == PROTOBUF_C_TYPE_BYTES)
		return ((const ProtobufCBinaryData *)(m + f->offset))->len > 0;
	if (f->type == PROTOBUF_C_TYPE_ENUM)
		return true; /* zero is a value with a name */
	return memcmp(m + f->offset, zero, element_size(f)) != 0;
}

static int add_message(struct buf *b, const ProtobufCMessage *m, int depth, struct err *e)
{
	const ProtobufCMessageDescriptor *d = m->descriptor;
	bool any = false;

	if (buf_addz(b, "{", e) < 0)
		return -1;
	for (unsigned i = 0; i < d->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &d->fields[i];
		const char *at = (const char *)m;
		int rc;

		if (!is_set(f, at))
			continue;
		if ((any && buf_addz(b, ",", e) < 0) || new_line(b, depth + 1, e) < 0 ||
		    json_write_text(b, f->name, e) < 0 || buf_addz(b, ": ", e) < 0)
			return -1;
		any = true;
		rc = f->label == PROTOBUF_C_LABEL_REPEATED ? add_repeated(b, f, at, depth + 1, e) :
			add_scalar(b, f, at + f->offset, depth + 1, e);
		if (rc < 0)
			return -1;
	}
	if (any && new_line(b, depth, e) < 0)
		return -1;
	return buf_addz(b, "}", e);
}

int message_print(struct cli *cli, const ProtobufCMessage *m, struct err *e)
{
	auto_buf b = BUF(PRINT_MAX);

	(void)cli;
	if (add_message(&b, m, 0, e) < 0)
		return -1;
	puts(buf_text(&b));
	return 0;
}
