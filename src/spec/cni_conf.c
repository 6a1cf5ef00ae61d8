#include "spec/cni_conf.h"

#include <string.h>

static const char *const versions[] = { "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0" };

static int version_index(const char *version)
{
	for (size_t i = 0; i < ARRAY_SIZE(versions); i++)
		if (streq(versions[i], version))
			return (int)i;
	return -1;
}

bool cni_version_is_known(const char *version)
{
	return version_index(version) >= 0;
}

int cni_version_compare(const char *a, const char *b)
{
	int x = version_index(a), y = version_index(b);

	BUG_ON(x < 0 || y < 0);
	return (x > y) - (x < y);
}

struct conf_fields {
	char *name, *version, **versions;
	const struct json *plugins;
};

static const struct json_field conf_fields[] = {
	{ "name", JSON_STR, offsetof(struct conf_fields, name), JSON_REQUIRED },
	{ "cniVersion", JSON_STR, offsetof(struct conf_fields, version) },
	{ "cniVersions", JSON_STRV, offsetof(struct conf_fields, versions) },
	{ "plugins", JSON_ANY, offsetof(struct conf_fields, plugins) },
	{ 0 },
};

struct plugin_fields {
	char *type;
	const struct json *capabilities;
};

static const struct json_field plugin_fields[] = {
	{ "type", JSON_STR, offsetof(struct plugin_fields, type), JSON_REQUIRED },
	{ "capabilities", JSON_ANY, offsetof(struct plugin_fields, capabilities) },
	{ 0 },
};

/* CNI spec, section 1: alphanumeric first, then also '_', '.', '-'. */
static bool name_is_valid(const char *name)
{
	static const char alnum[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

	if (!*name || !strchr(alnum, *name) || strlen(name) > 200)
		return false;
	while (*name && (strchr(alnum, *name) || strchr("_.-", *name)))
		name++;
	return !*name;
}

static int choose_version(const struct conf_fields *f, const char **out, struct err *e)
{
	const char *best = NULL;

	for (char **v = f->versions; v && *v; v++)
		if (cni_version_is_known(*v) && (!best || cni_version_compare(*v, best) > 0))
			best = *v;
	if (!f->version && !f->versions)
		best = "0.1.0"; /* what plugins take an absent version for */
	else if (f->version && cni_version_is_known(f->version) &&
		 (!best || cni_version_compare(f->version, best) > 0))
		best = f->version;
	if (!best)
		return err_set(e, ERR_INVALID, "cniVersion %s is not known (known: 0.1.0 to 1.1.0)",
			       f->version ? f->version : f->versions[0] ? f->versions[0] : "[]");
	*out = best;
	return 0;
}

static int plugin_read(struct arena *a, const struct json *doc, size_t i, struct cni_plugin *out, struct err *e)
{
	struct plugin_fields f = { 0 };

	if (doc->type != JSON_OBJECT)
		return err_set(e, ERR_INVALID, "line %u: plugin %zu is no object", doc->line, i);
	if (json_read(a, doc, plugin_fields, 0, &f, e) < 0)
		return err_in(e, "plugin %zu", i);
	if (!*f.type || strchr(f.type, '/') || streq(f.type, ".") || streq(f.type, "..") || strlen(f.type) > 255)
		return err_set(e, ERR_INVALID, "line %u: plugin type \"%.100s\" is no plain file name", doc->line,
			       f.type);
	if (f.capabilities && f.capabilities->type != JSON_OBJECT)
		return err_set(e, ERR_INVALID, "line %u: plugin %s: capabilities is no object",
			       f.capabilities->line, f.type);
	for (const struct json *m = f.capabilities ? f.capabilities->first : NULL; m; m = m->next)
		if (m->type != JSON_TRUE && m->type != JSON_FALSE)
			return err_set(e, ERR_INVALID, "line %u: plugin %s: capability %.100s is no boolean", m->line,
				       f.type, m->key);
	*out = (struct cni_plugin){ f.type, f.capabilities, doc };
	return 0;
}

static int plugins_read(struct arena *a, const struct json *list, struct cni_conf *c, struct err *e)
{
	struct cni_plugin *p;
	size_t n = 0;

	if (list->type != JSON_ARRAY || list->count == 0 || list->count > CNI_PLUGINS_MAX)
		return err_set(e, ERR_INVALID, "line %u: plugins is no list of 1 to %d plugins", list->line,
			       CNI_PLUGINS_MAX);
	p = arena_newn0(a, struct cni_plugin, list->count);
	for (const struct json *m = list->first; m; m = m->next, n++)
		if (plugin_read(a, m, n, &p[n], e) < 0)
			return -1;
	c->plugins = p;
	c->nplugins = n;
	return 0;
}

int cni_conf_read(struct arena *a, const struct json *doc, struct cni_conf *out, struct err *e)
{
	struct conf_fields f = { 0 };
	struct cni_conf c = { .doc = doc };

	if (json_read(a, doc, conf_fields, 0, &f, e) < 0)
		return -1;
	if (!name_is_valid(f.name))
		return err_set(e, ERR_INVALID, "\"%.100s\" is no network name (letters, digits, '_', '.', '-')",
			       f.name);
	c.name = f.name;
	if (choose_version(&f, &c.version, e) < 0)
		return -1;
	if (f.plugins) {
		if (plugins_read(a, f.plugins, &c, e) < 0)
			return -1;
	} else {
		struct cni_plugin *p = arena_new0(a, struct cni_plugin);

		if (plugin_read(a, doc, 0, p, e) < 0)
			return -1;
		c.plugins = p;
		c.nplugins = 1;
	}
	*out = c;
	return 0;
}

int cni_conf_parse(struct arena *a, struct str text, struct cni_conf *out, struct err *e)
{
	struct json *doc;

	if (json_parse(a, text, &doc, e) < 0)
		return -1;
	return cni_conf_read(a, doc, out, e);
}

bool cni_plugin_can(const struct cni_plugin *p, const char *capability)
{
	const struct json *m = p->capabilities ? json_get(p->capabilities, capability) : NULL;

	return m && m->type == JSON_TRUE;
}

static int print_member(struct buf *b, const char *key, const struct json *value, struct err *e)
{
	if (b->p[b->len - 1] != '{' && buf_addz(b, ",", e) < 0)
		return -1;
	if (json_write_text(b, key, e) < 0 || buf_addz(b, ":", e) < 0)
		return -1;
	return json_write_value(b, value, e);
}

static int print_runtime_config(struct buf *b, const struct cni_plugin *p, const struct json *rc, struct err *e)
{
	if (buf_addz(b, ",\"runtimeConfig\":{", e) < 0)
		return -1;
	for (const struct json *m = rc->first; m; m = m->next)
		if (cni_plugin_can(p, m->key) && print_member(b, m->key, m, e) < 0)
			return -1;
	return buf_addz(b, "}", e);
}

static bool any_capability(const struct cni_plugin *p, const struct json *rc)
{
	for (const struct json *m = rc ? rc->first : NULL; m; m = m->next)
		if (cni_plugin_can(p, m->key))
			return true;
	return false;
}

int cni_conf_print(struct buf *b, const struct cni_conf *c, size_t plugin, const struct json *prev_result,
		   const struct json *runtime_config, struct err *e)
{
	const struct cni_plugin *p = &c->plugins[plugin];
	bool ours = any_capability(p, runtime_config);

	if (buf_addz(b, "{\"cniVersion\":", e) < 0 || json_write_text(b, c->version, e) < 0 ||
	    buf_addz(b, ",\"name\":", e) < 0 || json_write_text(b, c->name, e) < 0)
		return -1;
	for (const struct json *m = p->doc->first; m; m = m->next) {
		if (streq(m->key, "cniVersion") || streq(m->key, "name") || streq(m->key, "prevResult") ||
		    (ours && streq(m->key, "runtimeConfig")))
			continue;
		if (print_member(b, m->key, m, e) < 0)
			return -1;
	}
	if (ours && print_runtime_config(b, p, runtime_config, e) < 0)
		return -1;
	if (prev_result && print_member(b, "prevResult", prev_result, e) < 0)
		return -1;
	return buf_addz(b, "}", e);
}
