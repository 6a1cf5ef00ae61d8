#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/steps.h"
#include "net/attachment.h"
#include "net/inside.h"
#include "net/orphans.h"
#include "net/runtime_config.h"
#include "spec/cni_result.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/vfs.h>

#ifndef NSFS_MAGIC
#define NSFS_MAGIC 0x6e736673
#endif

#define INTERFACE "eth0"

/* -- open and close -- */

struct unfinished {
	struct arena *a;
	char **pod_ids;
};

struct unfinished_fields {
	char *state, *pod_id;
};

static const struct json_field unfinished_fields[] = {
	{ "state", JSON_STR, offsetof(struct unfinished_fields, state), JSON_REQUIRED },
	{ "podId", JSON_STR, offsetof(struct unfinished_fields, pod_id), JSON_REQUIRED },
	{ 0 },
};

static int unfinished_one(void *ctx, const struct record *r, UNUSED struct err *e)
{
	struct unfinished *u = ctx;
	auto_arena a = { 0 };
	struct unfinished_fields f = { 0 };
	struct err mine;

	if (json_load(&a, r->body, unfinished_fields, 0, &f, &mine) < 0) {
		log_error("attachment %s cannot be read: %s", r->id, mine.msg);
		return 0; /* one bad record must not keep the node down; its own DEL will say so */
	}
	if (!streq(f.state, ATTACHMENT_ADDED))
		u->pod_ids = strv_append(u->a, u->pod_ids, f.pod_id);
	return 0;
}

static int end_orphans(struct net *n, struct err *e)
{
	auto_arena a = { 0 };
	struct unfinished u = { .a = &a };

	if (catalog_each(n->catalog, CATALOG_ATTACHMENTS, unfinished_one, &u, e) < 0)
		return -1;
	if (u.pod_ids)
		(void)orphans_end(u.pod_ids);
	return 0;
}

static int check_default(const char *text, struct err *e)
{
	auto_arena a = { 0 };
	struct cni_conf conf;

	if (text && cni_conf_parse(&a, str_of(text), &conf, e) < 0)
		return err_in(e, "the default CNI configuration");
	return 0;
}

static char *join(struct arena *a, char *const *words, char between)
{
	char *out = arena_strdup(a, words[0] ? words[0] : "");

	for (size_t i = 1; i < strv_len(words); i++)
		out = arena_printf(a, "%s%c%s", out, between, words[i]);
	return out;
}

int net_open(const struct net_settings *settings, struct catalog *catalog, struct net **out, struct err *e)
{
	struct arena arena = { 0 };
	struct net *n = arena_new0(&arena, struct net);

	n->catalog = catalog;
	if (check_default(settings->default_conflist, e) < 0 || end_orphans(n, e) < 0) {
		arena_free(&arena);
		return -1;
	}
	n->place = (struct plugin_place){
		.bin_dirs = strv_dup(&arena, settings->bin_dirs),
		.bin_path = join(&arena, settings->bin_dirs, ':'),
		.base_env = plugin_base_env(&arena),
		.timeout_ns = settings->plugin_timeout_ns,
	};
	conf_dir_init(&n->confs, arena_strdup(&arena, settings->conf_dir),
		      arena_strdup(&arena, settings->default_conflist));
	lock_init(&n->status.lock);
	cond_init(&n->status.changed);
	lock_init(&n->gate.lock);
	cond_init(&n->gate.changed);
	n->collects = settings->collects;
	n->arena = arena;
	*out = n;
	return 0;
}

void net_close(struct net *n)
{
	struct arena arena;

	if (!n)
		return;
	conf_dir_end(&n->confs);
	cond_destroy(&n->gate.changed);
	lock_destroy(&n->gate.lock);
	cond_destroy(&n->status.changed);
	lock_destroy(&n->status.lock);
	arena = n->arena;
	arena_free(&arena);
}

/* -- ADD and DEL -- */

struct plugin_task net_task_of(const struct attachment *t, const struct cni_conf *conf, const char *command,
				  const char *netns)
{
	return (struct plugin_task){
		.command = command, .pod_id = t->pod_id, .netns = netns, .interface = t->interface,
		.args = t->args, .conf = conf, .capabilities = t->capabilities,
	};
}

/* "" where the namespace is gone: also where only the file it was bound to is left, after a reboot. */
static const char *netns_if_there(const char *path)
{
	struct statfs fs;

	if (str_is_empty(path) || statfs(path, &fs) < 0)
		return "";
	return fs.f_type == NSFS_MAGIC || fs.f_type == PROC_SUPER_MAGIC ? path : "";
}

static int run_del(struct net *n, struct call *c, const struct attachment *t, const char *netns, struct err *e)
{
	struct plugin_task task;
	struct cni_conf conf;
	struct str ignored;

	if (cni_conf_read(&c->arena, t->config, &conf, e) < 0)
		return err_in(e, "recorded network of pod %s", t->pod_id);
	task = net_task_of(t, &conf, "DEL", netns_if_there(netns));
	for (size_t i = conf.nplugins; i-- > 0; ) {
		const struct json *prev = cni_version_compare(conf.version, "0.4.0") >= 0 ? t->result : NULL;

		/* The first that fails ends it: an address must not be given back while a plugin
		 * above it still forwards to it. All run again the next time. */
		if (plugin_run(&n->place, c, &task, i, prev, &ignored, e) < 0)
			return -1;
	}
	if (steps_point("network", "deleted", e) < 0)
		return -1;
	return attachment_delete(n->catalog, t, e);
}

/* After a failed ADD, in a call of its own: the other may be over. */
static void undo_add(struct net *n, const struct attachment *t, const char *netns)
{
	auto_call c = { 0 };
	struct err e;

	call_begin(&c, 0); /* each plugin has its own limit */
	if (run_del(n, &c, t, netns, &e) < 0)
		log_warn("the network of a failed pod is not undone yet pod=%s: %s", t->pod_id, e.msg);
}

static int run_add(struct net *n, struct call *c, const struct attachment *t, const struct cni_conf *conf,
		   const char *netns, struct cni_result *out, struct err *e)
{
	struct plugin_task task = net_task_of(t, conf, "ADD", netns);

	*out = (struct cni_result){ 0 };
	for (size_t i = 0; i < conf->nplugins; i++) {
		struct str text;

		if (plugin_run(&n->place, c, &task, i, out->doc, &text, e) < 0)
			return -1;
		if (cni_result_parse(&c->arena, text, conf->version, out, e) < 0) {
			(void)err_in(e, "CNI plugin %s, ADD of network %s: it printed no CNI result",
				     conf->plugins[i].type, conf->name);
			return err_kind_to(e, ERR_SYSTEM);
		}
	}
	if (!cni_result_ips_of(&c->arena, out, t->interface)[0])
		return err_set(e, ERR_SYSTEM, "network %s gave the pod no address on %s", conf->name, t->interface);
	return 0;
}

static int result_fill(struct arena *a, const struct cni_result *r, const char *interface, struct net_result *out,
		       struct err *e)
{
	const struct cni_interface *i = cni_result_interface(r, interface);
	auto_buf text = BUF(2 * CNI_RESULT_MAX);

	if (json_write_value(&text, r->doc, e) < 0)
		return -1;
	*out = (struct net_result){
		.ips = cni_result_ips_of(a, r, interface),
		.interface = arena_strdup(a, interface),
		.mac = arena_strdup(a, i && i->mac ? i->mac : ""),
		.cni_result = { arena_strndup(a, text.p, text.len), text.len },
	};
	return 0;
}

static int args_of(struct arena *a, const struct net_request *r, char **out, struct err *e)
{
	const char *values[] = { r->namespace_, r->name, r->uid };

	for (size_t i = 0; i < ARRAY_SIZE(values); i++)
		if (values[i] && strpbrk(values[i], ";="))
			return err_set(e, ERR_INVALID, "\"%s\": a pod's name, namespace and uid may hold no ';' and no '=' "
				       "(they are CNI_ARGS)", values[i]);
	*out = arena_printf(a, "IgnoreUnknown=1;K8S_POD_NAMESPACE=%s;K8S_POD_NAME=%s;"
			       "K8S_POD_INFRA_CONTAINER_ID=%s;K8S_POD_UID=%s",
			    r->namespace_ ? r->namespace_ : "", r->name ? r->name : "", r->pod_id,
			    r->uid ? r->uid : "");
	return 0;
}

static int capabilities_of(struct arena *a, const struct net_request *r, const struct json **out, struct err *e)
{
	auto_buf b = BUF(1 << 20);
	struct json *doc;

	if (runtime_config_print(&b, r, e) < 0 ||
	    json_parse(a, (struct str){ arena_strndup(a, b.p, b.len), b.len }, &doc, e) < 0)
		return err_in(e, "network of pod %s", r->pod_id);
	*out = doc;
	return 0;
}

static int plugins_are_there(struct net *n, struct arena *a, const struct cni_conf *conf, struct err *e)
{
	const char *ignored;

	for (size_t i = 0; i < conf->nplugins; i++)
		if (plugin_find(a, n->place.bin_dirs, conf->plugins[i].type, &ignored, e) < 0)
			return err_in(e, "network %s", conf->name);
	return 0;
}

static int has_none_yet(struct net *n, struct arena *a, const char *pod_id, struct err *e)
{
	struct attachments there;

	if (attachments_of(n->catalog, a, pod_id, &there, e) < 0)
		return -1;
	if (there.n)
		return err_set(e, ERR_EXISTS, "pod %s has a network already (%s, %s)", pod_id, there.p[0].network,
			       there.p[0].state);
	return 0;
}

int net_conf_of(struct net *n, struct arena *a, const struct net_request *r, struct cni_conf *conf,
		   struct err *e)
{
	const char *source;

	if (conf_dir_load(&n->confs, a, conf, &source, e) < 0)
		return -1;
	if (r->configured_only && streq(source, CONF_DIR_DEFAULT))
		return err_set(e, ERR_UNAVAILABLE, "no CNI configuration in %s", n->confs.path);
	return 0;
}

static int gate_enter(struct net *n, struct call *c, struct err *e)
{
	LOCKED(&n->gate.lock);

	while (n->gate.collecting)
		if (cond_wait(c, &n->gate.changed, &n->gate.lock, e) < 0)
			return -1;
	n->gate.adding++;
	return 0;
}

static void gate_leave(struct net *n)
{
	LOCKED(&n->gate.lock);

	n->gate.adding--;
	cond_broadcast(&n->gate.changed);
}

static int add(struct net *n, struct call *c, const struct net_request *r, struct net_result *out, struct err *e)
{
	struct attachment t = { .version = ATTACHMENT_VERSION, .state = ATTACHMENT_ADDING,
				.pod_id = arena_strdup(&c->arena, r->pod_id), .interface = INTERFACE };
	struct cni_result result;
	struct cni_conf conf;

	if (net_conf_of(n, &c->arena, r, &conf, e) < 0 ||
	    plugins_are_there(n, &c->arena, &conf, e) < 0 || has_none_yet(n, &c->arena, r->pod_id, e) < 0 ||
	    args_of(&c->arena, r, &t.args, e) < 0 || capabilities_of(&c->arena, r, &t.capabilities, e) < 0)
		return -1;
	t.network = arena_strdup(&c->arena, conf.name);
	t.config = conf.doc;
	if (attachment_put(n->catalog, &t, e) < 0)
		return -1;
	if (steps_point("network", "add", e) == 0 &&
	    run_add(n, c, &t, &conf, r->netns_path, &result, e) == 0 && steps_point("network", "added", e) == 0) {
		t.state = ATTACHMENT_ADDED;
		t.result = result.doc;
		if (attachment_put(n->catalog, &t, e) == 0)
			return result_fill(&c->arena, &result, t.interface, out, e);
	}
	undo_add(n, &t, r->netns_path);
	return -1;
}

int net_add(struct net *n, struct call *c, const struct net_request *r, struct net_result *out, struct err *e)
{
	int rc;

	if (gate_enter(n, c, e) < 0)
		return -1;
	rc = add(n, c, r, out, e);
	gate_leave(n);
	return rc;
}

int net_del(struct net *n, struct call *c, const struct net_request *r, struct err *e)
{
	struct attachments there;

	if (attachments_of(n->catalog, &c->arena, r->pod_id, &there, e) < 0)
		return -1;
	for (size_t i = 0; i < there.n; i++) {
		struct attachment *t = &there.p[i];

		if (!streq(t->state, ATTACHMENT_DELETING)) {
			t->state = ATTACHMENT_DELETING;
			if (attachment_put(n->catalog, t, e) < 0)
				return -1;
		}
		if (run_del(n, c, t, r->netns_path, e) < 0)
			return -1;
	}
	return 0;
}

/* -- what is -- */

int net_result_of(struct net *n, struct arena *a, const char *pod_id, struct net_result *out, struct err *e)
{
	struct attachments there;
	struct cni_result result;
	struct cni_conf conf;

	if (attachments_of(n->catalog, a, pod_id, &there, e) < 0)
		return -1;
	for (size_t i = 0; i < there.n; i++) {
		const struct attachment *t = &there.p[i];

		if (!streq(t->state, ATTACHMENT_ADDED) || !t->result)
			continue;
		if (cni_conf_read(a, t->config, &conf, e) < 0 ||
		    cni_result_read(a, t->result, conf.version, &result, e) < 0) {
			(void)err_in(e, "recorded network of pod %s", pod_id);
			return err_kind_to(e, ERR_DATA_LOSS);
		}
		return result_fill(a, &result, t->interface, out, e);
	}
	return err_set(e, ERR_NOT_FOUND, "pod %s has no network", pod_id);
}

static int ready_for(struct net *n, const struct net_request *r, struct err *e)
{
	auto_arena a = { 0 };
	struct cni_conf conf;

	if (net_conf_of(n, &a, r, &conf, e) < 0)
		return -1;
	return plugins_are_there(n, &a, &conf, e);
}

int net_ready(struct net *n, struct err *e)
{
	return ready_for(n, &(struct net_request){ .configured_only = false }, e);
}

int net_configured(struct net *n, struct err *e)
{
	return ready_for(n, &(struct net_request){ .configured_only = true }, e);
}

struct pods {
	struct arena *a;
	char **ids;
};

static int pods_one(void *ctx, const struct record *r, UNUSED struct err *e)
{
	struct pods *p = ctx;

	if (r->parent && !strv_has(p->ids, r->parent))
		p->ids = strv_append(p->a, p->ids, r->parent);
	return 0;
}

int net_pods(struct net *n, struct arena *a, char ***out, struct err *e)
{
	struct pods p = { .a = a, .ids = arena_newn0(a, char *, 1) };

	if (catalog_each(n->catalog, CATALOG_ATTACHMENTS, pods_one, &p, e) < 0)
		return -1;
	*out = p.ids;
	return 0;
}

char *net_default_conflist(struct arena *a, const char *bridge, const char *subnet)
{
	return arena_printf(a,
		"{\"cniVersion\":\"1.0.0\",\"name\":\"knarr\",\"plugins\":["
		"{\"type\":\"bridge\",\"bridge\":\"%s\",\"isGateway\":true,\"ipMasq\":true,\"hairpinMode\":true,"
		"\"ipam\":{\"type\":\"host-local\",\"ranges\":[[{\"subnet\":\"%s\"}]],"
		"\"routes\":[{\"dst\":\"%s\"}]}},"
		"{\"type\":\"portmap\",\"capabilities\":{\"portMappings\":true}}]}",
		bridge, subnet, strchr(subnet, ':') ? "::/0" : "0.0.0.0/0");
}
