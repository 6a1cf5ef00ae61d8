package stream

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	spdytransport "k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/util/exec"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func exitCode(err error) int {
	var code exec.CodeExitError
	if errors.As(err, &code) {
		return code.Code
	}
	return -1
}

func TestExecTellsOutputsAndExitCode(t *testing.T) {
	c := kubelet(t).sleeper(t)
	overEach(t, func(t *testing.T, dial dialer) {
		var out, errs bytes.Buffer
		o := remotecommand.StreamOptions{Stdout: &out, Stderr: &errs}
		err := run(t, dial, c.execURL(t, o, "sh", "-c", "echo out; echo err >&2; exit 7"), o)
		want(t, "the exit code", exitCode(err), 7)
		want(t, "stdout", out.String(), "out\n")
		want(t, "stderr", errs.String(), "err\n")
		out.Reset()
		if err := run(t, dial, c.execURL(t, o, "echo", "fine"), o); err != nil {
			t.Error(err)
		}
		want(t, "stdout", out.String(), "fine\n")
	})
}

func TestExecSpeaksEveryVersionOfSPDY(t *testing.T) {
	c := kubelet(t).sleeper(t)
	for _, v := range []string{"v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"} {
		t.Run(v, func(t *testing.T) {
			var out bytes.Buffer
			o := remotecommand.StreamOptions{Stdout: &out}
			command := []string{"echo", "-n", "in"}
			if v != "channel.k8s.io" { // of which the client cannot end stdin
				o.Stdin, command = strings.NewReader("in"), []string{"cat"}
			}
			u := c.execURL(t, o, command...)
			roundTripper, upgrader, err := spdytransport.RoundTripperFor(config)
			if err != nil {
				t.Fatal(err)
			}
			e := must[remotecommand.Executor](t)(remotecommand.NewSPDYExecutorForProtocols(roundTripper, upgrader, "POST", u, v))
			if err := e.StreamWithContext(ctx(t), o); err != nil {
				t.Error(err)
			}
			want(t, "stdout", out.String(), "in")
		})
	}
}

func TestExecOfWhatIsNotThereTellsWhy(t *testing.T) {
	c := kubelet(t).sleeper(t)
	overEach(t, func(t *testing.T, dial dialer) {
		o := remotecommand.StreamOptions{Stdout: io.Discard}
		err := run(t, dial, c.execURL(t, o, "/no/such/program"), o)
		if err == nil || !strings.Contains(err.Error(), "/no/such/program") {
			t.Errorf("got %v", err)
		}
	})
}

func TestExecStdinEnds(t *testing.T) {
	c := kubelet(t).sleeper(t)
	overEach(t, func(t *testing.T, dial dialer) {
		var out bytes.Buffer
		o := remotecommand.StreamOptions{Stdin: strings.NewReader("one\ntwo\n"), Stdout: &out}
		if err := run(t, dial, c.execURL(t, o, "sh", "-c", "wc -l; echo after"), o); err != nil {
			t.Error(err)
		}
		want(t, "stdout", strings.Join(strings.Fields(out.String()), " "), "2 after")
	})
}

type sizes chan remotecommand.TerminalSize

func (s sizes) Next() *remotecommand.TerminalSize {
	size, ok := <-s
	if !ok {
		return nil
	}
	return &size
}

type lines struct {
	sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.Lock()
	defer l.Unlock()
	return l.text.Write(b)
}

func (l *lines) has(part string) bool {
	l.Lock()
	defer l.Unlock()
	return strings.Contains(l.text.String(), part)
}

func TestExecTerminalHasTheClientsSize(t *testing.T) {
	c := kubelet(t).sleeper(t)
	overEach(t, func(t *testing.T, dial dialer) {
		var out lines
		in, keys := io.Pipe()
		size := make(sizes, 2)
		o := remotecommand.StreamOptions{Tty: true, Stdin: in, Stdout: &out, TerminalSizeQueue: size}
		size <- remotecommand.TerminalSize{Width: 91, Height: 37}
		done := make(chan error)
		u := c.execURL(t, o, "sh")
		go func() { done <- must[remotecommand.Executor](t)(dial(u)).StreamWithContext(ctx(t), o) }()
		fmt.Fprintln(keys, "until [ \"$(stty size)\" = '37 91' ]; do sleep 0.1; done; echo fir''st")
		eventually(t, "the first size is there", func() bool { return out.has("first") })
		size <- remotecommand.TerminalSize{Width: 133, Height: 55}
		fmt.Fprintln(keys, "until [ \"$(stty size)\" = '55 133' ]; do sleep 0.1; done; echo sec''ond; exit 3")
		err := <-done
		close(size)
		keys.Close()
		want(t, "the exit code", exitCode(err), 3)
		want(t, "the second size", out.has("second"), true)
	})
}

// So many bytes each way: a little in CI, a gigabyte by hand.
func megabytes() int64 {
	if n, err := strconv.ParseInt(os.Getenv("KNARR_STREAM_MB"), 10, 64); err == nil {
		return n
	}
	return 32
}

type summed struct {
	from io.Reader
	sum  hash.Hash
}

func (s summed) Read(b []byte) (int, error) {
	n, err := s.from.Read(b)
	s.sum.Write(b[:n])
	return n, err
}

func noise(n int64) summed {
	return summed{io.LimitReader(rand.New(rand.NewSource(n)), n), sha256.New()}
}

func TestExecCarriesEveryByteBothWays(t *testing.T) {
	c := kubelet(t).sleeper(t)
	overEach(t, func(t *testing.T, dial dialer) {
		in, out := noise(megabytes()<<20), sha256.New()
		o := remotecommand.StreamOptions{Stdin: in, Stdout: out}
		began := time.Now()
		if err := run(t, dial, c.execURL(t, o, "cat"), o); err != nil {
			t.Fatal(err)
		}
		t.Logf("%d MiB each way in %v", megabytes(), time.Since(began))
		want(t, "the sum", fmt.Sprintf("%x", out.Sum(nil)), fmt.Sprintf("%x", in.sum.Sum(nil)))
	})
}

func TestExecWaitsForASlowClient(t *testing.T) {
	c := kubelet(t).sleeper(t)
	overEach(t, func(t *testing.T, dial dialer) {
		read, write := io.Pipe()
		o := remotecommand.StreamOptions{Stdout: write}
		done := make(chan error, 1)
		u := c.execURL(t, o, "sh", "-c", "head -c 50000000 /dev/zero; echo end >&2")
		go func() {
			done <- must[remotecommand.Executor](t)(dial(u)).StreamWithContext(ctx(t), o)
			write.Close()
		}()
		buffer := make([]byte, 1<<20)
		must[int](t)(io.ReadFull(read, buffer))
		select {
		case err := <-done:
			t.Fatalf("it ended, with 49 MB unread: %v", err)
		case <-time.After(300 * time.Millisecond):
		}
		n := must[int64](t)(io.Copy(io.Discard, read))
		want(t, "the bytes", n+1<<20, 50000000)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestManySessionsAtOnce(t *testing.T) {
	const n = 500
	c := kubelet(t).sleeper(t)
	var began, ended sync.WaitGroup
	began.Add(n)
	release := make(chan struct{})
	failures := make(chan error, n)
	for i := range n {
		dial := spdy
		if i%2 == 1 {
			dial = websocket
		}
		ended.Add(1)
		go func() {
			defer ended.Done()
			in, keys := io.Pipe()
			text := fmt.Sprintf("session %d\n", i)
			out := &firstWrite{began: &began}
			o := remotecommand.StreamOptions{Stdin: in, Stdout: out}
			go func() {
				io.WriteString(keys, text)
				<-release
				keys.Close()
			}()
			r, err := c.Exec(ctx(t), &v1.ExecRequest{ContainerId: c.id, Cmd: []string{"cat"}, Stdin: true, Stdout: true})
			if err == nil {
				var e remotecommand.Executor
				u, _ := url.Parse(r.Url)
				if e, err = dial(u); err == nil {
					err = e.StreamWithContext(ctx(t), o)
				}
			}
			out.once.Do(began.Done)
			if err == nil && out.text.String() != text {
				err = fmt.Errorf("session %d read %q", i, out.text.String())
			}
			if err != nil {
				failures <- err
			}
		}()
	}
	began.Wait() // every one has its echo: they are all open
	close(release)
	ended.Wait()
	close(failures)
	for err := range failures {
		t.Error(err)
	}
}

type firstWrite struct {
	began *sync.WaitGroup
	once  sync.Once
	text  bytes.Buffer
}

func (f *firstWrite) Write(b []byte) (int, error) {
	n, err := f.text.Write(b)
	if len(b) > 0 {
		f.once.Do(f.began.Done)
	}
	return n, err
}

// How many processes of the container, its first aside, run this command.
func (c *container) running(t *testing.T, command string) bool {
	r := must[*v1.ExecSyncResponse](t)(c.ExecSync(ctx(t), &v1.ExecSyncRequest{ContainerId: c.id, Cmd: []string{"ps"}}))
	return strings.Contains(string(r.Stdout), command)
}

func TestAVanishedClientEndsItsExec(t *testing.T) {
	c := kubelet(t).sleeper(t)
	overEach(t, func(t *testing.T, dial dialer) {
		marker := fmt.Sprintf("77%03d", serial.Add(1))
		var out lines
		o := remotecommand.StreamOptions{Stdout: &out}
		u := c.execURL(t, o, "sh", "-c", "sleep "+marker+" & echo on; wait")
		gone, vanish := context.WithCancel(ctx(t))
		done := make(chan error)
		go func() { done <- must[remotecommand.Executor](t)(dial(u)).StreamWithContext(gone, o) }()
		eventually(t, "it runs", func() bool { return out.has("on") && c.running(t, "sleep "+marker) })
		vanish()
		<-done
		eventually(t, "it is killed, with what it had started", func() bool { return !c.running(t, "sleep "+marker) })
	})
}

func TestExecEndsWithItsContainer(t *testing.T) {
	overEach(t, func(t *testing.T, dial dialer) {
		c := kubelet(t).sleeper(t)
		var out lines
		o := remotecommand.StreamOptions{Stdout: &out}
		u := c.execURL(t, o, "sh", "-c", "echo on; sleep 1000")
		done := make(chan error)
		go func() { done <- must[remotecommand.Executor](t)(dial(u)).StreamWithContext(ctx(t), o) }()
		eventually(t, "it runs", func() bool { return out.has("on") })
		must[*v1.StopContainerResponse](t)(c.StopContainer(ctx(t), &v1.StopContainerRequest{ContainerId: c.id}))
		if err := <-done; err == nil {
			t.Error("it ended well")
		}
	})
}

func TestAttachSeesWhatIsWrittenAndWrites(t *testing.T) {
	overEach(t, func(t *testing.T, dial dialer) {
		c := kubelet(t).container(t, v1.NamespaceMode_NODE, func(c *v1.ContainerConfig) { c.Stdin = true },
			"sh", "-c", "while read line; do echo got $line; [ $line = end ] && exit 5; done")
		var first, second lines
		in, keys := io.Pipe()
		o := remotecommand.StreamOptions{Stdin: in, Stdout: &first, Stderr: io.Discard}
		listen := remotecommand.StreamOptions{Stdout: &second}
		ends := make(chan error, 2)
		u, u2 := c.attachURL(t, o), c.attachURL(t, listen)
		go func() { ends <- must[remotecommand.Executor](t)(dial(u2)).StreamWithContext(ctx(t), listen) }()
		go func() { ends <- must[remotecommand.Executor](t)(dial(u)).StreamWithContext(ctx(t), o) }()
		for i := 0; !first.has("got word") || !second.has("got word"); i++ {
			fmt.Fprintf(keys, "word%d\n", i) // an attach gets what is written from then on
			time.Sleep(20 * time.Millisecond)
			if i > 3000 {
				t.Fatalf("nothing comes: %q, %q", first.text.String(), second.text.String())
			}
		}
		fmt.Fprintln(keys, "end")
		for range 2 {
			if err := <-ends; err != nil {
				t.Error(err)
			}
		}
		want(t, "the end is seen", first.has("got end") && second.has("got end"), true)
	})
}

func TestAVanishedAttachLeavesItsContainer(t *testing.T) {
	c := kubelet(t).container(t, v1.NamespaceMode_NODE, nil, "sh", "-c", "while :; do echo tick; sleep 0.05; done")
	overEach(t, func(t *testing.T, dial dialer) {
		var out lines
		o := remotecommand.StreamOptions{Stdout: &out}
		gone, vanish := context.WithCancel(ctx(t))
		done := make(chan error)
		u := c.attachURL(t, o)
		go func() { done <- must[remotecommand.Executor](t)(dial(u)).StreamWithContext(gone, o) }()
		eventually(t, "it ticks", func() bool { return out.has("tick") })
		vanish()
		<-done
		status := must[*v1.ContainerStatusResponse](t)(c.ContainerStatus(ctx(t), &v1.ContainerStatusRequest{ContainerId: c.id}))
		want(t, "the container", status.Status.State, v1.ContainerState_CONTAINER_RUNNING)
	})
}

func TestTokensCountOnce(t *testing.T) {
	c := kubelet(t).sleeper(t)
	o := remotecommand.StreamOptions{Stdout: io.Discard}
	u := c.execURL(t, o, "true")
	if err := run(t, spdy, u, o); err != nil {
		t.Fatal(err)
	}
	if err := run(t, spdy, u, o); err == nil {
		t.Error("the token counted twice")
	}
	guess := *c.execURL(t, o, "true")
	for _, path := range []string{"/exec/" + strings.Repeat("0", 32), "/exec/", "/", "/exec", "/nothing/at/all",
		strings.Replace(guess.Path, "/exec/", "/attach/", 1), guess.Path + "0", guess.Path[:len(guess.Path)-1]} {
		u := guess
		u.Path = path
		r := must[*http.Response](t)(http.Get(u.String()))
		r.Body.Close()
		want(t, "the status of "+path, r.StatusCode, http.StatusNotFound)
	}
	if err := run(t, spdy, &guess, o); err != nil {
		t.Errorf("guesses have used up the token: %v", err)
	}
	plain := must[*http.Response](t)(http.Get(c.execURL(t, o, "true").String()))
	plain.Body.Close()
	want(t, "the status without an upgrade", plain.StatusCode, http.StatusBadRequest)
}

func TestBadCallsAreRefused(t *testing.T) {
	c := kubelet(t).sleeper(t)
	for name, r := range map[string]*v1.ExecRequest{
		"no command":     {ContainerId: c.id, Stdout: true},
		"no streams":     {ContainerId: c.id, Cmd: []string{"true"}},
		"tty and stderr": {ContainerId: c.id, Cmd: []string{"true"}, Tty: true, Stderr: true},
		"no container":   {ContainerId: strings.Repeat("0", 64), Cmd: []string{"true"}, Stdout: true},
	} {
		if _, err := c.Exec(ctx(t), r); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := c.PortForward(ctx(t), &v1.PortForwardRequest{PodSandboxId: c.pod, Port: []int32{0}}); err == nil {
		t.Error("port 0: no error")
	}
	must[*v1.StopContainerResponse](t)(c.StopContainer(ctx(t), &v1.StopContainerRequest{ContainerId: c.id}))
	_, err := c.Exec(ctx(t), &v1.ExecRequest{ContainerId: c.id, Cmd: []string{"true"}, Stdout: true})
	if err == nil || !strings.Contains(err.Error(), "running") {
		t.Errorf("an exited container: %v", err)
	}
}

// Forwards a local port to the pod's, over SPDY or over SPDY in a WebSocket; the local address.
func (c *container) forward(t *testing.T, tunnel bool, port int) string {
	t.Helper()
	r := must[*v1.PortForwardResponse](t)(c.PortForward(ctx(t), &v1.PortForwardRequest{PodSandboxId: c.pod, Port: []int32{int32(port)}}))
	u := must[*url.URL](t)(url.Parse(r.Url))
	transport, upgrader, err := spdytransport.RoundTripperFor(config)
	if err != nil {
		t.Fatal(err)
	}
	dial := spdytransport.NewDialer(upgrader, &http.Client{Transport: transport}, "POST", u)
	if tunnel {
		if dial, err = portforward.NewSPDYOverWebsocketDialer(u, config); err != nil {
			t.Fatal(err)
		}
	}
	stop, ready := make(chan struct{}), make(chan struct{})
	f, err := portforward.NewOnAddresses(dial, []string{"127.0.0.1"}, []string{fmt.Sprintf("0:%d", port)}, stop, ready,
		io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- f.ForwardPorts() }()
	t.Cleanup(func() {
		close(stop)
		<-done
	})
	select {
	case <-ready:
	case err := <-done:
		done <- err
		t.Fatal(err)
	}
	ports, err := f.GetPorts()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", ports[0].Local)
}

func (c *client) echoServer(t *testing.T) *container {
	s := c.container(t, v1.NamespaceMode_POD, nil, "nc", "-ll", "-p", "8080", "-e", "cat")
	eventually(t, "it listens", func() bool {
		r := must[*v1.ExecSyncResponse](t)(s.ExecSync(ctx(t), &v1.ExecSyncRequest{ContainerId: s.id,
			Cmd: []string{"grep", "-q", ":1F90 ", "/proc/net/tcp", "/proc/net/tcp6"}}))
		return r.ExitCode == 0
	})
	return s
}

func TestPortForwardCarriesEveryByteBothWays(t *testing.T) {
	c := kubelet(t).echoServer(t)
	for name, tunnel := range map[string]bool{"spdy": false, "websocket": true} {
		t.Run(name, func(t *testing.T) {
			address := c.forward(t, tunnel, 8080)
			var all sync.WaitGroup
			for i := range 3 {
				all.Add(1)
				go func() {
					defer all.Done()
					conn, err := net.Dial("tcp", address)
					if err != nil {
						t.Error(err)
						return
					}
					defer conn.Close()
					n := megabytes()<<20/4 + int64(i)
					in, out := noise(n), sha256.New()
					go func() {
						io.Copy(conn, in)
					}()
					if got, err := io.CopyN(out, conn, n); err != nil {
						t.Errorf("%d of %d bytes: %v", got, n, err)
					}
					want(t, "the sum", fmt.Sprintf("%x", out.Sum(nil)), fmt.Sprintf("%x", in.sum.Sum(nil)))
				}()
			}
			all.Wait()
		})
	}
}

func TestPortForwardToNobodyFailsForThatConnection(t *testing.T) {
	c := kubelet(t).echoServer(t)
	address := c.forward(t, false, 8081)
	conn := must[net.Conn](t)(net.Dial("tcp", address))
	defer conn.Close()
	if n, err := conn.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes came from nobody", n)
	}
}
