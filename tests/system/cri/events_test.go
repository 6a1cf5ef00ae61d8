package cri

import (
	"context"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Several listeners, one of them so slow that it reads only when all is over: each hears of every life, in order.
func TestEventsReachEveryListener(t *testing.T) {
	const lives, listeners = 10, 5
	c := kubelet(t)
	c.pull(t, "box")
	background, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	over := make(chan struct{})
	var begun, done sync.WaitGroup
	var ids sync.Map
	for i := range listeners {
		events := must[v1.RuntimeService_GetContainerEventsClient](t)(c.GetContainerEvents(background, &v1.GetEventsRequest{}))
		begun.Add(1)
		done.Add(1)
		go func() {
			defer done.Done()
			next := map[string]v1.ContainerEventType{}
			ended, started := 0, false
			for ended < lives {
				if i == 0 && started {
					<-over
				}
				e, err := events.Recv()
				if err != nil {
					t.Errorf("listener %d after %d ends: %v", i, ended, err)
					if !started {
						begun.Done()
					}
					return
				}
				if !started {
					started = true
					begun.Done()
				}
				if _, ours := ids.Load(e.PodSandboxStatus.GetMetadata().GetUid()); !ours || e.ContainerId == e.PodSandboxStatus.GetId() {
					continue
				}
				if e.ContainerEventType != next[e.ContainerId] {
					t.Errorf("listener %d: %v comes where %v should", i, e.ContainerEventType, next[e.ContainerId])
				}
				next[e.ContainerId]++
				if e.ContainerEventType == v1.ContainerEventType_CONTAINER_DELETED_EVENT {
					ended++
				}
			}
		}()
	}
	// A stream begins with what happens after it was asked for: some event tells that all have begun.
	ready := make(chan struct{})
	go func() { begun.Wait(); close(ready) }()
	for waiting := true; waiting; {
		sandbox := podConfig(t)
		c.run(t, sandbox)
		select {
		case <-ready:
			waiting = false
		case <-time.After(100 * time.Millisecond):
		}
	}
	sandbox := podConfig(t)
	ids.Store(sandbox.Metadata.Uid, true)
	pod := c.run(t, sandbox)
	for n := range lives {
		config := containerConfig("c", "true")
		config.Metadata.Attempt = uint32(n)
		id := c.start(t, pod, config, sandbox)
		c.exited(t, id)
		must[*v1.RemoveContainerResponse](t)(c.RemoveContainer(ctx(t), &v1.RemoveContainerRequest{ContainerId: id}))
	}
	close(over)
	done.Wait()
}

// kubelet has changed the pod's cgroup; knarrd remembers, also over its own end.
func TestUpdatePodSandboxResources(t *testing.T) {
	c := kubelet(t)
	pod := c.run(t, podConfig(t))
	update := func(r *v1.UpdatePodSandboxResourcesRequest) {
		t.Helper()
		r.PodSandboxId = pod
		must[*v1.UpdatePodSandboxResourcesResponse](t)(c.UpdatePodSandboxResources(ctx(t), r))
	}
	update(&v1.UpdatePodSandboxResourcesRequest{Resources: &v1.LinuxContainerResources{CpuShares: 512, MemoryLimitInBytes: 64 << 20}})
	update(&v1.UpdatePodSandboxResourcesRequest{Overhead: &v1.LinuxContainerResources{CpuShares: 2}})
	update(&v1.UpdatePodSandboxResourcesRequest{})
	_, err := c.UpdatePodSandboxResources(ctx(t), &v1.UpdatePodSandboxResourcesRequest{})
	wantCode(t, err, 3, "pod_sandbox_id is empty")
}
