// Compares api/nri.proto, our own text of NRI, with the descriptors of the Go module github.com/containerd/nri:
// every message, field, enum, value and method, both ways, so that neither can have what the other lacks.
package nri

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/containerd/nri/pkg/api"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

const methods = 20

// What a file declares: one line of facts by the full name of each thing.
type facts map[string]string

func (f facts) enum(e protoreflect.EnumDescriptor) {
	f[string(e.FullName())] = "enum"
	for i := 0; i < e.Values().Len(); i++ {
		v := e.Values().Get(i)
		f[string(e.FullName())+"/"+string(v.Name())] = fmt.Sprint(v.Number())
	}
}

func fieldType(d protoreflect.FieldDescriptor) string {
	switch {
	case d.Message() != nil:
		return string(d.Message().FullName())
	case d.Enum() != nil:
		return string(d.Enum().FullName())
	}
	return d.Kind().String()
}

func (f facts) message(m protoreflect.MessageDescriptor) {
	f[string(m.FullName())] = fmt.Sprintf("message, map entry %v, %d oneofs", m.IsMapEntry(), m.Oneofs().Len())
	for i := 0; i < m.Fields().Len(); i++ {
		d := m.Fields().Get(i)
		deprecated := d.Options().(*descriptorpb.FieldOptions).GetDeprecated()
		f[string(d.FullName())] = fmt.Sprintf("%d %s %s, map %v, packed %v, presence %v, json %s, deprecated %v",
			d.Number(), d.Cardinality(), fieldType(d), d.IsMap(), d.IsPacked(), d.HasPresence(), d.JSONName(), deprecated)
	}
	for i := 0; i < m.Enums().Len(); i++ {
		f.enum(m.Enums().Get(i))
	}
	for i := 0; i < m.Messages().Len(); i++ {
		f.message(m.Messages().Get(i))
	}
}

func factsOf(file protoreflect.FileDescriptor) facts {
	f := facts{"package": string(file.Package()), "syntax": file.Syntax().String()}
	for i := 0; i < file.Messages().Len(); i++ {
		f.message(file.Messages().Get(i))
	}
	for i := 0; i < file.Enums().Len(); i++ {
		f.enum(file.Enums().Get(i))
	}
	for i := 0; i < file.Services().Len(); i++ {
		for j := 0; j < file.Services().Get(i).Methods().Len(); j++ {
			m := file.Services().Get(i).Methods().Get(j)
			f[string(m.FullName())] = fmt.Sprintf("method %s (stream %v) returns %s (stream %v)",
				m.Input().FullName(), m.IsStreamingClient(), m.Output().FullName(), m.IsStreamingServer())
		}
	}
	return f
}

func ours(t *testing.T) protoreflect.FileDescriptor {
	t.Helper()
	out := filepath.Join(t.TempDir(), "nri.ds")
	protoc := exec.Command("protoc", "--proto_path=../../../api", "--descriptor_set_out="+out, "nri.proto")
	if text, err := protoc.CombinedOutput(); err != nil {
		t.Fatalf("protoc: %v\n%s", err, text)
	}
	bytes, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(bytes, &set); err != nil {
		t.Fatal(err)
	}
	file, err := protodesc.NewFile(set.File[0], new(protoregistry.Files))
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func TestOurTextIsTheStandards(t *testing.T) {
	standard := factsOf(api.File_pkg_api_api_proto)
	mine := factsOf(ours(t))
	names := map[string]bool{}
	for name := range standard {
		names[name] = true
	}
	for name := range mine {
		names[name] = true
	}
	sorted := []string{}
	for name := range names {
		sorted = append(sorted, name)
	}
	sort.Strings(sorted)
	for _, name := range sorted {
		if strings.Contains(name, "HostFunctions") || strings.Contains(name, "LogRequest") {
			continue // what WebAssembly plugins ask of their host
		}
		if mine[name] != standard[name] {
			t.Errorf("%s: ours is %q, the standard's %q", name, mine[name], standard[name])
		}
	}
	t.Logf("%d facts compared", len(sorted))
}

func TestEveryMethodIsThere(t *testing.T) {
	file := ours(t)
	n := 0
	for i := 0; i < file.Services().Len(); i++ {
		n += file.Services().Get(i).Methods().Len()
	}
	if n != methods {
		t.Errorf("%d methods, not %d", n, methods)
	}
}
