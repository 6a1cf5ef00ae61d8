#include "cli/image_made.h"

#include "base/clock.h"
#include "spec/ref.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OWN_MAX = 8, CONFIG_MAX = 1 << 20 };

/* --- options --------------------------------------------------------------------------------------------------- */

static int take_time(struct made *m, struct err *e)
{
	const char *text = m->created_text, *epoch = getenv("SOURCE_DATE_EPOCH");
	int64_t ns;

	if (text && str_to_i64(str_of(text), &m->created_s, e) == 0)
		return m->created_s < 0 ? err_set(e, ERR_INVALID, "--created %s: before 1970", text) : 0;
	if (text) {
		if (clock_parse_rfc3339(str_of(text), &ns, e) < 0 || ns < 0)
			return err_set(e, ERR_INVALID, "--created %s: seconds since 1970, or a time as 2026-01-31T12:00:00Z", text);
		m->created_s = ns / NS_PER_S;
		return 0;
	}
	if (str_is_empty(epoch))
		return 0;
	if (str_to_i64(str_of(epoch), &m->created_s, e) < 0 || m->created_s < 0)
		return err_set(e, ERR_INVALID, "SOURCE_DATE_EPOCH=%s: it is to be seconds since 1970", epoch);
	return 0;
}

int made_options(struct made *m, const char *verb, const struct opt *own, char *const *argv, char ***words, struct err *e)
{
	struct opt opts[16 + OWN_MAX] = {
		{ OPT_STRV, 't', "tag", &m->tags, "NAME", "What to call it" },
		{ OPT_STR, 0, "cmd", &m->cmd, "WORDS", "The command: words divided by blanks, or a JSON array" },
		{ OPT_STR, 0, "entrypoint", &m->entrypoint, "WORDS", "What comes before the command, in the same form" },
		{ OPT_STRV, 'e', "env", &m->env, "KEY=VALUE", "A variable" },
		{ OPT_STR, 'w', "workdir", &m->workdir, "PATH", "The folder to start in" },
		{ OPT_STR, 'u', "user", &m->user, "USER", "Whom to run as" },
		{ OPT_STRV, 'l', "label", &m->labels, "KEY=VALUE", "A label" },
		{ OPT_STRV, 0, "expose", &m->expose, "PORT[/tcp]", "A port that it listens on" },
		{ OPT_STRV, 0, "volume", &m->volumes, "PATH", "A folder for a volume" },
		{ OPT_STR, 0, "stop-signal", &m->stop_signal, "SIGNAL", "What asks it to end" },
		{ OPT_STR, 0, "platform", &m->platform, "OS/ARCH", "Default: this machine's" },
		{ OPT_STR, 0, "created", &m->created_text, "TIME", "Default: $SOURCE_DATE_EPOCH, else 1970" },
	};
	size_t n = 12;
	int rc;

	for (; own && own->kind != OPT_END; own++)
		opts[n++] = *own;
	rc = cli_options(m->cli, verb, opts, 0, argv, words, e);
	return rc ? rc : take_time(m, e);
}

static int add_name(struct made *m, const char *text, struct err *e)
{
	struct ref ref;

	if (ref_parse(m->cli->a, text, &ref, e) < 0)
		return -1;
	if (!ref.tag)
		return err_set(e, ERR_INVALID, "%s: a digest can't be given to an image that is yet to be made", text);
	m->names = strv_append(m->cli->a, m->names, ref_text(m->cli->a, &ref));
	return 0;
}

int made_name(struct made *m, char *const *words, struct err *e)
{
	if (words[0] && words[1])
		return err_set(e, ERR_INVALID, "\"%s\" is one word too many", words[1]);
	if (words[0] && add_name(m, words[0], e) < 0)
		return -1;
	for (char **t = m->tags; t && *t; t++)
		if (add_name(m, *t, e) < 0)
			return -1;
	return 0;
}

/* --- the configuration ------------------------------------------------------------------------------------------- */

struct made_run {
	const char *user;
	const struct json *ports;
	char **env, **entrypoint, **cmd;
	const struct json *volumes;
	const char *workdir;
	struct json_map labels;
	const char *stop_signal;
};
struct made_rootfs {
	const char *type;
	char **diff_ids;
};
struct made_step {
	const char *created, *created_by;
};
struct made_config {
	const char *created, *architecture, *os, *variant;
	struct made_run run;
	struct made_rootfs rootfs;
	struct json_vec history;
};
static const struct json_field run_fields[] = {
	{ "User", JSON_STR, offsetof(struct made_run, user) },
	{ "ExposedPorts", JSON_ANY, offsetof(struct made_run, ports) },
	{ "Env", JSON_STRV, offsetof(struct made_run, env) },
	{ "Entrypoint", JSON_STRV, offsetof(struct made_run, entrypoint) },
	{ "Cmd", JSON_STRV, offsetof(struct made_run, cmd) },
	{ "Volumes", JSON_ANY, offsetof(struct made_run, volumes) },
	{ "WorkingDir", JSON_STR, offsetof(struct made_run, workdir) },
	{ "Labels", JSON_MAP, offsetof(struct made_run, labels) },
	{ "StopSignal", JSON_STR, offsetof(struct made_run, stop_signal) },
	{ 0 },
};
static const struct json_field rootfs_fields[] = {
	{ "type", JSON_STR, offsetof(struct made_rootfs, type) },
	{ "diff_ids", JSON_STRV, offsetof(struct made_rootfs, diff_ids) },
	{ 0 },
};
static const struct json_field step_fields[] = {
	{ "created", JSON_STR, offsetof(struct made_step, created) },
	{ "created_by", JSON_STR, offsetof(struct made_step, created_by) },
	{ 0 },
};
static const struct json_field config_fields[] = {
	{ "created", JSON_STR, offsetof(struct made_config, created) },
	{ "architecture", JSON_STR, offsetof(struct made_config, architecture) },
	{ "os", JSON_STR, offsetof(struct made_config, os) },
	{ "variant", JSON_STR, offsetof(struct made_config, variant) },
	{ "config", JSON_SUB, offsetof(struct made_config, run), 0, run_fields, sizeof(struct made_run) },
	{ "rootfs", JSON_SUB, offsetof(struct made_config, rootfs), 0, rootfs_fields, sizeof(struct made_rootfs) },
	{ "history", JSON_OBJV, offsetof(struct made_config, history), 0, step_fields, sizeof(struct made_step) },
	{ 0 },
};

struct word_list {
	char **words;
};
static const struct json_field word_list_fields[] = { { "words", JSON_STRV, offsetof(struct word_list, words) }, { 0 } };

static int words_of(struct made *m, const char *option, const char *text, char ***out, struct err *e)
{
	struct arena *a = m->cli->a;
	struct word_list list = { 0 };
	struct str rest = str_trim(str_of(text ? text : ""));

	*out = NULL;
	if (rest.len && *rest.p == '[') {
		if (json_load(a, str_of(arena_printf(a, "{\"words\":%.*s}", STR_ARG(rest))), word_list_fields, JSON_STRICT, &list,
			      e) < 0)
			return err_set(e, ERR_INVALID, "--%s %s: no JSON array of texts", option, text);
		*out = list.words;
		return 0;
	}
	while (rest.len) {
		struct str word = { rest.p, strcspn(rest.p, " \t") };

		*out = strv_append(a, *out, str_dup(a, word));
		rest = str_trim((struct str){ rest.p + word.len, rest.len - word.len });
	}
	return 0;
}

/* A set of names is an object of empty objects, in the order of the names. */
static int compare(const void *x, const void *y)
{
	return strcmp(*(char *const *)x, *(char *const *)y);
}

static int set_of(struct arena *a, char *const *names, const struct json **out, struct err *e)
{
	char **sorted = strv_dup(a, names);
	auto_buf b = BUF(CONFIG_MAX);
	struct json *doc;

	*out = NULL;
	if (!names || !*names)
		return 0;
	qsort(sorted, strv_len(sorted), sizeof(*sorted), compare);
	if (buf_addz(&b, "{", e) < 0)
		return -1;
	for (size_t i = 0; sorted[i]; i++)
		if ((!i || !streq(sorted[i], sorted[i - 1])) &&
		    ((i && buf_addz(&b, ",", e) < 0) || json_write_text(&b, sorted[i], e) < 0 || buf_addz(&b, ":{}", e) < 0))
			return -1;
	if (buf_addz(&b, "}", e) < 0 ||
	    json_parse(a, (struct str){ arena_memdup(a, b.p, b.len + 1), b.len }, &doc, e) < 0)
		return -1;
	*out = doc;
	return 0;
}

static int ports_of(struct made *m, char ***out, struct err *e)
{
	*out = NULL;
	for (char **p = m->expose; p && *p; p++) {
		struct str rest = str_of(*p), number = str_cut(&rest, '/');
		uint64_t port;

		if (str_to_u64(number, &port, e) < 0 || port < 1 || port > 65535 ||
		    (rest.p && !str_eqz(rest, "tcp") && !str_eqz(rest, "udp") && !str_eqz(rest, "sctp")))
			return err_set(e, ERR_INVALID, "--expose %s: a port as 80, 80/tcp, 53/udp", *p);
		*out = strv_append(m->cli->a, *out, rest.p ? *p : arena_printf(m->cli->a, "%s/tcp", *p));
	}
	return 0;
}

static int labels_of(struct made *m, struct json_map *out, struct err *e)
{
	out->p = m->labels ? arena_newn0(m->cli->a, struct json_pair, strv_len(m->labels)) : NULL;
	for (char **l = m->labels; l && *l; l++) {
		char *pair = arena_strdup(m->cli->a, *l), *sign = strchr(pair, '=');

		if (!sign || sign == pair)
			return err_set(e, ERR_INVALID, "--label %s: KEY=VALUE", *l);
		*sign = '\0';
		for (size_t i = 0; i < out->count; i++)
			if (streq(out->p[i].key, pair))
				return err_set(e, ERR_INVALID, "--label %s is there twice", pair);
		out->p[out->count++] = (struct json_pair){ pair, sign + 1 };
	}
	return 0;
}

static int env_check(const struct made *m, struct err *e)
{
	for (char **v = m->env; v && *v; v++)
		if (!strchr(*v, '=') || **v == '=')
			return err_set(e, ERR_INVALID, "--env %s: KEY=VALUE", *v);
	return 0;
}

static int run_of(struct made *m, struct made_run *out, struct err *e)
{
	char **ports;

	*out = (struct made_run){ .user = m->user, .env = m->env, .workdir = m->workdir, .stop_signal = m->stop_signal };
	if (m->workdir && *m->workdir != '/')
		return err_set(e, ERR_INVALID, "--workdir %s: it begins with a /", m->workdir);
	if (words_of(m, "cmd", m->cmd, &out->cmd, e) < 0 || words_of(m, "entrypoint", m->entrypoint, &out->entrypoint, e) < 0 ||
	    env_check(m, e) < 0 || ports_of(m, &ports, e) < 0 || set_of(m->cli->a, ports, &out->ports, e) < 0 ||
	    set_of(m->cli->a, m->volumes, &out->volumes, e) < 0)
		return -1;
	return labels_of(m, &out->labels, e);
}

static int make_config(struct made *m, struct bundle *b, const struct part *layer, struct err *e)
{
	struct arena *a = m->cli->a;
	auto_buf text = BUF(CONFIG_MAX);
	char created[CLOCK_TEXT_MAX];
	struct platform platform = *platform_host();
	struct made_step step = { created, m->step };
	struct made_config c = { .created = created, .history = { &step, 1 },
				 .rootfs = { "layers", strv_append(a, NULL, layer->digest) } };

	if (m->platform && platform_parse(a, m->platform, &platform, e) < 0)
		return -1;
	if (run_of(m, &c.run, e) < 0)
		return -1;
	clock_format_rfc3339(m->created_s * NS_PER_S, created);
	c.os = platform.os;
	c.architecture = platform.architecture;
	c.variant = platform.variant;
	if (json_write(&text, config_fields, &c, e) < 0)
		return -1;
	return bundle_document(b, buf_str(&text), MEDIA_OCI_CONFIG, &b->config, e);
}

int made_finish(struct made *m, struct bundle *b, const struct part *layer, struct err *e)
{
	const char *id;

	b->layers = arena_newn0(b->a, struct part, 1);
	b->layers[0] = *layer;
	b->nlayers = 1;
	b->names = m->names;
	if (make_config(m, b, layer, e) < 0 || bundle_make_manifest(b, e) < 0 ||
	    node_write(m->cli, b, b->names, &id, e) < 0)
		return -1;
	if (!m->names)
		puts(id);
	for (char **n = m->names; n && *n; n++)
		printf("%s is %s\n", *n, text_short_id(m->cli->a, id));
	return 0;
}
