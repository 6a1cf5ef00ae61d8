#include "runtime/plan.h"

#include "base/fd.h"
#include "base/fs.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

static const struct idmap *idmap_of(struct arena *a, const struct json_vec *v)
{
	struct idmap *map = arena_newn0(a, struct idmap, v->count + 1);
	size_t n = 0;

	OCI_EACH(oci_idmap, m, *v)
		map[n++] = (struct idmap){ m->container_id, m->host_id, m->size };
	return map;
}

void plan_idmaps(struct arena *a, const struct json_vec *uids, const struct json_vec *gids, struct idmaps *out)
{
	*out = (struct idmaps){ idmap_of(a, uids), idmap_of(a, gids), uids->count, gids->count };
}

/* The user namespace has all capabilities of its own, and its ids are others than the host's. */
void plan_in_userns(const struct idmaps *maps, struct plan_process *p)
{
	uint32_t outside;

	p->pipes_uid = idmap_outside(maps->uids, maps->nuids, p->uid, &outside) ? (int64_t)outside : -1;
}

/* A path that only the host's root may walk is no secret of root.path: it is cloned by the caller, where the
 * caller may. The container's process does it where not (rootless). */
static int clone_root(struct arena *a, struct plan *p, const struct container_spec *s, struct err *e)
{
	const char *path = s->config->root->path;
	struct err refused;
	int fd;

	if (s->root_fd >= 0)
		return 0;
	if (path[0] != '/')
		path = path_join(a, s->bundle, path);
	fd = mount_clone(AT_FDCWD, path, true, &refused);
	if (fd < 0 && refused.sys == EPERM)
		return 0;
	if (fd < 0) {
		*e = refused;
		return err_in(e, "root.path");
	}
	p->root_fd = plan_keep(p, fd);
	p->root_cloned = true;
	return 0;
}

int plan_userns(struct arena *a, struct plan *p, const struct runtime *rt, const struct container_spec *s, struct err *e)
{
	const struct oci_linux *l = s->config->on_linux;
	int fd;

	if (!oci_namespace_find(s->config, "user"))
		return 0;
	p->staged = true;
	plan_idmaps(a, &l->uid_mappings, &l->gid_mappings, &p->maps);
	for (size_t i = 0; i < s->nns; i++)
		if (s->ns[i].kind == CLONE_NEWUSER && !p->maps.nuids)
			p->maps = s->ns[i].maps;
	if (p->userns_fd < 0) {
		if (userns_make(rt->proc_fd, &p->maps, NULL, 0, &fd, e) < 0)
			return err_in(e, "linux.uidMappings, linux.gidMappings");
		p->userns_fd = plan_keep(p, fd);
	}
	return clone_root(a, p, s, e);
}

static bool same_map(const struct idmap *a, size_t na, const struct idmap *b, size_t nb)
{
	return na == nb && memcmp(a, b, na * sizeof(*a)) == 0;
}

/* The namespace that has the map: the container's own, wherever it has the same. */
static int map_ns(struct arena *a, struct plan *p, const struct runtime *rt, const struct oci_mount *m, struct err *e)
{
	struct idmaps maps;
	int fd;

	if (!m->uid_mappings.count && !m->gid_mappings.count) {
		if (p->userns_fd < 0)
			return err_set(e, ERR_INVALID, "the option idmap without uidMappings and gidMappings needs a user namespace");
		return p->userns_fd;
	}
	plan_idmaps(a, &m->uid_mappings, &m->gid_mappings, &maps);
	if (p->userns_fd >= 0 && same_map(maps.uids, maps.nuids, p->maps.uids, p->maps.nuids) &&
	    same_map(maps.gids, maps.ngids, p->maps.gids, p->maps.ngids))
		return p->userns_fd;
	return userns_make(rt->proc_fd, &maps, NULL, 0, &fd, e) < 0 ? -1 : plan_keep(p, fd);
}

int plan_idmap(struct arena *a, struct plan *p, const struct runtime *rt, const struct oci_mount *m,
	       struct plan_mount *to, struct err *e)
{
	int ns = map_ns(a, p, rt, m, e), fd;

	if (ns < 0)
		return -1;
	if (to->fd < 0) {
		fd = mount_clone(AT_FDCWD, to->source, to->o.bind_tree, e);
		if (fd < 0)
			return -1;
		to->fd = plan_keep(p, fd);
	}
	return mount_idmap(to->fd, ns, to->o.idmap_tree, e);
}

static const char *offset_line(struct arena *a, const char *before, const char *clock, const struct oci_time_offset *t)
{
	return t ? arena_printf(a, "%s%s %lld %u\n", before, clock, (long long)t->secs, t->nanosecs) : before;
}

void plan_time(struct arena *a, struct plan *p, const struct oci_linux *l)
{
	const struct oci_time_offsets *t = l->time_offsets;

	p->staged |= p->new_time_ns;
	for (size_t i = 0; i < p->njoins; i++)
		p->staged |= p->joins[i].kind == CLONE_TIME;
	if (t)
		p->time_offsets = offset_line(a, offset_line(a, "", "monotonic", t->monotonic), "boottime", t->boottime);
}
