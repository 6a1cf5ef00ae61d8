package cri

import (
	"os"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestVersion(t *testing.T) {
	r := must[*v1.VersionResponse](t)(kubelet(t).Version(ctx(t), &v1.VersionRequest{Version: "v1"}))
	want(t, "runtime_name", r.RuntimeName, "knarr")
	want(t, "runtime_api_version", r.RuntimeApiVersion, "v1")
	want(t, "version", r.Version, "0.1.0")
}

func TestStatusIsReadyAndNamesTheHandlers(t *testing.T) {
	r := must[*v1.StatusResponse](t)(kubelet(t).Status(ctx(t), &v1.StatusRequest{Verbose: true}))
	for i, name := range []string{"RuntimeReady", "NetworkReady"} {
		condition := r.Status.Conditions[i]
		want(t, "condition", condition.Type, name)
		if !condition.Status {
			t.Errorf("%s is false: %s: %s", name, condition.Reason, condition.Message)
		}
	}
	names := map[string]bool{}
	for _, h := range r.RuntimeHandlers {
		names[h.Name] = true
		if !h.Features.RecursiveReadOnlyMounts && (os.Getenv("KNARR_HANDLER") == "" || h.Name == "native") {
			t.Errorf("handler %q cannot do recursive read-only mounts", h.Name)
		}
	}
	if !names[""] || !names["native"] {
		t.Errorf("handlers are %v", names)
	}
	if !r.Features.SupplementalGroupsPolicy || !strings.HasPrefix(r.Info["info"], "{") {
		t.Errorf("features %v, info %v", r.Features, r.Info)
	}
}

func TestRuntimeConfigSaysCgroupfs(t *testing.T) {
	r := must[*v1.RuntimeConfigResponse](t)(kubelet(t).RuntimeConfig(ctx(t), &v1.RuntimeConfigRequest{}))
	want(t, "cgroup_driver", r.Linux.CgroupDriver, v1.CgroupDriver_CGROUPFS)
}

func TestUpdateRuntimeConfigChecksTheRange(t *testing.T) {
	c := kubelet(t)
	update := func(cidr string) error {
		_, err := c.UpdateRuntimeConfig(ctx(t), &v1.UpdateRuntimeConfigRequest{
			RuntimeConfig: &v1.RuntimeConfig{NetworkConfig: &v1.NetworkConfig{PodCidr: cidr}}})
		return err
	}
	wantCode(t, update("10.1.0.0/16,fd00::/64"), codes.OK, "")
	wantCode(t, update("10.1.0.0/64"), codes.InvalidArgument, "pod_cidr")
}

func TestWhatComesLaterSaysSo(t *testing.T) {
	c := kubelet(t)
	_, err := c.CheckpointPod(ctx(t), &v1.CheckpointPodRequest{})
	wantCode(t, err, codes.Unimplemented, "checkpoint release")
}

func TestBadRequestsNameTheField(t *testing.T) {
	c := kubelet(t)
	pod := func(change func(*v1.PodSandboxConfig), handler string) error {
		config := podConfig(t)
		change(config)
		_, err := c.RunPodSandbox(ctx(t), &v1.RunPodSandboxRequest{Config: config, RuntimeHandler: handler})
		return err
	}
	wantCode(t, pod(func(p *v1.PodSandboxConfig) { p.Metadata = nil }, ""), codes.InvalidArgument, "config.metadata is missing")
	wantCode(t, pod(func(p *v1.PodSandboxConfig) { p.Metadata.Uid = "" }, ""), codes.InvalidArgument, "config.metadata.uid")
	wantCode(t, pod(func(p *v1.PodSandboxConfig) {}, "kata"), codes.InvalidArgument, `"kata" is not configured`)
	wantCode(t, pod(func(p *v1.PodSandboxConfig) { p.LogDirectory = "x" }, ""), codes.InvalidArgument, "log_directory")
	wantCode(t, pod(func(p *v1.PodSandboxConfig) {
		p.Linux.SecurityContext.RunAsGroup = &v1.Int64Value{Value: 1}
	}, ""), codes.InvalidArgument, "run_as_group")
	_, err := c.RunPodSandbox(ctx(t), &v1.RunPodSandboxRequest{})
	wantCode(t, err, codes.InvalidArgument, "config is missing")
	_, err = c.StopPodSandbox(ctx(t), &v1.StopPodSandboxRequest{})
	wantCode(t, err, codes.InvalidArgument, "pod_sandbox_id is empty")
	_, err = c.ExecSync(ctx(t), &v1.ExecSyncRequest{ContainerId: "x"})
	wantCode(t, err, codes.InvalidArgument, "cmd is empty")
	_, err = c.images.PullImage(ctx(t), &v1.PullImageRequest{})
	wantCode(t, err, codes.InvalidArgument, "image is missing")
}

func TestUnknownThingsAreNotFound(t *testing.T) {
	c := kubelet(t)
	nobody := strings.Repeat("0123456789abcdef", 4)
	_, err := c.PodSandboxStatus(ctx(t), &v1.PodSandboxStatusRequest{PodSandboxId: nobody})
	wantCode(t, err, codes.NotFound, nobody)
	_, err = c.ContainerStatus(ctx(t), &v1.ContainerStatusRequest{ContainerId: nobody})
	wantCode(t, err, codes.NotFound, nobody)
	_, err = c.StartContainer(ctx(t), &v1.StartContainerRequest{ContainerId: nobody})
	wantCode(t, err, codes.NotFound, nobody)
	_, err = c.ExecSync(ctx(t), &v1.ExecSyncRequest{ContainerId: nobody, Cmd: []string{"true"}})
	wantCode(t, err, codes.NotFound, nobody)
	_, err = c.CreateContainer(ctx(t), &v1.CreateContainerRequest{PodSandboxId: nobody, Config: containerConfig("c", "true")})
	wantCode(t, err, codes.NotFound, nobody)
	_, err = c.ContainerStats(ctx(t), &v1.ContainerStatsRequest{ContainerId: nobody})
	wantCode(t, err, codes.NotFound, nobody)
	_, err = c.PodSandboxStats(ctx(t), &v1.PodSandboxStatsRequest{PodSandboxId: nobody})
	wantCode(t, err, codes.NotFound, nobody)
	_, err = c.UpdateContainerResources(ctx(t), &v1.UpdateContainerResourcesRequest{ContainerId: nobody,
		Linux: &v1.LinuxContainerResources{CpuShares: 2}})
	wantCode(t, err, codes.NotFound, nobody)
	_, err = c.UpdatePodSandboxResources(ctx(t), &v1.UpdatePodSandboxResourcesRequest{PodSandboxId: nobody,
		Resources: &v1.LinuxContainerResources{CpuShares: 2}})
	wantCode(t, err, codes.NotFound, nobody)
	_, err = c.ReopenContainerLog(ctx(t), &v1.ReopenContainerLogRequest{ContainerId: nobody})
	wantCode(t, err, codes.NotFound, nobody)
	containers := must[*v1.ListContainersResponse](t)(c.ListContainers(ctx(t), &v1.ListContainersRequest{
		Filter: &v1.ContainerFilter{Id: nobody}}))
	want(t, "containers listed", len(containers.Containers), 0)
	pods := must[*v1.ListPodSandboxResponse](t)(c.ListPodSandbox(ctx(t), &v1.ListPodSandboxRequest{
		Filter: &v1.PodSandboxFilter{Id: nobody}}))
	want(t, "pods listed", len(pods.Items), 0)
	status := must[*v1.ImageStatusResponse](t)(c.images.ImageStatus(ctx(t), &v1.ImageStatusRequest{
		Image: &v1.ImageSpec{Image: image("none")}}))
	if status.Image != nil {
		t.Errorf("an absent image is %v", status.Image)
	}
	_, err = c.StopPodSandbox(ctx(t), &v1.StopPodSandboxRequest{PodSandboxId: nobody})
	wantCode(t, err, codes.OK, "")
	_, err = c.RemovePodSandbox(ctx(t), &v1.RemovePodSandboxRequest{PodSandboxId: nobody})
	wantCode(t, err, codes.OK, "")
	_, err = c.StopContainer(ctx(t), &v1.StopContainerRequest{ContainerId: nobody})
	wantCode(t, err, codes.OK, "")
	_, err = c.RemoveContainer(ctx(t), &v1.RemoveContainerRequest{ContainerId: nobody})
	wantCode(t, err, codes.OK, "")
	_, err = c.images.RemoveImage(ctx(t), &v1.RemoveImageRequest{Image: &v1.ImageSpec{Image: image("none")}})
	wantCode(t, err, codes.OK, "")
}

func TestTooLargeAMessageIsRefusedAndHarmsNobody(t *testing.T) {
	c := kubelet(t)
	config := podConfig(t)
	config.Annotations = map[string]string{"big": strings.Repeat("x", 17<<20)}
	_, err := c.RunPodSandbox(ctx(t), &v1.RunPodSandboxRequest{Config: config})
	wantCode(t, err, codes.ResourceExhausted, "")
	must[*v1.VersionResponse](t)(c.Version(ctx(t), &v1.VersionRequest{}))
}

func TestImages(t *testing.T) {
	c := kubelet(t)
	id := c.pull(t, "user")
	if !strings.HasPrefix(id, "sha256:") {
		t.Errorf("image_ref is %q", id)
	}
	want(t, "a second pull", c.pull(t, "user"), id)
	got := must[*v1.ImageStatusResponse](t)(c.images.ImageStatus(ctx(t), &v1.ImageStatusRequest{
		Image: &v1.ImageSpec{Image: image("user")}, Verbose: true}))
	want(t, "Image.id", got.Image.Id, id)
	want(t, "username", got.Image.Username, "app")
	if got.Image.Size == 0 || len(got.Image.RepoTags) != 1 || got.Image.RepoTags[0] != image("user") ||
		len(got.Image.RepoDigests) != 1 || got.Info["info"] == "" {
		t.Errorf("image is %v, info %v", got.Image, got.Info)
	}
	list := must[*v1.ListImagesResponse](t)(c.images.ListImages(ctx(t), &v1.ListImagesRequest{
		Filter: &v1.ImageFilter{Image: &v1.ImageSpec{Image: id}}}))
	if len(list.Images) != 1 || list.Images[0].Id != id {
		t.Errorf("list by ID: %v", list)
	}
	byDigest := must[*v1.PullImageResponse](t)(c.images.PullImage(ctx(t), &v1.PullImageRequest{
		Image: &v1.ImageSpec{Image: got.Image.RepoDigests[0]}}))
	want(t, "pull by digest", byDigest.ImageRef, id)
	fs := must[*v1.ImageFsInfoResponse](t)(c.images.ImageFsInfo(ctx(t), &v1.ImageFsInfoRequest{}))
	if len(fs.ImageFilesystems) != 1 || fs.ImageFilesystems[0].UsedBytes.GetValue() == 0 || fs.ImageFilesystems[0].Timestamp == 0 {
		t.Errorf("image fs is %v", fs)
	}
	must[*v1.RemoveImageResponse](t)(c.images.RemoveImage(ctx(t), &v1.RemoveImageRequest{
		Image: &v1.ImageSpec{Image: got.Image.RepoDigests[0]}})) // one name of two
	got = must[*v1.ImageStatusResponse](t)(c.images.ImageStatus(ctx(t), &v1.ImageStatusRequest{Image: &v1.ImageSpec{Image: id}}))
	if len(got.Image.RepoDigests) != 0 || len(got.Image.RepoTags) != 1 {
		t.Errorf("image is %v", got.Image)
	}
	must[*v1.RemoveImageResponse](t)(c.images.RemoveImage(ctx(t), &v1.RemoveImageRequest{Image: &v1.ImageSpec{Image: image("user")}}))
	gone := must[*v1.ImageStatusResponse](t)(c.images.ImageStatus(ctx(t), &v1.ImageStatusRequest{Image: &v1.ImageSpec{Image: id}}))
	if gone.Image != nil {
		t.Errorf("still there: %v", gone.Image)
	}
	_, err := c.images.PullImage(ctx(t), &v1.PullImageRequest{Image: &v1.ImageSpec{Image: image("none")}})
	wantCode(t, err, codes.NotFound, "knarr/none")
}
