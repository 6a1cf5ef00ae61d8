/* The moments at which plugins are called. */
#include "pod/model.h"

#include "base/log.h"

#include <fcntl.h>

enum { CONFIG_MAX = 16 << 20 };

void pods_set_plugins(struct pods *ps, const struct pod_plugins *plugins)
{
	LOCKED(&ps->lock);

	ps->plugins = plugins;
}

const struct pod_plugins *pods_plugins(struct pods *ps)
{
	LOCKED(&ps->lock);

	return ps->plugins;
}

enum plugin_knowledge pod_knowledge_set(const struct pod_view *p, enum plugin_knowledge to)
{
	return (enum plugin_knowledge)atomic_exchange(&p->object->knowledge, (int)to);
}

enum plugin_knowledge container_knowledge_set(const struct container_view *k, enum plugin_knowledge to)
{
	return (enum plugin_knowledge)atomic_exchange(&k->object->knowledge, (int)to);
}

static bool is_known(bool listed, int knowledge)
{
	return knowledge == PLUGINS_TOLD || (listed && knowledge == PLUGINS_UNTOLD);
}

void pods_snapshot(struct pods *ps, struct arena *a, struct pod_views *pods, struct container_views *containers)
{
	LOCKED(&ps->lock);

	*pods = (struct pod_views){ arena_newn0(a, struct pod_view, ps->pods.count + 1), 0 };
	list_for_each(p, &ps->pod_list, struct pod, in_pods)
		if (is_known(pod_is_listed_locked(p), atomic_load(&p->knowledge)))
			pod_view_fill_locked(p, &pods->v[pods->n++]);
	*containers = (struct container_views){ arena_newn0(a, struct container_view, ps->containers.count + 1), 0 };
	list_for_each(k, &ps->container_list, struct container, in_containers)
		if (is_known(container_is_listed_locked(k), atomic_load(&k->knowledge)))
			container_view_fill_locked(k, &containers->v[containers->n++]);
}

int container_view_config(const struct container_view *k, struct arena *a, struct oci_config *out, struct err *e)
{
	struct str text;

	if (fs_read_file(a, AT_FDCWD, container_path(a, k->object, "config.json"), CONFIG_MAX, &text, e) < 0)
		return -1;
	return oci_config_read(a, text, out, e);
}

const char *container_view_cgroup(const struct container_view *k)
{
	return k->object->cgroup_path;
}

/* --- a pod ------------------------------------------------------------------------------------------------ */

static void view_pod(struct pod *p, struct pod_views *out, struct pod_view *room)
{
	LOCKED(&p->all->lock);

	*out = (struct pod_views){ room, 1 };
	pod_view_fill_locked(p, room);
}

int plugins_pod(struct pod *p, enum pod_moment m, const struct config_resources *overhead,
		const struct config_resources *resources, struct err *e)
{
	const struct pod_plugins *plugins = pods_plugins(p->all);
	auto_pod_views views = { 0 };
	struct pod_view room;

	if (!plugins)
		return 0;
	view_pod(p, &views, &room);
	return plugins->pod(plugins->ctx, m, &room, overhead, resources, e);
}

void plugins_pod_told(struct pod *p, enum pod_moment m)
{
	struct err e;

	if (plugins_pod(p, m, NULL, NULL, &e) < 0)
		log_warn("a plugin's refusal comes too late pod=%s: %s", p->id, e.msg);
}

/* --- a container -------------------------------------------------------------------------------------------- */

/* One moment at a time, in order. */
void plugins_begin(struct container *k)
{
	LOCKED(&k->all->lock);
	struct err e;

	while (k->telling)
		(void)cond_wait(NULL, &k->changed, &k->all->lock, &e);
	k->telling = true;
}

void plugins_end(struct container *k)
{
	LOCKED(&k->all->lock);

	k->telling = false;
	cond_broadcast(&k->changed);
}

struct both {
	struct pod_views pods;
	struct container_views containers;
	struct pod_view pod;
	struct container_view container;
};

static void both_release(struct both *b)
{
	pod_views_release(&b->pods);
	container_views_release(&b->containers);
}
#define auto_both AUTO(both_release) struct both

static void view_both(struct container *k, struct both *b)
{
	LOCKED(&k->all->lock);

	b->pods = (struct pod_views){ &b->pod, 1 };
	b->containers = (struct container_views){ &b->container, 1 };
	pod_view_fill_locked(k->pod, &b->pod);
	container_view_fill_locked(k, &b->container);
}

int plugins_container(struct container *k, enum pod_moment m, struct err *e)
{
	const struct pod_plugins *plugins = pods_plugins(k->all);
	auto_both b = { 0 };

	if (!plugins)
		return 0;
	view_both(k, &b);
	return plugins->container(plugins->ctx, m, &b.pod, &b.container, e);
}

void plugins_container_told(struct container *k, enum pod_moment m)
{
	struct err e;

	if (plugins_container(k, m, &e) < 0)
		log_warn("a plugin's refusal comes too late container=%s: %s", k->id, e.msg);
}

int plugins_adjust(struct container *k, struct arena *a, struct pod_adjustment *io, struct err *e)
{
	const struct pod_plugins *plugins = pods_plugins(k->all);
	auto_both b = { 0 };

	if (!plugins)
		return 0;
	view_both(k, &b);
	return plugins->adjust(plugins->ctx, a, &b.pod, &b.container, io, e);
}

int plugins_readjust(struct container *k, struct arena *a, const struct pod_adjustment *wishes, struct oci_config *c,
		     struct err *e)
{
	const struct pod_plugins *plugins = pods_plugins(k->all);

	return plugins ? plugins->readjust(plugins->ctx, a, wishes, c, e) : 0;
}

int plugins_update(struct container *k, struct arena *a, struct oci_resources *r, struct err *e)
{
	const struct pod_plugins *plugins = pods_plugins(k->all);
	auto_both b = { 0 };

	if (!plugins)
		return 0;
	view_both(k, &b);
	return plugins->update(plugins->ctx, a, &b.pod, &b.container, r, e);
}

/* --- ends ----------------------------------------------------------------------------------------------------- */

static void stop_is_told(struct container *k)
{
	LOCKED(&k->all->lock);

	k->stop_due = false;
	cond_broadcast(&k->changed);
}

static void *ended_thread(void *arg)
{
	struct container *k = arg;
	struct pods *ps = k->all;

	plugins_begin(k);
	plugins_container_told(k, CONTAINER_MOMENT_STOPPED);
	stop_is_told(k);
	plugins_end(k);
	container_unref(k);
	pods_job_done(ps);
	return NULL;
}

void plugins_ended(struct container *k)
{
	const struct pod_plugins *plugins = pods_plugins(k->all);
	struct err e;

	if (!plugins || plugins->idle(plugins->ctx)) {
		stop_is_told(k);
		return;
	}
	if (pods_job(k->all, "nri-stop", ended_thread, container_ref(k), &e) < 0) {
		log_error("plugins are not told of an end container=%s: %s", k->id, e.msg);
		stop_is_told(k);
		container_unref(k);
	}
}

void plugins_wait_ended(struct container *k)
{
	LOCKED(&k->all->lock);
	struct err e;

	while (k->stop_due)
		(void)cond_wait(NULL, &k->changed, &k->all->lock, &e);
}
