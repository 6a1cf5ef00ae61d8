/* Pods and containers as systemd's units, where cgroup.driver is systemd (docs/inside/systemd.md): the slices are
 * kubelet's, each container is a scope in its pod's, and the knarr-pods have one scope together. */
#include "pod/model.h"

#include "base/log.h"
#include "runtime/systemd.h"

#include <fcntl.h>

#define SCOPE_PREFIX "knarr-"

enum { CONFIG_MAX = 16 << 20, JOIN_TRIES = 10 };

/* --- names ---------------------------------------------------------------------------------------------- */

/* kubelet gives the slice with all those above it, others its name alone. */
static int slice_of(struct arena *a, const char *parent, const char **out, struct err *e)
{
	const char *slice = path_base(path_clean(a, parent));

	if (!ends_with(slice, ".slice"))
		return err_set(e, ERR_INVALID, "cgroup_parent \"%s\" is no slice: knarrd's cgroup driver is systemd, "
			       "kubelet's must be too", parent);
	return systemd_slice_path(a, slice, out, e);
}

int pod_cgroup_parent(struct arena *a, const struct pod *p, const char **out, struct err *e)
{
	const struct pod_settings *s = &p->all->settings;
	const char *parent = str_is_empty(p->config->cgroup_parent) ? s->cgroup_parent : p->config->cgroup_parent;

	if (s->systemd)
		return slice_of(a, parent, out, e);
	*out = parent;
	return 0;
}

/* cAdvisor takes a cgroup for CRI-O's by the prefix; kubelet finds the ID between it and ".scope", whatever the driver.
 * What is a scope in a slice would be systemd's. */
static const char *cgroup_name(struct arena *a, const char *parent, const char *id, bool systemd, bool crio_names)
{
	if (crio_names)
		return arena_printf(a, "%s/crio-%s%s", parent, id, systemd || !ends_with(parent, ".slice") ? ".scope" : "");
	return systemd ? arena_printf(a, "%s/" SCOPE_PREFIX "%s.scope", parent, id) : arena_printf(a, "%s/%s", parent, id);
}

int unit_pod_cgroup(struct arena *a, const struct pod *p, bool crio_names, const char **out, struct err *e)
{
	const char *parent;

	if (pod_cgroup_parent(a, p, &parent, e) < 0)
		return -1;
	/* systemd knows nothing of it: nobody is in it. */
	return cgroup_path_clean(a, crio_names ? cgroup_name(a, parent, p->id, true, true) :
					      arena_printf(a, "%s/%s", parent, p->id), out, e);
}

const char *unit_container_cgroup(struct arena *a, const struct pods *ps, const char *parent, const char *id)
{
	return cgroup_name(a, parent, id, ps->settings.systemd, ps->settings.crio_names);
}

/* Its unit, as its cgroup tells: the driver may have been another one when it was made. */
static bool unit_of_path(struct arena *a, const char *cgroup, struct systemd_unit *out)
{
	const char *name = path_base(cgroup), *slice = "-.slice";

	if (!ends_with(name, ".scope"))
		return false;
	if (name > cgroup + 1)
		slice = path_base(arena_strndup(a, cgroup, (size_t)(name - cgroup) - 1));
	*out = (struct systemd_unit){ .name = name, .slice = slice, .cgroup = cgroup };
	return ends_with(slice, ".slice");
}

const char *unit_cgroups_path(struct arena *a, const struct container *k)
{
	struct systemd_unit u;

	if (!unit_of_path(a, k->cgroup_path, &u))
		return arena_printf(a, "/%s", k->cgroup_path);
	return arena_printf(a, "%s:%.*s:%s", u.slice, (int)strcspn(u.name, "-"), u.name, k->id);
}

/* --- holders -------------------------------------------------------------------------------------------- */

/* knarr-pod --hold: ends with our end of the pipe, and so with us. */
static int holder_start(struct pods *ps, struct unit_holder *out, struct err *e)
{
	char *argv[] = { (char *)"knarr-pod", (char *)"--hold", NULL };
	struct proc_spec spec = PROC_SPEC_INIT;
	auto_fd int ours = -1, its = -1;

	if (fd_pipe(&its, &ours, e) < 0)
		return -1;
	spec.exec_fd = ps->program.exec_fd;
	spec.argv = argv;
	spec.std_in = its;
	if (proc_spawn(&spec, &out->proc, e) < 0)
		return err_in(e, "start a holder");
	out->pipe_fd = fd_take(&ours);
	return 0;
}

static void holder_end(struct unit_holder *h)
{
	fd_close(&h->pipe_fd);
	if (h->proc.pidfd < 0)
		return;
	proc_kill_and_reap(&h->proc);
	fd_close(&h->proc.pidfd);
}

/* --- the knarr-pods' scope ------------------------------------------------------------------------------ */

/* Those of a knarrd before keep it alive, until the last of them ends: which may be just now. */
static int monitors_join(struct pods *ps, const struct systemd_unit *u, const struct systemd_properties *p, struct err *e)
{
	for (int i = 0; i < JOIN_TRIES; i++) {
		if (systemd_scope_start(NULL, u, ps->holder.proc.pid, "knarr-pods", p, e) < 0 && e->kind != ERR_EXISTS)
			return -1;
		/* In every hierarchy, also those that systemd does not use. */
		if (cgroup_create(&ps->cgroups, u->cgroup, e) < 0)
			return -1;
		if (cgroup_join_pid(&ps->cgroups, u->cgroup, ps->holder.proc.pid, e) == 0)
			return 0;
		if (e->kind != ERR_NOT_FOUND)
			return -1;
	}
	return err_in(e, "the scope of the knarr-pods comes and goes");
}

int unit_monitors_open(struct pods *ps, struct err *e)
{
	struct systemd_properties p = { .n = 1, .p = { { "TasksMax", { .signature = "t", .n = UINT64_MAX } } } };
	struct systemd_unit u;

	if (!ps->settings.systemd)
		return 0;
	if (!unit_of_path(&ps->arena, ps->settings.monitor_cgroup, &u))
		return err_set(e, ERR_INVALID, "\"%s\" is no scope for the knarr-pods", ps->settings.monitor_cgroup);
	if (holder_start(ps, &ps->holder, e) < 0)
		return -1;
	return monitors_join(ps, &u, &p, e);
}

void unit_monitors_close(struct pods *ps)
{
	holder_end(&ps->holder);
}

/* --- a container's scope -------------------------------------------------------------------------------- */

static int resources_of(struct container *k, struct call *c, struct unit_start *s, struct err *e)
{
	struct oci_config *config = arena_new0(&c->arena, struct oci_config);
	struct str text;

	if (fs_read_file(&c->arena, AT_FDCWD, container_path(&c->arena, k, "config.json"), CONFIG_MAX, &text, e) < 0 ||
	    oci_config_read(&c->arena, text, config, e) < 0)
		return -1;
	s->resources = config->on_linux ? config->on_linux->resources : NULL;
	return 0;
}

int unit_begin(struct container *k, struct call *c, struct unit_start *s, struct err *e)
{
	struct systemd_properties *p;
	struct systemd_unit u;

	*s = UNIT_START_NONE;
	if (!unit_of_path(&c->arena, k->cgroup_path, &u))
		return 0;
	p = arena_new0(&c->arena, struct systemd_properties);
	if (resources_of(k, c, s, e) < 0 || systemd_resources(&c->arena, &k->all->cgroups, s->resources, p, e) < 0 ||
	    holder_start(k->all, &s->holder, e) < 0)
		return -1;
	if (steps_point("start", "holder", e) < 0 ||
	    systemd_scope_start(c, &u, s->holder.proc.pid, arena_printf(&c->arena, "container %s", k->id), p, e) < 0) {
		holder_end(&s->holder);
		return -1;
	}
	systemd_pids_make_room(s->resources); /* as knarr-pod does, who reads the same file */
	return steps_point("start", "scope", e);
}

void unit_end(struct container *k, struct unit_start *s, bool started)
{
	struct err e;

	if (s->holder.proc.pidfd < 0)
		return;
	holder_end(&s->holder);
	if (started) {
		if (systemd_pids_settle(&k->all->cgroups, k->cgroup_path, s->resources, &e) < 0 && e.kind != ERR_NOT_FOUND)
			log_warn("%s", e.msg);
		return;
	}
	/* systemd collects the empty scope; what it does not know of the cgroup goes here. */
	if (cgroup_kill(&k->all->cgroups, k->cgroup_path, &e) == 0 || e.kind == ERR_NOT_FOUND)
		(void)cgroup_remove(&k->all->cgroups, k->cgroup_path, 1000, &e); /* tried again by the container's removal */
}

int unit_update(struct container *k, const struct oci_resources *r, struct err *e)
{
	auto_arena a = { 0 };
	struct systemd_unit u;

	if (!unit_of_path(&a, k->cgroup_path, &u))
		return resources_update(&k->all->cgroups, k->cgroup_path, r, e);
	return systemd_update(NULL, &k->all->cgroups, &u, r, e);
}
