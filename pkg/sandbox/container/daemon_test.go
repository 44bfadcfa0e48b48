//go:build linux

package container_test

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"

	"builder/pkg/sandbox/conform"
	"builder/pkg/sandbox/container/containertest"
)

// TestMain ends the daemons, and lets the test binary be a worker that is killed.
func TestMain(m *testing.M) {
	if os.Getenv("CONTAINER_TEST_SCRIPT") != "" {
		if err := beWorker(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	conform.Main(m, kind, gvisor)
	for _, d := range daemons {
		if d.Daemon != nil {
			d.Close()
		}
	}
}

// daemon is started when a test needs it, and serves all of them.
type daemon struct {
	name  string
	bin   string
	start func() error
	*containertest.Daemon
}

// daemons are the versions that are tested: the system's, and that which
// scripts/containerd has installed, each with the same CONTAINERD_VERSION.
var daemons = []*daemon{newDaemon("system", ""), newDaemon(installed, containertest.Installed(installed))}

var installed = "containerd-" + cmp.Or(os.Getenv("CONTAINERD_VERSION"), "2.4.2")

func newDaemon(name, bin string) *daemon {
	d := &daemon{name: name, bin: bin}
	d.start = sync.OnceValue(func() (err error) {
		d.Daemon, err = containertest.Start(bin, "busybox", "dash", "bash")
		return err
	})
	return d
}

// each runs a test with every daemon that there is.
func each(t *testing.T, test func(t *testing.T, d *daemon)) {
	for _, d := range daemons {
		t.Run(d.name, func(t *testing.T) {
			if os.Geteuid() != 0 {
				t.Skip("needs root")
			}
			for _, program := range []string{containertest.Program(d.bin), "runc", "ctr", "busybox"} {
				if _, err := exec.LookPath(program); err != nil {
					t.Skipf("not installed: %v (.ci/run does)", err)
				}
			}
			if err := d.start(); err != nil {
				t.Fatal(err)
			}
			test(t, d)
		})
	}
}
