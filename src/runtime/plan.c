#include "runtime/plan.h"

#include "base/fd.h"
#include "base/fs.h"
#include "base/map.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/mount.h>
#include <unistd.h>

int plan_namespace_kind(const char *type)
{
	static const struct {
		const char *type;
		int kind;
	} known[] = {
		{ "pid", CLONE_NEWPID }, { "network", CLONE_NEWNET }, { "mount", CLONE_NEWNS },
		{ "ipc", CLONE_NEWIPC }, { "uts", CLONE_NEWUTS }, { "user", CLONE_NEWUSER },
		{ "cgroup", CLONE_NEWCGROUP }, { "time", CLONE_TIME },
	};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (streq(known[i].type, type))
			return known[i].kind;
	return 0;
}

void plan_close(struct plan *p)
{
	for (size_t i = 0; i < p->nopened; i++)
		fd_close(&p->opened[i]);
	p->nopened = 0;
}

/* --- namespaces ----------------------------------------------------------------------------------- */

static int open_namespace(struct plan *p, const char *path, int kind, int *out, struct err *e)
{
	int fd = fd_open(AT_FDCWD, path, O_RDONLY, e), found;

	if (fd < 0)
		return err_in(e, "linux.namespaces");
	found = ioctl(fd, NS_GET_NSTYPE);
	if (found != kind) {
		fd_close(&fd);
		return err_set(e, ERR_INVALID, "linux.namespaces: %s is not a namespace of the wanted kind", path);
	}
	*out = plan_keep(p, fd);
	return 0;
}

int plan_keep(struct plan *p, int fd)
{
	BUG_ON(p->nopened == p->opened_max);
	p->opened[p->nopened++] = fd;
	return fd;
}

static int plan_namespace(struct plan *p, const struct container_spec *s, const struct oci_namespace *ns,
			  struct err *e)
{
	int kind = plan_namespace_kind(ns->type), fd = -1;
	const struct container_ns *given = NULL;

	p->has_cgroup_ns |= kind == CLONE_NEWCGROUP;
	for (size_t i = 0; i < s->nns; i++)
		if (s->ns[i].kind == kind)
			given = &s->ns[i];
	if (given && given->fd == CONTAINER_NS_MINE)
		return 0;
	if (!given && str_is_empty(ns->path)) {
		if (kind == CLONE_NEWCGROUP)
			p->new_cgroup_ns = true; /* after the cgroups are joined, to have them as its root */
		else if (kind == CLONE_TIME)
			p->new_time_ns = true; /* its offsets are written before anyone is in it */
		else if (kind != CLONE_NEWUSER)
			p->clone_flags |= (unsigned)kind;
		p->new_net_ns |= kind == CLONE_NEWNET;
		return 0;
	}
	if (kind == CLONE_NEWNS)
		return err_set(e, ERR_UNIMPLEMENTED, "linux.namespaces: a container cannot join a mount namespace");
	if (given)
		fd = given->fd;
	else if (open_namespace(p, ns->path, kind, &fd, e) < 0)
		return -1;
	if (kind == CLONE_NEWUSER)
		p->userns_fd = fd;
	else if (kind == CLONE_NEWPID)
		p->pid_ns_fd = fd;
	else
		p->joins[p->njoins++] = (struct plan_join){ kind, fd };
	return 0;
}

static int plan_namespaces(struct arena *a, const struct runtime *rt, struct plan *p, const struct container_spec *s,
			   struct err *e)
{
	OCI_EACH(oci_namespace, ns, s->config->on_linux->namespaces)
		if (plan_namespace(p, s, ns, e) < 0)
			return -1;
	if (!(p->clone_flags & CLONE_NEWNS))
		return err_set(e, ERR_INVALID, "linux.namespaces: a container needs a mount namespace of its own");
	if (plan_userns(a, p, rt, s, e) < 0)
		return -1;
	plan_time(a, p, s->config->on_linux);
	/* Who may join it depends on where one stands then: the first stage tries before and after. */
	if (p->staged && p->pid_ns_fd >= 0) {
		p->joins[p->njoins++] = (struct plan_join){ CLONE_NEWPID, p->pid_ns_fd };
		p->pid_ns_fd = -1;
	}
	return 0;
}

/* --- mounts --------------------------------------------------------------------------------------- */

static bool has_word(const char *data, const char *start)
{
	for (struct str rest = str_of(data ? data : ""); rest.p;)
		if (str_starts(str_cut(&rest, ','), start))
			return true;
	return false;
}

static int plan_mount(struct arena *a, const struct container_spec *s, const struct oci_mount *m,
		      struct plan_mount *out, struct err *e)
{
	uint32_t index = (uint32_t)(m - (const struct oci_mount *)s->config->mounts.p);
	struct plan_mount p = { .fd = -1, .source = m->source, .type = m->type };

	p.destination = path_clean(a, m->destination);
	mount_options_parse(a, m->options, &p.o);
	for (size_t i = 0; i < s->nmount_fds; i++)
		if (s->mount_fds[i].index == index)
			p.fd = s->mount_fds[i].fd;
	p.kind = PLAN_NEW;
	if (p.o.bind || p.fd >= 0 || (m->type && streq(m->type, "bind")))
		p.kind = PLAN_BIND;
	else if (m->type && (streq(m->type, "cgroup") || streq(m->type, "cgroup2")))
		p.kind = PLAN_CGROUP;
	if ((p.o.idmap || m->uid_mappings.count || m->gid_mappings.count) && p.kind != PLAN_BIND)
		return err_set(e, ERR_INVALID, "mounts: %s: only a bind mount can be idmapped", m->destination);
	if (p.o.copy_up && (!m->type || !streq(m->type, "tmpfs") || p.kind != PLAN_NEW))
		return err_set(e, ERR_INVALID, "mounts: %s: tmpcopyup is for a tmpfs", m->destination);
	if (p.kind == PLAN_BIND && p.fd < 0 && str_is_empty(m->source))
		return err_set(e, ERR_INVALID, "mounts: %s: a bind mount needs a source", m->destination);
	if (p.kind == PLAN_NEW && str_is_empty(m->type))
		return err_set(e, ERR_INVALID, "mounts: %s: the type is missing", m->destination);
	if (p.kind == PLAN_BIND && p.fd < 0 && m->source[0] != '/')
		p.source = path_join(a, s->bundle, m->source);
	if (!p.source)
		p.source = m->type;
	p.data = p.o.data;
	p.on_folder_only = p.kind == PLAN_NEW && (streq(m->type, "proc") || streq(m->type, "sysfs"));
	if (p.kind == PLAN_NEW && s->config->on_linux->mount_label && *s->config->on_linux->mount_label &&
	    access("/sys/fs/selinux/enforce", F_OK) == 0 && !p.on_folder_only)
		p.data = arena_printf(a, "%s%scontext=\"%s\"", p.data ? p.data : "", p.data ? "," : "",
				      s->config->on_linux->mount_label);
	p.keeps_mode = p.kind == PLAN_NEW && streq(m->type, "tmpfs") && !has_word(p.data, "mode=");
	*out = p;
	return 0;
}

/* A folder that only the host's root may walk is no secret of a mount's source: it is cloned by the caller, where the
 * caller can. Where not (rootless; a source within the root) the container's process does it, and says what it lacks. */
static void clone_source(struct plan *p, struct plan_mount *m)
{
	struct err theirs;
	int fd = mount_clone(AT_FDCWD, m->source, m->o.bind_tree, &theirs);

	if (fd >= 0)
		m->fd = plan_keep(p, fd);
}

static int plan_mounts(struct arena *a, const struct runtime *rt, struct plan *p, const struct container_spec *s,
		       struct err *e)
{
	const struct json_vec *v = &s->config->mounts;
	struct plan_mount *mounts = arena_newn0(a, struct plan_mount, v->count + 1);

	p->make_dev = true;
	OCI_EACH(oci_mount, m, *v) {
		struct plan_mount *to = &mounts[p->nmounts++];

		if (plan_mount(a, s, m, to, e) < 0)
			return -1;
		if ((to->o.idmap || m->uid_mappings.count || m->gid_mappings.count) && plan_idmap(a, p, rt, m, to, e) < 0)
			return err_in(e, "mounts: %s", m->destination);
		if (to->kind == PLAN_BIND && p->userns_fd >= 0 && to->fd < 0)
			clone_source(p, to);
		/* A whole /dev that somebody else keeps: nothing of ours is made in it. */
		if (streq(to->destination, "/dev") && to->kind == PLAN_BIND)
			p->make_dev = false;
	}
	p->mounts = mounts;
	return 0;
}

/* --- devices -------------------------------------------------------------------------------------- */

static void plan_device(struct plan_device *list, size_t *n, const struct plan_device *d)
{
	for (size_t i = 0; i < *n; i++)
		if (streq(list[i].path, d->path)) {
			list[i] = *d; /* the document's own over the default */
			return;
		}
	list[(*n)++] = *d;
}

static unsigned device_kind(const char *type)
{
	switch (type[0]) {
	case 'b':
		return S_IFBLK;
	case 'p':
		return S_IFIFO;
	default:
		return S_IFCHR;
	}
}

static void plan_devices(struct arena *a, struct plan *p, const struct oci_linux *l)
{
	static const struct {
		const char *path;
		unsigned major, minor;
	} defaults[] = {
		{ "/dev/null", 1, 3 }, { "/dev/zero", 1, 5 }, { "/dev/full", 1, 7 }, { "/dev/random", 1, 8 },
		{ "/dev/urandom", 1, 9 }, { "/dev/tty", 5, 0 },
	};
	struct plan_device *list = arena_newn0(a, struct plan_device, ARRAY_SIZE(defaults) + l->devices.count);

	for (size_t i = 0; p->make_dev && i < ARRAY_SIZE(defaults); i++)
		list[p->ndevices++] = (struct plan_device){ defaults[i].path, S_IFCHR | 0666,
							    makedev(defaults[i].major, defaults[i].minor), 0, 0 };
	OCI_EACH(oci_device, d, l->devices) {
		struct plan_device one = {
			.path = path_clean(a, d->path),
			.mode = device_kind(d->type) | (d->file_mode ? *d->file_mode & 07777 : 0666),
			.dev = makedev((unsigned)d->major, (unsigned)d->minor),
			.uid = d->uid ? *d->uid : 0,
			.gid = d->gid ? *d->gid : 0,
		};

		plan_device(list, &p->ndevices, &one);
	}
	p->devices = list;
}

/* --- all ------------------------------------------------------------------------------------------ */

static int refuse_unsupported(const struct container_spec *s, struct err *e)
{
	const char *what = s->config->on_linux->intel_rdt && s->rdt_tasks_fd < 0 ? "intelRdt" : NULL;

	if (what)
		return err_set(e, ERR_UNIMPLEMENTED, "linux.%s is not supported by this version", what);
	return 0;
}

/* Below a root that was only moved the caller's whole proc and sysfs would be found: with them in its mount namespace
 * a process may mount proc anew, unmasked, in a user namespace of its own. */
static int plan_bare(struct arena *a, struct plan *p, struct err *e)
{
	struct str text;

	if (fs_read_file(a, AT_FDCWD, "/proc/self/mountinfo", 16 << 20, &text, e) < 0)
		return -1;
	while (text.p) {
		struct str line = str_cut(&text, '\n'), path = { 0 };

		if (!line.p || (!memmem(line.p, line.len, " - proc ", 8) && !memmem(line.p, line.len, " - sysfs ", 9)))
			continue;
		for (int i = 0; i < 5; i++)
			path = str_cut(&line, ' ');
		p->bare = strv_append(a, (char **)p->bare, str_dup(a, path));
	}
	return 0;
}

static int plan_fill(struct arena *a, const struct runtime *rt, const struct container_spec *s, struct plan *p,
		     struct err *e)
{
	const struct oci_config *c = s->config;
	const struct oci_linux *l = c->on_linux;

	if (refuse_unsupported(s, e) < 0 || plan_namespaces(a, rt, p, s, e) < 0 || plan_mounts(a, rt, p, s, e) < 0)
		return -1;
	plan_devices(a, p, l);
	p->propagation = MS_SLAVE;
	p->propagation_tree = true;
	if (!str_is_empty(l->rootfs_propagation) &&
	    mount_propagation_parse(l->rootfs_propagation, &p->propagation, &p->propagation_tree, e) < 0)
		return err_in(e, "linux.rootfsPropagation");
	if (s->root_fd < 0 && !p->root_cloned)
		p->root_path = c->root->path[0] == '/' ? c->root->path : path_join(a, s->bundle, c->root->path);
	if (s->root_fd < 0 && c->hooks &&
	    (c->hooks->prestart.count || c->hooks->create_runtime.count || c->hooks->create_container.count))
		p->root_at = c->root->path[0] == '/' ? c->root->path : path_join(a, s->bundle, c->root->path);
	if (plan_process_make(a, rt, c->process, l, &p->process, e) < 0)
		return -1;
	p->process.std[0] = s->std_in;
	p->process.std[1] = s->std_out;
	p->process.std[2] = s->std_err;
	p->process.preserve_fds = s->preserve_fds;
	p->process.parent_death_signal = s->parent_death_signal;
	p->process.flags = s->flags;
	if ((s->flags & CONTAINER_NO_PIVOT) && plan_bare(a, p, e) < 0)
		return -1;
	if (p->userns_fd >= 0)
		plan_in_userns(&p->maps, &p->process);
	return 0;
}

/* Each path once: a mask upon a mask would hide nothing more. */
static char **only_once(struct arena *a, char *const *paths)
{
	char **out = arena_newn0(a, char *, strv_len((char **)paths) + 1);
	struct map seen = { 0 };
	size_t n = 0;

	for (; paths && *paths; paths++)
		if (map_add(&seen, *paths, *paths))
			out[n++] = *paths;
	map_free(&seen);
	return out;
}

int plan_make(struct arena *a, const struct runtime *rt, const struct container_spec *s, struct plan *out,
	      struct err *e)
{
	const struct oci_config *c = s->config;
	struct plan p;

	if (!c->on_linux || !c->root || !c->process)
		return err_set(e, ERR_INVALID, "config.json: root, process or linux is missing");
	p = (struct plan){
		.hostname = str_is_empty(c->hostname) ? NULL : c->hostname,
		.domainname = str_is_empty(c->domainname) ? NULL : c->domainname,
		.pid_ns_fd = -1, .userns_fd = -1, .root_fd = s->root_fd, .root_readonly = c->root->readonly,
		.masked = only_once(a, c->on_linux->masked_paths), .readonly = c->on_linux->readonly_paths,
		.sysctl = &c->on_linux->sysctl,
		.opened_max = PLAN_JOINS_MAX + 2 + 2 * c->mounts.count,
	};
	p.opened = arena_newn0(a, int, p.opened_max);
	if (plan_fill(a, rt, s, &p, e) < 0) {
		plan_close(&p);
		return -1;
	}
	*out = p;
	return 0;
}
