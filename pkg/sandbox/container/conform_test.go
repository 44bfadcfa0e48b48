//go:build linux

package container_test

import (
	stdcontext "context"
	"maps"
	"os"
	"strings"
	"testing"

	"builder/pkg/sandbox/conform"
	"builder/pkg/sandbox/container"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/snapshots"
)

// kind is what this package makes, on the daemon of a test.
var kind = conform.Kind{
	Name:     "container",
	Open:     func(site conform.Site) (conform.Box, error) { return container.Open(context(), config(site)) },
	Promises: conform.Promises{CPUs: true, Memory: true, PIDs: true, Disk: true, NoNetwork: true, Private: true, Kept: true},
	Except: map[string]string{
		"exit/nothing_named_after_the_#!": "the kernel says of such a script only that it is none, and a shell runs it then",
	},
	Machine: func(site conform.Site) ([]string, error) {
		return made(os.Getenv("CONTAINER_TEST_SOCKET"), "builder-"+site.ID[:8]+"-")
	},
}

func config(site conform.Site) container.Config {
	return container.Config{
		Socket: os.Getenv("CONTAINER_TEST_SOCKET"), Dir: site.Dir, Worker: site.ID,
		Images: map[string]string{"": "busybox"}, Pull: container.PullNever, Capabilities: []string{"MKNOD"},
	}
}

// made are the things with such names that a daemon has.
func made(socket, prefix string) (found []string, err error) {
	c, err := client.New(socket, client.WithDefaultNamespace(container.Namespace))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	note := func(what, name string) {
		if strings.HasPrefix(name, prefix) {
			found = append(found, what+" "+name)
		}
	}
	containers, err := c.ContainerService().List(context())
	for _, c := range containers {
		note("container", c.ID)
	}
	if err != nil {
		return nil, err
	}
	leases, err := c.LeasesService().List(context())
	for _, lease := range leases {
		note("lease", lease.ID)
	}
	if err != nil {
		return nil, err
	}
	err = c.SnapshotService("").Walk(context(), func(_ stdcontext.Context, info snapshots.Info) error {
		note("snapshot", info.Name)
		return nil
	})
	return found, err
}

// once are tests of what is left in the workspace, and of the console's way from there on,
// that take long: one daemon is enough.
var once = []string{"many_artifacts", "large_artifacts", "destroy/deeply_nested", "console/whole", "console/one_long_line"}

func TestConformance(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		t.Setenv("CONTAINER_TEST_SOCKET", d.Socket())
		kind := kind
		if d == daemons[0] {
			kind.Except = maps.Clone(kind.Except)
			for _, name := range once {
				kind.Except[name] = "the other daemon is"
			}
		}
		conform.Run(t, kind)
	})
}
