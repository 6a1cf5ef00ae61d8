#include "wire/rpc.h"

#include "wire/grpc.h"

const struct rpc_method *rpc_find(const struct rpc_method *table, struct str path)
{
	for (; table->path; table++)
		if (str_eqz(path, table->path))
			return table;
	return NULL;
}

/* Where the values of a field lie in its message, whatever its label. */
struct field_values {
	const void *first;
	size_t count;
};

static struct field_values values_of(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
	const char *base = (const char *)m;
	const void *at = base + f->offset;

	if (f->label == PROTOBUF_C_LABEL_REPEATED)
		return (struct field_values){ *(void *const *)at,
					      *(const size_t *)(base + f->quantifier_offset) };
	if ((f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) &&
	    *(const uint32_t *)(base + f->quantifier_offset) != f->id)
		return (struct field_values){ 0 };
	return (struct field_values){ at, 1 };
}

static bool holds_pointers(const ProtobufCFieldDescriptor *f)
{
	return f->type == PROTOBUF_C_TYPE_STRING || f->type == PROTOBUF_C_TYPE_MESSAGE;
}

int rpc_message_check(const ProtobufCMessage *m, struct err *e)
{
	const ProtobufCMessageDescriptor *d = m->descriptor;

	for (unsigned i = 0; i < d->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &d->fields[i];
		struct field_values v = values_of(m, f);
		const void *const *p = v.first;

		if (!holds_pointers(f))
			continue;
		for (size_t k = 0; k < v.count; k++) {
			if (!p[k])
				continue;
			if (f->type == PROTOBUF_C_TYPE_MESSAGE) {
				if (rpc_message_check(p[k], e) < 0)
					return -1;
			} else if (!utf8_valid(p[k], strlen(p[k]))) {
				return err_set(e, ERR_INVALID, "%s.%s is not UTF-8", d->name, f->name);
			}
		}
	}
	return 0;
}

void rpc_message_clean(struct arena *a, ProtobufCMessage *m)
{
	const ProtobufCMessageDescriptor *d = m->descriptor;

	for (unsigned i = 0; i < d->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &d->fields[i];
		struct field_values v = values_of(m, f);
		void **p = (void **)v.first;

		if (!holds_pointers(f))
			continue;
		for (size_t k = 0; k < v.count; k++) {
			if (!p[k])
				continue;
			if (f->type == PROTOBUF_C_TYPE_MESSAGE)
				rpc_message_clean(a, p[k]);
			else if (!utf8_valid(p[k], strlen(p[k])))
				p[k] = (void *)utf8_clean(a, p[k]);
		}
	}
}

/* Two bytes on the wire can mean a struct of two hundred in memory: what unpacking takes is capped
 * too. */
enum { UNPACKED_MAX = 8 * RPC_MESSAGE_MAX };

static void *alloc_in_arena(void *data, size_t size)
{
	struct arena *a = data;

	if (size > UNPACKED_MAX || a->total_bytes > UNPACKED_MAX - size)
		return NULL;
	return arena_alloc(a, size);
}

static void free_nothing(UNUSED void *data, UNUSED void *p)
{
}

int rpc_unpack(struct arena *a, const ProtobufCMessageDescriptor *type, struct str bytes,
	       ProtobufCMessage **out, struct err *e)
{
	ProtobufCAllocator in_arena = { alloc_in_arena, free_nothing, a };
	ProtobufCMessage *m;

	m = protobuf_c_message_unpack(type, &in_arena, bytes.len, (const uint8_t *)bytes.p);
	if (!m)
		return err_set(e, ERR_INVALID, "the bytes are no valid %s", type->name);
	if (rpc_message_check(m, e) < 0)
		return -1;
	*out = m;
	return 0;
}

int rpc_pack(struct arena *a, ProtobufCMessage *m, struct buf *out, struct err *e)
{
	struct buf b = BUF(GRPC_HEAD + RPC_MESSAGE_MAX);
	size_t size;

	rpc_message_clean(a, m);
	size = protobuf_c_message_get_packed_size(m);
	if (size > RPC_MESSAGE_MAX)
		return err_set(e, ERR_EXHAUSTED, "the message has %zu bytes, more than the %d that gRPC takes",
			       size, RPC_MESSAGE_MAX);
	if (buf_reserve(&b, GRPC_HEAD + size, e) < 0)
		return -1;
	grpc_head_write(b.p, size);
	(void)protobuf_c_message_pack(m, (uint8_t *)b.p + GRPC_HEAD);
	b.len = GRPC_HEAD + size;
	*out = b;
	return 0;
}
