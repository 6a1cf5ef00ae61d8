#include "spec/image_config.h"

#include "spec/digest.h"

struct exec_part {
	char *user, *workdir, *stop_signal;
	char **env, **entrypoint, **cmd, **shell;
	const struct json *volumes, *exposed_ports;
	struct json_map labels;
};

struct rootfs {
	char *type;
	char **diff_ids;
};

struct document {
	struct platform platform;
	char *created, *author;
	struct exec_part *exec;
	struct rootfs *rootfs;
	struct json_vec history;
};

static const struct json_field exec_fields[] = {
	{ "User", JSON_STR, offsetof(struct exec_part, user) },
	{ "WorkingDir", JSON_STR, offsetof(struct exec_part, workdir) },
	{ "StopSignal", JSON_STR, offsetof(struct exec_part, stop_signal) },
	{ "Env", JSON_STRV, offsetof(struct exec_part, env) },
	{ "Entrypoint", JSON_STRV, offsetof(struct exec_part, entrypoint) },
	{ "Cmd", JSON_STRV, offsetof(struct exec_part, cmd) },
	{ "Shell", JSON_STRV, offsetof(struct exec_part, shell) },
	{ "Volumes", JSON_ANY, offsetof(struct exec_part, volumes) },
	{ "ExposedPorts", JSON_ANY, offsetof(struct exec_part, exposed_ports) },
	{ "Labels", JSON_MAP, offsetof(struct exec_part, labels) },
	{ 0 },
};

static const struct json_field rootfs_fields[] = {
	{ "type", JSON_STR, offsetof(struct rootfs, type), JSON_REQUIRED },
	{ "diff_ids", JSON_STRV, offsetof(struct rootfs, diff_ids) },
	{ 0 },
};

static const struct json_field history_fields[] = {
	{ "created", JSON_STR, offsetof(struct image_history, created) },
	{ "created_by", JSON_STR, offsetof(struct image_history, created_by) },
	{ "author", JSON_STR, offsetof(struct image_history, author) },
	{ "comment", JSON_STR, offsetof(struct image_history, comment) },
	{ "empty_layer", JSON_BOOL, offsetof(struct image_history, empty_layer) },
	{ 0 },
};

static const struct json_field document_fields[] = {
	{ "architecture", JSON_STR, offsetof(struct document, platform.architecture) },
	{ "os", JSON_STR, offsetof(struct document, platform.os) },
	{ "variant", JSON_STR, offsetof(struct document, platform.variant) },
	{ "os.version", JSON_STR, offsetof(struct document, platform.os_version) },
	{ "created", JSON_STR, offsetof(struct document, created) },
	{ "author", JSON_STR, offsetof(struct document, author) },
	{ "config", JSON_OBJ, offsetof(struct document, exec), 0, exec_fields, sizeof(struct exec_part) },
	{ "rootfs", JSON_OBJ, offsetof(struct document, rootfs), JSON_REQUIRED, rootfs_fields,
	  sizeof(struct rootfs) },
	{ "history", JSON_OBJV, offsetof(struct document, history), 0, history_fields,
	  sizeof(struct image_history) },
	{ 0 },
};

/* {"/data": {}, "/logs": {}}: a set written as an object. */
static int keys_of(struct arena *a, const struct json *set, const char *name, char ***out,
		   struct err *e)
{
	char **v;
	size_t n = 0;

	*out = NULL;
	if (!set || set->type == JSON_NULL)
		return 0;
	if (set->type != JSON_OBJECT)
		return err_set(e, ERR_INVALID, "line %u column %u: config.%s must be an object",
			       set->line, set->column, name);
	v = arena_newn0(a, char *, set->count + 1);
	for (const struct json *m = set->first; m; m = m->next)
		v[n++] = arena_strdup(a, m->key);
	*out = v;
	return 0;
}

static int check_rootfs(const struct rootfs *r, struct err *e)
{
	if (!streq(r->type, "layers"))
		return err_set(e, ERR_INVALID, "rootfs.type is \"%.50s\", not \"layers\"", r->type);
	if (strv_len(r->diff_ids) > IMAGE_LAYERS_MAX)
		return err_set(e, ERR_INVALID, "rootfs.diff_ids has %zu layers, more than %d",
			       strv_len(r->diff_ids), IMAGE_LAYERS_MAX);
	for (size_t i = 0; r->diff_ids && r->diff_ids[i]; i++) {
		if (digest_check(r->diff_ids[i], e) < 0)
			return err_in(e, "rootfs.diff_ids[%zu]", i);
	}
	return 0;
}

static int check_env(char *const *env, struct err *e)
{
	for (size_t i = 0; env && env[i]; i++) {
		if (env[i][0] == '=' || env[i][0] == '\0')
			return err_set(e, ERR_INVALID, "config.Env[%zu] has no name", i);
	}
	return 0;
}

int image_config_parse(struct arena *a, struct str text, struct image_config *out, struct err *e)
{
	static const struct exec_part none;
	struct document d = { 0 };
	const struct exec_part *x;
	struct image_config c;

	if (text.len > IMAGE_CONFIG_MAX)
		return err_set(e, ERR_EXHAUSTED, "image configuration has %zu bytes, more than %d",
			       text.len, IMAGE_CONFIG_MAX);
	if (json_load(a, text, document_fields, 0, &d, e) < 0)
		return err_in(e, "image configuration");
	x = d.exec ? d.exec : &none;
	if (check_rootfs(d.rootfs, e) < 0 || check_env(x->env, e) < 0)
		return err_in(e, "image configuration");
	c = (struct image_config){
		.platform = d.platform, .created = d.created, .author = d.author, .env = x->env,
		.entrypoint = x->entrypoint, .cmd = x->cmd,
		.user = str_is_empty(x->user) ? NULL : x->user,
		.workdir = str_is_empty(x->workdir) ? NULL : x->workdir,
		.stop_signal = str_is_empty(x->stop_signal) ? NULL : x->stop_signal,
		.shell = x->shell, .labels = x->labels, .history = d.history,
		.diff_ids = d.rootfs->diff_ids ? d.rootfs->diff_ids : arena_newn0(a, char *, 1),
	};
	if (keys_of(a, x->volumes, "Volumes", &c.volumes, e) < 0 ||
	    keys_of(a, x->exposed_ports, "ExposedPorts", &c.exposed_ports, e) < 0)
		return err_in(e, "image configuration");
	*out = c;
	return 0;
}
