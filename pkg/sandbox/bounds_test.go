package sandbox_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"builder/pkg/job"
	"builder/pkg/sandbox"
)

// bounded is a Plain with an account, on a machine that can bound that.
func bounded(t *testing.T, res job.Resources) *sandbox.Plain {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can make control groups here")
	}
	p, _, _ := fenced{"accounts", true}.new(t, 1)
	if err := p.Enforces(res); err != nil {
		missing(t, "%v", err)
	}
	return p
}

func TestCPULimit(t *testing.T) {
	res := job.Resources{CPUs: 500}
	p := bounded(t, res)
	_, console := runFenced(t, p, sandbox.Spec{Build: "77777777-2222-3333-4444-555555555555", Resources: res, Script: []byte(`
		group=$(grep -E "^[0-9]+:([a-z,]*,)?cpu(,[a-z]*)?:|^0::" /proc/self/cgroup | grep /builder- | cut -d: -f3)
		echo "${group##*/}"
		cat /sys/fs/cgroup$group/cpu.max /sys/fs/cgroup/cpu$group/cpu.cfs_quota_us 2>/dev/null`)})
	name, quota, _ := strings.Cut(console, "\n")
	if want := "builder-" + workerID + "-77777777-2222-3333-4444-555555555555"; name != want {
		t.Errorf("control group %q, want %q", name, want)
	}
	if quota != "50000\n" && quota != "50000 100000\n" {
		t.Errorf("quota %q", quota)
	}
}

// TestFencePIDs: a fork bomb is an ordinary build that fails.
func TestFencePIDs(t *testing.T) {
	eachFence(t, func(t *testing.T, f fenced) {
		p, _, fence := f.new(t, 1)
		res := job.Resources{PIDs: 30}
		if !f.accounts {
			if err := p.Enforces(res); !errors.Is(err, sandbox.ErrUnenforced) {
				t.Errorf("enforces: %v", err)
			}
			return
		}
		// More than the system lets the account have anyway.
		if exit, _ := runFenced(t, p, sandbox.Spec{Resources: job.Resources{PIDs: 1 << 40}, Script: []byte("(exit 3)")}); exit.Code != 3 {
			t.Errorf("without need of a limit: %+v", exit)
		}
		place := prepare(t, p, sandbox.Spec{Resources: res, Grace: 50 * time.Millisecond, Script: []byte("bomb() { bomb | bomb & bomb; }; echo; bomb 2>/dev/null")})
		ctx, cancel := context.WithCancel(t.Context())
		printed := make(consoleSignal, 1)
		most := make(chan int, 1)
		go func() {
			<-printed
			seen := 0
			for range 50 {
				seen = max(seen, len(ownedBy(t, fence.Accounts[0].UID)))
			}
			cancel()
			most <- seen
		}()
		if _, err := place.Run(ctx, printed); err != nil {
			t.Error(err)
		}
		if n := <-most; n > 30+16 {
			t.Errorf("%d processes at once", n)
		}
		if left := ownedBy(t, fence.Accounts[0].UID); len(left) > 0 {
			t.Errorf("alive: %v", left)
		}
	})
}

func TestFenceEnforces(t *testing.T) {
	eachFence(t, func(t *testing.T, f fenced) {
		p, _, _ := f.new(t, 1)
		for _, res := range []job.Resources{{}, {NoNetwork: true}} {
			if err := p.Enforces(res); err != nil {
				t.Errorf("%v: %v", res, err)
			}
		}
		refused := []job.Resources{{Disk: 1 << 30}}
		if f.name != "accounts" {
			refused = append(refused, job.Resources{CPUs: 1000}, job.Resources{Memory: 1 << 30})
		}
		for _, res := range refused {
			err := p.Enforces(res)
			if what, _, _ := strings.Cut(res.String(), " "); !errors.Is(err, sandbox.ErrUnenforced) || !strings.Contains(fmt.Sprint(err), what) {
				t.Errorf("%v: %v", res, err)
			}
			if _, err := p.Prepare(t.Context(), sandbox.Spec{Resources: res}); !errors.Is(err, sandbox.ErrUnenforced) {
				t.Errorf("%v: preparing: %v", res, err)
			}
		}
	})
}

func TestFenceRefusesAccounts(t *testing.T) {
	if a, err := sandbox.LookupAccount("root"); err == nil {
		t.Errorf("root: %+v", a)
	}
	if a, err := sandbox.LookupAccount("no-such-account"); err == nil {
		t.Errorf("none: %+v", a)
	}
	a, err := sandbox.LookupAccount("games")
	if err != nil {
		missing(t, "%v", err)
	}
	if _, err := sandbox.NewFenced(t.TempDir(), 1, sandbox.Fence{Accounts: []sandbox.Account{a, a}}); err == nil {
		t.Error("one account twice was not refused")
	}
}
