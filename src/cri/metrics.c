/* cAdvisor's metrics by its own names and labels, so that who reads kubelet's /metrics/cadvisor sees no difference
 * (docs/inside/metrics.md). CRI's values are whole numbers: seconds are cut. */
#include "cri/parts.h"

#include "base/clock.h"

enum { COUNTER = RUNTIME__V1__METRIC_TYPE__COUNTER, GAUGE = RUNTIME__V1__METRIC_TYPE__GAUGE, EXTRA_LABELS_MAX = 4 };

/* Every metric has these labels, then those of its own. */
static const char *const base_labels[] = { "container", "id", "image", "name", "namespace", "pod" };

/* --- plain numbers: one value a container, at an offset of its struct metrics_values ------------------------- */

struct plain {
	const char *name;
	int type;
	unsigned needs;       /* METRICS_… */
	size_t offset;
	uint64_t divisor;
	const char *label, *value; /* one more label, NULL: none */
	const char *help;
};

#define AT(field) offsetof(struct metrics_values, field)
#define US (NS_PER_S / 1000)
static const struct plain plains[] = {
	{ "container_last_seen", GAUGE, METRICS_ALIVE, AT(last_seen_ns), NS_PER_S, NULL, NULL,
	  "Last time a container was seen by the exporter" },
	{ "container_start_time_seconds", GAUGE, METRICS_ALIVE, AT(start_ns), NS_PER_S, NULL, NULL,
	  "Start time of the container since unix epoch in seconds." },
	{ "container_cpu_usage_seconds_total", COUNTER, METRICS_CPU, AT(cpu_ns), NS_PER_S, "cpu", "total",
	  "Cumulative cpu time consumed in seconds." },
	{ "container_cpu_user_seconds_total", COUNTER, METRICS_CPU, AT(cpu_user_ns), NS_PER_S, NULL, NULL,
	  "Cumulative user cpu time consumed in seconds." },
	{ "container_cpu_system_seconds_total", COUNTER, METRICS_CPU, AT(cpu_system_ns), NS_PER_S, NULL, NULL,
	  "Cumulative system cpu time consumed in seconds." },
	{ "container_cpu_cfs_periods_total", COUNTER, METRICS_THROTTLING, AT(periods), 1, NULL, NULL,
	  "Number of elapsed enforcement period intervals." },
	{ "container_cpu_cfs_throttled_periods_total", COUNTER, METRICS_THROTTLING, AT(throttled_periods), 1, NULL, NULL,
	  "Number of throttled period intervals." },
	{ "container_cpu_cfs_throttled_seconds_total", COUNTER, METRICS_THROTTLING, AT(throttled_ns), NS_PER_S, NULL, NULL,
	  "Total time duration the container has been throttled." },
	{ "container_cpu_cfs_burst_periods_total", COUNTER, METRICS_THROTTLING, AT(burst_periods), 1, NULL, NULL,
	  "Number of periods when burst occurs." },
	{ "container_cpu_cfs_burst_seconds_total", COUNTER, METRICS_THROTTLING, AT(burst_ns), NS_PER_S, NULL, NULL,
	  "Total time duration the container has been bursted." },
	{ "container_memory_usage_bytes", GAUGE, METRICS_MEMORY, AT(memory), 1, NULL, NULL,
	  "Current memory usage in bytes, including all memory regardless of when it was accessed" },
	{ "container_memory_max_usage_bytes", GAUGE, METRICS_MEMORY, AT(memory_max), 1, NULL, NULL,
	  "Maximum memory usage recorded in bytes" },
	{ "container_memory_working_set_bytes", GAUGE, METRICS_MEMORY, AT(working_set), 1, NULL, NULL,
	  "Current working set in bytes." },
	{ "container_memory_rss", GAUGE, METRICS_MEMORY, AT(rss), 1, NULL, NULL, "Size of RSS in bytes." },
	{ "container_memory_cache", GAUGE, METRICS_MEMORY, AT(cache), 1, NULL, NULL, "Number of bytes of page cache memory." },
	{ "container_memory_kernel_usage", GAUGE, METRICS_MEMORY, AT(kernel), 1, NULL, NULL,
	  "Size of kernel memory allocated in bytes." },
	{ "container_memory_mapped_file", GAUGE, METRICS_MEMORY, AT(mapped_file), 1, NULL, NULL,
	  "Size of memory mapped files in bytes." },
	{ "container_memory_swap", GAUGE, METRICS_MEMORY, AT(swap), 1, NULL, NULL, "Container swap usage in bytes." },
	{ "container_memory_total_active_file_bytes", GAUGE, METRICS_MEMORY, AT(active_file), 1, NULL, NULL,
	  "Current total active file in bytes." },
	{ "container_memory_total_inactive_file_bytes", GAUGE, METRICS_MEMORY, AT(inactive_file), 1, NULL, NULL,
	  "Current total inactive file in bytes." },
	{ "container_memory_failcnt", COUNTER, METRICS_MEMORY, AT(failures), 1, NULL, NULL,
	  "Number of memory usage hits limits" },
	{ "container_oom_events_total", COUNTER, METRICS_MEMORY, AT(oom_kills), 1, NULL, NULL,
	  "Count of out of memory events observed for the container" },
	{ "container_pressure_cpu_waiting_seconds_total", COUNTER, METRICS_PRESSURE, AT(cpu_waiting_us), US, NULL, NULL,
	  "Total time duration tasks in the container have waited due to CPU congestion." },
	{ "container_pressure_cpu_stalled_seconds_total", COUNTER, METRICS_PRESSURE, AT(cpu_stalled_us), US, NULL, NULL,
	  "Total time duration no tasks in the container could make progress due to CPU congestion." },
	{ "container_pressure_memory_waiting_seconds_total", COUNTER, METRICS_PRESSURE, AT(memory_waiting_us), US, NULL, NULL,
	  "Total time duration tasks in the container have waited due to memory congestion." },
	{ "container_pressure_memory_stalled_seconds_total", COUNTER, METRICS_PRESSURE, AT(memory_stalled_us), US, NULL, NULL,
	  "Total time duration no tasks in the container could make progress due to memory congestion." },
	{ "container_pressure_io_waiting_seconds_total", COUNTER, METRICS_PRESSURE, AT(io_waiting_us), US, NULL, NULL,
	  "Total time duration tasks in the container have waited due to IO congestion." },
	{ "container_pressure_io_stalled_seconds_total", COUNTER, METRICS_PRESSURE, AT(io_stalled_us), US, NULL, NULL,
	  "Total time duration no tasks in the container could make progress due to IO congestion." },
	{ "container_processes", GAUGE, METRICS_PROCESSES, AT(processes), 1, NULL, NULL,
	  "Number of processes running inside the container." },
	{ "container_file_descriptors", GAUGE, METRICS_PROCESSES, AT(fds), 1, NULL, NULL,
	  "Number of open file descriptors for the container." },
	{ "container_sockets", GAUGE, METRICS_PROCESSES, AT(sockets), 1, NULL, NULL,
	  "Number of open sockets for the container." },
	{ "container_threads", GAUGE, METRICS_PIDS, AT(threads), 1, NULL, NULL,
	  "Number of threads running inside the container" },
	{ "container_threads_max", GAUGE, METRICS_PIDS, AT(threads_max), 1, NULL, NULL,
	  "Maximum number of threads allowed inside the container, infinity if value is zero" },
	{ "container_ulimits_soft", GAUGE, METRICS_FILE_LIMIT, AT(file_limit), 1, "ulimit", "max_open_files",
	  "Soft ulimit values for the container root process. Unlimited if -1, except priority and nice" },
	{ "container_spec_cpu_period", GAUGE, METRICS_SPEC, AT(cpu_period_us), 1, NULL, NULL, "CPU period of the container." },
	{ "container_spec_cpu_quota", GAUGE, METRICS_QUOTA, AT(cpu_quota_us), 1, NULL, NULL, "CPU quota of the container." },
	{ "container_spec_cpu_shares", GAUGE, METRICS_SPEC, AT(cpu_shares), 1, NULL, NULL, "CPU share of the container." },
	{ "container_spec_memory_limit_bytes", GAUGE, METRICS_SPEC, AT(memory_limit), 1, NULL, NULL,
	  "Memory limit for the container." },
	{ "container_spec_memory_swap_limit_bytes", GAUGE, METRICS_SPEC, AT(swap_limit), 1, NULL, NULL,
	  "Memory swap limit for the container." },
	{ "container_spec_memory_reservation_limit_bytes", GAUGE, METRICS_SPEC, AT(memory_reservation), 1, NULL, NULL,
	  "Memory reservation limit for the container." },
};
#undef US
#undef AT

/* --- those with more labels ---------------------------------------------------------------------------------- */

#define LABELLED(X)                                                                                                  \
	X(FAULTS, "container_memory_failures_total", COUNTER, "failure_type", "scope",                               \
	  "Cumulative count of memory allocation failures.")                                                        \
	X(HUGE_USAGE, "container_hugetlb_usage_bytes", GAUGE, "pagesize", NULL, "Current hugepage usage in bytes")      \
	X(HUGE_MAX, "container_hugetlb_max_usage_bytes", GAUGE, "pagesize", NULL, "Maximum hugepage usage recorded in bytes") \
	X(FS_LIMIT, "container_fs_limit_bytes", GAUGE, "device", NULL,                                               \
	  "Number of bytes that can be consumed by the container on this filesystem.")                              \
	X(FS_USAGE, "container_fs_usage_bytes", GAUGE, "device", NULL,                                               \
	  "Number of bytes that are consumed by the container on this filesystem.")                                 \
	X(FS_INODES, "container_fs_inodes_total", GAUGE, "device", NULL, "Number of Inodes")                           \
	X(FS_INODES_FREE, "container_fs_inodes_free", GAUGE, "device", NULL, "Number of available Inodes")             \
	X(READ_BYTES, "container_fs_reads_bytes_total", COUNTER, "device", NULL, "Cumulative count of bytes read")     \
	X(READS, "container_fs_reads_total", COUNTER, "device", NULL, "Cumulative count of reads completed")           \
	X(WRITE_BYTES, "container_fs_writes_bytes_total", COUNTER, "device", NULL, "Cumulative count of bytes written") \
	X(WRITES, "container_fs_writes_total", COUNTER, "device", NULL, "Cumulative count of writes completed")        \
	X(RX_BYTES, "container_network_receive_bytes_total", COUNTER, "interface", NULL, "Cumulative count of bytes received") \
	X(RX_PACKETS, "container_network_receive_packets_total", COUNTER, "interface", NULL,                           \
	  "Cumulative count of packets received")                                                                   \
	X(RX_DROPPED, "container_network_receive_packets_dropped_total", COUNTER, "interface", NULL,                   \
	  "Cumulative count of packets dropped while receiving")                                                    \
	X(RX_ERRORS, "container_network_receive_errors_total", COUNTER, "interface", NULL,                             \
	  "Cumulative count of errors encountered while receiving")                                                 \
	X(TX_BYTES, "container_network_transmit_bytes_total", COUNTER, "interface", NULL,                              \
	  "Cumulative count of bytes transmitted")                                                                  \
	X(TX_PACKETS, "container_network_transmit_packets_total", COUNTER, "interface", NULL,                          \
	  "Cumulative count of packets transmitted")                                                                \
	X(TX_DROPPED, "container_network_transmit_packets_dropped_total", COUNTER, "interface", NULL,                  \
	  "Cumulative count of packets dropped while transmitting")                                                 \
	X(TX_ERRORS, "container_network_transmit_errors_total", COUNTER, "interface", NULL,                            \
	  "Cumulative count of errors encountered while transmitting")

enum labelled {
#define X(id, name, type, one, two, help) L_##id,
	LABELLED(X)
#undef X
	L_BLKIO,
};

static const struct {
	const char *name;
	int type;
	const char *labels[EXTRA_LABELS_MAX + 1];
	const char *help;
} labelled[] = {
#define X(id, name, type, one, two, help) { name, type, { one, two }, help },
	LABELLED(X)
#undef X
	/* The only one of four. */
	{ "container_blkio_device_usage_total", COUNTER, { "device", "major", "minor", "operation" },
	  "Blkio Device bytes usage" },
};

/* --- descriptors --------------------------------------------------------------------------------------------- */

static CRI_T(MetricDescriptor) *descriptor(struct arena *a, const char *name, const char *help,
					   const char *const *extra)
{
	CRI_T(MetricDescriptor) *d = CRI_NEW(a, metric_descriptor);

	d->name = text_out(name);
	d->help = text_out(help);
	d->label_keys = CRI_NEWV(a, ARRAY_SIZE(base_labels) + EXTRA_LABELS_MAX);
	for (size_t i = 0; i < ARRAY_SIZE(base_labels); i++)
		d->label_keys[d->n_label_keys++] = text_out(base_labels[i]);
	for (size_t i = 0; extra[i]; i++)
		d->label_keys[d->n_label_keys++] = text_out(extra[i]);
	return d;
}

CRI_METHOD(metric_descriptors)
{
	CRI_OUT(ListMetricDescriptorsResponse);
	struct arena *a = &c->arena;

	(void)ctx;
	(void)request;
	(void)e;
	out->descriptors = CRI_NEWV(a, ARRAY_SIZE(plains) + ARRAY_SIZE(labelled));
	for (size_t i = 0; i < ARRAY_SIZE(plains); i++) {
		const char *extra[] = { plains[i].label, NULL };

		out->descriptors[out->n_descriptors++] = descriptor(a, plains[i].name, plains[i].help, extra);
	}
	for (size_t i = 0; i < ARRAY_SIZE(labelled); i++)
		out->descriptors[out->n_descriptors++] = descriptor(a, labelled[i].name, labelled[i].help,
								    labelled[i].labels);
	return 0;
}

/* --- values -------------------------------------------------------------------------------------------------- */

/* The metrics of one pod or container: they share the base labels' texts, and those without more labels the array. */
struct sheet {
	struct arena *a;
	char *base[ARRAY_SIZE(base_labels)];
	char **plain_labels;
	CRI_T(Metric) **v;
	size_t n, cap;
};

static void sheet_begin(struct sheet *s, struct arena *a, size_t cap)
{
	s->a = a;
	s->n = 0;
	s->cap = cap;
	s->v = CRI_NEWV(a, cap);
	s->plain_labels = arena_memdup(a, s->base, sizeof(s->base));
}

static void put(struct sheet *s, const char *name, int type, uint64_t value, char **labels, size_t nlabels)
{
	CRI_T(Metric) *m = CRI_NEW(s->a, metric);

	BUG_ON(s->n == s->cap);
	m->name = text_out(name);
	m->metric_type = (CRI_T(MetricType))type;
	m->label_values = labels;
	m->n_label_values = nlabels;
	m->value = uint64_out(s->a, value);
	s->v[s->n++] = m;
}

static char **labels_and(struct sheet *s, const char *const *extra, size_t n)
{
	char **all = arena_newn0(s->a, char *, ARRAY_SIZE(base_labels) + n);

	memcpy(all, s->base, sizeof(s->base));
	for (size_t i = 0; i < n; i++)
		all[ARRAY_SIZE(base_labels) + i] = text_out(extra[i]);
	return all;
}

static void put_labelled(struct sheet *s, enum labelled which, uint64_t value, const char *const *extra)
{
	size_t n = 0;

	while (labelled[which].labels[n])
		n++;
	put(s, labelled[which].name, labelled[which].type, value, labels_and(s, extra, n), ARRAY_SIZE(base_labels) + n);
}

static void put_plains(struct sheet *s, unsigned has, const struct metrics_values *v)
{
	uint64_t value;

	for (size_t i = 0; i < ARRAY_SIZE(plains); i++) {
		const struct plain *p = &plains[i];

		if (!(has & p->needs))
			continue;
		memcpy(&value, (const char *)v + p->offset, sizeof(value));
		value /= p->divisor;
		if (p->label)
			put(s, p->name, p->type, value, labels_and(s, &p->value, 1), ARRAY_SIZE(base_labels) + 1);
		else
			put(s, p->name, p->type, value, s->plain_labels, ARRAY_SIZE(base_labels));
	}
}

static void put_faults(struct sheet *s, const struct metrics_values *v)
{
	put_labelled(s, L_FAULTS, v->own_page_faults, (const char *[]){ "pgfault", "container" });
	put_labelled(s, L_FAULTS, v->own_major_page_faults, (const char *[]){ "pgmajfault", "container" });
	put_labelled(s, L_FAULTS, v->page_faults, (const char *[]){ "pgfault", "hierarchy" });
	put_labelled(s, L_FAULTS, v->major_page_faults, (const char *[]){ "pgmajfault", "hierarchy" });
}

static void put_disk(struct sheet *s, const struct metrics_disk *d)
{
	const char *major = arena_printf(s->a, "%u", d->major), *minor = arena_printf(s->a, "%u", d->minor);

	put_labelled(s, L_READ_BYTES, d->read_bytes, &d->name);
	put_labelled(s, L_READS, d->reads, &d->name);
	put_labelled(s, L_WRITE_BYTES, d->write_bytes, &d->name);
	put_labelled(s, L_WRITES, d->writes, &d->name);
	put_labelled(s, L_BLKIO, d->read_bytes, (const char *[]){ d->name, major, minor, "Read" });
	put_labelled(s, L_BLKIO, d->write_bytes, (const char *[]){ d->name, major, minor, "Write" });
}

static void put_fs(struct sheet *s, const struct container_metrics *m)
{
	put_labelled(s, L_FS_LIMIT, m->values.fs_limit, &m->fs_device);
	put_labelled(s, L_FS_USAGE, m->values.fs_usage, &m->fs_device);
	put_labelled(s, L_FS_INODES, m->values.fs_inodes, &m->fs_device);
	put_labelled(s, L_FS_INODES_FREE, m->values.fs_inodes_free, &m->fs_device);
}

static void put_interface(struct sheet *s, const struct pod_network_usage *u)
{
	put_labelled(s, L_RX_BYTES, u->rx_bytes, &u->interface);
	put_labelled(s, L_RX_PACKETS, u->rx_packets, &u->interface);
	put_labelled(s, L_RX_DROPPED, u->rx_dropped, &u->interface);
	put_labelled(s, L_RX_ERRORS, u->rx_errors, &u->interface);
	put_labelled(s, L_TX_BYTES, u->tx_bytes, &u->interface);
	put_labelled(s, L_TX_PACKETS, u->tx_packets, &u->interface);
	put_labelled(s, L_TX_DROPPED, u->tx_dropped, &u->interface);
	put_labelled(s, L_TX_ERRORS, u->tx_errors, &u->interface);
}

/* --- pods ---------------------------------------------------------------------------------------------------- */

enum { FAULTS = 4, PER_DISK = 6, PER_PAGE_SIZE = 2, PER_FS = 4, PER_INTERFACE = 8 };

static CRI_T(ContainerMetrics) *container_metrics_out(struct arena *a, const struct container_metrics *m)
{
	CRI_T(ContainerMetrics) *out = CRI_NEW(a, container_metrics);
	const struct container_config *k = m->view.config;
	const char *image = str_is_empty(k->image_user_specified) ? k->image : k->image_user_specified;
	struct sheet s = { .base = { text_out(k->name), text_out(m->cgroup), text_out(image), text_out(m->view.id),
				     text_out(m->view.pod_config->namespace_), text_out(m->view.pod_config->name) } };

	sheet_begin(&s, a, ARRAY_SIZE(plains) + FAULTS + PER_DISK * m->ndisks + PER_PAGE_SIZE * m->nhugepages + PER_FS);
	put_plains(&s, m->has, &m->values);
	if (m->has & METRICS_MEMORY)
		put_faults(&s, &m->values);
	for (size_t i = 0; i < m->ndisks; i++)
		put_disk(&s, &m->disks[i]);
	for (size_t i = 0; i < m->nhugepages; i++) {
		put_labelled(&s, L_HUGE_USAGE, m->hugepages[i].usage, &m->hugepages[i].page_size);
		if (m->hugepages[i].has_max)
			put_labelled(&s, L_HUGE_MAX, m->hugepages[i].max_usage, &m->hugepages[i].page_size);
	}
	if (m->has & METRICS_FS)
		put_fs(&s, m);
	out->container_id = text_out(m->view.id);
	out->metrics = s.v;
	out->n_metrics = s.n;
	return out;
}

static CRI_T(PodSandboxMetrics) *pod_metrics_out(struct arena *a, const struct pod_metrics *m)
{
	CRI_T(PodSandboxMetrics) *out = CRI_NEW(a, pod_sandbox_metrics);
	struct sheet s = { .base = { text_out(NULL), text_out(m->cgroup), text_out(NULL), text_out(NULL),
				     text_out(m->view.config->namespace_), text_out(m->view.config->name) } };

	sheet_begin(&s, a, ARRAY_SIZE(plains) + FAULTS + PER_INTERFACE * m->ninterfaces);
	put_plains(&s, m->has, &m->values);
	if (m->has & METRICS_MEMORY)
		put_faults(&s, &m->values);
	s.base[3] = text_out(m->view.id); /* as the interfaces of a pause container would be */
	for (size_t i = 0; i < m->ninterfaces; i++)
		put_interface(&s, &m->interfaces[i]);
	out->pod_sandbox_id = text_out(m->view.id);
	out->metrics = s.v;
	out->n_metrics = s.n;
	out->container_metrics = CRI_NEWV(a, m->ncontainers);
	for (size_t i = 0; i < m->ncontainers; i++) {
		if (m->containers[i].has & METRICS_ALIVE)
			out->container_metrics[out->n_container_metrics++] = container_metrics_out(a, &m->containers[i]);
	}
	return out;
}

static int metrics_listed(struct rpc_context *ctx, struct call *c, size_t *n, CRI_T(PodSandboxMetrics) ***out,
			  struct err *e)
{
	struct pod_metrics_list *list = hold_pod_metrics(c);

	if (pod_metrics_list(cri_of(ctx)->pods, &c->arena, owner_of(ctx), list, e) < 0)
		return -1;
	*n = list->n;
	*out = CRI_NEWV(&c->arena, list->n);
	for (size_t i = 0; i < list->n; i++)
		(*out)[i] = pod_metrics_out(&c->arena, &list->v[i]);
	return 0;
}

CRI_METHOD(list_metrics)
{
	CRI_OUT(ListPodSandboxMetricsResponse);

	(void)request;
	return metrics_listed(ctx, c, &out->n_pod_metrics, &out->pod_metrics, e);
}

CRI_METHOD(stream_metrics)
{
	CRI_T(PodSandboxMetrics) **metrics;
	size_t n;

	(void)request;
	(void)response;
	if (metrics_listed(ctx, c, &n, &metrics, e) < 0)
		return -1;
	return send_in_pieces(ctx, c, "pod_sandbox_metrics", metrics, n, e);
}
