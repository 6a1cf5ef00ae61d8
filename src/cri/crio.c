/* What kubelet's cAdvisor asks CRI-O over HTTP, which is its one way to learn of a runtime that is not containerd:
 * whose a cgroup is (docs/inside/metrics.md). */
#include "cri/parts.h"

#include "base/clock.h"
#include "base/json.h"

enum { ANSWER_MAX = 4 << 20 };

/* No "overlay": cAdvisor would walk through ROOT/diff of each container every minute, which CRI tells it already. */
struct crio_info {
	char *storage_driver, *storage_root, *cgroup_driver;
};
#define F(type, name, kind, ...) { #name, kind, offsetof(struct type, name), ##__VA_ARGS__ }
static const struct json_field info_fields[] = {
	F(crio_info, storage_driver, JSON_STR),
	F(crio_info, storage_root, JSON_STR),
	F(crio_info, cgroup_driver, JSON_STR),
	{ 0 },
};

struct crio_container {
	char *name, *image, *ip_address;
	int64_t pid, created_time;
	struct json_map labels, annotations;
	char **ip_addresses;
};
static const struct json_field container_fields[] = {
	F(crio_container, name, JSON_STR, JSON_KEEP_ZERO),
	F(crio_container, pid, JSON_I64, JSON_KEEP_ZERO),
	F(crio_container, image, JSON_STR),
	F(crio_container, created_time, JSON_I64),
	F(crio_container, labels, JSON_MAP, JSON_KEEP_ZERO),
	F(crio_container, annotations, JSON_MAP, JSON_KEEP_ZERO),
	F(crio_container, ip_address, JSON_STR),
	F(crio_container, ip_addresses, JSON_STRV),
	{ 0 },
};
#undef F

static struct json_map map_and(struct arena *a, const struct json_map *map, const char *key, const char *value)
{
	struct json_map out = { arena_newn0(a, struct json_pair, map->count + 1), 0 };

	for (size_t i = 0; i < map->count; i++)
		if (!streq(map->p[i].key, key))
			out.p[out.count++] = map->p[i];
	out.p[out.count++] = (struct json_pair){ (char *)key, (char *)value };
	return out;
}

/* cAdvisor counts the network only where the container's name is POD, and of the namespace that the process is in. */
static void describe_pod(struct arena *a, const struct pod_view *v, struct crio_container *out)
{
	out->name = (char *)v->id;
	out->pid = v->monitor_pid;
	out->created_time = v->created_wall_ns;
	out->labels = map_and(a, &v->config->labels, "io.kubernetes.container.name", "POD");
	out->annotations = v->config->annotations;
	out->ip_addresses = strv_dup(a, v->ips);
	out->ip_address = v->ips ? v->ips[0] : NULL;
}

static void describe_container(const struct container_view *v, struct crio_container *out)
{
	const struct container_config *k = v->config;

	out->name = (char *)v->id;
	out->pid = v->pid;
	out->image = str_is_empty(k->image_user_specified) ? k->image : k->image_user_specified;
	out->created_time = v->created_wall_ns;
	out->labels = k->labels;
	out->annotations = k->annotations;
}

static int container_answer(const struct cri *cri, struct arena *a, const char *id, struct buf *json, struct err *e)
{
	struct crio_container out = { 0 };
	auto_container_views containers = { 0 };
	auto_pod_views pods = { 0 };

	if (pods_find_any(cri->pods, a, id, &pods, &containers, e) < 0)
		return -1;
	if (pods.n)
		describe_pod(a, &pods.v[0], &out);
	else
		describe_container(&containers.v[0], &out);
	return json_write(json, container_fields, &out, e);
}

int crio_answer(const struct cri *cri, struct arena *a, struct str path, struct buf *json, struct err *e)
{
	static const char containers[] = "/containers/";
	const struct crio_info info = { (char *)"knarr", (char *)cri->root, (char *)(cri->systemd ? "systemd" : "cgroupfs") };

	*json = BUF(ANSWER_MAX);
	if (str_eqz(path, "/info"))
		return json_write(json, info_fields, &info, e);
	if (!str_starts(path, containers))
		return err_set(e, ERR_NOT_FOUND, "there is no %.*s", STR_ARG(path));
	path.p += sizeof(containers) - 1;
	path.len -= sizeof(containers) - 1;
	if (container_answer(cri, a, str_dup(a, path), json, e) < 0) {
		buf_free(json);
		return -1;
	}
	return 0;
}
