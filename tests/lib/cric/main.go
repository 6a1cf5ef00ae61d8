// cric lets a program that speaks no gRPC make CRI calls: a line of JSON for each call on stdin, a line for each answer
// on stdout, in the order in which they come.
//
//	cric SOCKET
//	{"id": 1, "method": "ListPodSandbox", "request": {…}, "seconds": 10}
//	{"cancel": 1}
//	→ {"id": 1, "code": "OK", "message": "", "answer": {…}}
//
// Requests and answers are protobuf's JSON form, so 64-bit numbers are strings. A request field "pad" of n in the line
// puts n bytes into the request's unknown fields: a message of any size.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	_ "k8s.io/cri-api/pkg/apis/runtime/v1"
)

type order struct {
	ID      int             `json:"id"`
	Method  string          `json:"method"`
	Request json.RawMessage `json:"request"`
	Seconds float64         `json:"seconds"`
	Pad     int             `json:"pad"`
	Cancel  int             `json:"cancel"`
}

type answer struct {
	ID      int             `json:"id"`
	Code    string          `json:"code"`
	Message string          `json:"message"`
	Answer  json.RawMessage `json:"answer,omitempty"`
}

// The method's full name and its two messages.
func find(method string) (string, proto.Message, proto.Message, error) {
	for _, service := range []string{"runtime.v1.RuntimeService", "runtime.v1.ImageService"} {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service + "." + method))
		if err != nil {
			continue
		}
		m := d.(protoreflect.MethodDescriptor)
		in, err := protoregistry.GlobalTypes.FindMessageByName(m.Input().FullName())
		if err != nil {
			return "", nil, nil, err
		}
		out, err := protoregistry.GlobalTypes.FindMessageByName(m.Output().FullName())
		if err != nil {
			return "", nil, nil, err
		}
		return "/" + service + "/" + method, in.New().Interface(), out.New().Interface(), nil
	}
	return "", nil, nil, fmt.Errorf("no method %s", method)
}

func call(ctx context.Context, conn *grpc.ClientConn, o *order) answer {
	name, in, out, err := find(o.Method)
	if err == nil && len(o.Request) > 0 {
		err = protojson.Unmarshal(o.Request, in)
	}
	if err == nil && o.Pad > 0 {
		unknown := protowire.AppendTag(nil, 19000-1, protowire.BytesType)
		in.ProtoReflect().SetUnknown(protowire.AppendBytes(unknown, make([]byte, o.Pad)))
	}
	if err != nil {
		return answer{ID: o.ID, Code: "BadOrder", Message: err.Error()}
	}
	if err := conn.Invoke(ctx, name, in, out); err != nil {
		return answer{ID: o.ID, Code: status.Code(err).String(), Message: status.Convert(err).Message()}
	}
	text, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(out)
	if err != nil {
		return answer{ID: o.ID, Code: "BadAnswer", Message: err.Error()}
	}
	return answer{ID: o.ID, Code: "OK", Answer: text}
}

func main() {
	var mu sync.Mutex
	cancels := map[int]context.CancelFunc{}
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	socket := os.Args[1]
	if !strings.HasPrefix(socket, "unix:") {
		socket = "unix://" + socket
	}
	conn, err := grpc.NewClient(socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20), grpc.MaxCallSendMsgSize(64<<20)),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: time.Second,
			Backoff: backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1.2, MaxDelay: 50 * time.Millisecond}}))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	lines := bufio.NewReaderSize(os.Stdin, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		o := &order{Seconds: 30}
		if err := json.Unmarshal(line, o); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		mu.Lock()
		if o.Cancel != 0 {
			if cancel := cancels[o.Cancel]; cancel != nil {
				cancel()
			}
			mu.Unlock()
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(o.Seconds*float64(time.Second)))
		cancels[o.ID] = cancel
		mu.Unlock()
		go func() {
			a := call(ctx, conn, o)
			cancel()
			mu.Lock()
			defer mu.Unlock()
			delete(cancels, o.ID)
			_ = out.Encode(a)
		}()
	}
}
