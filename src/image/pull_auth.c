#include "image/registry.h"

#include "spec/challenge.h"

#include <strings.h>

enum { TOKEN_MAX = 65536 };

struct credentials {
	const char *username, *password; /* NULL: none */
	const char *identity_token, *registry_token;
};

/* --- base64 ----------------------------------------------------------------------------------- */

static const char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static char *base64_encode(struct arena *a, const char *text)
{
	size_t n = strlen(text), o = 0;
	char *out = arena_alloc(a, (n + 2) / 3 * 4 + 1);

	for (size_t i = 0; i < n; i += 3) {
		uint32_t v = (uint32_t)(unsigned char)text[i] << 16;

		v |= i + 1 < n ? (uint32_t)(unsigned char)text[i + 1] << 8 : 0;
		v |= i + 2 < n ? (uint32_t)(unsigned char)text[i + 2] : 0;
		out[o++] = base64_digits[v >> 18 & 63];
		out[o++] = base64_digits[v >> 12 & 63];
		out[o++] = i + 1 < n ? base64_digits[v >> 6 & 63] : '=';
		out[o++] = i + 2 < n ? base64_digits[v & 63] : '=';
	}
	out[o] = '\0';
	return out;
}

/* NULL: not base64. Padding may be missing. */
static char *base64_decode(struct arena *a, const char *text)
{
	size_t n = strcspn(text, "="), o = 0;
	char *out = arena_alloc(a, n + 1);
	uint32_t v = 0;
	unsigned bits = 0;

	for (size_t i = 0; i < n; i++) {
		const char *digit = memchr(base64_digits, text[i], 64);

		if (!digit)
			return NULL;
		v = v << 6 | (uint32_t)(digit - base64_digits);
		bits += 6;
		if (bits < 8)
			continue;
		bits -= 8;
		out[o] = (char)(v >> bits & 0xff);
		if (!out[o++])
			return NULL;
	}
	out[o] = '\0';
	return out;
}

/* --- which credentials ------------------------------------------------------------------------ */

static bool is_docker_hub(const char *authority)
{
	return streq(authority, "docker.io") || streq(authority, "index.docker.io") ||
	       streq(authority, "registry-1.docker.io");
}

bool auth_is_for(const char *server_address, const char *registry, const struct host *host)
{
	struct str rest, authority;

	if (str_is_empty(server_address))
		return true;
	rest = str_of(server_address);
	if (str_starts(rest, "https://"))
		rest = str_of(server_address + strlen("https://"));
	else if (str_starts(rest, "http://"))
		rest = str_of(server_address + strlen("http://"));
	authority = str_cut(&rest, '/');
	if (str_eqz(authority, host->authority))
		return true;
	if (!host->is_origin)
		return false;
	return str_eqz(authority, registry) ||
	       (is_docker_hub(host->authority) &&
		(str_eqz(authority, "docker.io") || str_eqz(authority, "index.docker.io")));
}

static int find_credentials(struct registry *r, const struct registry_host *host, struct arena *a,
			    struct credentials *out, struct err *e)
{
	const struct pull_message *s = r->start;
	struct credentials c = { 0 };

	if (auth_is_for(s->server_address, r->ref.domain, host->host)) {
		c.identity_token = str_is_empty(s->identity_token) ? NULL : s->identity_token;
		c.registry_token = str_is_empty(s->registry_token) ? NULL : s->registry_token;
		if (!str_is_empty(s->username)) {
			c.username = s->username;
			c.password = s->password ? s->password : "";
		} else if (!str_is_empty(s->auth)) {
			char *both = base64_decode(a, s->auth), *colon = both ? strchr(both, ':') : NULL;

			if (!colon)
				return err_set(e, ERR_INVALID, "the auth field of the credentials is not the "
					       "base64 of user:password");
			*colon = '\0';
			c.username = both;
			c.password = colon + 1;
		}
	}
	*out = c;
	return 0;
}

/* --- tokens ----------------------------------------------------------------------------------- */

struct token_reply {
	char *token, *access_token;
};

static const struct json_field token_fields[] = {
	{ "token", JSON_STR, offsetof(struct token_reply, token) },
	{ "access_token", JSON_STR, offsetof(struct token_reply, access_token) },
	{ 0 },
};

static char *url_escape(struct arena *a, const char *text)
{
	char *out = arena_alloc(a, 3 * strlen(text) + 1), *o = out;

	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		    strchr("-._~", c)) {
			*o++ = *text;
		} else {
			*o++ = '%';
			*o++ = "0123456789ABCDEF"[c >> 4];
			*o++ = "0123456789ABCDEF"[c & 15];
		}
	}
	*o = '\0';
	return out;
}

static char *basic(struct arena *a, const struct credentials *c)
{
	return arena_printf(a, "Basic %s", base64_encode(a, arena_printf(a, "%s:%s", c->username, c->password)));
}

/* A realm that the registry made up must not get the password in the clear. */
static int check_realm(const struct registry_host *host, const char *realm, bool secret, struct err *e)
{
	if (!realm || (!starts_with(realm, "https://") && !starts_with(realm, "http://")))
		return err_set(e, ERR_INVALID, "%s: its token service \"%.200s\" is not a URL",
			       host->host->authority, realm ? realm : "");
	if (secret && starts_with(realm, "http://") && !host->plain && streq(host->host->scheme, "https") &&
	    !host_is_loopback(realm + strlen("http://")))
		return err_set(e, ERR_DENIED, "%s: its token service \"%.200s\" is plain http: the password is "
			       "not sent there", host->host->authority, realm);
	return 0;
}

static int ask_token(struct registry *r, const struct registry_host *host, struct http *h, struct arena *a,
		     const struct challenge *c, const struct credentials *k, bool post,
		     struct http_reply *reply, struct err *e)
{
	const char *scope = c->scope ? c->scope : arena_printf(a, "repository:%s:pull",
								host->host->repository ? host->host->repository : r->ref.path);
	const char *query = arena_printf(a, "scope=%s%s%s", url_escape(a, scope), c->service ? "&service=" : "",
					 c->service ? url_escape(a, c->service) : "");
	struct http_request q = { .url = c->realm, .method = "GET", .tls = &host->tls,
				  .connect_timeout_ns = host->host->dial_timeout_ns,
				  .idle_ns = r->start->idle_ms * INT64_C(1000000) };
	enum http_failure failure;

	if (post) {
		q.method = "POST";
		q.form = arena_printf(a, "grant_type=refresh_token&client_id=knarr&refresh_token=%s&%s",
				      url_escape(a, k->identity_token), query);
	} else {
		q.url = arena_printf(a, "%s%c%s%s%s", c->realm, strchr(c->realm, '?') ? '&' : '?', query,
				     k->username ? "&account=" : "", k->username ? url_escape(a, k->username) : "");
		q.authorization = k->username ? basic(a, k) : NULL;
	}
	/* The private CA of a host is for that host; a token service elsewhere is checked as any. */
	if (http_perform(h, a, &q, reply, &failure, e) < 0)
		return err_in(e, "token service");
	return 0;
}

static int take_token(struct arena *a, const char *realm, const struct http_reply *reply, char **out,
		      struct err *e)
{
	struct token_reply t = { 0 };
	const char *token;

	if (reply->status == 401 || reply->status == 403)
		return err_set(e, ERR_UNAUTHENTICATED, "the token service %.200s refuses the credentials (%ld)",
			       realm, reply->status);
	if (reply->status != 200)
		return err_set(e, ERR_UNAVAILABLE, "the token service %.200s answers %ld", realm, reply->status);
	if (json_load(a, reply->body, token_fields, 0, &t, e) < 0)
		return err_in(e, "the token service %.200s", realm);
	token = str_is_empty(t.token) ? t.access_token : t.token;
	if (str_is_empty(token) || strlen(token) > TOKEN_MAX || strpbrk(token, "\r\n"))
		return err_set(e, ERR_INVALID, "the token service %.200s gives no token", realm);
	*out = arena_printf(a, "Bearer %s", token);
	return 0;
}

static int answer_bearer(struct registry *r, const struct registry_host *host, struct http *h, struct arena *a,
			 const struct challenge *c, const struct credentials *k, char **out, struct err *e)
{
	struct http_reply reply;
	bool post = k->identity_token != NULL;

	if (k->registry_token) {
		*out = arena_printf(a, "Bearer %s", k->registry_token);
		return 0;
	}
	if (check_realm(host, c->realm, k->username || post, e) < 0 ||
	    ask_token(r, host, h, a, c, k, post, &reply, e) < 0)
		return -1;
	/* Older token services know only GET. */
	if (post && (reply.status == 404 || reply.status == 405) && k->username &&
	    ask_token(r, host, h, a, c, k, false, &reply, e) < 0)
		return -1;
	return take_token(a, c->realm, &reply, out, e);
}

int auth_answer(struct registry *r, const struct registry_host *host, struct http *h, struct arena *a,
		const char *challenge, char **authorization, struct err *e)
{
	const struct challenge *bearer, *plain;
	struct challenge *list;
	struct credentials k;
	size_t n;

	if (!challenge)
		return err_set(e, ERR_UNAUTHENTICATED, "%s wants a login and does not say which",
			       host->host->authority);
	if (challenges_parse(a, str_of(challenge), &list, &n, e) < 0)
		return err_in(e, "%s", host->host->authority);
	if (find_credentials(r, host, a, &k, e) < 0)
		return -1;
	bearer = challenge_find(list, n, "bearer");
	if (bearer)
		return answer_bearer(r, host, h, a, bearer, &k, authorization, e);
	plain = challenge_find(list, n, "basic");
	if (!plain)
		return err_set(e, ERR_UNAUTHENTICATED, "%s wants a login of a kind that knarr does not know: "
			       "%.100s", host->host->authority, challenge);
	if (!k.username)
		return err_set(e, ERR_UNAUTHENTICATED, "%s wants a user name and a password",
			       host->host->authority);
	*authorization = basic(a, &k);
	return 0;
}
