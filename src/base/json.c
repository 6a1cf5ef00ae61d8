#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>

enum { DEPTH_MAX = 64 };

struct parser {
	struct arena *a;
	const char *p, *end;
	const char *line_start;
	unsigned line;
};

static int fail(const struct parser *j, struct err *e, const char *what)
{
	return err_set(e, ERR_INVALID, "line %u column %u: %s", j->line,
		       (unsigned)(j->p - j->line_start) + 1, what);
}

static void skip_space(struct parser *j)
{
	for (; j->p < j->end; j->p++) {
		if (*j->p == '\n') {
			j->line++;
			j->line_start = j->p + 1;
		} else if (*j->p != ' ' && *j->p != '\t' && *j->p != '\r') {
			return;
		}
	}
}

static int hex4(struct parser *j, uint32_t *out, struct err *e)
{
	if (j->end - j->p < 4 || str_to_u32_base((struct str){ j->p, 4 }, 16, out, e) < 0)
		return fail(j, e, "expected four hex digits after \\u");
	j->p += 4;
	return 0;
}

static char *utf8_put(char *o, uint32_t c)
{
	if (c < 0x80) {
		*o++ = (char)c;
	} else if (c < 0x800) {
		*o++ = (char)(0xc0 | c >> 6);
		*o++ = (char)(0x80 | (c & 0x3f));
	} else if (c < 0x10000) {
		*o++ = (char)(0xe0 | c >> 12);
		*o++ = (char)(0x80 | (c >> 6 & 0x3f));
		*o++ = (char)(0x80 | (c & 0x3f));
	} else {
		*o++ = (char)(0xf0 | c >> 18);
		*o++ = (char)(0x80 | (c >> 12 & 0x3f));
		*o++ = (char)(0x80 | (c >> 6 & 0x3f));
		*o++ = (char)(0x80 | (c & 0x3f));
	}
	return o;
}

/* After "\u": one code point, of a surrogate pair where there is one; a lone surrogate is U+FFFD. */
static int escape_unicode(struct parser *j, char **o, struct err *e)
{
	uint32_t c, low;

	if (hex4(j, &c, e) < 0)
		return -1;
	if (!c)
		return fail(j, e, "text must not contain \\u0000");
	if (c >= 0xd800 && c < 0xdc00 && j->end - j->p >= 6 && j->p[0] == '\\' && j->p[1] == 'u') {
		const char *back = j->p;

		j->p += 2;
		if (hex4(j, &low, e) < 0)
			return -1;
		if (low >= 0xdc00 && low < 0xe000)
			c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
		else
			j->p = back;
	}
	if (c >= 0xd800 && c < 0xe000)
		c = 0xfffd;
	*o = utf8_put(*o, c);
	return 0;
}

static int escape(struct parser *j, char **o, struct err *e)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *at;

	if (j->p == j->end)
		return fail(j, e, "the text ends inside a string");
	if (*j->p == 'u') {
		j->p++;
		return escape_unicode(j, o, e);
	}
	at = *j->p ? strchr(from, *j->p) : NULL;
	if (!at)
		return fail(j, e, "unknown escape in a string");
	*(*o)++ = to[at - from];
	j->p++;
	return 0;
}

static int parse_string(struct parser *j, struct str *out, struct err *e)
{
	const char *s = ++j->p;
	char *text, *o;

	/* How long can it be? Escapes only shorten. */
	while (s < j->end && *s != '"')
		s += *s == '\\' && s + 1 < j->end ? 2 : 1;
	text = o = arena_alloc(j->a, (size_t)(s - j->p) + 1);
	for (;;) {
		if (j->p >= j->end)
			return fail(j, e, "the text ends inside a string");
		if (*j->p == '"')
			break;
		if ((unsigned char)*j->p < 0x20)
			return fail(j, e, "a control character inside a string");
		if (*j->p != '\\') {
			*o++ = *j->p++;
			continue;
		}
		j->p++;
		if (escape(j, &o, e) < 0)
			return -1;
	}
	j->p++;
	*o = '\0';
	*out = (struct str){ text, (size_t)(o - text) };
	return 0;
}

static void digits(struct parser *j)
{
	while (j->p < j->end && *j->p >= '0' && *j->p <= '9')
		j->p++;
}

static int parse_number(struct parser *j, struct json *v, struct err *e)
{
	const char *start = j->p, *first;

	if (*j->p == '-')
		j->p++;
	first = j->p;
	digits(j);
	if (j->p == first || (*first == '0' && j->p - first > 1))
		return fail(j, e, "not a number");
	if (j->p < j->end && *j->p == '.') {
		first = ++j->p;
		digits(j);
		if (j->p == first)
			return fail(j, e, "not a number");
	}
	if (j->p < j->end && (*j->p == 'e' || *j->p == 'E')) {
		j->p++;
		if (j->p < j->end && (*j->p == '+' || *j->p == '-'))
			j->p++;
		first = j->p;
		digits(j);
		if (j->p == first)
			return fail(j, e, "not a number");
	}
	v->type = JSON_NUMBER;
	v->text.len = (size_t)(j->p - start);
	v->text.p = arena_strndup(j->a, start, v->text.len);
	return 0;
}

static int parse_word(struct parser *j, struct json *v, struct err *e)
{
	static const struct {
		const char *word;
		enum json_type type;
	} words[] = { { "null", JSON_NULL }, { "true", JSON_TRUE }, { "false", JSON_FALSE } };
	struct str rest = { j->p, (size_t)(j->end - j->p) };

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (str_starts(rest, words[i].word)) {
			v->type = words[i].type;
			j->p += strlen(words[i].word);
			return 0;
		}
	return fail(j, e, "expected a value");
}

static int parse_value(struct parser *j, int depth, struct json **out, struct err *e);

static int parse_key(struct parser *j, const struct json *parent, struct str *key, struct err *e)
{
	if (j->p == j->end || *j->p != '"')
		return fail(j, e, "expected a key in double quotes");
	if (parse_string(j, key, e) < 0)
		return -1;
	if (parent->count < 256 && json_get(parent, key->p))
		return err_set(e, ERR_INVALID, "line %u: key \"%s\" is there twice", j->line, key->p);
	skip_space(j);
	if (j->p == j->end || *j->p != ':')
		return fail(j, e, "expected ':' after a key");
	j->p++;
	skip_space(j);
	return 0;
}

static int parse_members(struct parser *j, int depth, struct json *v, struct err *e)
{
	char close = *j->p++ == '{' ? '}' : ']';
	struct json **tail = &v->first;

	v->type = close == '}' ? JSON_OBJECT : JSON_ARRAY;
	if (depth == DEPTH_MAX)
		return fail(j, e, "nested too deep");
	skip_space(j);
	if (j->p < j->end && *j->p == close) {
		j->p++;
		return 0;
	}
	for (;;) {
		struct str key = { NULL, 0 };

		if (close == '}' && parse_key(j, v, &key, e) < 0)
			return -1;
		if (parse_value(j, depth + 1, tail, e) < 0)
			return -1;
		(*tail)->key = key.p;
		tail = &(*tail)->next;
		v->count++;
		skip_space(j);
		if (j->p < j->end && *j->p == close) {
			j->p++;
			return 0;
		}
		if (j->p == j->end || *j->p != ',')
			return fail(j, e, close == '}' ? "expected ',' or '}'" : "expected ',' or ']'");
		j->p++;
		skip_space(j);
	}
}

static int parse_value(struct parser *j, int depth, struct json **out, struct err *e)
{
	struct json *v = arena_new0(j->a, struct json);
	int rc;

	v->line = j->line;
	v->column = (unsigned)(j->p - j->line_start) + 1;
	if (j->p == j->end)
		return fail(j, e, "expected a value, found the end");
	switch (*j->p) {
	case '{':
	case '[':
		rc = parse_members(j, depth, v, e);
		break;
	case '"':
		v->type = JSON_STRING;
		rc = parse_string(j, &v->text, e);
		break;
	case '-': case '0': case '1': case '2': case '3': case '4':
	case '5': case '6': case '7': case '8': case '9':
		rc = parse_number(j, v, e);
		break;
	default:
		rc = parse_word(j, v, e);
	}
	if (rc == 0)
		*out = v;
	return rc;
}

int json_parse(struct arena *a, struct str text, struct json **out, struct err *e)
{
	struct parser j = { .a = a, .p = text.p, .end = text.p + text.len, .line_start = text.p, .line = 1 };
	struct json *v = NULL;

	if (text.len >= 3 && memcmp(text.p, "\xef\xbb\xbf", 3) == 0)
		return fail(&j, e, "a byte order mark does not belong into JSON");
	skip_space(&j);
	if (parse_value(&j, 0, &v, e) < 0)
		return -1;
	skip_space(&j);
	if (j.p != j.end)
		return fail(&j, e, "more text after the end of the document");
	*out = v;
	return 0;
}

const struct json *json_get(const struct json *object, const char *key)
{
	if (!object || object->type != JSON_OBJECT)
		return NULL;
	for (const struct json *m = object->first; m; m = m->next)
		if (m->key && streq(m->key, key))
			return m;
	return NULL;
}

const char *json_map_get(const struct json_map *m, const char *key)
{
	for (size_t i = 0; i < m->count; i++)
		if (streq(m->p[i].key, key))
			return m->p[i].value;
	return NULL;
}

static const char *const type_name[] = {
	[JSON_NULL] = "null", [JSON_FALSE] = "false", [JSON_TRUE] = "true", [JSON_NUMBER] = "a number",
	[JSON_STRING] = "text", [JSON_ARRAY] = "an array", [JSON_OBJECT] = "an object",
};

static int expected(const struct json *v, const char *what, struct err *e)
{
	return err_set(e, ERR_INVALID, "line %u column %u: expected %s, found %s", v->line, v->column, what,
		       type_name[v->type]);
}

static int want(const struct json *v, enum json_type type, struct err *e)
{
	return v->type == type ? 0 : expected(v, type_name[type], e);
}

static int out_of_range(const struct json *v, struct err *e)
{
	return err_set(e, ERR_INVALID, "line %u column %u: %s is out of range", v->line, v->column, v->text.p);
}

/* An integer as written; "1e3" and "1.0" are integers too, as some writers have it. */
static int read_i64(const struct json *v, int64_t *out, struct err *e)
{
	double d;

	if (want(v, JSON_NUMBER, e) < 0)
		return -1;
	if (!strpbrk(v->text.p, ".eE"))
		return str_to_i64(v->text, out, e) < 0 ? out_of_range(v, e) : 0;
	d = strtod(v->text.p, NULL);
	if (!(d >= -0x1p53 && d <= 0x1p53) || d != (double)(int64_t)d)
		return expected(v, "an integer", e);
	*out = (int64_t)d;
	return 0;
}

static int read_u64(const struct json *v, uint64_t *out, struct err *e)
{
	int64_t s;

	if (want(v, JSON_NUMBER, e) < 0)
		return -1;
	if (str_to_u64(v->text, out, e) == 0)
		return 0;
	if (read_i64(v, &s, e) < 0)
		return -1;
	if (s < 0)
		return out_of_range(v, e);
	*out = (uint64_t)s;
	return 0;
}

static int read_integer(const struct json *v, enum json_kind kind, void *out, struct err *e)
{
	int64_t s;

	if (kind == JSON_U64)
		return read_u64(v, out, e);
	if (read_i64(v, &s, e) < 0)
		return -1;
	switch (kind) {
	case JSON_I64:
		*(int64_t *)out = s;
		return 0;
	case JSON_I32:
		if (s < INT32_MIN || s > INT32_MAX)
			return out_of_range(v, e);
		*(int32_t *)out = (int32_t)s;
		return 0;
	case JSON_U32:
		if (s < 0 || s > UINT32_MAX)
			return out_of_range(v, e);
		*(uint32_t *)out = (uint32_t)s;
		return 0;
	default:
		BUG("not an integer kind");
	}
}

static int read_bool(const struct json *v, bool *out, struct err *e)
{
	if (v->type != JSON_TRUE && v->type != JSON_FALSE)
		return expected(v, "true or false", e);
	*out = v->type == JSON_TRUE;
	return 0;
}

static int read_strv(struct arena *a, const struct json *v, char ***out, struct err *e)
{
	char **texts;
	size_t n = 0;

	if (want(v, JSON_ARRAY, e) < 0)
		return -1;
	texts = arena_newn0(a, char *, v->count + 1);
	for (const struct json *m = v->first; m; m = m->next) {
		if (want(m, JSON_STRING, e) < 0)
			return -1;
		texts[n++] = (char *)m->text.p;
	}
	*out = texts;
	return 0;
}

/* Puts a field's name before the path that the message begins with: "many" + "[1].name: line …". */
static int in_field(struct err *e, const char *name)
{
	char inner[ERR_MSG_MAX];
	const char *between = starts_with(e->msg, "line ") ? ": " : e->msg[0] == '[' ? "" : ".";

	memcpy(inner, e->msg, sizeof(inner));
	(void)snprintf(e->msg, sizeof(e->msg), "%.200s%s%.*s", name, between,
		       (int)(sizeof(inner) - 256), inner);
	return -1;
}

static int read_map(struct arena *a, const struct json *v, struct json_map *out, struct err *e)
{
	struct json_map map;

	if (want(v, JSON_OBJECT, e) < 0)
		return -1;
	map = (struct json_map){ arena_newn0(a, struct json_pair, v->count + 1), 0 };
	for (const struct json *m = v->first; m; m = m->next) {
		if (want(m, JSON_STRING, e) < 0)
			return in_field(e, m->key);
		map.p[map.count++] = (struct json_pair){ (char *)m->key, (char *)m->text.p };
	}
	*out = map;
	return 0;
}

static int read_numbers(struct arena *a, const struct json *v, enum json_kind kind, struct json_vec *out,
			struct err *e)
{
	size_t size = kind == JSON_I64V ? sizeof(int64_t) : sizeof(uint32_t);
	struct json_vec vec;

	if (want(v, JSON_ARRAY, e) < 0)
		return -1;
	vec = (struct json_vec){ arena_array0(a, v->count + 1, size), 0 };
	for (const struct json *m = v->first; m; m = m->next)
		if (read_integer(m, kind == JSON_I64V ? JSON_I64 : JSON_U32,
				 (char *)vec.p + size * vec.count++, e) < 0)
			return -1;
	*out = vec;
	return 0;
}

static int in_element(struct err *e, size_t i)
{
	char name[32];

	(void)snprintf(name, sizeof(name), "[%zu]", i);
	return in_field(e, name);
}

static int read_objects(struct arena *a, const struct json *v, const struct json_field *f, int flags,
			struct json_vec *out, struct err *e)
{
	struct json_vec vec;

	if (want(v, JSON_ARRAY, e) < 0)
		return -1;
	vec = (struct json_vec){ arena_array0(a, v->count + 1, f->size), 0 };
	for (const struct json *m = v->first; m; m = m->next, vec.count++)
		if (json_read(a, m, f->sub, flags, (char *)vec.p + f->size * vec.count, e) < 0)
			return in_element(e, vec.count);
	*out = vec;
	return 0;
}

static int read_optional(struct arena *a, const struct json *v, enum json_kind kind, void *at, struct err *e)
{
	void *p = arena_alloc0(a, sizeof(int64_t));
	int rc;

	if (kind == JSON_OPT_BOOL)
		rc = read_bool(v, p, e);
	else
		rc = read_integer(v, kind == JSON_OPT_I32 ? JSON_I32 : kind == JSON_OPT_U32 ? JSON_U32 :
				  kind == JSON_OPT_I64 ? JSON_I64 : JSON_U64, p, e);
	if (rc == 0)
		*(void **)at = p;
	return rc;
}

static int read_field(struct arena *a, const struct json *v, const struct json_field *f, int flags, void *at,
		      struct err *e)
{
	void *sub;

	switch (f->kind) {
	case JSON_STR:
		if (want(v, JSON_STRING, e) < 0)
			return -1;
		*(const char **)at = v->text.p;
		return 0;
	case JSON_STRV:
		return read_strv(a, v, at, e);
	case JSON_BOOL:
		return read_bool(v, at, e);
	case JSON_I32: case JSON_U32: case JSON_I64: case JSON_U64:
		return read_integer(v, f->kind, at, e);
	case JSON_F64:
		if (want(v, JSON_NUMBER, e) < 0)
			return -1;
		*(double *)at = strtod(v->text.p, NULL);
		return 0;
	case JSON_OPT_BOOL: case JSON_OPT_I32: case JSON_OPT_U32: case JSON_OPT_I64: case JSON_OPT_U64:
		return read_optional(a, v, f->kind, at, e);
	case JSON_OBJ:
		sub = arena_alloc0(a, f->size);
		if (json_read(a, v, f->sub, flags, sub, e) < 0)
			return -1;
		*(void **)at = sub;
		return 0;
	case JSON_SUB:
		return json_read(a, v, f->sub, flags, at, e);
	case JSON_OBJV:
		return read_objects(a, v, f, flags, at, e);
	case JSON_I64V: case JSON_U32V:
		return read_numbers(a, v, f->kind, at, e);
	case JSON_MAP:
		return read_map(a, v, at, e);
	case JSON_ANY:
		*(const struct json **)at = v;
		return 0;
	case JSON_END:
		break;
	}
	BUG("a json field of no kind");
}

static const struct json_field *field_named(const struct json_field *fields, const char *name)
{
	for (const struct json_field *f = fields; f->kind; f++)
		if (streq(f->name, name))
			return f;
	return NULL;
}

int json_read(struct arena *a, const struct json *doc, const struct json_field *fields, int flags,
	      void *out, struct err *e)
{
	if (want(doc, JSON_OBJECT, e) < 0)
		return -1;
	for (const struct json *m = doc->first; m; m = m->next) {
		const struct json_field *f = field_named(fields, m->key);

		if (!f && flags & JSON_STRICT)
			return err_set(e, ERR_INVALID, "line %u column %u: unknown key \"%s\"", m->line, m->column,
				       m->key);
		if (!f || m->type == JSON_NULL)
			continue;
		if (read_field(a, m, f, flags, (char *)out + f->offset, e) < 0)
			return in_field(e, f->name);
	}
	for (const struct json_field *f = fields; f->kind; f++) {
		const struct json *m = f->flags & JSON_REQUIRED ? json_get(doc, f->name) : doc;

		if (!m || m->type == JSON_NULL)
			return err_set(e, ERR_INVALID, "line %u column %u: key \"%s\" is missing", doc->line,
				       doc->column, f->name);
	}
	return 0;
}

int json_load(struct arena *a, struct str text, const struct json_field *fields, int flags, void *out,
	      struct err *e)
{
	struct json *doc;

	if (json_parse(a, text, &doc, e) < 0)
		return -1;
	return json_read(a, doc, fields, flags, out, e);
}

int json_write_text(struct buf *b, const char *text, struct err *e)
{
	const char *run = text;

	if (buf_add(b, "\"", 1, e) < 0)
		return -1;
	for (const char *p = text; ; p++) {
		unsigned char c = (unsigned char)*p;

		if (c >= 0x20 && c != '"' && c != '\\')
			continue;
		if (buf_add(b, run, (size_t)(p - run), e) < 0)
			return -1;
		if (!c)
			return buf_add(b, "\"", 1, e);
		if (c == '"' || c == '\\' ? buf_addf(b, e, "\\%c", c) < 0 : c == '\n' ?
		    buf_add(b, "\\n", 2, e) < 0 : buf_addf(b, e, "\\u%04x", c) < 0)
			return -1;
		run = p + 1;
	}
}

int json_write_value(struct buf *b, const struct json *v, struct err *e)
{
	bool object = v->type == JSON_OBJECT;

	switch (v->type) {
	case JSON_NULL:
		return buf_addz(b, "null", e);
	case JSON_FALSE:
		return buf_addz(b, "false", e);
	case JSON_TRUE:
		return buf_addz(b, "true", e);
	case JSON_NUMBER:
		return buf_add(b, v->text.p, v->text.len, e);
	case JSON_STRING:
		return json_write_text(b, v->text.p, e);
	case JSON_ARRAY:
	case JSON_OBJECT:
		break;
	}
	if (buf_addz(b, object ? "{" : "[", e) < 0)
		return -1;
	for (const struct json *m = v->first; m; m = m->next) {
		if (m != v->first && buf_addz(b, ",", e) < 0)
			return -1;
		if (object && (json_write_text(b, m->key, e) < 0 || buf_addz(b, ":", e) < 0))
			return -1;
		if (json_write_value(b, m, e) < 0)
			return -1;
	}
	return buf_addz(b, object ? "}" : "]", e);
}

static bool is_all_zero(const void *at, size_t size)
{
	const char *p = at;

	return !size || (!p[0] && !memcmp(p, p + 1, size - 1));
}

static bool is_absent(const struct json_field *f, const void *at)
{
	switch (f->kind) {
	case JSON_SUB:
		return is_all_zero(at, f->size);
	case JSON_BOOL:
		return !*(const bool *)at;
	case JSON_I32: case JSON_U32:
		return *(const uint32_t *)at == 0;
	case JSON_I64: case JSON_U64:
		return *(const uint64_t *)at == 0;
	case JSON_F64:
		return *(const double *)at == 0;
	case JSON_OBJV: case JSON_I64V: case JSON_U32V:
		return ((const struct json_vec *)at)->count == 0;
	case JSON_MAP:
		return ((const struct json_map *)at)->count == 0;
	default: /* all others are pointers */
		return *(void *const *)at == NULL;
	}
}

static int write_vec(struct buf *b, const struct json_field *f, const struct json_vec *v, struct err *e)
{
	if (buf_addz(b, "[", e) < 0)
		return -1;
	for (size_t i = 0; i < v->count; i++) {
		int rc;

		if (i && buf_addz(b, ",", e) < 0)
			return -1;
		if (f->kind == JSON_OBJV)
			rc = json_write(b, f->sub, (const char *)v->p + i * f->size, e);
		else if (f->kind == JSON_I64V)
			rc = buf_addf(b, e, "%lld", (long long)((const int64_t *)v->p)[i]);
		else
			rc = buf_addf(b, e, "%u", ((const uint32_t *)v->p)[i]);
		if (rc < 0)
			return -1;
	}
	return buf_addz(b, "]", e);
}

static int write_strv(struct buf *b, char *const *v, struct err *e)
{
	if (buf_addz(b, "[", e) < 0)
		return -1;
	for (size_t i = 0; v && v[i]; i++)
		if ((i && buf_addz(b, ",", e) < 0) || json_write_text(b, v[i], e) < 0)
			return -1;
	return buf_addz(b, "]", e);
}

static int write_map(struct buf *b, const struct json_map *m, struct err *e)
{
	if (buf_addz(b, "{", e) < 0)
		return -1;
	for (size_t i = 0; i < m->count; i++)
		if ((i && buf_addz(b, ",", e) < 0) || json_write_text(b, m->p[i].key, e) < 0 ||
		    buf_addz(b, ":", e) < 0 || json_write_text(b, m->p[i].value, e) < 0)
			return -1;
	return buf_addz(b, "}", e);
}

static int write_field(struct buf *b, const struct json_field *f, const void *at, struct err *e)
{
	const char *text;

	switch (f->kind) {
	case JSON_STR:
		text = *(char *const *)at;
		return json_write_text(b, text ? text : "", e);
	case JSON_STRV:
		return write_strv(b, *(char **const *)at, e);
	case JSON_OPT_BOOL:
		at = *(bool *const *)at;
		__attribute__((fallthrough));
	case JSON_BOOL:
		return buf_addz(b, *(const bool *)at ? "true" : "false", e);
	case JSON_OPT_I32:
		at = *(int32_t *const *)at;
		__attribute__((fallthrough));
	case JSON_I32:
		return buf_addf(b, e, "%d", *(const int32_t *)at);
	case JSON_OPT_U32:
		at = *(uint32_t *const *)at;
		__attribute__((fallthrough));
	case JSON_U32:
		return buf_addf(b, e, "%u", *(const uint32_t *)at);
	case JSON_OPT_I64:
		at = *(int64_t *const *)at;
		__attribute__((fallthrough));
	case JSON_I64:
		return buf_addf(b, e, "%lld", (long long)*(const int64_t *)at);
	case JSON_OPT_U64:
		at = *(uint64_t *const *)at;
		__attribute__((fallthrough));
	case JSON_U64:
		return buf_addf(b, e, "%llu", (unsigned long long)*(const uint64_t *)at);
	case JSON_F64:
		return buf_addf(b, e, "%.17g", *(const double *)at);
	case JSON_OBJ:
		return json_write(b, f->sub, *(void *const *)at, e);
	case JSON_SUB:
		return json_write(b, f->sub, at, e);
	case JSON_OBJV: case JSON_I64V: case JSON_U32V:
		return write_vec(b, f, at, e);
	case JSON_MAP:
		return write_map(b, at, e);
	case JSON_ANY:
		return json_write_value(b, *(const struct json *const *)at, e);
	case JSON_END:
		break;
	}
	BUG("a json field of no kind");
}

/* What cannot be written even with JSON_KEEP_ZERO: there is nothing behind the pointer. */
static bool is_null_pointer(const struct json_field *f, const void *at)
{
	switch (f->kind) {
	case JSON_OPT_BOOL: case JSON_OPT_I32: case JSON_OPT_U32: case JSON_OPT_I64: case JSON_OPT_U64:
	case JSON_OBJ: case JSON_ANY:
		return *(void *const *)at == NULL;
	default:
		return false;
	}
}

int json_write(struct buf *b, const struct json_field *fields, const void *in, struct err *e)
{
	bool first = true;

	if (buf_addz(b, "{", e) < 0)
		return -1;
	for (const struct json_field *f = fields; f->kind; f++) {
		const void *at = (const char *)in + f->offset;

		if (is_absent(f, at) && (!(f->flags & JSON_KEEP_ZERO) || is_null_pointer(f, at)))
			continue;
		if (!first && buf_addz(b, ",", e) < 0)
			return -1;
		first = false;
		if (json_write_text(b, f->name, e) < 0 || buf_addz(b, ":", e) < 0 ||
		    write_field(b, f, at, e) < 0)
			return -1;
	}
	return buf_addz(b, "}", e);
}

static struct json_map copy_map(struct arena *a, const struct json_map *m)
{
	struct json_map map = { NULL, m->count };

	if (!m->p)
		return map;
	map.p = arena_newn0(a, struct json_pair, m->count + 1);
	for (size_t i = 0; i < m->count; i++)
		map.p[i] = (struct json_pair){ arena_strdup(a, m->p[i].key), arena_strdup(a, m->p[i].value) };
	return map;
}

static struct json_vec copy_vec(struct arena *a, const struct json_field *f, const struct json_vec *v)
{
	size_t size = f->kind == JSON_OBJV ? f->size : f->kind == JSON_I64V ? sizeof(int64_t) : sizeof(uint32_t);
	struct json_vec vec = { NULL, v->count };

	if (!v->p)
		return vec;
	vec.p = arena_array0(a, v->count + 1, size);
	if (f->kind != JSON_OBJV) {
		memcpy(vec.p, v->p, size * v->count);
		return vec;
	}
	for (size_t i = 0; i < v->count; i++)
		json_copy(a, f->sub, (const char *)v->p + i * size, (char *)vec.p + i * size);
	return vec;
}

static const struct json *copy_value(struct arena *a, const struct json *v)
{
	struct json *copy = arena_memdup(a, v, sizeof(*v));
	struct json **tail = &copy->first;

	copy->key = arena_strdup(a, v->key);
	if (v->text.p)
		copy->text.p = arena_strndup(a, v->text.p, v->text.len);
	copy->next = NULL;
	for (const struct json *m = v->first; m; m = m->next) {
		*tail = (struct json *)copy_value(a, m);
		tail = &(*tail)->next;
	}
	return copy;
}

static void copy_field(struct arena *a, const struct json_field *f, const void *from, void *to)
{
	const void *p;

	switch (f->kind) {
	case JSON_STR:
		*(char **)to = arena_strdup(a, *(char *const *)from);
		return;
	case JSON_STRV:
		if (*(char **const *)from)
			*(char ***)to = strv_dup(a, *(char **const *)from);
		return;
	case JSON_BOOL:
		*(bool *)to = *(const bool *)from;
		return;
	case JSON_I32: case JSON_U32:
		*(uint32_t *)to = *(const uint32_t *)from;
		return;
	case JSON_I64: case JSON_U64: case JSON_F64:
		*(uint64_t *)to = *(const uint64_t *)from;
		return;
	case JSON_OPT_BOOL: case JSON_OPT_I32: case JSON_OPT_U32: case JSON_OPT_I64: case JSON_OPT_U64:
		p = *(void *const *)from;
		if (p)
			*(void **)to = arena_memdup(a, p, f->kind == JSON_OPT_BOOL ? sizeof(bool) :
						    f->kind == JSON_OPT_I32 || f->kind == JSON_OPT_U32 ? 4 : 8);
		return;
	case JSON_OBJ:
		p = *(void *const *)from;
		if (p)
			json_copy(a, f->sub, p, *(void **)to = arena_alloc0(a, f->size));
		return;
	case JSON_SUB:
		json_copy(a, f->sub, from, to);
		return;
	case JSON_OBJV: case JSON_I64V: case JSON_U32V:
		*(struct json_vec *)to = copy_vec(a, f, from);
		return;
	case JSON_MAP:
		*(struct json_map *)to = copy_map(a, from);
		return;
	case JSON_ANY:
		p = *(const struct json *const *)from;
		if (p)
			*(const struct json **)to = copy_value(a, p);
		return;
	case JSON_END:
		break;
	}
	BUG("a json field of no kind");
}

void json_copy(struct arena *a, const struct json_field *fields, const void *from, void *to)
{
	for (const struct json_field *f = fields; f->kind; f++)
		copy_field(a, f, (const char *)from + f->offset, (char *)to + f->offset);
}
