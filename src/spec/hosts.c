#include "spec/hosts.h"

#include "base/clock.h"
#include "spec/toml.h"

struct entry {
	char **capabilities;
	const struct json *ca, *client, *header;
	bool *skip_verify;
	bool override_path;
	char *dial_timeout;
};

struct file {
	struct entry top; /* the server's own settings */
	char *server;
	const struct json *hosts;
};

#define ENTRY_FIELDS(base)                                                   \
	{ "capabilities", JSON_STRV, (base) + offsetof(struct entry, capabilities) },  \
	{ "ca", JSON_ANY, (base) + offsetof(struct entry, ca) },                       \
	{ "client", JSON_ANY, (base) + offsetof(struct entry, client) },               \
	{ "header", JSON_ANY, (base) + offsetof(struct entry, header) },               \
	{ "skip_verify", JSON_OPT_BOOL, (base) + offsetof(struct entry, skip_verify) }, \
	{ "override_path", JSON_BOOL, (base) + offsetof(struct entry, override_path) }, \
	{ "dial_timeout", JSON_STR, (base) + offsetof(struct entry, dial_timeout) }

static const struct json_field entry_fields[] = {
	ENTRY_FIELDS(0),
	{ 0 },
};

static const struct json_field file_fields[] = {
	ENTRY_FIELDS(offsetof(struct file, top)),
	{ "server", JSON_STR, offsetof(struct file, server) },
	{ "host", JSON_ANY, offsetof(struct file, hosts) },
	{ 0 },
};

static int wrong(const struct json *v, const char *what, struct err *e)
{
	return err_set(e, ERR_INVALID, "line %u: %s", v->line, what);
}

/* "x", or ["x", "y"]. */
static int read_texts(struct arena *a, const struct json *v, const char *what, char ***out, struct err *e)
{
	char **texts;
	size_t n = 0;

	*out = NULL;
	if (!v)
		return 0;
	texts = arena_newn0(a, char *, v->count + 2);
	if (v->type == JSON_STRING) {
		texts[n++] = (char *)v->text.p;
	} else if (v->type == JSON_ARRAY) {
		for (const struct json *m = v->first; m; m = m->next) {
			if (m->type != JSON_STRING)
				return wrong(m, what, e);
			texts[n++] = (char *)m->text.p;
		}
	} else {
		return wrong(v, what, e);
	}
	*out = texts;
	return 0;
}

/* "pem", ["pem", …] or [["cert", "key"], …]. */
static int read_clients(struct arena *a, const struct json *v, struct json_vec *out, struct err *e)
{
	static const char what[] = "client must be a path, or an array of paths or of pairs of paths";
	struct host_client *c;
	size_t n = 0;

	if (!v)
		return 0;
	c = arena_newn0(a, struct host_client, v->count + 1);
	if (v->type == JSON_STRING) {
		c[n++].cert = (char *)v->text.p;
	} else if (v->type != JSON_ARRAY) {
		return wrong(v, what, e);
	}
	for (const struct json *m = v->type == JSON_ARRAY ? v->first : NULL; m; m = m->next, n++) {
		if (m->type == JSON_STRING) {
			c[n].cert = (char *)m->text.p;
			continue;
		}
		if (m->type != JSON_ARRAY || m->count != 2 || m->first->type != JSON_STRING ||
		    m->first->next->type != JSON_STRING)
			return wrong(m, what, e);
		c[n].cert = (char *)m->first->text.p;
		if (m->first->next->text.len)
			c[n].key = (char *)m->first->next->text.p;
	}
	*out = (struct json_vec){ c, n };
	return 0;
}

static bool header_is_valid(const char *name, const char *value)
{
	static const char token[] = "!#$%&'*+-.^_`|~";

	if (!*name)
		return false;
	for (const char *c = name; *c; c++) {
		if (!((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') ||
		      strchr(token, *c)))
			return false;
	}
	for (const char *c = value; *c; c++) {
		if ((unsigned char)*c < 0x20 && *c != '\t')
			return false;
	}
	return true;
}

static int read_headers(struct arena *a, const struct json *v, struct json_vec *out, struct err *e)
{
	struct json_pair *p;
	size_t n = 0, most = 0;

	if (!v)
		return 0;
	if (v->type != JSON_OBJECT)
		return wrong(v, "header must be a table", e);
	for (const struct json *m = v->first; m; m = m->next)
		most += m->type == JSON_ARRAY ? m->count : 1;
	p = arena_newn0(a, struct json_pair, most + 1);
	for (const struct json *m = v->first; m; m = m->next) {
		char **texts;

		if (read_texts(a, m, "a header must be a string or an array of strings", &texts, e) < 0)
			return -1;
		for (; *texts; texts++) {
			if (!header_is_valid(m->key, *texts))
				return wrong(m, "not a valid HTTP header", e);
			p[n++] = (struct json_pair){ (char *)m->key, *texts };
		}
	}
	*out = (struct json_vec){ p, n };
	return 0;
}

static int read_capabilities(char *const *names, unsigned *out, struct err *e)
{
	static const struct {
		const char *name;
		unsigned bit;
	} known[] = { { "pull", HOST_PULL }, { "resolve", HOST_RESOLVE }, { "push", HOST_PUSH },
		      { "referrers", 0 } };

	*out = names ? 0 : HOST_PULL | HOST_RESOLVE | HOST_PUSH;
	for (; names && *names; names++) {
		size_t i = 0;

		while (i < ARRAY_SIZE(known) && !streq(known[i].name, *names))
			i++;
		if (i == ARRAY_SIZE(known))
			return err_set(e, ERR_INVALID, "unknown capability \"%.50s\" (pull, resolve, push, "
				       "referrers)", *names);
		*out |= known[i].bit;
	}
	return 0;
}

static bool authority_is_valid(struct str s)
{
	for (size_t i = 0; i < s.len; i++) {
		char c = s.p[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		      c == '.' || c == '-' || c == '_' || c == ':' || c == '[' || c == ']'))
			return false;
	}
	return s.len > 0;
}

static bool path_is_valid(struct str s)
{
	for (size_t i = 0; i < s.len; i++) {
		if ((unsigned char)s.p[i] <= 0x20 || strchr("?#\"<>\\^`{|}\x7f", s.p[i]))
			return false;
	}
	return true;
}

/* "https://host:port/path"; without a scheme https. */
static int parse_url(struct arena *a, const char *url, const struct entry *x, struct host *h,
		     struct err *e)
{
	const char *rest = url;
	struct str authority, path;

	h->scheme = (char *)"https";
	if (starts_with(url, "https://")) {
		rest += strlen("https://");
	} else if (starts_with(url, "http://")) {
		rest += strlen("http://");
		h->scheme = (char *)"http";
	} else if (strstr(url, "://")) {
		return err_set(e, ERR_INVALID, "host \"%.200s\": only http and https are known", url);
	}
	path = str_of(rest);
	authority = str_cut(&path, '/');
	while (path.len > 0 && path.p[path.len - 1] == '/')
		path.len--;
	if (!authority_is_valid(authority) || !path_is_valid(path))
		return err_set(e, ERR_INVALID, "host \"%.200s\" is not a URL", url);
	h->authority = str_dup(a, authority);
	if (x->override_path)
		h->path = path.len ? arena_printf(a, "/%.*s", STR_ARG(path)) : arena_strdup(a, "");
	else if (path.len == 0)
		h->path = arena_strdup(a, "/v2");
	else if (str_eqz(path, "v2") || (path.len > 3 && memcmp(path.p + path.len - 3, "/v2", 3) == 0))
		h->path = arena_printf(a, "/%.*s", STR_ARG(path));
	else
		h->path = arena_printf(a, "/%.*s/v2", STR_ARG(path));
	return 0;
}

static int read_entry(struct arena *a, const struct entry *x, struct host *h, struct err *e)
{
	h->dial_timeout_ns = HOST_DIAL_TIMEOUT_S * NS_PER_S;
	if (x->dial_timeout &&
	    clock_parse_duration(str_of(x->dial_timeout), &h->dial_timeout_ns, e) < 0)
		return err_in(e, "dial_timeout");
	if (read_capabilities(x->capabilities, &h->capabilities, e) < 0 ||
	    read_texts(a, x->ca, "ca must be a path or an array of paths", &h->ca, e) < 0 ||
	    read_clients(a, x->client, &h->client, e) < 0 ||
	    read_headers(a, x->header, &h->headers, e) < 0)
		return -1;
	h->skip_verify = x->skip_verify && *x->skip_verify;
	h->tls_said = x->ca || x->client || x->skip_verify;
	return 0;
}

static void origin_of(struct arena *a, const char *registry, struct host *h)
{
	h->is_origin = true;
	h->path = (char *)"/v2";
	h->scheme = (char *)"https";
	h->authority = streq(registry, "docker.io") ? (char *)"registry-1.docker.io" : arena_strdup(a, registry);
	if (!host_is_loopback(registry) || ends_with(registry, ":443") || !strchr(registry, ':'))
		return;
	h->scheme = (char *)"http";
	if (ends_with(registry, ":80") || h->tls_said)
		return;
	h->tls_said = true;
	h->skip_verify = true;
}

static int read_mirror(struct arena *a, const struct json *v, struct host *h, struct err *e)
{
	struct entry x = { 0 };

	if (v->type != JSON_OBJECT)
		return wrong(v, "[host.\"URL\"] must be a table", e);
	if (json_read(a, v, entry_fields, JSON_STRICT, &x, e) < 0 || parse_url(a, v->key, &x, h, e) < 0 ||
	    read_entry(a, &x, h, e) < 0)
		return err_in(e, "host.\"%.200s\" (line %u)", v->key, v->line);
	return 0;
}

static bool is_same_host(const char *registry, const struct host *h)
{
	return streq(registry, h->authority) ||
	       (streq(registry, "docker.io") && streq(h->authority, "registry-1.docker.io"));
}

int hosts_parse(struct arena *a, struct str text, const char *registry, struct hosts *out, struct err *e)
{
	struct file f = { 0 };
	struct json *doc;
	struct host *h;
	size_t n = 0;

	if (toml_parse(a, text, &doc, e) < 0 || json_read(a, doc, file_fields, JSON_STRICT, &f, e) < 0)
		return -1;
	if (f.hosts && f.hosts->type != JSON_OBJECT)
		return wrong(f.hosts, "host must be a table", e);
	if (f.hosts && f.hosts->count > HOSTS_MAX)
		return err_set(e, ERR_EXHAUSTED, "more than %d hosts", HOSTS_MAX);
	h = arena_newn0(a, struct host, (f.hosts ? f.hosts->count : 0) + 1);
	for (const struct json *v = f.hosts ? f.hosts->first : NULL; v; v = v->next, n++) {
		if (read_mirror(a, v, &h[n], e) < 0)
			return -1;
		h[n].is_origin = is_same_host(registry, &h[n]);
	}
	if (read_entry(a, &f.top, &h[n], e) < 0)
		return -1;
	if (!str_is_empty(f.server)) {
		if (parse_url(a, f.server, &f.top, &h[n], e) < 0)
			return err_in(e, "server");
		/* "docker.io" is what people write for its API host. */
		if (streq(h[n].authority, "docker.io"))
			h[n].authority = (char *)"registry-1.docker.io";
		h[n].is_origin = is_same_host(registry, &h[n]);
	} else {
		origin_of(a, registry, &h[n]);
	}
	*out = (struct hosts){ h, n + 1 };
	return 0;
}

void host_init(struct arena *a, const char *registry, struct host *out)
{
	*out = (struct host){ .capabilities = HOST_PULL | HOST_RESOLVE | HOST_PUSH,
			      .dial_timeout_ns = HOST_DIAL_TIMEOUT_S * NS_PER_S };
	origin_of(a, registry, out);
}

void hosts_default(struct arena *a, const char *registry, struct hosts *out)
{
	struct host *h = arena_new0(a, struct host);

	host_init(a, registry, h);
	*out = (struct hosts){ h, 1 };
}

static bool is_ipv4_loopback(struct str host)
{
	unsigned parts = 0;

	if (!str_starts(host, "127."))
		return false;
	while (host.p) {
		struct str part = str_cut(&host, '.');
		uint64_t n;
		struct err e;

		if (str_to_u64(part, &n, &e) < 0 || n > 255)
			return false;
		parts++;
	}
	return parts == 4;
}

bool host_is_loopback(const char *authority)
{
	struct str rest = str_of(authority), host;

	if (*authority == '[')
		return starts_with(authority, "[::1]");
	host = str_cut(&rest, ':');
	return str_eqz(host, "localhost") || is_ipv4_loopback(host);
}

char **hosts_folders(struct arena *a, const char *registry)
{
	const char *close = strrchr(registry, ']'), *colon = strrchr(registry, ':');
	char **v = NULL;

	if (colon && colon > registry && (!close || colon > close))
		v = strv_append(a, v, arena_printf(a, "%.*s_%s_", (int)(colon - registry), registry, colon + 1));
	v = strv_append(a, v, registry);
	return strv_append(a, v, "_default");
}
