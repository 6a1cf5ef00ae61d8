#include "image/registry.h"

#include "base/clock.h"
#include "base/fs.h"
#include "image/registries.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum {
	REDIRECTS_MAX = 10,
	TRIES_MAX = 5,        /* at one host, without progress */
	TRIES_MIRROR_MAX = 2, /* where another host can be asked */
	TRIES_TOTAL_MAX = 100,
	RETRY_AFTER_MAX_S = 120,
	PEM_MAX = 4 << 20,
	ERROR_TEXT_MAX = 200,
};

/* --- loading ---------------------------------------------------------------------------------- */

static int read_pem(struct registry *r, const char *dir, const char *path, struct str *out, struct err *e)
{
	const char *full = *path == '/' ? path : path_join(&r->arena, dir, path);

	return fs_read_file(&r->arena, AT_FDCWD, full, PEM_MAX, out, e);
}

/* The system's certificates and the host's own, in one text. */
static int load_ca(struct registry *r, const char *dir, char *const *files, struct str *out, struct err *e)
{
	static const char *const bundles[] = { "/etc/ssl/certs/ca-certificates.crt",
					       "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem" };
	struct str text = { 0 }, pem;
	struct err none;

	for (size_t i = 0; i < ARRAY_SIZE(bundles) && !text.p; i++)
		(void)fs_read_file(&r->arena, AT_FDCWD, bundles[i], PEM_MAX, &text, &none);
	for (; *files; files++) {
		if (read_pem(r, dir, *files, &pem, e) < 0)
			return err_in(e, "ca");
		text.p = arena_printf(&r->arena, "%.*s\n%.*s", STR_ARG(text), STR_ARG(pem));
		text.len = strlen(text.p);
	}
	*out = text;
	return 0;
}

static int load_tls(struct registry *r, const char *dir, struct registry_host *to, struct err *e)
{
	const struct host_client *client = to->host->client.p;

	to->tls.skip_verify = to->host->skip_verify;
	if (to->host->ca && load_ca(r, dir, to->host->ca, &to->tls.ca, e) < 0)
		return -1;
	if (to->host->client.count == 0)
		return 0;
	if (read_pem(r, dir, client->cert, &to->tls.cert, e) < 0 ||
	    (client->key && read_pem(r, dir, client->key, &to->tls.key, e) < 0))
		return err_in(e, "client");
	return 0;
}

static int load_file(struct registry *r, const char *dir, struct hosts *out, struct err *e)
{
	const char *path = path_join(&r->arena, dir, "hosts.toml");
	struct str text;

	if (fs_read_file(&r->arena, AT_FDCWD, path, 1 << 20, &text, e) < 0)
		return -1;
	if (hosts_parse(&r->arena, text, r->ref.domain, out, e) < 0)
		return err_in(e, "%s", path);
	return 0;
}

/* registries.conf, where it knows the repository; else the registry itself. */
static int hosts_of_registries_conf(struct registry *r, struct hosts *out, struct err *e)
{
	struct registries_conf conf = { 0 };
	bool found = false;

	if (r->start->registries_conf && (registries_load(&r->arena, r->start->registries_conf, &conf, e) < 0 ||
					  registries_conf_hosts(&r->arena, &conf, &r->ref, out, &found, e) < 0))
		return -1;
	if (!found)
		hosts_default(&r->arena, r->ref.domain, out);
	return 0;
}

/* The first folder that is there decides; *dir is NULL where none is. */
static int find_hosts(struct registry *r, const char **dir, struct hosts *out, struct err *e)
{
	char **folders = hosts_folders(&r->arena, r->ref.domain);

	for (char **root = r->start->hosts_dirs; root && *root; root++) {
		for (char **f = folders; *f; f++) {
			*dir = path_join(&r->arena, *root, *f);
			if (load_file(r, *dir, out, e) == 0)
				return 0;
			if (e->kind != ERR_NOT_FOUND)
				return -1;
		}
	}
	*dir = NULL;
	return hosts_of_registries_conf(r, out, e);
}

/* HOST/{*.crt,*.cert,*.key} of a folder as docker, podman and CRI-O have it (containers-certs.d(5)). */
static int load_certs(struct registry *r, struct registry_host *to, struct err *e)
{
	char **ca = NULL;

	for (char **root = r->start->certs_dirs; root && *root; root++) {
		const char *folder = path_join(&r->arena, *root, to->host->authority);
		char **names;

		if (list_folder(&r->arena, folder, &names, e) < 0)
			return -1;
		if (!names)
			continue;
		for (; *names; names++) {
			char *path = path_join(&r->arena, folder, *names), *key;

			if (ends_with(path, ".crt"))
				ca = strv_append(&r->arena, ca, path);
			if (!ends_with(path, ".cert") || to->tls.cert.p)
				continue;
			key = arena_printf(&r->arena, "%.*s.key", (int)(strlen(path) - strlen(".cert")), path);
			if (read_pem(r, "/", path, &to->tls.cert, e) < 0 || read_pem(r, "/", key, &to->tls.key, e) < 0)
				return err_in(e, "client certificate");
		}
		break;
	}
	return ca ? load_ca(r, "/", ca, &to->tls.ca, e) : 0;
}

static const char *repository_at(const struct registry *r, const struct registry_host *h)
{
	return h->host->repository ? h->host->repository : r->ref.path;
}

int registry_load(struct registry *r, const struct pull_message *start, struct err *e)
{
	const char *dir = NULL;
	struct hosts hosts;

	lock_init(&r->lock);
	r->start = start;
	if (ref_parse(&r->arena, start->reference ? start->reference : "", &r->ref, e) < 0 ||
	    find_hosts(r, &dir, &hosts, e) < 0)
		return -1;
	for (size_t i = 0; i < hosts.n; i++) {
		r->hosts[i].host = &hosts.host[i];
		if (!dir && load_certs(r, &r->hosts[i], e) < 0)
			return err_in(e, "%s", hosts.host[i].authority);
		if (load_tls(r, dir ? dir : "/", &r->hosts[i], e) < 0)
			return err_in(e, "%s/hosts.toml: %s", dir ? dir : "", hosts.host[i].authority);
	}
	r->nhosts = hosts.n;
	return 0;
}

/* --- one request ------------------------------------------------------------------------------ */

/* What the registry says of an error, {"errors":[{"code","message"}]}; "" where it says nothing. */
struct api_error {
	char *code, *message;
};
struct api_errors {
	struct json_vec errors;
};
static const struct json_field api_error_fields[] = {
	{ "code", JSON_STR, offsetof(struct api_error, code) },
	{ "message", JSON_STR, offsetof(struct api_error, message) },
	{ 0 },
};
static const struct json_field api_errors_fields[] = {
	{ "errors", JSON_OBJV, offsetof(struct api_errors, errors), 0, api_error_fields,
	  sizeof(struct api_error) },
	{ 0 },
};

static const char *api_text(struct arena *a, const struct http_reply *reply)
{
	const struct api_error *first;
	struct api_errors x = { 0 };
	struct err none;

	if (json_load(a, reply->body, api_errors_fields, 0, &x, &none) < 0 || x.errors.count == 0)
		return "";
	first = x.errors.p;
	return arena_printf(a, ": %.*s", ERROR_TEXT_MAX,
			    utf8_clean(a, first->message ? first->message : first->code ? first->code : ""));
}

static enum registry_outcome judge(struct arena *a, const char *url, bool writes, const struct http_reply *reply,
				   struct err *e)
{
	const char *text = api_text(a, reply);
	enum registry_outcome outcome = REGISTRY_NEXT;
	enum err_kind kind = ERR_UNAVAILABLE;

	if (reply->status == 200 || reply->status == 206 || (writes && reply->status >= 200 && reply->status < 300))
		return REGISTRY_OK;
	if (reply->status == 404)
		kind = ERR_NOT_FOUND;
	else if (reply->status == 401)
		kind = ERR_UNAUTHENTICATED;
	else if (reply->status == 403)
		kind = ERR_DENIED;
	else if (reply->status == 408 || reply->status == 425 || reply->status == 429 ||
		 reply->status >= 500)
		outcome = REGISTRY_RETRY;
	if (reply->status == 429)
		kind = ERR_EXHAUSTED;
	(void)err_set(e, kind, "%.400s: %s%s", url,
		      reply->status == 404 ? "not found (404)" :
		      reply->status == 401 ? "the registry refuses the credentials (401)" :
		      reply->status == 403 ? "access denied (403)" :
		      reply->status == 429 ? "too many requests (429)" :
					     arena_printf(a, "the registry answers %ld", reply->status),
		      text);
	return outcome;
}

static char *first_url(struct registry *r, const struct registry_host *h, bool plain, const char *what,
		       struct arena *a)
{
	const struct host *x = h->host;
	bool tls = streq(x->scheme, "https") || (x->tls_said && !ends_with(x->authority, ":80") && !plain);

	return arena_printf(a, "%s://%s%s/%s/%s%s%s", tls ? "https" : "http", x->authority, x->path,
			    repository_at(r, h), what, x->is_origin ? "" : strchr(what, '?') ? "&ns=" : "?ns=",
			    x->is_origin ? "" : r->ref.domain);
}

/* "https://host:port" of a URL. */
static struct str origin(const char *url)
{
	const char *host = strstr(url, "://");

	return (struct str){ url, host ? (size_t)(host - url) + 3 + strcspn(host + 3, "/?#") : 0 };
}

/* The Location of a reply, absolute. */
static int next_url(struct arena *a, const char *url, const char *location, char **out, struct err *e)
{
	struct str base = origin(url);

	if (!location)
		return err_set(e, ERR_UNAVAILABLE, "%.400s: redirects to nowhere", url);
	if (starts_with(location, "//"))
		*out = arena_printf(a, "%.*s:%s", (int)strcspn(url, ":"), url, location);
	else if (*location == '/')
		*out = arena_printf(a, "%.*s%s", STR_ARG(base), location);
	else if (starts_with(location, "https://") || starts_with(location, "http://"))
		*out = arena_strdup(a, location);
	else if (strstr(location, "://"))
		return err_set(e, ERR_UNAVAILABLE, "%.400s: redirects to \"%.100s\", which is not http", url,
			       location);
	else
		*out = arena_printf(a, "%.*s/%s", (int)(strrchr(url, '/') - url), url, location);
	if (starts_with(url, "https://") && starts_with(*out, "http://"))
		return err_set(e, ERR_UNAVAILABLE, "%.400s: redirects from https to plain http", url);
	return 0;
}

static bool is_redirect(long status)
{
	return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

static enum registry_outcome transport_outcome(enum http_failure failure)
{
	return failure == HTTP_BROKEN ? REGISTRY_RETRY : failure == HTTP_SINK ? REGISTRY_STOP : REGISTRY_NEXT;
}

struct host_facts {
	bool plain;
	const char *authorization;
	unsigned logins;
};

/* One request and its redirects. Beyond the registry's own origin neither login nor headers go. */
static int follow(struct registry *r, struct registry_host *h, const struct host_facts *facts, struct http *http,
		  struct arena *a, const struct registry_get *g, struct http_reply *out, enum http_failure *failure,
		  struct err *e)
{
	char *first = first_url(r, h, facts->plain, g->what, a), *url = g->url ? (char *)g->url : first;
	struct str home = origin(first);
	struct http_request q = { .method = g->method, .accept = g->accept, .tls = &h->tls,
				  .form = g->form, .body = g->body, .body_ctx = g->body_ctx, .body_size = g->body_size,
				  .content_type = g->content_type, .range_from = g->range_from, .sink = g->sink,
				  .sink_ctx = g->sink_ctx,
				  .connect_timeout_ns = h->host->dial_timeout_ns,
				  .idle_ns = r->start->idle_ms * NS_PER_MS };

	for (unsigned i = 0; i <= REDIRECTS_MAX; i++) {
		bool at_home = str_eq(origin(url), home);

		q.url = url;
		q.authorization = at_home ? facts->authorization : NULL;
		q.headers = at_home ? h->host->headers : (struct json_vec){ 0 };
		if (http_perform(http, a, &q, out, failure, e) < 0)
			return -1;
		if (!is_redirect(out->status))
			return 0;
		*failure = HTTP_REFUSED;
		if (next_url(a, url, out->location, &url, e) < 0)
			return -1;
	}
	*failure = HTTP_REFUSED;
	return err_set(e, ERR_UNAVAILABLE, "%.*s: more than %d redirects", STR_ARG(home), REDIRECTS_MAX);
}

static struct host_facts facts_of(struct registry *r, const struct registry_host *h)
{
	LOCKED(&r->lock);
	return (struct host_facts){ h->plain, h->authorization, h->logins };
}

/* Another thread may have logged in meanwhile; then its login is tried. */
static int login(struct registry *r, struct registry_host *h, const struct host_facts *had, struct http *http,
		 struct arena *a, const char *challenge, struct err *e)
{
	struct host_facts now = facts_of(r, h);
	char *authorization;

	if (now.logins != had->logins)
		return 0;
	if (auth_answer(r, h, http, a, challenge, &authorization, e) < 0)
		return -1;
	LOCKED(&r->lock);
	h->authorization = arena_strdup(&r->arena, authorization);
	h->logins++;
	return 0;
}

enum registry_outcome registry_get(struct registry *r, size_t host, struct http *http, struct arena *a,
				   const struct registry_get *g, struct http_reply *out, struct err *e)
{
	enum { LOGINS_MAX = 2 };
	struct registry_host *h = &r->hosts[host];
	enum http_failure failure;

	for (unsigned logins = 0;;) {
		struct host_facts facts = facts_of(r, h);
		char *url = first_url(r, h, facts.plain, g->what, a);

		url[strcspn(url, "?")] = '\0';
		if (follow(r, h, &facts, http, a, g, out, &failure, e) < 0) {
			if (failure == HTTP_NOT_TLS && streq(h->host->scheme, "http") && !facts.plain) {
				LOCKED(&r->lock);
				h->plain = true;
				continue;
			}
			return transport_outcome(failure);
		}
		if (out->status != 401 || logins++ == LOGINS_MAX)
			return judge(a, url, g->writes, out, e);
		if (login(r, h, &facts, http, a, out->challenge, e) < 0) {
			(void)err_in(e, "%.400s", url);
			return e->kind == ERR_UNAVAILABLE ? REGISTRY_RETRY : REGISTRY_NEXT;
		}
	}
}

/* --- with patience ---------------------------------------------------------------------------- */

static bool usable(struct registry *r, size_t host, unsigned capability)
{
	LOCKED(&r->lock);
	return (r->hosts[host].host->capabilities & capability) && !r->hosts[host].bad;
}

void registry_host_is_bad(struct registry *r, size_t host)
{
	LOCKED(&r->lock);
	r->hosts[host].bad = true;
}

bool registry_has_other(struct registry *r, unsigned capability)
{
	for (size_t i = 0; i < r->nhosts; i++) {
		if (usable(r, i, capability))
			return true;
	}
	return false;
}

static void wait_before_retry(unsigned tries, int64_t retry_after_s)
{
	/* 0.25, 0.5, 1, 2… s, the half of it at random, so that a crowd does not come back at once. */
	int64_t ms = 250 << MIN(tries, 7u), ns;

	ms = ms / 2 + random() % (ms / 2 + 1);
	ns = retry_after_s >= 0 ? retry_after_s * NS_PER_S + ms * NS_PER_MS / 4 : ms * NS_PER_MS;
	(void)nanosleep(&(struct timespec){ ns / NS_PER_S, ns % NS_PER_S }, NULL);
}

static enum registry_outcome try_host(struct registry *r, size_t host, unsigned tries_max, struct http *h,
				      struct arena *a, struct registry_get *g,
				      bool (*before)(struct registry_get *g), struct http_reply *out,
				      struct err *e)
{
	enum registry_outcome outcome = REGISTRY_NEXT;

	for (unsigned tries = 0, total = 0; tries < tries_max && total < TRIES_TOTAL_MAX; total++) {
		*out = (struct http_reply){ .retry_after_s = -1 };
		if (before && before(g))
			tries = 0;
		outcome = registry_get(r, host, h, a, g, out, e);
		if (outcome != REGISTRY_RETRY)
			return outcome;
		if (out->retry_after_s > RETRY_AFTER_MAX_S) {
			(void)err_in(e, "the registry asks to come back in %lld s",
				     (long long)out->retry_after_s);
			return outcome;
		}
		if (++tries < tries_max)
			wait_before_retry(tries, out->retry_after_s);
	}
	return outcome;
}

enum registry_outcome registry_get_patiently(struct registry *r, size_t host, struct http *h, struct arena *a,
					     struct registry_get *g, struct http_reply *out, struct err *e)
{
	return try_host(r, host, TRIES_MAX, h, a, g, NULL, out, e);
}

int registry_push_host(struct registry *r, size_t *host, struct err *e)
{
	for (size_t i = 0; i < r->nhosts; i++) {
		if (!usable(r, i, HOST_PUSH))
			continue;
		*host = i;
		return 0;
	}
	return err_set(e, ERR_UNAVAILABLE, "%s: no host of hosts.toml or registries.conf may be pushed to", r->ref.domain);
}

int registry_location(struct registry *r, size_t host, struct arena *a, const char *what, const char *location, char **out,
		      struct err *e)
{
	struct registry_host *h = &r->hosts[host];

	return next_url(a, first_url(r, h, facts_of(r, h).plain, what, a), location, out, e);
}

void registry_pause(unsigned tries, const struct http_reply *reply)
{
	wait_before_retry(tries, MIN(reply->retry_after_s, (int64_t)RETRY_AFTER_MAX_S));
}

/* A wish to log in, or to be let in, says more than that a mirror was away. */
static bool says_more(const struct err *e, const struct err *than)
{
	return than->kind == ERR_NONE || e->kind != ERR_NOT_FOUND || than->kind == ERR_NOT_FOUND;
}

int registry_get_anywhere(struct registry *r, unsigned capability, struct http *h, struct arena *a,
			  struct registry_get *g, bool (*before)(struct registry_get *g),
			  struct http_reply *out, size_t *host, struct err *e)
{
	struct err worst = { .kind = ERR_NONE };
	const char *others = "";

	for (size_t i = 0; i < r->nhosts; i++) {
		enum registry_outcome outcome;
		bool last = i + 1 == r->nhosts;

		if (!usable(r, i, capability))
			continue;
		outcome = try_host(r, i, last ? TRIES_MAX : TRIES_MIRROR_MAX, h, a, g, before, out, e);
		*host = i;
		if (outcome == REGISTRY_OK)
			return 0;
		if (outcome == REGISTRY_STOP)
			return -1;
		if (!last && e->kind == ERR_UNAVAILABLE)
			registry_host_is_bad(r, i);
		if (worst.kind != ERR_NONE)
			others = arena_printf(a, "%s; %.300s", others, says_more(e, &worst) ? worst.msg : e->msg);
		if (says_more(e, &worst))
			worst = *e;
	}
	if (worst.kind == ERR_NONE)
		return err_set(e, ERR_UNAVAILABLE, "%s: no host of hosts.toml or registries.conf may be asked%s", r->ref.domain,
			       capability & HOST_RESOLVE ? " to resolve a tag" : "");
	return err_set(e, worst.kind, "%s%s", worst.msg, others);
}
