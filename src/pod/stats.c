/* What containers and pods use, read from the kernel's files when asked. */
#include "pod/model.h"

#include "image/image.h"

#include <stdlib.h>

static struct pressure pressure_of(double avg10, double avg60, double avg300, uint64_t total_us)
{
	return (struct pressure){ total_us * 1000, avg10, avg60, avg300 };
}

static int usage_of(struct pods *ps, const char *cgroup, struct cgroup_usage *u, struct err *e)
{
	struct cgroup_stats s = { 0 };

	if (cgroup_stats_of(&ps->cgroups, cgroup, ~(unsigned)CGROUP_HAS_IO, &s, e) < 0)
		return -1;
	*u = (struct cgroup_usage){
		.at_wall_ns = clock_wall_ns(), .has_cpu = s.has & CGROUP_HAS_CPU,
		.has_memory = s.has & CGROUP_HAS_MEMORY, .has_swap = s.has & CGROUP_HAS_MEMORY,
		.has_pids = s.has & CGROUP_HAS_PIDS, .has_psi = s.has & CGROUP_HAS_PRESSURE,
		.cpu_ns = s.cpu.usage_ns, .memory_bytes = s.memory.usage,
		.memory_working_set_bytes = s.memory.working_set, .memory_rss_bytes = s.memory.rss,
		.page_faults = s.memory.page_faults, .major_page_faults = s.memory.major_page_faults,
		.swap_bytes = s.memory.swap, .pids = s.pids.current,
	};
	if (s.memory.limit != UINT64_MAX && s.memory.limit > s.memory.working_set)
		u->memory_available_bytes = s.memory.limit - s.memory.working_set;
	if (s.memory.swap_limit != UINT64_MAX && s.memory.swap_limit > s.memory.swap)
		u->swap_available_bytes = s.memory.swap_limit - s.memory.swap;
#define SOME(p) pressure_of((p).some_avg10, (p).some_avg60, (p).some_avg300, (p).some_total_us)
#define FULL(p) pressure_of((p).full_avg10, (p).full_avg60, (p).full_avg300, (p).full_total_us)
	u->cpu_some = SOME(s.cpu_pressure);
	u->cpu_full = FULL(s.cpu_pressure);
	u->memory_some = SOME(s.memory_pressure);
	u->memory_full = FULL(s.memory_pressure);
	u->io_some = SOME(s.io_pressure);
	u->io_full = FULL(s.io_pressure);
#undef SOME
#undef FULL
	return 0;
}

/* The rate between this sample and the one before, at least 100 ms ago. */
static void sample_cpu(struct pods *ps, struct cpu_sample *last, struct cgroup_usage *u)
{
	LOCKED(&ps->lock);
	int64_t now = clock_mono_ns(), since = now - last->at_ns;

	if (last->at_ns && since >= 100 * NS_PER_MS && u->cpu_ns >= last->used_ns)
		last->nanocores = (uint64_t)((double)(u->cpu_ns - last->used_ns) * 1e9 / (double)since);
	if (!last->at_ns || since >= 100 * NS_PER_MS) {
		last->at_ns = now;
		last->used_ns = u->cpu_ns;
	}
	u->cpu_nanocores = last->nanocores;
}

static void fill(struct pods *ps, const char *mount_point, struct container_stats *s)
{
	struct container *k = s->view.object;
	struct err ignored;

	if (s->view.state == CONTAINER_RUNNING && k->cgroup_path &&
	    usage_of(ps, k->cgroup_path, &s->usage, &ignored) == 0)
		sample_cpu(ps, &k->cpu, &s->usage);
	if (!s->usage.at_wall_ns)
		s->usage.at_wall_ns = clock_wall_ns();
	if (snapshot_usage(ps->images, k->id, &s->layer_bytes, &s->layer_inodes, &ignored) == 0) {
		s->has_layer = true;
		s->layer_mount_point = mount_point;
	}
}

/* Of the file system that the containers write to. Looked up once for a whole list. */
static const char *layers_mount_point(struct pods *ps, struct arena *a)
{
	struct image_usage fs;
	struct err ignored;

	return image_usage_of(ps->images, a, &fs, &ignored) == 0 ? fs.mount_point : NULL;
}

static void fill_all(struct pods *ps, struct arena *a, const char *mount_point, const struct container_views *views,
		     struct container_stats_list *out)
{
	*out = (struct container_stats_list){ arena_newn0(a, struct container_stats, views->n + 1), views->n };
	for (size_t i = 0; i < views->n; i++) {
		out->v[i].view = views->v[i]; /* its reference too */
		fill(ps, mount_point, &out->v[i]);
	}
}

void container_stats_release(struct container_stats_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		container_unref(l->v[i].view.object);
	l->n = 0;
}

int container_stats_list(struct pods *ps, struct arena *a, enum pod_owner owner,
			 const struct container_filter *f, struct container_stats_list *out, struct err *e)
{
	const enum container_state running = CONTAINER_RUNNING;
	struct container_filter mine = f ? *f : (struct container_filter){ 0 };
	struct container_views views;

	mine.state = &running;
	if (container_list(ps, a, owner, &mine, &views, e) < 0)
		return -1;
	fill_all(ps, a, layers_mount_point(ps, a), &views, out);
	return 0;
}

int container_stats(struct pods *ps, struct arena *a, enum pod_owner owner, const char *id,
		    struct container_stats_list *out, struct err *e)
{
	struct container_views views;

	if (container_status(ps, a, owner, id, &views, e) < 0)
		return -1;
	fill_all(ps, a, layers_mount_point(ps, a), &views, out);
	return 0;
}

/* --- pods ----------------------------------------------------------------------------------------------------------- */

enum { NET_DEV_MAX = 1 << 20 };

/* One line of /proc/PID/net/dev: "eth0: rx_bytes packets errs … tx_bytes packets errs …". */
static bool parse_interface(struct arena *a, struct str line, struct pod_network_usage *out)
{
	struct str name = str_trim(str_cut(&line, ':'));
	uint64_t v[12];
	char *p, *end;

	if (!line.p || !name.len || str_eqz(name, "lo"))
		return false;
	p = str_dup(a, line);
	for (size_t i = 0; i < ARRAY_SIZE(v); i++, p = end) {
		v[i] = strtoull(p, &end, 10);
		if (end == p)
			return false;
	}
	*out = (struct pod_network_usage){
		.interface = str_dup(a, name), .rx_bytes = v[0], .rx_packets = v[1], .rx_errors = v[2], .rx_dropped = v[3],
		.tx_bytes = v[8], .tx_packets = v[9], .tx_errors = v[10], .tx_dropped = v[11],
	};
	return true;
}

/* knarr-pod is in the pod's network namespace. */
struct pod_network_usage *pod_network_of(struct arena *a, const struct pod_view *v, size_t *n)
{
	struct pod_network_usage *all;
	struct err ignored;
	struct str text;
	size_t lines = 0;

	*n = 0;
	if (!v->netns_path || !v->monitor_pid || v->state != POD_READY ||
	    fs_read_file(a, -1, arena_printf(a, "/proc/%d/net/dev", v->monitor_pid), NET_DEV_MAX, &text, &ignored) < 0)
		return NULL;
	for (size_t i = 0; i < text.len; i++)
		lines += text.p[i] == '\n';
	all = arena_newn0(a, struct pod_network_usage, lines + 1);
	while (text.p)
		*n += parse_interface(a, str_cut(&text, '\n'), &all[*n]);
	return all;
}

void pod_stats_release(struct pod_stats_list *l)
{
	for (size_t i = 0; i < l->n; i++) {
		container_stats_release(&l->v[i].containers);
		pod_unref(l->v[i].view.object);
	}
	l->n = 0;
}

/* A pod without a cgroup of its own uses what its containers use. */
static void add_up(struct pod_stats *s)
{
	struct cgroup_usage *to = &s->usage;

	for (size_t i = 0; i < s->containers.n; i++) {
		const struct cgroup_usage *u = &s->containers.v[i].usage;

		to->has_cpu |= u->has_cpu;
		to->has_memory |= u->has_memory;
		to->has_swap |= u->has_swap;
		to->has_pids |= u->has_pids;
		to->cpu_ns += u->cpu_ns;
		to->cpu_nanocores += u->cpu_nanocores;
		to->memory_bytes += u->memory_bytes;
		to->memory_working_set_bytes += u->memory_working_set_bytes;
		to->memory_rss_bytes += u->memory_rss_bytes;
		to->page_faults += u->page_faults;
		to->major_page_faults += u->major_page_faults;
		to->swap_bytes += u->swap_bytes;
		to->pids += u->pids;
	}
}

static void fill_pod(struct pods *ps, struct arena *a, const char *mount_point, struct pod_stats *s)
{
	struct container_views views;
	const char *path;
	struct err ignored;

	if (!str_is_empty(s->view.config->cgroup_parent) &&
	    pod_cgroup_parent(a, s->view.object, &path, &ignored) == 0 && cgroup_path_clean(a, path, &path, &ignored) == 0 &&
	    usage_of(ps, path, &s->usage, &ignored) == 0)
		sample_cpu(ps, &s->view.object->cpu, &s->usage);
	if (!s->usage.at_wall_ns)
		s->usage.at_wall_ns = clock_wall_ns();
	s->interfaces = pod_network_of(a, &s->view, &s->ninterfaces);
	pod_running_containers(a, s->view.object, &views);
	fill_all(ps, a, mount_point, &views, &s->containers);
	if (str_is_empty(s->view.config->cgroup_parent))
		add_up(s);
}

int pod_stats_list(struct pods *ps, struct arena *a, enum pod_owner owner, const struct pod_filter *f,
		   struct pod_stats_list *out, struct err *e)
{
	const char *mount_point;
	struct pod_views views;

	if (pod_list(ps, a, owner, f, &views, e) < 0)
		return -1;
	mount_point = layers_mount_point(ps, a);
	*out = (struct pod_stats_list){ arena_newn0(a, struct pod_stats, views.n + 1), views.n };
	for (size_t i = 0; i < views.n; i++) {
		out->v[i].view = views.v[i];
		fill_pod(ps, a, mount_point, &out->v[i]);
	}
	return 0;
}
