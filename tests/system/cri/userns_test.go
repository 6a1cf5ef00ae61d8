package cri

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const usernsHost, usernsSize = 300000, 65536

func userns(t *testing.T, c *client) *v1.UserNamespace {
	answer := must[*v1.StatusResponse](t)(c.Status(ctx(t), &v1.StatusRequest{}))
	if !answer.RuntimeHandlers[0].Features.UserNamespaces {
		t.Skip("this kernel, or the runtime, has no user namespaces with idmapped mounts")
	}
	one := []*v1.IDMapping{{HostId: usernsHost, ContainerId: 0, Length: usernsSize}}
	return &v1.UserNamespace{Mode: v1.NamespaceMode_POD, Uids: one, Gids: one}
}

func usernsPod(t *testing.T, c *client) (string, *v1.PodSandboxConfig) {
	sandbox := podConfig(t)
	sandbox.Linux.SecurityContext.NamespaceOptions.UsernsOptions = userns(t, c)
	return c.run(t, sandbox), sandbox
}

func usernsConfig(t *testing.T, c *client, command ...string) *v1.ContainerConfig {
	config := containerConfig("c", command...)
	config.Linux.SecurityContext.NamespaceOptions.UsernsOptions = userns(t, c)
	return config
}

func restart(t *testing.T) {
	t.Helper()
	if said, err := exec.Command("/bin/sh", "-c", os.Getenv("KNARR_RESTART")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
}

func TestUserNamespace(t *testing.T) {
	c := kubelet(t)
	c.pull(t, "box")
	pod, sandbox := usernsPod(t, c)
	volume := t.TempDir()
	if err := os.WriteFile(filepath.Join(volume, "hosts-root"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	config := usernsConfig(t, c, "sleep", "1000")
	maps := config.Linux.SecurityContext.NamespaceOptions.UsernsOptions.Uids
	config.Mounts = []*v1.Mount{
		{HostPath: volume, ContainerPath: "/volume", UidMappings: maps, GidMappings: maps},
		{HostPath: volume, ContainerPath: "/plain"},
	}
	id := c.start(t, pod, config, sandbox)
	want(t, "uid_map", strings.Join(strings.Fields(c.exec(t, id, "cat", "/proc/self/uid_map")), " "), "0 300000 65536")
	want(t, "gid_map", strings.Join(strings.Fields(c.exec(t, id, "cat", "/proc/1/gid_map")), " "), "0 300000 65536")
	for _, path := range []string{"/", "/bin", "/bin/busybox", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/shm",
		"/volume/hosts-root"} {
		want(t, "owner of "+path, c.exec(t, id, "stat", "-L", "-c", "%u:%g", path), "0:0")
	}
	want(t, "owner of a mount without maps", c.exec(t, id, "stat", "-c", "%u", "/plain/hosts-root"), "65534")
	want(t, "a file of the volume", c.exec(t, id, "cat", "/volume/hosts-root"), "secret")
	c.exec(t, id, "sh", "-c", "touch /new /volume/new /dev/shm/new && chown 7:8 /volume/new && rm /bin/true && mkdir /bin/d")
	var st syscall.Stat_t
	if err := syscall.Stat(filepath.Join(volume, "new"), &st); err != nil {
		t.Fatal(err)
	}
	want(t, "owner on the host", [2]uint32{st.Uid, st.Gid}, [2]uint32{7, 8})
	r := must[*v1.PodSandboxStatusResponse](t)(c.PodSandboxStatus(ctx(t), &v1.PodSandboxStatusRequest{PodSandboxId: pod}))
	got := r.Status.Linux.Namespaces.Options.UsernsOptions
	if got == nil || got.Mode != v1.NamespaceMode_POD || len(got.Uids) != 1 || got.Uids[0].HostId != usernsHost ||
		len(got.Gids) != 1 || got.Gids[0].Length != usernsSize {
		t.Errorf("status: %v", got)
	}
}

func TestUserNamespaceWithItsNetwork(t *testing.T) {
	c := kubelet(t)
	c.pull(t, "box")
	sandbox := podConfig(t)
	sandbox.Linux.SecurityContext.NamespaceOptions = &v1.NamespaceOption{Pid: v1.NamespaceMode_POD, UsernsOptions: userns(t, c)}
	sandbox.Hostname = "inside"
	r, err := c.RunPodSandbox(ctx(t), &v1.RunPodSandboxRequest{Config: sandbox})
	if err != nil {
		if strings.Contains(err.Error(), "CNI") || strings.Contains(err.Error(), "network") {
			t.Skipf("this test's knarrd has no network: %v", err)
		}
		t.Fatal(err)
	}
	defer func() {
		must[*v1.StopPodSandboxResponse](t)(c.StopPodSandbox(ctx(t), &v1.StopPodSandboxRequest{PodSandboxId: r.PodSandboxId}))
		must[*v1.RemovePodSandboxResponse](t)(c.RemovePodSandbox(ctx(t), &v1.RemovePodSandboxRequest{PodSandboxId: r.PodSandboxId}))
		removeCgroup(sandbox.Linux.CgroupParent)
	}()
	config := containerConfig("c", "sleep", "1000")
	config.Linux.SecurityContext.NamespaceOptions = sandbox.Linux.SecurityContext.NamespaceOptions
	id := c.start(t, r.PodSandboxId, config, sandbox)
	want(t, "hostname", c.exec(t, id, "hostname"), "inside")
	want(t, "owner of the network's files", c.exec(t, id, "stat", "-c", "%u", "/proc/sys/net/ipv4/ip_forward"), "0")
}

func TestUserNamespaceOutlivesKnarrd(t *testing.T) {
	c := kubelet(t)
	c.pull(t, "box")
	pod, sandbox := usernsPod(t, c)
	id := c.create(t, pod, usernsConfig(t, c, "sleep", "1000"), sandbox)
	restart(t)
	var err error
	eventually(t, "knarrd answers after its restart", func() bool {
		_, err = c.StartContainer(ctx(t), &v1.StartContainerRequest{ContainerId: id})
		return status.Code(err) != codes.Unavailable
	})
	if err != nil {
		t.Fatal(err)
	}
	want(t, "owner of /", c.exec(t, id, "stat", "-c", "%u", "/"), "0")
	config := usernsConfig(t, c, "sh", "-c", "stat -c %u /; id -u")
	config.Metadata.Name = "second"
	config.LogPath = "second.log"
	config.Linux.SecurityContext.RunAsUser = &v1.Int64Value{Value: 1000}
	c.exited(t, c.start(t, pod, config, sandbox))
	want(t, "log", strings.Join(logLines(t, sandbox, "second.log"), "|"), "stdout F 0|stdout F 1000")
}

func TestUserNamespaceRefused(t *testing.T) {
	c := kubelet(t)
	c.pull(t, "box")
	one := userns(t, c).Uids
	for name, u := range map[string]*v1.UserNamespace{
		"it must be one":    {Mode: v1.NamespaceMode_POD, Uids: append(one[:1:1], one[0]), Gids: one},
		"0 is not mapped":   {Mode: v1.NamespaceMode_POD, Uids: one, Gids: []*v1.IDMapping{{HostId: 5, ContainerId: 1, Length: 9}}},
		"no 0 ids":          {Mode: v1.NamespaceMode_POD, Uids: []*v1.IDMapping{{HostId: 5}}, Gids: one},
		"only POD and NODE": {Mode: v1.NamespaceMode_CONTAINER, Uids: one, Gids: one},
		"the mode NODE":     {Mode: v1.NamespaceMode_NODE, Uids: one},
	} {
		sandbox := podConfig(t)
		sandbox.Linux.SecurityContext.NamespaceOptions.UsernsOptions = u
		_, err := c.RunPodSandbox(ctx(t), &v1.RunPodSandboxRequest{Config: sandbox})
		wantCode(t, err, codes.InvalidArgument, name)
	}
	sandbox := podConfig(t)
	sandbox.Linux.SecurityContext.NamespaceOptions.UsernsOptions = userns(t, c)
	sandbox.Linux.SecurityContext.NamespaceOptions.Pid = v1.NamespaceMode_NODE
	_, err := c.RunPodSandbox(ctx(t), &v1.RunPodSandboxRequest{Config: sandbox})
	wantCode(t, err, codes.InvalidArgument, "PID namespace")
	plain := podConfig(t)
	_, err = c.CreateContainer(ctx(t), &v1.CreateContainerRequest{PodSandboxId: c.run(t, plain),
		Config: usernsConfig(t, c, "true"), SandboxConfig: plain})
	wantCode(t, err, codes.InvalidArgument, "not its pod's")
}
