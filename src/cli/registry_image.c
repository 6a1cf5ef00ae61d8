#include "cli/registry_image.h"

#include "base/fd.h"
#include "base/fs.h"
#include "base/proc.h"
#include "cli/progress.h"
#include "image/pull_agent.h"
#include "spec/digest.h"
#include "spec/ref.h"

#include <fcntl.h>
#include <stdlib.h>

enum { SETTINGS_MAX = 1 << 20, TICK_MS = 250 };

struct session {
	struct cli *cli;
	struct bundle *b;
	struct ref ref;
	const char *name;
	struct pull_agent agent;
	struct pull_fetching *orders; /* of blobs */
	size_t norders;
	uint64_t bytes_total;
	struct progress *progress;
};

/* --- settings ----------------------------------------------------------------------------------------------- */

struct settings {
	char *libexec, *registries_conf;
	char **hosts_dirs, **certs_dirs;
	int64_t parallel, idle_ms;
};
static const struct json_field settings_fields[] = {
	{ "libexec", JSON_STR, offsetof(struct settings, libexec), JSON_REQUIRED },
	{ "registriesConf", JSON_STR, offsetof(struct settings, registries_conf) },
	{ "hostsDirs", JSON_STRV, offsetof(struct settings, hosts_dirs) },
	{ "certsDirs", JSON_STRV, offsetof(struct settings, certs_dirs) },
	{ "parallel", JSON_I64, offsetof(struct settings, parallel) },
	{ "idleMs", JSON_I64, offsetof(struct settings, idle_ms) },
	{ 0 },
};

static int settings_read(struct cli *cli, struct settings *out, struct err *e)
{
	struct str text;

	if (client_ask_knarrd(&cli->settings, cli->call, "registries", &text, e) < 0)
		return -1;
	*out = (struct settings){ 0 };
	return json_load(cli->a, text, settings_fields, 0, out, e) < 0 ? err_in(e, "knarrd's settings of registries") : 0;
}

/* --- knarr-pull ------------------------------------------------------------------------------------------------ */

static int begin(struct session *s, const char *reference, const struct registry_login *login, bool push, struct err *e)
{
	struct arena *a = s->cli->a;
	struct registry_auth auth;
	struct settings set;
	struct pull_message start;

	s->agent.sock = -1;
	if (ref_parse(a, reference, &s->ref, e) < 0 || settings_read(s->cli, &set, e) < 0 ||
	    registry_auth_find(a, s->ref.domain, s->ref.path, login, &auth, e) < 0)
		return -1;
	s->name = ref_text(a, &s->ref);
	s->progress = progress_new(a, s->name);
	start = (struct pull_message){ .type = (char *)"start", .reference = (char *)s->name, .push = push,
				       .hosts_dirs = set.hosts_dirs, .certs_dirs = set.certs_dirs,
				       .registries_conf = set.registries_conf, .parallel = set.parallel, .idle_ms = set.idle_ms,
				       .username = auth.username, .password = auth.password, .auth = auth.auth,
				       .identity_token = auth.identity_token };
	return pull_agent_start(&s->agent, path_join(a, set.libexec, "knarr-pull"), &start, e);
}

static void end(struct session *s)
{
	pull_agent_stop(&s->agent);
	if (s->progress)
		progress_end(s->progress);
}
#define auto_session AUTO(end) struct session

static int hear(struct session *s, const char *waits_for, struct err *e)
{
	struct pollfd sock = { s->agent.sock, POLLIN, 0 };
	struct progress_state state = { .layers = (unsigned)s->norders, .bytes_total = s->bytes_total, .waits_for = waits_for };
	int r = io_poll(s->cli->call, &sock, 1, TICK_MS, e);

	if (r < 0 || (r > 0 && pull_agent_hear(&s->agent, s->cli->a, e) < 0))
		return -1;
	for (size_t i = 0; i < s->norders; i++)
		state.layers_done += s->orders[i].ended;
	state.bytes = MIN((uint64_t)s->agent.bytes, s->bytes_total);
	if (s->norders)
		progress_show(s->progress, &state);
	return 0;
}

static int hear_end(struct session *s, const struct pull_fetching *f, const char *waits_for, struct err *e)
{
	while (!f->ended)
		if (hear(s, waits_for, e) < 0)
			return -1;
	if (f->ok)
		return 0;
	*e = f->err;
	return -1;
}

static int hear_all(struct session *s, const char *waits_for, struct err *e)
{
	for (size_t i = 0; i < s->norders; i++)
		if (hear_end(s, &s->orders[i], waits_for, e) < 0)
			return -1;
	return 0;
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

static int order_fetch(struct session *s, const struct descriptor *d, bool manifest, struct pull_fetching *f,
		       struct part *out, struct err *e)
{
	const struct pull_message m = { .digest = d->digest, .media_type = d->media_type, .size = d->size,
					.manifest = manifest };
	int fd = temporary_file(e);

	if (fd < 0)
		return -1;
	*out = (struct part){ .digest = d->digest, .media_type = d->media_type, .size = d->size, .fd = bundle_own(s->b, fd) };
	return pull_agent_fetch(&s->agent, f, &m, fd, -1, e);
}

/* A manifest is needed at once; blobs come meanwhile. */
static int find(void *ctx, UNUSED struct bundle *b, const struct descriptor *d, bool manifest, struct part *out, struct err *e)
{
	struct session *s = ctx;
	struct pull_fetching now;

	if (d->size < 0)
		return err_set(e, ERR_INVALID, "%s: a size of %lld bytes", d->digest, (long long)d->size);
	if (manifest)
		return order_fetch(s, d, true, &now, out, e) < 0 ? -1 : hear_end(s, &now, "a manifest", e);
	s->bytes_total += (uint64_t)d->size;
	BUG_ON(s->norders > MANIFEST_LAYERS_MAX);
	return order_fetch(s, d, false, &s->orders[s->norders++], out, e);
}

static int read_image(struct session *s, const struct platform *platform, struct err *e)
{
	const struct part_finder finder = { find, s };
	struct descriptor top;

	while (!s->agent.resolved)
		if (hear(s, "the registry", e) < 0)
			return -1;
	top = (struct descriptor){ .digest = s->agent.what.digest, .media_type = s->agent.what.media_type,
				   .size = s->agent.what.size };
	if (digest_check(top.digest, e) < 0 || find(s, s->b, &top, true, &s->b->manifest, e) < 0 ||
	    bundle_follow(s->b, &finder, platform, e) < 0)
		return -1;
	return hear_all(s, "layers", e);
}

int registry_read(struct cli *cli, struct bundle *b, const char *reference, const struct registry_login *login,
		  const struct platform *platform, struct err *e)
{
	auto_session s = { .cli = cli, .b = b, .agent = { .sock = -1 },
			   .orders = arena_newn0(b->a, struct pull_fetching, MANIFEST_LAYERS_MAX + 2) };

	if (begin(&s, reference, login, false, e) < 0)
		return -1;
	if (read_image(&s, platform, e) < 0)
		return err_in(e, "docker://%s", s.name);
	b->names = strv_append(b->a, NULL, arena_strdup(b->a, s.name));
	return 0;
}

/* --- writing -------------------------------------------------------------------------------------------------------- */

static int order_push(struct session *s, const struct part *p, const char *mount_from, struct err *e)
{
	const struct pull_message m = { .digest = (char *)p->digest, .size = p->size, .offset = p->offset,
					.mount_from = (char *)mount_from };

	s->bytes_total += (uint64_t)p->size;
	return pull_agent_push(&s->agent, &s->orders[s->norders++], &m, p->fd, e);
}

static bool is_repeated(const struct bundle *b, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (streq(b->layers[k].digest, b->layers[i].digest))
			return true;
	return streq(b->layers[i].digest, b->config.digest);
}

static int write_image(struct session *s, const char *mount_from, struct err *e)
{
	struct bundle *b = s->b;
	const struct pull_message m = { .digest = (char *)b->manifest.digest, .media_type = (char *)b->manifest.media_type,
					.size = b->manifest.size, .offset = b->manifest.offset, .manifest = true,
					.tag = s->ref.tag };
	struct pull_fetching manifest;

	if (s->ref.digest && !streq(s->ref.digest, b->manifest.digest))
		return err_set(e, ERR_INVALID, "the image is %s", b->manifest.digest);
	if (order_push(s, &b->config, mount_from, e) < 0)
		return -1;
	for (size_t i = 0; i < b->nlayers; i++)
		if (!is_repeated(b, i) && order_push(s, &b->layers[i], mount_from, e) < 0)
			return -1;
	if (hear_all(s, "layers", e) < 0 || pull_agent_push(&s->agent, &manifest, &m, b->manifest.fd, e) < 0)
		return -1;
	return hear_end(s, &manifest, "the manifest", e);
}

int registry_write(struct cli *cli, struct bundle *b, const char *reference, const struct registry_login *login,
		   const char *from, struct err *e)
{
	auto_session s = { .cli = cli, .b = b, .agent = { .sock = -1 },
			   .orders = arena_newn0(b->a, struct pull_fetching, b->nlayers + 2) };
	struct ref source;
	struct err no;

	if (begin(&s, reference, login, true, e) < 0)
		return -1;
	if (from && (ref_parse(cli->a, from, &source, &no) < 0 || !streq(source.domain, s.ref.domain) ||
		     streq(source.path, s.ref.path)))
		from = NULL;
	return write_image(&s, from ? source.path : NULL, e) < 0 ? err_in(e, "docker://%s", s.name) : 0;
}
