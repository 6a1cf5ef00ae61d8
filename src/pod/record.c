/* What the catalog keeps of pods and containers (docs/formats/catalog.md). */
#include "pod/model.h"

enum { RECORD_VERSION = 1, RECORD_MAX = 32 << 20 };

/* The states as they are written: names, so that a record can be read by a person and survives a new
 * order of the enum. */
static const char *const pod_state_word[POD_STATE_COUNT] = {
	[POD_CREATING] = "creating", [POD_READY] = "ready", [POD_STOPPING] = "stopping",
	[POD_STOPPED] = "stopped", [POD_REMOVING] = "removing",
};
static const char *const container_state_word[CONTAINER_STATE_COUNT] = {
	[CONTAINER_CREATING] = "creating", [CONTAINER_CREATED] = "created",
	[CONTAINER_STARTING] = "starting", [CONTAINER_RUNNING] = "running",
	[CONTAINER_EXITED] = "exited", [CONTAINER_UNKNOWN] = "unknown", [CONTAINER_REMOVING] = "removing",
};
static const char *const owner_word[POD_OWNER_COUNT] = {
#define X(name, text) text,
	POD_OWNERS(X)
#undef X
};

struct pod_record {
	uint32_t version;
	char *owner, *state, *handler, *runtime, *runtime_root, *netns_path, *reason;
	bool uncollected, network_added, settled;
	int64_t created_wall_ns;
	char **ips;
	int32_t monitor_pid, init_pid;
	uint64_t monitor_start_ticks;
	uint32_t monitor_protocol;
	struct pod_config *config;
};

#define F(type, member, kind) { #member, kind, offsetof(struct type, member), JSON_OPTIONAL, NULL, 0 }
#define REQUIRED(type, member, kind) { #member, kind, offsetof(struct type, member), JSON_REQUIRED, NULL, 0 }
#define OBJ(type, member, fields, sub) \
	{ #member, JSON_OBJ, offsetof(struct type, member), JSON_REQUIRED, fields, sizeof(struct sub) }
#define END { NULL, JSON_END, 0, 0, NULL, 0 }

static const struct json_field pod_record_fields[] = {
	REQUIRED(pod_record, version, JSON_U32),
	REQUIRED(pod_record, owner, JSON_STR),
	REQUIRED(pod_record, state, JSON_STR),
	F(pod_record, uncollected, JSON_BOOL),
	F(pod_record, handler, JSON_STR),
	F(pod_record, runtime, JSON_STR),
	F(pod_record, runtime_root, JSON_STR),
	F(pod_record, netns_path, JSON_STR),
	F(pod_record, reason, JSON_STR),
	F(pod_record, network_added, JSON_BOOL),
	F(pod_record, settled, JSON_BOOL),
	F(pod_record, created_wall_ns, JSON_I64),
	F(pod_record, ips, JSON_STRV),
	F(pod_record, monitor_pid, JSON_I32),
	F(pod_record, init_pid, JSON_I32),
	F(pod_record, monitor_start_ticks, JSON_U64),
	F(pod_record, monitor_protocol, JSON_U32),
	OBJ(pod_record, config, pod_config_fields, pod_config),
	END,
};

static const struct json_field bind_fields[] = {
	F(container_bind, mount, JSON_U32),
	F(container_bind, source, JSON_STR),
	F(container_bind, image, JSON_STR),
	F(container_bind, sub_path, JSON_STR),
	F(container_bind, recursive, JSON_BOOL),
	END,
};

struct container_record {
	uint32_t version;
	char *state, *image_id, *log_path, *cgroup_path, *reason, *message;
	bool uncollected, oom_killed;
	int64_t created_wall_ns, started_wall_ns, finished_wall_ns;
	int32_t exit_code, pid, stop_signal;
	uint64_t start_ticks;
	int64_t uid, gid;
	struct json_vec groups, binds;
	struct container_config *config;
};

static const struct json_field container_record_fields[] = {
	REQUIRED(container_record, version, JSON_U32),
	REQUIRED(container_record, state, JSON_STR),
	F(container_record, uncollected, JSON_BOOL),
	F(container_record, image_id, JSON_STR),
	F(container_record, log_path, JSON_STR),
	F(container_record, cgroup_path, JSON_STR),
	F(container_record, created_wall_ns, JSON_I64),
	F(container_record, started_wall_ns, JSON_I64),
	F(container_record, finished_wall_ns, JSON_I64),
	F(container_record, exit_code, JSON_I32),
	F(container_record, oom_killed, JSON_BOOL),
	F(container_record, reason, JSON_STR),
	F(container_record, message, JSON_STR),
	F(container_record, pid, JSON_I32),
	F(container_record, start_ticks, JSON_U64),
	F(container_record, stop_signal, JSON_I32),
	F(container_record, uid, JSON_I64),
	F(container_record, gid, JSON_I64),
	F(container_record, groups, JSON_I64V),
	{ "binds", JSON_OBJV, offsetof(struct container_record, binds), JSON_OPTIONAL, bind_fields,
	  sizeof(struct container_bind) },
	OBJ(container_record, config, container_config_fields, container_config),
	END,
};

static int word_index(const char *const *words, int count, const char *word, const char *what, struct err *e)
{
	for (int i = 0; i < count; i++)
		if (streq(words[i], word))
			return i;
	return err_set(e, ERR_DATA_LOSS, "unknown %s \"%s\"", what, word);
}

static int check_version(uint32_t version, struct err *e)
{
	if (version == RECORD_VERSION)
		return 0;
	return err_set(e, ERR_DATA_LOSS, "record of version %u, this knarrd knows %d", version, RECORD_VERSION);
}

/* --- names ------------------------------------------------------------------------------------------ */

const char *pod_key(struct arena *a, enum pod_owner owner, const struct pod_config *config)
{
	return arena_printf(a, "%s/%s/%s/%s/%u", owner_word[owner], config->uid ? config->uid : "",
			    config->namespace_ ? config->namespace_ : "", config->name ? config->name : "",
			    config->attempt);
}

const char *container_key(struct arena *a, const char *pod_id, const struct container_config *config)
{
	return arena_printf(a, "%s/%s/%u", pod_id, config->name ? config->name : "", config->attempt);
}

/* --- writing ---------------------------------------------------------------------------------------- */

/* Becomes the one writer, and says which version it writes; false: that is written already. */
static bool recording_begin_locked(struct recording *r, struct cond *changed, struct lock *lock,
				   uint64_t *version)
{
	uint64_t mine = r->wanted;
	struct err e;

	while (r->busy && r->written < mine)
		(void)cond_wait(NULL, changed, lock, &e);
	if (r->written >= mine && mine)
		return false;
	r->busy = true;
	*version = r->wanted;
	return true;
}

static void recording_end_locked(struct recording *r, struct cond *changed, uint64_t version, bool ok)
{
	r->busy = false;
	if (ok)
		r->written = version;
	cond_broadcast(changed);
}

static int pod_write_locked(struct pod *p, struct buf *b, struct err *e)
{
	const struct pod_record r = {
		.version = RECORD_VERSION, .owner = (char *)owner_word[p->owner],
		.state = (char *)pod_state_word[p->state],
		.uncollected = p->making.active && !p->making.promised && !p->making.collected, .handler = (char *)p->handler,
		.runtime = (char *)p->runtime, .runtime_root = (char *)p->runtime_root,
		.netns_path = (char *)p->netns_path, .reason = *p->reason ? (char *)p->reason : NULL,
		.network_added = p->network_added, .settled = p->settled,
		.created_wall_ns = p->created_wall_ns, .ips = (char **)p->ips, .monitor_pid = p->monitor.pid,
		.init_pid = p->init_pid, .monitor_start_ticks = p->monitor.start_ticks,
		.monitor_protocol = p->monitor.protocol, .config = p->config,
	};

	return json_write(b, pod_record_fields, &r, e);
}

int pod_save(struct pod *p, struct err *e)
{
	struct lock *lock = &p->all->lock;
	auto_buf b = BUF(RECORD_MAX);
	struct record r = { .id = p->id };
	uint64_t version;
	int rc;

	lock_acquire(lock);
	if (!recording_begin_locked(&p->recording, &p->changed, lock, &version)) {
		lock_release(lock);
		return 0;
	}
	rc = pod_write_locked(p, &b, e);
	lock_release(lock);
	r.body = buf_str(&b);
	if (rc == 0)
		rc = catalog_put(p->all->catalog, CATALOG_PODS, &r, e);
	lock_acquire(lock);
	recording_end_locked(&p->recording, &p->changed, version, rc == 0);
	lock_release(lock);
	return rc < 0 ? err_in(e, "record pod %s", p->id) : 0;
}

static int container_write_locked(struct container *k, struct buf *b, struct err *e)
{
	const struct container_record r = {
		.version = RECORD_VERSION, .state = (char *)container_state_word[k->state],
		.uncollected = k->making.active && !k->making.promised && !k->making.collected, .image_id = (char *)k->image_id,
		.log_path = (char *)k->log_path, .cgroup_path = (char *)k->cgroup_path,
		.created_wall_ns = k->created_wall_ns, .started_wall_ns = k->started_wall_ns,
		.finished_wall_ns = k->finished_wall_ns, .exit_code = k->exit_code,
		.oom_killed = k->oom_killed, .reason = (char *)k->reason, .message = (char *)k->message,
		.pid = k->pid, .start_ticks = k->start_ticks, .stop_signal = k->stop_signal,
		.uid = k->user.uid, .gid = k->user.gid,
		.groups = { (void *)k->user.groups, k->user.ngroups }, .binds = k->binds, .config = k->config,
	};

	return json_write(b, container_record_fields, &r, e);
}

int container_save(struct container *k, struct err *e)
{
	struct lock *lock = &k->all->lock;
	auto_buf b = BUF(RECORD_MAX);
	struct record r = { .id = k->id, .parent = k->pod->id };
	uint64_t version;
	int rc;

	lock_acquire(lock);
	if (!recording_begin_locked(&k->recording, &k->changed, lock, &version)) {
		lock_release(lock);
		return 0;
	}
	rc = container_write_locked(k, &b, e);
	lock_release(lock);
	r.body = buf_str(&b);
	if (rc == 0)
		rc = catalog_put(k->all->catalog, CATALOG_CONTAINERS, &r, e);
	lock_acquire(lock);
	recording_end_locked(&k->recording, &k->changed, version, rc == 0);
	lock_release(lock);
	return rc < 0 ? err_in(e, "record container %s", k->id) : 0;
}

/* A writer that is under way must not bring the record back. */
static int record_delete(struct pods *ps, struct recording *r, struct cond *changed, enum catalog_table t,
			 const char *id, struct err *e)
{
	struct err ignored;
	int rc;

	lock_acquire(&ps->lock);
	while (r->busy)
		(void)cond_wait(NULL, changed, &ps->lock, &ignored);
	r->busy = true;
	lock_release(&ps->lock);
	rc = catalog_delete(ps->catalog, t, id, e);
	lock_acquire(&ps->lock);
	recording_end_locked(r, changed, UINT64_MAX, rc == 0);
	lock_release(&ps->lock);
	return rc;
}

int pod_record_delete(struct pod *p, struct err *e)
{
	return record_delete(p->all, &p->recording, &p->changed, CATALOG_PODS, p->id, e);
}

int container_record_delete(struct container *k, struct err *e)
{
	return record_delete(k->all, &k->recording, &k->changed, CATALOG_CONTAINERS, k->id, e);
}

/* --- reading ---------------------------------------------------------------------------------------- */

static void pod_take_record(struct pod *p, const struct pod_record *r)
{
	struct arena *a = &p->arena;

	p->config = arena_new0(a, struct pod_config);
	json_copy(a, pod_config_fields, r->config, p->config);
	p->key = pod_key(a, p->owner, p->config);
	p->handler = r->handler ? arena_strdup(a, r->handler) : "";
	p->runtime = r->runtime ? arena_strdup(a, r->runtime) : "";
	p->runtime_root = r->runtime_root ? arena_strdup(a, r->runtime_root) : "";
	p->netns_path = arena_strdup(a, r->netns_path);
	p->reason = r->reason ? arena_strdup(a, r->reason) : "";
	p->network_added = r->network_added;
	p->settled = r->settled;
	p->created_wall_ns = r->created_wall_ns;
	p->ips = r->ips ? strv_dup(a, r->ips) : NULL;
	p->monitor = (struct monitor){ .pid = r->monitor_pid, .start_ticks = r->monitor_start_ticks,
				       .protocol = r->monitor_protocol };
	p->init_pid = r->init_pid;
}

int pod_of_record(struct pods *ps, const struct record *record, struct pod **out, bool *made, struct err *e)
{
	auto_arena scratch = { 0 };
	auto_pod *p = pod_new(ps);
	struct pod_record r = { 0 };
	int owner, state;

	if (!id_is_valid(record->id))
		return err_set(e, ERR_DATA_LOSS, "pod record %s: not an ID", record->id);
	if (json_load(&scratch, record->body, pod_record_fields, 0, &r, e) < 0 ||
	    check_version(r.version, e) < 0)
		return err_in(e, "pod record %s", record->id);
	owner = word_index(owner_word, POD_OWNER_COUNT, r.owner, "owner", e);
	state = owner < 0 ? -1 : word_index(pod_state_word, POD_STATE_COUNT, r.state, "state", e);
	if (state < 0)
		return err_in(e, "pod record %s", record->id);
	memcpy(p->id, record->id, sizeof(p->id));
	p->owner = (enum pod_owner)owner;
	p->state = (enum pod_state)state;
	pod_take_record(p, &r);
	*made = p->state != POD_CREATING && !r.uncollected;
	*out = p;
	p = NULL;
	return 0;
}

void container_copy_binds(struct container *k, const struct json_vec *binds)
{
	const struct container_bind *from = binds->p;
	struct container_bind *to = arena_newn0(&k->arena, struct container_bind, binds->count + 1);

	for (size_t i = 0; i < binds->count; i++)
		to[i] = (struct container_bind){
			.mount = from[i].mount, .source = arena_strdup(&k->arena, from[i].source),
			.image = arena_strdup(&k->arena, from[i].image),
			.sub_path = arena_strdup(&k->arena, from[i].sub_path), .recursive = from[i].recursive };
	k->binds = (struct json_vec){ to, binds->count };
}

static void container_take_record(struct container *k, const struct container_record *r)
{
	struct arena *a = &k->arena;

	k->config = arena_new0(a, struct container_config);
	json_copy(a, container_config_fields, r->config, k->config);
	k->key = container_key(a, k->pod->id, k->config);
	k->image_id = arena_strdup(a, r->image_id);
	k->log_path = arena_strdup(a, r->log_path);
	k->cgroup_path = arena_strdup(a, r->cgroup_path);
	k->created_wall_ns = r->created_wall_ns;
	k->started_wall_ns = r->started_wall_ns;
	k->finished_wall_ns = r->finished_wall_ns;
	k->exit_code = r->exit_code;
	k->oom_killed = r->oom_killed;
	k->reason = r->reason ? arena_strdup(a, r->reason) : "";
	k->message = r->message ? arena_strdup(a, r->message) : "";
	k->pid = r->pid;
	k->start_ticks = r->start_ticks;
	k->stop_signal = r->stop_signal;
	container_copy_binds(k, &r->binds);
	k->user = (struct container_user){ r->uid, r->gid, NULL, r->groups.count };
	if (r->groups.count)
		k->user.groups = arena_memdup(a, r->groups.p, r->groups.count * sizeof(int64_t));
}

int container_of_record(struct pods *ps, const struct record *record, struct container **out, bool *made,
			struct err *e)
{
	auto_arena scratch = { 0 };
	struct container_record r = { 0 };
	struct container *k;
	struct pod *p = record->parent ? map_get(&ps->pods, record->parent) : NULL;
	int state;

	if (!id_is_valid(record->id))
		return err_set(e, ERR_DATA_LOSS, "container record %s: not an ID", record->id);
	if (!p)
		return err_set(e, ERR_DATA_LOSS, "container record %s: its pod %s is not there", record->id,
			       record->parent ? record->parent : "");
	if (json_load(&scratch, record->body, container_record_fields, 0, &r, e) < 0 ||
	    check_version(r.version, e) < 0)
		return err_in(e, "container record %s", record->id);
	state = word_index(container_state_word, CONTAINER_STATE_COUNT, r.state, "state", e);
	if (state < 0)
		return err_in(e, "container record %s", record->id);
	k = container_new(p);
	memcpy(k->id, record->id, sizeof(k->id));
	k->state = (enum container_state)state;
	container_take_record(k, &r);
	*made = k->state != CONTAINER_CREATING && !r.uncollected;
	*out = k;
	return 0;
}
