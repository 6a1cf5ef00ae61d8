/* GVariant's text form (https://docs.gtk.org/glib/gvariant-text-format.html), as far as annotations use it. */
#include "wire/dbus.h"

#include <errno.h>
#include <stdlib.h>

enum { ITEMS_MAX = 10000 };

struct parser {
	struct arena *a;
	const char *text, *p;
	unsigned depth;
};

static const struct {
	const char *word, *signature;
} words[] = {
	{ "boolean", "b" }, { "byte", "y" }, { "int16", "n" }, { "uint16", "q" }, { "int32", "i" }, { "uint32", "u" },
	{ "int64", "x" }, { "uint64", "t" }, { "double", "d" }, { "string", "s" },
};

static int wrong(const struct parser *p, const char *what, struct err *e)
{
	return err_set(e, ERR_INVALID, "%s at character %zu of \"%.200s\"", what, (size_t)(p->p - p->text) + 1, p->text);
}

static void blanks(struct parser *p)
{
	p->p += strspn(p->p, " \t\r\n");
}

static bool take(struct parser *p, char c)
{
	blanks(p);
	if (*p->p != c)
		return false;
	p->p++;
	return true;
}

static bool take_word(struct parser *p, const char *word)
{
	size_t n = strlen(word);

	if (strncmp(p->p, word, n) != 0 || (p->p[n] >= 'a' && p->p[n] <= 'z') || (p->p[n] >= '0' && p->p[n] <= '9'))
		return false;
	p->p += n;
	return true;
}

static int parse_text(struct parser *p, struct dbus_value *out, struct err *e)
{
	char quote = *p->p++, *text = arena_alloc(p->a, strlen(p->p) + 1);
	size_t n = 0;

	for (; *p->p && *p->p != quote; p->p++) {
		static const char from[] = "abfnrtv", to[] = "\a\b\f\n\r\t\v";
		const char *known;

		if (*p->p != '\\') {
			text[n++] = *p->p;
			continue;
		}
		p->p++;
		if (!*p->p || *p->p == 'u' || *p->p == 'U' || (*p->p >= '0' && *p->p <= '9'))
			return wrong(p, "an escape that is not taken", e);
		known = strchr(from, *p->p);
		text[n++] = known ? to[known - from] : *p->p;
	}
	if (*p->p != quote)
		return wrong(p, "a text without an end", e);
	p->p++;
	text[n] = '\0';
	if (!utf8_valid(text, n))
		return wrong(p, "a text that is not UTF-8", e);
	out->text = text;
	return 0;
}

/* Whether the number fits its type. */
static bool number_fits(char type, bool negative, uint64_t n)
{
	static const struct { char type; unsigned bits; bool is_signed; } all[] = {
		{ 'y', 8, false }, { 'n', 16, true }, { 'q', 16, false }, { 'i', 32, true }, { 'u', 32, false },
		{ 'x', 64, true }, { 't', 64, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		uint64_t most = UINT64_MAX >> (64 - all[i].bits + all[i].is_signed);

		if (all[i].type == type)
			return negative ? all[i].is_signed && n <= most + 1 : n <= most;
	}
	return false;
}

static int parse_number(struct parser *p, const char *signature, struct dbus_value *out, struct err *e)
{
	size_t n = strspn(p->p, "+-.0123456789abcdefxABCDEFX");
	char *word = arena_strndup(p->a, p->p, n), *end;
	bool negative = word[0] == '-';

	if (!n || !word[strspn(word, "+-")])
		return wrong(p, "no value that is taken", e);
	if ((signature && *signature == 'd') || (!signature && strpbrk(word, ".eE") && !strpbrk(word, "xX"))) {
		out->signature = "d";
		out->d = strtod(word, &end);
	} else {
		out->signature = signature ? signature : "i";
		errno = 0;
		out->n = strtoull(word + strspn(word, "+-"), &end, 0);
		if (errno || !number_fits(*out->signature, negative, out->n))
			return wrong(p, "a number that its type does not have", e);
		out->n = negative ? -out->n : out->n;
	}
	if (*end || strspn(word, "+-") > 1)
		return wrong(p, "a number that is none", e);
	p->p += n;
	return 0;
}

static int parse_value(struct parser *p, const char *signature, struct dbus_value *out, struct err *e);

/* The members up to the closing bracket. `of`: the signature of an array's elements, NULL: of the first one. */
static int parse_members(struct parser *p, char close, const char *of, struct dbus_value *out, struct err *e)
{
	struct dbus_value *items = NULL;
	size_t cap = 0;

	p->p++;
	while (!take(p, close)) {
		if (out->nitems && !take(p, ','))
			return wrong(p, "no comma and no end", e);
		if (out->nitems && take(p, close))
			break; /* "(1,)" */
		if (out->nitems == ITEMS_MAX)
			return wrong(p, "too many values", e);
		if (out->nitems == cap) {
			struct dbus_value *more = arena_newn0(p->a, struct dbus_value, cap ? cap * 2 : 8);

			if (cap)
				memcpy(more, items, cap * sizeof(*items));
			items = more;
			cap = cap ? cap * 2 : 8;
		}
		if (parse_value(p, of, &items[out->nitems], e) < 0)
			return -1;
		if (close == ']' && !of)
			of = items[0].signature;
		out->nitems++;
	}
	out->items = items;
	return 0;
}

static int parse_array(struct parser *p, const char *signature, struct dbus_value *out, struct err *e)
{
	if (signature && *signature != 'a')
		return wrong(p, "an array where none is expected", e);
	if (parse_members(p, ']', signature ? signature + 1 : NULL, out, e) < 0)
		return -1;
	if (!signature && !out->nitems)
		return wrong(p, "an empty array without a type (\"@as []\")", e);
	out->signature = signature ? signature : arena_printf(p->a, "a%s", out->items[0].signature);
	return 0;
}

static int parse_struct(struct parser *p, const char *signature, struct dbus_value *out, struct err *e)
{
	char *is = arena_strdup(p->a, "(");

	if (parse_members(p, ')', NULL, out, e) < 0)
		return -1;
	for (size_t i = 0; i < out->nitems; i++) {
		if (strlen(is) > DBUS_SIGNATURE_MAX / 2)
			return wrong(p, "too long a structure", e);
		is = arena_printf(p->a, "%s%s", is, out->items[i].signature);
	}
	out->signature = arena_printf(p->a, "%s)", is);
	if (!out->nitems || (signature && !streq(signature, out->signature)))
		return wrong(p, "a structure of another type", e);
	return 0;
}

/* "@as []": without dictionaries, variants, object paths. */
static int parse_typed(struct parser *p, const char *signature, struct dbus_value *out, struct err *e)
{
	size_t n = strspn(++p->p, "abynqiuxtds()");
	const char *type = arena_strndup(p->a, p->p, n);

	if (n > DBUS_SIGNATURE_MAX || !dbus_is_type(type) || (signature && !streq(signature, type)))
		return wrong(p, "a type that is not taken", e);
	p->p += n;
	return parse_value(p, type, out, e);
}

static int parse_one(struct parser *p, const char *signature, struct dbus_value *out, struct err *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (take_word(p, words[i].word)) {
			if (signature && !streq(signature, words[i].signature))
				return wrong(p, "a value of another type", e);
			return parse_value(p, words[i].signature, out, e);
		}
	if (*p->p == '@')
		return parse_typed(p, signature, out, e);
	if (*p->p == '[')
		return parse_array(p, signature, out, e);
	if (*p->p == '(')
		return parse_struct(p, signature, out, e);
	if (signature && signature[0] && signature[1])
		return wrong(p, "a value of another type", e);
	if (*p->p == '\'' || *p->p == '"') {
		out->signature = signature ? signature : "s";
		if (*out->signature != 's')
			return wrong(p, "a text where none is expected", e);
		return parse_text(p, out, e);
	}
	if ((!signature || *signature == 'b') && (take_word(p, "true") || take_word(p, "false"))) {
		out->signature = "b";
		out->n = p->p[-2] == 'u';
		return 0;
	}
	if (signature && strchr("bs", *signature))
		return wrong(p, "a value of another type", e);
	return parse_number(p, signature, out, e);
}

static int parse_value(struct parser *p, const char *signature, struct dbus_value *out, struct err *e)
{
	int rc;

	if (++p->depth > DBUS_DEPTH_MAX)
		return wrong(p, "values too deep", e);
	blanks(p);
	rc = parse_one(p, signature, out, e);
	p->depth--;
	return rc;
}

int dbus_value_parse(struct arena *a, const char *text, struct dbus_value *out, struct err *e)
{
	struct parser p = { .a = a, .text = text, .p = text };
	struct dbus_value v = { 0 };

	if (parse_value(&p, NULL, &v, e) < 0)
		return -1;
	blanks(&p);
	if (*p.p)
		return wrong(&p, "more than one value", e);
	if (strlen(v.signature) > DBUS_SIGNATURE_MAX)
		return err_set(e, ERR_INVALID, "\"%.200s\": too long a type", text);
	*out = v;
	return 0;
}
