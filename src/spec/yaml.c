#include "spec/yaml.h"

#include <libfyaml.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH_MAX = 64 };

static unsigned line_of(struct fy_node *n)
{
	const struct fy_mark *mark = fy_node_is_scalar(n) ? fy_token_start_mark(fy_node_get_scalar_token(n)) : NULL;

	return mark ? (unsigned)mark->line + 1 : 0;
}

static int text_of(struct arena *a, struct fy_node *n, struct str *out, struct err *e)
{
	size_t len = 0;
	const char *p = fy_node_get_scalar(n, &len);

	if (fy_node_is_alias(n))
		return err_set(e, ERR_INVALID, "line %u: aliases are not taken", line_of(n));
	if (len && memchr(p, '\0', len))
		return err_set(e, ERR_INVALID, "line %u: a text has a NUL byte", line_of(n));
	*out = (struct str){ len ? arena_strndup(a, p, len) : "", len };
	return 0;
}

/* A whole number in any of YAML's bases: as JSON writes it. */
static bool number_of(struct arena *a, struct str s, struct str *out)
{
	bool negative = s.len > 0 && s.p[0] == '-';
	const char *p = s.p + (s.len > 0 && (s.p[0] == '-' || s.p[0] == '+'));
	int base = 10;
	uint64_t n = 0;

	if (p[0] == '0' && p[1]) {
		base = p[1] == 'x' ? 16 : p[1] == 'b' ? 2 : 8;
		p += base == 8 && p[1] != 'o' ? 1 : 2;
	}
	if (!*p)
		return false;
	for (; *p; p++) {
		int digit = *p >= '0' && *p <= '9' ? *p - '0' : *p >= 'a' && *p <= 'f' ? *p - 'a' + 10 :
			    *p >= 'A' && *p <= 'F' ? *p - 'A' + 10 : 99;

		if (digit >= base || n > (UINT64_MAX - (uint64_t)digit) / (uint64_t)base)
			return false;
		n = n * (uint64_t)base + (uint64_t)digit;
	}
	*out = str_of(arena_printf(a, "%s%llu", negative ? "-" : "", (unsigned long long)n));
	return true;
}

static bool is_word(struct str s, const char *a, const char *b, const char *c)
{
	return str_eqz(s, a) || str_eqz(s, b) || str_eqz(s, c);
}

static void type_plain(struct arena *a, struct json *j)
{
	struct str number;

	if (j->text.len == 0 || str_eqz(j->text, "~") || is_word(j->text, "null", "Null", "NULL")) {
		j->type = JSON_NULL;
	} else if (is_word(j->text, "true", "True", "TRUE")) {
		j->type = JSON_TRUE;
	} else if (is_word(j->text, "false", "False", "FALSE")) {
		j->type = JSON_FALSE;
	} else if (number_of(a, j->text, &number)) {
		j->type = JSON_NUMBER;
		j->text = number;
	}
}

static int convert(struct arena *a, struct fy_node *n, int depth, struct json *out, struct err *e);

static int add_member(struct arena *a, struct json *parent, struct json ***at, struct fy_node *n, int depth,
		      const char *key, struct err *e)
{
	struct json *j = arena_new0(a, struct json);

	if (convert(a, n, depth + 1, j, e) < 0)
		return -1;
	j->key = key;
	**at = j;
	*at = &j->next;
	parent->count++;
	return 0;
}

static int convert_mapping(struct arena *a, struct fy_node *n, int depth, struct json *out, struct err *e)
{
	struct json **at = &out->first;
	struct fy_node_pair *pair;
	void *walk = NULL;

	out->type = JSON_OBJECT;
	while ((pair = fy_node_mapping_iterate(n, &walk))) {
		struct fy_node *key = fy_node_pair_key(pair);
		struct str name;

		if (!key || !fy_node_is_scalar(key))
			return err_set(e, ERR_INVALID, "line %u: a key is no text", key ? line_of(key) : out->line);
		if (text_of(a, key, &name, e) < 0 || add_member(a, out, &at, fy_node_pair_value(pair), depth, name.p, e) < 0)
			return -1;
		if (!out->line)
			out->line = line_of(key);
	}
	return 0;
}

static int convert_sequence(struct arena *a, struct fy_node *n, int depth, struct json *out, struct err *e)
{
	struct json **at = &out->first;
	struct fy_node *item;
	void *walk = NULL;

	out->type = JSON_ARRAY;
	while ((item = fy_node_sequence_iterate(n, &walk)))
		if (add_member(a, out, &at, item, depth, NULL, e) < 0)
			return -1;
	out->line = out->first ? out->first->line : 0;
	return 0;
}

static int convert(struct arena *a, struct fy_node *n, int depth, struct json *out, struct err *e)
{
	out->column = 1;
	if (depth > DEPTH_MAX)
		return err_set(e, ERR_INVALID, "more than %d levels", DEPTH_MAX);
	if (!n)
		return 0; /* JSON_NULL is 0 */
	out->line = line_of(n);
	if (fy_node_is_mapping(n))
		return convert_mapping(a, n, depth, out, e);
	if (fy_node_is_sequence(n))
		return convert_sequence(a, n, depth, out, e);
	if (text_of(a, n, &out->text, e) < 0)
		return -1;
	out->type = JSON_STRING;
	if (fy_node_get_style(n) == FYNS_PLAIN)
		type_plain(a, out);
	return 0;
}

static int no_yaml(struct fy_diag *diag, struct err *e)
{
	void *at = NULL;
	struct fy_diag_error *first = fy_diag_errors_iterate(diag, &at);

	return first ? err_set(e, ERR_INVALID, "line %d: %s", first->line, first->msg) :
		       err_set(e, ERR_INVALID, "this is no YAML");
}

static int parse_all(struct arena *a, struct fy_parser *parser, struct json *out, struct err *e)
{
	struct fy_document *doc = fy_parse_load_document(parser);
	int rc;

	if (!doc)
		return 0;
	rc = convert(a, fy_document_root(doc), 0, out, e);
	fy_parse_document_destroy(parser, doc);
	doc = rc < 0 ? NULL : fy_parse_load_document(parser);
	if (doc)
		rc = err_set(e, ERR_INVALID, "only one YAML document is wanted");
	fy_parse_document_destroy(parser, doc);
	return rc;
}

int yaml_parse(struct arena *a, struct str text, struct json **out, struct err *e)
{
	struct fy_diag_cfg quiet = { .level = FYET_ERROR, .module_mask = ~0u };
	struct fy_parse_cfg cfg = { .flags = FYPCF_QUIET };
	struct json *root = arena_new0(a, struct json);
	struct fy_parser *parser;
	int rc;

	if (text.len && memchr(text.p, '\0', text.len))
		return err_set(e, ERR_INVALID, "a file with NUL bytes is no YAML");
	cfg.diag = fy_diag_create(&quiet);
	BUG_ON(!cfg.diag);
	fy_diag_set_collect_errors(cfg.diag, true);
	parser = fy_parser_create(&cfg);
	BUG_ON(!parser || fy_parser_set_string(parser, text.len ? text.p : "", text.len) < 0);
	rc = parse_all(a, parser, root, e);
	if (rc == 0 && fy_diag_got_error(cfg.diag))
		rc = no_yaml(cfg.diag, e);
	fy_parser_destroy(parser);
	fy_diag_destroy(cfg.diag);
	if (rc == 0)
		*out = root;
	return rc;
}
