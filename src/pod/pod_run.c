/* RunPodSandbox: reserve the name, make the pod in a thread of its own, and let whoever asks for the
 * same name collect it. */
#include "pod/handler.h"

#include "base/log.h"

/* --- what is wished -------------------------------------------------------------------------------------- */

/* What of the node's an own user namespace would have no right to: /proc and /dev/mqueue are mounted anew. */
static int check_userns(const struct pods *ps, const struct pod_config *c, struct err *e)
{
	if (!config_userns(&c->namespaces))
		return 0;
	if (!ps->facts.userns_supported)
		return err_set(e, ERR_STATE, "namespace_options.userns_options: this kernel has no user namespaces with "
			       "idmapped mounts (it must be Linux 5.19 or newer, user.max_user_namespaces above 0)");
	if (c->namespaces.pid == CONFIG_NS_NODE)
		return err_set(e, ERR_INVALID, "namespace_options: a user namespace and the node's PID namespace");
	if (c->namespaces.ipc == CONFIG_NS_NODE)
		return err_set(e, ERR_INVALID, "namespace_options: a user namespace and the node's IPC namespace");
	return 0;
}

static int check_config(const struct pods *ps, const struct pod_config *c, struct err *e)
{
	if (str_is_empty(c->name))
		return err_set(e, ERR_INVALID, "the pod has no name (config.metadata.name)");
	if (check_userns(ps, c, e) < 0)
		return -1;
	if (c->namespaces.pid == CONFIG_NS_TARGET || c->namespaces.ipc == CONFIG_NS_TARGET ||
	    c->namespaces.network == CONFIG_NS_TARGET)
		return err_set(e, ERR_INVALID, "a pod's namespaces cannot be those of a target container");
	if (c->log_directory && c->log_directory[0] && c->log_directory[0] != '/')
		return err_set(e, ERR_INVALID, "log_directory %s is not absolute", c->log_directory);
	return 0;
}

static struct pod *pod_wished(struct pods *ps, enum pod_owner owner, const struct pod_config *config,
			      uint64_t hash)
{
	struct pod *p = pod_new(ps);

	id_new(p->id);
	p->owner = owner;
	p->config = arena_new0(&p->arena, struct pod_config);
	json_copy(&p->arena, pod_config_fields, config, p->config);
	p->key = pod_key(&p->arena, owner, p->config);
	p->handler = p->config->handler ? p->config->handler : "";
	p->created_wall_ns = clock_wall_ns();
	p->making.wish_hash = hash;
	return p;
}

/* --- the thread that makes it ---------------------------------------------------------------------------- */

/* What could not be undone keeps the pod: it is listed as stopped, and a stop tries again. */
static void pod_keep_stopped(struct pod *p, const struct err *why)
{
	struct err e;

	lock_acquire(&p->all->lock);
	p->reason = arena_printf(&p->arena, "was not made: %s", why->msg);
	p->settled = false;
	if (p->state != POD_STOPPING)
		(void)pod_enter_locked(p, POD_STOPPING, &e);
	(void)pod_enter_locked(p, POD_STOPPED, &e);
	p->making.collected = true;
	lock_release(&p->all->lock);
	if (pod_save(p, &e) < 0)
		log_error("%s", e.msg);
}

/* Undoes a pod that failed or that nobody collected. */
static void pod_unmake(struct pod *p, const struct err *why)
{
	struct err e;

	if (atomic_load(&p->knowledge) == PLUGINS_TOLD) {
		plugins_pod_told(p, POD_MOMENT_STOPPED);
		plugins_pod_told(p, POD_MOMENT_REMOVE);
	}
	if (p->undo_failed || steps_undo(&pod_keep_steps, pod_keep_steps.count, p, &e) < 0) {
		pod_keep_stopped(p, why);
		return;
	}
	LOCKED(&p->all->lock);
	pod_forget_locked(p);
}

static int pod_become_ready(struct pod *p, struct err *e)
{
	LOCKED(&p->all->lock);

	if (p->making.cancelled)
		return err_set(e, ERR_CANCELLED, "pod %s was stopped while it was being made", p->id);
	return pod_enter_locked(p, POD_READY, e);
}

static int pod_make(struct pod *p, struct err *e)
{
	struct err ignored;

	if (steps_run(&pod_keep_steps, 0, p, e) < 0)
		return -1;
	if (steps_run(&pod_run_steps, 0, p, e) < 0)
		return -1;
	if (plugins_pod(p, POD_MOMENT_RUN, NULL, NULL, e) == 0 && pod_become_ready(p, e) == 0)
		return 0;
	(void)steps_undo(&pod_run_steps, pod_run_steps.count, p, &ignored);
	return -1;
}

/* By whoever makes it collected, in the same moment: nothing that happens to it is told before. */
static void tell_locked(struct pod *p)
{
	event_push_locked(p->all, POD_EVENT_CREATED, p->owner, p->id, p->id);
	event_push_locked(p->all, POD_EVENT_STARTED, p->owner, p->id, p->id);
}

/* Ready, and told to those who wait, or to who comes in time; else it is undone. */
static int pod_offer(struct pod *p, struct err *e)
{
	struct pods *ps = p->all;
	struct err ignored;
	bool collected = false;
	int rc;

	making_promise(&p->making, &ps->lock);
	rc = pod_save(p, e);
	lock_acquire(&ps->lock);
	if (rc == 0)
		collected = making_offer_locked(&p->making, &p->changed, &ps->lock, ps->settings.collect_limit_ns);
	if (collected && p->making.promised)
		tell_locked(p);
	if (!collected) {
		(void)pod_enter_locked(p, POD_STOPPING, &ignored);
	}
	lock_release(&ps->lock);
	if (collected)
		return 0;
	(void)steps_undo(&pod_run_steps, pod_run_steps.count, p, &ignored);
	return rc < 0 ? -1 : err_set(e, ERR_CANCELLED, "nobody collected pod %s in time", p->id);
}

static void *make_thread(void *arg)
{
	struct pod *p = arg;
	struct pods *ps = p->all;
	struct err e;

	call_begin(&p->making.call, clock_mono_ns() + ps->settings.create_limit_ns);
	making_begun(&p->making, &ps->lock);
	if (pod_make(p, &e) < 0 || pod_offer(p, &e) < 0) {
		pod_unmake(p, &e);
		making_failed(&p->making, &p->changed, &ps->lock, &e);
	}
	making_end(&p->making, &ps->lock);
	pod_unref(p);
	pods_job_done(ps);
	return NULL;
}

/* --- the one who asks --------------------------------------------------------------------------------------- */

/* A user calls a container by its name, so of the user's pods no two have the same (kubelet's differ by uid). One
 * that is being made for nobody any more is in nobody's way: it is ended. */
static struct pod *same_name_locked(struct pods *ps, const struct pod *mine)
{
	if (mine->owner != POD_OWNER_USER)
		return NULL;
	list_for_each(p, &ps->pod_list, struct pod, in_pods)
		if (p->owner == POD_OWNER_USER && streq(p->config->name, mine->config->name) &&
		    streq(p->config->namespace_ ? p->config->namespace_ : "",
			  mine->config->namespace_ ? mine->config->namespace_ : "") &&
		    !streq(p->key, mine->key))
			return p;
	return NULL;
}

static int name_refuse(const struct pod *p, struct err *e)
{
	return err_set(e, ERR_EXISTS, "a container is already called \"%s\" (in pod %s); knarr rm %s removes it",
		       p->config->name, p->id, p->config->name);
}

/* 1: *out is to be joined (a reference); 0: a new one was begun; -1: refused. An earlier making of the
 * same name with another wish is ended first. */
static int join_or_begin_locked(struct pods *ps, struct call *c, struct pod **mine, struct pod **out,
				struct err *e)
{
	for (;;) {
		struct pod *p = map_get(&ps->pod_keys, (*mine)->key);
		auto_pod *old = NULL;

		if (pods_check_ready_locked(ps, e) < 0)
			return -1;
		if (!p) {
			p = same_name_locked(ps, *mine);
			if (p && (pod_is_listed_locked(p) || p->making.waiters))
				return name_refuse(p, e);
		}
		if (!p)
			break;
		if (pod_is_listed_locked(p))
			return err_set(e, ERR_EXISTS, "pod %s/%s (uid %s, attempt %u) is there already, as %s",
				       p->config->namespace_ ? p->config->namespace_ : "", p->config->name,
				       p->config->uid ? p->config->uid : "", p->config->attempt, p->id);
		old = pod_ref(p);
		if (p->making.wish_hash == (*mine)->making.wish_hash && !p->making.cancelled) {
			*out = old;
			old = NULL;
			return 1;
		}
		making_cancel_locked(&p->making, &p->changed);
		if (cond_wait(c, &old->changed, &ps->lock, e) < 0)
			return -1;
	}
	(*mine)->making.active = true;
	BUG_ON(!pod_insert_locked(*mine));
	*out = pod_ref(*mine);
	return 0;
}

int pod_run(struct pods *ps, struct call *c, enum pod_owner owner, const struct pod_config *config,
	    const char **id, struct err *e)
{
	auto_pod *mine = NULL, *p = NULL;
	const char *runtime;
	uint64_t hash;
	int rc;

	if (check_config(ps, config, e) < 0 || handler_resolve(ps, c, config, &runtime, e) < 0 ||
	    making_wish_hash(pod_config_fields, config, &hash, e) < 0)
		return -1;
	mine = pod_wished(ps, owner, config, hash);
	mine->runtime = runtime;
	lock_acquire(&ps->lock);
	rc = join_or_begin_locked(ps, c, &mine, &p, e);
	lock_release(&ps->lock);
	if (rc < 0)
		return -1;
	if (rc == 0 && pods_job(ps, "pod-run", make_thread, pod_ref(p), e) < 0) {
		making_failed(&p->making, &p->changed, &ps->lock, e);
		lock_acquire(&ps->lock);
		pod_forget_locked(p);
		lock_release(&ps->lock);
		pod_unref(p);
		return -1;
	}
	lock_acquire(&ps->lock);
	rc = making_collect_locked(&p->making, &p->changed, &ps->lock, c, e);
	p->recording.wanted += rc > 0;
	if (rc > 0)
		tell_locked(p);
	lock_release(&ps->lock);
	if (rc < 0 || (rc > 0 && pod_save(p, e) < 0))
		return -1;
	*id = arena_strdup(&c->arena, p->id);
	return 0;
}
