package cri

import (
	"testing"

	"google.golang.org/grpc/codes"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func imageMount(path, name, sub string) *v1.Mount {
	return &v1.Mount{ContainerPath: path, Image: &v1.ImageSpec{Image: image(name)}, ImageSubPath: sub, Readonly: true}
}

func TestImageVolume(t *testing.T) {
	c := kubelet(t)
	c.pull(t, "box")
	id := c.pull(t, "user")
	sandbox := podConfig(t)
	pod := c.run(t, sandbox)
	config := containerConfig("c", "sleep", "1000")
	byRef := imageMount("/ref", "box", "bin")
	byRef.Image.ImageRef = id
	strict := imageMount("/strict", "user", "")
	strict.MountOptions = []string{"noexec"}
	config.Mounts = []*v1.Mount{imageMount("/all", "user", ""), imageMount("/all/tmp", "user", "bin"), byRef, strict}
	container := c.start(t, pod, config, sandbox)
	c.exec(t, container, "test", "-x", "/all/bin/busybox", "-a", "-x", "/all/tmp/busybox", "-a", "-x", "/ref/busybox")
	c.exec(t, container, "/ref/busybox", "true")
	for _, command := range []string{"touch /all/new", "rm /ref/busybox", "mount -o remount,rw /all", "/strict/bin/busybox true"} {
		r := must[*v1.ExecSyncResponse](t)(c.ExecSync(ctx(t), &v1.ExecSyncRequest{ContainerId: container, Cmd: []string{"sh", "-c", command}}))
		if r.ExitCode == 0 {
			t.Errorf("%q succeeds", command)
		}
	}
	mounts := c.status(t, container).Mounts
	if len(mounts) != 4 || mounts[0].Image.Image != image("user") || mounts[0].Image.ImageRef != id || mounts[1].ImageSubPath != "bin" {
		t.Errorf("mounts: %v", mounts)
	}
	restart(t)
	eventually(t, "the volume's image is held after a restart of knarrd", func() bool {
		_, err := c.images.RemoveImage(ctx(t), &v1.RemoveImageRequest{Image: &v1.ImageSpec{Image: id}})
		return err != nil && c.status(t, container).State == v1.ContainerState_CONTAINER_RUNNING
	})
	must[*v1.RemoveContainerResponse](t)(c.RemoveContainer(ctx(t), &v1.RemoveContainerRequest{ContainerId: container}))
	must[*v1.RemoveImageResponse](t)(c.images.RemoveImage(ctx(t), &v1.RemoveImageRequest{Image: &v1.ImageSpec{Image: id}}))
}

func TestImageVolumeInUserNamespace(t *testing.T) {
	c := kubelet(t)
	c.pull(t, "box")
	pod, sandbox := usernsPod(t, c)
	config := usernsConfig(t, c, "sleep", "1000")
	config.Mounts = []*v1.Mount{imageMount("/image", "box", ""), imageMount("/sub", "box", "bin")}
	config.Mounts[0].UidMappings = config.Linux.SecurityContext.NamespaceOptions.UsernsOptions.Uids
	config.Mounts[0].GidMappings = config.Mounts[0].UidMappings
	id := c.start(t, pod, config, sandbox)
	want(t, "owner of a file", c.exec(t, id, "stat", "-c", "%u:%g", "/image/bin/busybox"), "0:0")
	want(t, "owner of a sub path", c.exec(t, id, "stat", "-c", "%u:%g", "/sub"), "0:0")
}

func TestImageVolumeRefused(t *testing.T) {
	c := kubelet(t)
	c.pull(t, "box")
	sandbox := podConfig(t)
	pod := c.run(t, sandbox)
	for _, wrong := range []struct {
		mount *v1.Mount
		code  codes.Code
		part  string
	}{
		{imageMount("/v", "nobody-has-it", ""), codes.NotFound, "mount /v"},
		{imageMount("/v", "box", "no/such/folder"), codes.NotFound, `image_sub_path "no/such/folder"`},
		{imageMount("/v", "box", "bin/busybox"), codes.InvalidArgument, "is no folder"},
		{&v1.Mount{ContainerPath: "/v", Image: &v1.ImageSpec{Image: image("box")}}, codes.InvalidArgument, "readonly must be true"},
		{&v1.Mount{ContainerPath: "/v", HostPath: "/tmp", Image: &v1.ImageSpec{Image: image("box")}}, codes.InvalidArgument, "both"},
		{&v1.Mount{ContainerPath: "/v", HostPath: "/tmp", ImageSubPath: "bin"}, codes.InvalidArgument, "without image"},
	} {
		config := containerConfig("c", "true")
		config.Mounts = []*v1.Mount{wrong.mount}
		_, err := c.CreateContainer(ctx(t), &v1.CreateContainerRequest{PodSandboxId: pod, Config: config, SandboxConfig: sandbox})
		wantCode(t, err, wrong.code, wrong.part)
	}
}
