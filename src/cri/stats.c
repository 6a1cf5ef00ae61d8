#include "cri/parts.h"

#define SET_MAP(a, m, field, map) \
	((m)->field = map_out(a, &(m)->base, #field, map), (m)->n_##field = (map)->count)

static CRI_T(PsiData) *psi_data(struct arena *a, const struct pressure *p)
{
	CRI_T(PsiData) *d = CRI_NEW(a, psi_data);

	d->total = p->total_ns;
	d->avg10 = p->avg10;
	d->avg60 = p->avg60;
	d->avg300 = p->avg300;
	return d;
}

static CRI_T(PsiStats) *psi(struct arena *a, const struct cgroup_usage *u, const struct pressure *some,
			    const struct pressure *full)
{
	CRI_T(PsiStats) *p;

	if (!u->has_psi)
		return NULL;
	p = CRI_NEW(a, psi_stats);
	p->some = psi_data(a, some);
	p->full = psi_data(a, full);
	return p;
}

static CRI_T(CpuUsage) *cpu_out(struct arena *a, const struct cgroup_usage *u)
{
	CRI_T(CpuUsage) *cpu;

	if (!u->has_cpu)
		return NULL;
	cpu = CRI_NEW(a, cpu_usage);
	cpu->timestamp = u->at_wall_ns;
	cpu->usage_core_nano_seconds = uint64_out(a, u->cpu_ns);
	if (u->cpu_nanocores)
		cpu->usage_nano_cores = uint64_out(a, u->cpu_nanocores);
	cpu->psi = psi(a, u, &u->cpu_some, &u->cpu_full);
	return cpu;
}

static CRI_T(MemoryUsage) *memory_out(struct arena *a, const struct cgroup_usage *u)
{
	CRI_T(MemoryUsage) *m;

	if (!u->has_memory)
		return NULL;
	m = CRI_NEW(a, memory_usage);
	m->timestamp = u->at_wall_ns;
	m->working_set_bytes = uint64_out(a, u->memory_working_set_bytes);
	m->available_bytes = uint64_out(a, u->memory_available_bytes);
	m->usage_bytes = uint64_out(a, u->memory_bytes);
	m->rss_bytes = uint64_out(a, u->memory_rss_bytes);
	m->page_faults = uint64_out(a, u->page_faults);
	m->major_page_faults = uint64_out(a, u->major_page_faults);
	m->psi = psi(a, u, &u->memory_some, &u->memory_full);
	return m;
}

static CRI_T(SwapUsage) *swap_out(struct arena *a, const struct cgroup_usage *u)
{
	CRI_T(SwapUsage) *s;

	if (!u->has_swap)
		return NULL;
	s = CRI_NEW(a, swap_usage);
	s->timestamp = u->at_wall_ns;
	s->swap_available_bytes = uint64_out(a, u->swap_available_bytes);
	s->swap_usage_bytes = uint64_out(a, u->swap_bytes);
	return s;
}

static CRI_T(IoUsage) *io_out(struct arena *a, const struct cgroup_usage *u)
{
	CRI_T(IoUsage) *io;

	if (!u->has_psi)
		return NULL;
	io = CRI_NEW(a, io_usage);
	io->timestamp = u->at_wall_ns;
	io->psi = psi(a, u, &u->io_some, &u->io_full);
	return io;
}

static CRI_T(ContainerAttributes) *container_attributes(struct arena *a, const struct container_view *v)
{
	CRI_T(ContainerAttributes) *at = CRI_NEW(a, container_attributes);

	at->id = text_out(v->id);
	at->metadata = container_metadata_out(a, v->config);
	SET_MAP(a, at, labels, &v->config->labels);
	SET_MAP(a, at, annotations, &v->config->annotations);
	return at;
}

static CRI_T(FilesystemUsage) *layer_out(struct arena *a, const struct container_stats *s)
{
	CRI_T(FilesystemUsage) *u;

	if (!s->has_layer)
		return NULL;
	u = CRI_NEW(a, filesystem_usage);
	u->timestamp = s->usage.at_wall_ns;
	u->fs_id = CRI_NEW(a, filesystem_identifier);
	u->fs_id->mountpoint = text_out(s->layer_mount_point);
	u->used_bytes = uint64_out(a, s->layer_bytes);
	u->inodes_used = uint64_out(a, s->layer_inodes);
	return u;
}

static CRI_T(ContainerStats) *container_stats_out(struct arena *a, const struct container_stats *s)
{
	CRI_T(ContainerStats) *out = CRI_NEW(a, container_stats);

	out->attributes = container_attributes(a, &s->view);
	out->cpu = cpu_out(a, &s->usage);
	out->memory = memory_out(a, &s->usage);
	out->writable_layer = layer_out(a, s);
	out->swap = swap_out(a, &s->usage);
	out->io = io_out(a, &s->usage);
	return out;
}

static CRI_T(ContainerStats) **all_container_stats(struct arena *a, const struct container_stats_list *l)
{
	CRI_T(ContainerStats) **out = CRI_NEWV(a, l->n);

	for (size_t i = 0; i < l->n; i++)
		out[i] = container_stats_out(a, &l->v[i]);
	return out;
}

CRI_METHOD(container_stats)
{
	CRI_IN(ContainerStatsRequest);
	CRI_OUT(ContainerStatsResponse);
	struct container_stats_list *list = hold_container_stats(c);

	if (require(in->container_id, "container_id", e) < 0 ||
	    container_stats(cri_of(ctx)->pods, &c->arena, owner_of(ctx), in->container_id, list, e) < 0)
		return -1;
	out->stats = container_stats_out(&c->arena, &list->v[0]);
	return 0;
}

static int container_stats_listed(struct rpc_context *ctx, struct call *c, const CRI_T(ContainerStatsFilter) *in,
				  size_t *n, CRI_T(ContainerStats) ***out, struct err *e)
{
	struct container_stats_list *list = hold_container_stats(c);
	struct container_filter filter = { 0 };
	struct json_map labels = { 0 };

	if (in) {
		labels = map_in(&c->arena, in->n_label_selector, in->label_selector);
		filter = (struct container_filter){ .id = text_in(in->id), .pod_id = text_in(in->pod_sandbox_id),
						    .labels = labels.count > 0 ? &labels : NULL };
	}
	if (container_stats_list(cri_of(ctx)->pods, &c->arena, owner_of(ctx), &filter, list, e) < 0)
		return -1;
	*n = list->n;
	*out = all_container_stats(&c->arena, list);
	return 0;
}

CRI_METHOD(list_container_stats)
{
	CRI_IN(ListContainerStatsRequest);
	CRI_OUT(ListContainerStatsResponse);

	return container_stats_listed(ctx, c, in->filter, &out->n_stats, &out->stats, e);
}

CRI_METHOD(stream_container_stats)
{
	CRI_IN(StreamContainerStatsRequest);
	CRI_T(ContainerStats) **stats;
	size_t n;

	(void)response;
	if (container_stats_listed(ctx, c, in->filter, &n, &stats, e) < 0)
		return -1;
	return send_in_pieces(ctx, c, "container_stats", stats, n, e);
}

/* --- pods -------------------------------------------------------------------------------------------- */

static CRI_T(PodSandboxAttributes) *pod_attributes(struct arena *a, const struct pod_view *v)
{
	CRI_T(PodSandboxAttributes) *at = CRI_NEW(a, pod_sandbox_attributes);

	at->id = text_out(v->id);
	at->metadata = pod_metadata_out(a, v->config);
	SET_MAP(a, at, labels, &v->config->labels);
	SET_MAP(a, at, annotations, &v->config->annotations);
	return at;
}

static CRI_T(NetworkInterfaceUsage) *interface_out(struct arena *a, const struct pod_network_usage *u)
{
	CRI_T(NetworkInterfaceUsage) *out = CRI_NEW(a, network_interface_usage);

	out->name = text_out(u->interface);
	out->rx_bytes = uint64_out(a, u->rx_bytes);
	out->rx_errors = uint64_out(a, u->rx_errors);
	out->tx_bytes = uint64_out(a, u->tx_bytes);
	out->tx_errors = uint64_out(a, u->tx_errors);
	return out;
}

/* The pod's own interface is eth0; without one, the first is the default. */
static CRI_T(NetworkUsage) *network_out(struct arena *a, const struct pod_stats *s)
{
	CRI_T(NetworkUsage) *out;
	size_t chosen = 0;

	if (s->ninterfaces == 0)
		return NULL;
	for (size_t i = 0; i < s->ninterfaces; i++) {
		if (streq(s->interfaces[i].interface, "eth0"))
			chosen = i;
	}
	out = CRI_NEW(a, network_usage);
	out->timestamp = s->usage.at_wall_ns;
	out->default_interface = interface_out(a, &s->interfaces[chosen]);
	out->interfaces = CRI_NEWV(a, s->ninterfaces);
	for (size_t i = 0; i < s->ninterfaces; i++) {
		if (i != chosen)
			out->interfaces[out->n_interfaces++] = interface_out(a, &s->interfaces[i]);
	}
	return out;
}

static CRI_T(PodSandboxStats) *pod_stats_out(struct arena *a, const struct pod_stats *s)
{
	CRI_T(PodSandboxStats) *out = CRI_NEW(a, pod_sandbox_stats);
	CRI_T(LinuxPodSandboxStats) *l = CRI_NEW(a, linux_pod_sandbox_stats);

	out->attributes = pod_attributes(a, &s->view);
	out->linux = l;
	l->cpu = cpu_out(a, &s->usage);
	l->memory = memory_out(a, &s->usage);
	l->network = network_out(a, s);
	l->io = io_out(a, &s->usage);
	if (s->usage.has_pids) {
		l->process = CRI_NEW(a, process_usage);
		l->process->timestamp = s->usage.at_wall_ns;
		l->process->process_count = uint64_out(a, s->usage.pids);
	}
	l->n_containers = s->containers.n;
	l->containers = all_container_stats(a, &s->containers);
	return out;
}

static int pod_stats_listed(struct rpc_context *ctx, struct call *c, const struct pod_filter *filter, size_t *n,
			    CRI_T(PodSandboxStats) ***out, struct err *e)
{
	struct pod_stats_list *list = hold_pod_stats(c);

	if (pod_stats_list(cri_of(ctx)->pods, &c->arena, owner_of(ctx), filter, list, e) < 0)
		return -1;
	*n = list->n;
	*out = CRI_NEWV(&c->arena, list->n);
	for (size_t i = 0; i < list->n; i++)
		(*out)[i] = pod_stats_out(&c->arena, &list->v[i]);
	return 0;
}

CRI_METHOD(pod_stats)
{
	CRI_IN(PodSandboxStatsRequest);
	CRI_OUT(PodSandboxStatsResponse);
	const struct pod_filter filter = { .id = in->pod_sandbox_id };
	CRI_T(PodSandboxStats) **stats;
	size_t n;

	if (require(in->pod_sandbox_id, "pod_sandbox_id", e) < 0 ||
	    pod_stats_listed(ctx, c, &filter, &n, &stats, e) < 0)
		return -1;
	if (n != 1)
		return err_set(e, ERR_NOT_FOUND, "pod %s was not found", in->pod_sandbox_id);
	out->stats = stats[0];
	return 0;
}

static const struct pod_filter *stats_filter_in(struct arena *a, const CRI_T(PodSandboxStatsFilter) *in)
{
	struct pod_filter *f = arena_new0(a, struct pod_filter);
	struct json_map *labels = arena_new0(a, struct json_map);

	if (!in)
		return f;
	f->id = text_in(in->id);
	*labels = map_in(a, in->n_label_selector, in->label_selector);
	if (labels->count > 0)
		f->labels = labels;
	return f;
}

CRI_METHOD(list_pod_stats)
{
	CRI_IN(ListPodSandboxStatsRequest);
	CRI_OUT(ListPodSandboxStatsResponse);

	return pod_stats_listed(ctx, c, stats_filter_in(&c->arena, in->filter), &out->n_stats, &out->stats, e);
}

CRI_METHOD(stream_pod_stats)
{
	CRI_IN(StreamPodSandboxStatsRequest);
	CRI_T(PodSandboxStats) **stats;
	size_t n;

	(void)response;
	if (pod_stats_listed(ctx, c, stats_filter_in(&c->arena, in->filter), &n, &stats, e) < 0)
		return -1;
	return send_in_pieces(ctx, c, "pod_sandbox_stats", stats, n, e);
}
