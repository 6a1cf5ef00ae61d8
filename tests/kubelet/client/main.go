// What kubectl does with kubelet's API once the API server has let it through: client-go's own executors, with this
// process' stdin, stdout and stderr; it ends with the command's exit code.
//
//	client [-websocket | -v4] [-i] [-t WIDTHxHEIGHT] [-no-stderr] exec|attach URL
//	client [-websocket] forward URL PORT      prints the local port, and serves until its stdin ends
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/util/exec"
)

var (
	websocket = flag.Bool("websocket", false, "WebSocket v5, which kubelet translates; else SPDY")
	v4        = flag.Bool("v4", false, "WebSocket v4, which kubelet passes on")
	in        = flag.Bool("i", false, "with stdin")
	size      = flag.String("t", "", "with a terminal of this size")
	noErr     = flag.Bool("no-stderr", false, "without stderr")
	kubelet   = &rest.Config{TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
)

func must[T any](v T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, "client:", err)
		os.Exit(125)
	}
	return v
}

type once chan remotecommand.TerminalSize

func (o once) Next() *remotecommand.TerminalSize {
	if size, ok := <-o; ok {
		return &size
	}
	return nil
}

func stream(at *url.URL) error {
	o := remotecommand.StreamOptions{Stdout: os.Stdout, Stderr: os.Stderr}
	if *in {
		o.Stdin = os.Stdin
	}
	if *noErr {
		o.Stderr = nil
	}
	if *size != "" {
		var s remotecommand.TerminalSize
		must(fmt.Sscanf(*size, "%dx%d", &s.Width, &s.Height))
		sizes := make(once, 1)
		sizes <- s
		o.Tty, o.Stderr, o.TerminalSizeQueue = true, nil, sizes
	}
	query := at.Query()
	for name, wanted := range map[string]bool{"input": o.Stdin != nil, "output": true, "error": o.Stderr != nil, "tty": o.Tty} {
		if wanted {
			query.Set(name, "1")
		}
	}
	at.RawQuery = query.Encode()
	var e remotecommand.Executor
	switch {
	case *v4:
		e = must(remotecommand.NewWebSocketExecutorForProtocols(kubelet, "GET", at.String(), "v4.channel.k8s.io"))
	case *websocket:
		e = must(remotecommand.NewWebSocketExecutor(kubelet, "GET", at.String()))
	default:
		e = must(remotecommand.NewSPDYExecutor(kubelet, "POST", at))
	}
	return e.StreamWithContext(context.Background(), o)
}

func forward(at *url.URL, port string) error {
	transport, upgrader, err := spdy.RoundTripperFor(kubelet)
	if err != nil {
		return err
	}
	dial := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, "POST", at)
	if *websocket {
		dial = must(portforward.NewSPDYOverWebsocketDialer(at, kubelet))
	}
	stop, ready := make(chan struct{}), make(chan struct{})
	f := must(portforward.NewOnAddresses(dial, []string{"127.0.0.1"}, []string{"0:" + port}, stop, ready, io.Discard, os.Stderr))
	go func() {
		<-ready
		fmt.Println(must(f.GetPorts())[0].Local)
		io.Copy(io.Discard, os.Stdin)
		close(stop)
	}()
	return f.ForwardPorts()
}

func main() {
	flag.Parse()
	at := must(url.Parse(flag.Arg(1)))
	var err error
	if flag.Arg(0) == "forward" {
		err = forward(at, flag.Arg(2))
	} else {
		err = stream(at)
	}
	var code exec.CodeExitError
	if errors.As(err, &code) {
		os.Exit(code.Code)
	}
	must(0, err)
}
