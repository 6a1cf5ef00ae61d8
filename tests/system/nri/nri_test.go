package nri

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/containerd/nri/pkg/api"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestALifeIsToldInOrder(t *testing.T) {
	k := kubelet(t)
	var seen *api.Container
	var seenPod *api.PodSandbox
	p := connect(t, "10", "life", &plugin{create: func(pod *api.PodSandbox, c *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
		seen, seenPod = c, pod
		return nil, nil, nil
	}})
	config := sandboxConfig(t)
	r, err := k.RunPodSandbox(ctx(t), &v1.RunPodSandboxRequest{Config: config})
	if err != nil {
		t.Fatal(err)
	}
	id := k.running(t, r.PodSandboxId, config, "box")
	if _, err := k.UpdateContainerResources(ctx(t), &v1.UpdateContainerResourcesRequest{ContainerId: id,
		Linux: &v1.LinuxContainerResources{CpuShares: 256}}); err != nil {
		t.Fatal(err)
	}
	if _, err := k.StopContainer(ctx(t), &v1.StopContainerRequest{ContainerId: id}); err != nil {
		t.Fatal(err)
	}
	if _, err := k.RemoveContainer(ctx(t), &v1.RemoveContainerRequest{ContainerId: id}); err != nil {
		t.Fatal(err)
	}
	k.removePod(t, r.PodSandboxId)
	if got := p.of(id); got != "Create PostCreate Start PostStart Update PostUpdate Stop Remove" {
		t.Errorf("the container's events: %s", got)
	}
	if got := p.of(r.PodSandboxId); got != "Run Stop Remove" {
		t.Errorf("the pod's events: %s", got)
	}
	if seenPod.Name != t.Name() || seenPod.Labels["app"] != "nri" || seenPod.Annotations["note"] != "of the pod" || seenPod.Pid == 0 {
		t.Errorf("the pod is shown as %v", seenPod)
	}
	if seen.Name != "box" || seen.Linux.Resources.Memory.Limit.GetValue() != 64<<20 || seen.Linux.Resources.Cpu.Shares.GetValue() != 512 ||
		strings.Join(seen.Args, " ") != "sh -c sleep 1000" || !strings.HasPrefix(seen.Image.ConfigDigest, "sha256:") {
		t.Errorf("the container is shown as %v", seen)
	}
}

func TestAContainerThatEndsByItselfIsTold(t *testing.T) {
	k := kubelet(t)
	p := connect(t, "10", "ends", &plugin{})
	pod, config := k.pod(t)
	id, err := k.create(t, pod, config, "short", "exit 3")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.StartContainer(ctx(t), &v1.StartContainerRequest{ContainerId: id}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end is told", func() bool { return p.of(id) == "Create PostCreate Start PostStart Stop" })
}

func TestAdjustmentsAreMade(t *testing.T) {
	k := kubelet(t)
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/file", []byte("of the plugin"), 0o644); err != nil {
		t.Fatal(err)
	}
	connect(t, "10", "adjust", &plugin{create: func(*api.PodSandbox, *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
		a := &api.ContainerAdjustment{}
		a.AddEnv("ADDED", "by the plugin")
		a.AddEnv("WISH", "the plugin")
		a.RemoveEnv("FROM")
		a.AddMount(&api.Mount{Destination: "/given", Type: "bind", Source: dir, Options: []string{"rbind", "ro"}})
		a.RemoveMount("/etc/hosts")
		a.AddRlimit("RLIMIT_NOFILE", 333, 222)
		a.AddDevice(&api.LinuxDevice{Path: "/dev/mynull", Type: "c", Major: 1, Minor: 3})
		oom := 777
		a.SetLinuxOomScoreAdj(&oom)
		a.SetLinuxMemoryLimit(48 << 20)
		a.SetLinuxCPUShares(300)
		a.SetLinuxPidLimits(77)
		a.AddAnnotation("plugin.knarr.io/was", "here")
		a.SetLinuxIOPriority(&api.LinuxIOPriority{Class: api.IOPrioClass_IOPRIO_CLASS_IDLE})
		a.SetArgs([]string{"sh", "-c", "sleep 1001"})
		return a, nil, nil
	}})
	later := &plugin{}
	var seen *api.Container
	later.create = func(_ *api.PodSandbox, c *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
		seen = c
		return nil, nil, nil
	}
	connect(t, "50", "later", later)
	pod, config := k.pod(t)
	id := k.running(t, pod, config, "box")
	got := k.exec(t, id, `echo $ADDED; echo $WISH; echo "[$FROM]"; cat /given/file; echo; ulimit -n; echo x >/dev/mynull && echo wrote;
		cat /proc/1/oom_score_adj; tr '\0' ' ' </proc/1/cmdline; echo; cat /etc/hosts 2>/dev/null | wc -l; echo $INSTALLED; touch /given/x || echo readonly`)
	wanted := "by the plugin\nthe plugin\n[]\nof the plugin\n222\nwrote\n777\nsleep 1001 \n0\nof its own\nreadonly\n"
	if got != wanted {
		t.Errorf("in the container:\n%s\nwanted:\n%s", got, wanted)
	}
	status, err := k.ContainerStatus(ctx(t), &v1.ContainerStatusRequest{ContainerId: id})
	if err != nil {
		t.Fatal(err)
	}
	if r := status.Status.Resources.Linux; r.MemoryLimitInBytes != 48<<20 || r.CpuShares != 300 {
		t.Errorf("the limits are %v", r)
	}
	if seen.Linux.Resources.Memory.Limit.GetValue() != 48<<20 || seen.Annotations["plugin.knarr.io/was"] != "here" {
		t.Errorf("the later plugin sees %v", seen)
	}
}

func TestTwoPluginsThatWantTheSameAreRefusedByName(t *testing.T) {
	k := kubelet(t)
	setEnv := func(value string, take bool) *plugin {
		return &plugin{create: func(_ *api.PodSandbox, c *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
			a := &api.ContainerAdjustment{}
			if take {
				a.RemoveEnv("BOTH")
			}
			a.AddEnv("BOTH", value)
			return a, nil, nil
		}}
	}
	connect(t, "10", "first", setEnv("first", false))
	second := connect(t, "11", "second", setEnv("second", false))
	pod, config := k.pod(t)
	_, err := k.create(t, pod, config, "box", "sleep 1000")
	wantError(t, err, "10-first", "11-second", "BOTH")
	second.stub.Stop()
	connect(t, "12", "taker", setEnv("taker", true))
	eventually(t, "the second is gone", func() bool {
		id, err := k.create(t, pod, config, "box", "sleep 1000")
		if err != nil {
			return false
		}
		if _, err := k.StartContainer(ctx(t), &v1.StartContainerRequest{ContainerId: id}); err != nil {
			t.Fatal(err)
		}
		if got := k.exec(t, id, "echo $BOTH"); got != "taker\n" {
			t.Errorf("BOTH is %q", got)
		}
		return true
	})
}

func TestARefusalFailsTheCall(t *testing.T) {
	k := kubelet(t)
	p := connect(t, "10", "refuser", &plugin{})
	p.runPod = func(*api.PodSandbox) error { return errors.New("no such pod here") }
	_, err := k.RunPodSandbox(ctx(t), &v1.RunPodSandboxRequest{Config: sandboxConfig(t)})
	wantError(t, err, "10-refuser", "RunPodSandbox", "no such pod here")
	p.runPod = nil
	pod, config := k.pod(t)
	p.create = func(*api.PodSandbox, *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
		return nil, nil, errors.New("no such container here")
	}
	_, err = k.create(t, pod, config, "box", "sleep 1000")
	wantError(t, err, "10-refuser", "no such container here")
	p.create = nil
	p.start = func(*api.Container) error { return errors.New("not now") }
	id, err := k.create(t, pod, config, "box", "sleep 1000")
	if err != nil {
		t.Fatal(err)
	}
	_, err = k.StartContainer(ctx(t), &v1.StartContainerRequest{ContainerId: id})
	wantError(t, err, "not now")
}

func TestAPluginThatHangsIsLeftBehind(t *testing.T) {
	k := kubelet(t)
	release := make(chan struct{})
	hangs := connect(t, "10", "hangs", &plugin{create: func(*api.PodSandbox, *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
		<-release
		return nil, nil, nil
	}})
	t.Cleanup(func() { close(release) })
	p := connect(t, "11", "works", &plugin{})
	pod, config := k.pod(t)
	id := k.running(t, pod, config, "box")
	if got := p.of(id); got != "Create PostCreate Start PostStart" {
		t.Errorf("the other plugin hears: %s", got)
	}
	select {
	case <-hangs.closed:
	case <-time.After(30 * time.Second):
		t.Error("the plugin that hangs keeps its connection")
	}
}

func TestWhatHappensDuringASynchronisationIsNotLost(t *testing.T) {
	k := kubelet(t)
	pod, config := k.pod(t)
	before := k.running(t, pod, config, "before")
	began, release := make(chan struct{}), make(chan struct{})
	p := &plugin{}
	p.sync = func() { close(began); <-release }
	connected := make(chan struct{})
	go func() { connect(t, "10", "late", p); close(connected) }()
	<-began
	during := make(chan string)
	go func() { id, _ := k.create(t, pod, config, "during", "sleep 1000"); during <- id }()
	time.Sleep(300 * time.Millisecond) // it may only be told later, whatever the moment
	close(release)
	id := <-during
	<-connected
	p.waitReady(t)
	p.mu.Lock()
	synced := strings.Join(p.synced, " ")
	p.mu.Unlock()
	if !strings.Contains(synced, pod) || !strings.Contains(synced, before) {
		t.Errorf("synchronised with %s, without %s and %s", synced, pod, before)
	}
	if id == "" {
		t.Fatal("the container was not created")
	}
	if strings.Contains(synced, id) == strings.HasPrefix(p.of(id), "Create") {
		t.Errorf("container %s: synchronised %v, events %q: once is wanted", id, strings.Contains(synced, id), p.of(id))
	}
}

func TestUpdates(t *testing.T) {
	k := kubelet(t)
	p := connect(t, "10", "updates", &plugin{})
	pod, config := k.pod(t)
	id := k.running(t, pod, config, "box")
	limits := func() *v1.LinuxContainerResources {
		r, err := k.ContainerStatus(ctx(t), &v1.ContainerStatusRequest{ContainerId: id})
		if err != nil {
			t.Fatal(err)
		}
		return r.Status.Resources.Linux
	}
	// Unasked.
	u := &api.ContainerUpdate{}
	u.SetContainerId(id)
	u.SetLinuxCPUShares(400)
	missing := &api.ContainerUpdate{}
	missing.SetContainerId("missing")
	missing.SetLinuxCPUShares(400)
	failed, err := p.stub.UpdateContainers([]*api.ContainerUpdate{u, missing})
	if err != nil || len(failed) != 1 || failed[0].ContainerId != "missing" {
		t.Errorf("failed updates: %v, %v", failed, err)
	}
	if got := limits().CpuShares; got != 400 {
		t.Errorf("cpu shares are %d", got)
	}
	// While kubelet changes something else.
	p.update = func(c *api.Container, r *api.LinuxResources) ([]*api.ContainerUpdate, error) {
		if r.Memory.Limit.GetValue() != 32<<20 {
			return nil, errors.New("kubelet's wish is not shown")
		}
		u := &api.ContainerUpdate{}
		u.SetContainerId(c.Id)
		u.SetLinuxCPUShares(500)
		return []*api.ContainerUpdate{u}, nil
	}
	if _, err := k.UpdateContainerResources(ctx(t), &v1.UpdateContainerResourcesRequest{ContainerId: id,
		Linux: &v1.LinuxContainerResources{MemoryLimitInBytes: 32 << 20}}); err != nil {
		t.Fatal(err)
	}
	if got := limits(); got.CpuShares != 500 || got.MemoryLimitInBytes != 32<<20 {
		t.Errorf("the limits are %v", got)
	}
}
