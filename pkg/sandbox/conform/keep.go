package conform

import (
	"os/exec"
	"testing"
)

// keep has a later process enter the place of a failed build, by the command that
// the place names.
func (s *suite) keep(t *testing.T) {
	if !s.kind.Promises.Kept {
		what, _ := spec("exit 1")
		place := s.prepare(t, what)
		if _, _, err := runIn(t.Context(), place); err != nil {
			t.Fatal(err)
		}
		if how, err := place.Keep(); err == nil {
			t.Errorf("not promised, but kept: %s", how)
		}
		return
	}
	site := newSite(t)
	before := s.baseline(t, site)
	name := s.killed(t, site, atKept, "echo a >a; echo b >$HOME/b; (setsid sleep 1000 &); exit 1")
	box := s.open(t, site)
	place, err := box.Reattach(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := box.Sweep(); err != nil {
		t.Error(err)
	}
	how, err := place.Keep()
	if err != nil {
		t.Fatal(err)
	}
	enter := exec.CommandContext(t.Context(), "sh", "-c", how+` -c 'cat a "$HOME/b"; echo "$BUILDER_JOB"'`)
	enter.Env = append(enter.Environ(), "SHELL=/bin/sh")
	if out, err := enter.CombinedOutput(); err != nil || string(out) != "a\nb\njob\n" {
		t.Errorf("entering by %s: %q, %v", how, out, err)
	}
	if files, _ := contents(t, place); len(files) != 1 {
		t.Errorf("artifacts %v", files)
	}
	if err := place.Destroy(); err != nil {
		t.Error(err)
	}
	if err := box.Close(); err != nil {
		t.Error(err)
	}
	s.settle(t, site, before)
}
