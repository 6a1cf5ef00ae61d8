#include "pod/metrics.h"

#include "image/image.h"
#include "pod/model.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { MOUNTINFO_MAX = 64 << 20, DISK_NAMES_MAX = 64, PAGE_SIZES_MAX = 8,
       FDS_MAX = 100000 }; /* of a container: more are not looked at */

/* What one listing knows once for all containers. */
struct look {
	struct pods *ps;
	struct arena *a;
	bool has_fs;
	const char *fs_device;
	struct statvfs fs;
	struct disk_name {
		unsigned major, minor;
		const char *name;
	} disk_names[DISK_NAMES_MAX];
	size_t ndisk_names;
	const char *page_sizes[PAGE_SIZES_MAX];
	size_t npage_sizes;
};

/* --- once --------------------------------------------------------------------------------------------------- */

/* Whether the node has pages of this size, or may get some. */
static bool has_pages(struct look *l, const char *folder)
{
	static const char *const files[] = { "nr_hugepages", "nr_overcommit_hugepages" };
	struct str text;
	struct err ignored;

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		if (fs_read_file(l->a, AT_FDCWD, arena_printf(l->a, "/sys/kernel/mm/hugepages/%s/%s", folder, files[i]), 100,
				 &text, &ignored) == 0 && !str_eqz(str_trim(text), "0"))
			return true;
	}
	return false;
}

/* "/sys/kernel/mm/hugepages/hugepages-2048kB" is cgroup's "2MB". */
static void look_page_sizes(struct look *l)
{
	DIR *dir = opendir("/sys/kernel/mm/hugepages");
	struct dirent *d;
	unsigned long kb;

	while (dir && l->npage_sizes < PAGE_SIZES_MAX && (d = readdir(dir))) {
		if (!starts_with(d->d_name, "hugepages-") || !has_pages(l, d->d_name))
			continue;
		kb = strtoul(d->d_name + strlen("hugepages-"), NULL, 10);
		l->page_sizes[l->npage_sizes++] = kb >= 1 << 20 ? arena_printf(l->a, "%luGB", kb >> 20) :
						  kb >= 1 << 10 ? arena_printf(l->a, "%luMB", kb >> 10) :
								  arena_printf(l->a, "%luKB", kb);
	}
	if (dir)
		(void)closedir(dir);
}

/* The source of the newest mount at this point: "/dev/sda1". */
static const char *mount_source(struct arena *a, const char *point)
{
	const char *source = NULL;
	struct str text, line, rest;
	struct err ignored;

	if (fs_read_file(a, AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_MAX, &text, &ignored) < 0)
		return NULL;
	while (text.p) {
		line = rest = str_cut(&text, '\n');
		for (int i = 0; i < 4; i++)
			(void)str_cut(&rest, ' ');
		if (!rest.p || !str_eqz(str_cut(&rest, ' '), point) || !(rest.p = memmem(line.p, line.len, " - ", 3)))
			continue;
		rest = (struct str){ rest.p + 3, line.len - (size_t)(rest.p + 3 - line.p) };
		(void)str_cut(&rest, ' ');
		source = str_dup(a, str_cut(&rest, ' '));
	}
	return source;
}

static void look_fs(struct look *l)
{
	struct image_usage usage;
	struct err ignored;

	if (image_usage_of(l->ps->images, l->a, &usage, &ignored) < 0 || statvfs(usage.mount_point, &l->fs) < 0)
		return;
	l->fs_device = mount_source(l->a, usage.mount_point);
	l->has_fs = l->fs_device != NULL;
}

/* /sys/dev/block/8:0 is a link to …/block/sda. */
static const char *disk_name(struct look *l, unsigned major, unsigned minor)
{
	const char *name;
	char target[512];
	ssize_t n;

	for (size_t i = 0; i < l->ndisk_names; i++)
		if (l->disk_names[i].major == major && l->disk_names[i].minor == minor)
			return l->disk_names[i].name;
	n = readlink(arena_printf(l->a, "/sys/dev/block/%u:%u", major, minor), target, sizeof(target) - 1);
	target[n > 0 ? n : 0] = '\0';
	name = n > 0 ? arena_printf(l->a, "/dev/%s", path_base(target)) : arena_printf(l->a, "%u:%u", major, minor);
	if (l->ndisk_names < DISK_NAMES_MAX)
		l->disk_names[l->ndisk_names++] = (struct disk_name){ major, minor, name };
	return name;
}

/* --- a cgroup ----------------------------------------------------------------------------------------------- */

static void take_cpu(const struct cgroup_stats *s, unsigned *has, struct metrics_values *v)
{
	*has |= (s->has & CGROUP_HAS_CPU ? METRICS_CPU : 0) | (s->has & CGROUP_HAS_THROTTLING ? METRICS_THROTTLING : 0);
	v->cpu_ns = s->cpu.usage_ns;
	v->cpu_user_ns = s->cpu.user_ns;
	v->cpu_system_ns = s->cpu.system_ns;
	v->periods = s->cpu.periods;
	v->throttled_periods = s->cpu.throttled_periods;
	v->throttled_ns = s->cpu.throttled_ns;
	v->burst_periods = s->cpu.burst_periods;
	v->burst_ns = s->cpu.burst_ns;
}

static void take_memory(const struct cgroup_stats *s, unsigned *has, struct metrics_values *v)
{
	*has |= s->has & CGROUP_HAS_MEMORY ? METRICS_MEMORY : 0;
	v->memory = s->memory.usage;
	v->memory_max = s->memory.max_usage;
	v->working_set = s->memory.working_set;
	v->rss = s->memory.rss;
	v->cache = s->memory.cache;
	v->mapped_file = s->memory.mapped_file;
	v->swap = s->memory.swap;
	v->kernel = s->memory.kernel;
	v->active_file = s->memory.active_file;
	v->inactive_file = s->memory.inactive_file;
	v->failures = s->memory.failures;
	v->oom_kills = s->memory.oom_kills;
	v->page_faults = s->memory.page_faults;
	v->major_page_faults = s->memory.major_page_faults;
	v->own_page_faults = s->memory.own_page_faults;
	v->own_major_page_faults = s->memory.own_major_page_faults;
}

static void take_rest(const struct cgroup_stats *s, unsigned *has, struct metrics_values *v)
{
	*has |= (s->has & CGROUP_HAS_PIDS ? METRICS_PIDS : 0) | (s->has & CGROUP_HAS_PRESSURE ? METRICS_PRESSURE : 0);
	v->threads = s->pids.current;
	v->threads_max = s->pids.limit == UINT64_MAX ? 0 : s->pids.limit;
	v->cpu_waiting_us = s->cpu_pressure.some_total_us;
	v->cpu_stalled_us = s->cpu_pressure.full_total_us;
	v->memory_waiting_us = s->memory_pressure.some_total_us;
	v->memory_stalled_us = s->memory_pressure.full_total_us;
	v->io_waiting_us = s->io_pressure.some_total_us;
	v->io_stalled_us = s->io_pressure.full_total_us;
}

/* Of a pod no more than what its containers do not add up to. */
enum { POD_WANT = CGROUP_HAS_CPU | CGROUP_HAS_MEMORY | CGROUP_HAS_PRESSURE,
       CONTAINER_WANT = POD_WANT | CGROUP_HAS_PIDS | CGROUP_HAS_IO };

static bool take_cgroup(struct look *l, const char *cgroup, unsigned want, struct cgroup_stats *s, unsigned *has,
			struct metrics_values *v)
{
	struct err ignored;

	if (cgroup_stats_of(&l->ps->cgroups, cgroup, want, s, &ignored) < 0)
		return false;
	take_cpu(s, has, v);
	take_memory(s, has, v);
	take_rest(s, has, v);
	return true;
}

static void take_disks(struct look *l, const struct cgroup_stats *s, struct container_metrics *m)
{
	m->disks = arena_newn0(l->a, struct metrics_disk, s->io.ndevices + 1);
	for (; m->ndisks < s->io.ndevices; m->ndisks++) {
		const struct cgroup_io_device *d = &s->io.devices[m->ndisks];

		m->disks[m->ndisks] = (struct metrics_disk){
			disk_name(l, d->major, d->minor), d->major, d->minor,
			d->read_bytes, d->write_bytes, d->reads, d->writes,
		};
	}
}

static void take_hugepages(struct look *l, const char *cgroup, struct container_metrics *m)
{
	struct cgroup_hugepages h;
	struct err ignored;

	m->hugepages = arena_newn0(l->a, struct metrics_hugepages, l->npage_sizes + 1);
	for (size_t i = 0; i < l->npage_sizes; i++) {
		if (cgroup_hugepages(&l->ps->cgroups, cgroup, l->page_sizes[i], &h, &ignored) == 0)
			m->hugepages[m->nhugepages++] = (struct metrics_hugepages){ l->page_sizes[i], h.usage,
										    h.max_usage, h.has_max };
	}
}

/* --- processes ---------------------------------------------------------------------------------------------- */

static void count_fds(pid_t pid, struct metrics_values *v)
{
	char path[64], target[16];
	struct dirent *d;
	DIR *dir;

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	while (dir && v->fds < FDS_MAX && (d = readdir(dir))) {
		if (d->d_name[0] == '.')
			continue;
		v->fds++;
		if (readlinkat(dirfd(dir), d->d_name, target, sizeof(target)) > 7 && memcmp(target, "socket:", 7) == 0)
			v->sockets++;
	}
	if (dir)
		(void)closedir(dir);
}

static void take_processes(struct look *l, const char *cgroup, struct container_metrics *m)
{
	struct rlimit files;
	struct err ignored;
	pid_t *pids;
	size_t n;

	if (cgroup_pids(l->a, &l->ps->cgroups, cgroup, &pids, &n, &ignored) < 0)
		return;
	m->has |= METRICS_PROCESSES;
	m->values.processes = n;
	for (size_t i = 0; i < n; i++)
		count_fds(pids[i], &m->values);
	if (m->view.pid > 0 && prlimit(m->view.pid, RLIMIT_NOFILE, NULL, &files) == 0 && files.rlim_cur != RLIM_INFINITY) {
		m->has |= METRICS_FILE_LIMIT;
		m->values.file_limit = files.rlim_cur;
	}
}

/* --- a container -------------------------------------------------------------------------------------------- */

static void take_fs(struct look *l, struct container_metrics *m)
{
	struct metrics_values *v = &m->values;
	struct err ignored;
	uint64_t inodes;

	if (!l->has_fs || snapshot_usage(l->ps->images, m->view.id, &v->fs_usage, &inodes, &ignored) < 0)
		return;
	m->has |= METRICS_FS;
	m->fs_device = l->fs_device;
	v->fs_limit = (uint64_t)l->fs.f_blocks * l->fs.f_frsize;
	v->fs_inodes = l->fs.f_files;
	v->fs_inodes_free = l->fs.f_ffree;
}

static uint64_t positive(int64_t n, uint64_t otherwise)
{
	return n > 0 ? (uint64_t)n : otherwise;
}

/* What was wished, with the kernel's defaults for what was not. */
static void take_spec(struct container_metrics *m)
{
	static const struct config_resources none;
	const struct config_resources *r = m->view.config->resources ? m->view.config->resources : &none;
	const char *low = json_map_get(&r->unified, "memory.low");
	struct metrics_values *v = &m->values;
	struct err ignored;

	m->has |= METRICS_SPEC | (r->cpu_quota_us > 0 ? METRICS_QUOTA : 0);
	v->cpu_period_us = positive(r->cpu_period_us, 100000);
	v->cpu_quota_us = positive(r->cpu_quota_us, 0);
	v->cpu_shares = positive(r->cpu_shares, 1024);
	v->memory_limit = positive(r->memory_bytes, 0);
	v->swap_limit = positive(r->memory_swap_bytes, 0);
	if (low && str_to_u64(str_of(low), &v->memory_reservation, &ignored) < 0)
		v->memory_reservation = 0; /* "max" */
}

static void fill_container(struct look *l, struct container_metrics *m)
{
	const char *cgroup = m->view.object->cgroup_path;
	struct cgroup_stats s;

	m->cgroup = cgroup ? arena_printf(l->a, "/%s", cgroup) : "";
	if (!cgroup || !take_cgroup(l, cgroup, CONTAINER_WANT, &s, &m->has, &m->values))
		return; /* it has just ended */
	m->has |= METRICS_ALIVE;
	m->values.last_seen_ns = (uint64_t)clock_wall_ns();
	m->values.start_ns = (uint64_t)m->view.started_wall_ns;
	take_disks(l, &s, m);
	take_hugepages(l, cgroup, m);
	take_processes(l, cgroup, m);
	take_fs(l, m);
	take_spec(m);
}

/* --- pods --------------------------------------------------------------------------------------------------- */

static void fill_pod(struct look *l, struct pod_metrics *m)
{
	struct container_views views;
	struct cgroup_stats s;
	struct err ignored;
	const char *path;

	m->cgroup = "";
	m->interfaces = pod_network_of(l->a, &m->view, &m->ninterfaces);
	if (!str_is_empty(m->view.config->cgroup_parent) &&
	    pod_cgroup_parent(l->a, m->view.object, &path, &ignored) == 0 &&
	    cgroup_path_clean(l->a, path, &path, &ignored) == 0) {
		m->cgroup = arena_printf(l->a, "/%s", path);
		(void)take_cgroup(l, path, POD_WANT, &s, &m->has, &m->values);
	}
	pod_running_containers(l->a, m->view.object, &views);
	m->containers = arena_newn0(l->a, struct container_metrics, views.n + 1);
	for (; m->ncontainers < views.n; m->ncontainers++) {
		m->containers[m->ncontainers].view = views.v[m->ncontainers]; /* its reference too */
		fill_container(l, &m->containers[m->ncontainers]);
	}
}

void pod_metrics_release(struct pod_metrics_list *l)
{
	for (size_t i = 0; i < l->n; i++) {
		for (size_t k = 0; k < l->v[i].ncontainers; k++)
			container_unref(l->v[i].containers[k].view.object);
		pod_unref(l->v[i].view.object);
	}
	l->n = 0;
}

int pod_metrics_list(struct pods *ps, struct arena *a, enum pod_owner owner, struct pod_metrics_list *out,
		     struct err *e)
{
	const struct pod_filter f = { .ready = (const bool[]){ true } };
	struct look *l = arena_new0(a, struct look);
	struct pod_views views;

	l->ps = ps;
	l->a = a;
	look_page_sizes(l);
	look_fs(l);
	if (pod_list(ps, a, owner, &f, &views, e) < 0)
		return -1;
	*out = (struct pod_metrics_list){ arena_newn0(a, struct pod_metrics, views.n + 1), views.n };
	for (size_t i = 0; i < views.n; i++) {
		out->v[i].view = views.v[i]; /* its reference too */
		fill_pod(l, &out->v[i]);
	}
	return 0;
}
