package cri

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// What kubelet's /metrics/cadvisor has had of containers, by cri-tools' list for Kubernetes 1.37.
var cadvisorNames = strings.Fields(`
	container_blkio_device_usage_total container_cpu_cfs_periods_total container_cpu_cfs_throttled_periods_total
	container_cpu_cfs_throttled_seconds_total container_cpu_system_seconds_total container_cpu_usage_seconds_total
	container_cpu_user_seconds_total container_file_descriptors container_fs_inodes_free container_fs_inodes_total
	container_fs_limit_bytes container_fs_reads_bytes_total container_fs_reads_total container_fs_usage_bytes
	container_fs_writes_bytes_total container_fs_writes_total container_hugetlb_max_usage_bytes
	container_hugetlb_usage_bytes container_last_seen container_memory_cache container_memory_failcnt
	container_memory_failures_total container_memory_kernel_usage container_memory_mapped_file
	container_memory_max_usage_bytes container_memory_rss container_memory_swap container_memory_usage_bytes
	container_memory_working_set_bytes container_network_receive_bytes_total container_network_receive_errors_total
	container_network_receive_packets_dropped_total container_network_receive_packets_total
	container_network_transmit_bytes_total container_network_transmit_errors_total
	container_network_transmit_packets_dropped_total container_network_transmit_packets_total
	container_oom_events_total container_pressure_cpu_stalled_seconds_total
	container_pressure_cpu_waiting_seconds_total container_pressure_io_stalled_seconds_total
	container_pressure_io_waiting_seconds_total container_pressure_memory_stalled_seconds_total
	container_pressure_memory_waiting_seconds_total container_processes container_sockets
	container_spec_cpu_period container_spec_cpu_quota container_spec_cpu_shares container_spec_memory_limit_bytes
	container_spec_memory_reservation_limit_bytes container_spec_memory_swap_limit_bytes
	container_start_time_seconds container_threads container_threads_max container_ulimits_soft`)

// What depends on the kernel's controllers and on whether the container had a disk to write to.
func isOptional(name string) bool {
	for _, part := range []string{"_blkio_", "_fs_reads_", "_fs_writes_", "_hugetlb_", "_pressure_"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

func descriptors(t *testing.T, c *client) map[string][]string {
	t.Helper()
	r := must[*v1.ListMetricDescriptorsResponse](t)(c.ListMetricDescriptors(ctx(t), &v1.ListMetricDescriptorsRequest{}))
	keys := map[string][]string{}
	for _, d := range r.Descriptors {
		if d.Help == "" || keys[d.Name] != nil {
			t.Errorf("descriptor %s: help %q, keys before %v", d.Name, d.Help, keys[d.Name])
		}
		keys[d.Name] = d.LabelKeys
	}
	return keys
}

// The pod's metrics as "name{key=value,…}" without the labels that say whose they are.
func metricsOf(t *testing.T, c *client, pod string) (ofPod, ofContainer map[string]uint64, base map[string]string) {
	t.Helper()
	keys := descriptors(t, c)
	r := must[*v1.ListPodSandboxMetricsResponse](t)(c.ListPodSandboxMetrics(ctx(t), &v1.ListPodSandboxMetricsRequest{}))
	base = map[string]string{}
	read := func(metrics []*v1.Metric, into map[string]uint64) {
		for _, m := range metrics {
			if len(keys[m.Name]) != len(m.LabelValues) || len(m.LabelValues) == 0 {
				t.Fatalf("%s has labels %v of %v", m.Name, m.LabelValues, keys[m.Name])
			}
			var more []string
			for i, key := range keys[m.Name] {
				if slices.Contains([]string{"container", "id", "image", "name", "namespace", "pod"}, key) {
					base[key] = m.LabelValues[i]
				} else {
					more = append(more, key+"="+m.LabelValues[i])
				}
			}
			name := m.Name
			if more != nil {
				name += "{" + strings.Join(more, ",") + "}"
			}
			if _, twice := into[name]; twice {
				t.Errorf("%s is there twice", name)
			}
			into[name] = m.Value.GetValue()
			if strings.HasSuffix(m.Name, "_total") != (m.MetricType == v1.MetricType_COUNTER) && m.Name != "container_memory_failcnt" &&
				m.Name != "container_fs_inodes_total" {
				t.Errorf("%s is a %v", m.Name, m.MetricType)
			}
		}
	}
	ofPod, ofContainer = map[string]uint64{}, map[string]uint64{}
	for _, p := range r.PodMetrics {
		if p.PodSandboxId != pod {
			continue
		}
		read(p.Metrics, ofPod)
		for _, k := range p.ContainerMetrics {
			read(k.Metrics, ofContainer)
		}
	}
	return ofPod, ofContainer, base
}

func TestMetricsHaveCadvisorsNamesAndLabels(t *testing.T) {
	c := kubelet(t)
	keys := descriptors(t, c)
	for _, name := range cadvisorNames {
		if keys[name] == nil {
			t.Errorf("%s is not described", name)
		}
	}
	c.pull(t, "box")
	sandbox := podConfig(t)
	sandbox.Linux.SecurityContext.NamespaceOptions.Network = v1.NamespaceMode_POD
	config := containerConfig("c", "exec sleep 1000 <>/dev/zero 3<&0 4<&0")
	config.Command, config.Args = nil, config.Command
	config.Linux.SecurityContext.NamespaceOptions.Network = v1.NamespaceMode_POD
	config.Linux.Resources = &v1.LinuxContainerResources{CpuPeriod: 50000, CpuQuota: 25000, CpuShares: 512,
		MemoryLimitInBytes: 64 << 20, MemorySwapLimitInBytes: 64 << 20}
	pod := c.run(t, sandbox)
	c.start(t, pod, config, sandbox)
	eventually(t, "the shell has become sleep", func() bool {
		_, of, _ := metricsOf(t, c, pod)
		return of["container_processes"] == 1 && of["container_file_descriptors"] == 5
	})
	ofPod, of, base := metricsOf(t, c, pod)
	found := map[string]bool{}
	for _, metrics := range []map[string]uint64{ofPod, of} {
		for name := range metrics {
			found[strings.SplitN(name, "{", 2)[0]] = true
		}
	}
	for _, name := range cadvisorNames {
		if !found[name] && !isOptional(name) {
			t.Errorf("%s has no value: %v %v", name, ofPod, of)
		}
	}
	for name, value := range map[string]uint64{
		"container_spec_cpu_period": 50000, "container_spec_cpu_quota": 25000, "container_spec_cpu_shares": 512,
		"container_spec_memory_limit_bytes": 64 << 20, "container_threads": 1, "container_sockets": 0,
	} {
		want(t, name, of[name], value)
	}
	if of["container_memory_usage_bytes"] == 0 || of["container_memory_usage_bytes"] > 64<<20 ||
		of["container_memory_working_set_bytes"] > of["container_memory_usage_bytes"] {
		t.Errorf("memory is %v", of)
	}
	if now := uint64(time.Now().Unix()); of["container_last_seen"] > now || of["container_last_seen"]+60 < now ||
		of["container_start_time_seconds"] > of["container_last_seen"] || of["container_start_time_seconds"]+60 < now {
		t.Errorf("started %d, seen %d, now %d", of["container_start_time_seconds"], of["container_last_seen"], now)
	}
	if _, there := ofPod["container_network_receive_bytes_total{interface=eth0}"]; !there {
		t.Errorf("the pod's network is %v", ofPod)
	}
	want(t, "container", base["container"], "c")
	want(t, "pod", base["pod"], sandbox.Metadata.Name)
	want(t, "namespace", base["namespace"], "default")
	want(t, "image", base["image"], image("box"))
	if !strings.HasPrefix(base["id"], sandbox.Linux.CgroupParent+"/") {
		t.Errorf("id is %q", base["id"])
	}
}

func TestStreamedMetricsAreTheListed(t *testing.T) {
	c := kubelet(t)
	c.pull(t, "box")
	ids := map[string]bool{}
	for range 3 {
		sandbox := podConfig(t)
		pod := c.run(t, sandbox)
		c.start(t, pod, containerConfig("c", "sleep", "1000"), sandbox)
		ids[pod] = true
	}
	stream := must[v1.RuntimeService_StreamPodSandboxMetricsClient](t)(
		c.StreamPodSandboxMetrics(ctx(t), &v1.StreamPodSandboxMetricsRequest{}))
	for {
		r, err := stream.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(r.PodSandboxMetrics) == 0 {
			t.Error("an empty piece")
		}
		for _, p := range r.PodSandboxMetrics {
			if ids[p.PodSandboxId] && (len(p.ContainerMetrics) != 1 || len(p.ContainerMetrics[0].Metrics) < 30) {
				t.Errorf("pod %s has %d containers", p.PodSandboxId, len(p.ContainerMetrics))
			}
			delete(ids, p.PodSandboxId)
		}
	}
	want(t, "pods left out", len(ids), 0)
}

// Scraped while containers begin and end: never an error, never a half of one.
func TestMetricsWhilePodsChurn(t *testing.T) {
	c := kubelet(t)
	c.pull(t, "box")
	stop, failed := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(failed)
		for {
			select {
			case <-stop:
				return
			default:
			}
			r, err := c.ListPodSandboxMetrics(t.Context(), &v1.ListPodSandboxMetricsRequest{})
			if err != nil {
				failed <- err
				return
			}
			for _, p := range r.PodMetrics {
				for _, k := range p.ContainerMetrics {
					if len(k.Metrics) == 0 {
						failed <- fmt.Errorf("container %s has no metrics", k.ContainerId)
						return
					}
				}
			}
		}
	}()
	for range 8 {
		sandbox := podConfig(t)
		pod := c.run(t, sandbox)
		id := c.start(t, pod, containerConfig("c", "true"), sandbox)
		c.exited(t, id)
		must[*v1.StopPodSandboxResponse](t)(c.StopPodSandbox(ctx(t), &v1.StopPodSandboxRequest{PodSandboxId: pod}))
	}
	close(stop)
	if err := <-failed; err != nil {
		t.Error(err)
	}
}
