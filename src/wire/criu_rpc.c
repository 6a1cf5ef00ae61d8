#include "wire/criu_rpc.h"

/* --- requests --------------------------------------------------------------------------------------- */

enum wire_type { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

static int put_varint(struct buf *b, uint64_t v, struct err *e)
{
	uint8_t bytes[10];
	size_t n = 0;

	do {
		bytes[n++] = (uint8_t)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));
		v >>= 7;
	} while (v);
	return buf_add(b, bytes, n, e);
}

static int put_number(struct buf *b, unsigned field, int64_t v, struct err *e)
{
	return put_varint(b, field << 3 | WIRE_VARINT, e) < 0 ? -1 : put_varint(b, (uint64_t)v, e);
}

static int put_bytes(struct buf *b, unsigned field, struct str s, struct err *e)
{
	return put_varint(b, field << 3 | WIRE_BYTES, e) < 0 || put_varint(b, s.len, e) < 0 ? -1 : buf_add(b, s.p, s.len, e);
}

static int put_text(struct buf *b, unsigned field, const char *text, struct err *e)
{
	return text ? put_bytes(b, field, str_of(text), e) : 0;
}

static int put_pair(struct buf *b, unsigned field, const struct criu_pair *p, struct err *e)
{
	auto_buf one = BUF(CRIU_PACKET_MAX);

	if (put_text(&one, 1, p->key, e) < 0 || put_text(&one, 2, p->value, e) < 0)
		return -1;
	return put_bytes(b, field, buf_str(&one), e);
}

static int put_inherited(struct buf *b, const struct criu_fd *f, struct err *e)
{
	auto_buf one = BUF(CRIU_PACKET_MAX);

	if (put_text(&one, 1, f->key, e) < 0 || put_number(&one, 2, f->fd, e) < 0)
		return -1;
	return put_bytes(b, 27, buf_str(&one), e);
}

static int put_page_server(struct buf *b, const struct criu_opts *o, struct err *e)
{
	auto_buf one = BUF(CRIU_PACKET_MAX);

	if (!o->page_server_address)
		return 0;
	if (put_text(&one, 1, o->page_server_address, e) < 0 || put_number(&one, 2, o->page_server_port, e) < 0)
		return -1;
	return put_bytes(b, 11, buf_str(&one), e);
}

#define FLAG(number, name) { number, offsetof(struct criu_opts, name) }
static const struct opts_field {
	unsigned field;
	size_t offset;
} flags[] = {
	FLAG(3, leave_running), FLAG(4, ext_unix_sk), FLAG(5, tcp_established), FLAG(6, evasive_devices), FLAG(7, shell_job),
	FLAG(8, file_locks), FLAG(12, notify_scripts), FLAG(15, track_mem), FLAG(16, auto_dedup), FLAG(18, link_remap),
	FLAG(24, manage_cgroups), FLAG(26, rst_sibling), FLAG(46, tcp_skip_in_flight), FLAG(48, lazy_pages),
	FLAG(50, orphan_pts_master),
}, texts[] = {
	FLAG(10, log_file), FLAG(13, root), FLAG(14, parent_img), FLAG(44, freeze_cgroup), FLAG(51, config_file),
	FLAG(53, lsm_profile), FLAG(63, lsm_mount_context),
}, numbers[] = { FLAG(2, pid), FLAG(9, log_level) };

static int put_vectors(struct buf *b, const struct criu_opts *o, struct err *e)
{
	for (size_t i = 0; i < o->ext_mounts.count; i++)
		if (put_pair(b, 23, &o->ext_mounts.p[i], e) < 0)
			return -1;
	for (size_t i = 0; i < o->cgroup_roots.count; i++)
		if (put_pair(b, 25, &o->cgroup_roots.p[i], e) < 0)
			return -1;
	for (size_t i = 0; i < o->ninherit; i++)
		if (put_inherited(b, &o->inherit[i], e) < 0)
			return -1;
	for (char *const *x = o->external; x && *x; x++)
		if (put_text(b, 37, *x, e) < 0)
			return -1;
	for (size_t i = 0; i < o->join_namespaces.count; i++)
		if (put_pair(b, 39, &o->join_namespaces.p[i], e) < 0)
			return -1;
	return 0;
}

static int put_opts(struct buf *b, const struct criu_opts *o, struct err *e)
{
	const char *base = (const char *)o;

	if (put_number(b, 1, o->images_dir_fd, e) < 0 || (o->work_dir_fd >= 0 && put_number(b, 17, o->work_dir_fd, e) < 0) ||
	    (o->cgroups_given && put_number(b, 34, o->cgroups, e) < 0) ||
	    (o->empty_namespaces && put_number(b, 38, o->empty_namespaces, e) < 0))
		return -1;
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		if (*(const bool *)(base + flags[i].offset) && put_number(b, flags[i].field, 1, e) < 0)
			return -1;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if (put_text(b, texts[i].field, *(char *const *)(const void *)(base + texts[i].offset), e) < 0)
			return -1;
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		int32_t n = *(const int32_t *)(const void *)(base + numbers[i].offset);

		if (n && put_number(b, numbers[i].field, n, e) < 0)
			return -1;
	}
	return put_page_server(b, o, e) < 0 ? -1 : put_vectors(b, o, e);
}

static int put_features(struct buf *b, unsigned features, struct err *e)
{
	auto_buf one = BUF(64);

	if ((features & CRIU_FEATURE_MEM_TRACK && put_number(&one, 1, 1, e) < 0) ||
	    (features & CRIU_FEATURE_LAZY_PAGES && put_number(&one, 2, 1, e) < 0))
		return -1;
	return put_bytes(b, 5, buf_str(&one), e);
}

int criu_request_write(struct buf *b, const struct criu_request *r, struct err *e)
{
	auto_buf opts = BUF(CRIU_PACKET_MAX);

	if (put_number(b, 1, r->type, e) < 0)
		return -1;
	if (r->opts && (put_opts(&opts, r->opts, e) < 0 || put_bytes(b, 2, buf_str(&opts), e) < 0))
		return err_in(e, "request to criu");
	if (r->notified && put_number(b, 3, 1, e) < 0)
		return -1;
	return r->features ? put_features(b, r->features, e) : 0;
}

static void add_pair(struct arena *a, struct criu_pairs *v, const char *key, const char *value)
{
	struct criu_pair *p = arena_newn0(a, struct criu_pair, v->count + 1);

	if (v->count)
		memcpy(p, v->p, v->count * sizeof(*p));
	p[v->count].key = arena_strdup(a, key);
	p[v->count].value = arena_strdup(a, value);
	v->p = p;
	v->count++;
}

void criu_opts_mount(struct arena *a, struct criu_opts *o, const char *key, const char *value)
{
	add_pair(a, &o->ext_mounts, key, value);
}

void criu_opts_cgroup_root(struct arena *a, struct criu_opts *o, const char *controller, const char *path)
{
	add_pair(a, &o->cgroup_roots, controller, path);
}

void criu_opts_join(struct arena *a, struct criu_opts *o, const char *kind, const char *path)
{
	add_pair(a, &o->join_namespaces, kind, path);
}

void criu_opts_inherit(struct arena *a, struct criu_opts *o, const char *key, int fd)
{
	struct criu_fd *p = arena_newn0(a, struct criu_fd, o->ninherit + 1);

	if (o->ninherit)
		memcpy(p, o->inherit, o->ninherit * sizeof(*p));
	p[o->ninherit] = (struct criu_fd){ arena_strdup(a, key), fd };
	o->inherit = p;
	o->ninherit++;
}

/* --- responses -------------------------------------------------------------------------------------- */

struct field {
	uint64_t number;
	uint64_t value;
	struct str bytes;       /* of WIRE_BYTES; p NULL else */
};

static bool take_varint(struct str *rest, uint64_t *out)
{
	uint64_t v = 0;

	for (unsigned shift = 0; rest->len && shift < 64; shift += 7) {
		uint8_t byte = (uint8_t)*rest->p;

		rest->p++;
		rest->len--;
		v |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80)) {
			*out = v;
			return true;
		}
	}
	return false;
}

static bool take_field(struct str *rest, struct field *f)
{
	uint64_t tag, n;

	*f = (struct field){ 0 };
	if (!take_varint(rest, &tag))
		return false;
	f->number = tag >> 3;
	if ((tag & 7) == WIRE_VARINT)
		return take_varint(rest, &f->value);
	n = (tag & 7) == WIRE_64 ? 8 : 4;
	if ((tag & 7) == WIRE_BYTES) {
		if (!take_varint(rest, &n))
			return false;
	} else if ((tag & 7) != WIRE_64 && (tag & 7) != WIRE_32) {
		return false;
	}
	if (n > rest->len)
		return false;
	if ((tag & 7) == WIRE_BYTES)
		f->bytes = (struct str){ rest->p, (size_t)n };
	rest->p += n;
	rest->len -= (size_t)n;
	return true;
}

static bool take_text(struct arena *a, const struct field *f, const char **out)
{
	if (!f->bytes.p || memchr(f->bytes.p, 0, f->bytes.len))
		return false;
	*out = str_dup(a, f->bytes);
	return true;
}

static bool read_notify(struct arena *a, struct str rest, struct criu_response *r)
{
	struct field f;

	while (rest.len) {
		if (!take_field(&rest, &f) || (f.number == 1 && !take_text(a, &f, &r->script)))
			return false;
		if (f.number == 2)
			r->script_pid = (int32_t)f.value;
	}
	return true;
}

static bool read_features(struct str rest, struct criu_response *r)
{
	struct field f;

	while (rest.len) {
		if (!take_field(&rest, &f))
			return false;
		if (f.value && f.number >= 1 && f.number <= 2)
			r->features |= BIT((unsigned)f.number - 1);
	}
	return true;
}

static bool read_version(struct str rest, struct criu_response *r)
{
	struct field f;

	while (rest.len) {
		if (!take_field(&rest, &f))
			return false;
		if (f.number == 1)
			r->version_major = (int32_t)f.value;
		else if (f.number == 2)
			r->version_minor = (int32_t)f.value;
		else if (f.number == 4)
			r->version_sublevel = (int32_t)f.value;
	}
	return true;
}

static bool read_restored(struct str rest, struct criu_response *r)
{
	struct field f;

	while (rest.len) {
		if (!take_field(&rest, &f))
			return false;
		if (f.number == 1)
			r->restored_pid = (int32_t)f.value;
	}
	return true;
}

static bool read_field(struct arena *a, const struct field *f, struct criu_response *r)
{
	switch (f->number) {
	case 1:
		r->type = (int32_t)f->value;
		return true;
	case 2:
		r->success = f->value;
		return true;
	case 4:
		return f->bytes.p && read_restored(f->bytes, r);
	case 5:
		return f->bytes.p && read_notify(a, f->bytes, r);
	case 7:
		r->error = (int32_t)f->value;
		return true;
	case 8:
		return f->bytes.p && read_features(f->bytes, r);
	case 9:
		return take_text(a, f, &r->message);
	case 10:
		return f->bytes.p && read_version(f->bytes, r);
	default:
		return true;
	}
}

int criu_response_read(struct arena *a, struct str packet, struct criu_response *out, struct err *e)
{
	struct criu_response r = { .type = -1, .script = "", .message = "" };
	struct field f;

	while (packet.len)
		if (!take_field(&packet, &f) || !read_field(a, &f, &r))
			return err_set(e, ERR_DATA_LOSS, "criu answered with rubbish");
	if (r.type < 0)
		return err_set(e, ERR_DATA_LOSS, "criu's answer has no type");
	*out = r;
	return 0;
}
