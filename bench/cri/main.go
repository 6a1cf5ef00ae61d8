// cri-bench times CRI endpoints side by side, in one interleaved run: pod by pod, in turn, so that a machine whose speed
// drifts treats all alike.
//
//	cri-bench -image REF [-n 30] [-pods 50] [-c 10] [-net host,pod] [-listed 100] [-bytes N] NAME=SOCKET[,CGROUP…]…
//
// The first endpoint is the one the others are compared with: each figure is followed by first/other. CPU is what the
// cgroups of the endpoint used (those that are named: the daemon's and its helpers'; and that of its pods), so that
// other work on the machine does not count; the kernel's own threads do not either. Memory is PSS
// (/proc/PID/smaps_rollup) of the daemon, found by the socket's peer credentials, and of its helpers: the processes of
// those cgroups that came with the pods and are not in them.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

type endpoint struct {
	name, socket string
	runtime      cri.RuntimeServiceClient
	image        cri.ImageServiceClient
	pid          int
	groups       []string // paths below the root of the hierarchy that counts CPU
	parent       string   // of its pods
	ids          []podID
	samples      map[string][]float64
}

var (
	image  = flag.String("image", "", "image with sh, sleep and true")
	n      = flag.Int("n", 30, "pods one after the other")
	pods   = flag.Int("pods", 50, "pods at the same time")
	conc   = flag.Int("c", 10, "how many are made at once")
	nets   = flag.String("net", "host,pod", "networks to measure")
	listed = flag.Int("listed", 100, "pods whose lists, probes and restart are timed; 0: none")
	size   = flag.Int64("bytes", 256<<20, "bytes of a session whose throughput is measured; 0: no sessions")
	parent = flag.String("parent", "/knarr-bench", "cgroup parent; each endpoint's pods are in a child of it")
	serial int
)

func fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "cri-bench: "+format+"\n", args...)
	os.Exit(1)
}

func must[T any](v T, err error) T {
	if err != nil {
		fail("%v", err)
	}
	return v
}

// The pid of who serves the socket.
func peer(socket string) int {
	conn := must(net.Dial("unix", socket))
	defer conn.Close()
	raw := must(conn.(*net.UnixConn).SyscallConn())
	var cred *syscall.Ucred
	raw.Control(func(fd uintptr) { cred, _ = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED) })
	return int(cred.Pid)
}

func pss(pid int) int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	for _, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(line, "Pss:") {
			kib, _ := strconv.Atoi(strings.Fields(line)[1])
			return kib
		}
	}
	return 0
}

func processes() map[int]string {
	all := map[int]string{}
	for _, path := range must(filepath.Glob("/proc/[0-9]*")) {
		pid, _ := strconv.Atoi(filepath.Base(path))
		link, _ := os.Readlink(path + "/ns/pid")
		all[pid] = link
	}
	return all
}

// Where the kernel counts the CPU time of cgroups, and in which file and unit.
func cpuHierarchy() (root, file string) {
	for _, dir := range []string{"cpuacct", "cpu,cpuacct"} {
		if _, err := os.Stat("/sys/fs/cgroup/" + dir + "/cpuacct.usage"); err == nil {
			return "/sys/fs/cgroup/" + dir, "cpuacct.usage"
		}
	}
	return "/sys/fs/cgroup", "cpu.stat"
}

// CPU milliseconds that the endpoint's cgroups have used, those that are gone included.
func (e *endpoint) cpu() float64 {
	root, file := cpuHierarchy()
	sum := 0.0
	for _, group := range append([]string{e.parent}, e.groups...) {
		text, _ := os.ReadFile(filepath.Join(root, group, file)) // the pods' is not there before the first pod
		if fields := strings.Fields(string(text)); file == "cpu.stat" && len(fields) > 1 {
			us, _ := strconv.ParseFloat(fields[1], 64)
			sum += us / 1e3
		} else if len(fields) > 0 {
			ns, _ := strconv.ParseFloat(fields[0], 64)
			sum += ns / 1e6
		}
	}
	return sum
}

func (e *endpoint) owns(pid int) bool {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	for _, group := range append([]string{e.parent}, e.groups...) {
		if strings.Contains(string(text), group) {
			return true
		}
	}
	return false
}

func (e *endpoint) time(what string, f func() error) {
	start := time.Now()
	if err := f(); err != nil {
		fail("%s: %s: %v", e.name, what, err)
	}
	e.samples[what] = append(e.samples[what], float64(time.Since(start).Microseconds())/1000)
}

func (e *endpoint) add(what string, v float64) { e.samples[what] = append(e.samples[what], v) }

func (e *endpoint) podConfig(network, logs string) *cri.PodSandboxConfig {
	serial++
	name := fmt.Sprintf("bench-%d-%d", os.Getpid(), serial)
	mode := cri.NamespaceMode_POD
	host := name
	if network == "host" {
		mode, host = cri.NamespaceMode_NODE, ""
	}
	return &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: name, Uid: name, Namespace: "bench"},
		Hostname:     host,
		LogDirectory: filepath.Join(logs, name),
		Linux: &cri.LinuxPodSandboxConfig{CgroupParent: e.parent, SecurityContext: &cri.LinuxSandboxSecurityContext{
			NamespaceOptions: &cri.NamespaceOption{Network: mode, Pid: cri.NamespaceMode_CONTAINER}}},
	}
}

// As kubelet sends them.
var (
	masked = []string{"/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
		"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"}
	readonly = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

func containerConfig(p *cri.PodSandboxConfig) *cri.ContainerConfig {
	return &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: "c"},
		Image:    &cri.ImageSpec{Image: *image},
		Command:  []string{"sleep", "100000"},
		LogPath:  "0.log",
		Linux: &cri.LinuxContainerConfig{
			Resources: &cri.LinuxContainerResources{MemoryLimitInBytes: 1 << 30},
			SecurityContext: &cri.LinuxContainerSecurityContext{
				NamespaceOptions: p.Linux.SecurityContext.NamespaceOptions,
				MaskedPaths:      masked,
				ReadonlyPaths:    readonly,
				Seccomp:          &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault}}},
	}
}

func (e *endpoint) up(ctx context.Context, p *cri.PodSandboxConfig, measure func(string, func() error)) (pod, ctr string) {
	os.MkdirAll(p.LogDirectory, 0o755)
	measure("RunPodSandbox", func() error {
		r, err := e.runtime.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: p})
		pod = r.GetPodSandboxId()
		return err
	})
	measure("CreateContainer", func() error {
		r, err := e.runtime.CreateContainer(ctx, &cri.CreateContainerRequest{PodSandboxId: pod, Config: containerConfig(p),
			SandboxConfig: p})
		ctr = r.GetContainerId()
		return err
	})
	measure("StartContainer", func() error {
		_, err := e.runtime.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: ctr})
		return err
	})
	return
}

func (e *endpoint) down(ctx context.Context, pod, ctr string, measure func(string, func() error)) {
	measure("StopContainer", func() error {
		_, err := e.runtime.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: ctr})
		return err
	})
	measure("RemoveContainer", func() error {
		_, err := e.runtime.RemoveContainer(ctx, &cri.RemoveContainerRequest{ContainerId: ctr})
		return err
	})
	measure("StopPodSandbox", func() error {
		_, err := e.runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: pod})
		return err
	})
	measure("RemovePodSandbox", func() error {
		_, err := e.runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: pod})
		return err
	})
}

func sum(e *endpoint, last int, prefix string, names ...string) {
	total := 0.0
	for _, name := range names {
		s := e.samples[prefix+name]
		total += s[len(s)-1]
	}
	e.add(fmt.Sprintf("%s= %s", prefix, map[int]string{3: "pod up, all three", 4: "stop and remove it"}[last]), total)
}

func (e *endpoint) life(ctx context.Context, network, logs string) {
	prefix := network + ": "
	timed := func(what string, f func() error) { e.time(prefix+what, f) }
	cpu := e.cpu()
	pod, ctr := e.up(ctx, e.podConfig(network, logs), timed)
	sum(e, 3, prefix, "RunPodSandbox", "CreateContainer", "StartContainer")
	timed("ExecSync true", func() error {
		r, err := e.runtime.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: ctr, Cmd: []string{"true"}, Timeout: 10})
		if err == nil && r.ExitCode != 0 {
			err = fmt.Errorf("exit code %d", r.ExitCode)
		}
		return err
	})
	e.down(ctx, pod, ctr, timed)
	sum(e, 4, prefix, "StopContainer", "RemoveContainer", "StopPodSandbox", "RemovePodSandbox")
	e.add(prefix+"CPU of the whole life", e.cpu()-cpu)
}

func (e *endpoint) scale(ctx context.Context, network, logs string) {
	prefix := fmt.Sprintf("%s, %d pods: ", network, *pods)
	plain := plainly(e)
	before := processes()
	e.add(prefix+"daemon PSS before, KiB", float64(pss(e.pid)))
	configs := make([]*cri.PodSandboxConfig, *pods)
	for i := range configs {
		configs[i] = e.podConfig(network, logs)
	}
	ids := make([]podID, *pods)
	each := func(f func(i int)) float64 {
		start := time.Now()
		inParallel(*pods, *conc, f)
		return float64(time.Since(start).Milliseconds())
	}
	e.add(prefix+"up", each(func(i int) { ids[i].pod, ids[i].ctr = e.up(ctx, configs[i], plain) }))
	time.Sleep(2 * time.Second) // what lies idle is what a node pays
	e.add(prefix+"daemon PSS, KiB", float64(pss(e.pid)))
	helpers := 0
	own, _ := os.Readlink("/proc/self/ns/pid")
	for pid, ns := range processes() {
		if _, old := before[pid]; !old && ns == own && pid != e.pid && e.owns(pid) {
			helpers += pss(pid)
		}
	}
	e.add(prefix+"helpers' PSS a pod, KiB", float64(helpers)/float64(*pods))
	e.add(prefix+"PSS of daemon and helpers, KiB", float64(helpers+pss(e.pid)))
	e.time(prefix+"ListContainers", func() error {
		_, err := e.runtime.ListContainers(ctx, &cri.ListContainersRequest{})
		return err
	})
	e.time(prefix+"ListContainerStats", func() error {
		_, err := e.runtime.ListContainerStats(ctx, &cri.ListContainerStatsRequest{})
		return err
	})
	e.add(prefix+"down", each(func(i int) { e.down(ctx, ids[i].pod, ids[i].ctr, plain) }))
}

func quantile(v []float64, q float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := append([]float64{}, v...)
	sort.Float64s(s)
	return s[int(float64(len(s)-1)*q)]
}

func report(all []*endpoint) {
	var names []string
	for _, e := range all {
		for name := range e.samples {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	names = slices.Compact(names)
	fmt.Printf("%-44s", "min median (p95), ms unless said")
	for _, e := range all {
		fmt.Printf(" %36s", e.name)
	}
	fmt.Println()
	for _, name := range names {
		fmt.Printf("%-44s", name)
		for i, e := range all {
			text := fmt.Sprintf("%.2f %.2f (%.2f)", quantile(e.samples[name], 0), quantile(e.samples[name], .5), quantile(e.samples[name], .95))
			if i > 0 && len(e.samples[name]) > 0 && len(all[0].samples[name]) > 0 {
				text += fmt.Sprintf(" ×%.3f", quantile(all[0].samples[name], .5)/quantile(e.samples[name], .5))
			}
			fmt.Printf(" %36s", text)
		}
		fmt.Println()
	}
}

func main() {
	flag.Parse()
	if *image == "" || flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, logs := context.Background(), must(os.MkdirTemp("", "cri-bench-"))
	defer os.RemoveAll(logs)
	var all []*endpoint
	for _, arg := range flag.Args() {
		name, rest, _ := strings.Cut(arg, "=")
		groups := strings.Split(rest, ",")
		socket := groups[0]
		conn := must(grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials())))
		e := &endpoint{name: name, socket: socket, runtime: cri.NewRuntimeServiceClient(conn),
			image: cri.NewImageServiceClient(conn), pid: peer(socket), groups: groups[1:],
			parent: *parent + "/" + name, samples: map[string][]float64{}}
		must(e.image.PullImage(ctx, &cri.PullImageRequest{Image: &cri.ImageSpec{Image: *image}}))
		all = append(all, e)
	}
	for _, network := range strings.Split(*nets, ",") {
		for i := range *n + 1 {
			for _, e := range all {
				e.life(ctx, network, logs)
				if i == 0 { // the first is the warm-up
					e.samples = warm(e.samples, network)
				}
				e.time("Version", func() error { _, err := e.runtime.Version(ctx, &cri.VersionRequest{}); return err })
			}
		}
		for _, e := range all {
			if *pods > 0 {
				e.scale(ctx, network, logs)
			}
		}
	}
	if *size > 0 {
		streams(ctx, all, logs, *n, *size)
	}
	if *listed > 0 {
		node(ctx, all, logs, *listed)
	}
	report(all)
	for _, e := range all { // children first
		for _, group := range []string{e.parent, *parent} {
			for _, dir := range append(must(filepath.Glob("/sys/fs/cgroup/*"+group)), "/sys/fs/cgroup"+group) {
				os.Remove(dir) // another bench may use it
			}
		}
	}
}

func warm(samples map[string][]float64, network string) map[string][]float64 {
	for name := range samples {
		if strings.HasPrefix(name, network+": ") {
			delete(samples, name)
		}
	}
	return samples
}
