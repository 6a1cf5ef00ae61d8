// Exec, attach and port-forward as kubelet's clients see them: client-go's own remotecommand and portforward against
// knarrd's URLs. ./run starts the registry and the knarrd that these tests talk to.
package stream

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
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
		t.Fatal("KNARR_SOCK is not set: run tests/system/stream/run")
	}
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &client{v1.NewRuntimeServiceClient(conn), v1.NewImageServiceClient(conn)}
}

func ctx(t *testing.T) context.Context {
	c, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return c
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func want[T comparable](t *testing.T, what string, got, wanted T) {
	t.Helper()
	if got != wanted {
		t.Errorf("%s is %v, wanted %v", what, got, wanted)
	}
}

func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !check(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

var serial atomic.Int64

type container struct {
	*client
	id, pod string
}

// A container that runs until it is stopped, in a pod of its own.
func (c *client) container(t *testing.T, network v1.NamespaceMode, change func(*v1.ContainerConfig), command ...string) *container {
	t.Helper()
	image := os.Getenv("KNARR_REGISTRY") + "/knarr/box:latest"
	must[*v1.PullImageResponse](t)(c.images.PullImage(ctx(t), &v1.PullImageRequest{Image: &v1.ImageSpec{Image: image}}))
	name := fmt.Sprintf("knarr-test-%d-%d", os.Getpid(), serial.Add(1))
	namespaces := &v1.NamespaceOption{Network: network, Pid: v1.NamespaceMode_CONTAINER}
	sandbox := &v1.PodSandboxConfig{
		Metadata:     &v1.PodSandboxMetadata{Name: name, Uid: name, Namespace: "default"},
		LogDirectory: t.TempDir(),
		Linux: &v1.LinuxPodSandboxConfig{CgroupParent: "/" + name,
			SecurityContext: &v1.LinuxSandboxSecurityContext{NamespaceOptions: namespaces}},
	}
	pod := must[*v1.RunPodSandboxResponse](t)(c.RunPodSandbox(ctx(t), &v1.RunPodSandboxRequest{Config: sandbox})).PodSandboxId
	t.Cleanup(func() {
		background, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if _, err := c.StopPodSandbox(background, &v1.StopPodSandboxRequest{PodSandboxId: pod}); err != nil {
			t.Errorf("stop: %v", err)
		}
		if _, err := c.RemovePodSandbox(background, &v1.RemovePodSandboxRequest{PodSandboxId: pod}); err != nil {
			t.Errorf("remove: %v", err)
		}
		removeCgroup("/" + name)
	})
	config := &v1.ContainerConfig{
		Metadata: &v1.ContainerMetadata{Name: "c"}, Image: &v1.ImageSpec{Image: image}, Command: command, LogPath: "c.log",
		Linux: &v1.LinuxContainerConfig{Resources: &v1.LinuxContainerResources{},
			SecurityContext: &v1.LinuxContainerSecurityContext{NamespaceOptions: namespaces}},
	}
	if change != nil {
		change(config)
	}
	id := must[*v1.CreateContainerResponse](t)(c.CreateContainer(ctx(t), &v1.CreateContainerRequest{
		PodSandboxId: pod, Config: config, SandboxConfig: sandbox})).ContainerId
	must[*v1.StartContainerResponse](t)(c.StartContainer(ctx(t), &v1.StartContainerRequest{ContainerId: id}))
	return &container{c, id, pod}
}

func (c *client) sleeper(t *testing.T) *container {
	t.Helper()
	return c.container(t, v1.NamespaceMode_NODE, nil, "sleep", "1000")
}

// As kubelet does, in every hierarchy. One whose child has just gone is busy for a moment.
func removeCgroup(name string) {
	for range 200 {
		left, _ := filepath.Glob("/sys/fs/cgroup/*" + name)
		busy := false
		for _, path := range append(left, "/sys/fs/cgroup"+name) {
			if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
				busy = true
			}
		}
		if !busy {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (c *container) execURL(t *testing.T, o remotecommand.StreamOptions, command ...string) *url.URL {
	t.Helper()
	r := must[*v1.ExecResponse](t)(c.Exec(ctx(t), &v1.ExecRequest{ContainerId: c.id, Cmd: command, Tty: o.Tty,
		Stdin: o.Stdin != nil, Stdout: o.Stdout != nil, Stderr: o.Stderr != nil}))
	return must[*url.URL](t)(url.Parse(r.Url))
}

func (c *container) attachURL(t *testing.T, o remotecommand.StreamOptions) *url.URL {
	t.Helper()
	r := must[*v1.AttachResponse](t)(c.Attach(ctx(t), &v1.AttachRequest{ContainerId: c.id, Tty: o.Tty,
		Stdin: o.Stdin != nil, Stdout: o.Stdout != nil, Stderr: o.Stderr != nil}))
	return must[*url.URL](t)(url.Parse(r.Url))
}

type dialer func(u *url.URL) (remotecommand.Executor, error)

var config = &rest.Config{}

func spdy(u *url.URL) (remotecommand.Executor, error) {
	return remotecommand.NewSPDYExecutor(config, "POST", u)
}
func websocket(u *url.URL) (remotecommand.Executor, error) {
	return remotecommand.NewWebSocketExecutor(config, "GET", u.String())
}

// Each protocol that client-go has is asked to keep the same promise.
func overEach(t *testing.T, test func(t *testing.T, dial dialer)) {
	for name, dial := range map[string]dialer{"spdy": spdy, "websocket": websocket} {
		t.Run(name, func(t *testing.T) { test(t, dial) })
	}
}

func run(t *testing.T, dial dialer, u *url.URL, o remotecommand.StreamOptions) error {
	t.Helper()
	return must[remotecommand.Executor](t)(dial(u)).StreamWithContext(ctx(t), o)
}
