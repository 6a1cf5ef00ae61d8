package stream

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	spdyframe "github.com/moby/spdystream/spdy"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/streaming/pkg/httpstream"
)

// The knarrd that speaks TLS and has little patience with idle sessions.
func strict(t *testing.T) *client {
	t.Helper()
	conn := must[*grpc.ClientConn](t)(grpc.NewClient("unix://"+os.Getenv("KNARR_STRICT_SOCK"),
		grpc.WithTransportCredentials(insecure.NewCredentials())))
	t.Cleanup(func() { conn.Close() })
	return &client{v1.NewRuntimeServiceClient(conn), v1.NewImageServiceClient(conn)}
}

func withCertificates(names ...string) *rest.Config {
	folder := os.Getenv("KNARR_CERTS")
	c := &rest.Config{TLSClientConfig: rest.TLSClientConfig{CAFile: filepath.Join(folder, "ca.pem")}}
	for _, name := range names {
		c.CertFile, c.KeyFile = filepath.Join(folder, name+".pem"), filepath.Join(folder, name+".key")
	}
	return c
}

func overTLS(c *rest.Config) map[string]dialer {
	return map[string]dialer{
		"spdy": func(u *url.URL) (remotecommand.Executor, error) { return remotecommand.NewSPDYExecutor(c, "POST", u) },
		"websocket": func(u *url.URL) (remotecommand.Executor, error) {
			return remotecommand.NewWebSocketExecutor(c, "GET", u.String())
		},
	}
}

func TestSessionsOverTLSWithClientCertificates(t *testing.T) {
	c := strict(t).sleeper(t)
	for name, dial := range overTLS(withCertificates("client")) {
		t.Run(name, func(t *testing.T) {
			var out, in bytes.Buffer
			io.CopyN(&in, noise(8<<20), 8<<20)
			o := remotecommand.StreamOptions{Stdin: bytes.NewReader(in.Bytes()), Stdout: &out}
			if err := run(t, dial, c.execURL(t, o, "sh", "-c", "cat; exit 9"), o); exitCode(err) != 9 {
				t.Error(err)
			}
			want(t, "each byte came back", bytes.Equal(in.Bytes(), out.Bytes()), true)
		})
	}
	for name, dial := range overTLS(withCertificates()) {
		t.Run(name+" without a certificate", func(t *testing.T) {
			o := remotecommand.StreamOptions{Stdout: io.Discard}
			if err := run(t, dial, c.execURL(t, o, "true"), o); err == nil || exitCode(err) != -1 {
				t.Errorf("it was served: %v", err)
			}
		})
	}
}

func TestIdleSessionsEndBusyOnesDoNot(t *testing.T) {
	t.Parallel()
	c := strict(t).sleeper(t)
	for name, dial := range overTLS(withCertificates("client")) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			marker := fmt.Sprintf("78%03d", serial.Add(1))
			o := remotecommand.StreamOptions{Stdout: io.Discard}
			err := run(t, dial, c.execURL(t, o, "sleep", marker), o)
			if err == nil || !strings.Contains(err.Error(), "stream.idle_timeout") {
				t.Errorf("it ended with %v", err)
			}
			eventually(t, "its command is killed", func() bool { return !c.running(t, "sleep "+marker) })
		})
		t.Run(name+", busy", func(t *testing.T) {
			t.Parallel()
			o := remotecommand.StreamOptions{Stdout: io.Discard}
			script := "i=0; while [ $((i=i+1)) -lt 16 ]; do echo $i; sleep 0.5; done; exit 4"
			want(t, "the exit code", exitCode(run(t, dial, c.execURL(t, o, "sh", "-c", script), o)), 4)
		})
	}
}

func TestARefusedUpgradeLetsTheClientFallBack(t *testing.T) {
	c := kubelet(t).sleeper(t)
	var out bytes.Buffer
	o := remotecommand.StreamOptions{Stdout: &out}
	first := must[remotecommand.Executor](t)(remotecommand.NewWebSocketExecutorForProtocols(config, "GET",
		c.execURL(t, o, "echo", "first").String(), "v9.channel.k8s.io"))
	second := must[remotecommand.Executor](t)(spdy(c.execURL(t, o, "echo", "second")))
	e := must[remotecommand.Executor](t)(remotecommand.NewFallbackExecutor(first, second, httpstream.IsUpgradeFailure))
	if err := e.StreamWithContext(ctx(t), o); err != nil {
		t.Error(err)
	}
	want(t, "stdout", out.String(), "second\n")
}

// Takes what is written when it is told to.
type held struct {
	go_ chan struct{}
}

func (h held) Write(b []byte) (int, error) {
	<-h.go_
	return len(b), nil
}

func TestASlowAttachIsDroppedAndNobodyWaitsForIt(t *testing.T) {
	overEach(t, func(t *testing.T, dial dialer) {
		c := kubelet(t).container(t, v1.NamespaceMode_NODE, func(c *v1.ContainerConfig) { c.Stdin = true },
			"sh", "-c", "read go; yes 0123456789 | head -c 30000000; echo all was written; sleep 1000")
		slow := held{make(chan struct{})}
		o := remotecommand.StreamOptions{Stdin: strings.NewReader("go\n"), Stdout: slow}
		done, u := make(chan error, 1), c.attachURL(t, o)
		go func() { done <- must[remotecommand.Executor](t)(dial(u)).StreamWithContext(ctx(t), o) }()
		log := must[*v1.ContainerStatusResponse](t)(c.ContainerStatus(ctx(t), &v1.ContainerStatusRequest{ContainerId: c.id})).Status.LogPath
		eventually(t, "the container goes on, and its log", func() bool {
			text, _ := os.ReadFile(log)
			return bytes.Contains(text, []byte("all was written"))
		})
		close(slow.go_)
		if err := <-done; err == nil || !strings.Contains(err.Error(), "faster than it was read") {
			t.Errorf("the slow client hears %v", err)
		}
	})
}

// A connection whose upgrade was answered with 101, for one to misbehave on.
func upgraded(t *testing.T, u *url.URL, protocol string, websocket bool) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn := must[net.Conn](t)(net.Dial("tcp", u.Host))
	t.Cleanup(func() { conn.Close() })
	head := "Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: " + protocol
	if websocket {
		head = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
			"Sec-WebSocket-Protocol: " + protocol
	}
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n%s\r\n\r\n", u.Path, head)
	reader := bufio.NewReader(conn)
	r := must[*http.Response](t)(http.ReadResponse(reader, &http.Request{Method: "GET"}))
	want(t, "the status", r.StatusCode, http.StatusSwitchingProtocols)
	return conn, reader
}

func TestWindowsOfALivePeerAreKept(t *testing.T) {
	const size = 1000000
	c := kubelet(t).sleeper(t)
	o := remotecommand.StreamOptions{Stdout: io.Discard}
	conn, reader := upgraded(t, c.execURL(t, o, "head", "-c", strconv.Itoa(size), "/dev/zero"), "v4.channel.k8s.io", false)
	f := must[*spdyframe.Framer](t)(spdyframe.NewFramer(conn, reader))
	send := func(frame spdyframe.Frame) {
		if err := f.WriteFrame(frame); err != nil {
			t.Fatal(err)
		}
	}
	send(&spdyframe.SettingsFrame{FlagIdValues: []spdyframe.SettingsFlagIdValue{
		{Id: spdyframe.SettingsInitialWindowSize, Value: 20000}}})
	for i, kind := range []string{"error", "stdout"} {
		send(&spdyframe.SynStreamFrame{StreamId: spdyframe.StreamId(2*i + 1), Headers: http.Header{"Streamtype": {kind}}})
	}
	got, ended := 0, false
	until := func(wanted int) {
		for got < wanted {
			if frame, ok := must[spdyframe.Frame](t)(f.ReadFrame()).(*spdyframe.DataFrame); ok && frame.StreamId == 3 {
				got += len(frame.Data)
				ended = ended || frame.Flags&spdyframe.DataFlagFin != 0
			}
		}
	}
	quiet := func() {
		conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		if frame, err := f.ReadFrame(); err == nil {
			t.Errorf("beyond the window comes %T", frame)
		}
		conn.SetReadDeadline(time.Time{})
	}
	until(20000)
	want(t, "what the stream's window let out", got, 20000)
	quiet()
	f = must[*spdyframe.Framer](t)(spdyframe.NewFramer(conn, reader))
	send(&spdyframe.WindowUpdateFrame{StreamId: 3, DeltaWindowSize: 2 * size})
	until(65536)
	want(t, "what the session's window let out", got, 65536)
	quiet()
	f = must[*spdyframe.Framer](t)(spdyframe.NewFramer(conn, reader))
	send(&spdyframe.WindowUpdateFrame{StreamId: 0, DeltaWindowSize: 2 * size})
	until(size)
	want(t, "all bytes", got, size)
}

// How many fds knarrd has.
func daemonFDs(t *testing.T) int {
	t.Helper()
	conn := must[net.Conn](t)(net.Dial("unix", os.Getenv("KNARR_SOCK")))
	defer conn.Close()
	raw := must[syscall.RawConn](t)(conn.(*net.UnixConn).SyscallConn())
	var peer *syscall.Ucred
	raw.Control(func(fd uintptr) { peer, _ = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED) })
	return len(must[[]os.DirEntry](t)(os.ReadDir(fmt.Sprintf("/proc/%d/fd", peer.Pid))))
}

func frame(opcode byte, mask bool, length uint64) []byte {
	head := []byte{0x80 | opcode, 127}
	if mask {
		head[1] |= 0x80
	}
	return binary.BigEndian.AppendUint64(head, length)
}

// Those that connect and say nothing, or half of something.
func silentClients(t *testing.T, c *container) {
	o := remotecommand.StreamOptions{Stdout: io.Discard}
	var silent []net.Conn
	for range 200 {
		silent = append(silent, must[net.Conn](t)(net.Dial("tcp", c.execURL(t, o, "true").Host)))
	}
	fmt.Fprintf(silent[0], "GET %s HTT", c.execURL(t, o, "true").Path)
	half, _ := upgraded(t, c.execURL(t, o, "true"), "v4.channel.k8s.io", false) // and opens no stream
	half.(*net.TCPConn).CloseWrite()
	for _, dial := range []dialer{spdy, websocket} {
		if err := run(t, dial, c.execURL(t, o, "true"), o); err != nil {
			t.Error(err)
		}
	}
	for _, conn := range append(silent, half) {
		conn.SetReadDeadline(time.Now().Add(90 * time.Second))
		if _, err := io.Copy(io.Discard, conn); err != nil && os.IsTimeout(err) {
			t.Error("nobody ends it")
		}
		conn.Close()
	}
}

func TestHostileClientsHarmOnlyThemselves(t *testing.T) {
	c := kubelet(t).sleeper(t)
	before := daemonFDs(t)
	t.Run("together", func(t *testing.T) { hostileClients(t, c) })
	o := remotecommand.StreamOptions{Stdout: io.Discard}
	if err := run(t, spdy, c.execURL(t, o, "true"), o); err != nil {
		t.Error(err)
	}
	eventually(t, "no fd of theirs is left", func() bool { return daemonFDs(t) <= before })
	eventually(t, "no command of theirs is left", func() bool { return !c.running(t, " cat") })
}

func hostileClients(t *testing.T, c *container) {
	o := remotecommand.StreamOptions{Stdout: io.Discard, Stdin: strings.NewReader("")}
	random := make([]byte, 1<<20)
	noise(1 << 20).Read(random)
	t.Run("silent ones", func(t *testing.T) {
		t.Parallel()
		silentClients(t, c)
	})
	for name, bad := range map[string]struct {
		protocol  string
		websocket bool
		bytes     []byte
	}{
		"random bytes for SPDY":           {"v4.channel.k8s.io", false, random},
		"a control frame of 16 MiB":       {"v4.channel.k8s.io", false, []byte{0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff}},
		"another version of SPDY":         {"v4.channel.k8s.io", false, []byte{0x80, 2, 0, 4, 0, 0, 0, 4, 0, 0, 0, 0}},
		"a header block that is none":     {"v4.channel.k8s.io", false, append([]byte{0x80, 3, 0, 1, 0, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}, random[:10]...)},
		"random bytes for WebSocket":      {"v5.channel.k8s.io", true, random},
		"a message of 2^62 bytes":         {"v5.channel.k8s.io", true, append(frame(2, false, 1<<62), random...)},
		"an unmasked message":             {"v5.channel.k8s.io", true, []byte{0x82, 3, 0, 'h', 'i'}},
		"a ping of 64 KiB":                {"v5.channel.k8s.io", true, append(frame(9, true, 65536), random...)},
		"a continuation of nothing":       {"v5.channel.k8s.io", true, []byte{0x80, 0x81, 0, 0, 0, 0, 1}},
		"a close of one byte":             {"v5.channel.k8s.io", true, []byte{0x88, 0x81, 0, 0, 0, 0, 1}},
		"bits that nobody has negotiated": {"v5.channel.k8s.io", true, []byte{0xf2, 0x81, 0, 0, 0, 0, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, reader := upgraded(t, c.execURL(t, o, "cat"), bad.protocol, bad.websocket)
			go conn.Write(bad.bytes)
			// It reads to the end of what it is told, and the end comes. (A reset is one, too.)
			conn.SetReadDeadline(time.Now().Add(time.Minute))
			if _, err := io.Copy(io.Discard, reader); err != nil && os.IsTimeout(err) {
				t.Error("nobody ends it")
			}
			conn.Close()
		})
	}
}

func TestAKilledKnarrdLeavesNothingOfItsSessions(t *testing.T) {
	c := kubelet(t).echoServer(t)
	marker := fmt.Sprintf("79%03d", serial.Add(1))
	address := c.forward(t, false, 8080)
	port := must[net.Conn](t)(net.Dial("tcp", address))
	defer port.Close()
	port.Write([]byte("x"))
	must[int](t)(io.ReadFull(port, make([]byte, 1)))
	ends := make(chan error, 3)
	background, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, dial := range []dialer{spdy, websocket} {
		var out lines
		o := remotecommand.StreamOptions{Stdout: &out}
		u := c.execURL(t, o, "sh", "-c", "sleep "+marker+" & echo on; wait")
		go func() { ends <- must[remotecommand.Executor](t)(dial(u)).StreamWithContext(background, o) }()
		eventually(t, "it runs", func() bool { return out.has("on") })
	}
	o := remotecommand.StreamOptions{Stdout: io.Discard}
	u := c.attachURL(t, o)
	go func() { ends <- must[remotecommand.Executor](t)(spdy(u)).StreamWithContext(background, o) }()
	if out, err := exec.Command("sh", "-c", os.Getenv("KNARR_RESTART")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for range 3 {
		if err := <-ends; exitCode(err) != -1 {
			t.Errorf("a command of a killed knarrd ended with %v", err)
		}
	}
	if n, err := port.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes come from the port", n)
	}
	eventually(t, "the commands are gone", func() bool { return !c.running(t, "sleep "+marker) })
	status := must[*v1.ContainerStatusResponse](t)(c.ContainerStatus(ctx(t), &v1.ContainerStatusRequest{ContainerId: c.id}))
	want(t, "the container", status.Status.State, v1.ContainerState_CONTAINER_RUNNING)
}

// TLS that speaks something else than HTTP after its handshake, or never begins it.
func TestHostileClientsOfTLS(t *testing.T) {
	c := strict(t).sleeper(t)
	o := remotecommand.StreamOptions{Stdout: io.Discard}
	u := c.execURL(t, o, "true")
	tlsConfig := must[*tls.Config](t)(rest.TLSConfigFor(withCertificates("client")))
	plain := must[net.Conn](t)(net.Dial("tcp", u.Host))
	plain.Write(bytes.Repeat([]byte{0xff}, 100000))
	silent := must[net.Conn](t)(net.Dial("tcp", u.Host))
	defer silent.Close()
	strange := must[*tls.Conn](t)(tls.Dial("tcp", u.Host, tlsConfig))
	strange.Write(bytes.Repeat([]byte("x\r\n"), 10000))
	for _, conn := range []net.Conn{plain, strange} {
		conn.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := io.Copy(io.Discard, conn); err != nil && os.IsTimeout(err) {
			t.Errorf("nobody ends %v", conn)
		}
		conn.Close()
	}
	for name, dial := range overTLS(withCertificates("client")) {
		if err := run(t, dial, c.execURL(t, o, "true"), o); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
