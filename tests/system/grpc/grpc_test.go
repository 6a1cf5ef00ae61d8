// What grpc-go, kubelet's own gRPC, sees of knarrd's server: answers, limits, deadlines, cancellation,
// streams, the orderly end, and rubbish beside it.
package grpc_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
)

// Messages by hand: the numbers are echo.proto's.
type request struct {
	payload     []byte
	text        string
	sleepMs     int64
	times       int64
	failCode    int32
	failText    string
	answerBytes int64
	badText     bool
}

type reply struct {
	payload             []byte
	text                string
	number, cancelled   int64
	hasDeadline, byUser bool
}

func (r *request) bytes() []byte {
	var b []byte
	number := func(field protowire.Number, n int64) {
		b = protowire.AppendTag(b, field, protowire.VarintType)
		b = protowire.AppendVarint(b, uint64(n))
	}
	text := func(field protowire.Number, s []byte) {
		b = protowire.AppendTag(b, field, protowire.BytesType)
		b = protowire.AppendBytes(b, s)
	}
	text(1, r.payload)
	text(2, []byte(r.text))
	number(3, r.sleepMs)
	number(4, r.times)
	number(5, int64(r.failCode))
	text(6, []byte(r.failText))
	number(7, r.answerBytes)
	if r.badText {
		number(8, 1)
	}
	return b
}

func (r *reply) parse(b []byte) error {
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		var v uint64
		var s []byte
		switch kind {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			s, n = protowire.ConsumeBytes(b)
		default:
			return fmt.Errorf("field %d has kind %d", field, kind)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		switch field {
		case 1:
			r.payload = s
		case 2:
			r.text = string(s)
		case 3:
			r.number = int64(v)
		case 4:
			r.hasDeadline = v != 0
		case 5:
			r.byUser = v != 0
		case 6:
			r.cancelled = int64(v)
		}
	}
	return nil
}

type codec struct{}

func (codec) Name() string { return "proto" }
func (codec) Marshal(v any) ([]byte, error) {
	if raw, ok := v.([]byte); ok {
		return raw, nil
	}
	return v.(*request).bytes(), nil
}
func (codec) Unmarshal(data []byte, v any) error {
	return v.(*reply).parse(bytes.Clone(data))
}

var _ encoding.Codec = codec{}

type server struct {
	t            *testing.T
	cmd          *exec.Cmd
	socket, user string
	stderr       bytes.Buffer
	ended        chan error
}

func start(t *testing.T, env ...string) *server {
	t.Helper()
	dir, err := os.MkdirTemp("", "knarr-test-grpc-")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, socket: filepath.Join(dir, "a.sock"), user: filepath.Join(dir, "b.sock"), ended: make(chan error, 1)}
	build := os.Getenv("KNARR_BUILD")
	if build == "" {
		build = "../../../build"
	}
	s.cmd = exec.Command(filepath.Join(build, "tests/system/grpc/server/grpc_echo"), s.socket, s.user)
	s.cmd.Env = append(os.Environ(), env...)
	s.cmd.Stderr = &s.stderr
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { s.ended <- s.cmd.Wait() }()
	t.Cleanup(func() {
		s.stop()
		if _, err := os.Stat(s.socket); err == nil {
			t.Errorf("the socket is left behind")
		}
		os.RemoveAll(dir)
	})
	for i := 0; ; i++ {
		if c, err := net.Dial("unix", s.user); err == nil {
			c.Close()
			return s
		}
		if i > 500 {
			t.Fatalf("the server does not listen: %s", s.stderr.String())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// stop ends the server in order; a sanitizer's report is a failure.
func (s *server) stop() {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-s.ended:
		if err != nil {
			s.t.Errorf("the server ended with %v: %s", err, s.stderr.String())
		}
	case <-time.After(20 * time.Second):
		s.cmd.Process.Signal(syscall.SIGABRT)
		s.t.Errorf("the server does not end: %s", s.stderr.String())
	}
	s.cmd = nil
}

func (s *server) dial(opts ...grpc.DialOption) *grpc.ClientConn {
	s.t.Helper()
	return s.dialTo(s.socket, opts...)
}

func (s *server) dialTo(socket string, opts ...grpc.DialOption) *grpc.ClientConn {
	s.t.Helper()
	opts = append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(codec{}), grpc.MaxCallRecvMsgSize(64<<20), grpc.MaxCallSendMsgSize(64<<20)))
	c, err := grpc.NewClient("unix://"+socket, opts...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

func seconds(n int) context.Context {
	ctx, _ := context.WithTimeout(context.Background(), time.Duration(n)*time.Second)
	return ctx
}

func echo(c *grpc.ClientConn, r *request, opts ...grpc.CallOption) (*reply, error) {
	var out reply
	err := c.Invoke(seconds(60), "/knarr.test.Echo/Echo", r, &out, opts...)
	return &out, err
}

func wantCode(t *testing.T, err error, code codes.Code, text string) {
	t.Helper()
	if status.Code(err) != code || !strings.Contains(status.Convert(err).Message(), text) {
		t.Fatalf("got %v, wanted %v with %q", err, code, text)
	}
}

func TestUnary(t *testing.T) {
	s := start(t)
	c := s.dial()
	out, err := echo(c, &request{text: "hallo wörld ☃", payload: []byte{0, 1, 255}})
	if err != nil {
		t.Fatal(err)
	}
	if out.text != "hallo wörld ☃" || !bytes.Equal(out.payload, []byte{0, 1, 255}) || !out.hasDeadline || out.byUser {
		t.Fatalf("got %+v", out)
	}
	out, err = echo(s.dialTo(s.user), &request{})
	if err != nil || !out.byUser {
		t.Fatalf("the user's socket: %v, %+v", err, out)
	}
}

// kubelet dials "unix:///path"; older clients and crictl send the path as :authority.
func TestAuthorityWithSlash(t *testing.T) {
	s := start(t)
	c := s.dial(grpc.WithAuthority(s.socket))
	if _, err := echo(c, &request{}); err != nil {
		t.Fatal(err)
	}
}

func TestErrors(t *testing.T) {
	s := start(t)
	c := s.dial()
	for _, code := range []codes.Code{codes.NotFound, codes.AlreadyExists, codes.InvalidArgument, codes.Unavailable, codes.FailedPrecondition} {
		text := "it is “quoted”, 100 %,\nin two lines"
		_, err := echo(c, &request{failCode: int32(code), failText: text})
		wantCode(t, err, code, text)
	}
	err := c.Invoke(seconds(10), "/knarr.test.Echo/Nothing", &request{}, &reply{})
	wantCode(t, err, codes.Unimplemented, "/knarr.test.Echo/Nothing")
	err = c.Invoke(seconds(10), "/runtime.v1alpha2.RuntimeService/Version", &request{payload: make([]byte, 8<<20)}, &reply{})
	wantCode(t, err, codes.Unimplemented, "v1alpha2")
	_, err = echo(c, &request{}, grpc.UseCompressor("gzip"))
	wantCode(t, err, codes.Unimplemented, "compressed")
	err = c.Invoke(seconds(10), "/knarr.test.Echo/Echo", []byte{0x0a, 0x7f, 1}, &reply{})
	wantCode(t, err, codes.InvalidArgument, "knarr.test.EchoRequest")
	err = c.Invoke(seconds(10), "/knarr.test.Echo/Echo", []byte{0x12, 2, 0xff, 0xfe}, &reply{})
	wantCode(t, err, codes.InvalidArgument, "text is not UTF-8")
	out, err := echo(c, &request{badText: true})
	if err != nil || out.text != "bad \uFFFD\uFFFD text" {
		t.Fatalf("a bad text came as %q, %v", out.text, err)
	}
	if _, err := echo(c, &request{text: "still here"}); err != nil {
		t.Fatal(err)
	}
}

func TestSizes(t *testing.T) {
	s := start(t)
	c := s.dial()
	payload := make([]byte, 16<<20-64)
	rand.New(rand.NewSource(1)).Read(payload)
	for i := 0; i < 3; i++ {
		out, err := echo(c, &request{payload: payload})
		if err != nil || !bytes.Equal(out.payload, payload) {
			t.Fatalf("16 MiB: %v", err)
		}
	}
	_, err := echo(c, &request{payload: make([]byte, 17<<20)})
	wantCode(t, err, codes.ResourceExhausted, "16777216")
	_, err = echo(c, &request{answerBytes: 17 << 20})
	wantCode(t, err, codes.ResourceExhausted, "16777216")
	if _, err := echo(c, &request{text: "still here"}); err != nil {
		t.Fatal(err)
	}
}

func TestManyAtOnce(t *testing.T) {
	s := start(t)
	c := s.dial()
	var wg sync.WaitGroup
	began := time.Now()
	for i := 0; i < 200; i++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			want := fmt.Sprint("call ", i)
			out, err := echo(c, &request{text: want, sleepMs: 300, answerBytes: int64(i * 1000)})
			if err != nil || out.text != want || len(out.payload) != i*1000 {
				t.Errorf("call %d: %v", i, err)
			}
		}()
	}
	wg.Wait()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("200 calls of 0.3 s took %v", took)
	}
}

// Far more than there are workers: the rest waits its turn, and the lane is not behind it.
func TestLaneIsNotDelayed(t *testing.T) {
	s := start(t)
	c := s.dial()
	var wg sync.WaitGroup
	for i := 0; i < 600; i++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if _, err := echo(c, &request{sleepMs: 1500}); err != nil {
				t.Errorf("call %d: %v", i, err)
			}
		}()
	}
	time.Sleep(500 * time.Millisecond)
	began := time.Now()
	if err := c.Invoke(seconds(10), "/knarr.test.Echo/Lane", &request{}, &reply{}); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("the lane answered after %v", took)
	}
	wg.Wait()
}

func cancelledSoFar(t *testing.T, c *grpc.ClientConn, want int64) {
	t.Helper()
	var out *reply
	for i := 0; i < 200; i++ {
		var err error
		if out, err = echo(c, &request{}); err != nil {
			t.Fatal(err)
		}
		if out.cancelled >= want {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("%d calls were cancelled in the server, not %d", out.cancelled, want)
}

func TestDeadline(t *testing.T) {
	s := start(t)
	c := s.dial()
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	err := c.Invoke(ctx, "/knarr.test.Echo/Echo", &request{sleepMs: 60000}, &reply{})
	wantCode(t, err, codes.DeadlineExceeded, "")
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestCancel(t *testing.T) {
	s := start(t)
	c := s.dial()
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(200*time.Millisecond, cancel)
	err := c.Invoke(ctx, "/knarr.test.Echo/Echo", &request{sleepMs: 60000}, &reply{})
	wantCode(t, err, codes.Canceled, "")
	cancelledSoFar(t, c, 1)

	// The connection's end cancels too.
	other := s.dialTo(s.user)
	go func() {
		other.Invoke(context.Background(), "/knarr.test.Echo/Echo", &request{sleepMs: 60000}, &reply{})
	}()
	time.Sleep(300 * time.Millisecond)
	other.Close()
	cancelledSoFar(t, c, 2)
}

func stream(t *testing.T, ctx context.Context, c *grpc.ClientConn, r *request) grpc.ClientStream {
	t.Helper()
	st, err := c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/knarr.test.Echo/Count")
	if err != nil {
		t.Fatal(err)
	}
	if err := st.SendMsg(r); err != nil {
		t.Fatal(err)
	}
	if err := st.CloseSend(); err != nil {
		t.Fatal(err)
	}
	return st
}

func TestStream(t *testing.T) {
	s := start(t)
	c := s.dial()
	for _, r := range []*request{{times: 1000}, {times: 50, answerBytes: 1 << 20}, {times: 1, answerBytes: 15 << 20}} {
		st := stream(t, seconds(60), c, r)
		for i := int64(0); i < r.times; i++ {
			var m reply
			if err := st.RecvMsg(&m); err != nil {
				t.Fatal(err)
			}
			if m.number != i || int64(len(m.payload)) != r.answerBytes {
				t.Fatalf("message %d has number %d and %d bytes", i, m.number, len(m.payload))
			}
		}
		if err := st.RecvMsg(&reply{}); err != io.EOF {
			t.Fatalf("the stream ended with %v", err)
		}
	}
	st := stream(t, seconds(60), c, &request{times: 3, failCode: int32(codes.NotFound), failText: "no more"})
	var err error
	for err == nil {
		err = st.RecvMsg(&reply{})
	}
	wantCode(t, err, codes.NotFound, "no more")

	// One that has no end, and whose reader sleeps: the server's memory stays small, the cancel reaches it.
	ctx, cancel := context.WithCancel(context.Background())
	st = stream(t, ctx, c, &request{answerBytes: 1 << 20})
	st.RecvMsg(&reply{})
	time.Sleep(500 * time.Millisecond)
	if rss := s.rssKiB(); rss > 400<<10 {
		t.Errorf("the server takes %d KiB while nobody reads", rss)
	}
	cancel()
	cancelledSoFar(t, c, 1)
}

func (s *server) rssKiB() int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	var kib int
	if i := bytes.Index(text, []byte("VmRSS:")); i >= 0 {
		fmt.Sscan(string(text[i+6:]), &kib)
	}
	return kib
}

// SIGTERM: what is under way ends well, streams end with UNAVAILABLE, nothing new is taken.
func TestGoaway(t *testing.T) {
	s := start(t)
	c := s.dial()
	st := stream(t, seconds(60), c, &request{sleepMs: 10})
	if err := st.RecvMsg(&reply{}); err != nil {
		t.Fatal(err)
	}
	result := make(chan error, 1)
	go func() {
		_, err := echo(c, &request{sleepMs: 1000})
		result <- err
	}()
	time.Sleep(300 * time.Millisecond)
	s.cmd.Process.Signal(syscall.SIGHUP) // changes nothing
	s.cmd.Process.Signal(syscall.SIGTERM)
	if err := <-result; err != nil {
		t.Errorf("the call under way: %v", err)
	}
	var err error
	for err == nil {
		err = st.RecvMsg(&reply{})
	}
	wantCode(t, err, codes.Unavailable, "stopping")
	if _, err := echo(c, &request{}); status.Code(err) != codes.Unavailable {
		t.Errorf("a new call: %v", err)
	}
}

func TestStopCancelsWhatDoesNotEnd(t *testing.T) {
	s := start(t)
	c := s.dial()
	result := make(chan error, 1)
	go func() {
		_, err := echo(c, &request{sleepMs: 50000})
		result <- err
	}()
	time.Sleep(300 * time.Millisecond)
	s.cmd.Process.Signal(syscall.SIGTERM)
	wantCode(t, <-result, codes.Unavailable, "stopping")
}

func TestRecovering(t *testing.T) {
	s := start(t, "ECHO_READY_MS=1000")
	c := s.dial()
	began := time.Now()
	if err := c.Invoke(seconds(10), "/knarr.test.Echo/Anytime", &request{}, &reply{}); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 500*time.Millisecond {
		t.Errorf("Anytime took %v", took)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if err := c.Invoke(ctx, "/knarr.test.Echo/Echo", &request{}, &reply{}); status.Code(err) != codes.DeadlineExceeded && status.Code(err) != codes.Unavailable {
		t.Errorf("an impatient call: %v", err)
	}
	if err := c.Invoke(seconds(10), "/knarr.test.Echo/Lane", &request{}, &reply{}); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took < 800*time.Millisecond {
		t.Errorf("a call was answered after %v, before the server was ready", took)
	}
}

func TestRecoveringTooLong(t *testing.T) {
	s := start(t, "ECHO_READY_MS=4000")
	_, err := echo(s.dial(), &request{})
	wantCode(t, err, codes.Unavailable, "recovering")
}

// rubbish is what a peer may throw at the socket; the server closes on it or answers, and serves others.
func rubbish() map[string][]byte {
	preface := []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	frame := func(kind, flags byte, stream uint32, payload []byte) []byte {
		b := []byte{byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload)), kind, flags}
		b = binary.BigEndian.AppendUint32(b, stream)
		return append(b, payload...)
	}
	settings := frame(4, 0, 0, nil)
	with := func(frames ...[]byte) []byte {
		return append(append(bytes.Clone(preface), settings...), bytes.Join(frames, nil)...)
	}
	random := make([]byte, 1<<20)
	rand.New(rand.NewSource(2)).Read(random)
	many := func(f []byte, n int) []byte { return bytes.Repeat(f, n) }
	// :method POST, :scheme http, :path / : indexed fields of the static table
	get := []byte{0x82, 0x86, 0x84}
	return map[string][]byte{
		"http1":              []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"random":             random,
		"random frames":      with(random),
		"no such index":      with(frame(1, 5, 1, []byte{0xff, 0xff, 0xff, 0xff})),
		"get":                with(frame(1, 5, 1, get)),
		"no headers":         with(frame(1, 5, 1, nil)),
		"even stream":        with(frame(1, 5, 2, get)),
		"data without":       with(frame(0, 1, 1, []byte("abc"))),
		"oversized frame":    with(frame(0, 0, 1, make([]byte, 1<<20))),
		"endless headers":    with(frame(1, 0, 1, get), many(frame(9, 0, 1, many([]byte{0x82}, 1000)), 2000)),
		"pings":              with(many(frame(6, 0, 0, make([]byte, 8)), 50000)),
		"settings":           with(many(settings, 50000)),
		"reset after reset":  with(resets(frame, get, 20000)),
		"priority":           with(many(frame(2, 0, 1, []byte{0, 0, 0, 3, 1}), 50000)),
		"window overflow":    with(frame(8, 0, 0, []byte{0x7f, 0xff, 0xff, 0xff}), frame(8, 0, 0, []byte{0x7f, 0xff, 0xff, 0xff})),
		"push promise":       with(frame(5, 4, 1, make([]byte, 20))),
		"half a preface":     preface[:10],
		"goaway and go on":   with(frame(7, 0, 0, make([]byte, 8)), frame(1, 5, 1, get)),
		"many open requests": with(opens(frame, get, 3000)),
	}
}

func resets(frame func(byte, byte, uint32, []byte) []byte, get []byte, n int) []byte {
	var b []byte
	for i := 0; i < n; i++ {
		b = append(b, frame(1, 4, uint32(2*i+1), get)...)
		b = append(b, frame(3, 0, uint32(2*i+1), []byte{0, 0, 0, 8})...)
	}
	return b
}

func opens(frame func(byte, byte, uint32, []byte) []byte, get []byte, n int) []byte {
	var b []byte
	for i := 0; i < n; i++ {
		b = append(b, frame(1, 4, uint32(2*i+1), get)...)
	}
	return b
}

func TestRubbish(t *testing.T) {
	s := start(t)
	c := s.dial()
	result := make(chan error, 1)
	go func() {
		_, err := echo(c, &request{sleepMs: 3000})
		result <- err
	}()
	before := s.rssKiB()
	for name, data := range rubbish() {
		conn, err := net.Dial("unix", s.socket)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		conn.SetDeadline(time.Now().Add(3 * time.Second))
		go io.Copy(io.Discard, conn)
		conn.Write(data) // may break off in the middle
		time.Sleep(20 * time.Millisecond)
		if _, err := echo(c, &request{text: name}); err != nil {
			t.Errorf("after %q: %v", name, err)
		}
		conn.Close()
	}
	// A peer that asks and never reads.
	conn, err := net.Dial("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(time.Second))
	conn.Write(rubbish()["pings"])
	conn.Write(rubbish()["reset after reset"][33:])
	conn.Close()
	if err := <-result; err != nil {
		t.Errorf("the call beside the rubbish: %v", err)
	}
	if after := s.rssKiB(); after > before+(64<<10) {
		t.Errorf("rubbish made %d KiB of %d", after, before)
	}
}

// Not a limit, a figure: go test -run Speed -v
func TestSpeed(t *testing.T) {
	s := start(t)
	c := s.dial()
	call := func() {
		var out reply
		if err := c.Invoke(context.Background(), "/knarr.test.Echo/Anytime", &request{}, &out); err != nil {
			t.Error(err)
		}
	}
	for i := 0; i < 100; i++ {
		call()
	}
	const calls = 2000
	began := time.Now()
	for i := 0; i < calls; i++ {
		call()
	}
	each := time.Since(began) / calls
	var wg sync.WaitGroup
	began = time.Now()
	for i := 0; i < 100; i++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for k := 0; k < calls/50; k++ {
				call()
			}
		}()
	}
	wg.Wait()
	rate := float64(100*(calls/50)) / time.Since(began).Seconds()
	t.Logf("%v a call in sequence, %.0f a second with 100 at once, RSS %d KiB", each, rate, s.rssKiB())
}
