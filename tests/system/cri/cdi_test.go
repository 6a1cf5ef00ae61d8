package cri

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A vendor's file in one of the folders of this test's knarrd.
func cdiFile(t *testing.T, folder, name, text string) {
	t.Helper()
	dir := filepath.Join(os.Getenv("KNARR_DIR"), folder)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(path) })
}

func cdi(names ...string) []*v1.CDIDevice {
	var all []*v1.CDIDevice
	for _, name := range names {
		all = append(all, &v1.CDIDevice{Name: name})
	}
	return all
}

func TestCDIDevices(t *testing.T) {
	c := kubelet(t)
	given := t.TempDir()
	if err := os.WriteFile(filepath.Join(given, "library"), []byte("of the vendor"), 0o644); err != nil {
		t.Fatal(err)
	}
	cdiFile(t, "cdi-low", "old.json", `{"cdiVersion": "0.5.0", "kind": "vendor.example/gpu", "devices": [
		{"name": "0", "containerEdits": {"env": ["FROM=low"]}}, {"name": "1", "containerEdits": {"env": ["SECOND=low"]}}]}`)
	cdiFile(t, "cdi", "vendor.yaml", `---
cdiVersion: 0.7.0
kind: vendor.example/gpu
devices:
- name: "0"
  containerEdits:
    env: [FROM=high]
    additionalGids: [4321]
    deviceNodes:
    - path: /dev/gpu0
      hostPath: /dev/full
      fileMode: 0606
    - {path: /dev/gpu-ctl, type: c, major: 1, minor: 5, permissions: none, uid: 5}
containerEdits:
  env: [ALL=yes, FROM=all]
  mounts:
  - hostPath: `+given+`
    containerPath: /usr/local/vendor/deep
    options: [ro, nosuid, bind]
  - {hostPath: tmpfs, containerPath: /usr/local/vendor, type: tmpfs, options: [mode=711]}
`)
	cdiFile(t, "cdi", "broken.yaml", "cdiVersion: 0.5.0\nkind: nothing\n")
	id := c.sleeper(t, func(config *v1.ContainerConfig) {
		config.CDIDevices = cdi("vendor.example/gpu=0")
		config.Annotations = map[string]string{"cdi.k8s.io/plugin": "vendor.example/gpu=1, vendor.example/gpu=0"}
		config.Envs = []*v1.KeyValue{{Key: "FROM", Value: []byte("pod")}}
	})
	want(t, "env", c.exec(t, id, "sh", "-c", "echo $ALL $FROM $SECOND"), "yes high low")
	want(t, "device", c.exec(t, id, "stat", "-c", "%t:%T %a", "/dev/gpu0"), "1:7 606")
	want(t, "other device", c.exec(t, id, "stat", "-c", "%t:%T %u", "/dev/gpu-ctl"), "1:5 5")
	want(t, "mount", c.exec(t, id, "cat", "/usr/local/vendor/deep/library"), "of the vendor")
	want(t, "mount of a type", c.exec(t, id, "stat", "-c", "%a", "/usr/local/vendor"), "711")
	c.exec(t, id, "head", "-c", "1", "/dev/gpu0")
	if groups := c.exec(t, id, "id", "-G"); !strings.Contains(" "+groups+" ", " 4321 ") {
		t.Errorf("groups are %q", groups)
	}
}

func TestCDIRefused(t *testing.T) {
	c := kubelet(t)
	c.pull(t, "box")
	sandbox := podConfig(t)
	pod := c.run(t, sandbox)
	one := func(kind, edits string) string {
		return "cdiVersion: 0.7.0\nkind: " + kind + "\ndevices: [{name: d, containerEdits: {" + edits + "}}]\n"
	}
	cdiFile(t, "cdi", "a.yaml", one("a.example/twice", "env: [A=b]"))
	cdiFile(t, "cdi", "b.yaml", one("a.example/twice", "env: [A=b]"))
	cdiFile(t, "cdi", "c.yaml", one("a.example/node", "deviceNodes: [{path: /dev/not-there}]"))
	cdiFile(t, "cdi", "d.yaml", one("a.example/file", "deviceNodes: [{path: /etc/passwd}]"))
	cdiFile(t, "cdi", "e.yaml", one("a.example/mount", "mounts: [{hostPath: /no/such, containerPath: /x, options: [bind]}]"))
	cdiFile(t, "cdi", "f.yaml", "cdiVersion: 0.7.0\nkind: a.example/bad\nwhat: else\n")
	for _, wrong := range []struct {
		device string
		code   codes.Code
		part   string
	}{
		{"a.example/twice=d", codes.InvalidArgument, "b.yaml"},
		{"a.example/node=d", codes.NotFound, "/dev/not-there"},
		{"a.example/file=d", codes.InvalidArgument, "no device node"},
		{"a.example/mount=d", codes.NotFound, "mount source /no/such"},
		{"a.example/bad=d", codes.NotFound, `f.yaml: line 3 column 1: unknown key "what"`},
		{"no-name", codes.InvalidArgument, "vendor.com/class=name"},
	} {
		config := containerConfig("c", "true")
		config.CDIDevices = cdi(wrong.device)
		_, err := c.CreateContainer(ctx(t), &v1.CreateContainerRequest{PodSandboxId: pod, Config: config, SandboxConfig: sandbox})
		wantCode(t, err, wrong.code, wrong.part)
	}
}
