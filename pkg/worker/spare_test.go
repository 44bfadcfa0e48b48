package worker_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"builder/pkg/job"
	"builder/pkg/wire"
	"builder/pkg/worker"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// spooled are the names in the spool of a worker's directory: of builds, or of spares.
func spooled(t testing.TB, path string, spares bool) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(path, "spool"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		info, err := entry.Info()
		if err == nil && (info.Size() == 0 && filepath.Ext(entry.Name()) == "") == spares {
			names = append(names, entry.Name())
		}
	}
	return names
}

// forgotten waits until nothing is held, and what is spare can be taken.
func (w *working) forgotten(t testing.TB) {
	t.Helper()
	w.stored(t)
	wait(t, "the place is gone", func() bool { // it goes last
		left, err := os.ReadDir(w.dir.Builds())
		return err == nil && len(left) == 0
	})
}

// TestSpare: a build's spool is the file of the build before, and has nothing of that.
func TestSpare(t *testing.T) {
	s := newScripted(t, false)
	w := work(t, s)
	c := s.accept()
	spool := func(name string) string { return filepath.Join(w.dir.Path, "spool", name) }
	id := c.start("seq 1000")
	c.until(func() bool { return s.build(id).over })
	first, err := os.Open(spool(id.String())) // keeps its number from being used again
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	was, err := first.Stat()
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		c.store(id)
		w.forgotten(t)
		spares := spooled(t, w.dir.Path, true)
		if len(spares) != 1 {
			t.Fatalf("the spares are %q", spares)
		}
		if is, err := os.Stat(spool(spares[0])); err != nil || !os.SameFile(was, is) || is.Size() > 0 {
			t.Errorf("the spare is %v, %v", is, err)
		}
		c.wish()
		script, open := gated(t)
		id = c.start(script)
		c.until(func() bool { return len(s.build(id).lines) == 2 })
		if is, err := os.Stat(spool(id.String())); err != nil || !os.SameFile(was, is) {
			t.Errorf("the spool is another file: %v, %v", is, err)
		}
		if spares := spooled(t, w.dir.Path, true); len(spares) > 0 {
			t.Errorf("the spares are %q", spares)
		}
		open()
		if e := c.finish(id); e.text() != "one\ntwo\nthree" {
			t.Errorf("console %q", e.text())
		}
	}
	c.store(id)
}

// TestSpares: there are no more than slots, and none that was long.
func TestSpares(t *testing.T) {
	for name, tt := range map[string]struct {
		script string
		slots  int
		want   int
	}{
		"one slot":  {"echo short", 1, 1},
		"two slots": {"echo short", 2, 2},
		"long":      {"seq 300000", 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScripted(t, false)
			w := work(t, s, func(c *worker.Config) { c.Slots = tt.slots })
			c := s.accept()
			var ids []uuid.UUID
			for range 3 {
				c.wish()
				id := c.start(tt.script)
				c.until(func() bool { return s.build(id).over })
				ids = append(ids, id)
			}
			for _, id := range ids {
				c.store(id)
			}
			w.stored(t)
			wait(t, "the spares", func() bool { return len(spooled(t, w.dir.Path, true)) == tt.want })
		})
	}
}

// TestSpareGone: a spare that somebody has removed is no loss, and none replaces a file
// that is there.
func TestSpareGone(t *testing.T) {
	s := newScripted(t, false)
	w := work(t, s)
	c := s.accept()
	spool := filepath.Join(w.dir.Path, "spool")
	spare := func() string {
		c.store(c.start("echo one"))
		w.forgotten(t)
		c.wish()
		return filepath.Join(spool, strings.Join(spooled(t, w.dir.Path, true), " "))
	}
	if err := os.Remove(spare()); err != nil {
		t.Fatal(err)
	}
	spare()
	m := wire.Start{Build: wire.BuildStatus{UUID: uuid.New(), Job: "one", Platform: "p"}, Script: []byte("echo two")}
	theirs := filepath.Join(spool, m.Build.UUID.String())
	if err := os.WriteFile(theirs, []byte("theirs"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.wishes--
	c.send(m)
	if e := c.store(m.Build.UUID); e.result.Cause != job.NoSandbox || !strings.Contains(e.result.Text, "exists") {
		t.Errorf("result %v", e.result)
	}
	if octets, err := os.ReadFile(theirs); err != nil || string(octets) != "theirs" {
		t.Errorf("the file is %q, %v", octets, err)
	}
	if err := os.Remove(theirs); err != nil {
		t.Fatal(err)
	}
	c.wish()
	if e := c.store(c.start("echo three")); e.text() != "three" {
		t.Errorf("console %q", e.text())
	}
}

// TestKilledSpare: what is left of a worker that was killed when it had a spare, or had
// taken it, is no build; neither is what a power cut can make of that.
func TestKilledSpare(t *testing.T) {
	s := newScripted(t, false)
	path := t.TempDir()
	p := newProcess(t, path, s)
	c := s.accept()
	id := c.start("echo one; exit 3")
	c.until(func() bool { return s.build(id).over })
	whole, err := os.ReadFile(filepath.Join(path, "spool", id.String()))
	if err != nil {
		t.Fatal(err)
	}
	c.send(wire.Stored{UUID: id})
	wait(t, "the spare", func() bool { return cmp.Equal(spooled(t, path, true), []string{id.String()}) })
	p.kill()
	c.Close()
	other := uuid.NewString()
	for name, tt := range map[string]struct {
		path     string
		files    map[string][]byte
		rejected []string
	}{
		"has one":             {path: path},
		"was taking one":      {files: map[string][]byte{id.String(): nil, other: nil}},
		"power cut":           {files: map[string][]byte{other: whole}, rejected: []string{other}},
		"power cut, no end":   {files: map[string][]byte{other: whole[:len(whole)-10]}, rejected: []string{other}},
		"power cut, a record": {files: map[string][]byte{other: whole[:20]}, rejected: []string{other}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tt.path == "" {
				tt.path = t.TempDir()
			}
			failures := []error{os.MkdirAll(filepath.Join(tt.path, "spool"), 0o700)}
			for name, octets := range tt.files {
				failures = append(failures, os.WriteFile(filepath.Join(tt.path, "spool", name), octets, 0o600))
			}
			if err := errors.Join(failures...); err != nil {
				t.Fatal(err)
			}
			s := newScripted(t, false)
			workIn(t, tt.path, s)
			c := s.greet()
			c.resume(nil)
			if len(c.held) > 0 {
				t.Errorf("held are %v", c.held)
			}
			if left := append(spooled(t, tt.path, false), spooled(t, tt.path, true)...); len(left) > 0 {
				t.Errorf("the spool has %q", left)
			}
			rejected, err := os.ReadDir(filepath.Join(tt.path, "rejected"))
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, entry := range rejected {
				names = append(names, entry.Name())
			}
			if diff := cmp.Diff(tt.rejected, names); diff != "" {
				t.Errorf("rejected (-want +got):\n%s", diff)
			}
			c.wish()
			if e := c.store(c.start("echo next")); e.text() != "next" {
				t.Errorf("console %q", e.text())
			}
		})
	}
}
