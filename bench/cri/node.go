package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// What a whole node asks of its runtime: lists, probes, and to come back after a restart.

type podID struct{ pod, ctr string }

func plainly(e *endpoint) func(string, func() error) {
	return func(what string, f func() error) {
		if err := f(); err != nil {
			fail("%s: %s: %v", e.name, what, err)
		}
	}
}

func inParallel(count, workers int, f func(i int)) {
	work, wait := make(chan int), sync.WaitGroup{}
	for range workers {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for i := range work {
				f(i)
			}
		}()
	}
	for i := range count {
		work <- i
	}
	close(work)
	wait.Wait()
}

func (e *endpoint) many(ctx context.Context, count int, network, logs string) []podID {
	configs, ids := make([]*cri.PodSandboxConfig, count), make([]podID, count)
	for i := range configs {
		configs[i] = e.podConfig(network, logs)
	}
	inParallel(count, *conc, func(i int) { ids[i].pod, ids[i].ctr = e.up(ctx, configs[i], plainly(e)) })
	return ids
}

func (e *endpoint) fewer(ctx context.Context, ids []podID) {
	inParallel(len(ids), *conc, func(i int) { e.down(ctx, ids[i].pod, ids[i].ctr, plainly(e)) })
}

// What kubelet's relist asks, and the CPU that a round of it costs.
func (e *endpoint) list(ctx context.Context, prefix string) {
	cpu := e.cpu()
	e.time(prefix+"ListPodSandbox", func() error {
		_, err := e.runtime.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
		return err
	})
	e.time(prefix+"ListContainers", func() error {
		_, err := e.runtime.ListContainers(ctx, &cri.ListContainersRequest{})
		return err
	})
	e.add(prefix+"both lists, CPU", e.cpu()-cpu)
}

// A hundred a second as far as the machine goes, over all containers in turn: CPU for each.
func (e *endpoint) probes(ctx context.Context, ids []podID, count int) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	began, cpu := time.Now(), e.cpu()
	inParallel(count, *conc, func(i int) {
		<-tick.C
		r := must(e.runtime.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: ids[i%len(ids)].ctr, Cmd: []string{"true"}, Timeout: 10}))
		if r.ExitCode != 0 {
			fail("%s: probe: exit code %d", e.name, r.ExitCode)
		}
	})
	e.add("probes: CPU of one", (e.cpu()-cpu)/float64(count))
	e.add("probes: a second, 100 wanted", float64(count)/time.Since(began).Seconds())
}

// The command BENCH_RESTART_NAME kills the daemon and waits for its end ("kill"), and starts it and tells the time at which
// it did, in ns since 1970, without waiting for more ("start").
func (e *endpoint) restart(ctx context.Context, ids []podID, prefix string) {
	command := os.Getenv("BENCH_RESTART_" + e.name)
	if command == "" {
		return
	}
	tell := func(word string) string {
		out, err := exec.Command(command, word).CombinedOutput()
		if err != nil {
			fail("%s %s: %v: %s", command, word, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	tell("kill")
	began := time.Unix(0, must(strconv.ParseInt(tell("start"), 10, 64)))
	since := func() float64 { return float64(time.Since(began).Microseconds()) / 1000 }
	again := func(what string, f func(cri.RuntimeServiceClient) bool) {
		for end := began.Add(time.Minute); ; time.Sleep(time.Millisecond) {
			// A connection of its own each time: gRPC's wait before it tries again is not the daemon's.
			conn := must(grpc.NewClient("unix://"+e.socket, grpc.WithTransportCredentials(insecure.NewCredentials())))
			ok := f(cri.NewRuntimeServiceClient(conn))
			conn.Close()
			if ok {
				e.add(prefix+what, since())
				return
			}
			if time.Now().After(end) {
				fail("%s: not within a minute of its start: %s", e.name, what)
			}
		}
	}
	again("start to first answer", func(c cri.RuntimeServiceClient) bool {
		_, err := c.Version(ctx, &cri.VersionRequest{})
		return err == nil
	})
	again("start to all pods there", func(c cri.RuntimeServiceClient) bool {
		r, err := c.ListContainers(ctx, &cri.ListContainersRequest{Filter: &cri.ContainerFilter{
			State: &cri.ContainerStateValue{State: cri.ContainerState_CONTAINER_RUNNING}}})
		return err == nil && len(r.Containers) >= len(ids)
	})
	e.pid = peer(e.socket)
	for e.ready(ctx) != nil {
		time.Sleep(50 * time.Millisecond)
	}
}

// The old connection has found the new daemon.
func (e *endpoint) ready(ctx context.Context) error {
	_, err := e.runtime.Version(ctx, &cri.VersionRequest{})
	return err
}

func node(ctx context.Context, all []*endpoint, logs string, count int) {
	prefix := fmt.Sprintf("%d pods: ", count)
	for _, e := range all {
		e.ids = e.many(ctx, count, "host", logs)
	}
	for range 30 {
		for _, e := range all {
			e.list(ctx, prefix)
		}
	}
	for range 3 {
		for _, e := range all {
			e.restart(ctx, e.ids, prefix)
		}
	}
	for _, e := range all {
		e.probes(ctx, e.ids, 200)
		e.fewer(ctx, e.ids)
	}
}
