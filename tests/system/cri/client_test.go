package cri

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	internalapi "k8s.io/cri-api/pkg/apis"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
	remote "k8s.io/cri-client/pkg"
	utilexec "k8s.io/utils/exec"
)

// The very code kubelet talks to a runtime with: k8s.io/cri-client checks the answers, knows which errors are a
// timeout, and traces each call.
type remoteKubelet struct {
	internalapi.RuntimeService
	images internalapi.ImageManagerService
}

const callTimeout = 30 * time.Second // kubelet's --runtime-request-timeout is two minutes

// As kubelet has it: "unary" without the feature gate CRIListStreaming, "streaming" with it.
func remoteClients(t *testing.T, run func(t *testing.T, k *remoteKubelet)) {
	for name, streaming := range map[string]bool{"unary": false, "streaming": true} {
		t.Run(name, func(t *testing.T) {
			endpoint := "unix://" + os.Getenv("KNARR_SOCK")
			runtime, err := remote.NewRemoteRuntimeServiceBuilder().WithEndpoint(endpoint).
				WithConnectionTimeout(callTimeout).WithUseStreaming(streaming).Build(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			images, err := remote.NewRemoteImageServiceBuilder().WithEndpoint(endpoint).
				WithConnectionTimeout(callTimeout).WithUseStreaming(streaming).Build(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { runtime.Close(context.Background()); images.Close(context.Background()) })
			run(t, &remoteKubelet{runtime, images})
		})
	}
}

func nothing(t *testing.T) func(error) {
	return func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
}

func (k *remoteKubelet) pod(t *testing.T, config *v1.PodSandboxConfig) string {
	t.Helper()
	id := must[string](t)(k.RunPodSandbox(t.Context(), config, ""))
	t.Cleanup(func() {
		if err := k.StopPodSandbox(context.Background(), id); err != nil {
			t.Errorf("stop: %v", err)
		}
		if err := k.RemovePodSandbox(context.Background(), id); err != nil {
			t.Errorf("remove: %v", err)
		}
		removeCgroup(config.Linux.CgroupParent)
	})
	return id
}

func (k *remoteKubelet) pull(t *testing.T, name string) string {
	t.Helper()
	return must[string](t)(k.images.PullImage(t.Context(), &v1.ImageSpec{Image: image(name)}, nil, nil))
}

func (k *remoteKubelet) state(t *testing.T, id string) *v1.ContainerStatus {
	t.Helper()
	return must[*v1.ContainerStatusResponse](t)(k.ContainerStatus(t.Context(), id, false)).Status
}

func TestKubeletsClientSeesAReadyRuntime(t *testing.T) {
	remoteClients(t, func(t *testing.T, k *remoteKubelet) {
		want(t, "runtime", must[*v1.VersionResponse](t)(k.Version(t.Context(), "0.1.0")).RuntimeName, "knarr")
		s := must[*v1.StatusResponse](t)(k.Status(t.Context(), false))
		for _, c := range s.Status.Conditions {
			if !c.Status {
				t.Errorf("%s: %s %s", c.Type, c.Reason, c.Message)
			}
		}
		r := must[*v1.RuntimeConfigResponse](t)(k.RuntimeConfig(t.Context()))
		want(t, "cgroup driver", r.Linux.GetCgroupDriver(), v1.CgroupDriver_CGROUPFS)
		nothing(t)(k.UpdateRuntimeConfig(t.Context(), &v1.RuntimeConfig{
			NetworkConfig: &v1.NetworkConfig{PodCidr: "10.1.0.0/16"}}))
	})
}

func TestKubeletsClientManagesImages(t *testing.T) {
	remoteClients(t, func(t *testing.T, k *remoteKubelet) {
		name := "own-" + filepath.Base(t.Name())
		spec := &v1.ImageSpec{Image: image(name)}
		id := k.pull(t, name)
		s := must[*v1.ImageStatusResponse](t)(k.images.ImageStatus(t.Context(), spec, true)).Image
		want(t, "id", s.Id, id)
		want(t, "tag", s.RepoTags[0], spec.Image)
		found := 0
		for _, i := range must[[]*v1.Image](t)(k.images.ListImages(t.Context(), nil)) {
			if i.Id == id {
				found++
			}
		}
		want(t, "times listed", found, 1)
		fs := must[*v1.ImageFsInfoResponse](t)(k.images.ImageFsInfo(t.Context()))
		if fs.ImageFilesystems[0].GetFsId().GetMountpoint() == "" || len(fs.ContainerFilesystems) == 0 {
			t.Errorf("file systems are %v", fs)
		}
		for range 2 { // the second time it is absent: no error
			nothing(t)(k.images.RemoveImage(t.Context(), &v1.ImageSpec{Image: id}))
		}
		if s := must[*v1.ImageStatusResponse](t)(k.images.ImageStatus(t.Context(), spec, false)); s.Image != nil {
			t.Errorf("removed, but %v", s.Image)
		}
	})
}

func TestKubeletsClientLivesThroughAPod(t *testing.T) {
	remoteClients(t, func(t *testing.T, k *remoteKubelet) {
		k.pull(t, "box")
		config := podConfig(t)
		config.Linux.SecurityContext.NamespaceOptions.Network = v1.NamespaceMode_POD
		pod := k.pod(t, config)
		s := must[*v1.PodSandboxStatusResponse](t)(k.PodSandboxStatus(t.Context(), pod, true)).Status
		want(t, "pod", s.State, v1.PodSandboxState_SANDBOX_READY)
		if net.ParseIP(s.Network.GetIp()) == nil {
			t.Errorf("the pod's address is %q", s.Network.GetIp())
		}

		wish := containerConfig("c", "sh", "-c", "trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done")
		wish.Linux.SecurityContext.NamespaceOptions.Network = v1.NamespaceMode_POD
		id := must[string](t)(k.CreateContainer(t.Context(), pod, wish, config))
		want(t, "created", k.state(t, id).State, v1.ContainerState_CONTAINER_CREATED)
		nothing(t)(k.StartContainer(t.Context(), id))
		want(t, "started", k.state(t, id).State, v1.ContainerState_CONTAINER_RUNNING)
		log := filepath.Join(config.LogDirectory, "c.log")
		eventually(t, "its word is in the log", func() bool { b, _ := os.ReadFile(log); return strings.Contains(string(b), " up\n") })

		listed := must[[]*v1.Container](t)(k.ListContainers(t.Context(), &v1.ContainerFilter{PodSandboxId: pod}))
		pods := must[[]*v1.PodSandbox](t)(k.ListPodSandbox(t.Context(), &v1.PodSandboxFilter{Id: pod}))
		if len(listed) != 1 || listed[0].Id != id || len(pods) != 1 || pods[0].Id != pod {
			t.Errorf("listed are %v in %v", listed, pods)
		}
		nothing(t)(k.UpdateContainerResources(t.Context(), id, &v1.ContainerResources{
			Linux: &v1.LinuxContainerResources{MemoryLimitInBytes: 64 << 20}}))
		want(t, "memory", k.state(t, id).Resources.Linux.MemoryLimitInBytes, 64<<20)
		want(t, "stats of", must[*v1.ContainerStats](t)(k.ContainerStats(t.Context(), id)).Attributes.Id, id)
		want(t, "stats", len(must[[]*v1.ContainerStats](t)(k.ListContainerStats(t.Context(), &v1.ContainerStatsFilter{Id: id}))), 1)
		want(t, "stats of", must[*v1.PodSandboxStats](t)(k.PodSandboxStats(t.Context(), pod)).Attributes.Id, pod)
		want(t, "pod stats", len(must[[]*v1.PodSandboxStats](t)(
			k.ListPodSandboxStats(t.Context(), &v1.PodSandboxStatsFilter{Id: pod}))), 1)
		nothing(t)(os.Rename(log, log+".1"))
		nothing(t)(k.ReopenContainerLog(t.Context(), id))
		if _, err := os.Stat(log); err != nil {
			t.Error(err)
		}

		nothing(t)(k.StopContainer(t.Context(), id, 20))
		ended := k.state(t, id)
		want(t, "exit code", ended.ExitCode, 3)
		want(t, "state", ended.State, v1.ContainerState_CONTAINER_EXITED)
		nothing(t)(k.StopPodSandbox(t.Context(), pod))
		s = must[*v1.PodSandboxStatusResponse](t)(k.PodSandboxStatus(t.Context(), pod, false)).Status
		want(t, "stopped pod", s.State, v1.PodSandboxState_SANDBOX_NOTREADY)
		want(t, "stopped pod's address", s.Network.GetIp(), "")
		nothing(t)(k.RemoveContainer(t.Context(), id))
		nothing(t)(k.RemovePodSandbox(t.Context(), pod))
		want(t, "pods left", len(must[[]*v1.PodSandbox](t)(k.ListPodSandbox(t.Context(), &v1.PodSandboxFilter{Id: pod}))), 0)
	})
}

func TestKubeletsClientTellsExitCodesFromTimeouts(t *testing.T) {
	remoteClients(t, func(t *testing.T, k *remoteKubelet) {
		k.pull(t, "box")
		config := podConfig(t)
		pod := k.pod(t, config)
		id := must[string](t)(k.CreateContainer(t.Context(), pod, containerConfig("c", "sleep", "1000"), config))
		nothing(t)(k.StartContainer(t.Context(), id))
		out, errs, err := k.ExecSync(t.Context(), id, []string{"sh", "-c", "echo o; echo e >&2; exit 7"}, 20*time.Second)
		var code utilexec.ExitError
		if !errors.As(err, &code) || code.ExitStatus() != 7 || string(out) != "o\n" || string(errs) != "e\n" {
			t.Errorf("a probe that fails: %q %q %v", out, errs, err)
		}
		if _, _, err = k.ExecSync(t.Context(), id, []string{"sleep", "100"}, time.Second); !errors.Is(err, remote.ErrCommandTimedOut) {
			t.Errorf("a probe that takes too long: %v", err)
		}
		out, _, err = k.ExecSync(t.Context(), id, []string{"echo", "no limit"}, 0)
		if string(out) != "no limit\n" || err != nil {
			t.Errorf("an exec without a limit: %q %v", out, err)
		}
	})
}

// What kubelet branches on: NOT_FOUND means gone, the rest is tried again.
func TestKubeletsClientGetsCodesItKnows(t *testing.T) {
	nobody := strings.Repeat("e", 64)
	remoteClients(t, func(t *testing.T, k *remoteKubelet) {
		_, err := k.ContainerStatus(t.Context(), nobody, false)
		wantCode(t, err, codes.NotFound, nobody)
		_, err = k.PodSandboxStatus(t.Context(), nobody, false)
		wantCode(t, err, codes.NotFound, nobody)
		nothing(t)(k.StopContainer(t.Context(), nobody, 1))
		nothing(t)(k.RemoveContainer(t.Context(), nobody))
		nothing(t)(k.StopPodSandbox(t.Context(), nobody))
		nothing(t)(k.RemovePodSandbox(t.Context(), nobody))
		_, err = k.images.PullImage(t.Context(), &v1.ImageSpec{Image: image("none")}, nil, nil)
		wantCode(t, err, codes.NotFound, "knarr/none")
		_, err = k.RunPodSandbox(t.Context(), podConfig(t), "no-such-handler")
		wantCode(t, err, codes.InvalidArgument, "no-such-handler")

		k.pull(t, "box")
		config := podConfig(t)
		pod := k.pod(t, config)
		_, err = k.CreateContainer(t.Context(), pod, &v1.ContainerConfig{Metadata: &v1.ContainerMetadata{Name: "c"},
			Image: &v1.ImageSpec{Image: image("none")}}, config)
		wantCode(t, err, codes.NotFound, "knarr/none")
		id := must[string](t)(k.CreateContainer(t.Context(), pod, containerConfig("c", "/no/such/program"), config))
		err = k.StartContainer(t.Context(), id)
		if err == nil || !strings.Contains(fmt.Sprint(err), "/no/such/program") {
			t.Errorf("a program that is not there: %v", err)
		}
		s := k.state(t, id)
		want(t, "state", s.State, v1.ContainerState_CONTAINER_EXITED)
		want(t, "exit code", s.ExitCode, 128)
		want(t, "reason", s.Reason, "StartError")
		if s.FinishedAt == 0 {
			t.Error("it never ended: kubelet would start the next one at once")
		}
	})
}

func TestKubeletsClientHearsEvents(t *testing.T) {
	remoteClients(t, func(t *testing.T, k *remoteKubelet) {
		k.pull(t, "box")
		events, begun := make(chan *v1.ContainerEventResponse, 100), make(chan bool, 1)
		stream, end := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- k.GetContainerEvents(stream, events, func(v1.RuntimeService_GetContainerEventsClient) { begun <- true })
		}()
		<-begun
		time.Sleep(200 * time.Millisecond) // the callback comes before the request is on its way
		config := podConfig(t)
		pod := k.pod(t, config)
		id := must[string](t)(k.CreateContainer(t.Context(), pod, containerConfig("c", "true"), config))
		nothing(t)(k.StartContainer(t.Context(), id))
		eventually(t, "it exits", func() bool { return k.state(t, id).State == v1.ContainerState_CONTAINER_EXITED })
		nothing(t)(k.RemoveContainer(t.Context(), id))
		for kind := v1.ContainerEventType_CONTAINER_CREATED_EVENT; kind <= v1.ContainerEventType_CONTAINER_DELETED_EVENT; {
			select {
			case e := <-events:
				if e.ContainerId == id {
					want(t, "event", e.ContainerEventType, kind)
					want(t, "its pod", e.PodSandboxStatus.GetId(), pod)
					kind++
				}
			case <-time.After(20 * time.Second):
				t.Fatalf("no event %v", kind)
			}
		}
		end()
		if err := <-done; status.Code(err) != codes.Canceled {
			t.Errorf("the stream ends with %v", err)
		}
	})
}

// kubelet's connection is made anew by itself when a runtime comes back.
func TestKubeletsClientOutlivesKnarrd(t *testing.T) {
	restart := os.Getenv("KNARR_RESTART")
	if restart == "" {
		t.Fatal("KNARR_RESTART is not set: run tests/system/cri/run")
	}
	remoteClients(t, func(t *testing.T, k *remoteKubelet) {
		k.pull(t, "box")
		config := podConfig(t)
		pod := k.pod(t, config)
		id := must[string](t)(k.CreateContainer(t.Context(), pod, containerConfig("c", "sleep", "1000"), config))
		nothing(t)(k.StartContainer(t.Context(), id))
		begun := k.state(t, id).StartedAt
		if said, err := exec.Command("/bin/sh", "-c", restart).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, said)
		}
		eventually(t, "knarrd answers again", func() bool { _, err := k.Version(t.Context(), "v1"); return err == nil })
		s := k.state(t, id)
		want(t, "state", s.State, v1.ContainerState_CONTAINER_RUNNING)
		want(t, "started at", s.StartedAt, begun)
		want(t, "pods", len(must[[]*v1.PodSandbox](t)(k.ListPodSandbox(t.Context(), &v1.PodSandboxFilter{Id: pod}))), 1)
	})
}
