// A plugin as it lies in /opt/nri/plugins: it notes its configuration on every container.
package main

import (
	"context"
	"strings"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"
)

type plugin struct{ config string }

func (p *plugin) Configure(_ context.Context, config, _, _ string) (stub.EventMask, error) {
	p.config = strings.TrimSpace(config)
	return 0, nil
}

func (p *plugin) CreateContainer(context.Context, *api.PodSandbox, *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
	a := &api.ContainerAdjustment{}
	a.AddEnv("INSTALLED", p.config)
	return a, nil, nil
}

func main() {
	s, err := stub.New(&plugin{})
	if err != nil {
		panic(err)
	}
	if err := s.Run(context.Background()); err != nil {
		panic(err)
	}
}
