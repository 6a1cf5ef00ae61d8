#include "cli/output.h"

#include <stdio.h>
#include <strings.h>

enum { TEXT_MAX = 256 << 20 };

int output_parse(const char *text, enum output otherwise, enum output *out, struct err *e)
{
	static const struct {
		const char *name;
		enum output how;
	} names[] = { { "table", OUTPUT_TABLE }, { "json", OUTPUT_JSON }, { "yaml", OUTPUT_YAML }, { "name", OUTPUT_NAME } };

	*out = otherwise;
	if (!text)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (streq(names[i].name, text)) {
			*out = names[i].how;
			return 0;
		}
	return err_set(e, ERR_INVALID, "-o %s: it can be json, yaml, name or table", text);
}

static int json_indented(struct buf *b, const struct json *v, unsigned depth, struct err *e)
{
	bool object = v->type == JSON_OBJECT;

	if ((v->type != JSON_ARRAY && !object) || !v->first)
		return json_write_value(b, v, e);
	if (buf_addz(b, object ? "{" : "[", e) < 0)
		return -1;
	for (const struct json *m = v->first; m; m = m->next) {
		if (buf_addf(b, e, "%s\n%*s", m == v->first ? "" : ",", (int)(depth + 1) * 2, "") < 0 ||
		    (object && (json_write_text(b, m->key, e) < 0 || buf_addz(b, ": ", e) < 0)) ||
		    json_indented(b, m, depth + 1, e) < 0)
			return -1;
	}
	return buf_addf(b, e, "\n%*s%s", (int)depth * 2, "", object ? "}" : "]");
}

/* A word that YAML takes for nothing but a text. */
static bool is_plain(const char *s)
{
	static const char *const words[] = { "true", "false", "null", "yes", "no", "on", "off", "y", "n", "~" };
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_/.@0123456789-");

	if (!*s || s[n] || strchr("0123456789-.@", *s))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strcasecmp(words[i], s) == 0)
			return false;
	return true;
}

static int yaml_text(struct buf *b, const char *s, struct err *e)
{
	return is_plain(s) ? buf_addz(b, s, e) : json_write_text(b, s, e);
}

static int yaml_scalar(struct buf *b, const struct json *v, struct err *e)
{
	if (v->type == JSON_STRING)
		return yaml_text(b, v->text.p, e);
	return json_write_value(b, v, e); /* [] and {} too */
}

static bool is_block(const struct json *v)
{
	return (v->type == JSON_ARRAY || v->type == JSON_OBJECT) && v->first;
}

/* Each member on a line of its own; `here`: the first goes on in this line, after a "- ". */
static int yaml_block(struct buf *b, const struct json *v, unsigned depth, bool here, struct err *e)
{
	bool object = v->type == JSON_OBJECT;

	for (const struct json *m = v->first; m; m = m->next) {
		if (!here && buf_addf(b, e, "%*s", (int)depth * 2, "") < 0)
			return -1;
		here = false;
		if (object ? yaml_text(b, m->key, e) < 0 || buf_addz(b, ":", e) < 0 : buf_addz(b, "- ", e) < 0)
			return -1;
		if (is_block(m)) {
			if ((object && buf_addz(b, "\n", e) < 0) || yaml_block(b, m, depth + 1, !object, e) < 0)
				return -1;
			continue;
		}
		if ((object && buf_addz(b, " ", e) < 0) || yaml_scalar(b, m, e) < 0 || buf_addz(b, "\n", e) < 0)
			return -1;
	}
	return 0;
}

int output_document(enum output how, struct str json, struct err *e)
{
	auto_buf b = BUF(TEXT_MAX);
	auto_arena a = { 0 };
	struct json *doc;

	if (json_parse(&a, json, &doc, e) < 0)
		return -1;
	if (how == OUTPUT_YAML ? (is_block(doc) ? yaml_block(&b, doc, 0, false, e) : yaml_scalar(&b, doc, e)) < 0 :
				 json_indented(&b, doc, 0, e) < 0)
		return -1;
	fputs(buf_text(&b), stdout);
	if (b.len && b.p[b.len - 1] != '\n')
		putchar('\n');
	return 0;
}
