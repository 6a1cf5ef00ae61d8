#include "pod/model.h"

/* Its addresses go back with the network: another pod may have them the next moment. */
static bool has_network(const struct pod *p)
{
	return p->state != POD_STOPPED && p->state != POD_REMOVING;
}

void pod_view_fill_locked(struct pod *p, struct pod_view *v)
{
	lock_assert_held(&p->all->lock);
	*v = (struct pod_view){
		.id = p->id, .owner = p->owner, .state = p->state, .config = p->config,
		.handler = p->handler, .created_wall_ns = p->created_wall_ns, .ips = has_network(p) ? p->ips : NULL,
		.netns_path = p->netns_path, .monitor_pid = p->monitor.pid, .reason = p->reason,
		.object = pod_ref(p),
	};
}

static enum container_state shown_state(enum container_state s)
{
	switch (s) {
	case CONTAINER_CREATING:
	case CONTAINER_STARTING:
		return CONTAINER_CREATED;
	case CONTAINER_REMOVING:
		return CONTAINER_EXITED;
	default:
		return s;
	}
}

void container_view_fill_locked(struct container *k, struct container_view *v)
{
	lock_assert_held(&k->all->lock);
	*v = (struct container_view){
		.id = k->id, .pod_id = k->pod->id, .owner = k->pod->owner, .state = shown_state(k->state),
		.config = k->config, .pod_config = k->pod->config, .image_id = k->image_id,
		.log_path = k->log_path, .created_wall_ns = k->created_wall_ns,
		.started_wall_ns = k->started_wall_ns, .finished_wall_ns = k->finished_wall_ns,
		.exit_code = k->exit_code, .oom_killed = k->oom_killed, .reason = k->reason,
		.message = k->message, .pid = k->state == CONTAINER_RUNNING ? k->pid : 0,
		.user = k->user, .stop_signal = k->stop_signal, .object = container_ref(k),
	};
}

void pod_views_release(struct pod_views *v)
{
	for (size_t i = 0; i < v->n; i++)
		pod_unref(v->v[i].object);
	v->n = 0;
}

void container_views_release(struct container_views *v)
{
	for (size_t i = 0; i < v->n; i++)
		container_unref(v->v[i].object);
	v->n = 0;
}

static bool labels_match(const struct json_map *have, const struct json_map *want)
{
	for (size_t i = 0; want && i < want->count; i++)
		if (!streq_null(json_map_get(have, want->p[i].key), want->p[i].value))
			return false;
	return true;
}

static bool id_matches(const char *id, const char *want)
{
	return str_is_empty(want) || starts_with(id, want);
}

static bool pod_matches(const struct pod *p, enum pod_owner owner, const struct pod_filter *f)
{
	if (p->owner != owner || !pod_is_listed_locked(p))
		return false;
	if (!f)
		return true;
	if (f->ready && *f->ready != (p->state == POD_READY))
		return false;
	return id_matches(p->id, f->id) && labels_match(&p->config->labels, f->labels);
}

int pod_list(struct pods *ps, struct arena *a, enum pod_owner owner, const struct pod_filter *f,
	     struct pod_views *out, struct err *e)
{
	LOCKED(&ps->lock);

	if (pods_check_ready_locked(ps, e) < 0)
		return -1;
	*out = (struct pod_views){ arena_newn0(a, struct pod_view, ps->pods.count + 1), 0 };
	list_for_each(p, &ps->pod_list, struct pod, in_pods)
		if (pod_matches(p, owner, f))
			pod_view_fill_locked(p, &out->v[out->n++]);
	return 0;
}

int pod_status(struct pods *ps, struct arena *a, enum pod_owner owner, const char *id, struct pod_views *out,
	       struct err *e)
{
	LOCKED(&ps->lock);
	struct pod *p = pod_find_locked(ps, owner, id, e);

	if (!p)
		return -1;
	if (!pod_is_listed_locked(p))
		return err_set(e, ERR_NOT_FOUND, "there is no pod %s", id);
	*out = (struct pod_views){ arena_new0(a, struct pod_view), 1 };
	pod_view_fill_locked(p, out->v);
	return 0;
}

static bool container_matches(const struct container *k, enum pod_owner owner, const struct container_filter *f)
{
	if (k->pod->owner != owner || !container_is_listed_locked(k))
		return false;
	if (!f)
		return true;
	if (f->state && *f->state != shown_state(k->state))
		return false;
	return id_matches(k->id, f->id) && id_matches(k->pod->id, f->pod_id) &&
	       labels_match(&k->config->labels, f->labels);
}

int container_list(struct pods *ps, struct arena *a, enum pod_owner owner, const struct container_filter *f,
		   struct container_views *out, struct err *e)
{
	LOCKED(&ps->lock);

	if (pods_check_ready_locked(ps, e) < 0)
		return -1;
	*out = (struct container_views){ arena_newn0(a, struct container_view, ps->containers.count + 1), 0 };
	list_for_each(k, &ps->container_list, struct container, in_containers)
		if (container_matches(k, owner, f))
			container_view_fill_locked(k, &out->v[out->n++]);
	return 0;
}

int container_status(struct pods *ps, struct arena *a, enum pod_owner owner, const char *id,
		     struct container_views *out, struct err *e)
{
	LOCKED(&ps->lock);
	struct container *k = container_find_locked(ps, owner, id, e);

	if (!k)
		return -1;
	if (!container_is_listed_locked(k))
		return err_set(e, ERR_NOT_FOUND, "there is no container %s", id);
	*out = (struct container_views){ arena_new0(a, struct container_view), 1 };
	container_view_fill_locked(k, out->v);
	return 0;
}

static void take_resources(struct pod *p, const struct config_resources *overhead,
			  const struct config_resources *resources)
{
	LOCKED(&p->all->lock);
	struct config_resources *copy;

	if (overhead) {
		copy = arena_new0(&p->arena, struct config_resources);
		json_copy(&p->arena, config_resources_fields, overhead, copy);
		p->config->overhead = copy;
	}
	if (resources) {
		copy = arena_new0(&p->arena, struct config_resources);
		json_copy(&p->arena, config_resources_fields, resources, copy);
		p->config->resources = copy;
	}
	p->recording.wanted++;
}

int pod_update_resources(struct pods *ps, enum pod_owner owner, const char *id,
			 const struct config_resources *overhead, const struct config_resources *resources,
			 struct err *e)
{
	auto_pod *p = pod_get(ps, owner, id, e);

	if (!p || plugins_pod(p, POD_MOMENT_UPDATE, overhead, resources, e) < 0)
		return -1;
	take_resources(p, overhead, resources);
	if (pod_save(p, e) < 0)
		return -1;
	plugins_pod_told(p, POD_MOMENT_UPDATED);
	return 0;
}

void pod_running_containers(struct arena *a, struct pod *p, struct container_views *out)
{
	LOCKED(&p->all->lock);
	size_t n = 0;

	list_for_each(k, &p->containers, struct container, in_pod)
		n++;
	*out = (struct container_views){ arena_newn0(a, struct container_view, n + 1), 0 };
	list_for_each(k, &p->containers, struct container, in_pod)
		if (container_is_listed_locked(k) && shown_state(k->state) == CONTAINER_RUNNING)
			container_view_fill_locked(k, &out->v[out->n++]);
}

int pods_find_any(struct pods *ps, struct arena *a, const char *id, struct pod_views *pod,
		  struct container_views *container, struct err *e)
{
	LOCKED(&ps->lock);
	struct container *k = map_get(&ps->containers, id);
	struct pod *p = map_get(&ps->pods, id);

	if (pods_check_ready_locked(ps, e) < 0)
		return -1;
	if (!k && !p)
		return err_set(e, ERR_NOT_FOUND, "there is no container or pod %s", id);
	*pod = (struct pod_views){ arena_new0(a, struct pod_view), 0 };
	*container = (struct container_views){ arena_new0(a, struct container_view), 0 };
	if (p)
		pod_view_fill_locked(p, &pod->v[pod->n++]);
	else
		container_view_fill_locked(k, &container->v[container->n++]);
	return 0;
}
