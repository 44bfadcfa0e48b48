package sandbox_test

import (
	"testing"

	"builder/pkg/sandbox"
)

func TestSmoke(t *testing.T) {
	for _, names := range [][]string{nil, {"games"}} {
		f := sandbox.Fence{Worker: "0123456789"}
		for _, n := range names {
			a, err := sandbox.LookupAccount(n)
			if err != nil {
				t.Fatal(err)
			}
			f.Accounts = append(f.Accounts, a)
		}
		root := t.TempDir()
		p, err := sandbox.NewFenced(root, 1, f)
		if err != nil {
			t.Fatal(err)
		}
		exit, out := run(t, p, "id; echo $$ $PPID; ps axf; ls -la /tmp "+root+" .. . ; ls -la; cat /proc/self/status | grep Cap; df . /tmp; touch x /tmp/y; ip addr; cat /proc/self/mountinfo | tail -5")
		t.Logf("%+v %s", exit, out)
		if err := p.Sweep(); err != nil {
			t.Error(err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}
