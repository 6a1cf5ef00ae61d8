#include "pod/handler.h"

#include "base/log.h"
#include "base/mem.h"
#include "image/image.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* --- states ----------------------------------------------------------------------------------------- */

const char *const pod_state_name[POD_STATE_COUNT] = {
	[POD_CREATING] = "being created", [POD_READY] = "ready", [POD_STOPPING] = "being stopped",
	[POD_STOPPED] = "stopped", [POD_REMOVING] = "being removed",
};

static const unsigned pod_next[POD_STATE_COUNT] = {
	[POD_CREATING] = BIT(POD_READY) | BIT(POD_STOPPING),
	[POD_READY] = BIT(POD_STOPPING) | BIT(POD_STOPPED),
	[POD_STOPPING] = BIT(POD_STOPPED),
	[POD_STOPPED] = BIT(POD_STOPPING) | BIT(POD_REMOVING),
	[POD_REMOVING] = BIT(POD_STOPPED),
};

const char *const container_state_name[CONTAINER_STATE_COUNT] = {
	[CONTAINER_CREATING] = "being created", [CONTAINER_CREATED] = "created",
	[CONTAINER_STARTING] = "starting", [CONTAINER_RUNNING] = "running",
	[CONTAINER_EXITED] = "exited", [CONTAINER_UNKNOWN] = "unknown",
	[CONTAINER_REMOVING] = "being removed",
};

static const unsigned container_next[CONTAINER_STATE_COUNT] = {
	[CONTAINER_CREATING] = BIT(CONTAINER_CREATED) | BIT(CONTAINER_REMOVING),
	[CONTAINER_CREATED] = BIT(CONTAINER_STARTING) | BIT(CONTAINER_REMOVING) | BIT(CONTAINER_EXITED),
	[CONTAINER_STARTING] = BIT(CONTAINER_RUNNING) | BIT(CONTAINER_EXITED),
	[CONTAINER_RUNNING] = BIT(CONTAINER_EXITED) | BIT(CONTAINER_UNKNOWN),
	[CONTAINER_EXITED] = BIT(CONTAINER_REMOVING),
	[CONTAINER_UNKNOWN] = BIT(CONTAINER_RUNNING) | BIT(CONTAINER_EXITED) | BIT(CONTAINER_REMOVING),
	[CONTAINER_REMOVING] = BIT(CONTAINER_EXITED),
};

int pod_enter_locked(struct pod *p, enum pod_state to, struct err *e)
{
	lock_assert_held(&p->all->lock);
	if (!(pod_next[p->state] & BIT(to)))
		return err_set(e, ERR_STATE, "pod %s is %s and cannot become %s", p->id,
			       pod_state_name[p->state], pod_state_name[to]);
	log_debug("pod state pod=%s from=%d to=%d", p->id, p->state, to);
	p->state = to;
	p->recording.wanted++;
	cond_broadcast(&p->changed);
	return 0;
}

int container_enter_locked(struct container *k, enum container_state to, struct err *e)
{
	lock_assert_held(&k->all->lock);
	if (!(container_next[k->state] & BIT(to)))
		return err_set(e, ERR_STATE, "container %s is %s and cannot become %s", k->id,
			       container_state_name[k->state], container_state_name[to]);
	log_debug("container state container=%s from=%d to=%d", k->id, k->state, to);
	k->state = to;
	k->recording.wanted++;
	cond_broadcast(&k->changed);
	return 0;
}

/* --- objects ---------------------------------------------------------------------------------------- */

struct pod *pod_new(struct pods *ps)
{
	struct pod *p = mem_new0(struct pod);

	p->all = ps;
	atomic_init(&p->refs, 1);
	list_init(&p->in_pods);
	list_init(&p->containers);
	cond_init(&p->changed);
	p->reason = "";
	p->handler = p->runtime = p->runtime_root = "";
	p->recording.wanted = 1;
	p->birth = (struct monitor_birth)MONITOR_BIRTH_NONE;
	p->netns_fd = p->pidfd = p->event_fd = p->run_dirfd = p->state_dirfd = -1;
	return p;
}

struct pod *pod_ref(struct pod *p)
{
	atomic_fetch_add(&p->refs, 1);
	return p;
}

void pod_unref(struct pod *p)
{
	if (atomic_fetch_sub(&p->refs, 1) != 1)
		return;
	fd_close(&p->netns_fd);
	fd_close(&p->pidfd);
	fd_close(&p->event_fd);
	fd_close(&p->run_dirfd);
	fd_close(&p->state_dirfd);
	cond_destroy(&p->changed);
	arena_free(&p->arena);
	mem_free(p);
}

struct container *container_new(struct pod *p)
{
	struct container *k = mem_new0(struct container);

	k->all = p->all;
	k->pod = pod_ref(p);
	atomic_init(&k->refs, 1);
	list_init(&k->in_pod);
	list_init(&k->in_containers);
	cond_init(&k->changed);
	k->reason = k->message = "";
	k->recording.wanted = 1;
	k->root_fd = -1;
	return k;
}

struct container *container_ref(struct container *k)
{
	atomic_fetch_add(&k->refs, 1);
	return k;
}

void container_unref(struct container *k)
{
	if (atomic_fetch_sub(&k->refs, 1) != 1)
		return;
	fd_close(&k->root_fd);
	cond_destroy(&k->changed);
	arena_free(&k->arena);
	pod_unref(k->pod);
	mem_free(k);
}

bool pod_insert_locked(struct pod *p)
{
	struct pods *ps = p->all;

	lock_assert_held(&ps->lock);
	if (!map_add(&ps->pod_keys, p->key, p))
		return false;
	BUG_ON(!map_add(&ps->pods, p->id, p));
	list_add(&ps->pod_list, &p->in_pods);
	(void)pod_ref(p);
	return true;
}

void pod_forget_locked(struct pod *p)
{
	struct pods *ps = p->all;

	lock_assert_held(&ps->lock);
	if (map_get(&ps->pods, p->id) != p)
		return;
	(void)map_remove(&ps->pods, p->id);
	(void)map_remove(&ps->pod_keys, p->key);
	list_del(&p->in_pods);
	cond_broadcast(&p->changed);
	pod_unref(p); /* the caller has one too */
}

bool container_insert_locked(struct container *k)
{
	struct pods *ps = k->all;

	lock_assert_held(&ps->lock);
	if (!map_add(&ps->container_keys, k->key, k))
		return false;
	BUG_ON(!map_add(&ps->containers, k->id, k));
	list_add(&ps->container_list, &k->in_containers);
	list_add(&k->pod->containers, &k->in_pod);
	(void)container_ref(k);
	return true;
}

void container_forget_locked(struct container *k)
{
	struct pods *ps = k->all;

	lock_assert_held(&ps->lock);
	if (map_get(&ps->containers, k->id) != k)
		return;
	(void)map_remove(&ps->containers, k->id);
	(void)map_remove(&ps->container_keys, k->key);
	list_del(&k->in_containers);
	list_del(&k->in_pod);
	cond_broadcast(&k->changed);
	cond_broadcast(&k->pod->changed);
	container_unref(k);
}

/* --- finding ---------------------------------------------------------------------------------------- */

enum { PREFIX_MIN = 4 };

int pods_check_ready_locked(struct pods *ps, struct err *e)
{
	lock_assert_held(&ps->lock);
	if (ps->state == PODS_RECOVERING)
		return err_set(e, ERR_UNAVAILABLE, "knarrd is still recovering the pods of before its start");
	if (ps->state == PODS_CLOSING)
		return err_set(e, ERR_UNAVAILABLE, "knarrd is shutting down");
	return 0;
}

struct pod *pod_find_locked(struct pods *ps, enum pod_owner owner, const char *id, struct err *e)
{
	struct pod *found = NULL;

	if (pods_check_ready_locked(ps, e) < 0)
		return NULL;
	if (strlen(id) == ID_HEX_LEN) {
		found = map_get(&ps->pods, id);
	} else if (strlen(id) >= PREFIX_MIN) {
		list_for_each(p, &ps->pod_list, struct pod, in_pods) {
			if (p->owner != owner || !starts_with(p->id, id))
				continue;
			if (found)
				return err_set(e, ERR_INVALID, "more than one pod's ID begins with %s", id), NULL;
			found = p;
		}
	}
	if (!found || found->owner != owner)
		return err_set(e, ERR_NOT_FOUND, "there is no pod %s", id), NULL;
	return found;
}

struct container *container_find_locked(struct pods *ps, enum pod_owner owner, const char *id, struct err *e)
{
	struct container *found = NULL;

	if (pods_check_ready_locked(ps, e) < 0)
		return NULL;
	if (strlen(id) == ID_HEX_LEN) {
		found = map_get(&ps->containers, id);
	} else if (strlen(id) >= PREFIX_MIN) {
		list_for_each(k, &ps->container_list, struct container, in_containers) {
			if (k->pod->owner != owner || !starts_with(k->id, id))
				continue;
			if (found)
				return err_set(e, ERR_INVALID, "more than one container's ID begins with %s", id),
				       NULL;
			found = k;
		}
	}
	if (!found || found->pod->owner != owner)
		return err_set(e, ERR_NOT_FOUND, "there is no container %s", id), NULL;
	return found;
}

struct pod *pod_get(struct pods *ps, enum pod_owner owner, const char *id, struct err *e)
{
	LOCKED(&ps->lock);
	struct pod *p = pod_find_locked(ps, owner, id, e);

	return p ? pod_ref(p) : NULL;
}

struct container *container_get(struct pods *ps, enum pod_owner owner, const char *id, struct err *e)
{
	LOCKED(&ps->lock);
	struct container *k = container_find_locked(ps, owner, id, e);

	if (k && !container_is_listed_locked(k))
		return err_set(e, ERR_NOT_FOUND, "there is no container %s", id), NULL;
	return k ? container_ref(k) : NULL;
}

bool pod_is_listed_locked(const struct pod *p)
{
	return p->state != POD_CREATING && (!p->making.active || p->making.collected);
}

bool container_is_listed_locked(const struct container *k)
{
	return k->state != CONTAINER_CREATING && (!k->making.active || k->making.collected);
}

/* --- opening and closing ---------------------------------------------------------------------------- */

static int open_folder(const char *base, const char *name, int *out, struct err *e)
{
	auto_arena a = { 0 };
	const char *path = name ? path_join(&a, base, name) : base;
	int fd;

	if (fs_mkdirs(AT_FDCWD, path, name ? 0700 : 0755, e) < 0)
		return -1;
	fd = fd_open(AT_FDCWD, path, O_PATH | O_DIRECTORY, e);
	if (fd < 0)
		return -1;
	*out = fd;
	return 0;
}

static void copy_settings(struct pods *ps, const struct pod_settings *s)
{
	struct arena *a = &ps->arena;
	struct pod_settings *o = &ps->settings;

	*o = *s;
	o->root = arena_strdup(a, s->root);
	o->run = arena_strdup(a, s->run);
	o->netns_dir = arena_strdup(a, s->netns_dir ? s->netns_dir : "/run/netns");
	o->monitor_path = arena_strdup(a, s->monitor_path);
	o->monitor_cgroup = arena_strdup(a, s->monitor_cgroup ? s->monitor_cgroup : "knarr");
	while (o->monitor_cgroup[0] == '/')
		o->monitor_cgroup++;
	o->cgroup_parent = arena_strdup(a, s->cgroup_parent ? s->cgroup_parent : "/knarr-pods");
	o->cdi_dirs = strv_dup(a, s->cdi_dirs ? s->cdi_dirs : (char *[]){ (char *)"/etc/cdi", (char *)"/var/run/cdi", NULL });
	o->criu = arena_strdup(a, s->criu);
	o->seccomp_dir = arena_strdup(a, s->seccomp_dir ? s->seccomp_dir : "/var/lib/kubelet/seccomp");
	o->resolv_conf = arena_strdup(a, s->resolv_conf ? s->resolv_conf : "/etc/resolv.conf");
	if (!o->create_limit_ns)
		o->create_limit_ns = 240 * NS_PER_S;
	if (!o->collect_limit_ns)
		o->collect_limit_ns = 120 * NS_PER_S;
	if (!o->shm_bytes)
		o->shm_bytes = 64 << 20;
}

static int open_all(struct pods *ps, struct err *e)
{
	const struct pod_settings *s = &ps->settings;

	if (open_folder(s->root, "pods", &ps->root_fd, e) < 0 ||
	    open_folder(s->run, "pods", &ps->run_fd, e) < 0 ||
	    open_folder(s->netns_dir, NULL, &ps->netns_fd, e) < 0)
		return -1;
	if (cgroup_layout_open(&ps->cgroups, e) < 0 || container_facts_read(&ps->arena, &ps->facts, e) < 0)
		return -1;
	if (monitor_program_open(s->monitor_path, &ps->cgroups, &ps->program, e) < 0 || unit_monitors_open(ps, e) < 0)
		return -1;
	if (watch_open(ps, e) < 0)
		return -1;
	if (thread_start(&ps->recoverer, "recover", recover_thread, ps, e) < 0)
		return -1;
	ps->recoverer_runs = true;
	return 0;
}

int pods_open(const struct pod_settings *settings, struct catalog *catalog, struct images *images,
	      struct net *net, struct pods **out, struct err *e)
{
	struct pods *ps = mem_new0(struct pods);

	copy_settings(ps, settings);
	ps->catalog = catalog;
	ps->images = images;
	ps->net = net;
	ps->root_fd = ps->run_fd = ps->netns_fd = ps->epoll_fd = ps->wake_fd = -1;
	ps->program = (struct monitor_program){ .exec_fd = -1, .lean_mount_ns_fd = -1 };
	ps->holder = (struct unit_holder)UNIT_HOLDER_NONE;
	lock_init(&ps->lock);
	cond_init(&ps->changed);
	list_init(&ps->pod_list);
	list_init(&ps->container_list);
	ps->events = arena_newn0(&ps->arena, struct event_slot, EVENT_RING);
	ps->next_event = 1;
	if (handlers_open(ps, settings, e) < 0 || open_all(ps, e) < 0) {
		pods_close(ps);
		return -1;
	}
	*out = ps;
	return 0;
}

static void end_work(struct pods *ps)
{
	LOCKED(&ps->lock);

	ps->state = PODS_CLOSING;
	list_for_each(p, &ps->pod_list, struct pod, in_pods)
		making_cancel_locked(&p->making, &p->changed);
	list_for_each(k, &ps->container_list, struct container, in_containers)
		making_cancel_locked(&k->making, &k->changed);
	cond_broadcast(&ps->changed);
}

void pods_close(struct pods *ps)
{
	struct err e;

	if (!ps)
		return;
	end_work(ps);
	if (ps->recoverer_runs)
		(void)pthread_join(ps->recoverer, NULL);
	lock_acquire(&ps->lock);
	while (ps->jobs)
		(void)cond_wait(NULL, &ps->changed, &ps->lock, &e);
	lock_release(&ps->lock);
	watch_close(ps);
	lock_acquire(&ps->lock);
	list_for_each_safe(k, &ps->container_list, struct container, in_containers)
		container_forget_locked(k);
	list_for_each_safe(p, &ps->pod_list, struct pod, in_pods)
		pod_forget_locked(p);
	lock_release(&ps->lock);
	map_free(&ps->pods);
	map_free(&ps->pod_keys);
	map_free(&ps->containers);
	map_free(&ps->container_keys);
	unit_monitors_close(ps);
	if (ps->program.exec_fd >= 0)
		monitor_program_close(&ps->program);
	if (ps->cgroups.nh)
		cgroup_layout_close(&ps->cgroups);
	handlers_close(ps);
	fd_close(&ps->root_fd);
	fd_close(&ps->run_fd);
	fd_close(&ps->netns_fd);
	cond_destroy(&ps->changed);
	lock_destroy(&ps->lock);
	arena_free(&ps->arena);
	mem_free(ps);
}

int pods_check_ready(struct pods *ps, struct err *e)
{
	LOCKED(&ps->lock);

	return pods_check_ready_locked(ps, e);
}

int pods_wait_ready(struct pods *ps, struct call *c, struct err *e)
{
	LOCKED(&ps->lock);

	while (ps->state == PODS_RECOVERING)
		if (cond_wait(c, &ps->changed, &ps->lock, e) < 0)
			return -1;
	return pods_check_ready_locked(ps, e);
}

int pods_runtime_ready(struct pods *ps, struct err *e)
{
	return pods_check_ready(ps, e);
}

bool pods_have_userns(struct pods *ps)
{
	return ps->facts.userns_supported;
}

static bool has_volume(const struct container *k, const char *image_id)
{
	const struct config_mount *m = k->config->mounts.p;

	for (size_t i = 0; i < k->config->mounts.count; i++)
		if (m[i].image_id && streq(m[i].image_id, image_id))
			return true;
	return false;
}

bool pods_use_image(struct pods *ps, const char *image_id)
{
	LOCKED(&ps->lock);

	list_for_each(k, &ps->container_list, struct container, in_containers)
		if (streq_null(k->image_id, image_id) || has_volume(k, image_id))
			return true;
	return false;
}
