/* How pods end: asked to (StopPodSandbox, RemovePodSandbox), or because their knarr-pod died. */
#include "pod/model.h"

#include "base/log.h"

#include <signal.h>

enum { SHORT_CALL_NS = 1000000000, CGROUP_END_WAIT_MS = 2000 };

void pod_short_call(struct call *short_, const struct call *c)
{
	int64_t until = clock_mono_ns() + SHORT_CALL_NS;

	if (c && c->deadline_ns && c->deadline_ns < until)
		until = c->deadline_ns;
	call_begin(short_, until);
}

/* --- containers ------------------------------------------------------------------------------------------- */

/* References to all of the pod's containers, in the arena. */
static struct container **containers_of(struct arena *a, struct pod *p, size_t *n)
{
	LOCKED(&p->all->lock);
	struct container **all;
	size_t count = 0;

	list_for_each(k, &p->containers, struct container, in_pod)
		count++;
	all = arena_newn0(a, struct container *, count + 1);
	*n = 0;
	list_for_each(k, &p->containers, struct container, in_pod)
		all[(*n)++] = container_ref(k);
	return all;
}

int pod_kill_containers(struct pod *p, struct err *e)
{
	auto_arena a = { 0 };
	struct container **all;
	size_t n;
	int rc = 0;

	all = containers_of(&a, p, &n);
	for (size_t i = 0; i < n; i++) {
		const char *path = all[i]->cgroup_path;

		if (rc == 0 && path && cgroup_kill(&p->all->cgroups, path, e) < 0 && e->kind != ERR_NOT_FOUND)
			rc = -1;
	}
	for (size_t i = 0; i < n; i++) {
		const char *path = all[i]->cgroup_path;

		if (rc == 0 && path && cgroup_remove(&p->all->cgroups, path, CGROUP_END_WAIT_MS, e) < 0 &&
		    e->kind != ERR_NOT_FOUND)
			rc = -1;
		container_unref(all[i]);
	}
	return rc;
}

static bool is_alive(struct container *k)
{
	LOCKED(&k->all->lock);

	return k->state == CONTAINER_RUNNING || k->state == CONTAINER_STARTING || k->state == CONTAINER_UNKNOWN;
}

/* The exits of a pod whose knarr-pod has ended: as it recorded them, else as `otherwise`. */
static void record_exits(struct pod *p, const struct monitor_exit *otherwise)
{
	auto_arena a = { 0 };
	struct container **all;
	size_t n;

	all = containers_of(&a, p, &n);
	for (size_t i = 0; i < n; i++) {
		struct monitor_exit x = *otherwise;
		struct err e;

		if (is_alive(all[i])) {
			if (p->state_dirfd < 0 ||
			    monitor_exit_read(&a, p->state_dirfd, all[i]->id, &x, &e) < 0)
				x = *otherwise;
			if (container_exited(all[i], &x) && container_save(all[i], &e) < 0)
				log_error("%s", e.msg);
		}
		container_unref(all[i]);
	}
}

/* Ends what is being created in the pod, and waits for that to be gone. */
static int end_creations(struct pod *p, struct call *c, struct err *e)
{
	LOCKED(&p->all->lock);

	for (;;) {
		bool any = false;

		list_for_each(k, &p->containers, struct container, in_pod) {
			if (container_is_listed_locked(k))
				continue;
			making_cancel_locked(&k->making, &k->changed);
			any = true;
		}
		if (!any)
			return 0;
		if (cond_wait(c, &p->changed, &p->all->lock, e) < 0)
			return -1;
	}
}

/* --- a monitor that ends by itself -------------------------------------------------------------------------- */

void pod_monitor_condemn(struct pod *p, const struct err *why)
{
	LOCKED(&p->all->lock);
	struct err e;

	log_error("knarr-pod does not answer and is killed pod=%s pid=%d: %s", p->id, p->monitor.pid, why->msg);
	if (p->pidfd >= 0)
		(void)proc_signal(p->pidfd, SIGKILL, &e);
}

void pod_monitor_died(struct pod *p, const char *why)
{
	const struct monitor_exit killed = {
		.code = 137, .signal = 9, .finished_wall_ns = clock_wall_ns(), .reason = "MonitorDied",
		.message = "knarr-pod, which held the container, ended unexpectedly; the container was killed",
	};
	struct err e;

	lock_acquire(&p->all->lock);
	if (p->state != POD_READY) { /* a stop is at work and sees it itself */
		lock_release(&p->all->lock);
		return;
	}
	p->reason = arena_strdup(&p->arena, why);
	(void)pod_enter_locked(p, POD_STOPPED, &e);
	event_push_locked(p->all, POD_EVENT_STOPPED, p->owner, p->id, p->id);
	lock_release(&p->all->lock);
	log_error("pod is not ready any more pod=%s: %s", p->id, why);
	if (pod_kill_containers(p, &e) < 0)
		log_error("kill what knarr-pod left pod=%s: %s", p->id, e.msg);
	record_exits(p, &killed);
	if (pod_save(p, &e) < 0)
		log_error("%s", e.msg);
}

/* --- stop ----------------------------------------------------------------------------------------------------- */

int pod_settle(struct pod *p, struct err *e)
{
	const struct monitor_exit killed = {
		.code = 137, .signal = 9, .finished_wall_ns = clock_wall_ns(), .reason = "Error", .message = "",
	};
	struct err ignored;
	int rc;

	(void)pod_open_folders(p, &ignored);
	p->undo_failed = false;
	rc = steps_undo(&pod_run_steps, pod_run_steps.count, p, e);
	record_exits(p, &killed);
	lock_acquire(&p->all->lock);
	p->settled = rc == 0;
	(void)pod_enter_locked(p, POD_STOPPED, &ignored);
	event_push_locked(p->all, POD_EVENT_STOPPED, p->owner, p->id, p->id);
	lock_release(&p->all->lock);
	if (pod_save(p, rc == 0 ? e : &ignored) < 0)
		return -1;
	return rc < 0 ? err_in(e, "stop pod %s", p->id) : 0;
}

/* 1: the caller is to settle it; 0: there is nothing to do. */
static int begin_stop(struct pod *p, struct call *c, struct err *e)
{
	struct pods *ps = p->all;
	LOCKED(&ps->lock);

	for (;;) {
		if (pods_check_ready_locked(ps, e) < 0)
			return -1;
		if (map_get(&ps->pods, p->id) != p || (p->state == POD_STOPPED && p->settled) ||
		    p->state == POD_REMOVING)
			return 0;
		if (!pod_is_listed_locked(p))
			making_cancel_locked(&p->making, &p->changed);
		else if (p->state != POD_STOPPING)
			return pod_enter_locked(p, POD_STOPPING, e) < 0 ? -1 : 1;
		if (cond_wait(c, &p->changed, &ps->lock, e) < 0)
			return -1;
	}
}

static void wait_ends_told(struct pod *p)
{
	auto_arena a = { 0 };
	struct container **all;
	size_t n;

	all = containers_of(&a, p, &n);
	for (size_t i = 0; i < n; i++) {
		plugins_wait_ended(all[i]);
		container_unref(all[i]);
	}
}

static int pod_stop_object(struct pod *p, struct call *c, struct err *e)
{
	int rc = begin_stop(p, c, e);

	if (rc <= 0)
		return rc;
	if (end_creations(p, c, e) < 0) {
		LOCKED(&p->all->lock);
		p->settled = false;
		(void)pod_enter_locked(p, POD_STOPPED, &(struct err){ 0 });
		return -1;
	}
	rc = pod_settle(p, e);
	wait_ends_told(p);
	plugins_pod_told(p, POD_MOMENT_STOPPED);
	return rc;
}

int pod_stop(struct pods *ps, struct call *c, enum pod_owner owner, const char *id, struct err *e)
{
	auto_pod *p = pod_get(ps, owner, id, e);

	if (!p)
		return e->kind == ERR_NOT_FOUND ? 0 : -1;
	return pod_stop_object(p, c, e);
}

/* --- remove --------------------------------------------------------------------------------------------------- */

static int remove_containers(struct pod *p, struct call *c, struct err *e)
{
	auto_arena a = { 0 };
	struct container **all;
	size_t n;
	int rc = 0;

	all = containers_of(&a, p, &n);
	for (size_t i = 0; i < n; i++) {
		if (rc == 0)
			rc = container_remove_object(all[i], c, e);
		container_unref(all[i]);
	}
	return rc;
}

/* 1: the caller is to remove it; 0: it is gone. */
static int begin_remove(struct pod *p, struct call *c, struct err *e)
{
	struct pods *ps = p->all;
	LOCKED(&ps->lock);

	for (;;) {
		if (map_get(&ps->pods, p->id) != p)
			return 0;
		if (p->state == POD_STOPPED)
			return pod_enter_locked(p, POD_REMOVING, e) < 0 ? -1 : 1;
		if (p->state != POD_REMOVING)
			return err_set(e, ERR_STATE, "pod %s is %s", p->id, pod_state_name[p->state]);
		if (cond_wait(c, &p->changed, &ps->lock, e) < 0)
			return -1;
	}
}

static int pod_remove_object(struct pod *p, struct call *c, struct err *e)
{
	int rc;

	if (pod_stop_object(p, c, e) < 0 || remove_containers(p, c, e) < 0)
		return -1;
	rc = begin_remove(p, c, e);
	if (rc <= 0)
		return rc;
	plugins_pod_told(p, POD_MOMENT_REMOVE);
	rc = steps_undo(&pod_keep_steps, pod_keep_steps.count, p, e);
	LOCKED(&p->all->lock);
	if (rc < 0) {
		(void)pod_enter_locked(p, POD_STOPPED, &(struct err){ 0 });
		return err_in(e, "remove pod %s", p->id);
	}
	event_push_locked(p->all, POD_EVENT_DELETED, p->owner, p->id, p->id);
	pod_forget_locked(p);
	return 0;
}

int pod_remove(struct pods *ps, struct call *c, enum pod_owner owner, const char *id, struct err *e)
{
	auto_pod *p = pod_get(ps, owner, id, e);

	if (!p)
		return e->kind == ERR_NOT_FOUND ? 0 : -1;
	return pod_remove_object(p, c, e);
}
