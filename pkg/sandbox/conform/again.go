package conform

import (
	"path/filepath"
	"testing"

	"builder/pkg/sandbox"
)

// sweep leaves alone what is in use, what is attached, and what is not the
// worker's.
func (s *suite) sweep(t *testing.T) {
	other := newSite(t)
	theirs := s.open(t, other)
	what, _ := spec("echo theirs")
	foreign, err := theirs.Prepare(t.Context(), what)
	if err != nil {
		t.Fatal(err)
	}
	waiting, _ := spec("echo waiting")
	place := s.prepare(t, waiting)
	running, _ := spec("trap 'exit 5' TERM; echo; while :; do sleep 0.01; done")
	running.Grace = deadline
	_, stop := s.started(t, running)
	for range 2 {
		if err := s.box.Sweep(); err != nil {
			t.Error(err)
		}
	}
	if exit := stop(); exit.Code != 5 {
		t.Errorf("the one that ran: %+v", exit)
	}
	if _, console, err := runIn(t.Context(), place); err != nil || console != "waiting\n" {
		t.Errorf("the one that waited: %q, %v", console, err)
	}
	if _, console, err := runIn(t.Context(), foreign); err != nil || console != "theirs\n" {
		t.Errorf("the one of another worker: %q, %v", console, err)
	}
	if err := foreign.Destroy(); err != nil {
		t.Error(err)
	}
}

// again is a place of a killed worker, that is found by its name: Sweep leaves it
// alone, what is in it can be read, moved away and removed.
func (s *suite) again(t *testing.T) {
	site := newSite(t)
	before := s.baseline(t, site)
	name := s.killed(t, site, atCollected, "echo kept > file; mkdir d; echo x > d/other; chmod 500 .")
	box := s.open(t, site)
	for _, name := range []string{"", "b-none", "../" + filepath.Base(site.Dir), name + "/out", "foreign"} {
		if _, err := box.Reattach(name); err == nil {
			t.Errorf("%q was attached", name)
		}
	}
	place, err := box.Reattach(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := box.Sweep(); err != nil {
		t.Error(err)
	}
	if place.Name() != name {
		t.Errorf("name %q, was %q", place.Name(), name)
	}
	if _, _, err := runIn(t.Context(), place); err == nil {
		t.Error("it was run again")
	}
	files, _ := contents(t, place)
	equal(t, "files", []file{{"d/other", "x\n", 0o644}, {"file", "kept\n", 0o644}}, files)
	aside := filepath.Join(site.Dir, "aside")
	if err := place.Salvage(aside); err != nil {
		t.Error(err)
	}
	if err := place.Destroy(); err != nil {
		t.Error(err)
	}
	if err := sandbox.Remove(aside); err != nil {
		t.Error(err)
	}
	if err := box.Close(); err != nil {
		t.Error(err)
	}
	s.settle(t, site, before)
}
