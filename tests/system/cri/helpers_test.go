// What kubelet sees of knarrd through the CRI: pods, containers, images, errors. ./run starts the registry and the
// knarrd that these tests talk to.
package cri

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

type client struct {
	v1.RuntimeServiceClient
	images v1.ImageServiceClient
}

const messageMax = 16 << 20 // kubelet's

func dial(t *testing.T, socket string) *client {
	t.Helper()
	if socket == "" {
		t.Fatal("KNARR_SOCK is not set: run tests/system/cri/run")
	}
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageMax), grpc.MaxCallSendMsgSize(64<<20)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &client{v1.NewRuntimeServiceClient(conn), v1.NewImageServiceClient(conn)}
}

func kubelet(t *testing.T) *client { return dial(t, os.Getenv("KNARR_SOCK")) }

func ctx(t *testing.T) context.Context {
	c, cancel := context.WithTimeout(t.Context(), time.Minute)
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

func wantCode(t *testing.T, err error, code codes.Code, part string) {
	t.Helper()
	if status.Code(err) != code || !strings.Contains(fmt.Sprint(err), part) {
		t.Errorf("got %v, wanted %v with %q", err, code, part)
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
	for end := time.Now().Add(20 * time.Second); !check(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func image(name string) string { return os.Getenv("KNARR_REGISTRY") + "/knarr/" + name + ":latest" }

func (c *client) pull(t *testing.T, name string) string {
	t.Helper()
	r := must[*v1.PullImageResponse](t)(c.images.PullImage(ctx(t), &v1.PullImageRequest{
		Image: &v1.ImageSpec{Image: image(name)}}))
	return r.ImageRef
}

var serial atomic.Int64

// A pod in the host's network, with a log folder of its own.
func podConfig(t *testing.T) *v1.PodSandboxConfig {
	n := serial.Add(1)
	name := fmt.Sprintf("knarr-test-%d-%d", os.Getpid(), n)
	return &v1.PodSandboxConfig{
		Metadata:     &v1.PodSandboxMetadata{Name: name, Uid: name + "-uid", Namespace: "default"},
		LogDirectory: t.TempDir(),
		Labels:       map[string]string{"test": t.Name(), "app": name},
		Linux: &v1.LinuxPodSandboxConfig{
			CgroupParent: "/" + name,
			SecurityContext: &v1.LinuxSandboxSecurityContext{
				NamespaceOptions: &v1.NamespaceOption{Network: v1.NamespaceMode_NODE, Pid: v1.NamespaceMode_CONTAINER},
			}},
	}
}

func (c *client) run(t *testing.T, config *v1.PodSandboxConfig) string {
	t.Helper()
	r := must[*v1.RunPodSandboxResponse](t)(c.RunPodSandbox(ctx(t), &v1.RunPodSandboxRequest{Config: config}))
	id := r.PodSandboxId
	t.Cleanup(func() {
		background, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if _, err := c.StopPodSandbox(background, &v1.StopPodSandboxRequest{PodSandboxId: id}); err != nil {
			t.Errorf("stop: %v", err)
		}
		if _, err := c.RemovePodSandbox(background, &v1.RemovePodSandboxRequest{PodSandboxId: id}); err != nil {
			t.Errorf("remove: %v", err)
		}
		removeCgroup(config.Linux.CgroupParent)
	})
	return id
}

// As kubelet does, in every hierarchy. One whose child has just gone is busy for a moment.
func removeCgroup(name string) {
	for range 200 {
		left, _ := filepath.Glob("/sys/fs/cgroup/*" + name)
		left = append(left, "/sys/fs/cgroup"+name)
		busy := false
		for _, path := range left {
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

func containerConfig(name string, command ...string) *v1.ContainerConfig {
	return &v1.ContainerConfig{
		Metadata: &v1.ContainerMetadata{Name: name},
		Image:    &v1.ImageSpec{Image: image("box")},
		Command:  command,
		LogPath:  name + ".log",
		Linux: &v1.LinuxContainerConfig{
			Resources: &v1.LinuxContainerResources{},
			SecurityContext: &v1.LinuxContainerSecurityContext{
				NamespaceOptions: &v1.NamespaceOption{Network: v1.NamespaceMode_NODE, Pid: v1.NamespaceMode_CONTAINER},
			}},
	}
}

func (c *client) create(t *testing.T, pod string, config *v1.ContainerConfig, sandbox *v1.PodSandboxConfig) string {
	t.Helper()
	return must[*v1.CreateContainerResponse](t)(c.CreateContainer(ctx(t), &v1.CreateContainerRequest{
		PodSandboxId: pod, Config: config, SandboxConfig: sandbox})).ContainerId
}

func (c *client) start(t *testing.T, pod string, config *v1.ContainerConfig, sandbox *v1.PodSandboxConfig) string {
	t.Helper()
	id := c.create(t, pod, config, sandbox)
	must[*v1.StartContainerResponse](t)(c.StartContainer(ctx(t), &v1.StartContainerRequest{ContainerId: id}))
	return id
}

// A container that runs until it is stopped, in a pod of its own.
func (c *client) sleeper(t *testing.T, change func(*v1.ContainerConfig)) string {
	t.Helper()
	c.pull(t, "box")
	sandbox := podConfig(t)
	config := containerConfig("c", "sleep", "1000")
	if change != nil {
		change(config)
		if config.Linux.SecurityContext.Privileged {
			sandbox.Linux.SecurityContext.Privileged = true
		}
	}
	return c.start(t, c.run(t, sandbox), config, sandbox)
}

func (c *client) status(t *testing.T, id string) *v1.ContainerStatus {
	t.Helper()
	return must[*v1.ContainerStatusResponse](t)(c.ContainerStatus(ctx(t), &v1.ContainerStatusRequest{ContainerId: id})).Status
}

func (c *client) exited(t *testing.T, id string) *v1.ContainerStatus {
	t.Helper()
	eventually(t, "the container exits", func() bool { return c.status(t, id).State == v1.ContainerState_CONTAINER_EXITED })
	return c.status(t, id)
}

func (c *client) exec(t *testing.T, id string, command ...string) string {
	t.Helper()
	r := must[*v1.ExecSyncResponse](t)(c.ExecSync(ctx(t), &v1.ExecSyncRequest{ContainerId: id, Cmd: command, Timeout: 20}))
	if r.ExitCode != 0 {
		t.Fatalf("%q exits with %d: %s%s", command, r.ExitCode, r.Stdout, r.Stderr)
	}
	return strings.TrimSuffix(string(r.Stdout), "\n")
}

// The texts of a CRI log, without time, stream and tag.
func logLines(t *testing.T, sandbox *v1.PodSandboxConfig, path string) []string {
	t.Helper()
	text := must[[]byte](t)(os.ReadFile(filepath.Join(sandbox.LogDirectory, path)))
	var lines []string
	for _, line := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
		parts := strings.SplitN(line, " ", 4)
		if len(parts) != 4 {
			t.Fatalf("no line of a CRI log: %q", line)
		}
		lines = append(lines, parts[1]+" "+parts[2]+" "+parts[3])
	}
	return lines
}
