// What plugins made with NRI's own library see of knarrd, and what they can do. ./run starts the knarrd.
package nri

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

type client struct {
	v1.RuntimeServiceClient
	images v1.ImageServiceClient
}

func kubelet(t *testing.T) *client {
	t.Helper()
	socket := os.Getenv("KNARR_SOCK")
	if socket == "" {
		t.Fatal("KNARR_SOCK is not set: run tests/system/nri/run")
	}
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &client{v1.NewRuntimeServiceClient(conn), v1.NewImageServiceClient(conn)}
}

func ctx(t *testing.T) context.Context {
	c, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return c
}

func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !check(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

var image = os.Getenv("KNARR_REGISTRY") + "/knarr/box:latest"

func sandboxConfig(t *testing.T) *v1.PodSandboxConfig {
	return &v1.PodSandboxConfig{
		Metadata:    &v1.PodSandboxMetadata{Name: t.Name(), Uid: "uid-" + t.Name(), Namespace: "tests"},
		Labels:      map[string]string{"app": "nri"},
		Annotations: map[string]string{"note": "of the pod"},
		Linux: &v1.LinuxPodSandboxConfig{SecurityContext: &v1.LinuxSandboxSecurityContext{
			NamespaceOptions: &v1.NamespaceOption{Network: v1.NamespaceMode_NODE, Pid: v1.NamespaceMode_CONTAINER}}},
	}
}

// A pod that is gone after the test.
func (k *client) pod(t *testing.T) (string, *v1.PodSandboxConfig) {
	t.Helper()
	config := sandboxConfig(t)
	r, err := k.RunPodSandbox(ctx(t), &v1.RunPodSandboxRequest{Config: config})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.removePod(t, r.PodSandboxId) })
	return r.PodSandboxId, config
}

func (k *client) removePod(t *testing.T, id string) {
	c, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := k.StopPodSandbox(c, &v1.StopPodSandboxRequest{PodSandboxId: id}); err != nil {
		t.Error(err)
	}
	if _, err := k.RemovePodSandbox(c, &v1.RemovePodSandboxRequest{PodSandboxId: id}); err != nil {
		t.Error(err)
	}
}

func (k *client) create(t *testing.T, pod string, sandbox *v1.PodSandboxConfig, name string, args ...string) (string, error) {
	t.Helper()
	if _, err := k.images.PullImage(ctx(t), &v1.PullImageRequest{Image: &v1.ImageSpec{Image: image}}); err != nil {
		t.Fatal(err)
	}
	config := &v1.ContainerConfig{Metadata: &v1.ContainerMetadata{Name: name}, Image: &v1.ImageSpec{Image: image},
		Command: []string{"sh", "-c"}, Args: args, Envs: []*v1.KeyValue{{Key: "WISH", Value: []byte("kubelet")}},
		Linux: &v1.LinuxContainerConfig{
			SecurityContext: &v1.LinuxContainerSecurityContext{NamespaceOptions: &v1.NamespaceOption{
				Network: v1.NamespaceMode_NODE, Pid: v1.NamespaceMode_CONTAINER}},
			Resources: &v1.LinuxContainerResources{MemoryLimitInBytes: 64 << 20, CpuShares: 512}}}
	r, err := k.CreateContainer(ctx(t), &v1.CreateContainerRequest{PodSandboxId: pod, Config: config, SandboxConfig: sandbox})
	if err != nil {
		return "", err
	}
	return r.ContainerId, nil
}

func (k *client) running(t *testing.T, pod string, sandbox *v1.PodSandboxConfig, name string) string {
	t.Helper()
	id, err := k.create(t, pod, sandbox, name, "sleep 1000")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.StartContainer(ctx(t), &v1.StartContainerRequest{ContainerId: id}); err != nil {
		t.Fatal(err)
	}
	return id
}

func (k *client) exec(t *testing.T, id, script string) string {
	t.Helper()
	r, err := k.ExecSync(ctx(t), &v1.ExecSyncRequest{ContainerId: id, Cmd: []string{"sh", "-c", script}, Timeout: 30})
	if err != nil {
		t.Fatal(err)
	}
	return string(r.Stdout)
}

// A plugin whose handlers can be set; it notes what it hears.
type plugin struct {
	stub   stub.Stub
	mu     sync.Mutex
	heard  []string
	synced []string
	closed chan struct{}

	sync    func()
	create  func(*api.PodSandbox, *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error)
	update  func(*api.Container, *api.LinuxResources) ([]*api.ContainerUpdate, error)
	runPod  func(*api.PodSandbox) error
	start   func(*api.Container) error
	ready   chan struct{}
	onReady sync.Once
}

func (p *plugin) note(event, id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard = append(p.heard, event+" "+id)
}

// The events of one object, without its ID.
func (p *plugin) of(id string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := []string{}
	for _, h := range p.heard {
		if strings.HasSuffix(h, " "+id) {
			out = append(out, strings.Fields(h)[0])
		}
	}
	return strings.Join(out, " ")
}

func (p *plugin) Synchronize(_ context.Context, pods []*api.PodSandbox, containers []*api.Container) ([]*api.ContainerUpdate, error) {
	p.mu.Lock()
	for _, x := range pods {
		p.synced = append(p.synced, x.Id)
	}
	for _, x := range containers {
		p.synced = append(p.synced, x.Id)
	}
	p.mu.Unlock()
	if p.sync != nil {
		p.sync()
	}
	p.onReady.Do(func() { close(p.ready) })
	return nil, nil
}

func (p *plugin) RunPodSandbox(_ context.Context, x *api.PodSandbox) error {
	p.note("Run", x.Id)
	if p.runPod != nil {
		return p.runPod(x)
	}
	return nil
}
func (p *plugin) StopPodSandbox(_ context.Context, x *api.PodSandbox) error {
	p.note("Stop", x.Id)
	return nil
}
func (p *plugin) RemovePodSandbox(_ context.Context, x *api.PodSandbox) error {
	p.note("Remove", x.Id)
	return nil
}
func (p *plugin) CreateContainer(_ context.Context, pod *api.PodSandbox, x *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
	p.note("Create", x.Id)
	if p.create != nil {
		return p.create(pod, x)
	}
	return nil, nil, nil
}
func (p *plugin) PostCreateContainer(_ context.Context, _ *api.PodSandbox, x *api.Container) error {
	p.note("PostCreate", x.Id)
	return nil
}
func (p *plugin) StartContainer(_ context.Context, _ *api.PodSandbox, x *api.Container) error {
	p.note("Start", x.Id)
	if p.start != nil {
		return p.start(x)
	}
	return nil
}
func (p *plugin) PostStartContainer(_ context.Context, _ *api.PodSandbox, x *api.Container) error {
	p.note("PostStart", x.Id)
	return nil
}
func (p *plugin) UpdateContainer(_ context.Context, _ *api.PodSandbox, x *api.Container, r *api.LinuxResources) ([]*api.ContainerUpdate, error) {
	p.note("Update", x.Id)
	if p.update != nil {
		return p.update(x, r)
	}
	return nil, nil
}
func (p *plugin) PostUpdateContainer(_ context.Context, _ *api.PodSandbox, x *api.Container) error {
	p.note("PostUpdate", x.Id)
	return nil
}
func (p *plugin) StopContainer(_ context.Context, _ *api.PodSandbox, x *api.Container) ([]*api.ContainerUpdate, error) {
	p.note("Stop", x.Id)
	return nil, nil
}
func (p *plugin) RemoveContainer(_ context.Context, _ *api.PodSandbox, x *api.Container) error {
	p.note("Remove", x.Id)
	return nil
}

// Connected and synchronised (unless its Synchronize waits), gone after the test.
func connect(t *testing.T, idx, name string, p *plugin) *plugin {
	t.Helper()
	p.ready, p.closed = make(chan struct{}), make(chan struct{})
	s, err := stub.New(p, stub.WithPluginName(name), stub.WithPluginIdx(idx), stub.WithSocketPath(os.Getenv("KNARR_NRI")),
		stub.WithOnClose(func() { close(p.closed) }))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	p.stub = s
	t.Cleanup(s.Stop)
	if p.sync == nil {
		p.waitReady(t)
	}
	return p
}

func (p *plugin) waitReady(t *testing.T) {
	t.Helper()
	select {
	case <-p.ready:
	case <-time.After(30 * time.Second):
		t.Fatal("the plugin is not synchronised")
	}
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(fmt.Sprint(err), part) {
			t.Errorf("got %v, wanted an error with %q", err, part)
		}
	}
}
