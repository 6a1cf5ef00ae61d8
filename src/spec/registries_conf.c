#include "spec/registries_conf.h"

#include "spec/toml.h"

struct mirror {
	char *location, *pull_from_mirror;
	bool insecure;
};

struct entry {
	char *prefix, *location;
	bool insecure, blocked, by_digest_only;
	struct json_vec mirrors; /* of struct mirror */
};

struct file {
	char **search, **credential_helpers;
	char *mode;
	const struct json *entries, *v1, *aliases;
	const struct json *partial_images; /* additional-layer-store-auth-helper: of podman's own stores */
};

static const struct json_field mirror_fields[] = {
	{ "location", JSON_STR, offsetof(struct mirror, location), JSON_REQUIRED },
	{ "insecure", JSON_BOOL, offsetof(struct mirror, insecure) },
	{ "pull-from-mirror", JSON_STR, offsetof(struct mirror, pull_from_mirror) },
	{ 0 },
};

static const struct json_field entry_fields[] = {
	{ "prefix", JSON_STR, offsetof(struct entry, prefix) },
	{ "location", JSON_STR, offsetof(struct entry, location) },
	{ "insecure", JSON_BOOL, offsetof(struct entry, insecure) },
	{ "blocked", JSON_BOOL, offsetof(struct entry, blocked) },
	{ "mirror-by-digest-only", JSON_BOOL, offsetof(struct entry, by_digest_only) },
	{ "mirror", JSON_OBJV, offsetof(struct entry, mirrors), 0, mirror_fields, sizeof(struct mirror) },
	{ 0 },
};

static const struct json_field file_fields[] = {
	{ "unqualified-search-registries", JSON_STRV, offsetof(struct file, search) },
	{ "credential-helpers", JSON_STRV, offsetof(struct file, credential_helpers) },
	{ "additional-layer-store-auth-helper", JSON_ANY, offsetof(struct file, partial_images) },
	{ "short-name-mode", JSON_STR, offsetof(struct file, mode) },
	{ "registry", JSON_ANY, offsetof(struct file, entries) },
	{ "registries", JSON_ANY, offsetof(struct file, v1) },
	{ "aliases", JSON_ANY, offsetof(struct file, aliases) },
	{ 0 },
};

/* --- reading ---------------------------------------------------------------------------------- */

/* "host[:port][/path]" without scheme and without '/' at the end; "*.example.com" only as a prefix. */
static int check_location(const char *text, bool wildcard, const struct json *at, struct err *e)
{
	const char *rest = wildcard && starts_with(text, "*.") ? text + 2 : text;

	if (strstr(text, "://"))
		return err_set(e, ERR_INVALID, "line %u: \"%.200s\" has a scheme; only host and path belong here", at->line, text);
	if (!*rest || *rest == '/' || strpbrk(rest, " \t\n\r\"\\?#*@"))
		return err_set(e, ERR_INVALID, "line %u: \"%.200s\" is no registry", at->line, text);
	return 0;
}

static char *without_slashes(struct arena *a, const char *text)
{
	size_t n = text ? strlen(text) : 0;

	while (n > 0 && text[n - 1] == '/')
		n--;
	return n ? arena_strndup(a, text, n) : NULL;
}

static int check_mirrors(struct arena *a, const struct entry *x, const struct json *at, struct err *e)
{
	static const char *const ways[] = { "all", "digest-only", "tag-only", "" };

	for (size_t i = 0; i < x->mirrors.count; i++) {
		struct mirror *m = (struct mirror *)x->mirrors.p + i;
		bool known = !m->pull_from_mirror;

		m->location = without_slashes(a, m->location);
		if (check_location(m->location ? m->location : "", false, at, e) < 0)
			return -1;
		for (size_t w = 0; w < ARRAY_SIZE(ways) && !known; w++)
			known = streq(ways[w], m->pull_from_mirror);
		if (!known)
			return err_set(e, ERR_INVALID, "line %u: pull-from-mirror \"%.100s\" is not all, digest-only or tag-only",
				       at->line, m->pull_from_mirror);
		if (x->by_digest_only && !str_is_empty(m->pull_from_mirror))
			return err_set(e, ERR_INVALID, "line %u: mirror-by-digest-only and pull-from-mirror exclude each other",
				       at->line);
	}
	return 0;
}

static int read_entry(struct arena *a, const struct json *v, struct entry *x, struct err *e)
{
	if (v->type != JSON_OBJECT)
		return err_set(e, ERR_INVALID, "line %u: registry must be tables, [[registry]]", v->line);
	if (json_read(a, v, entry_fields, JSON_STRICT, x, e) < 0)
		return -1;
	x->prefix = without_slashes(a, x->prefix);
	x->location = without_slashes(a, x->location);
	if (!x->prefix)
		x->prefix = x->location;
	if (!x->prefix)
		return err_set(e, ERR_INVALID, "line %u: a [[registry]] needs a prefix or a location", v->line);
	if (check_location(x->prefix, true, v, e) < 0 || (x->location && check_location(x->location, false, v, e) < 0))
		return -1;
	if (!x->location && !starts_with(x->prefix, "*."))
		x->location = x->prefix;
	return check_mirrors(a, x, v, e);
}

static void put_entry(struct arena *a, struct registries_conf *c, const struct entry *x)
{
	struct entry *all = c->entries.p;

	for (size_t i = 0; i < c->entries.count; i++) {
		if (streq(all[i].prefix, x->prefix)) {
			all[i] = *x;
			return;
		}
	}
	all = arena_newn0(a, struct entry, c->entries.count + 1);
	if (c->entries.count)
		memcpy(all, c->entries.p, c->entries.count * sizeof(*all));
	all[c->entries.count] = *x;
	c->entries = (struct json_vec){ all, c->entries.count + 1 };
}

static int read_entries(struct arena *a, const struct json *list, struct registries_conf *c, struct err *e)
{
	struct registries_conf mine = { 0 };

	if (list && list->type != JSON_ARRAY)
		return err_set(e, ERR_INVALID, "line %u: registry must be tables, [[registry]]", list->line);
	for (const struct json *v = list ? list->first : NULL; v; v = v->next) {
		size_t before = mine.entries.count;
		struct entry x = { 0 };

		if (read_entry(a, v, &x, e) < 0)
			return -1;
		put_entry(a, &mine, &x);
		if (mine.entries.count == before)
			return err_set(e, ERR_INVALID, "line %u: prefix \"%.200s\" comes twice in the file", v->line, x.prefix);
	}
	for (size_t i = 0; i < mine.entries.count; i++)
		put_entry(a, c, (struct entry *)mine.entries.p + i);
	return 0;
}

static int read_aliases(struct arena *a, const struct json *table, struct registries_conf *c, struct err *e)
{
	struct json_pair *all;
	size_t n = c->aliases.count;

	if (!table)
		return 0;
	if (table->type != JSON_OBJECT)
		return err_set(e, ERR_INVALID, "line %u: aliases must be a table", table->line);
	all = arena_newn0(a, struct json_pair, n + table->count + 1);
	if (n)
		memcpy(all, c->aliases.p, n * sizeof(*all));
	for (const struct json *v = table->first; v; v = v->next) {
		struct err ignored;
		struct ref full;
		size_t i = 0;

		if (v->type != JSON_STRING)
			return err_set(e, ERR_INVALID, "line %u: the alias \"%.100s\" must be a string", v->line, v->key);
		if (v->text.len && (ref_parse(a, v->text.p, &full, &ignored) < 0 || !strchr(v->text.p, '/')))
			return err_set(e, ERR_INVALID, "line %u: the alias \"%.100s\" is no full name: \"%.200s\"", v->line, v->key,
				       v->text.p);
		while (i < n && !streq(all[i].key, v->key))
			i++;
		all[i] = (struct json_pair){ (char *)v->key, (char *)v->text.p };
		n = MAX(n, i + 1);
	}
	c->aliases = (struct json_map){ all, n };
	return 0;
}

static int read_mode(const char *text, enum short_name_mode *out, struct err *e)
{
	static const char *const names[] = { [SHORT_NAMES_PERMISSIVE] = "permissive", [SHORT_NAMES_ENFORCING] = "enforcing",
					     [SHORT_NAMES_DISABLED] = "disabled" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (streq(text, names[i])) {
			*out = (enum short_name_mode)i;
			return 0;
		}
	}
	return err_set(e, ERR_INVALID, "short-name-mode \"%.100s\" is not enforcing, permissive or disabled", text);
}

int registries_conf_read(struct arena *a, struct str text, struct registries_conf *c, struct err *e)
{
	struct file f = { 0 };
	struct json *doc;

	if (toml_parse(a, text, &doc, e) < 0 || json_read(a, doc, file_fields, JSON_STRICT, &f, e) < 0)
		return -1;
	if (f.v1)
		return err_set(e, ERR_INVALID, "line %u: this is registries.conf version 1; knarr reads version 2 ([[registry]])",
			       f.v1->line);
	for (char **s = f.search; s && *s; s++) {
		*s = without_slashes(a, *s);
		if (!*s || strpbrk(*s, "/ \t\n\r\"\\?#*@"))
			return err_set(e, ERR_INVALID, "unqualified-search-registries: \"%.200s\" is no registry", *s ? *s : "");
	}
	if (f.search)
		c->search = f.search;
	if (!str_is_empty(f.mode) && read_mode(f.mode, &c->mode, e) < 0)
		return -1;
	return read_entries(a, f.entries, c, e) < 0 ? -1 : read_aliases(a, f.aliases, c, e);
}

/* --- where from ------------------------------------------------------------------------------- */

/* How much of the name the prefix stands for; 0: it does not match. */
static size_t match(const char *prefix, const char *name)
{
	size_t n = strlen(prefix), host = strcspn(name, "/");

	if (starts_with(prefix, "*.")) {
		/* ".example.com" at the end of the host's name, whose port is not written in the prefix. */
		size_t tail = n - 1, len = strcspn(name, ":/");

		return len > tail && len == host && memcmp(name + len - tail, prefix + 1, tail) == 0 ? host : 0;
	}
	return starts_with(name, prefix) && (name[n] == '\0' || name[n] == '/') ? n : 0;
}

static const struct entry *find(const struct registries_conf *c, const char *name, size_t *matched)
{
	const struct entry *best = NULL;

	for (size_t i = 0; i < c->entries.count; i++) {
		const struct entry *x = (const struct entry *)c->entries.p + i;
		size_t n = match(x->prefix, name);

		if (n && (!best || strlen(x->prefix) > strlen(best->prefix))) {
			best = x;
			*matched = n;
		}
	}
	return best;
}

/* location + what the prefix did not stand for, as a host and the repository there. */
static int make_host(struct arena *a, const struct ref *wanted, const char *location, const char *rest, bool insecure,
		     struct host *out, struct err *e)
{
	char *name = arena_printf(a, "%s%s", location, rest);
	size_t domain = strcspn(name, "/");
	struct ref ref;

	if (name[domain] != '/' || !name[domain + 1])
		return err_set(e, ERR_INVALID, "registries.conf: the location \"%.200s\" leaves no repository's name: %.200s", location,
			       name);
	if (ref_parse(a, name, &ref, e) < 0)
		return err_in(e, "registries.conf: location \"%.200s\"", location);
	host_init(a, ref.domain, out);
	out->is_origin = streq(ref.domain, wanted->domain);
	/* Not ref.path, which has "library/" before docker.io's own names: the location says what is meant. */
	out->repository = streq(ref.domain, "docker.io") ? ref.path : arena_strdup(a, name + domain + 1);
	if (insecure) {
		out->scheme = (char *)"http";
		out->tls_said = true;
		out->skip_verify = true;
	}
	return 0;
}

static bool mirror_is_for(const struct entry *x, const struct mirror *m, bool by_digest)
{
	if (x->by_digest_only || (m->pull_from_mirror && streq(m->pull_from_mirror, "digest-only")))
		return by_digest;
	return !(m->pull_from_mirror && streq(m->pull_from_mirror, "tag-only") && by_digest);
}

int registries_conf_hosts(struct arena *a, const struct registries_conf *c, const struct ref *ref, struct hosts *out,
			  bool *found, struct err *e)
{
	const char *name = ref_name(a, ref), *location;
	const struct entry *x;
	size_t matched = 0, n = 0;
	struct host *h;

	x = find(c, name, &matched);
	*found = x != NULL;
	if (!x)
		return 0;
	if (x->blocked)
		return err_set(e, ERR_DENIED, "%s: registries.conf blocks \"%s\"", name, x->prefix);
	if (x->mirrors.count >= HOSTS_MAX)
		return err_set(e, ERR_EXHAUSTED, "registries.conf: \"%s\" has more than %d mirrors", x->prefix, HOSTS_MAX - 1);
	h = arena_newn0(a, struct host, x->mirrors.count + 1);
	for (size_t i = 0; i < x->mirrors.count; i++) {
		const struct mirror *m = (const struct mirror *)x->mirrors.p + i;

		if (!mirror_is_for(x, m, ref->digest != NULL))
			continue;
		if (make_host(a, ref, m->location, name + matched, m->insecure, &h[n], e) < 0)
			return -1;
		h[n++].capabilities = HOST_PULL | HOST_RESOLVE;
	}
	location = x->location ? x->location : arena_strndup(a, name, matched);
	if (make_host(a, ref, location, name + matched, x->insecure, &h[n], e) < 0)
		return -1;
	*out = (struct hosts){ h, n + 1 };
	return 0;
}

/* --- short names ------------------------------------------------------------------------------ */

static bool names_registry(const char *text)
{
	size_t n = strcspn(text, "/");

	return text[n] == '/' && (memchr(text, '.', n) || memchr(text, ':', n) || (n == 9 && starts_with(text, "localhost")));
}

/* The alias's name with the tag or digest of `text`. */
static char *alias_of(struct arena *a, const struct registries_conf *c, const char *text)
{
	const char *slash = strrchr(text, '/'), *last = slash ? slash + 1 : text;
	size_t n = (size_t)(last - text) + strcspn(last, ":@");
	const char *full = json_map_get(&c->aliases, arena_strndup(a, text, n));

	return str_is_empty(full) ? NULL : arena_printf(a, "%s%s", full, text + n);
}

int registries_conf_names(struct arena *a, const struct registries_conf *c, const char *text, char ***out, struct err *e)
{
	char *alias;
	size_t n = 0;

	*out = NULL;
	if (names_registry(text)) {
		*out = strv_append(a, NULL, text);
		return 0;
	}
	alias = c->mode == SHORT_NAMES_DISABLED ? NULL : alias_of(a, c, text);
	if (alias) {
		*out = strv_append(a, NULL, alias);
		return 0;
	}
	for (char **s = c->search; s && *s; s++, n++)
		*out = strv_append(a, *out, arena_printf(a, "%s/%s", *s, text));
	if (n > 1 && c->mode == SHORT_NAMES_ENFORCING)
		return err_set(e, ERR_INVALID, "\"%.200s\" names no registry, and registries.conf has %zu to search "
			       "(short-name-mode is enforcing): write %.300s or another full name", text, n, (*out)[0]);
	if (n == 0)
		*out = strv_append(a, NULL, text);
	return 0;
}
