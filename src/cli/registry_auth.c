/* Credentials in files: containers-auth.json(5) and docker's config.json, which are of one form. */
#include "cli/registry_image.h"

#include "base/fs.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum { FILE_MAX = 4 << 20 };

struct auth_entry {
	char *auth, *identity_token;
};
static const struct json_field entry_fields[] = {
	{ "auth", JSON_STR, offsetof(struct auth_entry, auth) },
	{ "identitytoken", JSON_STR, offsetof(struct auth_entry, identity_token) },
	{ 0 },
};

/* In the order in which podman looks. */
static char **default_files(struct arena *a)
{
	const char *run = getenv("XDG_RUNTIME_DIR"), *home = getenv("HOME"), *docker = getenv("DOCKER_CONFIG");
	char **v = NULL;

	if (!str_is_empty(run))
		v = strv_append(a, v, path_join(a, run, "containers/auth.json"));
	v = strv_append(a, v, arena_printf(a, "/run/containers/%u/auth.json", (unsigned)geteuid()));
	if (!str_is_empty(home))
		v = strv_append(a, v, path_join(a, home, ".config/containers/auth.json"));
	if (!str_is_empty(docker))
		v = strv_append(a, v, path_join(a, docker, "config.json"));
	else if (!str_is_empty(home))
		v = strv_append(a, v, path_join(a, home, ".docker/config.json"));
	return v;
}

/* "https://index.docker.io/v1/" is docker.io. */
static bool is_for(const char *key, const char *name)
{
	struct str k = str_of(key);

	if (str_starts(k, "https://"))
		k = str_of(key + strlen("https://"));
	else if (str_starts(k, "http://"))
		k = str_of(key + strlen("http://"));
	if (k.p != key) {
		struct str rest = k;

		k = str_cut(&rest, '/');
	}
	return str_eqz(k, name) || (streq(name, "docker.io") && str_eqz(k, "index.docker.io"));
}

/* The most that the key says of the repository: "host/a/b", "host/a", "host". */
static const struct json *entry_for(struct arena *a, const struct json *auths, const char *domain, const char *path)
{
	char *name = arena_printf(a, "%s/%s", domain, path);

	for (;;) {
		char *slash;

		for (const struct json *m = auths ? auths->first : NULL; m; m = m->next)
			if (is_for(m->key, name))
				return m;
		slash = strrchr(name, '/');
		if (!slash)
			return NULL;
		*slash = '\0';
	}
}

static int look_in(struct arena *a, const char *file, const char *domain, const char *path, struct registry_auth *out,
		   struct err *e)
{
	const struct json *entry;
	struct auth_entry found = { 0 };
	struct json *doc;
	struct str text;

	if (fs_read_file(a, AT_FDCWD, file, FILE_MAX, &text, e) < 0)
		return -1;
	if (json_parse(a, text, &doc, e) < 0)
		return err_in(e, "%s", file);
	entry = entry_for(a, json_get(doc, "auths"), domain, path);
	if (entry && json_read(a, entry, entry_fields, 0, &found, e) < 0)
		return err_in(e, "%s", file);
	*out = (struct registry_auth){ .auth = found.auth, .identity_token = found.identity_token };
	return 0;
}

int registry_auth_find(struct arena *a, const char *domain, const char *path, const struct registry_login *login,
		       struct registry_auth *out, struct err *e)
{
	const char *file = login && login->authfile ? login->authfile : getenv("REGISTRY_AUTH_FILE");

	*out = (struct registry_auth){ 0 };
	if (login && login->creds) {
		const char *colon = strchr(login->creds, ':');

		if (!colon || colon == login->creds)
			return err_set(e, ERR_INVALID, "credentials are to be USER:PASSWORD");
		out->username = arena_strndup(a, login->creds, (size_t)(colon - login->creds));
		out->password = arena_strdup(a, colon + 1);
		return 0;
	}
	if (!str_is_empty(file))
		return look_in(a, file, domain, path, out, e);
	for (char **f = default_files(a); *f; f++) {
		if (look_in(a, *f, domain, path, out, e) < 0 && e->kind != ERR_NOT_FOUND)
			return -1;
		if (out->auth || out->identity_token)
			return 0;
	}
	return 0;
}
