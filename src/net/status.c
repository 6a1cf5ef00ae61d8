/* What CNI 1.1.0 has beside ADD and DEL: whether plugins can work (STATUS), whether a pod's network is as ADD made it
 * (CHECK, since 0.4.0), and what they may let go of (GC). */
#include "net/inside.h"

#include "base/clock.h"

static const int64_t good_for_ns = 10 * NS_PER_S, bad_for_ns = 2 * NS_PER_S, answer_within_ns = 5 * NS_PER_S;

/* The list's own wish, of the specification's section 1. */
static bool says(const struct cni_conf *conf, const char *key)
{
	const struct json *j = json_get(conf->doc, key);

	return j && (j->type == JSON_TRUE || (j->type == JSON_STRING && str_eqz(j->text, "true")));
}

/* --- STATUS ---------------------------------------------------------------------------------------- */

static int ask_plugins(struct net *n, const struct cni_conf *conf, struct err *e)
{
	const struct plugin_task task = { .command = "STATUS", .pod_id = "", .netns = "", .interface = "", .args = "",
					  .conf = conf };
	auto_call c;

	/* Of its own: who asked may go, and the others get the answer. */
	call_begin(&c, clock_mono_ns() + answer_within_ns);
	for (size_t i = 0; i < conf->nplugins; i++) {
		struct str ignored;

		if (plugin_run(&n->place, &c, &task, i, NULL, &ignored, e) < 0)
			return -1;
	}
	return 0;
}

static uint64_t hash_of(const struct cni_conf *conf)
{
	auto_buf b = BUF(2 * CNI_CONF_MAX);
	struct err e;

	return json_write_value(&b, conf->doc, &e) < 0 ? 1 : str_hash(buf_text(&b)) | 1;
}

/* 1: the answer at hand counts; 0: this thread is to ask. */
static int status_known(struct net *n, struct call *c, uint64_t hash, struct err *e)
{
	LOCKED(&n->status.lock);

	while (n->status.asking)
		if (cond_wait(c, &n->status.changed, &n->status.lock, e) < 0)
			return -1;
	if (n->status.of == hash && clock_mono_ns() < n->status.until_ns) {
		if (n->status.good)
			return 1;
		*e = n->status.said;
		return -1;
	}
	n->status.asking = true;
	return 0;
}

int net_status(struct net *n, struct call *c, enum net_scope scope, struct err *e)
{
	const struct net_request r = { .configured_only = scope == NET_CONFIGURED };
	struct cni_conf conf;
	uint64_t hash;
	int rc;

	if ((scope == NET_CONFIGURED ? net_configured(n, e) : net_ready(n, e)) < 0 ||
	    net_conf_of(n, &c->arena, &r, &conf, e) < 0)
		return -1;
	if (cni_version_compare(conf.version, "1.1.0") < 0)
		return 0;
	hash = hash_of(&conf);
	rc = status_known(n, c, hash, e);
	if (rc != 0)
		return rc < 0 ? -1 : 0;
	rc = ask_plugins(n, &conf, e);
	LOCKED(&n->status.lock);
	n->status.asking = false;
	n->status.of = hash;
	n->status.good = rc == 0;
	n->status.until_ns = clock_mono_ns() + (rc == 0 ? good_for_ns : bad_for_ns);
	if (rc < 0)
		n->status.said = *e;
	cond_broadcast(&n->status.changed);
	return rc;
}

/* --- CHECK ----------------------------------------------------------------------------------------- */

int net_check(struct net *n, struct call *c, const char *pod_id, const char *netns_path, struct err *e)
{
	struct attachments there;

	if (attachments_of(n->catalog, &c->arena, pod_id, &there, e) < 0)
		return -1;
	for (size_t i = 0; i < there.n; i++) {
		const struct attachment *t = &there.p[i];
		struct plugin_task task;
		struct cni_conf conf;
		struct str ignored;

		if (!streq(t->state, ATTACHMENT_ADDED) || !t->result)
			return err_set(e, ERR_STATE, "network %s of pod %s is %s", t->network, pod_id, t->state);
		if (cni_conf_read(&c->arena, t->config, &conf, e) < 0)
			return err_in(e, "recorded network of pod %s", pod_id);
		if (cni_version_compare(conf.version, "0.4.0") < 0 || says(&conf, "disableCheck"))
			continue;
		task = net_task_of(t, &conf, "CHECK", netns_path);
		for (size_t j = 0; j < conf.nplugins; j++)
			if (plugin_run(&n->place, c, &task, j, t->result, &ignored, e) < 0)
				return -1;
	}
	return 0;
}

/* --- GC -------------------------------------------------------------------------------------------- */

static struct json *new_json(struct arena *a, enum json_type type, const char *key, const char *text)
{
	struct json *j = arena_new0(a, struct json);

	*j = (struct json){ .type = type, .key = key, .text = str_of(text ? text : "") };
	return j;
}

static void add_member(struct json *parent, struct json *member)
{
	member->next = parent->first;
	parent->first = member;
	parent->count++;
}

/* Those of this network; what it is called may have another configuration by now. */
static struct json *valid_attachments(struct arena *a, const struct attachments *all, const char *network)
{
	struct json *list = new_json(a, JSON_ARRAY, "cni.dev/valid-attachments", NULL);

	for (size_t i = 0; i < all->n; i++) {
		struct json *one = new_json(a, JSON_OBJECT, NULL, NULL);

		if (!streq(all->p[i].network, network))
			continue;
		add_member(one, new_json(a, JSON_STRING, "ifname", arena_strdup(a, all->p[i].interface)));
		add_member(one, new_json(a, JSON_STRING, "containerID", arena_strdup(a, all->p[i].pod_id)));
		add_member(list, one);
	}
	return list;
}

/* The same plugins, with the list in each one's configuration. */
static struct cni_conf conf_for_gc(struct arena *a, const struct cni_conf *conf, const struct json *valid)
{
	struct cni_plugin *plugins = arena_newn0(a, struct cni_plugin, conf->nplugins);
	struct cni_conf out = *conf;

	for (size_t i = 0; i < conf->nplugins; i++) {
		struct json *doc = arena_memdup(a, conf->plugins[i].doc, sizeof(*doc));

		add_member(doc, arena_memdup(a, valid, sizeof(*valid)));
		plugins[i] = conf->plugins[i];
		plugins[i].doc = doc;
	}
	out.plugins = plugins;
	return out;
}

static int collect(struct net *n, struct call *c, struct err *e)
{
	struct plugin_task task = { .command = "GC", .pod_id = "", .netns = "", .interface = "", .args = "" };
	const struct net_request r = { .configured_only = false };
	struct attachments all;
	struct cni_conf conf, with;
	struct err first;
	bool failed = false;

	if (net_conf_of(n, &c->arena, &r, &conf, e) < 0)
		return e->kind == ERR_UNAVAILABLE ? 0 : -1;
	if (cni_version_compare(conf.version, "1.1.0") < 0 || says(&conf, "disableGC"))
		return 0;
	if (attachments_of(n->catalog, &c->arena, NULL, &all, e) < 0)
		return -1;
	with = conf_for_gc(&c->arena, &conf, valid_attachments(&c->arena, &all, conf.name));
	task.conf = &with;
	/* All of them, as the specification says; the first error is told. */
	for (size_t i = 0; i < with.nplugins; i++) {
		struct str ignored;

		if (plugin_run(&n->place, c, &task, i, NULL, &ignored, e) == 0 || failed)
			continue;
		first = *e;
		failed = true;
	}
	if (failed)
		*e = first;
	return failed ? -1 : 0;
}

static int gate_close(struct net *n, struct call *c, struct err *e)
{
	LOCKED(&n->gate.lock);

	while (n->gate.adding || n->gate.collecting)
		if (cond_wait(c, &n->gate.changed, &n->gate.lock, e) < 0)
			return -1;
	n->gate.collecting = true;
	return 0;
}

static void gate_open(struct net *n)
{
	LOCKED(&n->gate.lock);

	n->gate.collecting = false;
	cond_broadcast(&n->gate.changed);
}

int net_collect(struct net *n, struct call *c, struct err *e)
{
	int rc;

	if (!n->collects)
		return 0;
	if (gate_close(n, c, e) < 0)
		return -1;
	rc = collect(n, c, e);
	gate_open(n);
	return rc;
}
