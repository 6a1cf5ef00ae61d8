/* What is done to a container that is there: its resources, its log, commands in it. */
#include "pod/model.h"

#include "base/log.h"
#include "runtime/resources.h"

#include <fcntl.h>
#include <unistd.h>

enum { CONFIG_MAX = 16 << 20, LOG_MODE = 0640 };

struct container *container_running(struct pods *ps, enum pod_owner owner, const char *id, struct err *e)
{
	auto_container *k = container_get(ps, owner, id, e);
	struct container *out = k;

	if (!k)
		return NULL;
	LOCKED(&ps->lock);
	if (k->state != CONTAINER_RUNNING)
		return err_set(e, ERR_STATE, "container %s is %s, not running", k->id,
			       container_state_name[k->state]), NULL;
	k = NULL;
	return out;
}

int container_reopen_log(struct pods *ps, struct call *c, enum pod_owner owner, const char *id, struct err *e)
{
	auto_container *k = container_running(ps, owner, id, e);
	auto_fd int fd = -1;

	if (!k)
		return -1;
	if (!k->log_path)
		return err_set(e, ERR_STATE, "container %s has no log", k->id);
	fd = fd_create(AT_FDCWD, k->log_path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, LOG_MODE, e);
	if (fd < 0)
		return -1;
	return monitor_container_reopen_log(c, k->pod->run_dirfd, k->id, fd, e);
}

int container_exec_sync(struct pods *ps, struct call *c, enum pod_owner owner, const char *id,
			char *const *argv, int64_t timeout_ns, struct exec_result *out, struct err *e)
{
	const struct monitor_exec_request r = { .container_id = NULL, .argv = argv,
						.timeout_ns = timeout_ns > 0 ? timeout_ns : 0,
						.output_max_bytes = EXEC_OUTPUT_MAX_BYTES };
	auto_container *k = NULL;
	struct monitor_exec_request mine = r;
	struct monitor_exec_result x;

	if (!argv || !argv[0])
		return err_set(e, ERR_INVALID, "no command to execute");
	k = container_running(ps, owner, id, e);
	if (!k)
		return -1;
	mine.container_id = k->id;
	if (monitor_exec_sync(c, k->pod->run_dirfd, &mine, &x, e) < 0)
		return err_in(e, "exec in container %s", k->id);
	if (x.timed_out)
		return err_set(e, ERR_TIMEOUT, "%s ran in container %s for longer than %lld ms and was killed",
			       argv[0], k->id, (long long)(timeout_ns / NS_PER_MS));
	*out = (struct exec_result){ x.exit_code, x.out, x.err };
	return 0;
}

/* --- update --------------------------------------------------------------------------------------------------- */

static int begin_update(struct container *k, struct call *c, bool *runs, struct err *e)
{
	LOCKED(&k->all->lock);

	while (k->busy || k->state == CONTAINER_STARTING)
		if (cond_wait(c, &k->changed, &k->all->lock, e) < 0)
			return -1;
	if (k->state != CONTAINER_CREATED && k->state != CONTAINER_RUNNING)
		return err_set(e, ERR_STATE, "container %s is %s: its resources cannot change", k->id,
			       container_state_name[k->state]);
	*runs = k->state == CONTAINER_RUNNING;
	k->busy = true;
	return 0;
}

static void end_update(struct container *k)
{
	LOCKED(&k->all->lock);

	k->busy = false;
	cond_broadcast(&k->changed);
}

/* Puts what is wished over what config.json says; what the wish is silent about stays. */
static void merge_oci(struct oci_resources *to, const struct oci_resources *from)
{
#define TAKE(part, member) if (from->part->member) to->part->member = from->part->member
	if (from->memory && !to->memory)
		to->memory = from->memory;
	if (from->memory) {
		TAKE(memory, limit);
		TAKE(memory, swap);
		TAKE(memory, reservation);
		TAKE(memory, kernel);
		TAKE(memory, kernel_tcp);
		TAKE(memory, swappiness);
		TAKE(memory, disable_oom_killer);
	}
	if (from->cpu && !to->cpu)
		to->cpu = from->cpu;
	if (from->cpu) {
		TAKE(cpu, shares);
		TAKE(cpu, quota);
		TAKE(cpu, period);
		TAKE(cpu, cpus);
		TAKE(cpu, mems);
		TAKE(cpu, realtime_runtime);
		TAKE(cpu, realtime_period);
	}
#undef TAKE
	if (from->pids)
		to->pids = from->pids;
	if (from->unified.count)
		to->unified = from->unified;
	if (from->hugepage_limits.count)
		to->hugepage_limits = from->hugepage_limits;
}

static int rewrite_config(struct container *k, struct arena *a, const struct oci_resources *r, int64_t oom_score,
			  struct err *e)
{
	auto_buf b = BUF(CONFIG_MAX);
	auto_fd int dir = fd_open(AT_FDCWD, container_path(a, k, ""), O_PATH | O_DIRECTORY, e);
	struct oci_config config = { 0 };
	struct str text;

	if (dir < 0 || fs_read_file(a, dir, "config.json", CONFIG_MAX, &text, e) < 0 ||
	    oci_config_read(a, text, &config, e) < 0)
		return -1;
	if (!config.on_linux)
		return err_set(e, ERR_DATA_LOSS, "config.json of container %s has no linux part", k->id);
	if (!config.on_linux->resources)
		config.on_linux->resources = arena_new0(a, struct oci_resources);
	merge_oci(config.on_linux->resources, r);
	if (oom_score && config.process) {
		config.process->oom_score_adj = arena_new0(a, int32_t);
		*config.process->oom_score_adj = (int32_t)oom_score;
	}
	if (oci_config_write(&b, &config, e) < 0)
		return -1;
	return fs_replace(dir, "config.json", b.p, b.len, 0600, 0, e);
}

static void take_change(struct container *k, const struct config_resources *merged,
			const struct json_map *annotations)
{
	LOCKED(&k->all->lock);
	struct config_resources *copy = arena_new0(&k->arena, struct config_resources);

	json_copy(&k->arena, config_resources_fields, merged, copy);
	k->config->resources = copy;
	for (size_t i = 0; annotations && i < annotations->count; i++)
		log_debug("annotation of an update container=%s key=%s", k->id, annotations->p[i].key);
	k->recording.wanted++;
}

static int update(struct container *k, struct arena *a, bool runs, const struct config_resources *change,
		  const struct json_map *annotations, struct err *e)
{
	struct config_resources merged = { 0 };
	struct oci_resources r = { 0 }, back = { 0 };
	struct err ignored;

	if (k->config->resources)
		merged = *k->config->resources;
	config_resources_merge(a, &merged, change);
	if (container_spec_resources(a, change, &k->all->facts, &r, e) < 0 || plugins_update(k, a, &r, e) < 0)
		return -1;
	if (runs && unit_update(k, &r, e) < 0)
		return -1;
	if (rewrite_config(k, a, &r, change->oom_score_adj, e) < 0) {
		/* All or nothing: what the kernel was told is taken back. */
		if (runs && k->config->resources &&
		    container_spec_resources(a, k->config->resources, &k->all->facts, &back, &ignored) == 0 &&
		    unit_update(k, &back, &ignored) < 0)
			log_warn("resources stay changed container=%s: %s", k->id, ignored.msg);
		return -1;
	}
	take_change(k, &merged, annotations);
	return container_save(k, e);
}

int container_update(struct pods *ps, struct call *c, enum pod_owner owner, const char *id,
		     const struct config_resources *change, const struct json_map *annotations, struct err *e)
{
	auto_container *k = container_get(ps, owner, id, e);
	bool runs;
	int rc;

	if (!k || begin_update(k, c, &runs, e) < 0)
		return -1;
	rc = update(k, &c->arena, runs, change, annotations, e);
	end_update(k);
	if (rc < 0)
		return err_in(e, "update container %s", k->id);
	plugins_container_told(k, CONTAINER_MOMENT_UPDATED);
	return 0;
}

int pods_update_by_plugin(struct pods *ps, struct call *c, const char *id, const struct oci_resources *r,
			  struct err *e)
{
	auto_container *k = NULL;
	bool runs;
	int rc = 0;

	lock_acquire(&ps->lock);
	k = map_get(&ps->containers, id);
	if (k && container_is_listed_locked(k))
		(void)container_ref(k);
	else
		k = NULL;
	lock_release(&ps->lock);
	if (!k)
		return err_set(e, ERR_NOT_FOUND, "there is no container %s", id);
	if (begin_update(k, c, &runs, e) < 0)
		return -1;
	if (runs)
		rc = unit_update(k, r, e);
	if (rc == 0)
		rc = rewrite_config(k, &c->arena, r, 0, e);
	end_update(k);
	return rc < 0 ? err_in(e, "update container %s", k->id) : 0;
}

/* --- the resources as they are ---------------------------------------------------------------------------------- */

static void show_resources(struct arena *a, const struct oci_resources *r, struct config_resources *out)
{
	const struct oci_hugepage_limit *h = r->hugepage_limits.p;
	struct config_hugepage *pages = arena_newn0(a, struct config_hugepage, r->hugepage_limits.count + 1);

	if (r->cpu) {
		out->cpu_shares = r->cpu->shares ? (int64_t)*r->cpu->shares : out->cpu_shares;
		out->cpu_quota_us = r->cpu->quota ? *r->cpu->quota : out->cpu_quota_us;
		out->cpu_period_us = r->cpu->period ? (int64_t)*r->cpu->period : out->cpu_period_us;
		out->cpuset_cpus = r->cpu->cpus ? r->cpu->cpus : out->cpuset_cpus;
		out->cpuset_mems = r->cpu->mems ? r->cpu->mems : out->cpuset_mems;
	}
	if (r->memory) {
		out->memory_bytes = r->memory->limit ? *r->memory->limit : out->memory_bytes;
		out->memory_swap_bytes = r->memory->swap ? *r->memory->swap : out->memory_swap_bytes;
	}
	if (r->unified.count)
		out->unified = r->unified;
	for (size_t i = 0; i < r->hugepage_limits.count; i++)
		pages[i] = (struct config_hugepage){ h[i].page_size, h[i].limit };
	if (r->hugepage_limits.count)
		out->hugepages = (struct json_vec){ pages, r->hugepage_limits.count };
}

int container_config_json(struct pods *ps, struct arena *a, enum pod_owner owner, const char *id, struct str *out,
			  struct err *e)
{
	auto_container *k = container_get(ps, owner, id, e);

	return k ? fs_read_file(a, AT_FDCWD, container_path(a, k, "config.json"), CONFIG_MAX, out, e) : -1;
}

int container_resources(struct pods *ps, struct arena *a, enum pod_owner owner, const char *id,
			struct config_resources *out, struct err *e)
{
	auto_container *k = container_get(ps, owner, id, e);
	struct oci_resources r = { 0 };
	struct err ignored;
	bool runs;

	if (!k)
		return -1;
	*out = (struct config_resources){ 0 };
	lock_acquire(&ps->lock);
	if (k->config->resources)
		json_copy(a, config_resources_fields, k->config->resources, out);
	runs = k->state == CONTAINER_RUNNING;
	lock_release(&ps->lock);
	if (runs && resources_read(a, &ps->cgroups, k->cgroup_path, &r, &ignored) == 0)
		show_resources(a, &r, out);
	return 0;
}
