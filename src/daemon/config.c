#include "daemon/config.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/opt.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libfyaml.h>
#include <stdlib.h>
#include <unistd.h>

#ifndef KNARR_LIBEXEC
#define KNARR_LIBEXEC "/usr/local/libexec/knarr"
#endif

enum { FILE_MAX = 1024 * 1024 };

/* --- the keys ---------------------------------------------------------------------------------------- */

enum key_kind {
	KEY_PATH,     /* char *: absolute */
	KEY_PATHS,    /* char **: absolute each */
	KEY_TEXT,     /* char *: not empty */
	KEY_TEXTS,    /* char ** */
	KEY_DURATION, /* int64_t ns, positive */
	KEY_BYTES,    /* int64_t */
	KEY_COUNT,    /* int64_t, at least `least` */
	KEY_BOOL,
	KEY_CHOICE,   /* int64_t: the index in `choices` */
};

struct key {
	const char *name; /* with the section's name and a dot before it */
	enum key_kind kind;
	size_t offset;
	int64_t least;
	const char *const *choices; /* NULL-terminated */
};

static const char *const log_levels[] = { "debug", "info", "warn", "error", NULL };
static const char *const log_formats[] = { "text", "json", NULL };
static const char *const cgroup_drivers[] = { "cgroupfs", "systemd", NULL };

#define AT(field) offsetof(struct config, field)
static const struct key keys[] = {
	{ "root", KEY_PATH, AT(root) },
	{ "run", KEY_PATH, AT(run) },
	{ "libexec", KEY_PATH, AT(libexec) },
	{ "socket", KEY_PATH, AT(socket) },
	{ "user_socket", KEY_PATH, AT(user_socket) },
	{ "cadvisor_socket", KEY_PATH, AT(cadvisor_socket) },
	{ "netns_dir", KEY_PATH, AT(netns_dir) },
	{ "hosts_dirs", KEY_PATHS, AT(hosts_dirs) },
	{ "registries_conf", KEY_PATH, AT(registries_conf) },
	{ "certs_dirs", KEY_PATHS, AT(certs_dirs) },
	{ "pinned_images", KEY_TEXTS, AT(pinned_images) },
	{ "cdi_dirs", KEY_PATHS, AT(cdi_dirs) },
	{ "seccomp_dir", KEY_PATH, AT(seccomp_dir) },
	{ "criu", KEY_PATH, AT(criu) },
	{ "resolv_conf", KEY_PATH, AT(resolv_conf) },
	{ "shm_size", KEY_BYTES, AT(shm_bytes), .least = 4096 },
	{ "log.level", KEY_CHOICE, AT(log.level), .choices = log_levels },
	{ "log.format", KEY_CHOICE, AT(log.format), .choices = log_formats },
	{ "cni.conf_dir", KEY_PATH, AT(cni.conf_dir) },
	{ "cni.bin_dirs", KEY_PATHS, AT(cni.bin_dirs) },
	{ "cni.timeout", KEY_DURATION, AT(cni.timeout_ns) },
	{ "cni.default_network", KEY_BOOL, AT(cni.default_network) },
	{ "cni.gc", KEY_BOOL, AT(cni.gc) },
	{ "cgroup.driver", KEY_CHOICE, AT(cgroup.driver), .choices = cgroup_drivers },
	{ "cgroup.monitor_parent", KEY_PATH, AT(cgroup.monitor_parent) },
	{ "cgroup.pod_parent", KEY_PATH, AT(cgroup.pod_parent) },
	{ "default_handler", KEY_TEXT, AT(default_handler) },
	{ "pull.parallel_layers", KEY_COUNT, AT(pull.parallel_layers), .least = 1 },
	{ "pull.idle_timeout", KEY_DURATION, AT(pull.idle_timeout_ns) },
	{ "stream.address", KEY_TEXT, AT(stream.address) },
	{ "stream.cert", KEY_PATH, AT(stream.cert) },
	{ "stream.key", KEY_PATH, AT(stream.key) },
	{ "stream.client_ca", KEY_PATH, AT(stream.client_ca) },
	{ "stream.token_timeout", KEY_DURATION, AT(stream.token_ns) },
	{ "stream.idle_timeout", KEY_DURATION, AT(stream.idle_ns) },
	{ "nri.enable", KEY_BOOL, AT(nri.enable) },
	{ "nri.connections", KEY_BOOL, AT(nri.connections) },
	{ "nri.socket", KEY_PATH, AT(nri.socket) },
	{ "nri.plugin_dir", KEY_PATH, AT(nri.plugin_dir) },
	{ "nri.config_dir", KEY_PATH, AT(nri.config_dir) },
	{ "nri.registration_timeout", KEY_DURATION, AT(nri.registration_ns) },
	{ "nri.request_timeout", KEY_DURATION, AT(nri.request_ns) },
	{ "limits.create", KEY_DURATION, AT(limits.create_ns) },
	{ "limits.collect", KEY_DURATION, AT(limits.collect_ns) },
	{ "limits.recover_wait", KEY_DURATION, AT(limits.recover_wait_ns) },
	{ "limits.stop_wait", KEY_DURATION, AT(limits.stop_wait_ns) },
	{ "limits.calls", KEY_COUNT, AT(limits.calls), .least = 8 },
};
#undef AT

void config_defaults(struct config *c)
{
	static char *hosts_dirs[] = { "/etc/knarr/hosts.d", "/etc/containerd/certs.d", NULL };
	static char *certs_dirs[] = { "/etc/containers/certs.d", "/etc/docker/certs.d", NULL };
	static char *cdi_dirs[] = { "/etc/cdi", "/var/run/cdi", NULL };
	static char *bin_dirs[] = { "/opt/cni/bin", "/usr/lib/cni", NULL };
	static char *none[] = { NULL };

	*c = (struct config){
		.root = "/var/lib/knarr", .run = "/run/knarr",
		.netns_dir = "/run/netns", .hosts_dirs = hosts_dirs,
		.registries_conf = "/etc/containers/registries.conf", .certs_dirs = certs_dirs, .pinned_images = none,
		.log = { LOG_INFO, LOG_TEXT },
		.cni = { "/etc/cni/net.d", bin_dirs, 120 * NS_PER_S, true, true },
		.pull = { 3, 60 * NS_PER_S },
		.limits = { 240 * NS_PER_S, 300 * NS_PER_S, 20 * NS_PER_S, 10 * NS_PER_S, 512 },
		.stream = { .address = (char *)"127.0.0.1:0", .token_ns = 60 * NS_PER_S, .idle_ns = 4 * 3600 * NS_PER_S },
		.default_handler = (char *)"native",
		.cdi_dirs = cdi_dirs, .seccomp_dir = "/var/lib/kubelet/seccomp", .resolv_conf = "/etc/resolv.conf",
		.nri = { true, true, "/var/run/nri/nri.sock", "/opt/nri/plugins", "/etc/nri/conf.d", 5 * NS_PER_S,
			 2 * NS_PER_S },
		.shm_bytes = 64 * 1024 * 1024,
	};
}

static const struct key *key_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (streq(keys[i].name, name))
			return &keys[i];
	return NULL;
}

static bool is_section(const char *name)
{
	size_t n = strlen(name);

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (starts_with(keys[i].name, name) && keys[i].name[n] == '.')
			return true;
	return false;
}

/* --- values ------------------------------------------------------------------------------------------ */

static int set_path(struct arena *a, const char *text, char **out, struct err *e)
{
	if (text[0] != '/')
		return err_set(e, ERR_INVALID, "\"%s\" is no absolute path", text);
	*out = path_clean(a, text);
	return 0;
}

static int set_choice(const struct key *k, const char *text, int64_t *out, struct err *e)
{
	auto_buf all = BUF(1000);

	for (int64_t i = 0; k->choices[i]; i++) {
		if (streq(text, k->choices[i])) {
			*out = i;
			return 0;
		}
		if (buf_addf(&all, e, "%s%s", i ? ", " : "", k->choices[i]) < 0)
			return -1;
	}
	return err_set(e, ERR_INVALID, "\"%s\" is none of %s", text, buf_text(&all));
}

static int set_bool(const char *text, bool *out, struct err *e)
{
	if (!streq(text, "true") && !streq(text, "false"))
		return err_set(e, ERR_INVALID, "\"%s\" is neither true nor false", text);
	*out = streq(text, "true");
	return 0;
}

static int set_duration(const char *text, int64_t *out, struct err *e)
{
	int64_t ns;

	if (clock_parse_duration(str_of(text), &ns, e) < 0)
		return -1;
	if (ns <= 0)
		return err_set(e, ERR_INVALID, "\"%s\" is not more than nothing", text);
	*out = ns;
	return 0;
}

static int set_number(const struct key *k, const char *text, int64_t *out, struct err *e)
{
	int64_t n;

	if ((k->kind == KEY_BYTES ? opt_parse_bytes(text, &n, e) : str_to_i64(str_of(text), &n, e)) < 0)
		return -1;
	if (n < k->least || n > INT32_MAX * (k->kind == KEY_BYTES ? INT64_C(4096) : INT64_C(1)))
		return err_set(e, ERR_INVALID, "%s is out of range: at least %lld", text, (long long)k->least);
	*out = n;
	return 0;
}

static int set_scalar(struct arena *a, const struct key *k, const char *text, void *to, struct err *e)
{
	switch (k->kind) {
	case KEY_PATH:
		return set_path(a, text, to, e);
	case KEY_TEXT:
		if (!*text)
			return err_set(e, ERR_INVALID, "a text is wanted");
		*(char **)to = arena_strdup(a, text);
		return 0;
	case KEY_DURATION:
		return set_duration(text, to, e);
	case KEY_BYTES:
	case KEY_COUNT:
		return set_number(k, text, to, e);
	case KEY_BOOL:
		return set_bool(text, to, e);
	case KEY_CHOICE:
		return set_choice(k, text, to, e);
	case KEY_PATHS:
	case KEY_TEXTS:
		break;
	}
	return err_set(e, ERR_INVALID, "a list is wanted: [a, b]");
}

/* --- YAML -------------------------------------------------------------------------------------------- */

struct reader {
	struct arena *a;
	const char *file;
	struct config *c;
};

static int node_line(struct fy_node *n)
{
	const struct fy_mark *mark = NULL;

	if (fy_node_is_scalar(n))
		mark = fy_token_start_mark(fy_node_get_scalar_token(n));
	return mark ? mark->line + 1 : 0;
}

static const char *node_text(struct arena *a, struct fy_node *n)
{
	size_t len = 0;
	const char *p;

	if (!n || !fy_node_is_scalar(n) || fy_node_is_alias(n))
		return NULL;
	p = fy_node_get_scalar(n, &len);
	if (!p || !len)
		return "";
	return memchr(p, '\0', len) ? NULL : arena_strndup(a, p, len);
}

static int read_list(struct reader *r, const struct key *k, struct fy_node *n, char ***out, struct err *e)
{
	char **list = arena_newn0(r->a, char *, 1);
	struct fy_node *item;
	void *at = NULL;

	if (!fy_node_is_sequence(n))
		return err_set(e, ERR_INVALID, "a list is wanted: [a, b]");
	while ((item = fy_node_sequence_iterate(n, &at))) {
		const char *text = node_text(r->a, item);
		char *path;

		if (str_is_empty(text))
			return err_set(e, ERR_INVALID, "the list has an item that is no text");
		if (k->kind == KEY_PATHS) {
			if (set_path(r->a, text, &path, e) < 0)
				return -1;
			text = path;
		}
		list = strv_append(r->a, list, text);
	}
	*out = list;
	return 0;
}

static int read_value(struct reader *r, const struct key *k, struct fy_node *n, struct err *e)
{
	void *to = (char *)r->c + k->offset;
	const char *text;

	if (k->kind == KEY_PATHS || k->kind == KEY_TEXTS)
		return read_list(r, k, n, to, e);
	text = node_text(r->a, n);
	if (!text)
		return err_set(e, ERR_INVALID, "a single value is wanted");
	return set_scalar(r->a, k, text, to, e);
}

/* --- handlers ---------------------------------------------------------------------------------------- */

/* Its names are the user's: "handlers: { crun: { path: /usr/bin/crun } }". */
static const struct key handler_keys[] = {
	{ "path", KEY_PATH, offsetof(struct config_handler, path) },
	{ "root", KEY_PATH, offsetof(struct config_handler, root) },
	{ "args", KEY_TEXTS, offsetof(struct config_handler, args) },
};

static int handler_value(struct reader *r, struct config_handler *h, const char *name, struct fy_node *value, struct err *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(handler_keys); i++) {
		const struct key *k = &handler_keys[i];
		void *to = (char *)h + k->offset;
		const char *text = node_text(r->a, value);

		if (!streq(k->name, name))
			continue;
		if (k->kind == KEY_TEXTS)
			return read_list(r, k, value, to, e);
		return text ? set_scalar(r->a, k, text, to, e) : err_set(e, ERR_INVALID, "a single value is wanted");
	}
	return err_set(e, ERR_INVALID, "unknown key");
}

static int read_handler(struct reader *r, const char *name, int line, struct fy_node *map, struct err *e)
{
	struct config_handler h = { .name = (char *)name };
	struct fy_node_pair *pair;
	void *at = NULL;

	if (!fy_node_is_mapping(map))
		return err_set(e, ERR_INVALID, "%s:%d: handlers.%s: a section is wanted, with keys of its own", r->file, line, name);
	while ((pair = fy_node_mapping_iterate(map, &at))) {
		const char *key = node_text(r->a, fy_node_pair_key(pair));

		if (!key)
			return err_set(e, ERR_INVALID, "%s:%d: handlers.%s: a key is no plain text", r->file, line, name);
		if (handler_value(r, &h, key, fy_node_pair_value(pair), e) < 0)
			return err_in(e, "%s:%d: handlers.%s.%s", r->file, node_line(fy_node_pair_key(pair)), name, key);
	}
	if (!h.path)
		return err_set(e, ERR_INVALID, "%s:%d: handlers.%s: path is missing", r->file, line, name);
	for (size_t i = 0; i < r->c->nhandlers; i++)
		if (streq(r->c->handlers[i].name, name)) {
			r->c->handlers[i] = h;
			return 0;
		}
	r->c->handlers[r->c->nhandlers++] = h;
	return 0;
}

/* As Kubernetes' RuntimeClass allows it. */
static bool is_handler_name(const char *name)
{
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-");

	return n && !name[n] && n <= 63 && name[0] != '-' && name[n - 1] != '-' && !streq(name, "native");
}

static int read_handlers(struct reader *r, int line, struct fy_node *map, struct err *e)
{
	struct config_handler *all;
	struct fy_node_pair *pair;
	void *at = NULL;
	int more;

	if (fy_node_is_null(map))
		return 0;
	if (!fy_node_is_mapping(map))
		return err_set(e, ERR_INVALID, "%s:%d: handlers: a section is wanted, with keys of its own", r->file, line);
	more = fy_node_mapping_item_count(map);
	all = arena_newn0(r->a, struct config_handler, r->c->nhandlers + (size_t)MAX(more, 0) + 1);
	if (r->c->nhandlers)
		memcpy(all, r->c->handlers, r->c->nhandlers * sizeof(*all));
	r->c->handlers = all;
	while ((pair = fy_node_mapping_iterate(map, &at))) {
		struct fy_node *key = fy_node_pair_key(pair);
		const char *name = node_text(r->a, key);

		if (!name || !is_handler_name(name))
			return err_set(e, ERR_INVALID, "%s:%d: handlers: \"%s\" is no name of a handler: small letters, digits, "
				       "hyphens, not native", r->file, key ? node_line(key) : line, name ? name : "");
		if (read_handler(r, name, node_line(key), fy_node_pair_value(pair), e) < 0)
			return -1;
	}
	return 0;
}

static int read_mapping(struct reader *r, const char *section, struct fy_node *map, struct err *e)
{
	struct fy_node_pair *pair;
	void *at = NULL;

	while ((pair = fy_node_mapping_iterate(map, &at))) {
		struct fy_node *key = fy_node_pair_key(pair), *value = fy_node_pair_value(pair);
		int line = key ? node_line(key) : 0;
		const char *text = node_text(r->a, key), *name;
		const struct key *k;

		if (!text)
			return err_set(e, ERR_INVALID, "%s:%d: a key is no plain text", r->file, line);
		if (!section && streq(text, "handlers")) {
			if (read_handlers(r, line, value, e) < 0)
				return -1;
			continue;
		}
		name = section ? arena_printf(r->a, "%s.%s", section, text) : text;
		k = key_find(name);
		if (!k && !section && is_section(name)) {
			if (fy_node_is_mapping(value) && read_mapping(r, name, value, e) < 0)
				return -1;
			if (!fy_node_is_mapping(value) && !fy_node_is_null(value))
				return err_set(e, ERR_INVALID, "%s:%d: %s: a section is wanted, with keys of its own",
					       r->file, line, name);
			continue;
		}
		if (!k)
			return err_set(e, ERR_INVALID, "%s:%d: %s: unknown key", r->file, line, name);
		if (read_value(r, k, value, e) < 0)
			return err_in(e, "%s:%d: %s", r->file, line, name);
	}
	return 0;
}

static int yaml_error(const char *file, struct fy_diag *diag, struct err *e)
{
	void *at = NULL;
	struct fy_diag_error *first = fy_diag_errors_iterate(diag, &at);

	if (!first)
		return err_set(e, ERR_INVALID, "%s: this is no YAML", file);
	return err_set(e, ERR_INVALID, "%s:%d: %s", file, first->line, first->msg);
}

static int read_document(struct reader *r, struct fy_document *doc, struct err *e)
{
	struct fy_node *root = fy_document_root(doc);

	if (!root || fy_node_is_null(root))
		return 0;
	if (!fy_node_is_mapping(root))
		return err_set(e, ERR_INVALID, "%s:1: keys with values are wanted", r->file);
	return read_mapping(r, NULL, root, e);
}

int config_read(struct arena *a, const char *file, struct str text, struct config *c, struct err *e)
{
	struct reader r = { a, file, c };
	struct fy_diag_cfg quiet = { .level = FYET_ERROR, .module_mask = ~0u };
	struct fy_diag *diag;
	struct fy_parse_cfg cfg = { .flags = FYPCF_QUIET };
	struct fy_parser *parser;
	struct fy_document *doc;
	int rc = 0;

	if (memchr(text.p, '\0', text.len))
		return err_set(e, ERR_INVALID, "%s: a file with NUL bytes is no YAML", file);
	diag = fy_diag_create(&quiet);
	BUG_ON(!diag);
	fy_diag_set_collect_errors(diag, true);
	cfg.diag = diag;
	parser = fy_parser_create(&cfg);
	BUG_ON(!parser || fy_parser_set_string(parser, text.p, text.len) < 0);
	doc = fy_parse_load_document(parser);
	if (doc) {
		rc = read_document(&r, doc, e);
		fy_parse_document_destroy(parser, doc);
		doc = rc < 0 ? NULL : fy_parse_load_document(parser);
		if (doc)
			rc = err_set(e, ERR_INVALID, "%s: only one YAML document is wanted", file);
		fy_parse_document_destroy(parser, doc);
	}
	if (rc == 0 && fy_diag_got_error(diag))
		rc = yaml_error(file, diag, e);
	fy_parser_destroy(parser);
	fy_diag_destroy(diag);
	return rc;
}

/* --- files ------------------------------------------------------------------------------------------- */

static int read_file(struct arena *a, const char *path, struct config *c, struct err *e)
{
	struct str text;

	if (fs_read_file(a, AT_FDCWD, path, FILE_MAX, &text, e) < 0)
		return -1;
	return config_read(a, path, text, c, e);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static char **drop_ins(struct arena *a, const char *dir)
{
	char **names = arena_newn0(a, char *, 1);
	struct dirent *entry;
	DIR *d = opendir(dir);

	if (!d)
		return names;
	while ((entry = readdir(d)))
		if (entry->d_name[0] != '.' && ends_with(entry->d_name, ".yaml"))
			names = strv_append(a, names, entry->d_name);
	(void)closedir(d);
	qsort(names, strv_len(names), sizeof(*names), by_name);
	return names;
}

int config_path(const struct config *c, const char *key, const char **out, struct err *e)
{
	const struct key *k = key_find(key);

	if (!k || k->kind != KEY_PATH)
		return err_set(e, ERR_INVALID, "%s is no key with a path", key);
	*out = *(char *const *)((const char *)c + k->offset);
	if (!*out)
		return err_set(e, ERR_INVALID, "%s is not set", key);
	return 0;
}

/* An installation that was moved, or unpacked elsewhere than its prefix says, still finds its own helpers. */
static char *default_libexec(struct arena *a)
{
	char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *folder;

	if (n <= 0 || !memrchr(self, '/', (size_t)n))
		return KNARR_LIBEXEC;
	*(char *)memrchr(self, '/', (size_t)n) = '\0';
	folder = path_clean(a, path_join(a, self, "../libexec/knarr"));
	return access(path_join(a, folder, "knarr-pod"), X_OK) == 0 ? folder : KNARR_LIBEXEC;
}

/* With the systemd driver, cgroups are units. */
static int complete_cgroup(struct arena *a, const char *file, struct config *c, struct err *e)
{
	bool systemd = c->cgroup.driver == CONFIG_SYSTEMD;
	const char *scope, *slice;

	if (!c->cgroup.monitor_parent)
		c->cgroup.monitor_parent = systemd ? "/system.slice/knarr.scope" : "/knarr";
	if (!c->cgroup.pod_parent)
		c->cgroup.pod_parent = systemd ? "/knarr-pods.slice" : "/knarr-pods";
	if (!systemd)
		return 0;
	scope = path_clean(a, c->cgroup.monitor_parent);
	slice = path_clean(a, arena_printf(a, "%s/..", scope));
	if (!ends_with(scope, ".scope") || !ends_with(slice, ".slice"))
		return err_set(e, ERR_INVALID, "%s: cgroup.monitor_parent: %s: with the systemd driver it is a scope in a "
			       "slice, as in /system.slice/knarr.scope", file, c->cgroup.monitor_parent);
	if (!ends_with(path_clean(a, c->cgroup.pod_parent), ".slice"))
		return err_set(e, ERR_INVALID, "%s: cgroup.pod_parent: %s: with the systemd driver it is a slice, as in "
			       "/knarr-pods.slice", file, c->cgroup.pod_parent);
	return 0;
}

static int check_default_handler(const char *file, const struct config *c, struct err *e)
{
	if (streq(c->default_handler, "native"))
		return 0;
	for (size_t i = 0; i < c->nhandlers; i++)
		if (streq(c->handlers[i].name, c->default_handler))
			return 0;
	return err_set(e, ERR_INVALID, "%s: default_handler: there is no handler \"%s\"", file, c->default_handler);
}

int config_load(struct arena *a, const char *file, unsigned flags, struct config *c, struct err *e)
{
	const char *dir = arena_printf(a, "%s.d", file);
	char **names;

	config_defaults(c);
	if (read_file(a, file, c, e) < 0 && (e->kind != ERR_NOT_FOUND || (flags & CONFIG_REQUIRED)))
		return -1;
	names = drop_ins(a, dir);
	for (size_t i = 0; names[i]; i++)
		if (read_file(a, path_join(a, dir, names[i]), c, e) < 0)
			return -1;
	if (!c->libexec)
		c->libexec = default_libexec(a);
	if (complete_cgroup(a, file, c, e) < 0)
		return -1;
	if (check_default_handler(file, c, e) < 0)
		return -1;
	if (!c->socket)
		c->socket = path_join(a, c->run, "knarrd.sock");
	if (!c->user_socket)
		c->user_socket = path_join(a, c->run, "user.sock");
	if (streq(c->socket, c->user_socket))
		return err_set(e, ERR_INVALID, "%s: user_socket: kubelet's socket and the user's are the same, %s",
			       file, c->socket);
	return 0;
}
