#include "spec/challenge.h"

#include <strings.h>

struct parser {
	struct arena *a;
	const char *p, *end;
};

static bool is_token(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c && strchr("!#$%&'*+-.^_`|~", c));
}

static void skip_blanks(struct parser *t)
{
	while (t->p < t->end && (*t->p == ' ' || *t->p == '\t'))
		t->p++;
}

static void skip_commas(struct parser *t)
{
	while (t->p < t->end && (*t->p == ' ' || *t->p == '\t' || *t->p == ','))
		t->p++;
}

static struct str take_token(struct parser *t)
{
	const char *start = t->p;

	while (t->p < t->end && is_token(*t->p))
		t->p++;
	return (struct str){ start, (size_t)(t->p - start) };
}

static int fail(struct err *e, const char *what)
{
	return err_set(e, ERR_INVALID, "WWW-Authenticate: %s", what);
}

static int take_quoted(struct parser *t, char **out, struct err *e)
{
	char *text = arena_alloc(t->a, (size_t)(t->end - t->p) + 1), *o = text;

	for (t->p++; t->p < t->end && *t->p != '"'; t->p++) {
		if (*t->p == '\\' && t->p + 1 < t->end)
			t->p++;
		if ((unsigned char)*t->p < 0x20 || *t->p == 0x7f)
			return fail(e, "a control character in a quoted text");
		*o++ = *t->p;
	}
	if (t->p == t->end)
		return fail(e, "a quoted text does not end");
	t->p++;
	*o = '\0';
	*out = text;
	return 0;
}

static void keep(struct challenge *c, struct str name, char *value)
{
	const struct {
		const char *name;
		char **to;
	} known[] = { { "realm", &c->realm }, { "service", &c->service }, { "scope", &c->scope },
		      { "error", &c->error } };

	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		if (name.len == strlen(known[i].name) && strncasecmp(name.p, known[i].name, name.len) == 0 &&
		    !*known[i].to)
			*known[i].to = value;
	}
}

/* name=value. 0: there is none here, and nothing was taken (the next challenge begins). */
static int take_param(struct parser *t, struct challenge *c, struct err *e)
{
	const char *start = t->p;
	struct str name = take_token(t), token;
	char *value = NULL;

	skip_blanks(t);
	if (name.len == 0 || t->p == t->end || *t->p != '=') {
		t->p = start;
		return 0;
	}
	t->p++;
	skip_blanks(t);
	if (t->p < t->end && *t->p == '"') {
		if (take_quoted(t, &value, e) < 0)
			return -1;
	} else {
		token = take_token(t);
		value = str_dup(t->a, token);
	}
	keep(c, name, value);
	return 1;
}

static int take_challenge(struct parser *t, struct challenge *c, struct err *e)
{
	struct str scheme = take_token(t);
	int r = 1;

	if (scheme.len == 0)
		return fail(e, "expected a scheme (Basic, Bearer)");
	c->scheme = str_dup(t->a, scheme);
	for (char *s = c->scheme; *s; s++) {
		if (*s >= 'A' && *s <= 'Z')
			*s = (char)(*s + 'a' - 'A');
	}
	skip_blanks(t);
	while (r > 0) {
		r = take_param(t, c, e);
		if (r > 0) {
			skip_blanks(t);
			if (t->p < t->end && *t->p != ',')
				return fail(e, "expected ',' after a parameter");
			skip_commas(t);
		}
	}
	if (r == 0)
		skip_commas(t);
	return r;
}

int challenges_parse(struct arena *a, struct str text, struct challenge **out, size_t *n, struct err *e)
{
	struct parser t = { a, text.p, text.p + text.len };
	struct challenge *list = arena_newn0(a, struct challenge, CHALLENGES_MAX);
	size_t count = 0;

	if (text.len > CHALLENGE_TEXT_MAX)
		return fail(e, "too long");
	skip_commas(&t);
	while (t.p < t.end) {
		if (count == CHALLENGES_MAX)
			return fail(e, "too many challenges");
		if (take_challenge(&t, &list[count++], e) < 0)
			return -1;
	}
	*out = list;
	*n = count;
	return 0;
}

const struct challenge *challenge_find(const struct challenge *c, size_t n, const char *scheme)
{
	for (size_t i = 0; i < n; i++) {
		if (streq(c[i].scheme, scheme))
			return &c[i];
	}
	return NULL;
}
