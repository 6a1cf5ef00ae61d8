package cri

import (
	"bytes"
	"context"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestContainerLife(t *testing.T) {
	c := kubelet(t)
	imageID := c.pull(t, "box")
	sandbox := podConfig(t)
	pod := c.run(t, sandbox)
	config := containerConfig("web", "sh", "-c", "echo out; echo err >&2; trap 'exit 3' TERM; while :; do sleep 0.1; done")
	config.Metadata.Attempt = 2
	config.Labels = map[string]string{"role": "web"}
	config.Annotations = map[string]string{"io.kubernetes.container.hash": "abc", "raw": "\x02é\n"}
	id := c.create(t, pod, config, sandbox)
	s := c.status(t, id)
	want(t, "state", s.State, v1.ContainerState_CONTAINER_CREATED)
	want(t, "started_at", s.StartedAt, 0)
	want(t, "metadata", s.Metadata.String(), config.Metadata.String())
	want(t, "image_id", s.ImageId, imageID)
	want(t, "image", s.Image.Image, image("box"))
	want(t, "log_path", s.LogPath, filepath.Join(sandbox.LogDirectory, "web.log"))
	if !maps.Equal(s.Annotations, config.Annotations) || !maps.Equal(s.Labels, config.Labels) {
		t.Errorf("annotations are %q, labels %q", s.Annotations, s.Labels)
	}
	before := time.Now().UnixNano()
	must[*v1.StartContainerResponse](t)(c.StartContainer(ctx(t), &v1.StartContainerRequest{ContainerId: id}))
	s = c.status(t, id)
	want(t, "state", s.State, v1.ContainerState_CONTAINER_RUNNING)
	if s.StartedAt < before || s.FinishedAt != 0 {
		t.Errorf("started_at %d, finished_at %d", s.StartedAt, s.FinishedAt)
	}
	_, err := c.StartContainer(ctx(t), &v1.StartContainerRequest{ContainerId: id})
	wantCode(t, err, codes.FailedPrecondition, id)
	list := must[*v1.ListContainersResponse](t)(c.ListContainers(ctx(t), &v1.ListContainersRequest{Filter: &v1.ContainerFilter{
		PodSandboxId: pod, Id: id[:12], State: &v1.ContainerStateValue{State: v1.ContainerState_CONTAINER_RUNNING},
		LabelSelector: map[string]string{"role": "web"}}}))
	if len(list.Containers) != 1 || list.Containers[0].Id != id || list.Containers[0].ImageId != imageID ||
		list.Containers[0].ImageRef != imageID || list.Containers[0].PodSandboxId != pod {
		t.Errorf("list: %v", list)
	}
	eventually(t, "both lines are logged", func() bool {
		text, _ := os.ReadFile(s.LogPath)
		return bytes.Count(text, []byte("\n")) == 2
	})
	lines := strings.Join(logLines(t, sandbox, "web.log"), "|")
	if lines != "stdout F out|stderr F err" && lines != "stderr F err|stdout F out" {
		t.Errorf("log: %s", lines)
	}
	_, err = c.images.RemoveImage(ctx(t), &v1.RemoveImageRequest{Image: &v1.ImageSpec{Image: imageID}})
	wantCode(t, err, codes.FailedPrecondition, "in use")
	for range 2 {
		must[*v1.StopContainerResponse](t)(c.StopContainer(ctx(t), &v1.StopContainerRequest{ContainerId: id, Timeout: 10}))
	}
	s = c.status(t, id)
	want(t, "state", s.State, v1.ContainerState_CONTAINER_EXITED)
	want(t, "exit_code", s.ExitCode, 3)
	want(t, "reason", s.Reason, "Error")
	if s.FinishedAt < s.StartedAt {
		t.Errorf("finished_at %d before started_at %d", s.FinishedAt, s.StartedAt)
	}
	for range 2 {
		must[*v1.RemoveContainerResponse](t)(c.RemoveContainer(ctx(t), &v1.RemoveContainerRequest{ContainerId: id}))
	}
	_, err = c.ContainerStatus(ctx(t), &v1.ContainerStatusRequest{ContainerId: id})
	wantCode(t, err, codes.NotFound, id)
}

func TestExits(t *testing.T) {
	c := kubelet(t)
	c.pull(t, "box")
	sandbox := podConfig(t)
	pod := c.run(t, sandbox)
	for name, row := range map[string]struct {
		command []string
		code    int32
		reason  string
	}{
		"zero":  {[]string{"true"}, 0, "Completed"},
		"seven": {[]string{"sh", "-c", "exit 7"}, 7, "Error"},
	} {
		s := c.exited(t, c.start(t, pod, containerConfig(name, row.command...), sandbox))
		want(t, name+": exit_code", s.ExitCode, row.code)
		want(t, name+": reason", s.Reason, row.reason)
		if s.CreatedAt == 0 || s.StartedAt < s.CreatedAt || s.FinishedAt < s.StartedAt {
			t.Errorf("%s: times %d %d %d", name, s.CreatedAt, s.StartedAt, s.FinishedAt)
		}
	}
	deaf := c.start(t, pod, containerConfig("deaf", "sleep", "1000"), sandbox)
	must[*v1.StopContainerResponse](t)(c.StopContainer(ctx(t), &v1.StopContainerRequest{ContainerId: deaf, Timeout: 1}))
	want(t, "killed: exit_code", c.status(t, deaf).ExitCode, 137)
}

func TestAFailedStartIsAnExit(t *testing.T) {
	c := kubelet(t)
	c.pull(t, "box")
	sandbox := podConfig(t)
	pod := c.run(t, sandbox)
	id := c.create(t, pod, containerConfig("c", "/no/such/program"), sandbox)
	_, err := c.StartContainer(ctx(t), &v1.StartContainerRequest{ContainerId: id})
	if err == nil || !strings.Contains(err.Error(), "/no/such/program") {
		t.Errorf("start: %v", err)
	}
	s := c.status(t, id)
	want(t, "state", s.State, v1.ContainerState_CONTAINER_EXITED)
	want(t, "exit_code", s.ExitCode, 128)
	want(t, "reason", s.Reason, "StartError")
	if s.FinishedAt == 0 || !strings.Contains(s.Message, "/no/such/program") {
		t.Errorf("finished_at %d, message %q", s.FinishedAt, s.Message)
	}
}

func TestAMemoryLimitTooLowToStartIsNamed(t *testing.T) {
	c := kubelet(t)
	c.pull(t, "box")
	sandbox := podConfig(t)
	config := containerConfig("c", "true")
	config.Linux.Resources.MemoryLimitInBytes = 4096
	id := c.create(t, c.run(t, sandbox), config, sandbox)
	_, err := c.StartContainer(ctx(t), &v1.StartContainerRequest{ContainerId: id})
	wantCode(t, err, codes.ResourceExhausted, "memory limit of 4096 bytes is too low")
	want(t, "reason", c.status(t, id).Reason, "StartError")
}

func TestTheImageSaysWhatTheCallerDoesNot(t *testing.T) {
	c := kubelet(t)
	c.pull(t, "box")
	c.pull(t, "user")
	sandbox := podConfig(t)
	pod := c.run(t, sandbox)
	config := containerConfig("c")
	config.Envs = []*v1.KeyValue{{Key: "BOTH", Value: []byte("caller")}}
	ours := os.Getenv("KNARR_HANDLER") == "" // of what is not UTF-8 in config.json runc makes something else, and crun an error
	if ours {
		config.Envs = append(config.Envs, &v1.KeyValue{Key: "RAW", Value: []byte("\xff\xfe=\n")})
	}
	id := c.start(t, pod, config, sandbox)
	want(t, "env", c.exec(t, id, "sh", "-c", "echo $FROM $BOTH; pwd"), "image caller\n/tmp")
	want(t, "HOME", c.exec(t, id, "sh", "-c", "echo $HOME"), "/root")
	if ours {
		want(t, "raw env", c.exec(t, id, "sh", "-c", "printf %s \"$RAW\" | od -An -tx1"), " ff fe 3d 0a")
	}
	eventually(t, "the image's command runs", func() bool {
		text, _ := os.ReadFile(filepath.Join(sandbox.LogDirectory, "c.log"))
		return bytes.Contains(text, []byte("from the image"))
	})
	config = containerConfig("u")
	config.Image.Image = image("user")
	id = c.start(t, pod, config, sandbox)
	s := c.status(t, id)
	want(t, "stop_signal", s.StopSignal, v1.Signal_SIGNAL_SIGINT)
	if ref, name := s.ImageRef, strings.TrimSuffix(image("user"), ":latest"); !strings.HasPrefix(ref, name+"@sha256:") {
		t.Errorf("image_ref is %q, no digest of %s", ref, name)
	}
	want(t, "user", s.User.Linux.String(), (&v1.LinuxContainerUser{Uid: 1000, Gid: 1000, SupplementalGroups: []int64{1000, 2000}}).String())
	want(t, "id", c.exec(t, id, "id"), "uid=1000(app) gid=1000(app) groups=1000(app),2000(extra)")
}

func TestSecurity(t *testing.T) {
	c := kubelet(t)
	read := func(id, field string) string {
		return strings.TrimSpace(strings.TrimPrefix(c.exec(t, id, "grep", "^"+field+":", "/proc/self/status"), field+":"))
	}
	plain := c.sleeper(t, func(k *v1.ContainerConfig) {
		s := k.Linux.SecurityContext
		s.MaskedPaths = []string{"/proc/kcore", "/sys/firmware"}
		s.ReadonlyPaths = []string{"/proc/sys"}
		s.Seccomp = &v1.SecurityProfile{ProfileType: v1.SecurityProfile_RuntimeDefault}
		s.NoNewPrivs, s.ReadonlyRootfs = true, true
		s.RunAsUser = &v1.Int64Value{Value: 1000}
		s.SupplementalGroups = []int64{4000}
		s.SupplementalGroupsPolicy = v1.SupplementalGroupsPolicy_Strict
	})
	want(t, "seccomp", read(plain, "Seccomp"), "2")
	want(t, "no_new_privs", read(plain, "NoNewPrivs"), "1")
	want(t, "bounding set", read(plain, "CapBnd"), "00000000a80425fb")
	want(t, "effective set", read(plain, "CapEff"), "0000000000000000")
	want(t, "groups", read(plain, "Groups"), "1000 4000")
	for _, command := range []string{"touch /x", "head -c1 /proc/kcore", "unshare -U true", "echo 1 >/proc/sys/kernel/panic"} {
		r := must[*v1.ExecSyncResponse](t)(c.ExecSync(ctx(t), &v1.ExecSyncRequest{ContainerId: plain, Cmd: []string{"sh", "-c", command}}))
		if r.ExitCode == 0 && len(r.Stdout) > 0 || r.ExitCode == 0 && !strings.Contains(command, "kcore") {
			t.Errorf("%q was possible", command)
		}
	}
	added := c.sleeper(t, func(k *v1.ContainerConfig) {
		k.Linux.SecurityContext.Capabilities = &v1.Capability{AddCapabilities: []string{"NET_ADMIN"}, DropCapabilities: []string{"ALL"}}
	})
	want(t, "effective set", read(added, "CapEff"), "0000000000001000")
	want(t, "seccomp", read(added, "Seccomp"), "0")
	privileged := c.sleeper(t, func(k *v1.ContainerConfig) { k.Linux.SecurityContext.Privileged = true })
	own := string(must[[]byte](t)(os.ReadFile("/proc/self/status"))) // knarrd can give only what it has
	if full := read(privileged, "CapEff"); !strings.Contains(own, "CapBnd:\t"+full) {
		t.Errorf("privileged: effective set %s, ours is %s", full, own)
	}
	c.exec(t, privileged, "test", "-w", "/sys/fs/cgroup")
}

func TestMounts(t *testing.T) {
	c := kubelet(t)
	dir := t.TempDir()
	os.WriteFile(filepath.Join(dir, "f"), []byte("host"), 0o644)
	id := c.sleeper(t, func(k *v1.ContainerConfig) {
		k.Mounts = []*v1.Mount{
			{ContainerPath: "/rw", HostPath: dir},
			{ContainerPath: "/ro", HostPath: dir, Readonly: true},
			{ContainerPath: "/rro", HostPath: dir, Readonly: true, RecursiveReadOnly: true},
			{ContainerPath: "/noexec", HostPath: dir, MountOptions: []string{"noexec", "nodev", "nosuid"}},
			{ContainerPath: "/etc/hosts", HostPath: filepath.Join(dir, "f")},
		}
	})
	want(t, "file", c.exec(t, id, "cat", "/ro/f"), "host")
	want(t, "hosts", c.exec(t, id, "cat", "/etc/hosts"), "host")
	c.exec(t, id, "sh", "-c", "echo container >/rw/g")
	want(t, "written", string(must[[]byte](t)(os.ReadFile(filepath.Join(dir, "g")))), "container\n")
	for _, path := range []string{"/ro/x", "/rro/x"} {
		r := must[*v1.ExecSyncResponse](t)(c.ExecSync(ctx(t), &v1.ExecSyncRequest{ContainerId: id, Cmd: []string{"touch", path}}))
		if r.ExitCode == 0 {
			t.Errorf("%s could be written", path)
		}
	}
	options := c.exec(t, id, "grep", " /noexec ", "/proc/self/mountinfo")
	for _, option := range []string{"noexec", "nodev", "nosuid"} {
		if !strings.Contains(options, option) {
			t.Errorf("/noexec has not %s: %s", option, options)
		}
	}
	want(t, "mounts in status", len(c.status(t, id).Mounts), 5)
}

func TestExecSync(t *testing.T) {
	c := kubelet(t)
	id := c.sleeper(t, nil)
	r := must[*v1.ExecSyncResponse](t)(c.ExecSync(ctx(t), &v1.ExecSyncRequest{ContainerId: id,
		Cmd: []string{"sh", "-c", "echo out; echo err >&2; exit 5"}}))
	want(t, "stdout", string(r.Stdout), "out\n")
	want(t, "stderr", string(r.Stderr), "err\n")
	want(t, "exit_code", r.ExitCode, 5)
	begin := time.Now()
	_, err := c.ExecSync(ctx(t), &v1.ExecSyncRequest{ContainerId: id, Timeout: 1, Cmd: []string{"sh", "-c", "sleep 777 & sleep 778"}})
	wantCode(t, err, codes.DeadlineExceeded, "")
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("a timeout of 1 s took %v", took)
	}
	if ps := c.exec(t, id, "ps"); strings.Contains(ps, "sleep 777") || strings.Contains(ps, "sleep 778") {
		t.Errorf("the timed-out command goes on: %s", ps)
	}
	r = must[*v1.ExecSyncResponse](t)(c.ExecSync(ctx(t), &v1.ExecSyncRequest{ContainerId: id,
		Cmd: []string{"sh", "-c", "head -c 20000000 /dev/zero; echo done >&2"}}))
	if len(r.Stdout) > 16<<20 || len(r.Stdout) < 15<<20 || string(r.Stderr) != "done\n" {
		t.Errorf("20 MB become %d bytes, stderr %q", len(r.Stdout), r.Stderr)
	}
	_, err = c.ExecSync(ctx(t), &v1.ExecSyncRequest{ContainerId: id, Cmd: []string{"/no/such"}})
	if err == nil || !strings.Contains(err.Error(), "/no/such") {
		t.Errorf("exec of nothing: %v", err)
	}
}

func TestResources(t *testing.T) {
	c := kubelet(t)
	id := c.sleeper(t, func(k *v1.ContainerConfig) {
		k.Linux.Resources = &v1.LinuxContainerResources{MemoryLimitInBytes: 64 << 20, CpuQuota: 50000, CpuPeriod: 100000,
			CpuShares: 512, OomScoreAdj: 100}
	})
	want(t, "oom_score_adj", c.exec(t, id, "cat", "/proc/1/oom_score_adj"), "100")
	r := c.status(t, id).Resources.Linux
	want(t, "memory", r.MemoryLimitInBytes, 64<<20)
	want(t, "quota", r.CpuQuota, 50000)
	must[*v1.UpdateContainerResourcesResponse](t)(c.UpdateContainerResources(ctx(t), &v1.UpdateContainerResourcesRequest{
		ContainerId: id, Linux: &v1.LinuxContainerResources{MemoryLimitInBytes: 128 << 20, CpuQuota: 70000, CpuPeriod: 100000}}))
	r = c.status(t, id).Resources.Linux
	want(t, "memory", r.MemoryLimitInBytes, 128<<20)
	want(t, "quota", r.CpuQuota, 70000)
	_, err := c.UpdateContainerResources(ctx(t), &v1.UpdateContainerResourcesRequest{ContainerId: id,
		Linux: &v1.LinuxContainerResources{MemoryLimitInBytes: 96 << 20, CpusetCpus: "999"}})
	if err == nil {
		t.Error("CPU 999 was given")
	}
	want(t, "memory after a failed update", c.status(t, id).Resources.Linux.MemoryLimitInBytes, 128<<20)
	var stats *v1.ContainerStats
	eventually(t, "stats", func() bool {
		stats = must[*v1.ContainerStatsResponse](t)(c.ContainerStats(ctx(t), &v1.ContainerStatsRequest{ContainerId: id})).Stats
		return stats.Cpu.GetUsageCoreNanoSeconds().GetValue() > 0 && stats.Memory.GetUsageBytes().GetValue() > 0
	})
	want(t, "stats of", stats.Attributes.Id, id)
	if stats.Memory.AvailableBytes.GetValue() == 0 || stats.WritableLayer.GetFsId().GetMountpoint() == "" {
		t.Errorf("stats are %v", stats)
	}
	all := must[*v1.ListContainerStatsResponse](t)(c.ListContainerStats(ctx(t), &v1.ListContainerStatsRequest{
		Filter: &v1.ContainerStatsFilter{Id: id}}))
	want(t, "stats listed", len(all.Stats), 1)
}

func TestOutOfMemoryIsSaidSo(t *testing.T) {
	c := kubelet(t)
	c.pull(t, "box")
	sandbox := podConfig(t)
	pod := c.run(t, sandbox)
	config := containerConfig("c", "sh", "-c", "tail /dev/zero")
	config.Linux.Resources.MemoryLimitInBytes = 32 << 20
	s := c.exited(t, c.start(t, pod, config, sandbox))
	want(t, "reason", s.Reason, "OOMKilled")
	want(t, "exit_code", s.ExitCode, 137)
}

func TestLogsAreReopened(t *testing.T) {
	c := kubelet(t)
	c.pull(t, "box")
	sandbox := podConfig(t)
	pod := c.run(t, sandbox)
	id := c.start(t, pod, containerConfig("c", "sh", "-c", "while :; do echo tick; sleep 0.05; done"), sandbox)
	path := filepath.Join(sandbox.LogDirectory, "c.log")
	eventually(t, "a first line", func() bool { i, err := os.Stat(path); return err == nil && i.Size() > 0 })
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	must[*v1.ReopenContainerLogResponse](t)(c.ReopenContainerLog(ctx(t), &v1.ReopenContainerLogRequest{ContainerId: id}))
	eventually(t, "a line in the new file", func() bool { i, err := os.Stat(path); return err == nil && i.Size() > 0 })
	want(t, "line", logLines(t, sandbox, "c.log")[0], "stdout F tick")
	must[*v1.StopContainerResponse](t)(c.StopContainer(ctx(t), &v1.StopContainerRequest{ContainerId: id}))
	_, err := c.ReopenContainerLog(ctx(t), &v1.ReopenContainerLogRequest{ContainerId: id})
	wantCode(t, err, codes.FailedPrecondition, id)
}

func TestStreamsSendWhatListsList(t *testing.T) {
	c := kubelet(t)
	id := c.sleeper(t, nil)
	pods := must[v1.RuntimeService_StreamPodSandboxesClient](t)(c.StreamPodSandboxes(ctx(t), &v1.StreamPodSandboxesRequest{}))
	n := 0
	for {
		m, err := pods.Recv()
		if err == io.EOF {
			break
		}
		n += len(must[*v1.StreamPodSandboxesResponse](t)(m, err).PodSandboxes)
	}
	want(t, "pods", n, len(c.pods(t, nil)))
	containers := must[v1.RuntimeService_StreamContainersClient](t)(c.StreamContainers(ctx(t), &v1.StreamContainersRequest{
		Filter: &v1.ContainerFilter{Id: id}}))
	m := must[*v1.StreamContainersResponse](t)(containers.Recv())
	want(t, "container", m.Containers[0].Id, id)
	if _, err := containers.Recv(); err != io.EOF {
		t.Errorf("the stream does not end: %v", err)
	}
	none := must[v1.RuntimeService_StreamContainersClient](t)(c.StreamContainers(ctx(t), &v1.StreamContainersRequest{
		Filter: &v1.ContainerFilter{Id: "ffffffffffffffff"}}))
	if _, err := none.Recv(); err != io.EOF {
		t.Errorf("an empty list streams %v", err)
	}
	images := must[v1.ImageService_StreamImagesClient](t)(c.images.StreamImages(ctx(t), &v1.StreamImagesRequest{}))
	if len(must[*v1.StreamImagesResponse](t)(images.Recv()).Images) == 0 {
		t.Error("no image is streamed")
	}
}

func TestEventsTellOfALife(t *testing.T) {
	c := kubelet(t)
	c.pull(t, "box")
	background, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	events := must[v1.RuntimeService_GetContainerEventsClient](t)(c.GetContainerEvents(background, &v1.GetEventsRequest{}))
	time.Sleep(200 * time.Millisecond) // the stream begins with what happens after it was asked for
	sandbox := podConfig(t)
	pod := c.run(t, sandbox)
	id := c.start(t, pod, containerConfig("c", "true"), sandbox)
	c.exited(t, id)
	must[*v1.RemoveContainerResponse](t)(c.RemoveContainer(ctx(t), &v1.RemoveContainerRequest{ContainerId: id}))
	for kind := v1.ContainerEventType_CONTAINER_CREATED_EVENT; kind <= v1.ContainerEventType_CONTAINER_DELETED_EVENT; {
		e := must[*v1.ContainerEventResponse](t)(events.Recv())
		if e.ContainerId != id {
			continue
		}
		want(t, "event", e.ContainerEventType, kind)
		if e.CreatedAt == 0 || e.PodSandboxStatus.GetId() != pod {
			t.Errorf("event is %v", e)
		}
		kind++
	}
}
