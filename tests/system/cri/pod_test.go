package cri

import (
	"maps"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func (c *client) pods(t *testing.T, filter *v1.PodSandboxFilter) []string {
	t.Helper()
	ids := []string{}
	r := must[*v1.ListPodSandboxResponse](t)(c.ListPodSandbox(ctx(t), &v1.ListPodSandboxRequest{Filter: filter}))
	for _, p := range r.Items {
		ids = append(ids, p.Id)
	}
	return ids
}

func has(ids []string, id string) bool {
	for _, i := range ids {
		if i == id {
			return true
		}
	}
	return false
}

func TestPodLife(t *testing.T) {
	c := kubelet(t)
	config := podConfig(t)
	config.Annotations = map[string]string{"json": "{\"a\": \"\\u00e9\"}", "empty": "", "lines": "a\nb\t\x01", "ü": "ключ"}
	before := time.Now().UnixNano()
	id := c.run(t, config)
	if len(id) != 64 {
		t.Errorf("id is %q", id)
	}
	r := must[*v1.PodSandboxStatusResponse](t)(c.PodSandboxStatus(ctx(t), &v1.PodSandboxStatusRequest{PodSandboxId: id, Verbose: true}))
	s := r.Status
	want(t, "id", s.Id, id)
	want(t, "state", s.State, v1.PodSandboxState_SANDBOX_READY)
	want(t, "metadata", s.Metadata.String(), config.Metadata.String())
	want(t, "namespaces", s.Linux.Namespaces.Options.Network, v1.NamespaceMode_NODE)
	want(t, "handler", s.RuntimeHandler, "")
	if !maps.Equal(s.Annotations, config.Annotations) || !maps.Equal(s.Labels, config.Labels) {
		t.Errorf("annotations are %q, labels %q", s.Annotations, s.Labels)
	}
	if s.CreatedAt < before || s.CreatedAt > time.Now().UnixNano() {
		t.Errorf("created_at is %d", s.CreatedAt)
	}
	if s.Network.GetIp() != "" {
		t.Errorf("a pod in the host's network has the address %s", s.Network.Ip)
	}
	if !strings.Contains(r.Info["info"], "\"pid\":") {
		t.Errorf("info is %q", r.Info)
	}

	ready := &v1.PodSandboxStateValue{State: v1.PodSandboxState_SANDBOX_READY}
	notReady := &v1.PodSandboxStateValue{State: v1.PodSandboxState_SANDBOX_NOTREADY}
	app := config.Labels["app"]
	for what, f := range map[string]struct {
		filter *v1.PodSandboxFilter
		in     bool
	}{
		"none":             {nil, true},
		"id":               {&v1.PodSandboxFilter{Id: id}, true},
		"prefix":           {&v1.PodSandboxFilter{Id: id[:13]}, true},
		"other id":         {&v1.PodSandboxFilter{Id: "ffffffffffff"}, false},
		"ready":            {&v1.PodSandboxFilter{State: ready}, true},
		"not ready":        {&v1.PodSandboxFilter{State: notReady}, false},
		"label":            {&v1.PodSandboxFilter{LabelSelector: map[string]string{"app": app}}, true},
		"both labels":      {&v1.PodSandboxFilter{LabelSelector: map[string]string{"app": app, "test": t.Name()}}, true},
		"one label wrong":  {&v1.PodSandboxFilter{LabelSelector: map[string]string{"app": app, "test": "x"}}, false},
		"label, not ready": {&v1.PodSandboxFilter{LabelSelector: map[string]string{"app": app}, State: notReady}, false},
	} {
		if has(c.pods(t, f.filter), id) != f.in {
			t.Errorf("filter %s: wanted %v", what, f.in)
		}
	}

	for range 2 {
		must[*v1.StopPodSandboxResponse](t)(c.StopPodSandbox(ctx(t), &v1.StopPodSandboxRequest{PodSandboxId: id}))
	}
	r = must[*v1.PodSandboxStatusResponse](t)(c.PodSandboxStatus(ctx(t), &v1.PodSandboxStatusRequest{PodSandboxId: id}))
	want(t, "state", r.Status.State, v1.PodSandboxState_SANDBOX_NOTREADY)
	want(t, "info", len(r.Info), 0)
	_, err := c.CreateContainer(ctx(t), &v1.CreateContainerRequest{PodSandboxId: id, Config: containerConfig("c", "true"), SandboxConfig: config})
	if err == nil {
		t.Error("a container was made in a stopped pod")
	}
	for range 2 {
		must[*v1.RemovePodSandboxResponse](t)(c.RemovePodSandbox(ctx(t), &v1.RemovePodSandboxRequest{PodSandboxId: id}))
	}
	_, err = c.PodSandboxStatus(ctx(t), &v1.PodSandboxStatusRequest{PodSandboxId: id})
	wantCode(t, err, codes.NotFound, id)
}

func TestTheSamePodAskedTwiceIsOne(t *testing.T) {
	c := kubelet(t)
	config := podConfig(t)
	id := c.run(t, config)
	_, err := c.RunPodSandbox(ctx(t), &v1.RunPodSandboxRequest{Config: config})
	wantCode(t, err, codes.AlreadyExists, config.Metadata.Name)
	if !has(c.pods(t, nil), id) {
		t.Error("the first is gone")
	}
}

func TestPodsBelongToTheirSocket(t *testing.T) {
	c, user := kubelet(t), dial(t, os.Getenv("KNARR_USER_SOCK"))
	id := c.run(t, podConfig(t))
	if has(user.pods(t, nil), id) {
		t.Error("the user's socket lists kubelet's pod")
	}
	_, err := user.PodSandboxStatus(ctx(t), &v1.PodSandboxStatusRequest{PodSandboxId: id})
	wantCode(t, err, codes.NotFound, id)
}

func TestPodWithANetworkOfItsOwn(t *testing.T) {
	c := kubelet(t)
	c.pull(t, "box")
	config := podConfig(t)
	config.Hostname = "knarr-host"
	config.DnsConfig = &v1.DNSConfig{Servers: []string{"10.0.0.10"}, Searches: []string{"svc.local"}, Options: []string{"ndots:5"}}
	config.Linux.SecurityContext.NamespaceOptions.Network = v1.NamespaceMode_POD
	config.Linux.Sysctls = map[string]string{"net.ipv4.ip_unprivileged_port_start": "80"}
	pod := c.run(t, config)
	s := must[*v1.PodSandboxStatusResponse](t)(c.PodSandboxStatus(ctx(t), &v1.PodSandboxStatusRequest{PodSandboxId: pod})).Status
	if net.ParseIP(s.Network.Ip) == nil {
		t.Fatalf("the address is %q", s.Network.Ip)
	}
	k := containerConfig("c", "sleep", "1000")
	k.Linux.SecurityContext.NamespaceOptions.Network = v1.NamespaceMode_POD
	id := c.start(t, pod, k, config)
	want(t, "hostname", c.exec(t, id, "hostname"), "knarr-host")
	want(t, "HOSTNAME", c.exec(t, id, "sh", "-c", "echo $HOSTNAME"), "knarr-host")
	want(t, "resolv.conf", c.exec(t, id, "cat", "/etc/resolv.conf"), "search svc.local\nnameserver 10.0.0.10\noptions ndots:5")
	want(t, "sysctl", c.exec(t, id, "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start"), "80")
	want(t, "who may ping", c.exec(t, id, "cat", "/proc/sys/net/ipv4/ping_group_range"), "0\t2147483647")
	if addr := c.exec(t, id, "ip", "addr"); !strings.Contains(addr, s.Network.Ip) || !strings.Contains(addr, "lo: <LOOPBACK,UP") {
		t.Errorf("ip addr: %s", addr)
	}
	stats := must[*v1.PodSandboxStatsResponse](t)(c.PodSandboxStats(ctx(t), &v1.PodSandboxStatsRequest{PodSandboxId: pod})).Stats
	want(t, "stats of", stats.Attributes.Id, pod)
	want(t, "interface", stats.Linux.Network.GetDefaultInterface().GetName(), "eth0")
	want(t, "containers", len(stats.Linux.Containers), 1)
}

func TestContainersOfAPodShareWhatItShares(t *testing.T) {
	c := kubelet(t)
	c.pull(t, "box")
	config := podConfig(t)
	config.Linux.SecurityContext.NamespaceOptions.Pid = v1.NamespaceMode_POD
	pod := c.run(t, config)
	shared := func(name string, mode v1.NamespaceMode, target string) string {
		k := containerConfig(name, "sleep", "1000")
		k.Linux.SecurityContext.NamespaceOptions.Pid = mode
		k.Linux.SecurityContext.NamespaceOptions.TargetId = target
		return c.start(t, pod, k, config)
	}
	a, b := shared("a", v1.NamespaceMode_POD, ""), shared("b", v1.NamespaceMode_POD, "")
	own, node := shared("own", v1.NamespaceMode_CONTAINER, ""), shared("node", v1.NamespaceMode_NODE, "")
	target := shared("target", v1.NamespaceMode_TARGET, own)
	ns := func(id, kind string) string { return c.exec(t, id, "readlink", "/proc/self/ns/"+kind) }
	want(t, "b's pid namespace", ns(b, "pid"), ns(a, "pid"))
	want(t, "target's pid namespace", ns(target, "pid"), ns(own, "pid"))
	host := must[string](t)(os.Readlink("/proc/self/ns/pid"))
	want(t, "node's pid namespace", ns(node, "pid"), host)
	if ns(own, "pid") == ns(a, "pid") || ns(own, "pid") == host {
		t.Error("own has no pid namespace of its own")
	}
	want(t, "ipc", ns(b, "ipc"), ns(a, "ipc"))
	want(t, "net", ns(a, "net"), must[string](t)(os.Readlink("/proc/self/ns/net")))
	c.exec(t, a, "sh", "-c", "echo hello >/dev/shm/x")
	want(t, "/dev/shm", c.exec(t, b, "cat", "/dev/shm/x"), "hello")
}
