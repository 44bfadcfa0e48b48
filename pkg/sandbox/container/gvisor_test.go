//go:build linux

package container_test

import (
	"bytes"
	stdcontext "context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"builder/pkg/job"
	"builder/pkg/sandbox"
	"builder/pkg/sandbox/container"
	"builder/pkg/sandbox/container/containertest"

	"github.com/google/go-cmp/cmp"
)

// TestGVisor: another runtime, with another kernel in it.
func TestGVisor(t *testing.T) {
	runsc, err := exec.LookPath(filepath.Join(containertest.Installed("runsc"), "runsc"))
	if err != nil {
		t.Skipf("not installed: %v (scripts/containerd does)", err)
	}
	runtime := filepath.Join(t.TempDir(), "runsc")
	wrapper := fmt.Sprintf("#!/bin/sh\nexec %s --platform=systrap --network=none \"$@\"\n", runsc)
	if err := os.WriteFile(runtime, []byte(wrapper), 0o755); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		script    string
		resources job.Resources
		want      sandbox.Exit
		console   string
		artifacts int
	}{
		"status":   {"echo out; echo err >&2; echo x >a; (setsid sleep 1000 &); exit 7", job.Resources{}, sandbox.Exit{Code: 7}, "out\nerr\n", 1},
		"signal":   {"kill -KILL $$", job.Resources{}, sandbox.Exit{Signal: syscall.SIGKILL}, "", 0},
		"disk":     {"dd if=/dev/zero of=a bs=1M count=3 2>/dev/null || echo full", job.Resources{Disk: 2 << 20}, sandbox.Exit{}, "full\n", 1},
		"TERM":     {"exec 2>/dev/null; trap 'exit 5' TERM; echo stop; while :; do sleep 0.01; done", job.Resources{}, sandbox.Exit{Code: 5}, "stop\n", 0},
		"KILL":     {"trap '' TERM; (setsid sh -c 'trap \"\" TERM; sleep 1000' &); echo stop; while :; do sleep 1; done", job.Resources{}, sandbox.Exit{Signal: syscall.SIGKILL}, "stop\n", 0},
		"networks": {"ls /sys/class/net 2>/dev/null | grep -v lo; cat /proc/net/dev | grep -c eth", job.Resources{NoNetwork: true}, sandbox.Exit{Code: 1}, "0\n", 0},
	}
	each(t, func(t *testing.T, d *daemon) {
		if d == daemons[0] {
			t.Log("the runtime is the same for both: tested with the other")
			return
		}
		s := open(t, d, func(c *container.Config) { c.Runtime = runtime })
		for name, test := range tests {
			t.Run(name, func(t *testing.T) {
				place := prepare(t, s, sandbox.Spec{Script: []byte(test.script), Resources: test.resources, Grace: 2 * time.Second})
				ctx, cancel := stdcontext.WithCancel(t.Context())
				defer cancel()
				var console bytes.Buffer
				exit, err := place.Run(ctx, stopper{&console, cancel})
				exit.Cause = nil
				if diff := cmp.Diff(test.want, exit, ignoreTimes); diff != "" || err != nil || console.String() != test.console {
					t.Errorf("console %q, error %v, %s", console.String(), err, diff)
				}
				if artifacts, _, err := place.Artifacts(nil); err != nil || len(artifacts) != test.artifacts {
					t.Errorf("artifacts %v, error %v", artifacts, err)
				}
			})
		}
	})
}

// stopper stops a build when that asks for it.
type stopper struct {
	*bytes.Buffer
	stop func()
}

func (w stopper) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("stop")) {
		w.stop()
	}
	return w.Buffer.Write(p)
}
