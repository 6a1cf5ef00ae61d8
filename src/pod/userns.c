/* A pod's user namespace: knarr-pod holds it, and what the pod's containers are given by knarrd must be theirs in it. */
#include "pod/model.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static struct idmap *idmap_of(struct arena *a, const struct json_vec *maps)
{
	const struct config_id_map *in = maps->p;
	struct idmap *out = arena_newn0(a, struct idmap, maps->count + 1);

	for (size_t i = 0; i < maps->count; i++)
		out[i] = (struct idmap){ in[i].container_id, in[i].host_id, in[i].length };
	return out;
}

bool pod_idmaps(struct arena *a, const struct pod *p, struct idmaps *out)
{
	const struct config_userns *u = config_userns(&p->config->namespaces);

	if (!u)
		return false;
	*out = (struct idmaps){ idmap_of(a, &u->uids), idmap_of(a, &u->gids), u->uids.count, u->gids.count };
	return true;
}

int pod_give_to_root(const struct pod *p, int fd, struct err *e)
{
	auto_arena a = { 0 };
	struct idmaps maps;
	uint32_t uid, gid;

	if (!pod_idmaps(&a, p, &maps))
		return 0;
	if (!idmap_outside(maps.uids, maps.nuids, 0, &uid) || !idmap_outside(maps.gids, maps.ngids, 0, &gid))
		return err_set(e, ERR_INVALID, "pod %s: the user namespace has no root", p->id);
	return fchownat(fd, "", uid, gid, AT_EMPTY_PATH) < 0 ? err_sys(e, errno, "give a file of pod %s to its root", p->id) : 0;
}

int pod_userns_open(const struct pod *p, int *out, struct err *e)
{
	auto_arena a = { 0 };
	auto_fd int fd = -1;
	uint64_t ticks;

	*out = -1;
	if (!config_userns(&p->config->namespaces))
		return 0;
	fd = fd_open(AT_FDCWD, arena_printf(&a, "/proc/%d/fd/%d", (int)p->monitor.pid, MONITOR_USERNS_FD), O_RDONLY, e);
	if (fd < 0)
		return err_in(e, "user namespace of pod %s", p->id);
	/* Looked at after it is opened: it was knarr-pod's, not that of one with the same pid. */
	if (proc_start_time(p->monitor.pid, &ticks, e) < 0 || ticks != p->monitor.start_ticks)
		return err_set(e, ERR_UNAVAILABLE, "user namespace of pod %s: its knarr-pod has ended", p->id);
	*out = fd_take(&fd);
	return 0;
}
