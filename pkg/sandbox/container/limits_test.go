//go:build linux

package container_test

import (
	"bytes"
	stdcontext "context"
	"errors"
	"strings"
	"testing"
	"time"

	"builder/pkg/job"
	"builder/pkg/sandbox"
	"builder/pkg/sandbox/conform"
	"builder/pkg/sandbox/container"
)

func TestLimits(t *testing.T) {
	tests := map[string]struct {
		resources job.Resources
		script    string
		console   string // at least
		memory    bool
	}{
		"memory, in bounds": {job.Resources{Memory: 64 << 20}, `dd if=/dev/zero of=/dev/null bs=8M count=1 2>/dev/null; echo ok`, "ok\n", false},
		"disk": {job.Resources{Disk: 2 << 20}, `dd if=/dev/zero of=a bs=1M count=3 2>&1 | grep -o 'No space'; rm a
			dd if=/dev/zero of=/tmp/a bs=1M count=3 2>&1 | grep -o 'No space'; rm /tmp/a
			for d in / /etc /root /var /home /usr/bin; do touch $d/a 2>/dev/null && echo $d; done
			dd if=/dev/zero of=/dev/shm/a bs=1M count=3 2>&1 | grep -o 'No space'
			dd if=/dev/zero of=/run/a bs=1M count=3 2>&1 | grep -o 'No space'
			dd if=/dev/zero of=/dev/a bs=1M count=3 2>&1 | grep -o 'No space'`, strings.Repeat("No space\n", 5), false},
		"network": {job.Resources{NoNetwork: true}, `ls /sys/class/net; cat /proc/net/route | wc -l`, "lo\n1\n", false},
	}
	each(t, func(t *testing.T, d *daemon) {
		s := open(t, d, func(c *container.Config) { c.Network = container.NetworkHost })
		for name, test := range tests {
			t.Run(name, func(t *testing.T) {
				if err := s.Enforces(test.resources); err != nil {
					t.Fatal(err)
				}
				place := prepare(t, s, sandbox.Spec{Script: []byte(test.script), Resources: test.resources, Grace: time.Millisecond})
				ctx, cancel := stdcontext.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				var console bytes.Buffer
				exit, err := place.Run(ctx, &console)
				if err != nil || exit.OutOfMemory != test.memory || !strings.HasPrefix(console.String(), test.console) {
					t.Errorf("exit %+v, error %v, console %q", exit, err, console.String())
				}
			})
		}
	})
}

// TestForkBomb: one that is bounded can be ended, and nothing of it stays.
func TestForkBomb(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		place := prepare(t, open(t, d, nil), sandbox.Spec{
			Script: []byte(`trap '' TERM; echo; bomb() { bomb | bomb & }; (bomb) 2>/dev/null; while :; do :; done`), Grace: 50 * time.Millisecond,
			Resources: job.Resources{PIDs: 100, CPUs: 500},
		})
		ctx, cancel := stdcontext.WithCancel(t.Context())
		defer cancel()
		exit, err := place.Run(ctx, conform.AtOutput(cancel))
		if err != nil || exit.Signal == 0 {
			t.Errorf("exit %+v, error %v", exit, err)
		}
	})
}

func TestUnenforced(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		s := open(t, d, func(c *container.Config) { c.Runtime = "runsc" })
		for name, resources := range map[string]job.Resources{
			"little memory": {Memory: 4 << 20}, "few processes": {PIDs: 2}, "processes with gVisor": {PIDs: 100},
		} {
			if _, err := s.Prepare(t.Context(), sandbox.Spec{Build: "b", Resources: resources}); !errors.Is(err, sandbox.ErrUnenforced) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := s.Enforces(job.Resources{CPUs: 1, Memory: 1 << 30, Disk: 1 << 20, NoNetwork: true}); err != nil {
			t.Error(err)
		}
	})
}
