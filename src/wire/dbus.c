#include "wire/dbus.h"

/* The header's fields, by number. */
enum { FIELD_PATH = 1, FIELD_INTERFACE, FIELD_MEMBER, FIELD_ERROR, FIELD_REPLY_TO, FIELD_DESTINATION, FIELD_SENDER,
       FIELD_SIGNATURE };
enum { HEADER_FIXED = 12, LINE_MAX_BYTES = 1024 };
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
enum { ORDER_OURS = 'l', ORDER_OTHER = 'B' };
#else
enum { ORDER_OURS = 'B', ORDER_OTHER = 'l' };
#endif

/* --- the way in ------------------------------------------------------------------------------------ */

int dbus_auth_read(struct str bytes, size_t *used, bool *done, struct err *e)
{
	size_t at = 0;

	*done = false;
	while (!*done) {
		struct str rest = { bytes.p + at, bytes.len - at };
		const char *end = rest.len ? memchr(rest.p, '\n', rest.len) : NULL;
		struct str line;

		if (!end && rest.len > LINE_MAX_BYTES)
			return err_set(e, ERR_INVALID, "D-Bus: what answers speaks something else");
		if (!end)
			break;
		line = str_trim((struct str){ rest.p, (size_t)(end - rest.p) });
		at += (size_t)(end - rest.p) + 1;
		if (str_starts(line, "OK ") || str_eqz(line, "OK"))
			*done = true;
		else if (str_starts(line, "REJECTED"))
			return err_set(e, ERR_DENIED, "D-Bus: the server does not take our credentials");
		else if (!str_starts(line, "DATA"))
			return err_set(e, ERR_INVALID, "D-Bus: the server answers \"%.*s\"", (int)MIN(line.len, 100), line.p);
	}
	*used = at;
	return 0;
}

static char *unescape(struct arena *a, struct str s)
{
	char *out = arena_alloc(a, s.len + 1);
	size_t n = 0;

	for (size_t i = 0; i < s.len; i++) {
		struct err ignored;

		if (s.p[i] == '%' && i + 2 < s.len &&
		    hex_decode(&out[n], (struct str){ s.p + i + 1, 2 }, &ignored) == 0) {
			i += 2;
			n++;
		} else {
			out[n++] = s.p[i];
		}
	}
	out[n] = '\0';
	return out;
}

int dbus_address_read(struct arena *a, const char *list, struct dbus_address *out, struct err *e)
{
	for (struct str rest = str_of(list); rest.p;) {
		struct str one = str_cut(&rest, ';');

		if (!str_starts(one, "unix:"))
			continue;
		one = (struct str){ one.p + 5, one.len - 5 };
		while (one.p) {
			struct str key = str_cut(&one, ',');
			bool abstract = str_starts(key, "abstract=");

			if (!abstract && !str_starts(key, "path="))
				continue;
			(void)str_cut(&key, '=');
			*out = (struct dbus_address){ unescape(a, key), abstract };
			return 0;
		}
	}
	return err_set(e, ERR_UNIMPLEMENTED, "D-Bus address \"%.200s\" names no unix socket", list);
}

/* --- types ----------------------------------------------------------------------------------------- */

static size_t alignment(char type)
{
	switch (type) {
	case 'n': case 'q':
		return 2;
	case 'b': case 'i': case 'u': case 's': case 'o': case 'a': case 'h':
		return 4;
	case 'x': case 't': case 'd': case '(': case '{':
		return 8;
	default:
		return 1; /* y g v */
	}
}

static size_t aligned(size_t at, char type)
{
	size_t to = alignment(type);

	return (at + to - 1) / to * to;
}

static bool is_basic(char type)
{
	return type && strchr("ybnqiuxtdsog", type);
}

/* Behind one complete type; NULL: there is none. */
static const char *type_end(const char *s, unsigned depth)
{
	char close;

	if (is_basic(*s) || *s == 'v')
		return s + 1;
	if (depth == DBUS_DEPTH_MAX)
		return NULL;
	if (*s == 'a') {
		if (s[1] != '{')
			return type_end(s + 1, depth + 1);
		s++;
		if (!is_basic(s[1]))
			return NULL;
		s = type_end(s + 2, depth + 1);
		return s && *s == '}' ? s + 1 : NULL;
	}
	if (*s != '(')
		return NULL;
	close = ')';
	for (s++; s && *s != close; )
		s = type_end(s, depth + 1);
	return s && s[-1] != '(' ? s + 1 : NULL;
}

static bool is_signature(const char *s)
{
	while (s && *s)
		s = type_end(s, 0);
	return s;
}

bool dbus_is_type(const char *s)
{
	const char *end = type_end(s, 0);

	return end && !*end;
}

/* --- writing --------------------------------------------------------------------------------------- */

static void put(struct dbus_writer *w, const void *bytes, size_t n)
{
	struct err ignored;

	if (!w->full && buf_add(w->b, bytes, n, &ignored) < 0)
		w->full = true;
}

static void pad(struct dbus_writer *w, char type)
{
	size_t now = w->b->len - w->start;

	put(w, "\0\0\0\0\0\0\0", aligned(now, type) - now);
}

static void patch(struct dbus_writer *w, size_t at, size_t value)
{
	uint32_t v = (uint32_t)value;

	if (!w->full)
		memcpy(w->b->p + at, &v, sizeof(v));
}

void dbus_write_u32(struct dbus_writer *w, uint32_t v)
{
	pad(w, 'u');
	put(w, &v, sizeof(v));
}

void dbus_write_text(struct dbus_writer *w, const char *text)
{
	size_t n = strlen(text);

	dbus_write_u32(w, (uint32_t)n);
	put(w, text, n + 1);
}

void dbus_write_signature(struct dbus_writer *w, const char *text)
{
	uint8_t n = (uint8_t)strlen(text);

	BUG_ON(strlen(text) > DBUS_SIGNATURE_MAX);
	put(w, &n, 1);
	put(w, text, (size_t)n + 1);
}

void dbus_write_struct(struct dbus_writer *w)
{
	pad(w, '(');
}

struct dbus_array dbus_write_array(struct dbus_writer *w, char element)
{
	struct dbus_array at;

	dbus_write_u32(w, 0);
	at.length_at = w->b->len - 4;
	pad(w, element);
	at.first = w->b->len;
	return at;
}

void dbus_write_array_end(struct dbus_writer *w, struct dbus_array at)
{
	patch(w, at.length_at, w->b->len - at.first);
}

static void write_number(struct dbus_writer *w, const struct dbus_value *v)
{
	char type = v->signature[0];
	uint8_t n1 = (uint8_t)v->n;
	uint16_t n2 = (uint16_t)v->n;

	pad(w, type);
	if (type == 'd')
		put(w, &v->d, sizeof(v->d));
	else if (alignment(type) == 8)
		put(w, &v->n, sizeof(v->n));
	else if (alignment(type) == 2)
		put(w, &n2, sizeof(n2));
	else if (type == 'y')
		put(w, &n1, sizeof(n1));
	else
		dbus_write_u32(w, (uint32_t)v->n);
}

void dbus_write_value(struct dbus_writer *w, const struct dbus_value *v)
{
	struct dbus_array at;

	switch (v->signature[0]) {
	case 's': case 'o':
		dbus_write_text(w, v->text);
		return;
	case 'g':
		dbus_write_signature(w, v->text);
		return;
	case 'v':
		dbus_write_variant(w, v->items);
		return;
	case 'a':
		at = dbus_write_array(w, v->signature[1]);
		for (size_t i = 0; i < v->nitems; i++)
			dbus_write_value(w, &v->items[i]);
		dbus_write_array_end(w, at);
		return;
	case '(':
		dbus_write_struct(w);
		for (size_t i = 0; i < v->nitems; i++)
			dbus_write_value(w, &v->items[i]);
		return;
	default:
		write_number(w, v);
	}
}

void dbus_write_variant(struct dbus_writer *w, const struct dbus_value *v)
{
	dbus_write_signature(w, v->signature);
	dbus_write_value(w, v);
}

static void write_field(struct dbus_writer *w, uint8_t field, const char *type, const char *text)
{
	if (str_is_empty(text))
		return;
	dbus_write_struct(w);
	put(w, &field, 1);
	dbus_write_signature(w, type);
	if (*type == 'g')
		dbus_write_signature(w, text);
	else
		dbus_write_text(w, text);
}

void dbus_write_begin(struct dbus_writer *w, struct buf *b, uint32_t serial, const struct dbus_call *c)
{
	const uint8_t fixed[4] = { ORDER_OURS, DBUS_CALL, 0, 1 };
	struct dbus_array fields;

	*w = (struct dbus_writer){ .b = b, .start = b->len };
	put(w, fixed, sizeof(fixed));
	dbus_write_u32(w, 0);
	dbus_write_u32(w, serial);
	fields = dbus_write_array(w, '(');
	write_field(w, FIELD_PATH, "o", c->path);
	write_field(w, FIELD_DESTINATION, "s", c->destination);
	write_field(w, FIELD_INTERFACE, "s", c->interface);
	write_field(w, FIELD_MEMBER, "s", c->member);
	write_field(w, FIELD_SIGNATURE, "g", c->signature);
	dbus_write_array_end(w, fields);
	pad(w, '(');
	w->body = b->len;
}

int dbus_write_end(struct dbus_writer *w, struct err *e)
{
	if (w->full || w->b->len - w->start > DBUS_MESSAGE_MAX) {
		w->b->len = w->start;
		return err_set(e, ERR_EXHAUSTED, "D-Bus: the message is too long");
	}
	patch(w, w->start + 4, w->b->len - w->body);
	return 0;
}

/* --- reading --------------------------------------------------------------------------------------- */

static int bad(struct err *e, const char *what)
{
	return err_set(e, ERR_INVALID, "D-Bus: a message with %s", what);
}

static int read_align(struct dbus_reader *r, char type, struct err *e)
{
	size_t to = aligned(r->pos, type);

	if (to > r->end)
		return bad(e, "a value past its end");
	while (r->pos < to)
		if (r->p[r->pos++])
			return bad(e, "padding that is not zero");
	return 0;
}

static int read_number(struct dbus_reader *r, char type, uint32_t *out, struct err *e)
{
	uint32_t v;

	if (read_align(r, type, e) < 0)
		return -1;
	if (r->end - r->pos < sizeof(v))
		return bad(e, "a value past its end");
	memcpy(&v, r->p + r->pos, sizeof(v));
	r->pos += sizeof(v);
	*out = r->swapped ? __builtin_bswap32(v) : v;
	return 0;
}

static int read_text(struct dbus_reader *r, char type, const char **out, struct err *e)
{
	const char *text;
	uint32_t n;

	if (type != 'g') {
		if (read_number(r, 'u', &n, e) < 0)
			return -1;
	} else {
		if (r->pos == r->end)
			return bad(e, "a value past its end");
		n = (uint8_t)r->p[r->pos++];
	}
	if (n >= r->end - r->pos)
		return bad(e, "a text past its end");
	text = r->p + r->pos;
	if (text[n] || memchr(text, '\0', n))
		return bad(e, "a text that does not end where it says");
	if (!utf8_valid(text, n))
		return bad(e, "a text that is not UTF-8");
	if (type == 'g' && !is_signature(text))
		return bad(e, "a signature that is none");
	if (type == 'o' && text[0] != '/')
		return bad(e, "an object path that is none");
	r->pos += (size_t)n + 1;
	*out = text;
	return 0;
}

static int skip(struct dbus_reader *r, unsigned depth, struct err *e);

static int skip_array(struct dbus_reader *r, unsigned depth, struct err *e)
{
	const char *element = r->signature + 1, *after = type_end(r->signature, 0);
	uint32_t n;
	size_t end;

	if (read_number(r, 'u', &n, e) < 0 || read_align(r, *element, e) < 0)
		return -1;
	if (n > r->end - r->pos)
		return bad(e, "an array past its end");
	end = r->pos + n;
	if (strchr("ynqiuxtd", *element)) {
		if (n % alignment(*element))
			return bad(e, "an array that ends in a value");
		r->pos = end;
	}
	while (r->pos < end) {
		r->signature = element;
		if (skip(r, depth + 1, e) < 0)
			return -1;
	}
	if (r->pos != end)
		return bad(e, "an array that ends in a value");
	r->signature = after;
	return 0;
}

static int skip_struct(struct dbus_reader *r, unsigned depth, struct err *e)
{
	char close = *r->signature == '(' ? ')' : '}';

	if (read_align(r, '(', e) < 0)
		return -1;
	r->signature++;
	while (*r->signature != close)
		if (skip(r, depth + 1, e) < 0)
			return -1;
	r->signature++;
	return 0;
}

static int skip_variant(struct dbus_reader *r, unsigned depth, struct err *e)
{
	const char *after = r->signature + 1;

	if (read_text(r, 'g', &r->signature, e) < 0)
		return -1;
	if (!dbus_is_type(r->signature))
		return bad(e, "a variant of no type");
	if (skip(r, depth + 1, e) < 0)
		return -1;
	r->signature = after;
	return 0;
}

/* One value, whose type is valid; checks all of it. */
static int skip(struct dbus_reader *r, unsigned depth, struct err *e)
{
	char type = *r->signature;
	const char *text;
	uint32_t v;

	if (depth > DBUS_DEPTH_MAX)
		return bad(e, "values too deep");
	switch (type) {
	case 'a':
		return skip_array(r, depth, e);
	case '(': case '{':
		return skip_struct(r, depth, e);
	case 'v':
		return skip_variant(r, depth, e);
	case 's': case 'o': case 'g':
		if (read_text(r, type, &text, e) < 0)
			return -1;
		break;
	case 'b':
		if (read_number(r, type, &v, e) < 0)
			return -1;
		if (v > 1)
			return bad(e, "a boolean that is neither");
		break;
	default:
		if (read_align(r, type, e) < 0)
			return -1;
		if (r->end - r->pos < alignment(type))
			return bad(e, "a value past its end");
		r->pos += alignment(type);
	}
	r->signature++;
	return 0;
}

static int read_field(struct dbus_reader *r, struct dbus_message *m, struct err *e)
{
	struct dbus_reader value;
	const char **text = NULL;
	uint8_t field;

	if (read_align(r, '(', e) < 0)
		return -1;
	if (r->pos == r->end)
		return bad(e, "a header past its end");
	field = (uint8_t)r->p[r->pos++];
	r->signature = "v";
	if (dbus_read_variant(r, &value, e) < 0)
		return -1;
	switch (field) {
	case FIELD_PATH:
		text = &m->path;
		break;
	case FIELD_INTERFACE:
		text = &m->interface;
		break;
	case FIELD_MEMBER:
		text = &m->member;
		break;
	case FIELD_ERROR:
		text = &m->error;
		break;
	case FIELD_SENDER:
		text = &m->sender;
		break;
	case FIELD_SIGNATURE:
		text = &m->signature;
		break;
	case FIELD_REPLY_TO:
		return dbus_read_u32(&value, &m->reply_to, e);
	default:
		return 0;
	}
	return dbus_read_text(&value, text, e);
}

static int read_header(struct dbus_message *m, struct dbus_reader *r, size_t body_at, struct err *e)
{
	struct dbus_reader body;

	while (r->pos < r->end)
		if (read_field(r, m, e) < 0)
			return -1;
	if (!is_signature(m->signature))
		return bad(e, "a signature that is none");
	if ((m->type == DBUS_REPLY || m->type == DBUS_ERROR) && !m->reply_to)
		return bad(e, "an answer to nothing");
	for (size_t i = r->end; i < body_at; i++)
		if (r->p[i])
			return bad(e, "padding that is not zero");
	for (body = dbus_body(m); *body.signature;)
		if (skip(&body, 0, e) < 0)
			return -1;
	return body.pos == body.end ? 0 : bad(e, "more than its signature says");
}

int dbus_message_read(struct arena *a, struct str bytes, struct dbus_message *out, size_t *used, struct err *e)
{
	struct dbus_message m = { .path = "", .interface = "", .member = "", .error = "", .sender = "", .signature = "" };
	struct dbus_reader r = { .p = bytes.p, .end = bytes.len };
	uint32_t body = 0, fields = 0;
	size_t body_at;

	*used = 0;
	if (bytes.len < HEADER_FIXED + 4)
		return 0;
	if ((bytes.p[0] != ORDER_OURS && bytes.p[0] != ORDER_OTHER) || bytes.p[3] != 1 || !bytes.p[1])
		return bad(e, "a header that is none");
	m.swapped = r.swapped = bytes.p[0] == ORDER_OTHER;
	m.type = (enum dbus_type)(uint8_t)bytes.p[1];
	r.pos = 4;
	if (read_number(&r, 'u', &body, e) < 0 || read_number(&r, 'u', &m.serial, e) < 0 ||
	    read_number(&r, 'u', &fields, e) < 0)
		return -1;
	if (body > DBUS_MESSAGE_MAX || fields > DBUS_MESSAGE_MAX)
		return bad(e, "more bytes than are taken");
	body_at = aligned(HEADER_FIXED + 4 + (size_t)fields, '(');
	if (body_at + body > bytes.len)
		return 0;
	r.p = arena_memdup(a, bytes.p, body_at + body);
	r.end = HEADER_FIXED + 4 + (size_t)fields;
	m.body = (struct str){ r.p + body_at, body };
	if (read_header(&m, &r, body_at, e) < 0)
		return -1;
	*out = m;
	*used = body_at + body;
	return 0;
}

struct dbus_reader dbus_body(const struct dbus_message *m)
{
	return (struct dbus_reader){ .p = m->body.p, .signature = m->signature, .end = m->body.len,
				     .swapped = m->swapped };
}

static int want(const struct dbus_reader *r, const char *types, struct err *e)
{
	if (!*r->signature || !strchr(types, *r->signature))
		return err_set(e, ERR_INVALID, "D-Bus: an answer of the type \"%s\" where one of \"%s\" is expected",
			       r->signature, types);
	return 0;
}

int dbus_read_u32(struct dbus_reader *r, uint32_t *out, struct err *e)
{
	if (want(r, "u", e) < 0 || read_number(r, 'u', out, e) < 0)
		return -1;
	r->signature++;
	return 0;
}

int dbus_read_text(struct dbus_reader *r, const char **out, struct err *e)
{
	if (want(r, "sog", e) < 0 || read_text(r, *r->signature, out, e) < 0)
		return -1;
	r->signature++;
	return 0;
}

int dbus_read_variant(struct dbus_reader *r, struct dbus_reader *out, struct err *e)
{
	struct dbus_reader in;

	if (want(r, "v", e) < 0)
		return -1;
	in = *r;
	if (read_text(&in, 'g', &in.signature, e) < 0)
		return -1;
	if (skip_variant(r, 0, e) < 0)
		return -1;
	in.end = r->pos;
	*out = in;
	return 0;
}
