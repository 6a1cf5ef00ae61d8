#include "fakes.h"

#include "base/clock.h"
#include "knarr.pb-c.h"
#include "test.h"

#include <signal.h>

#define RUNTIME "/runtime.v1.RuntimeService/"
#define IMAGES "/runtime.v1.ImageService/"

struct asked {
	struct call call;
	struct err e;
	void *response;
};

static void asked_end(struct asked *q)
{
	call_end(&q->call);
}
#define ASKED(q) AUTO(asked_end) struct asked q; call_begin(&q.call, 0); fake = (struct fake){ 0 }

#define assert_answers(q, path, request) assert_ok(ask(&(q).call, path, request, &(q).response, &(q).e), (q).e)
#define assert_refuses(q, path, request, kind, text) \
	assert_err(ask(&(q).call, path, request, &(q).response, &(q).e), (q).e, kind, text)

TEST(all_43_methods_are_there_once)
{
	size_t n = 0;

	for (const struct rpc_method *m = cri_methods; m->path; m++, n++)
		assert_ptr_equal(rpc_find(cri_methods, str_of(m->path)), m);
	assert_int_equal(n, 43);
}

TEST(methods_have_the_messages_of_the_protocol)
{
	static const ProtobufCServiceDescriptor *const services[] = {
		&runtime__v1__runtime_service__descriptor, &runtime__v1__image_service__descriptor,
	};

	for (size_t i = 0; i < ARRAY_SIZE(services); i++) {
		for (unsigned k = 0; k < services[i]->n_methods; k++) {
			const ProtobufCMethodDescriptor *d = &services[i]->methods[k];
			auto_arena a = { 0 };
			const struct rpc_method *m = rpc_find(
				cri_methods, str_of(arena_printf(&a, "/%s/%s", services[i]->name, d->name)));

			if (!m)
				fail_msg("no method %s", d->name);
			assert_ptr_equal(m->request, d->input);
			assert_ptr_equal(m->response, d->output);
			/* A stream, and nothing else, is named one. */
			assert_int_equal(!!(m->flags & RPC_STREAMING),
					 starts_with(d->name, "Stream") || streq(d->name, "GetContainerEvents"));
		}
	}
}

TEST(signals_go_by_number_both_ways)
{
	static const struct {
		int cri, kernel;
	} rows[] = { { 0, 0 }, { 1, SIGABRT }, { 8, SIGHUP }, { 10, SIGINT }, { 13, SIGKILL }, { 23, SIGTERM },
		     { 29, SIGUSR1 }, { 34, SIGXFSZ }, { 35, 34 }, { 50, 49 }, { 51, 50 }, { 65, 64 } };

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(signal_in((CRI_T(Signal))rows[i].cri), rows[i].kernel);
		assert_int_equal(signal_out(rows[i].kernel), rows[i].cri);
	}
	assert_int_equal(signal_in(RUNTIME__V1__SIGNAL__SIGNAL_SIGCLD), SIGCHLD);
	assert_int_equal(signal_in(RUNTIME__V1__SIGNAL__SIGNAL_SIGPOLL), SIGIO);
	assert_int_equal(signal_in((CRI_T(Signal))66), 0);
	assert_int_equal(signal_in((CRI_T(Signal))-1), 0);
	assert_int_equal(signal_out(32), 0);
}

static CRI_T(PodSandboxConfig) *pod_request(struct arena *a)
{
	CRI_T(PodSandboxConfig) *p = CRI_NEW(a, pod_sandbox_config);

	p->metadata = CRI_NEW(a, pod_sandbox_metadata);
	p->metadata->name = (char *)"web";
	p->metadata->uid = (char *)"u";
	p->metadata->namespace_ = (char *)"ns";
	p->linux = CRI_NEW(a, linux_pod_sandbox_config);
	p->linux->security_context = CRI_NEW(a, linux_sandbox_security_context);
	return p;
}

TEST(a_pod_becomes_a_wish)
{
	ASKED(q);
	struct arena *a = &q.call.arena;
	CRI_T(RunPodSandboxRequest) *in = CRI_NEW(a, run_pod_sandbox_request);
	CRI_T(PortMapping) *port = CRI_NEW(a, port_mapping);
	const struct config_port *p;

	in->config = pod_request(a);
	in->runtime_handler = (char *)"native";
	in->config->metadata->attempt = 4;
	port->protocol = RUNTIME__V1__PROTOCOL__UDP;
	port->host_port = 80;
	port->container_port = 8080;
	in->config->n_port_mappings = 1;
	in->config->port_mappings = &port;
	in->config->linux->cgroup_parent = (char *)"/kubepods";
	in->config->linux->security_context->privileged = true;
	assert_answers(q, RUNTIME "RunPodSandbox", in);
	assert_string_equal(((CRI_T(RunPodSandboxResponse) *)q.response)->pod_sandbox_id, "p1");
	assert_string_equal(fake.pod.namespace_, "ns");
	assert_int_equal(fake.pod.attempt, 4);
	assert_string_equal(fake.pod.handler, "native");
	assert_string_equal(fake.pod.cgroup_parent, "/kubepods");
	assert_true(fake.pod.privileged);
	assert_false(fake.pod.dns_given);
	assert_null(fake.pod.hostname);
	p = fake.pod.ports.p;
	assert_string_equal(p->protocol, "udp");
	assert_int_equal(p->container_port, 8080);
}

TEST(bad_pods_are_refused_by_field)
{
	ASKED(q);
	struct arena *a = &q.call.arena;
	CRI_T(RunPodSandboxRequest) *in = CRI_NEW(a, run_pod_sandbox_request);
	CRI_T(NamespaceOption) *ns = CRI_NEW(a, namespace_option);
	CRI_T(SecurityProfile) *profile = CRI_NEW(a, security_profile);

	assert_refuses(q, RUNTIME "RunPodSandbox", in, ERR_INVALID, "config is missing");
	in->config = pod_request(a);
	in->runtime_handler = (char *)"kata";
	assert_refuses(q, RUNTIME "RunPodSandbox", in, ERR_INVALID, "runtime_handler \"kata\"");
	in->runtime_handler = (char *)"";
	in->config->metadata->name = (char *)"";
	assert_refuses(q, RUNTIME "RunPodSandbox", in, ERR_INVALID, "config.metadata.name is empty");
	in->config->metadata->name = (char *)"web";
	in->config->windows = CRI_NEW(a, windows_pod_sandbox_config);
	assert_refuses(q, RUNTIME "RunPodSandbox", in, ERR_INVALID, "config.windows");
	in->config->windows = NULL;
	in->config->linux->security_context->namespace_options = ns;
	ns->network = RUNTIME__V1__NAMESPACE_MODE__CONTAINER;
	assert_refuses(q, RUNTIME "RunPodSandbox", in, ERR_INVALID, "namespace_options.network");
	ns->network = RUNTIME__V1__NAMESPACE_MODE__POD;
	ns->pid = (CRI_T(NamespaceMode))7;
	assert_refuses(q, RUNTIME "RunPodSandbox", in, ERR_INVALID, "namespace_options.pid: unknown mode 7");
	ns->pid = RUNTIME__V1__NAMESPACE_MODE__POD;
	ns->userns_options = CRI_NEW(a, user_namespace);
	assert_refuses(q, RUNTIME "RunPodSandbox", in, ERR_INVALID, "userns_options.uids: 0 mappings");
	ns->userns_options = NULL;
	in->config->linux->security_context->seccomp = profile;
	profile->profile_type = RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__Localhost;
	assert_refuses(q, RUNTIME "RunPodSandbox", in, ERR_INVALID, "seccomp.localhost_ref is empty");
}

static CRI_T(CreateContainerRequest) *container_request(struct arena *a)
{
	CRI_T(CreateContainerRequest) *in = CRI_NEW(a, create_container_request);

	in->pod_sandbox_id = (char *)"p1";
	in->config = CRI_NEW(a, container_config);
	in->config->metadata = CRI_NEW(a, container_metadata);
	in->config->metadata->name = (char *)"c";
	in->config->image = CRI_NEW(a, image_spec);
	in->config->image->image = (char *)"busybox";
	return in;
}

TEST(a_container_becomes_a_wish)
{
	ASKED(q);
	struct arena *a = &q.call.arena;
	CRI_T(CreateContainerRequest) *in = container_request(a);
	CRI_T(KeyValue) *env = CRI_NEW(a, key_value);
	CRI_T(LinuxContainerSecurityContext) *s = CRI_NEW(a, linux_container_security_context);
	const struct config_env *e;

	env->key = (char *)"RAW";
	env->value = (ProtobufCBinaryData){ 3, (uint8_t *)"\xff=\n" };
	in->config->n_envs = 1;
	in->config->envs = &env;
	in->config->stop_signal = RUNTIME__V1__SIGNAL__SIGNAL_SIGUSR1;
	assert_answers(q, RUNTIME "CreateContainer", in);
	e = fake.container.envs.p;
	assert_string_equal(e->value, "\xff=\n");
	assert_int_equal(fake.container.stop_signal, SIGUSR1);
	assert_non_null(fake.container.masked_paths); /* nobody thought of them: the defaults */
	in->config->linux = CRI_NEW(a, linux_container_config);
	in->config->linux->security_context = s;
	s->supplemental_groups_policy = RUNTIME__V1__SUPPLEMENTAL_GROUPS_POLICY__Strict;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
	s->seccomp_profile_path = (char *)"localhost//p/x.json";
	s->apparmor_profile = (char *)"unconfined";
#pragma GCC diagnostic pop
	assert_answers(q, RUNTIME "CreateContainer", in);
	assert_null(fake.container.masked_paths); /* said: none */
	assert_int_equal(fake.container.groups_policy, CONFIG_GROUPS_STRICT);
	assert_string_equal(fake.container.seccomp->localhost, "/p/x.json");
	assert_int_equal(fake.container.apparmor->type, CONFIG_PROFILE_UNCONFINED);
}

TEST(bad_containers_are_refused_by_field)
{
	ASKED(q);
	struct arena *a = &q.call.arena;
	CRI_T(CreateContainerRequest) *in = container_request(a);
	CRI_T(KeyValue) *env = CRI_NEW(a, key_value);
	CRI_T(Mount) *mount = CRI_NEW(a, mount);

	in->config->log_path = (char *)"a/../../x";
	assert_refuses(q, RUNTIME "CreateContainer", in, ERR_INVALID, "config.log_path");
	in->config->log_path = (char *)"";
	env->key = (char *)"A";
	env->value = (ProtobufCBinaryData){ 3, (uint8_t *)"x\0y" };
	in->config->n_envs = 1;
	in->config->envs = &env;
	assert_refuses(q, RUNTIME "CreateContainer", in, ERR_INVALID, "A has a NUL byte");
	in->config->n_envs = 0;
	in->config->n_mounts = 1;
	in->config->mounts = &mount;
	assert_refuses(q, RUNTIME "CreateContainer", in, ERR_INVALID, "config.mounts[0].container_path is empty");
	mount->container_path = (char *)"/x";
	assert_refuses(q, RUNTIME "CreateContainer", in, ERR_INVALID, "neither host_path nor image");
	mount->host_path = (char *)"/y";
	mount->recursive_read_only = true;
	assert_refuses(q, RUNTIME "CreateContainer", in, ERR_INVALID, "recursive_read_only wants readonly");
	in->config->n_mounts = 0;
	in->config->image->image = (char *)"";
	assert_refuses(q, RUNTIME "CreateContainer", in, ERR_INVALID, "config.image.image is empty");
	in->config->image = NULL;
	assert_refuses(q, RUNTIME "CreateContainer", in, ERR_INVALID, "config.image is missing");
	in->pod_sandbox_id = (char *)"";
	assert_refuses(q, RUNTIME "CreateContainer", in, ERR_INVALID, "pod_sandbox_id is empty");
}

TEST(filters_are_passed_on_and_views_are_let_go)
{
	static struct json_pair labels[] = { { (char *)"a", (char *)"\x01 é" } };
	static struct pod_config config = { .name = (char *)"web", .annotations = { labels, 1 } };
	struct map_entry *entry;
	{
		ASKED(q);
		struct arena *a = &q.call.arena;
		CRI_T(ListPodSandboxRequest) *in = CRI_NEW(a, list_pod_sandbox_request);
		CRI_T(ListPodSandboxResponse) *out;

		fake.npods = 2;
		fake.pods[0] = (struct pod_view){ .id = "p1", .state = POD_READY, .config = &config };
		fake.pods[1] = (struct pod_view){ .id = "p2", .state = POD_STOPPED, .config = &config };
		in->filter = CRI_NEW(a, pod_sandbox_filter);
		in->filter->id = (char *)"abc";
		in->filter->state = CRI_NEW(a, pod_sandbox_state_value);
		in->filter->state->state = RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_NOTREADY;
		in->filter->n_label_selector = 1;
		entry = message_new(a, &runtime__v1__pod_sandbox_filter__label_selector_entry__descriptor);
		entry->key = (char *)"k";
		entry->value = (char *)"v";
		in->filter->label_selector = (void *)&entry;
		assert_answers(q, RUNTIME "ListPodSandbox", in);
		assert_string_equal(fake.pod_filter.id, "abc");
		assert_false(*fake.pod_filter.ready);
		assert_string_equal(json_map_get(fake.pod_filter.labels, "k"), "v");
		out = q.response;
		assert_int_equal(out->n_items, 2);
		assert_int_equal(out->items[0]->state, RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_READY);
		assert_int_equal(out->items[1]->state, RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_NOTREADY);
		assert_string_equal(out->items[0]->annotations[0]->value, "\x01 é");
		assert_int_equal(fake.releases, 0); /* the answer still points there */
	}
	assert_int_equal(fake.releases, 2);
}

static const int64_t groups[] = { 5, 6 };
static struct container_config container_wish = { .name = (char *)"c", .image = (char *)"sha256:1" };

static void play_container(void)
{
	static char *tags[] = { (char *)"docker.io/library/busybox:latest", NULL };

	fake.ncontainers = 1;
	fake.containers[0] = (struct container_view){
		.id = "c1", .pod_id = "p1", .state = CONTAINER_EXITED, .config = &container_wish, .image_id = "sha256:1",
		.log_path = "/l", .started_wall_ns = 2, .finished_wall_ns = 3, .exit_code = 137, .reason = "OOMKilled",
		.message = "", .user = { 5, 6, groups, 2 }, .stop_signal = SIGINT,
	};
	fake.has_image = true;
	fake.image = (struct image){ .id = (char *)"sha256:1", .tags = tags, .size_bytes = 9, .user = (char *)"1000:5" };
	fake.resources.memory_bytes = 77;
}

TEST(a_container_is_shown_whole)
{
	ASKED(q);
	CRI_T(ContainerStatusRequest) *in = CRI_NEW(&q.call.arena, container_status_request);
	CRI_T(ContainerStatus) *s;

	play_container();
	in->container_id = (char *)"c1";
	in->verbose = true;
	assert_answers(q, RUNTIME "ContainerStatus", in);
	s = ((CRI_T(ContainerStatusResponse) *)q.response)->status;
	assert_int_equal(s->state, RUNTIME__V1__CONTAINER_STATE__CONTAINER_EXITED);
	assert_string_equal(s->image_id, "sha256:1");
	assert_string_equal(s->image_ref, "sha256:1");
	assert_string_equal(s->image->image, "docker.io/library/busybox:latest");
	assert_string_equal(s->reason, "OOMKilled");
	assert_int_equal(s->exit_code, 137);
	assert_int_equal(s->user->linux->n_supplemental_groups, 2);
	assert_int_equal(s->stop_signal, RUNTIME__V1__SIGNAL__SIGNAL_SIGINT);
	assert_int_equal(s->resources->linux->memory_limit_in_bytes, 77);
	assert_non_null(strstr(((CRI_T(ContainerStatusResponse) *)q.response)->info[0]->value, "\"sandboxID\":\"p1\""));
	assert_non_null(strstr(((CRI_T(ContainerStatusResponse) *)q.response)->info[0]->value,
			       "\"oomKilled\":false,\"runtimeSpec\":{\"ociVersion\":\"1.0.2\"}}"));
}

/* What `kubectl get pod -o yaml` shows as imageID. */
TEST(a_containers_image_ref_is_the_digest_of_the_name_it_has)
{
	static char *digests[] = { (char *)"example.org/lib/busybox@sha256:a", (char *)"docker.io/library/busybox@sha256:b",
				   NULL };
	ASKED(q);
	CRI_T(ContainerStatusRequest) *in = CRI_NEW(&q.call.arena, container_status_request);
	CRI_T(ContainerStatus) *s;

	play_container();
	fake.image.digests = digests;
	in->container_id = (char *)"c1";
	assert_answers(q, RUNTIME "ContainerStatus", in);
	s = ((CRI_T(ContainerStatusResponse) *)q.response)->status;
	assert_string_equal(s->image_id, "sha256:1");
	assert_string_equal(s->image_ref, "docker.io/library/busybox@sha256:b");
}

TEST(exec_output_fits_in_a_message)
{
	static char zeros[RPC_MESSAGE_MAX];
	static const struct {
		size_t out, err;
	} rows[] = { { 10, 20 }, { RPC_MESSAGE_MAX, 10 }, { 10, RPC_MESSAGE_MAX }, { RPC_MESSAGE_MAX, RPC_MESSAGE_MAX } };

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		ASKED(q);
		CRI_T(ExecSyncRequest) *in = CRI_NEW(&q.call.arena, exec_sync_request);
		CRI_T(ExecSyncResponse) *out;
		char *cmd[] = { (char *)"true" };

		in->container_id = (char *)"c1";
		in->n_cmd = 1;
		in->cmd = cmd;
		in->timeout = 3;
		fake.exec = (struct exec_result){ 4, { zeros, rows[i].out }, { zeros, rows[i].err } };
		assert_answers(q, RUNTIME "ExecSync", in);
		out = q.response;
		assert_int_equal(out->exit_code, 4);
		assert_int_equal(fake.ns, 3 * NS_PER_S);
		assert_null(fake.argv[1]);
		assert_true(out->stdout.len >= MIN(rows[i].out, RPC_MESSAGE_MAX / 2 - 1024));
		assert_true(out->stderr.len >= MIN(rows[i].err, RPC_MESSAGE_MAX / 2 - 1024));
	}
}

TEST(grace_is_never_negative_nor_overflows)
{
	static const struct {
		int64_t seconds, ns;
	} rows[] = { { 0, 0 }, { -5, 0 }, { 2, 2 * NS_PER_S }, { INT64_MAX, INT64_MAX } };

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		ASKED(q);
		CRI_T(StopContainerRequest) *in = CRI_NEW(&q.call.arena, stop_container_request);

		in->container_id = (char *)"c1";
		in->timeout = rows[i].seconds;
		assert_answers(q, RUNTIME "StopContainer", in);
		assert_int_equal(fake.ns, rows[i].ns);
	}
}

TEST(stats_tell_only_what_the_kernel_told)
{
	ASKED(q);
	CRI_T(ContainerStatsRequest) *in = CRI_NEW(&q.call.arena, container_stats_request);
	CRI_T(ContainerStats) *s;

	play_container();
	in->container_id = (char *)"c1";
	assert_answers(q, RUNTIME "ContainerStats", in);
	s = ((CRI_T(ContainerStatsResponse) *)q.response)->stats;
	assert_int_equal(s->cpu->usage_core_nano_seconds->value, 7);
	assert_null(s->cpu->usage_nano_cores);
	assert_int_equal(s->cpu->psi->some->total, 1);
	assert_null(s->swap);
	assert_null(s->writable_layer);
}

static const CRI_T(MetricDescriptor) *described(const CRI_T(ListMetricDescriptorsResponse) *all, const char *name)
{
	const CRI_T(MetricDescriptor) *found = NULL;

	for (size_t i = 0; i < all->n_descriptors; i++) {
		if (!streq(all->descriptors[i]->name, name))
			continue;
		assert_null(found);
		found = all->descriptors[i];
	}
	return found;
}

static size_t count_described(const CRI_T(ListMetricDescriptorsResponse) *all, CRI_T(Metric) *const *m, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const CRI_T(MetricDescriptor) *d = described(all, m[i]->name);

		assert_non_null(d);
		assert_int_equal(d->n_label_keys, m[i]->n_label_values);
		assert_int_equal(m[i]->timestamp, 0);
	}
	return n;
}

TEST(every_metric_is_described_with_as_many_labels)
{
	struct metrics_disk disk = { .name = "/dev/sda", .major = 8, .read_bytes = 5 };
	struct metrics_hugepages huge = { .page_size = "2MB", .has_max = true };
	struct pod_network_usage eth = { .interface = "eth0", .rx_bytes = 1 };
	struct container_metrics k;
	const CRI_T(PodSandboxMetrics) *out;
	const CRI_T(ContainerMetrics) *of;
	ASKED(q);
	ASKED(listed);

	play_container();
	fake.containers[0].pod_config = &(struct pod_config){ .name = (char *)"web", .namespace_ = (char *)"ns" };
	k = (struct container_metrics){ .view = fake.containers[0], .cgroup = "/pod/c1", .has = ~0u, .disks = &disk, .ndisks = 1,
					.hugepages = &huge, .nhugepages = 1, .fs_device = "/dev/sda",
					.values = { .cpu_ns = 2500000000 } };
	fake.metrics = (struct pod_metrics){
		.view = { .id = "p1", .config = fake.containers[0].pod_config }, .cgroup = "/pod", .has = METRICS_CPU,
		.interfaces = &eth, .ninterfaces = 1, .containers = &k, .ncontainers = 1,
	};
	assert_answers(q, RUNTIME "ListMetricDescriptors", CRI_NEW(&q.call.arena, list_metric_descriptors_request));
	assert_answers(listed, RUNTIME "ListPodSandboxMetrics", CRI_NEW(&listed.call.arena, list_pod_sandbox_metrics_request));
	out = ((CRI_T(ListPodSandboxMetricsResponse) *)listed.response)->pod_metrics[0];
	of = out->container_metrics[0];
	assert_int_equal(count_described(q.response, out->metrics, out->n_metrics), 3 + 8);
	/* Faults have four values, a disk's operations two; the network is the pod's. */
	assert_int_equal(count_described(q.response, of->metrics, of->n_metrics),
			 ((CRI_T(ListMetricDescriptorsResponse) *)q.response)->n_descriptors - 8 + 3 + 1);
	assert_string_equal(of->metrics[2]->name, "container_cpu_usage_seconds_total");
	assert_int_equal(of->metrics[2]->value->value, 2);
	assert_string_equal(of->metrics[2]->label_values[1], "/pod/c1");
	assert_string_equal(of->metrics[2]->label_values[6], "total");
}

TEST(a_container_that_has_ended_has_no_metrics)
{
	struct container_metrics k = { .cgroup = "" };
	ASKED(q);

	play_container();
	k.view = fake.containers[0];
	fake.metrics = (struct pod_metrics){ .view = { .id = "p1", .config = &(struct pod_config){ 0 } }, .cgroup = "",
					     .containers = &k, .ncontainers = 1 };
	assert_answers(q, RUNTIME "ListPodSandboxMetrics", CRI_NEW(&q.call.arena, list_pod_sandbox_metrics_request));
	assert_int_equal(((CRI_T(ListPodSandboxMetricsResponse) *)q.response)->pod_metrics[0]->n_container_metrics, 0);
}

static void assert_crio_answer(const char *path, const char *want)
{
	const struct cri cri = { .root = "/root" };
	auto_arena a = { 0 };
	auto_buf json = { 0 };
	struct err e;

	assert_ok(crio_answer(&cri, &a, str_of(path), &json, &e), e);
	assert_string_equal(buf_text(&json), want);
}

TEST(cadvisor_learns_whose_a_cgroup_is)
{
	static char *ips[] = { (char *)"10.0.0.1", (char *)"fd00::1", NULL };
	struct json_pair labels[] = { { (char *)"app", (char *)"web" },
				      { (char *)"io.kubernetes.container.name", (char *)"mine" } };
	struct pod_config pod = { .labels = { labels, 2 } };
	struct container_config container = { .image = (char *)"sha256:1", .image_user_specified = (char *)"busybox",
					      .labels = { labels, 1 }, .annotations = { labels, 1 } };
	const struct cri cri = { .root = "/root" };
	auto_arena a = { 0 };
	auto_buf json = { 0 };
	struct err e;

	fake = (struct fake){ 0 };
	fake.pods[0] = (struct pod_view){ .id = "p1", .config = &pod, .monitor_pid = 7, .ips = ips, .created_wall_ns = 5 };
	fake.containers[0] = (struct container_view){ .id = "c1", .config = &container, .pid = 8 };
	assert_crio_answer("/info", "{\"storage_driver\":\"knarr\",\"storage_root\":\"/root\",\"cgroup_driver\":\"cgroupfs\"}");
	assert_crio_answer("/containers/p1", "{\"name\":\"p1\",\"pid\":7,\"created_time\":5,\"labels\":{\"app\":\"web\","
			   "\"io.kubernetes.container.name\":\"POD\"},\"annotations\":{},\"ip_address\":\"10.0.0.1\","
			   "\"ip_addresses\":[\"10.0.0.1\",\"fd00::1\"]}");
	assert_crio_answer("/containers/c1", "{\"name\":\"c1\",\"pid\":8,\"image\":\"busybox\",\"labels\":{\"app\":\"web\"},"
			   "\"annotations\":{\"app\":\"web\"}}");
	assert_err(crio_answer(&cri, &a, STR("/containers/x"), &json, &e), e, ERR_NOT_FOUND, "x");
	assert_err(crio_answer(&cri, &a, STR("/containers"), &json, &e), e, ERR_NOT_FOUND, "/containers");
}

TEST(images_have_one_id_and_a_user_that_is_number_or_name)
{
	ASKED(q);
	CRI_T(ImageStatusRequest) *in = CRI_NEW(&q.call.arena, image_status_request);
	CRI_T(ImageStatusResponse) *out;

	in->image = CRI_NEW(&q.call.arena, image_spec);
	in->image->image = (char *)"busybox";
	assert_answers(q, IMAGES "ImageStatus", in);
	assert_null(((CRI_T(ImageStatusResponse) *)q.response)->image);
	play_container();
	assert_answers(q, IMAGES "ImageStatus", in);
	out = q.response;
	assert_string_equal(out->image->id, "sha256:1");
	assert_int_equal(out->image->uid->value, 1000);
	assert_string_equal(out->image->username, "");
	fake.image.user = (char *)"app:app";
	assert_answers(q, IMAGES "ImageStatus", in);
	out = q.response;
	assert_null(out->image->uid);
	assert_string_equal(out->image->username, "app");
}

TEST(credentials_reach_the_pull)
{
	ASKED(q);
	CRI_T(PullImageRequest) *in = CRI_NEW(&q.call.arena, pull_image_request);

	in->image = CRI_NEW(&q.call.arena, image_spec);
	in->image->image = (char *)"busybox";
	in->auth = CRI_NEW(&q.call.arena, auth_config);
	in->auth->username = (char *)"me";
	assert_answers(q, IMAGES "PullImage", in);
	assert_string_equal(((CRI_T(PullImageResponse) *)q.response)->image_ref, "sha256:1");
	assert_string_equal(fake.pull.auth->username, "me");
	assert_null(fake.pull.auth->password);
}

TEST(an_image_in_use_stays)
{
	ASKED(q);
	CRI_T(RemoveImageRequest) *in = CRI_NEW(&q.call.arena, remove_image_request);

	in->image = CRI_NEW(&q.call.arena, image_spec);
	in->image->image = (char *)"busybox";
	assert_answers(q, IMAGES "RemoveImage", in); /* absent is success */
	play_container();
	fake.image_in_use = true;
	assert_refuses(q, IMAGES "RemoveImage", in, ERR_STATE, "in use");
	fake.image_in_use = false;
	assert_answers(q, IMAGES "RemoveImage", in);
	assert_string_equal(fake.removed_image, "sha256:1"); /* with all its names */
}

TEST(streams_send_what_lists_list)
{
	ASKED(q);
	static struct pod_config config = { .name = (char *)"web" };
	CRI_T(StreamPodSandboxesRequest) *in = CRI_NEW(&q.call.arena, stream_pod_sandboxes_request);

	assert_answers(q, RUNTIME "StreamPodSandboxes", in);
	assert_int_equal(nsent, 0);
	fake.npods = 2;
	fake.pods[0] = fake.pods[1] = (struct pod_view){ .id = "p1", .state = POD_READY, .config = &config };
	assert_answers(q, RUNTIME "StreamPodSandboxes", in);
	assert_int_equal(nsent, 1);
	assert_int_equal(((const CRI_T(StreamPodSandboxesResponse) *)sent[0])->n_pod_sandboxes, 2);
}

TEST(large_lists_are_streamed_in_pieces)
{
	ASKED(q);
	static char text[700 * 1024];
	static struct json_pair big = { (char *)"big", text };
	static struct pod_config config = { .name = (char *)"web", .annotations = { &big, 1 } };
	CRI_T(StreamPodSandboxesRequest) *in = CRI_NEW(&q.call.arena, stream_pod_sandboxes_request);

	memset(text, 'x', sizeof(text) - 1);
	fake.npods = 3;
	fake.pods[0] = fake.pods[1] = fake.pods[2] = (struct pod_view){ .id = "p", .config = &config };
	assert_answers(q, RUNTIME "StreamPodSandboxes", in);
	assert_int_equal(nsent, 2);
	assert_int_equal(((const CRI_T(StreamPodSandboxesResponse) *)sent[0])->n_pod_sandboxes, 2);
	assert_int_equal(((const CRI_T(StreamPodSandboxesResponse) *)sent[1])->n_pod_sandboxes, 1);
}

TEST(status_tells_why_it_is_not_ready)
{
	ASKED(q);
	CRI_T(StatusRequest) *in = CRI_NEW(&q.call.arena, status_request);
	CRI_T(StatusResponse) *out;

	assert_answers(q, RUNTIME "Status", in);
	out = q.response;
	assert_true(out->status->conditions[0]->status);
	assert_true(out->status->conditions[1]->status);
	assert_int_equal(out->n_runtime_handlers, 2);
	assert_string_equal(out->runtime_handlers[0]->name, "");
	assert_true(out->runtime_handlers[0]->features->user_namespaces);
	assert_true(out->features->supplemental_groups_policy);
	fake.not_ready = true;
	assert_answers(q, RUNTIME "Status", in);
	out = q.response;
	assert_false(out->status->conditions[1]->status);
	assert_string_equal(out->status->conditions[1]->type, "NetworkReady");
	assert_string_equal(out->status->conditions[1]->message, "no network is configured");
}

TEST(the_pod_range_is_checked)
{
	static const struct {
		const char *cidr;
		bool good;
	} rows[] = { { "", true }, { "10.0.0.0/8", true }, { "10.0.0.0/8,fd00::/64", true }, { "10.0.0.0", false },
		     { "10.0.0.0/33", false }, { "fd00::/129", false }, { "x/8", false }, { "10.0.0.0/8,", false } };

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		ASKED(q);
		CRI_T(UpdateRuntimeConfigRequest) *in = CRI_NEW(&q.call.arena, update_runtime_config_request);

		in->runtime_config = CRI_NEW(&q.call.arena, runtime_config);
		in->runtime_config->network_config = CRI_NEW(&q.call.arena, network_config);
		in->runtime_config->network_config->pod_cidr = (char *)rows[i].cidr;
		if (rows[i].good)
			assert_answers(q, RUNTIME "UpdateRuntimeConfig", in);
		else
			assert_refuses(q, RUNTIME "UpdateRuntimeConfig", in, ERR_INVALID, "pod_cidr");
	}
}

TEST(exec_and_attach_answer_a_url_for_a_running_container)
{
	ASKED(q);
	char *cmd[] = { (char *)"sh", (char *)"-c", (char *)"true" };
	CRI_T(ExecRequest) *in = CRI_NEW(&q.call.arena, exec_request);
	CRI_T(AttachRequest) *attach = CRI_NEW(&q.call.arena, attach_request);

	play_container();
	in->container_id = attach->container_id = (char *)"c";
	assert_refuses(q, RUNTIME "Exec", in, ERR_INVALID, "cmd is empty");
	in->cmd = cmd;
	in->n_cmd = 3;
	assert_refuses(q, RUNTIME "Exec", in, ERR_INVALID, "one of stdin, stdout and stderr");
	in->tty = in->stderr = true;
	assert_refuses(q, RUNTIME "Exec", in, ERR_INVALID, "tty and stderr");
	in->stderr = false;
	in->stdin = in->stdout = true;
	assert_refuses(q, RUNTIME "Exec", in, ERR_STATE, "it must be running");
	fake.containers[0].state = CONTAINER_RUNNING;
	assert_answers(q, RUNTIME "Exec", in);
	assert_string_equal(((CRI_T(ExecResponse) *)q.response)->url, "http://127.0.0.1:1/exec/t");
	assert_string_equal(fake.wish.container, "c1"); /* the ID in full: prefixes may come to mean another */
	assert_string_equal(fake.wish.argv[2], "true");
	assert_true(fake.wish.tty && fake.wish.in && fake.wish.out && !fake.wish.err);
	attach->stderr = true;
	assert_answers(q, RUNTIME "Attach", attach);
	assert_true(!fake.wish.argv && fake.wish.err && !fake.wish.in);
}

TEST(port_forward_answers_a_url_for_a_ready_pod)
{
	ASKED(q);
	static struct pod_config config = { .name = (char *)"web" };
	int32_t ports[] = { 80, 65536 };
	CRI_T(PortForwardRequest) *in = CRI_NEW(&q.call.arena, port_forward_request);

	fake.npods = 1;
	fake.pods[0] = (struct pod_view){ .id = "p1", .state = POD_STOPPED, .config = &config };
	in->pod_sandbox_id = (char *)"p";
	in->port = ports;
	in->n_port = 2;
	assert_refuses(q, RUNTIME "PortForward", in, ERR_INVALID, "port[1]: 65536");
	in->n_port = 1;
	assert_refuses(q, RUNTIME "PortForward", in, ERR_STATE, "not ready");
	fake.pods[0].state = POD_READY;
	assert_answers(q, RUNTIME "PortForward", in);
	assert_string_equal(fake.ports.pod_id, "p1");
	assert_int_equal(fake.ports.ports[0], 80);
}

TEST(a_checkpoint_has_a_place_and_seconds)
{
	ASKED(q);
	CRI_T(CheckpointContainerRequest) *in = CRI_NEW(&q.call.arena, checkpoint_container_request);

	in->container_id = (char *)"c1";
	assert_refuses(q, RUNTIME "CheckpointContainer", in, ERR_INVALID, "location");
	in->location = (char *)"/a.tar";
	in->timeout = 3;
	assert_answers(q, RUNTIME "CheckpointContainer", in);
	assert_string_equal(fake.location, "/a.tar");
	assert_int_equal(fake.ns, 3 * NS_PER_S);
}

TEST(what_comes_later_says_when)
{
	ASKED(q);

	assert_refuses(q, RUNTIME "RestorePod", CRI_NEW(&q.call.arena, restore_pod_request), ERR_UNIMPLEMENTED,
		       "checkpoint release");
}

TEST(events_carry_the_pods_status)
{
	ASKED(q);
	static struct pod_config config = { .name = (char *)"web" };

	play_container();
	fake.npods = 1;
	fake.pods[0] = (struct pod_view){ .id = "p1", .state = POD_READY, .config = &config };
	assert_refuses(q, RUNTIME "GetContainerEvents", CRI_NEW(&q.call.arena, get_events_request), ERR_CANCELLED,
		       "hung up");
	assert_int_equal(nsent, 1);
	assert_int_equal(fake.holds, fake.releases);
}

TEST(a_pull_tells_how_far_it_is)
{
	ASKED(q);
	Knarr__V1__PullImageRequest in = KNARR__V1__PULL_IMAGE_REQUEST__INIT;
	const Knarr__V1__PullImageProgress *last;

	in.reference = (char *)"busybox";
	assert_answers(q, "/knarr.v1.Knarr/PullImage", &in);
	assert_true(nsent >= 1);
	last = (const Knarr__V1__PullImageProgress *)sent[nsent - 1];
	assert_string_equal(last->image_id, "sha256:1");
	assert_int_equal(last->bytes_total, 20);
}

TEST(waiting_ends_with_the_exit)
{
	ASKED(q);
	Knarr__V1__WaitContainerRequest in = KNARR__V1__WAIT_CONTAINER_REQUEST__INIT;

	in.container_id = (char *)"c1";
	assert_refuses(q, "/knarr.v1.Knarr/WaitContainer", &in, ERR_NOT_FOUND, "c1");
	play_container();
	assert_answers(q, "/knarr.v1.Knarr/WaitContainer", &in);
	assert_int_equal(((Knarr__V1__WaitContainerResponse *)q.response)->exit_code, 137);
}
