#include "cri/parts.h"

#include "base/clock.h"

#include <inttypes.h>

struct repeated message_repeated(ProtobufCMessage *m, const char *field)
{
	const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field_by_name(m->descriptor, field);

	BUG_ON(!f || f->label != PROTOBUF_C_LABEL_REPEATED);
	return (struct repeated){ (size_t *)((char *)m + f->quantifier_offset), (void **)((char *)m + f->offset) };
}

void *map_out(struct arena *a, const ProtobufCMessage *m, const char *field, const struct json_map *map)
{
	const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field_by_name(m->descriptor, field);
	struct map_entry **entries = CRI_NEWV(a, map->count);

	BUG_ON(!f || f->type != PROTOBUF_C_TYPE_MESSAGE);
	for (size_t i = 0; i < map->count; i++) {
		entries[i] = message_new(a, f->descriptor);
		entries[i]->key = text_out(map->p[i].key);
		entries[i]->value = text_out(map->p[i].value);
	}
	return entries;
}

#define HOLD(fn, type, release)                                                      \
	static void fn##_end(void *arg)                                              \
	{                                                                            \
		release(arg);                                                        \
	}                                                                            \
	struct type *fn(struct call *c)                                              \
	{                                                                            \
		struct type *held = arena_new0(&c->arena, struct type);              \
                                                                                     \
		call_defer(c, fn##_end, held);                                       \
		return held;                                                         \
	}

HOLD(hold_pods, pod_views, pod_views_release)
HOLD(hold_containers, container_views, container_views_release)
HOLD(hold_container_stats, container_stats_list, container_stats_release)
HOLD(hold_pod_stats, pod_stats_list, pod_stats_release)
HOLD(hold_pod_metrics, pod_metrics_list, pod_metrics_release)

/* m->field and m->n_field of a map. */
#define SET_MAP(a, m, field, map) \
	((m)->field = map_out(a, &(m)->base, #field, map), (m)->n_##field = (map)->count)

CRI_T(UInt64Value) *uint64_out(struct arena *a, uint64_t n)
{
	CRI_T(UInt64Value) *v = CRI_NEW(a, uint64_value);

	v->value = n;
	return v;
}

CRI_T(PodSandboxMetadata) *pod_metadata_out(struct arena *a, const struct pod_config *p)
{
	CRI_T(PodSandboxMetadata) *m = CRI_NEW(a, pod_sandbox_metadata);

	m->name = text_out(p->name);
	m->uid = text_out(p->uid);
	m->namespace_ = text_out(p->namespace_);
	m->attempt = p->attempt;
	return m;
}

CRI_T(ContainerMetadata) *container_metadata_out(struct arena *a, const struct container_config *c)
{
	CRI_T(ContainerMetadata) *m = CRI_NEW(a, container_metadata);

	m->name = text_out(c->name);
	m->attempt = c->attempt;
	return m;
}

static CRI_T(PodSandboxState) pod_state_out(const struct pod_view *v)
{
	return pod_view_is_ready(v) ? RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_READY
				    : RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_NOTREADY;
}

CRI_T(PodSandbox) *pod_out(struct arena *a, const struct pod_view *v)
{
	CRI_T(PodSandbox) *p = CRI_NEW(a, pod_sandbox);

	p->id = text_out(v->id);
	p->metadata = pod_metadata_out(a, v->config);
	p->state = pod_state_out(v);
	p->created_at = v->created_wall_ns;
	SET_MAP(a, p, labels, &v->config->labels);
	SET_MAP(a, p, annotations, &v->config->annotations);
	p->runtime_handler = text_out(v->handler);
	return p;
}

static CRI_T(PodSandboxNetworkStatus) *network_out(struct arena *a, const struct pod_view *v)
{
	CRI_T(PodSandboxNetworkStatus) *n = CRI_NEW(a, pod_sandbox_network_status);
	size_t count = strv_len(v->ips);

	if (count == 0)
		return n;
	n->ip = v->ips[0];
	n->n_additional_ips = count - 1;
	n->additional_ips = CRI_NEWV(a, count);
	for (size_t i = 1; i < count; i++) {
		n->additional_ips[i - 1] = CRI_NEW(a, pod_ip);
		n->additional_ips[i - 1]->ip = v->ips[i];
	}
	return n;
}

static CRI_T(IDMapping) **idmaps_out(struct arena *a, struct json_vec maps)
{
	const struct config_id_map *in = maps.p;
	CRI_T(IDMapping) **out = CRI_NEWV(a, maps.count);

	for (size_t i = 0; i < maps.count; i++) {
		out[i] = CRI_NEW(a, idmapping);
		out[i]->host_id = in[i].host_id;
		out[i]->container_id = in[i].container_id;
		out[i]->length = in[i].length;
	}
	return out;
}

static CRI_T(LinuxPodSandboxStatus) *pod_linux_out(struct arena *a, const struct pod_config *p)
{
	CRI_T(LinuxPodSandboxStatus) *l = CRI_NEW(a, linux_pod_sandbox_status);
	CRI_T(NamespaceOption) *o = CRI_NEW(a, namespace_option);

	o->network = (CRI_T(NamespaceMode))p->namespaces.network;
	o->pid = (CRI_T(NamespaceMode))p->namespaces.pid;
	o->ipc = (CRI_T(NamespaceMode))p->namespaces.ipc;
	o->target_id = text_out(p->namespaces.target_id);
	if (p->namespaces.userns) {
		o->userns_options = CRI_NEW(a, user_namespace);
		o->userns_options->mode = (CRI_T(NamespaceMode))p->namespaces.userns->mode;
		o->userns_options->n_uids = p->namespaces.userns->uids.count;
		o->userns_options->uids = idmaps_out(a, p->namespaces.userns->uids);
		o->userns_options->n_gids = p->namespaces.userns->gids.count;
		o->userns_options->gids = idmaps_out(a, p->namespaces.userns->gids);
	}
	l->namespaces = CRI_NEW(a, namespace);
	l->namespaces->options = o;
	return l;
}

CRI_T(PodSandboxStatus) *pod_status_out(struct arena *a, const struct pod_view *v)
{
	CRI_T(PodSandboxStatus) *p = CRI_NEW(a, pod_sandbox_status);

	p->id = text_out(v->id);
	p->metadata = pod_metadata_out(a, v->config);
	p->state = pod_state_out(v);
	p->created_at = v->created_wall_ns;
	p->network = network_out(a, v);
	p->linux = pod_linux_out(a, v->config);
	SET_MAP(a, p, labels, &v->config->labels);
	SET_MAP(a, p, annotations, &v->config->annotations);
	p->runtime_handler = text_out(v->handler);
	return p;
}

/* --- containers -------------------------------------------------------------------------------------- */

static CRI_T(ContainerState) container_state_out(enum container_state s)
{
	switch (s) {
	case CONTAINER_CREATED:
	case CONTAINER_CREATING:
	case CONTAINER_STARTING:
		return RUNTIME__V1__CONTAINER_STATE__CONTAINER_CREATED;
	case CONTAINER_RUNNING:
		return RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING;
	case CONTAINER_EXITED:
	case CONTAINER_REMOVING:
		return RUNTIME__V1__CONTAINER_STATE__CONTAINER_EXITED;
	default:
		return RUNTIME__V1__CONTAINER_STATE__CONTAINER_UNKNOWN;
	}
}

static CRI_T(ImageSpec) *image_spec_out(struct arena *a, const struct container_config *c)
{
	CRI_T(ImageSpec) *s = CRI_NEW(a, image_spec);

	s->image = text_out(c->image);
	s->user_specified_image = text_out(c->image_user_specified);
	s->runtime_handler = text_out(c->image_handler);
	SET_MAP(a, s, annotations, &c->image_annotations);
	return s;
}

CRI_T(Container) *container_out(struct arena *a, const struct container_view *v)
{
	CRI_T(Container) *c = CRI_NEW(a, container);

	c->id = text_out(v->id);
	c->pod_sandbox_id = text_out(v->pod_id);
	c->metadata = container_metadata_out(a, v->config);
	c->image = image_spec_out(a, v->config);
	c->image_ref = c->image_id = text_out(v->image_id);
	c->state = container_state_out(v->state);
	c->created_at = v->created_wall_ns;
	SET_MAP(a, c, labels, &v->config->labels);
	SET_MAP(a, c, annotations, &v->config->annotations);
	return c;
}

static CRI_T(Mount) *mount_out(struct arena *a, const struct config_mount *in)
{
	CRI_T(Mount) *m = CRI_NEW(a, mount);

	m->container_path = text_out(in->container_path);
	m->host_path = text_out(in->host_path);
	m->readonly = in->readonly;
	m->selinux_relabel = in->selinux_relabel;
	m->propagation = (CRI_T(MountPropagation))in->propagation;
	m->n_uidmappings = in->uid_maps.count;
	m->uidmappings = idmaps_out(a, in->uid_maps);
	m->n_gidmappings = in->gid_maps.count;
	m->gidmappings = idmaps_out(a, in->gid_maps);
	m->recursive_read_only = in->recursive_readonly;
	if (in->image) {
		m->image = CRI_NEW(a, image_spec);
		m->image->image = in->image;
		m->image->image_ref = text_out(in->image_id);
	}
	m->image_sub_path = text_out(in->image_sub_path);
	m->n_mount_options = strv_len(in->options);
	m->mount_options = in->options;
	return m;
}

CRI_T(LinuxContainerResources) *resources_out(struct arena *a, const struct config_resources *r)
{
	CRI_T(LinuxContainerResources) *out = CRI_NEW(a, linux_container_resources);
	const struct config_hugepage *pages = r->hugepages.p;

	out->cpu_period = r->cpu_period_us;
	out->cpu_quota = r->cpu_quota_us;
	out->cpu_shares = r->cpu_shares;
	out->memory_limit_in_bytes = r->memory_bytes;
	out->memory_swap_limit_in_bytes = r->memory_swap_bytes;
	out->oom_score_adj = r->oom_score_adj;
	out->cpuset_cpus = text_out(r->cpuset_cpus);
	out->cpuset_mems = text_out(r->cpuset_mems);
	out->n_hugepage_limits = r->hugepages.count;
	out->hugepage_limits = CRI_NEWV(a, r->hugepages.count);
	for (size_t i = 0; i < r->hugepages.count; i++) {
		out->hugepage_limits[i] = CRI_NEW(a, hugepage_limit);
		out->hugepage_limits[i]->page_size = text_out(pages[i].page_size);
		out->hugepage_limits[i]->limit = pages[i].limit_bytes;
	}
	SET_MAP(a, out, unified, &r->unified);
	return out;
}

static CRI_T(ContainerUser) *user_out(struct arena *a, const struct container_user *u)
{
	CRI_T(ContainerUser) *out = CRI_NEW(a, container_user);

	out->linux = CRI_NEW(a, linux_container_user);
	out->linux->uid = u->uid;
	out->linux->gid = u->gid;
	out->linux->n_supplemental_groups = u->ngroups;
	out->linux->supplemental_groups = (int64_t *)u->groups;
	return out;
}

static CRI_T(ContainerResources) *container_resources_out(const struct rpc_context *ctx, struct arena *a,
							 const struct container_view *v)
{
	CRI_T(ContainerResources) *out = CRI_NEW(a, container_resources);
	struct config_resources r;
	struct err gone; /* the container ends at this moment: its wish stands in */

	if (container_resources(cri_of(ctx)->pods, a, v->owner, v->id, &r, &gone) == 0)
		out->linux = resources_out(a, &r);
	else if (v->config->resources)
		out->linux = resources_out(a, v->config->resources);
	return out;
}

static bool same_repository(const char *digest, const char *name)
{
	struct str repository = str_of(digest);

	repository = str_cut(&repository, '@');
	return strncmp(name, repository.p, repository.len) == 0 &&
	       (name[repository.len] == ':' || name[repository.len] == '@');
}

/* kubelet asks for containers by image ID; people want to read the name it has, and a pod's status shows
 * image_ref as imageID: "digested reference to the image in use", REPOSITORY@sha256:… of that name. */
static void image_names_out(const struct rpc_context *ctx, struct arena *a, const struct container_view *v,
			    CRI_T(ContainerStatus) *s)
{
	struct image image;
	struct err gone;

	s->image = image_spec_out(a, v->config);
	s->image_ref = s->image_id = text_out(v->image_id);
	if (image_find(cri_of(ctx)->images, a, v->image_id, &image, &gone) < 0)
		return;
	if (image.tags && image.tags[0])
		s->image->image = strv_has(image.tags, v->config->image) ? v->config->image : image.tags[0];
	else if (image.digests && image.digests[0])
		s->image->image = image.digests[0];
	for (size_t i = strv_len(image.digests); i-- > 0;) {
		if (i == 0 || same_repository(image.digests[i], s->image->image)) {
			s->image_ref = image.digests[i];
			return;
		}
	}
}

CRI_T(ContainerStatus) *container_status_out(const struct rpc_context *ctx, struct arena *a,
					     const struct container_view *v)
{
	CRI_T(ContainerStatus) *s = CRI_NEW(a, container_status);
	const struct config_mount *mounts = v->config->mounts.p;

	s->id = text_out(v->id);
	s->metadata = container_metadata_out(a, v->config);
	s->state = container_state_out(v->state);
	s->created_at = v->created_wall_ns;
	s->started_at = v->started_wall_ns;
	s->finished_at = v->finished_wall_ns;
	s->exit_code = v->exit_code;
	image_names_out(ctx, a, v, s);
	s->reason = text_out(v->reason);
	s->message = text_out(v->message);
	SET_MAP(a, s, labels, &v->config->labels);
	SET_MAP(a, s, annotations, &v->config->annotations);
	s->n_mounts = v->config->mounts.count;
	s->mounts = CRI_NEWV(a, s->n_mounts);
	for (size_t i = 0; i < s->n_mounts; i++)
		s->mounts[i] = mount_out(a, &mounts[i]);
	s->log_path = text_out(v->log_path);
	s->resources = container_resources_out(ctx, a, v);
	s->user = user_out(a, &v->user);
	s->stop_signal = signal_out(v->stop_signal);
	return s;
}

/* --- verbose ----------------------------------------------------------------------------------------- */

enum { INFO_MAX = 4 << 20, INFO_ROOM = 64 << 10 };

void info_begin(struct info *i, struct arena *a)
{
	*i = (struct info){ .a = a, .text = BUF(INFO_MAX) };
}

/* What does not fit is left out: it is for people to read. */
static bool info_key(struct info *i, const char *key)
{
	struct err full;
	bool ok = buf_addz(&i->text, i->any ? "," : "{", &full) == 0 && json_write_text(&i->text, key, &full) == 0 &&
		  buf_addz(&i->text, ":", &full) == 0;

	i->any = true;
	return ok;
}

void info_text(struct info *i, const char *key, const char *value)
{
	struct err full;

	if (value && info_key(i, key))
		(void)!json_write_text(&i->text, value, &full);
}

void info_number(struct info *i, const char *key, int64_t value)
{
	struct err full;

	if (info_key(i, key))
		(void)!buf_addf(&i->text, &full, "%" PRId64, value);
}

void info_bool(struct info *i, const char *key, bool value)
{
	struct err full;

	if (info_key(i, key))
		(void)!buf_addz(&i->text, value ? "true" : "false", &full);
}

void info_json(struct info *i, const char *key, struct str json)
{
	struct err full;

	if (json.len && i->text.len + json.len < INFO_MAX - INFO_ROOM && info_key(i, key))
		(void)!buf_add(&i->text, json.p, json.len, &full);
}

void info_list(struct info *i, const char *key, char *const *values)
{
	struct err full;

	if (!values || !info_key(i, key))
		return;
	(void)!buf_addz(&i->text, "[", &full);
	for (size_t n = 0; values[n]; n++) {
		(void)!buf_addz(&i->text, n ? "," : "", &full);
		(void)!json_write_text(&i->text, values[n], &full);
	}
	(void)!buf_addz(&i->text, "]", &full);
}

void info_end(struct info *i, ProtobufCMessage *m)
{
	struct repeated entries = message_repeated(m, "info");
	struct json_pair pair = { (char *)"info", NULL };
	struct json_map map = { &pair, 1 };

	pair.value = arena_printf(i->a, "%s}", i->any ? buf_text(&i->text) : "{");
	*entries.items = map_out(i->a, m, "info", &map);
	*entries.n = 1;
	buf_free(&i->text);
}

/* --- pieces ------------------------------------------------------------------------------------------ */

enum { PIECE_BYTES = 1 << 20 };

int send_in_pieces(struct rpc_context *ctx, struct call *c, const char *field, void *items, size_t n,
		   struct err *e)
{
	ProtobufCMessage *m = message_new(&c->arena, ctx->method->response);
	struct repeated to = message_repeated(m, field);
	ProtobufCMessage *const *all = items;
	size_t bytes = 0;

	for (size_t i = 0, first = 0; i < n; i++) {
		bytes += protobuf_c_message_get_packed_size(all[i]);
		if (bytes < PIECE_BYTES && i + 1 < n)
			continue;
		*to.items = (void *)&all[first];
		*to.n = i + 1 - first;
		if (rpc_send(ctx, c, m, e) < 0)
			return -1;
		first = i + 1;
		bytes = 0;
	}
	return 0;
}
