/* What a start of knarrd does with the pods of before (docs/inside/pods.md): reads the catalog, adopts
 * what lives, records what has ended, undoes what was half made. In parallel over the pods, each with
 * deadlines; until all is done, no list is answered. */
#include "pod/model.h"

#include "base/log.h"

#include <fcntl.h>
#include <signal.h>

enum { THREADS = 8 };

struct recovery {
	struct pods *ps;
	bool rebooted;
	char **half_made;        /* the IDs of containers whose making was not collected */
	char **half_pods;
	struct arena arena;      /* only while reading */
	struct pod **todo;       /* references */
	size_t ntodo;
	atomic_size_t next;
};

/* --- the catalog ------------------------------------------------------------------------------------------------ */

/* A record that cannot be read must not keep all others from being served. */
static int skip_broken(const struct record *r, const struct err *e)
{
	log_error("a record is left alone id=%s: %s", r->id, e->msg);
	return 0;
}

static int read_pod(void *ctx, const struct record *r, struct err *e)
{
	struct recovery *v = ctx;
	auto_pod *p = NULL;
	bool made;

	if (pod_of_record(v->ps, r, &p, &made, e) < 0)
		return skip_broken(r, e);
	LOCKED(&v->ps->lock);
	if (!pod_insert_locked(p)) {
		(void)err_set(e, ERR_DATA_LOSS, "two pods have the name %s", p->key);
		return skip_broken(r, e);
	}
	if (!made)
		v->half_pods = strv_append(&v->arena, v->half_pods, p->id);
	return 0;
}

static int read_container(void *ctx, const struct record *r, struct err *e)
{
	struct recovery *v = ctx;
	auto_container *k = NULL;
	bool made;
	LOCKED(&v->ps->lock);

	if (container_of_record(v->ps, r, &k, &made, e) < 0)
		return skip_broken(r, e);
	if (!container_insert_locked(k)) {
		(void)err_set(e, ERR_DATA_LOSS, "two containers have the name %s", k->key);
		return skip_broken(r, e);
	}
	if (!made)
		v->half_made = strv_append(&v->arena, v->half_made, k->id);
	return 0;
}

static int boot_id(struct arena *a, struct str *out, struct err *e)
{
	if (fs_read_file(a, AT_FDCWD, "/proc/sys/kernel/random/boot_id", 128, out, e) < 0)
		return -1;
	*out = str_trim(*out);
	return 0;
}

/* Whether the machine has started since the catalog was last used; remembers this start. */
static int check_boot(struct recovery *v, struct err *e)
{
	auto_arena a = { 0 };
	struct record was, now = { .id = "boot_id" };
	struct str id;

	if (boot_id(&a, &id, e) < 0)
		return -1;
	now.body = str_of(arena_printf(&a, "{\"version\":1,\"boot_id\":\"%.*s\"}", STR_ARG(id)));
	if (catalog_get(v->ps->catalog, CATALOG_META, "boot_id", &a, &was, e) == 0) {
		v->rebooted = !(was.body.len == now.body.len && !memcmp(was.body.p, now.body.p, was.body.len));
		if (!v->rebooted)
			return 0;
	} else if (e->kind != ERR_NOT_FOUND) {
		return -1;
	}
	return catalog_put(v->ps->catalog, CATALOG_META, &now, e);
}

/* --- one pod ------------------------------------------------------------------------------------------------------ */

static struct container **containers_of(struct arena *a, struct pod *p, size_t *n)
{
	LOCKED(&p->all->lock);
	struct container **all;

	*n = 0;
	list_for_each(k, &p->containers, struct container, in_pod)
		++*n;
	all = arena_newn0(a, struct container *, *n + 1);
	*n = 0;
	list_for_each(k, &p->containers, struct container, in_pod)
		all[(*n)++] = container_ref(k);
	return all;
}

static void save(struct container *k)
{
	struct err e;

	if (container_save(k, &e) < 0)
		log_error("%s", e.msg);
}

/* What was running when nobody could watch: as its exit file says, else what is to be assumed. */
static void container_ended(struct container *k, const struct monitor_exit *otherwise)
{
	auto_arena a = { 0 };
	struct monitor_exit x = *otherwise;
	struct err e;

	if (k->pod->state_dirfd < 0 || monitor_exit_read(&a, k->pod->state_dirfd, k->id, &x, &e) < 0)
		x = *otherwise;
	if (container_exited(k, &x))
		save(k);
}

static bool was_alive(const struct container *k)
{
	return k->state == CONTAINER_RUNNING || k->state == CONTAINER_STARTING || k->state == CONTAINER_UNKNOWN;
}

static void undo_container(struct container *k)
{
	struct err e;

	if (steps_undo(&container_steps, container_steps.count, k, &e) < 0) {
		log_error("a half made container is left container=%s: %s", k->id, e.msg);
		return;
	}
	LOCKED(&k->all->lock);
	container_forget_locked(k);
}

/* Its removal was begun: it is done now. Its making was not collected: it is undone. */
static void finish_containers(struct recovery *v, struct pod *p)
{
	auto_arena a = { 0 };
	struct container **all;
	size_t n;

	all = containers_of(&a, p, &n);
	for (size_t i = 0; i < n; i++) {
		if (all[i]->state == CONTAINER_REMOVING || strv_has(v->half_made, all[i]->id))
			undo_container(all[i]);
		container_unref(all[i]);
	}
}

/* None of the pod's processes is left, or none may be. */
static void pod_is_over(struct recovery *v, struct pod *p)
{
	const struct monitor_exit lost = {
		.code = v->rebooted ? 255 : 137, .signal = v->rebooted ? 0 : 9,
		.finished_wall_ns = clock_wall_ns(), .reason = v->rebooted ? "Unknown" : "MonitorDied",
		.message = v->rebooted ? "the machine was started anew; how the container ended is not known" :
			   "knarr-pod, which held the container, ended unexpectedly; the container was killed",
	};
	auto_arena a = { 0 };
	struct container **all;
	struct err e;
	size_t n;

	if (!v->rebooted && pod_kill_containers(p, &e) < 0)
		log_error("kill what is left pod=%s: %s", p->id, e.msg);
	all = containers_of(&a, p, &n);
	for (size_t i = 0; i < n; i++) {
		if (was_alive(all[i]) || (v->rebooted && all[i]->state == CONTAINER_CREATED))
			container_ended(all[i], &lost);
		container_unref(all[i]);
	}
	lock_acquire(&p->all->lock);
	if (p->state != POD_STOPPED) {
		p->reason = v->rebooted ? "the machine was started anew" : "its knarr-pod ended unexpectedly";
		(void)pod_enter_locked(p, POD_STOPPED, &e);
	}
	if (v->rebooted) {
		p->monitor = (struct monitor){ 0 };
		p->init_pid = 0;
	}
	lock_release(&p->all->lock);
	if (pod_save(p, &e) < 0)
		log_error("%s", e.msg);
}

static void take_running(struct container *k, const struct monitor_container *m)
{
	LOCKED(&k->all->lock);
	struct err e;

	k->pid = m->process.pid;
	k->start_ticks = m->process.start_ticks;
	k->started_wall_ns = m->process.started_wall_ns;
	if (k->state == CONTAINER_CREATED)
		(void)container_enter_locked(k, CONTAINER_STARTING, &e);
	if (k->state != CONTAINER_RUNNING)
		(void)container_enter_locked(k, CONTAINER_RUNNING, &e);
}

static const struct monitor_container *monitored(const struct monitor_container *m, size_t n, const char *id)
{
	for (size_t i = 0; i < n; i++)
		if (streq(m[i].id, id))
			return &m[i];
	return NULL;
}

/* The container as its knarr-pod knows it. Running here and unknown there: it has ended and was
 * forgotten, so its exit must be in its file; a start that never reached knarr-pod has failed. */
static void reconcile(struct container *k, const struct monitor_container *m)
{
	const struct monitor_exit lost = {
		.code = k->state == CONTAINER_STARTING ? 128 : 255, .finished_wall_ns = clock_wall_ns(),
		.reason = k->state == CONTAINER_STARTING ? "StartError" : "Unknown",
		.message = "knarrd was restarted meanwhile",
	};

	if (!m) {
		if (was_alive(k))
			container_ended(k, &lost);
		return;
	}
	if (k->state != CONTAINER_CREATED && !was_alive(k))
		return;
	if (m->state == MONITOR_RUNNING) {
		take_running(k, m);
		save(k);
	} else {
		if (k->state == CONTAINER_CREATED)
			take_running(k, m);
		if (container_exited(k, &m->exit))
			save(k);
	}
}

static int adopt(struct pod *p, struct call *c, struct err *e)
{
	struct monitor found;
	struct monitor_container *m;
	struct container **all;
	size_t n, nm;
	int pidfd, events;

	if (monitor_find(c, p->run_dirfd, &found, &pidfd, e) < 0)
		return -1;
	p->pidfd = pidfd;
	if (p->monitor.pid && (found.pid != p->monitor.pid || found.start_ticks != p->monitor.start_ticks))
		return err_set(e, ERR_STATE, "process %d answers in the place of knarr-pod %d", found.pid,
			       p->monitor.pid);
	p->monitor = found;
	if (monitor_list(c, p->run_dirfd, &m, &nm, e) < 0 || monitor_subscribe(c, p->run_dirfd, &events, e) < 0)
		return -1;
	p->event_fd = events;
	all = containers_of(&c->arena, p, &n);
	for (size_t i = 0; i < n; i++) {
		reconcile(all[i], monitored(m, nm, all[i]->id));
		container_unref(all[i]);
	}
	return watch_add(p, e);
}

/* It did not answer in time, or it is not the one: killed by pidfd, what it held by cgroup. */
static void give_up(struct recovery *v, struct pod *p, const struct err *why)
{
	struct err e;

	log_warn("knarr-pod is not adopted pod=%s: %s", p->id, why->msg);
	if (p->pidfd < 0 && p->monitor.pid > 0) {
		uint64_t ticks;

		p->pidfd = proc_pidfd_open(p->monitor.pid, &e);
		if (p->pidfd >= 0 && (proc_start_time(p->monitor.pid, &ticks, &e) < 0 ||
				      ticks != p->monitor.start_ticks))
			fd_close(&p->pidfd);
	}
	if (p->pidfd >= 0)
		(void)proc_signal(p->pidfd, SIGKILL, &e);
	pod_is_over(v, p);
}

static void undo_pod(struct pod *p)
{
	struct err e;
	bool ok;

	p->undo_failed = false;
	ok = steps_undo(&pod_run_steps, pod_run_steps.count, p, &e) == 0;
	if (ok && p->state != POD_CREATING && !list_is_empty(&p->containers))
		ok = false;
	if (ok && steps_undo(&pod_keep_steps, pod_keep_steps.count, p, &e) == 0) {
		LOCKED(&p->all->lock);
		pod_forget_locked(p);
		return;
	}
	log_error("a half made pod is left, as stopped pod=%s", p->id);
	lock_acquire(&p->all->lock);
	p->state = POD_STOPPED;
	p->reason = "was not made whole";
	p->settled = false;
	p->recording.wanted++;
	lock_release(&p->all->lock);
	if (pod_save(p, &e) < 0)
		log_error("%s", e.msg);
}

static void recover_pod(struct recovery *v, struct pod *p)
{
	auto_call c;
	struct err e;

	pod_short_call(&c, NULL);
	if (pod_open_folders(p, &e) < 0)
		log_error("pod=%s: %s", p->id, e.msg);
	if (strv_has(v->half_pods, p->id)) {
		finish_containers(v, p);
		undo_pod(p);
		return;
	}
	if (v->rebooted || p->state == POD_STOPPED || p->state == POD_REMOVING) {
		if (v->rebooted || !p->settled)
			pod_is_over(v, p);
	} else if (p->run_dirfd < 0) {
		(void)err_set(&e, ERR_NOT_FOUND, "its run folder is gone");
		give_up(v, p, &e);
	} else if (adopt(p, &c, &e) < 0) {
		give_up(v, p, &e);
	} else if (p->state == POD_STOPPING) { /* the stop comes again, and settles it */
		LOCKED(&p->all->lock);
		p->settled = false;
		(void)pod_enter_locked(p, POD_STOPPED, &e);
	}
	finish_containers(v, p);
	if (p->state == POD_REMOVING)
		undo_pod(p);
}

static void *pod_thread(void *arg)
{
	struct recovery *v = arg;
	size_t i;

	while ((i = atomic_fetch_add(&v->next, 1)) < v->ntodo)
		recover_pod(v, v->todo[i]);
	return NULL;
}

/* --- all ------------------------------------------------------------------------------------------------------------ */

static void recover_all(struct recovery *v)
{
	pthread_t threads[THREADS];
	size_t started = 0;
	struct err e;

	lock_acquire(&v->ps->lock);
	v->todo = arena_newn0(&v->arena, struct pod *, v->ps->pods.count + 1);
	list_for_each(p, &v->ps->pod_list, struct pod, in_pods)
		v->todo[v->ntodo++] = pod_ref(p);
	lock_release(&v->ps->lock);
	while (started < THREADS && started + 1 < v->ntodo &&
	       thread_start(&threads[started], "recover-pod", pod_thread, v, &e) == 0)
		started++;
	(void)pod_thread(v);
	for (size_t i = 0; i < started; i++)
		(void)pthread_join(threads[i], NULL);
	for (size_t i = 0; i < v->ntodo; i++)
		pod_unref(v->todo[i]);
}

/* Addresses of pods that nobody knows any more: their record went, their DEL did not succeed. */
static void end_orphaned_networks(struct recovery *v)
{
	struct err failed;
	char **ids;

	if (net_pods(v->ps->net, &v->arena, &ids, &failed) < 0) {
		log_warn("orphaned networks are not looked for: %s", failed.msg);
		return;
	}
	for (; *ids; ids++) {
		const struct net_request r = { .pod_id = *ids, .namespace_ = "", .name = "", .uid = "" };
		auto_call c;
		struct err e;
		bool known;

		call_begin(&c, clock_mono_ns() + 30 * NS_PER_S);
		lock_acquire(&v->ps->lock);
		known = map_get(&v->ps->pods, *ids) != NULL;
		lock_release(&v->ps->lock);
		if (known)
			continue;
		if (net_del(v->ps->net, &c, &r, &e) < 0)
			log_warn("the network of a pod that is gone is not released pod=%s: %s", *ids, e.msg);
	}
}

static void collect_networks(struct recovery *v)
{
	auto_call c;
	struct err e;

	call_begin(&c, clock_mono_ns() + 30 * NS_PER_S);
	if (net_collect(v->ps->net, &c, &e) < 0)
		log_warn("the network's garbage is not collected: %s", e.msg);
}

static bool is_auto_removed_locked(const struct pod *p)
{
	if (p->owner != POD_OWNER_USER)
		return false;
	list_for_each(k, &p->containers, struct container, in_pod)
		if (streq_null(json_map_get(&k->config->labels, POD_LABEL_AUTO_REMOVE), "true"))
			return true;
	return false;
}

/* Who waited for their exit went with the machine. */
static void remove_auto_removed(struct recovery *v)
{
	char **ids = NULL;
	struct err e;

	if (!v->rebooted)
		return;
	lock_acquire(&v->ps->lock);
	list_for_each(p, &v->ps->pod_list, struct pod, in_pods)
		if (is_auto_removed_locked(p))
			ids = strv_append(&v->arena, ids, arena_strdup(&v->arena, p->id));
	lock_release(&v->ps->lock);
	for (; ids && *ids; ids++) {
		auto_call c;

		call_begin(&c, clock_mono_ns() + 30 * NS_PER_S);
		if (pod_remove(v->ps, &c, POD_OWNER_USER, *ids, &e) < 0)
			log_warn("a pod of before the reboot, run with --rm, is not removed pod=%s: %s", *ids, e.msg);
	}
}

static int recover(struct recovery *v, struct err *e)
{
	if (check_boot(v, e) < 0 || catalog_each(v->ps->catalog, CATALOG_PODS, read_pod, v, e) < 0 ||
	    catalog_each(v->ps->catalog, CATALOG_CONTAINERS, read_container, v, e) < 0)
		return -1;
	recover_all(v);
	return 0;
}

void *recover_thread(void *arg)
{
	struct recovery v = { .ps = arg };
	int64_t began = clock_mono_ns();
	struct err e;
	int rc = recover(&v, &e);

	if (rc < 0)
		log_error("pods cannot be recovered, none is served: %s", e.msg);
	lock_acquire(&v.ps->lock);
	if (rc == 0 && v.ps->state == PODS_RECOVERING)
		v.ps->state = PODS_READY;
	cond_broadcast(&v.ps->changed);
	lock_release(&v.ps->lock);
	if (rc == 0) {
		log_info("pods recovered count=%zu ms=%lld rebooted=%d", v.ntodo,
			 (long long)((clock_mono_ns() - began) / NS_PER_MS), v.rebooted);
		remove_auto_removed(&v);
		end_orphaned_networks(&v);
		collect_networks(&v);
	}
	arena_free(&v.arena);
	return NULL;
}
