/* CreateContainer: as RunPodSandbox in pod_run.c. */
#include "pod/model.h"

#include "base/log.h"
#include "image/image.h"

/* --- what is wished -------------------------------------------------------------------------------------- */

static int check_config(const struct container_config *c, struct err *e)
{
	if (str_is_empty(c->name))
		return err_set(e, ERR_INVALID, "the container has no name (config.metadata.name)");
	if (str_is_empty(c->image))
		return err_set(e, ERR_INVALID, "container %s has no image (config.image.image)", c->name);
	if (c->tty || c->stdin_open)
		log_debug("container wishes a terminal or stdin name=%s", c->name);
	return 0;
}

/* kubelet says where its logs lie, and removes them itself; a user's lie with the pod and go with it. */
static const char *log_path_of(struct arena *a, const struct pod *p, const struct container_config *c)
{
	const char *folder = p->config->log_directory;

	if (str_is_empty(c->log_path) || (str_is_empty(folder) && p->owner != POD_OWNER_USER))
		return NULL;
	if (str_is_empty(folder))
		folder = arena_printf(a, "%s/pods/%s/logs", p->all->settings.root, p->id);
	return path_join(a, folder, c->log_path);
}

/* kubelet says what it has pulled (image_ref); others a name. */
static int resolve_volumes(struct pods *ps, struct arena *a, struct container_config *c, struct err *e)
{
	struct config_mount *m = c->mounts.p;

	for (size_t i = 0; i < c->mounts.count; i++) {
		auto_arena scratch = { 0 };
		struct image image;

		if (str_is_empty(m[i].image))
			continue;
		if (image_find(ps->images, &scratch, str_is_empty(m[i].image_ref) ? m[i].image : m[i].image_ref, &image, e) < 0)
			return err_in(e, "mount %s", m[i].container_path);
		m[i].image_id = arena_strdup(a, image.id);
	}
	return 0;
}

static int container_wished(struct pod *p, const struct container_config *config, const char *image_id,
			    struct container **out, struct err *e)
{
	auto_container *k = container_new(p);
	struct arena *a = &k->arena;
	const char *parent, *cgroup = NULL;

	id_new(k->id);
	k->config = arena_new0(a, struct container_config);
	json_copy(a, container_config_fields, config, k->config);
	if (resolve_volumes(p->all, a, k->config, e) < 0)
		return -1;
	k->key = container_key(a, p->id, k->config);
	k->image_id = arena_strdup(a, image_id);
	k->log_path = log_path_of(a, p, k->config);
	k->created_wall_ns = clock_wall_ns();
	if (pod_cgroup_parent(a, p, &parent, e) < 0 ||
	    cgroup_path_clean(a, unit_container_cgroup(a, p->all, parent, k->id), &cgroup, e) < 0)
		return -1;
	k->cgroup_path = cgroup;
	if (making_wish_hash(container_config_fields, config, &k->making.wish_hash, e) < 0)
		return -1;
	*out = k;
	k = NULL;
	return 0;
}

/* --- the thread that makes it ---------------------------------------------------------------------------- */

static void container_unmake(struct container *k)
{
	struct err e;
	int rc;

	if (atomic_load(&k->knowledge) == PLUGINS_TOLD)
		plugins_container_told(k, CONTAINER_MOMENT_REMOVE);
	rc = steps_undo(&container_steps, container_steps.count, k, &e);
	LOCKED(&k->all->lock);

	if (rc == 0) {
		container_forget_locked(k);
		return;
	}
	/* What is left goes with a RemoveContainer: it is listed as one that never ran. */
	k->reason = "CreateError";
	k->message = arena_strdup(&k->arena, e.msg);
	k->finished_wall_ns = clock_wall_ns();
	k->exit_code = 128;
	k->state = CONTAINER_EXITED;
	k->making.collected = true;
	cond_broadcast(&k->pod->changed);
}

static int become_created(struct container *k, struct err *e)
{
	LOCKED(&k->all->lock);

	if (k->making.cancelled)
		return err_set(e, ERR_CANCELLED, "container %s was stopped while it was being created", k->id);
	if (k->pod->state != POD_READY)
		return err_set(e, ERR_STATE, "pod %s is %s", k->pod->id, pod_state_name[k->pod->state]);
	return container_enter_locked(k, CONTAINER_CREATED, e);
}

static int container_offer(struct container *k, struct err *e)
{
	struct pods *ps = k->all;
	bool collected = false;
	int rc;

	plugins_container_told(k, CONTAINER_MOMENT_CREATED);
	making_promise(&k->making, &ps->lock);
	rc = container_save(k, e);
	LOCKED(&ps->lock);
	if (rc == 0)
		collected = making_offer_locked(&k->making, &k->changed, &ps->lock, ps->settings.collect_limit_ns);
	if (!collected)
		return rc < 0 ? -1 : err_set(e, ERR_CANCELLED, "nobody collected container %s in time", k->id);
	if (k->making.promised)
		event_push_locked(ps, POD_EVENT_CREATED, k->pod->owner, k->pod->id, k->id);
	cond_broadcast(&k->pod->changed);
	return 0;
}

static void *make_thread(void *arg)
{
	struct container *k = arg;
	struct pods *ps = k->all;
	struct err e;

	call_begin(&k->making.call, clock_mono_ns() + ps->settings.create_limit_ns);
	making_begun(&k->making, &ps->lock);
	if (steps_run(&container_steps, 0, k, &e) < 0 || become_created(k, &e) < 0 || container_offer(k, &e) < 0) {
		container_unmake(k);
		making_failed(&k->making, &k->changed, &ps->lock, &e);
	}
	making_end(&k->making, &ps->lock);
	container_unref(k);
	pods_job_done(ps);
	return NULL;
}

/* --- the one who asks --------------------------------------------------------------------------------------- */

static int join_or_begin_locked(struct pods *ps, struct call *c, struct container *mine, struct container **out,
				struct err *e)
{
	for (;;) {
		struct container *k = map_get(&ps->container_keys, mine->key);
		auto_container *old = NULL;

		if (pods_check_ready_locked(ps, e) < 0)
			return -1;
		if (mine->pod->state != POD_READY)
			return err_set(e, ERR_STATE, "pod %s is %s", mine->pod->id,
				       pod_state_name[mine->pod->state]);
		if (!k)
			break;
		if (container_is_listed_locked(k))
			return err_set(e, ERR_EXISTS, "container %s (attempt %u) is there already in pod %s, as %s",
				       k->config->name, k->config->attempt, k->pod->id, k->id);
		old = container_ref(k);
		if (k->making.wish_hash == mine->making.wish_hash && !k->making.cancelled) {
			*out = old;
			old = NULL;
			return 1;
		}
		making_cancel_locked(&k->making, &k->changed);
		if (cond_wait(c, &old->changed, &ps->lock, e) < 0)
			return -1;
	}
	mine->making.active = true;
	BUG_ON(!container_insert_locked(mine));
	*out = container_ref(mine);
	return 0;
}

static int begin(struct container *k, struct err *e)
{
	struct pods *ps = k->all;

	if (pods_job(ps, "create", make_thread, container_ref(k), e) == 0)
		return 0;
	making_failed(&k->making, &k->changed, &ps->lock, e);
	LOCKED(&ps->lock);
	container_forget_locked(k);
	container_unref(k);
	return -1;
}

int container_create(struct pods *ps, struct call *c, enum pod_owner owner, const char *pod_id,
		     const struct container_config *config, const char **id, struct err *e)
{
	auto_pod *p = NULL;
	auto_container *mine = NULL, *k = NULL;
	struct image image;
	int rc;

	if (check_config(config, e) < 0)
		return -1;
	p = pod_get(ps, owner, pod_id, e);
	if (!p || image_find(ps->images, &c->arena, config->image, &image, e) < 0 ||
	    container_wished(p, config, image.id, &mine, e) < 0)
		return -1;
	lock_acquire(&ps->lock);
	rc = join_or_begin_locked(ps, c, mine, &k, e);
	lock_release(&ps->lock);
	if (rc < 0 || (rc == 0 && begin(k, e) < 0))
		return -1;
	lock_acquire(&ps->lock);
	rc = making_collect_locked(&k->making, &k->changed, &ps->lock, c, e);
	k->recording.wanted += rc > 0;
	if (rc > 0) /* in the moment it is collected: its start cannot be told before */
		event_push_locked(ps, POD_EVENT_CREATED, k->pod->owner, k->pod->id, k->id);
	lock_release(&ps->lock);
	if (rc < 0 || (rc > 0 && container_save(k, e) < 0))
		return -1;
	*id = arena_strdup(&c->arena, k->id);
	return 0;
}
