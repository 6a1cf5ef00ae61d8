package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Sessions as kubectl's: client-go's own executors over SPDY. The client's half of the work is the same for all.

var anyone = &rest.Config{}

type streamer struct {
	*endpoint
	pod, ctr string
}

// One container reads numbers and writes so many bytes, a second one swallows so many, a third serves them on a port.
func (e *endpoint) streamer(ctx context.Context, logs, script string) *streamer {
	p := e.podConfig("pod", logs)
	os.MkdirAll(p.LogDirectory, 0o755)
	pod := must(e.runtime.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: p})).PodSandboxId
	c := containerConfig(p)
	c.Command, c.Stdin = []string{"sh", "-c", script}, true
	ctr := must(e.runtime.CreateContainer(ctx, &cri.CreateContainerRequest{PodSandboxId: pod, Config: c, SandboxConfig: p})).ContainerId
	must(e.runtime.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: ctr}))
	return &streamer{e, pod, ctr}
}

func (s *streamer) gone(ctx context.Context) {
	must(s.runtime.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: s.ctr}))
	must(s.runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: s.pod}))
	must(s.runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: s.pod}))
}

func executor(at string) remotecommand.Executor {
	return must(remotecommand.NewSPDYExecutor(anyone, "POST", must(url.Parse(at))))
}

func (s *streamer) exec(ctx context.Context, o remotecommand.StreamOptions, command ...string) error {
	r, err := s.runtime.Exec(ctx, &cri.ExecRequest{ContainerId: s.ctr, Cmd: command, Stdin: o.Stdin != nil, Stdout: o.Stdout != nil})
	if err != nil {
		return err
	}
	return executor(r.Url).StreamWithContext(ctx, o)
}

type counter struct {
	n, wanted int64
	done      context.CancelFunc
}

func (c *counter) Write(b []byte) (int, error) {
	if c.n += int64(len(b)); c.n >= c.wanted {
		c.done()
	}
	return len(b), nil
}

// MB/s: the bytes that the container writes when it is told a number. 0: the client was dropped as too slow.
func (s *streamer) attachOut(ctx context.Context, size int64) float64 {
	r := must(s.runtime.Attach(ctx, &cri.AttachRequest{ContainerId: s.ctr, Stdin: true, Stdout: true}))
	in, ask := io.Pipe()
	enough, done := context.WithCancel(ctx)
	began := time.Now()
	count := &counter{wanted: size, done: done}
	go fmt.Fprintln(ask, size)
	err := executor(r.Url).StreamWithContext(enough, remotecommand.StreamOptions{Stdin: in, Stdout: count})
	took := time.Since(began).Seconds()
	ask.Close()
	if count.n < size {
		if err == nil || !strings.Contains(err.Error(), "faster") {
			fail("%s: attach ended after %d of %d bytes: %v", s.name, count.n, size, err)
		}
		return 0
	}
	return float64(size) / 1e6 / took
}

// MB/s: each way through cat.
func (s *streamer) execThrough(ctx context.Context, size int64) float64 {
	began := time.Now()
	if err := s.exec(ctx, remotecommand.StreamOptions{Stdin: io.LimitReader(zeros{}, size), Stdout: io.Discard}, "cat"); err != nil {
		fail("%s: exec of cat: %v", s.name, err)
	}
	return float64(size) / 1e6 / time.Since(began).Seconds()
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// MB/s of one connection to a port that sends so many bytes to whoever comes.
func (s *streamer) forward(ctx context.Context, size int64) float64 {
	r := must(s.runtime.PortForward(ctx, &cri.PortForwardRequest{PodSandboxId: s.pod, Port: []int32{8080}}))
	transport, upgrader, err := spdy.RoundTripperFor(anyone)
	if err != nil {
		fail("%v", err)
	}
	dial := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, "POST", must(url.Parse(r.Url)))
	stop, ready := make(chan struct{}), make(chan struct{})
	f := must(portforward.NewOnAddresses(dial, []string{"127.0.0.1"}, []string{"0:8080"}, stop, ready, io.Discard, io.Discard))
	ended := make(chan error, 1)
	go func() { ended <- f.ForwardPorts() }()
	select {
	case <-ready:
	case err := <-ended:
		fail("%s: port-forward: %v", s.name, err)
	}
	began := time.Now()
	conn := must(net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", must(f.GetPorts())[0].Local)))
	got, err := io.CopyN(io.Discard, conn, size)
	if err != nil {
		fail("%s: port-forward ended after %d of %d bytes: %v", s.name, got, size, err)
	}
	took := time.Since(began).Seconds()
	conn.Close()
	close(stop)
	<-ended
	return float64(size) / 1e6 / took
}

func (s *streamer) listens(ctx context.Context) {
	for i := 0; i < 500; i++ {
		r := must(s.runtime.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: s.ctr, Cmd: []string{"grep", "-q", ":1F90 ", "/proc/net/tcp",
			"/proc/net/tcp6"}}))
		if r.ExitCode == 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	fail("%s: nobody listens in the pod", s.name)
}

// Round by round, each endpoint in turn.
func streams(ctx context.Context, all []*endpoint, logs string, rounds int, size int64) {
	var to []*streamer
	for _, e := range all {
		s := e.streamer(ctx, logs, fmt.Sprintf("nc -ll -p 8080 -e head -c %d /dev/zero & while read n; do head -c $n /dev/zero; done", size))
		s.listens(ctx)
		to = append(to, s)
	}
	for i := range rounds + 1 { // the first is the warm-up
		for _, s := range to {
			var out bytes.Buffer
			began, cpu := time.Now(), s.cpu()
			if err := s.exec(ctx, remotecommand.StreamOptions{Stdout: &out}, "echo", "here"); err != nil || out.String() != "here\n" {
				fail("%s: exec: %v, %q", s.name, err, out.String())
			}
			if i > 0 {
				s.add("stream: exec by SPDY", float64(time.Since(began).Microseconds())/1000)
				s.add("stream: exec by SPDY, CPU", s.cpu()-cpu)
			}
		}
	}
	for range 5 {
		for _, s := range to {
			for what, f := range map[string]func(context.Context, int64) float64{"attach, output": s.attachOut,
				"exec, cat": s.execThrough, "port-forward": s.forward} {
				cpu := s.cpu()
				if speed := f(ctx, size); speed > 0 {
					s.add("stream: "+what+", MB/s", speed)
				} else {
					s.add("stream: "+what+", times dropped", 1)
					continue
				}
				s.add("stream: "+what+", CPU", s.cpu()-cpu)
			}
		}
	}
	for _, s := range to {
		s.gone(ctx)
	}
}
