/* How a container is made, and how what was made is undone; as pod_steps.c. */
#include "pod/handler.h"

#include "base/log.h"
#include "image/image.h"
#include "pod/cdi_files.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CONFIG_MAX = 16 << 20, CGROUP_END_WAIT_MS = 2000 };

const char *container_path(struct arena *a, const struct container *k, const char *name)
{
	return arena_printf(a, "%s/containers/%s%s%s", k->all->settings.root, k->id, *name ? "/" : "", name);
}

int container_open_root(struct container *k, struct err *e)
{
	auto_fd int userns = -1;

	if (k->root_fd >= 0)
		return 0;
	if (pod_userns_open(k->pod, &userns, e) < 0)
		return -1;
	return snapshot_mount(k->all->images, k->id, userns, &k->root_fd, e);
}

/* --- config.json ------------------------------------------------------------------------------------------ */

/* A host path that is not there becomes a folder, as with every other runtime. */
static int make_host_path(const char *path, struct err *e)
{
	struct stat st;

	if (path[0] != '/')
		return err_set(e, ERR_INVALID, "host path %s is not absolute", path);
	if (stat(path, &st) == 0)
		return 0;
	if (errno != ENOENT)
		return err_sys(e, errno, "host path %s", path);
	if (fs_mkdirs(AT_FDCWD, path, 0755, e) < 0)
		return err_in(e, "host path %s", path);
	return 0;
}

static int check_mounts(const struct container_config *c, struct err *e)
{
	const struct config_mount *m = c->mounts.p;

	for (size_t i = 0; i < c->mounts.count; i++) {
		if (!str_is_empty(m[i].image))
			continue;
		if (str_is_empty(m[i].host_path))
			return err_set(e, ERR_INVALID, "mount %s has no host path",
				       m[i].container_path ? m[i].container_path : "");
		if (make_host_path(m[i].host_path, e) < 0)
			return -1;
	}
	return 0;
}

static int target_pid(struct container *k, pid_t *out, struct err *e)
{
	const struct config_namespaces *ns = &k->config->namespaces;
	LOCKED(&k->all->lock);
	struct container *target;

	*out = 0;
	if (ns->pid != CONFIG_NS_TARGET)
		return 0;
	target = map_get(&k->all->containers, ns->target_id ? ns->target_id : "");
	if (!target || target->pod != k->pod)
		return err_set(e, ERR_NOT_FOUND, "target container %s is not in this pod",
			       ns->target_id ? ns->target_id : "");
	if (target->state != CONTAINER_RUNNING)
		return err_set(e, ERR_STATE, "target container %s is %s", target->id,
			       container_state_name[target->state]);
	*out = target->pid;
	return 0;
}

static const char *shared_file(struct arena *a, const struct pod *p, const char *name)
{
	if (p->run_dirfd < 0 || faccessat(p->run_dirfd, name, F_OK, 0) < 0)
		return NULL;
	return pod_run_path(a, p, name);
}

/* Where nothing is: start mounts them, as it opens all binds. */
static const char *const *image_sources(const struct container *k, struct arena *a)
{
	const struct config_mount *m = k->config->mounts.p;
	const char **sources = arena_newn0(a, const char *, k->config->mounts.count + 1);

	for (size_t i = 0; i < k->config->mounts.count; i++)
		if (m[i].image_id) /* another runtime finds it mounted there (handler.h) */
			sources[i] = arena_printf(a, "%s/%zu-%s", container_path(a, k, "image-volumes"), i, m[i].image_id);
	return sources;
}

static int cdi_input(const struct container *k, struct arena *a, struct container_spec_input *in, struct err *e)
{
	char **devices = cdi_devices_of(a, k->config->cdi_devices, &k->config->annotations);

	return devices ? cdi_files_find(a, k->all->settings.cdi_dirs, devices, &in->cdi, e) : 0;
}

static int spec_input(struct container *k, struct arena *a, struct container_spec_input *in, struct err *e)
{
	struct pod *p = k->pod;
	struct image_config *image = arena_new0(a, struct image_config);
	bool pod_ipc = k->config->namespaces.ipc == CONFIG_NS_POD;

	*in = (struct container_spec_input){
		.facts = &k->all->facts, .container_id = k->id, .pod_id = p->id, .pod = p->config,
		.config = k->config, .image = image, .cgroup_path = unit_cgroups_path(a, k),
		.monitor_pid = p->monitor.pid, .userns_fd_number = MONITOR_USERNS_FD, .init_pid = p->init_pid,
		.shm_path = !pod_ipc ? NULL : pod_shares_shm(p) ? shared_file(a, p, "shm") : NULL,
		.resolv_conf_path = shared_file(a, p, "resolv.conf"),
		.hostname_path = shared_file(a, p, "hostname"), .hosts_path = shared_file(a, p, "hosts"),
	};
	if (k->config->namespaces.ipc == CONFIG_NS_NODE)
		in->shm_path = "/dev/shm";
	in->mount_sources = image_sources(k, a);
	if (target_pid(k, &in->target_pid, e) < 0 ||
	    image_config_of(k->all->images, a, k->image_id, image, e) < 0 || container_open_root(k, e) < 0 ||
	    container_facts_users(a, k->root_fd, in, e) < 0 || container_facts_devices(a, in, e) < 0)
		return -1;
	if (cdi_input(k, a, in, e) < 0)
		return -1;
	return container_facts_seccomp(a, k->all->settings.seccomp_dir, in, e);
}

/* Every bind mount of the host's is opened by start, since knarr-pod sees another mount table. */
static struct json_vec binds_of(struct arena *a, const struct container *k, const struct oci_config *c,
				const size_t *mount_at)
{
	const struct config_mount *wishes = k->config->mounts.p;
	const struct oci_mount *m = c->mounts.p;
	struct container_bind *binds = arena_newn0(a, struct container_bind, c->mounts.count + 1);
	size_t n = 0;

	for (size_t i = 0; i < c->mounts.count; i++) {
		bool recursive = m[i].options && strv_has(m[i].options, "rbind");
		bool bind = recursive || (m[i].type && streq(m[i].type, "bind")) ||
			    (m[i].options && strv_has(m[i].options, "bind"));

		if (bind && m[i].source && m[i].source[0] == '/')
			binds[n++] = (struct container_bind){ .mount = (uint32_t)i, .source = m[i].source,
							      .recursive = recursive };
	}
	for (size_t i = 0; i < k->config->mounts.count; i++)
		for (size_t j = 0; j < n && wishes[i].image_id; j++)
			if (binds[j].mount == mount_at[i])
				binds[j] = (struct container_bind){ .mount = binds[j].mount, .source = binds[j].source,
								    .image = wishes[i].image_id,
								    .sub_path = wishes[i].image_sub_path };
	return (struct json_vec){ binds, n };
}

static void take_user(struct container *k, const struct oci_user *u)
{
	const uint32_t *gids = u->additional_gids.p;
	int64_t *groups = arena_newn0(&k->arena, int64_t, u->additional_gids.count + 1);

	for (size_t i = 0; i < u->additional_gids.count; i++)
		groups[i] = gids[i];
	k->user = (struct container_user){ u->uid, u->gid, groups, u->additional_gids.count };
}

/* Nothing runs them between knarr-pod's steps yet: better no device than half of one. */
static int check_hooks(const struct oci_config *c, struct err *e)
{
	const struct oci_hooks *h = c->hooks;
	const struct oci_hook *first = !h ? NULL : h->prestart.count ? h->prestart.p : h->create_runtime.count ?
		h->create_runtime.p : h->create_container.count ? h->create_container.p : h->start_container.count ?
		h->start_container.p : h->poststart.count ? h->poststart.p : h->poststop.p;

	return first ? err_set(e, ERR_UNIMPLEMENTED, "hook %s (of a CDI device or an NRI plugin) cannot be run by this version",
			       first->path) : 0;
}

/* Where the wish's mounts are now; one that a plugin removed or replaced is nowhere. */
static void find_mounts(const struct container *k, const char *const *destinations, struct container_spec_result *r)
{
	const struct oci_mount *m = r->config->mounts.p;

	for (size_t i = 0; i < k->config->mounts.count; i++) {
		r->mount_at[i] = SIZE_MAX;
		for (size_t j = 0; j < r->config->mounts.count; j++)
			if (m[j].destination == destinations[i])
				r->mount_at[i] = j;
	}
}

static const char **destinations_of(struct arena *a, const struct container *k, const struct container_spec_result *r)
{
	const struct oci_mount *m = r->config->mounts.p;
	const char **names = arena_newn0(a, const char *, k->config->mounts.count + 1);

	for (size_t i = 0; i < k->config->mounts.count; i++)
		names[i] = m[r->mount_at[i]].destination;
	return names;
}

/* With CDI devices of a plugin's it is built anew: their mounts are put in order with the others. */
static int adjust_again(struct container *k, struct arena *a, struct container_spec_input *in,
			const struct pod_adjustment *wishes, struct container_spec_result *r, struct err *e)
{
	char **devices = cdi_devices_of(a, k->config->cdi_devices, &k->config->annotations);

	for (char **d = wishes->cdi_devices; *d; d++)
		if (!devices || !strv_has(devices, *d))
			devices = strv_append(a, devices, *d);
	if (cdi_files_find(a, k->all->settings.cdi_dirs, devices, &in->cdi, e) < 0 ||
	    container_spec_build(a, in, r, e) < 0)
		return -1;
	return 0;
}

static int take_cgroup(struct container *k, struct arena *a, const char *before, const char *now, struct err *e)
{
	const char *path;

	if (streq_null(before, now))
		return 0;
	if (k->all->settings.systemd)
		return err_set(e, ERR_UNIMPLEMENTED, "a plugin's cgroups path %s: with the systemd driver the container's "
			       "scope is its own", now);
	if (cgroup_path_clean(a, now, &path, e) < 0)
		return -1;
	LOCKED(&k->all->lock);
	k->cgroup_path = arena_strdup(&k->arena, path);
	return 0;
}

/* What plugins change in it. */
static int adjust(struct container *k, struct arena *a, struct container_spec_input *in,
		  struct container_spec_result *r, struct err *e)
{
	struct pod_adjustment wishes = { .config = r->config };
	const char *cgroup = r->config->on_linux->cgroups_path;
	const char **names;

	if (!pods_plugins(k->all))
		return 0;
	names = destinations_of(a, k, r);
	if (plugins_adjust(k, a, &wishes, e) < 0)
		return -1;
	if (wishes.cdi_devices) {
		if (adjust_again(k, a, in, &wishes, r, e) < 0)
			return -1;
		names = destinations_of(a, k, r);
		if (plugins_readjust(k, a, &wishes, r->config, e) < 0)
			return -1;
	}
	if (!wishes.wishes)
		return 0;
	find_mounts(k, names, r);
	r->config->oci_version = (char *)oci_config_lowest_version(r->config);
	if (oci_config_validate(r->config, e) < 0)
		return err_in(e, "as plugins adjusted it");
	return take_cgroup(k, a, cgroup, r->config->on_linux->cgroups_path, e);
}

int container_write_config(struct container *k, struct err *e)
{
	auto_arena a = { 0 };
	auto_buf b = BUF(CONFIG_MAX);
	auto_fd int dir = -1;
	struct container_spec_input in;
	struct container_spec_result result;
	struct json_vec binds;

	if (spec_input(k, &a, &in, e) < 0 || container_spec_build(&a, &in, &result, e) < 0 ||
	    adjust(k, &a, &in, &result, e) < 0 || check_hooks(result.config, e) < 0 ||
	    oci_config_write(&b, result.config, e) < 0)
		return -1;
	dir = fd_open(AT_FDCWD, container_path(&a, k, ""), O_PATH | O_DIRECTORY, e);
	if (dir < 0 || fs_replace(dir, "config.json", b.p, b.len, 0600, 0, e) < 0)
		return -1;
	binds = binds_of(&a, k, result.config, result.mount_at);
	LOCKED(&k->all->lock);
	container_copy_binds(k, &binds);
	take_user(k, &result.config->process->user);
	k->stop_signal = result.stop_signal;
	return 0;
}

/* --- the steps ---------------------------------------------------------------------------------------------- */

static int record_act(void *ctx, struct err *e)
{
	return container_save(ctx, e);
}

static int record_undo(void *ctx, struct err *e)
{
	return container_record_delete(ctx, e);
}

/* What is not there is better said now than by a start that fails. */
static int hold_volumes(const struct container *k, struct err *e)
{
	const struct config_mount *m = k->config->mounts.p;

	for (size_t i = 0; i < k->config->mounts.count; i++) {
		auto_fd int probe = -1;

		if (!m[i].image_id)
			continue;
		if (snapshot_hold(k->all->images, k->id, m[i].image_id, e) < 0 ||
		    (!str_is_empty(m[i].image_sub_path) &&
		     image_mount(k->all->images, m[i].image_id, m[i].image_sub_path, -1, &probe, e) < 0))
			return err_in(e, "mount %s", m[i].container_path);
	}
	return 0;
}

static int snapshot_act(void *ctx, struct err *e)
{
	struct container *k = ctx;

	if (snapshot_create(k->all->images, k->id, k->image_id, e) < 0)
		return -1;
	return hold_volumes(k, e);
}

static int snapshot_undo(void *ctx, struct err *e)
{
	struct container *k = ctx;

	return snapshot_remove(k->all->images, k->id, e);
}

static int bundle_act(void *ctx, struct err *e)
{
	struct container *k = ctx;

	if (check_mounts(k->config, e) < 0)
		return -1;
	return container_write_config(k, e);
}

static int bundle_undo(void *ctx, struct err *e)
{
	struct container *k = ctx;

	fd_close(&k->root_fd);
	if (handler_is_foreign(k->pod) && handler_mounts_detach(k, e) < 0)
		return -1;
	return 0; /* config.json goes with its folder, which the snapshot's undo removes */
}

/* What a start left, should the process that asked for it have died meanwhile. */
static int cgroup_act(UNUSED void *ctx, UNUSED struct err *e)
{
	return 0;
}

static int cgroup_undo(void *ctx, struct err *e)
{
	struct container *k = ctx;

	if (!k->cgroup_path || !cgroup_exists(&k->all->cgroups, k->cgroup_path))
		return 0;
	if (cgroup_kill(&k->all->cgroups, k->cgroup_path, e) < 0)
		return -1;
	return cgroup_remove(&k->all->cgroups, k->cgroup_path, CGROUP_END_WAIT_MS, e);
}

static void undo_failed(void *ctx, const struct step *step, const struct err *e)
{
	const struct container *k = ctx;

	log_warn("undo failed, it is tried again container=%s step=%s: %s", k->id, step->name, e->msg);
}

static const struct step make_steps[] = {
	{ "record", record_act, record_undo },
	{ "snapshot", snapshot_act, snapshot_undo },
	{ "bundle", bundle_act, bundle_undo },
	{ "cgroup", cgroup_act, cgroup_undo },
};

const struct steps container_steps = STEPS(make_steps, .undo_failed = undo_failed);
