#include "cri/parts.h"

#include "base/clock.h"

CRI_METHOD(run_pod)
{
	CRI_IN(RunPodSandboxRequest);
	CRI_OUT(RunPodSandboxResponse);
	struct pod_config config;
	const char *id;

	if (handler_check(ctx, in->runtime_handler, e) < 0 ||
	    pod_config_in(&c->arena, in->config, in->runtime_handler, &config, e) < 0 ||
	    pod_run(cri_of(ctx)->pods, c, owner_of(ctx), &config, &id, e) < 0)
		return -1;
	out->pod_sandbox_id = text_out(id);
	return 0;
}

CRI_METHOD(stop_pod)
{
	CRI_IN(StopPodSandboxRequest);

	(void)response;
	if (require(in->pod_sandbox_id, "pod_sandbox_id", e) < 0)
		return -1;
	return pod_stop(cri_of(ctx)->pods, c, owner_of(ctx), in->pod_sandbox_id, e);
}

CRI_METHOD(remove_pod)
{
	CRI_IN(RemovePodSandboxRequest);

	(void)response;
	if (require(in->pod_sandbox_id, "pod_sandbox_id", e) < 0)
		return -1;
	return pod_remove(cri_of(ctx)->pods, c, owner_of(ctx), in->pod_sandbox_id, e);
}

/* CNI CHECK; what plugins find is for a person to read. */
static const char *network_info(const struct rpc_context *ctx, struct call *c, const struct pod_view *v)
{
	struct err e;

	if (!pod_view_is_ready(v) || !v->ips)
		return "none";
	return net_check(cri_of(ctx)->net, c, v->id, v->netns_path, &e) < 0 ? arena_strdup(&c->arena, e.msg) : "as added";
}

static void pod_info(const struct rpc_context *ctx, struct call *c, const struct pod_view *v,
		     CRI_T(PodSandboxStatusResponse) *out)
{
	struct arena *a = &c->arena;
	struct info info;

	info_begin(&info, a);
	info_number(&info, "pid", v->monitor_pid);
	info_text(&info, "state", pod_state_name[v->state]);
	info_text(&info, "reason", v->reason);
	info_text(&info, "netns", v->netns_path);
	info_list(&info, "ips", v->ips);
	info_text(&info, "network", network_info(ctx, c, v));
	info_text(&info, "cgroupParent", v->config->cgroup_parent);
	info_text(&info, "logDirectory", v->config->log_directory);
	info_text(&info, "hostname", v->config->hostname);
	info_text(&info, "runtimeHandler", v->handler);
	info_end(&info, &out->base);
}

/* The statuses of the pod's containers, which evented PLEG reads instead of asking for each. */
static int containers_of_pod(const struct rpc_context *ctx, struct call *c, const char *pod_id, size_t *n,
			     CRI_T(ContainerStatus) ***out, struct err *e)
{
	const struct container_filter filter = { .pod_id = pod_id };
	struct container_views *views = hold_containers(c);

	if (container_list(cri_of(ctx)->pods, &c->arena, owner_of(ctx), &filter, views, e) < 0)
		return -1;
	*n = views->n;
	*out = CRI_NEWV(&c->arena, views->n);
	for (size_t i = 0; i < views->n; i++)
		(*out)[i] = container_status_out(ctx, &c->arena, &views->v[i]);
	return 0;
}

CRI_METHOD(pod_status)
{
	CRI_IN(PodSandboxStatusRequest);
	CRI_OUT(PodSandboxStatusResponse);
	struct pod_views *views = hold_pods(c);

	if (require(in->pod_sandbox_id, "pod_sandbox_id", e) < 0 ||
	    pod_status(cri_of(ctx)->pods, &c->arena, owner_of(ctx), in->pod_sandbox_id, views, e) < 0)
		return -1;
	out->timestamp = clock_wall_ns();
	out->status = pod_status_out(&c->arena, &views->v[0]);
	if (containers_of_pod(ctx, c, views->v[0].id, &out->n_containers_statuses, &out->containers_statuses, e) < 0)
		return -1;
	if (in->verbose)
		pod_info(ctx, c, &views->v[0], out);
	return 0;
}

static int pods_listed(struct rpc_context *ctx, struct call *c, const CRI_T(PodSandboxFilter) *filter, size_t *n,
		       CRI_T(PodSandbox) ***out, struct err *e)
{
	struct pod_views *views = hold_pods(c);

	if (pod_list(cri_of(ctx)->pods, &c->arena, owner_of(ctx), pod_filter_in(&c->arena, filter), views, e) < 0)
		return -1;
	*n = views->n;
	*out = CRI_NEWV(&c->arena, views->n);
	for (size_t i = 0; i < views->n; i++)
		(*out)[i] = pod_out(&c->arena, &views->v[i]);
	return 0;
}

CRI_METHOD(list_pods)
{
	CRI_IN(ListPodSandboxRequest);
	CRI_OUT(ListPodSandboxResponse);

	return pods_listed(ctx, c, in->filter, &out->n_items, &out->items, e);
}

CRI_METHOD(stream_pods)
{
	CRI_IN(StreamPodSandboxesRequest);
	CRI_T(PodSandbox) **pods;
	size_t n;

	(void)response;
	if (pods_listed(ctx, c, in->filter, &n, &pods, e) < 0)
		return -1;
	return send_in_pieces(ctx, c, "pod_sandboxes", pods, n, e);
}

CRI_METHOD(update_pod)
{
	CRI_IN(UpdatePodSandboxResourcesRequest);

	(void)response;
	if (require(in->pod_sandbox_id, "pod_sandbox_id", e) < 0)
		return -1;
	return pod_update_resources(cri_of(ctx)->pods, owner_of(ctx), in->pod_sandbox_id,
				    resources_in(&c->arena, in->overhead), resources_in(&c->arena, in->resources), e);
}
