/* How containers end: exits, StopContainer, RemoveContainer. */
#include "pod/model.h"

#include "base/log.h"

#include <fcntl.h>
#include <signal.h>

enum { KILL_WAIT_NS = 10 };

/* --- exits -------------------------------------------------------------------------------------------------- */

static const char *reason_of(const struct monitor_exit *x)
{
	if (!str_is_empty(x->reason))
		return x->reason;
	if (x->oom_killed)
		return "OOMKilled";
	return x->code == 0 ? "Completed" : "Error";
}

static bool exited(struct container *k, const struct monitor_exit *x)
{
	LOCKED(&k->all->lock);
	/* Heard before the answer to the start: what has ended had started. */
	bool untold = k->state == CONTAINER_STARTING && !(x->reason && streq(x->reason, "StartError"));
	struct err e;

	if (k->state == CONTAINER_EXITED || k->state == CONTAINER_REMOVING || k->state == CONTAINER_CREATING)
		return false;
	if (container_enter_locked(k, CONTAINER_EXITED, &e) < 0)
		return false;
	k->exit_code = x->code;
	k->oom_killed = x->oom_killed;
	k->reason = arena_strdup(&k->arena, reason_of(x));
	k->message = arena_strdup(&k->arena, x->message ? x->message : "");
	if (x->started_wall_ns)
		k->started_wall_ns = x->started_wall_ns;
	k->finished_wall_ns = x->finished_wall_ns ? x->finished_wall_ns : clock_wall_ns();
	k->kill_at_ns = 0;
	if (untold)
		event_push_locked(k->all, POD_EVENT_STARTED, k->pod->owner, k->pod->id, k->id);
	event_push_locked(k->all, POD_EVENT_STOPPED, k->pod->owner, k->pod->id, k->id);
	k->stop_due = k->all->plugins != NULL;
	return true;
}

bool container_exited(struct container *k, const struct monitor_exit *x)
{
	if (!exited(k, x))
		return false;
	plugins_ended(k);
	return true;
}

/* --- stop --------------------------------------------------------------------------------------------------- */

static bool runs(const struct container *k)
{
	return k->state == CONTAINER_RUNNING || k->state == CONTAINER_STARTING || k->state == CONTAINER_UNKNOWN;
}

/* Asks knarr-pod; one that does not answer within a second is killed, and with it the container. */
static int ask_kill(struct container *k, const struct call *c, int signal, enum monitor_kill what, struct err *e)
{
	auto_call short_;

	pod_short_call(&short_, c);
	if (monitor_container_kill(&short_, k->pod->run_dirfd, k->id, signal, what, e) == 0)
		return 0;
	if (e->kind == ERR_NOT_FOUND || e->kind == ERR_STATE)
		return 0; /* it has ended, which the watcher hears */
	if (e->kind == ERR_UNAVAILABLE || e->kind == ERR_TIMEOUT) {
		pod_monitor_condemn(k->pod, e);
		return 0;
	}
	return -1;
}

static int kill_now(struct container *k, const struct call *c, struct err *e)
{
	struct err ignored;

	if (ask_kill(k, c, SIGKILL, MONITOR_KILL_ALL, e) < 0)
		return -1;
	(void)cgroup_kill(&k->all->cgroups, k->cgroup_path, &ignored);
	return 0;
}

/* What it is that does not die, for the error: its state and where it waits in the kernel. */
static int not_dead(struct container *k, struct err *e)
{
	auto_arena a = { 0 };
	struct err ignored;
	struct str wchan = { "", 0 };

	(void)fs_read_file(&a, AT_FDCWD, arena_printf(&a, "/proc/%d/wchan", k->pid), 256, &wchan, &ignored);
	return err_set(e, ERR_TIMEOUT, "container %s was killed and has not ended yet (process %d%s%.*s)", k->id,
		       k->pid, wchan.len ? " waits in " : "", STR_ARG(wchan));
}

/* Waits until it has exited, or until the moment when it is to be killed. 1: exited. */
static int wait_exit(struct container *k, struct call *c, struct err *e)
{
	LOCKED(&k->all->lock);

	while (runs(k)) {
		if (k->kill_at_ns && clock_mono_ns() >= k->kill_at_ns)
			return 0;
		if (cond_wait_until(c, &k->changed, &k->all->lock, k->kill_at_ns, e) < 0)
			return -1;
	}
	return 1;
}

/* 0: nothing runs; 1: *signal is the first one to send (0: an earlier stop has sent it). */
static int begin_stop(struct container *k, struct call *c, int64_t grace_ns, int *signal, struct err *e)
{
	LOCKED(&k->all->lock);
	int64_t kill_at = clock_mono_ns() + grace_ns;

	while (!container_is_listed_locked(k) && k->making.active) {
		making_cancel_locked(&k->making, &k->changed);
		if (cond_wait(c, &k->changed, &k->all->lock, e) < 0)
			return -1;
	}
	while (k->state == CONTAINER_STARTING)
		if (cond_wait(c, &k->changed, &k->all->lock, e) < 0)
			return -1;
	if (!runs(k))
		return 0;
	*signal = k->kill_at_ns ? 0 : k->stop_signal ? k->stop_signal : SIGTERM;
	if (!k->kill_at_ns || kill_at < k->kill_at_ns)
		k->kill_at_ns = kill_at;
	cond_broadcast(&k->changed);
	return 1;
}

static int wait_killed(struct container *k, struct call *c, struct err *e)
{
	lock_acquire(&k->all->lock);
	k->kill_at_ns = clock_mono_ns() + KILL_WAIT_NS * NS_PER_S; /* until we call it stuck */
	lock_release(&k->all->lock);
	switch (wait_exit(k, c, e)) {
	case 1:
		return 0;
	case 0:
		return not_dead(k, e);
	default:
		return e->kind == ERR_TIMEOUT ? not_dead(k, e) : -1;
	}
}

int container_stop_object(struct container *k, struct call *c, int64_t grace_ns, struct err *e)
{
	int signal = 0, rc = begin_stop(k, c, grace_ns, &signal, e);

	if (rc <= 0)
		return rc;
	if (steps_point("stop", "signal", e) < 0)
		return -1;
	if (grace_ns > 0) {
		if (signal && ask_kill(k, c, signal, MONITOR_KILL_FIRST, e) < 0)
			return -1;
		rc = wait_exit(k, c, e);
		if (rc != 0)
			return rc < 0 ? -1 : 0;
	}
	if (steps_point("stop", "kill", e) < 0 || kill_now(k, c, e) < 0)
		return -1;
	if (steps_point("stop", "wait", e) < 0)
		return -1;
	return wait_killed(k, c, e);
}

int container_stop(struct pods *ps, struct call *c, enum pod_owner owner, const char *id, int64_t grace_ns,
		   struct err *e)
{
	auto_container *k = container_get(ps, owner, id, e);

	if (!k)
		return e->kind == ERR_NOT_FOUND ? 0 : -1;
	return container_stop_object(k, c, grace_ns < 0 ? 0 : grace_ns, e);
}

int container_kill(struct pods *ps, struct call *c, enum pod_owner owner, const char *id, int signal,
		   struct err *e)
{
	auto_container *k = container_get(ps, owner, id, e);

	if (!k)
		return -1;
	lock_acquire(&ps->lock);
	if (k->state != CONTAINER_RUNNING) {
		(void)err_set(e, ERR_STATE, "container %s is %s", k->id, container_state_name[k->state]);
		lock_release(&ps->lock);
		return -1;
	}
	lock_release(&ps->lock);
	return ask_kill(k, c, signal, MONITOR_KILL_FIRST, e);
}

/* --- remove ------------------------------------------------------------------------------------------------- */

/* 1: the caller is to remove it; 0: it is gone. */
static int begin_remove(struct container *k, struct call *c, struct err *e)
{
	struct pods *ps = k->all;
	LOCKED(&ps->lock);

	for (;;) {
		if (map_get(&ps->containers, k->id) != k)
			return 0;
		if (k->state != CONTAINER_REMOVING && k->state != CONTAINER_STARTING && !k->busy)
			return container_enter_locked(k, CONTAINER_REMOVING, e) < 0 ? -1 : 1;
		if (cond_wait(c, &k->changed, &ps->lock, e) < 0)
			return -1;
	}
}

static void forget_at_monitor(struct container *k)
{
	struct pod *p = k->pod;
	auto_call c;
	struct err e;

	pod_short_call(&c, NULL);
	if (monitor_container_forget(&c, p->run_dirfd, k->id, &e) < 0 && e.kind != ERR_NOT_FOUND)
		log_warn("knarr-pod keeps an ended container container=%s: %s", k->id, e.msg);
}

int container_discard(struct container *k, struct err *e)
{
	int rc;

	/* Otherwise its exit file goes with the pod's folder. */
	if (k->started_wall_ns && k->pod->state == POD_READY)
		forget_at_monitor(k);
	rc = steps_undo(&container_steps, container_steps.count, k, e);
	LOCKED(&k->all->lock);
	if (rc < 0) {
		(void)container_enter_locked(k, CONTAINER_EXITED, &(struct err){ 0 });
		return err_in(e, "remove container %s", k->id);
	}
	event_push_locked(k->all, POD_EVENT_DELETED, k->pod->owner, k->pod->id, k->id);
	container_forget_locked(k);
	return 0;
}

int container_remove_object(struct container *k, struct call *c, struct err *e)
{
	int rc;

	if (container_stop_object(k, c, 0, e) < 0)
		return -1;
	rc = begin_remove(k, c, e);
	if (rc <= 0)
		return rc;
	plugins_wait_ended(k);
	plugins_begin(k);
	plugins_container_told(k, CONTAINER_MOMENT_REMOVE);
	plugins_end(k);
	return container_discard(k, e);
}

int container_remove(struct pods *ps, struct call *c, enum pod_owner owner, const char *id, struct err *e)
{
	auto_container *k = container_get(ps, owner, id, e);

	if (!k)
		return e->kind == ERR_NOT_FOUND ? 0 : -1;
	return container_remove_object(k, c, e);
}
