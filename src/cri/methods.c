/* The tables: which function answers which path. */
#include "cri/parts.h"

#include "knarr.pb-c.h"

#define ROW(service, name, fn, req, res, how)                                        \
	{ "/runtime.v1." #service "/" #name, &runtime__v1__##req##__descriptor,      \
	  &runtime__v1__##res##__descriptor, cri_##fn, how }
#define RUNTIME(name, fn, req, res, how) ROW(RuntimeService, name, fn, req, res, how)
#define IMAGE(name, fn, req, res, how) ROW(ImageService, name, fn, req, res, how)

enum { FAST = RPC_RESERVED_LANE, STREAM = RPC_STREAMING };

const struct rpc_method cri_methods[] = {
	RUNTIME(Version, version, version_request, version_response, FAST | RPC_ANYTIME),
	RUNTIME(Status, status, status_request, status_response, FAST),
	RUNTIME(ListPodSandbox, list_pods, list_pod_sandbox_request, list_pod_sandbox_response, FAST),
	RUNTIME(ListContainers, list_containers, list_containers_request, list_containers_response, FAST),
	RUNTIME(PodSandboxStatus, pod_status, pod_sandbox_status_request, pod_sandbox_status_response, FAST),
	RUNTIME(ContainerStatus, container_status, container_status_request, container_status_response, FAST),
	RUNTIME(ExecSync, exec_sync, exec_sync_request, exec_sync_response, 0),
	RUNTIME(RunPodSandbox, run_pod, run_pod_sandbox_request, run_pod_sandbox_response, 0),
	RUNTIME(StopPodSandbox, stop_pod, stop_pod_sandbox_request, stop_pod_sandbox_response, 0),
	RUNTIME(RemovePodSandbox, remove_pod, remove_pod_sandbox_request, remove_pod_sandbox_response, 0),
	RUNTIME(CreateContainer, create_container, create_container_request, create_container_response, 0),
	RUNTIME(StartContainer, start_container, start_container_request, start_container_response, 0),
	RUNTIME(StopContainer, stop_container, stop_container_request, stop_container_response, 0),
	RUNTIME(RemoveContainer, remove_container, remove_container_request, remove_container_response, 0),
	RUNTIME(UpdateContainerResources, update_container, update_container_resources_request,
		update_container_resources_response, 0),
	RUNTIME(ReopenContainerLog, reopen_log, reopen_container_log_request, reopen_container_log_response, 0),
	RUNTIME(ContainerStats, container_stats, container_stats_request, container_stats_response, 0),
	RUNTIME(ListContainerStats, list_container_stats, list_container_stats_request,
		list_container_stats_response, 0),
	RUNTIME(PodSandboxStats, pod_stats, pod_sandbox_stats_request, pod_sandbox_stats_response, 0),
	RUNTIME(ListPodSandboxStats, list_pod_stats, list_pod_sandbox_stats_request,
		list_pod_sandbox_stats_response, 0),
	RUNTIME(UpdateRuntimeConfig, update_runtime_config, update_runtime_config_request,
		update_runtime_config_response, 0),
	RUNTIME(RuntimeConfig, runtime_config, runtime_config_request, runtime_config_response, FAST | RPC_ANYTIME),
	RUNTIME(UpdatePodSandboxResources, update_pod, update_pod_sandbox_resources_request,
		update_pod_sandbox_resources_response, 0),
	RUNTIME(StreamPodSandboxes, stream_pods, stream_pod_sandboxes_request, stream_pod_sandboxes_response,
		STREAM),
	RUNTIME(StreamContainers, stream_containers, stream_containers_request, stream_containers_response, STREAM),
	RUNTIME(StreamContainerStats, stream_container_stats, stream_container_stats_request,
		stream_container_stats_response, STREAM),
	RUNTIME(StreamPodSandboxStats, stream_pod_stats, stream_pod_sandbox_stats_request,
		stream_pod_sandbox_stats_response, STREAM),
	RUNTIME(GetContainerEvents, events, get_events_request, container_event_response, STREAM),

	RUNTIME(Exec, exec, exec_request, exec_response, 0),
	RUNTIME(Attach, attach, attach_request, attach_response, 0),
	RUNTIME(PortForward, port_forward, port_forward_request, port_forward_response, 0),
	RUNTIME(CheckpointContainer, checkpoint_container, checkpoint_container_request, checkpoint_container_response, 0),
	RUNTIME(CheckpointPod, later, checkpoint_pod_request, checkpoint_pod_response, 0),
	RUNTIME(RestorePod, later, restore_pod_request, restore_pod_response, 0),
	RUNTIME(ListMetricDescriptors, metric_descriptors, list_metric_descriptors_request,
		list_metric_descriptors_response, 0),
	RUNTIME(ListPodSandboxMetrics, list_metrics, list_pod_sandbox_metrics_request, list_pod_sandbox_metrics_response,
		0),
	RUNTIME(StreamPodSandboxMetrics, stream_metrics, stream_pod_sandbox_metrics_request,
		stream_pod_sandbox_metrics_response, STREAM),

	IMAGE(ListImages, list_images, list_images_request, list_images_response, FAST),
	IMAGE(StreamImages, stream_images, stream_images_request, stream_images_response, STREAM),
	IMAGE(ImageStatus, image_status, image_status_request, image_status_response, FAST),
	IMAGE(PullImage, pull_image, pull_image_request, pull_image_response, 0),
	IMAGE(RemoveImage, remove_image, remove_image_request, remove_image_response, 0),
	IMAGE(ImageFsInfo, image_fs_info, image_fs_info_request, image_fs_info_response, 0),
	{ 0 },
};

#define KNARR(name, fn, req, res, how)                                               \
	{ "/knarr.v1.Knarr/" #name, &knarr__v1__##req##__descriptor, &knarr__v1__##res##__descriptor, \
	  cri_##fn, how }

const struct rpc_method cri_knarr_methods[] = {
	KNARR(PullImage, pull_with_progress, pull_image_request, pull_image_progress, STREAM),
	KNARR(TagImage, tag_image, tag_image_request, tag_image_response, 0),
	KNARR(WaitContainer, wait_container, wait_container_request, wait_container_response, RPC_WAITS),
	KNARR(KillContainer, kill_container, kill_container_request, kill_container_response, 0),
	KNARR(OpenExec, open_exec, open_exec_request, open_exec_response, 0),
	KNARR(OpenAttach, open_attach, open_attach_request, open_attach_response, 0),
	KNARR(OpenPort, open_port, open_port_request, open_port_response, 0),
	KNARR(ImageContent, image_content, image_content_request, image_content_response, 0),
	KNARR(OpenBlob, open_blob, open_blob_request, open_blob_response, 0),
	KNARR(LoadImage, load_image, load_image_request, pull_image_progress, STREAM),
	{ 0 },
};

/* What each unanswered method will come with. */
static const struct {
	const char *method, *release;
} later[] = {
	{ "CheckpointPod", "checkpoint" }, { "RestorePod", "checkpoint" },
};

CRI_METHOD(later)
{
	const char *name = strrchr(ctx->method->path, '/') + 1;

	(void)c;
	(void)request;
	(void)response;
	for (size_t i = 0; i < ARRAY_SIZE(later); i++) {
		if (streq(later[i].method, name))
			return err_set(e, ERR_UNIMPLEMENTED, "%s comes with the %s release of knarr; this is %s", name,
				       later[i].release, KNARR_VERSION);
	}
	return err_set(e, ERR_UNIMPLEMENTED, "%s is not implemented", name);
}
