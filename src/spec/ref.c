#include "spec/ref.h"

#include "spec/digest.h"

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_lower_alnum(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'z');
}

static bool is_alnum(char c)
{
	return is_lower_alnum(c) || (c >= 'A' && c <= 'Z');
}

/* port := [0-9]+ */
static bool port_is_valid(struct str port)
{
	uint64_t n;
	struct err e;

	return port.len > 0 && port.len <= 5 && str_to_u64(port, &n, &e) == 0 && n <= 65535;
}

static bool ipv6_is_valid(struct str inside)
{
	if (inside.len == 0)
		return false;
	for (size_t i = 0; i < inside.len; i++) {
		char c = inside.p[i];

		if (!is_digit(c) && c != ':' && c != '.' && !(c >= 'a' && c <= 'f') &&
		    !(c >= 'A' && c <= 'F'))
			return false;
	}
	return true;
}

static bool host_label_is_valid(struct str label)
{
	if (label.len == 0 || !is_alnum(label.p[0]) || !is_alnum(label.p[label.len - 1]))
		return false;
	for (size_t i = 0; i < label.len; i++) {
		if (!is_alnum(label.p[i]) && label.p[i] != '-')
			return false;
	}
	return true;
}

static bool host_is_valid(struct str host)
{
	while (host.p) {
		if (!host_label_is_valid(str_cut(&host, '.')))
			return false;
	}
	return true;
}

/* domain := host [":" port], host := names of letters, digits and dashes, or "[" IPv6 "]" */
static bool domain_is_valid(struct str domain)
{
	const char *close;
	struct str host, port;

	if (domain.len > 0 && domain.p[0] == '[') {
		close = memchr(domain.p, ']', domain.len);
		if (!close)
			return false;
		host = (struct str){ domain.p + 1, (size_t)(close - domain.p) - 1 };
		port = (struct str){ close + 1, (size_t)(domain.p + domain.len - close) - 1 };
		if (!ipv6_is_valid(host))
			return false;
		if (port.len == 0)
			return true;
		return port.p[0] == ':' && port_is_valid((struct str){ port.p + 1, port.len - 1 });
	}
	port = domain;
	host = str_cut(&port, ':');
	return host.len > 0 && host_is_valid(host) && (!port.p || port_is_valid(port));
}

/* Between two runs of letters and digits: one ".", "_", "__", or any number of "-". */
static size_t separator_len(struct str s, size_t at)
{
	size_t n = 0;

	if (s.p[at] == '.')
		return 1;
	if (s.p[at] == '_')
		return at + 1 < s.len && s.p[at + 1] == '_' ? 2 : 1;
	while (at + n < s.len && s.p[at + n] == '-')
		n++;
	return n;
}

static bool path_part_is_valid(struct str part)
{
	size_t i = 0;

	if (part.len == 0 || !is_lower_alnum(part.p[0]) || !is_lower_alnum(part.p[part.len - 1]))
		return false;
	while (i < part.len) {
		size_t n;

		if (is_lower_alnum(part.p[i])) {
			i++;
			continue;
		}
		n = separator_len(part, i);
		if (n == 0 || i + n >= part.len || !is_lower_alnum(part.p[i + n]))
			return false;
		i += n;
	}
	return true;
}

static bool path_is_valid(struct str path)
{
	if (path.len == 0)
		return false;
	while (path.p) {
		if (!path_part_is_valid(str_cut(&path, '/')))
			return false;
	}
	return true;
}

static bool tag_is_valid(struct str tag)
{
	if (tag.len == 0 || tag.len > REF_TAG_MAX || tag.p[0] == '.' || tag.p[0] == '-')
		return false;
	for (size_t i = 0; i < tag.len; i++) {
		char c = tag.p[i];

		if (!is_alnum(c) && c != '_' && c != '.' && c != '-')
			return false;
	}
	return true;
}

/* Whether what stands before the first '/' is a domain and not the first part of a path. */
static bool looks_like_domain(struct str first)
{
	if (str_eqz(first, "localhost"))
		return true;
	for (size_t i = 0; i < first.len; i++) {
		char c = first.p[i];

		if (c == '.' || c == ':' || c == '[' || (c >= 'A' && c <= 'Z'))
			return true;
	}
	return false;
}

static bool is_hex_id(struct str s)
{
	if (s.len != ID_HEX_LEN)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		if (!is_digit(s.p[i]) && !(s.p[i] >= 'a' && s.p[i] <= 'f'))
			return false;
	}
	return true;
}

static int bad(struct err *e, const char *text, const char *why)
{
	return err_set(e, ERR_INVALID, "image reference \"%.300s\": %s", text, why);
}

/* Takes "@digest" and ":tag" off the end of *rest. */
static int cut_suffixes(struct str *rest, struct str *tag, struct str *digest, const char *text,
			struct err *e)
{
	const char *at = memchr(rest->p, '@', rest->len), *colon = NULL;
	struct digest parsed;

	*tag = *digest = (struct str){ 0 };
	if (at) {
		*digest = (struct str){ at + 1, (size_t)(rest->p + rest->len - at) - 1 };
		rest->len = (size_t)(at - rest->p);
		if (digest_parse(*digest, &parsed, e) < 0)
			return err_in(e, "image reference \"%.300s\"", text);
	}
	for (size_t i = rest->len; i > 0 && rest->p[i - 1] != '/' && rest->p[i - 1] != ']'; i--) {
		if (rest->p[i - 1] == ':')
			colon = rest->p + i - 1;
	}
	/* "host:5000" alone is a name with a tag: a domain is always followed by a path. */
	if (colon) {
		*tag = (struct str){ colon + 1, (size_t)(rest->p + rest->len - colon) - 1 };
		rest->len = (size_t)(colon - rest->p);
		if (!tag_is_valid(*tag))
			return bad(e, text, "the tag must be at most 128 letters, digits, '_', '.' and '-'");
	}
	return 0;
}

static int check_name(struct str domain, struct str path, const char *text, struct err *e)
{
	if (!domain_is_valid(domain))
		return bad(e, text, "the registry's host name or port is not valid");
	if (!path_is_valid(path)) {
		for (size_t i = 0; i < path.len; i++) {
			if (path.p[i] >= 'A' && path.p[i] <= 'Z')
				return bad(e, text, "the repository's name must be lower case");
		}
		return bad(e, text, "the repository's name is not valid (parts of lower-case letters "
				    "and digits, joined by '.', '_', '__' or '-', between '/')");
	}
	return 0;
}

static char *docker_path(struct arena *a, struct str path)
{
	return memchr(path.p, '/', path.len) ? str_dup(a, path) :
					       arena_printf(a, "library/%.*s", STR_ARG(path));
}

int ref_parse(struct arena *a, const char *text, struct ref *out, struct err *e)
{
	struct str rest = str_of(text), domain, path, tag, digest, docker = STR("docker.io");
	struct ref r = { 0 };

	if (rest.len == 0)
		return err_set(e, ERR_INVALID, "the image reference is empty");
	if (is_hex_id(rest))
		return bad(e, text, "64 hex digits are an image ID, not a name");
	if (cut_suffixes(&rest, &tag, &digest, text, e) < 0)
		return -1;
	path = rest;
	domain = str_cut(&path, '/');
	if (!path.p || !looks_like_domain(domain)) {
		path = rest;
		domain = docker;
	}
	if (str_eqz(domain, "index.docker.io"))
		domain = docker;
	if (check_name(domain, path, text, e) < 0)
		return -1;
	r.domain = str_dup(a, domain);
	r.path = str_eq(domain, docker) ? docker_path(a, path) : str_dup(a, path);
	if (strlen(r.domain) + 1 + strlen(r.path) > REF_NAME_MAX)
		return bad(e, text, "the name is longer than 255 characters");
	if (digest.p)
		r.digest = str_dup(a, digest);
	else
		r.tag = tag.p ? str_dup(a, tag) : arena_strdup(a, "latest");
	*out = r;
	return 0;
}

char *ref_name(struct arena *a, const struct ref *r)
{
	return arena_printf(a, "%s/%s", r->domain, r->path);
}

static char *with_suffix(struct arena *a, const char *name, const struct ref *r)
{
	return r->digest ? arena_printf(a, "%s@%s", name, r->digest) :
			   arena_printf(a, "%s:%s", name, r->tag);
}

char *ref_text(struct arena *a, const struct ref *r)
{
	return with_suffix(a, ref_name(a, r), r);
}

char *ref_familiar(struct arena *a, const struct ref *r)
{
	const char *name = ref_name(a, r);

	if (streq(r->domain, "docker.io")) {
		name = r->path;
		if (starts_with(name, "library/") && !strchr(name + strlen("library/"), '/'))
			name += strlen("library/");
	}
	return with_suffix(a, name, r);
}

char *ref_with_digest(struct arena *a, const struct ref *r, const char *digest)
{
	return arena_printf(a, "%s@%s", ref_name(a, r), digest);
}
