#include "spec/toml.h"

/* A table that a [header] or an inline table has closed for another header of the same name. */
struct defined {
	const struct json *table;
	struct defined *next;
};

struct parser {
	struct arena *a;
	const char *p, *end, *line_start;
	unsigned line, depth;
	struct defined *defined;
};

static int fail(const struct parser *t, struct err *e, const char *what)
{
	return err_set(e, ERR_INVALID, "line %u column %u: %s", t->line,
		       (unsigned)(t->p - t->line_start) + 1, what);
}

static bool at(const struct parser *t, const char *text)
{
	return (size_t)(t->end - t->p) >= strlen(text) && memcmp(t->p, text, strlen(text)) == 0;
}

static bool is_newline(const struct parser *t)
{
	return t->p < t->end && (*t->p == '\n' || at(t, "\r\n"));
}

static void take_newline(struct parser *t)
{
	t->p += *t->p == '\r' ? 2 : 1;
	t->line++;
	t->line_start = t->p;
}

static void skip_blanks(struct parser *t)
{
	while (t->p < t->end && (*t->p == ' ' || *t->p == '\t'))
		t->p++;
}

static void skip_comment(struct parser *t)
{
	if (t->p < t->end && *t->p == '#') {
		while (t->p < t->end && !is_newline(t))
			t->p++;
	}
}

/* Blanks, comments and ends of line. */
static void skip_all(struct parser *t)
{
	for (;;) {
		skip_blanks(t);
		skip_comment(t);
		if (!is_newline(t))
			return;
		take_newline(t);
	}
}

static struct json *new_value(struct parser *t, enum json_type type)
{
	struct json *v = arena_new0(t->a, struct json);

	v->type = type;
	v->line = t->line;
	v->column = (unsigned)(t->p - t->line_start) + 1;
	return v;
}

static int add_member(struct parser *t, struct json *parent, struct json *v, struct err *e)
{
	struct json **end = &parent->first;

	if (parent->count == TOML_MEMBERS_MAX)
		return fail(t, e, "a table or an array has too many members");
	while (*end)
		end = &(*end)->next;
	*end = v;
	parent->count++;
	return 0;
}

static struct json *member(const struct json *table, const char *key)
{
	for (struct json *m = table->first; m; m = m->next) {
		if (streq(m->key, key))
			return m;
	}
	return NULL;
}

static struct json *last_member(const struct json *array)
{
	struct json *m = array->first;

	while (m && m->next)
		m = m->next;
	return m;
}

static bool is_defined(const struct parser *t, const struct json *table)
{
	for (const struct defined *d = t->defined; d; d = d->next) {
		if (d->table == table)
			return true;
	}
	return false;
}

static void define(struct parser *t, const struct json *table)
{
	struct defined *d = arena_new0(t->a, struct defined);

	*d = (struct defined){ table, t->defined };
	t->defined = d;
}

/* --- strings ---------------------------------------------------------------------------------- */

static int unicode(struct parser *t, struct buf *b, int digits, struct err *e)
{
	uint32_t c;
	char utf8[4];
	size_t n = 0;

	if (t->end - t->p < digits ||
	    str_to_u32_base((struct str){ t->p, (size_t)digits }, 16, &c, e) < 0)
		return fail(t, e, "expected hex digits after \\u");
	if (c == 0 || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return fail(t, e, "not a character");
	t->p += digits;
	if (c < 0x80) {
		utf8[n++] = (char)c;
	} else {
		int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
		static const unsigned char lead[] = { 0, 0xc0, 0xe0, 0xf0 };

		utf8[n++] = (char)(lead[more] | c >> (6 * more));
		while (more-- > 0)
			utf8[n++] = (char)(0x80 | (c >> (6 * more) & 0x3f));
	}
	return buf_add(b, utf8, n, e);
}

static int escape(struct parser *t, struct buf *b, bool multi_line, struct err *e)
{
	static const char from[] = "btnfre\"\\", to[] = "\b\t\n\f\r\x1b\"\\";
	const char *found;

	t->p++;
	if (t->p == t->end)
		return fail(t, e, "the text ends inside a string");
	if (*t->p == 'u' || *t->p == 'U') {
		int digits = *t->p++ == 'u' ? 4 : 8;

		return unicode(t, b, digits, e);
	}
	if (multi_line && (is_newline(t) || *t->p == ' ' || *t->p == '\t')) {
		skip_blanks(t);
		if (!is_newline(t))
			return fail(t, e, "unknown escape in a string");
		while (t->p < t->end && (is_newline(t) || *t->p == ' ' || *t->p == '\t')) {
			if (is_newline(t))
				take_newline(t);
			else
				t->p++;
		}
		return 0;
	}
	found = *t->p ? strchr(from, *t->p) : NULL;
	if (!found)
		return fail(t, e, "unknown escape in a string");
	t->p++;
	return buf_add(b, &to[found - from], 1, e);
}

/* One character or escape of a string's inside. */
static int string_piece(struct parser *t, struct buf *b, char quote, bool multi_line, struct err *e)
{
	unsigned char c = (unsigned char)*t->p;

	if (c == '\\' && quote == '"')
		return escape(t, b, multi_line, e);
	if (is_newline(t)) {
		if (!multi_line)
			return fail(t, e, "the line ends inside a string");
		take_newline(t);
		return buf_add(b, "\n", 1, e);
	}
	if ((c < 0x20 && c != '\t') || c == 0x7f)
		return fail(t, e, "a control character inside a string");
	t->p++;
	return buf_add(b, &c, 1, e);
}

static int parse_string(struct parser *t, struct str *out, struct err *e)
{
	char quote = *t->p, close[4] = { quote, quote, quote, 0 };
	bool multi_line = at(t, close);
	auto_buf b = BUF(TOML_MAX);

	if (!multi_line)
		close[1] = '\0';
	t->p += strlen(close);
	if (multi_line && is_newline(t))
		take_newline(t);
	for (;;) {
		if (t->p >= t->end)
			return fail(t, e, "the text ends inside a string");
		if (at(t, close))
			break;
		if (string_piece(t, &b, quote, multi_line, e) < 0)
			return -1;
	}
	t->p += strlen(close);
	/* Up to two quotes may stand right before the closing three. */
	for (int i = 0; multi_line && i < 2 && t->p < t->end && *t->p == quote; i++, t->p++) {
		if (buf_add(&b, &quote, 1, e) < 0)
			return -1;
	}
	*out = (struct str){ str_dup(t->a, buf_str(&b)), b.len };
	return 0;
}

/* --- keys ------------------------------------------------------------------------------------- */

static bool is_bare(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_' || c == '-';
}

static int parse_key(struct parser *t, char **out, struct err *e)
{
	const char *start = t->p;
	struct str s;

	if (at(t, "\"\"\"") || at(t, "'''"))
		return fail(t, e, "a key must be on one line");
	if (t->p < t->end && (*t->p == '"' || *t->p == '\'')) {
		if (parse_string(t, &s, e) < 0)
			return -1;
		*out = (char *)s.p;
		return 0;
	}
	while (t->p < t->end && is_bare(*t->p))
		t->p++;
	if (t->p == start)
		return fail(t, e, "expected a key");
	*out = arena_strndup(t->a, start, (size_t)(t->p - start));
	return 0;
}

/* The table `key` of *table, made where there is none; *table becomes it. Of an array that [[key]] made, the last
 * element. */
static int enter(struct parser *t, struct json **table, const char *key, struct err *e)
{
	struct json *m = member(*table, key);

	if (!m) {
		m = new_value(t, JSON_OBJECT);
		m->key = key;
		if (add_member(t, *table, m, e) < 0)
			return -1;
	} else if (m->type == JSON_ARRAY && is_defined(t, m)) {
		m = last_member(m);
	} else if (m->type != JSON_OBJECT) {
		return err_set(e, ERR_INVALID, "line %u: \"%.100s\" has a value already (line %u)", t->line,
			       key, m->line);
	}
	*table = m;
	return 0;
}

/* a.b."c": enters all but the last, which is returned. */
static int parse_path(struct parser *t, struct json **table, char **last, struct err *e)
{
	unsigned depth = 0;

	for (;;) {
		skip_blanks(t);
		if (parse_key(t, last, e) < 0)
			return -1;
		skip_blanks(t);
		if (t->p == t->end || *t->p != '.')
			return 0;
		if (++depth > TOML_DEPTH_MAX)
			return fail(t, e, "the key has too many parts");
		t->p++;
		if (enter(t, table, *last, e) < 0)
			return -1;
	}
}

/* --- values ----------------------------------------------------------------------------------- */

static int parse_value(struct parser *t, struct json **out, struct err *e);
static int parse_pair(struct parser *t, struct json *table, struct err *e);

static int parse_array(struct parser *t, struct json *v, struct err *e)
{
	struct json *m;

	t->p++;
	for (;;) {
		skip_all(t);
		if (t->p < t->end && *t->p == ']')
			break;
		if (parse_value(t, &m, e) < 0 || add_member(t, v, m, e) < 0)
			return -1;
		skip_all(t);
		if (t->p < t->end && *t->p == ',') {
			t->p++;
			continue;
		}
		if (t->p == t->end || *t->p != ']')
			return fail(t, e, "expected ',' or ']' in an array");
	}
	t->p++;
	return 0;
}

static int parse_inline_table(struct parser *t, struct json *v, struct err *e)
{
	t->p++;
	skip_blanks(t);
	if (t->p < t->end && *t->p == '}') {
		t->p++;
		define(t, v);
		return 0;
	}
	for (;;) {
		if (parse_pair(t, v, e) < 0)
			return -1;
		skip_blanks(t);
		if (t->p == t->end || (*t->p != ',' && *t->p != '}'))
			return fail(t, e, "expected ',' or '}' in an inline table");
		if (*t->p++ == '}')
			break;
	}
	define(t, v);
	return 0;
}

/* [-]digits, with '.' and exponent as they may: the number itself is read by whoever wants it. */
static bool is_number(struct str s)
{
	bool digit = false;

	for (size_t i = 0; i < s.len; i++) {
		char c = s.p[i];

		if (c >= '0' && c <= '9')
			digit = true;
		else if ((c == '-' || c == '+') && i > 0 && s.p[i - 1] != 'e' && s.p[i - 1] != 'E')
			return false;
		else if (c != '-' && c != '+' && c != '.' && c != 'e' && c != 'E')
			return false;
	}
	return digit;
}

static int parse_word(struct parser *t, struct json *v, struct err *e)
{
	const char *start = t->p;
	char *text, *o;

	while (t->p < t->end && (is_bare(*t->p) || *t->p == '+' || *t->p == '.' || *t->p == ':'))
		t->p++;
	text = o = arena_strndup(t->a, start, (size_t)(t->p - start));
	if (streq(text, "true") || streq(text, "false")) {
		v->type = *text == 't' ? JSON_TRUE : JSON_FALSE;
		return 0;
	}
	for (const char *c = text; *c; c++) {
		if (*c != '_')
			*o++ = *c;
	}
	*o = '\0';
	v->type = JSON_NUMBER;
	v->text = str_of(*text == '+' ? text + 1 : text);
	if (!is_number(v->text)) {
		t->p = start;
		return fail(t, e, "expected a value: a string in quotes, a number, true, false, an array or "
				  "an inline table");
	}
	return 0;
}

static int parse_value(struct parser *t, struct json **out, struct err *e)
{
	struct json *v = new_value(t, JSON_NULL);
	int r;

	if (t->p == t->end)
		return fail(t, e, "expected a value");
	if (++t->depth > TOML_DEPTH_MAX)
		return fail(t, e, "the values are nested too deep");
	if (*t->p == '"' || *t->p == '\'') {
		v->type = JSON_STRING;
		r = parse_string(t, &v->text, e);
	} else if (*t->p == '[') {
		v->type = JSON_ARRAY;
		r = parse_array(t, v, e);
	} else if (*t->p == '{') {
		v->type = JSON_OBJECT;
		r = parse_inline_table(t, v, e);
	} else {
		r = parse_word(t, v, e);
	}
	t->depth--;
	if (r == 0)
		*out = v;
	return r;
}

static int parse_pair(struct parser *t, struct json *table, struct err *e)
{
	const struct json *there;
	struct json *v;
	char *key;

	if (parse_path(t, &table, &key, e) < 0)
		return -1;
	if (t->p == t->end || *t->p != '=')
		return fail(t, e, "expected '=' after the key");
	there = member(table, key);
	if (there)
		return err_set(e, ERR_INVALID, "line %u: \"%.100s\" is there already (line %u)", t->line, key,
			       there->line);
	t->p++;
	skip_blanks(t);
	if (parse_value(t, &v, e) < 0)
		return -1;
	v->key = key;
	return add_member(t, table, v, e);
}

/* [[a.b]]: one more element of the array b; marked as defined, so that it is none of those in brackets. */
static int parse_element(struct parser *t, struct json *root, struct json **table, struct err *e)
{
	struct json *into = root, *array, *v;
	char *key;

	t->p += 2;
	if (parse_path(t, &into, &key, e) < 0)
		return -1;
	if (!at(t, "]]"))
		return fail(t, e, "expected ']]' after the name of the array of tables");
	array = member(into, key);
	if (!array) {
		array = new_value(t, JSON_ARRAY);
		array->key = key;
		define(t, array);
		if (add_member(t, into, array, e) < 0)
			return -1;
	} else if (array->type != JSON_ARRAY || !is_defined(t, array)) {
		return err_set(e, ERR_INVALID, "line %u: \"%.100s\" has a value already (line %u)", t->line, key,
			       array->line);
	}
	v = new_value(t, JSON_OBJECT);
	t->p += 2;
	*table = v;
	return add_member(t, array, v, e);
}

static int parse_header(struct parser *t, struct json *root, struct json **table, struct err *e)
{
	struct json *into = root;
	char *key;

	if (at(t, "[["))
		return parse_element(t, root, table, e);
	t->p++;
	if (parse_path(t, &into, &key, e) < 0 || enter(t, &into, key, e) < 0)
		return -1;
	if (t->p == t->end || *t->p != ']')
		return fail(t, e, "expected ']' after the table's name");
	if (is_defined(t, into))
		return err_set(e, ERR_INVALID, "line %u: the table [%.100s] is there already", t->line, key);
	t->p++;
	define(t, into);
	*table = into;
	return 0;
}

int toml_parse(struct arena *a, struct str text, struct json **out, struct err *e)
{
	struct parser t = { .a = a, .p = text.p, .end = text.p + text.len, .line_start = text.p, .line = 1 };
	struct json *root, *table;

	if (text.len > TOML_MAX)
		return err_set(e, ERR_EXHAUSTED, "the file has %zu bytes, more than %d", text.len, TOML_MAX);
	if (at(&t, "\xef\xbb\xbf"))
		t.line_start = t.p += 3;
	root = table = new_value(&t, JSON_OBJECT);
	for (;;) {
		skip_all(&t);
		if (t.p == t.end)
			break;
		if ((*t.p == '[' ? parse_header(&t, root, &table, e) : parse_pair(&t, table, e)) < 0)
			return -1;
		skip_blanks(&t);
		skip_comment(&t);
		if (t.p < t.end && !is_newline(&t))
			return fail(&t, e, "expected the end of the line");
	}
	*out = root;
	return 0;
}
