package worker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"builder/pkg/job"
	"builder/pkg/sandbox"
	"builder/pkg/wire"
	"builder/pkg/worker"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// TestBuild runs scripts for a server of our own version, over one connection.
func TestBuild(t *testing.T) {
	s := newScripted(t, false)
	w := work(t, s, func(c *worker.Config) { c.Env = []string{"PASSED=on"} })
	c := s.accept()
	for i, tt := range []struct {
		name, script, console string
		result                job.Result
		files                 map[string]string
	}{
		{"success", "#!/bin/sh\necho hello; echo kept > file\n", "hello", job.Result{Kind: job.Exited}, map[string]string{"file": "kept\n"}},
		{"failure", "echo to stderr >&2; mkdir d; echo x > d/.hidden; exit 3", "to stderr", job.Result{Kind: job.Exited, Code: 3}, map[string]string{"d/.hidden": "x\n"}},
		{"signal", "kill -KILL $$", "", job.Result{Kind: job.Signalled, Code: 9}, map[string]string{}},
		{"environment", "echo $PASSED $BUILDER_JOB $BUILDER_PLATFORM", "on one p", job.Result{Kind: job.Exited}, map[string]string{}},
		{"any octets", `printf 'a\377b\n\n\001'`, "a\xffb\n\n\x01", job.Result{Kind: job.Exited}, map[string]string{}},
	} {
		if i > 0 {
			c.wish()
		}
		e := c.store(c.start(tt.script))
		if diff := cmp.Diff(tt.result, e.result); diff != "" {
			t.Errorf("%s: result (-want +got):\n%s", tt.name, diff)
		}
		if diff := cmp.Diff(tt.console, e.text()); diff != "" {
			t.Errorf("%s: console (-want +got):\n%s", tt.name, diff)
		}
		if diff := cmp.Diff(tt.files, e.files); diff != "" {
			t.Errorf("%s: artifacts (-want +got):\n%s", tt.name, diff)
		}
		if e.took <= 0 || e.took > deadline {
			t.Errorf("%s: it took %v", tt.name, e.took)
		}
	}
	c.wish()
	w.stored(t)
	w.drain()
	s.greet().resume(nil)
	w.over(t)
}

// TestConsole: lines come in batches with their numbers; one that is not
// complete is shown, and the last may have no newline.
func TestConsole(t *testing.T) {
	s := newScripted(t, false)
	work(t, s)
	c := s.accept()
	gate := filepath.Join(t.TempDir(), "gate")
	id := c.start(fmt.Sprintf(`printf part
while ! [ -e %s ]; do sleep 0.01; done
echo ially
seq 100000
printf last`, gate))
	c.until(func() bool { return slices.Equal(s.build(id).partial, []string{"part"}) })
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	e := c.store(id)
	var want strings.Builder
	want.WriteString("partially\n")
	for i := range 100_000 {
		fmt.Fprintln(&want, i+1)
	}
	want.WriteString("last")
	if got := e.text(); got != want.String() {
		t.Errorf("%d octets of console, expected %d", len(got), want.Len())
	}
	if last := e.lines[len(e.lines)-1]; last.Flags != job.Unended {
		t.Errorf("the last line has the flags %v", last.Flags)
	}
}

// TestStop: a build that is told to stop ends with the result that it was told,
// and its artifacts are kept.
func TestStop(t *testing.T) {
	s := newScripted(t, false)
	work(t, s)
	c := s.accept()
	mark := filepath.Join(t.TempDir(), "mark")
	id := c.start("trap 'echo stopped; exit 0' TERM; echo x > kept; echo begun > " + mark + "; while :; do :; done")
	waitFile(t, mark)
	c.send(wire.Stop{UUID: uuid.New(), Result: job.Failure(job.Cancelled, "another")})
	c.send(wire.Stop{UUID: id, Result: job.Failure(job.Cancelled, "enough")})
	e := c.store(id)
	if diff := cmp.Diff(job.Failure(job.Cancelled, "enough"), e.result); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
	if e.text() != "stopped" || e.files["kept"] != "x\n" {
		t.Errorf("console %q, artifacts %v", e.text(), e.files)
	}
	c.wish()
}

// TestEnd ends the worker in the midst of a build: told once it goes on to the
// build's end, told twice it ends the build, and delivers that.
func TestEnd(t *testing.T) {
	for name, tt := range map[string]struct {
		end    func(w *working, gate string)
		result job.Result
	}{
		"once": {func(w *working, gate string) {
			w.drain()
			if err := os.WriteFile(gate, nil, 0o600); err != nil {
				w.done <- err
			}
		}, job.Result{}},
		"twice": {func(w *working, _ string) { w.kill() }, job.Failure(job.ShutDown, "worker shut down")},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScripted(t, false)
			w := work(t, s)
			c := s.accept()
			mark, gate := filepath.Join(t.TempDir(), "mark"), filepath.Join(t.TempDir(), "gate")
			id := c.start(fmt.Sprintf("echo x > kept; echo > %s.new; mv %s.new %s; while ! [ -e %s ]; do sleep 0.01; done", mark, mark, mark, gate))
			waitFile(t, mark)
			tt.end(w, gate)
			e := c.store(id)
			if diff := cmp.Diff(tt.result, e.result); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
			if e.files["kept"] != "x\n" {
				t.Errorf("artifacts %v", e.files)
			}
			w.over(t)
			c.gone()
			if c.wishes > 0 {
				t.Error("another build was asked for")
			}
		})
	}
}

// TestBreakAtTheEnd: what a worker that is told to end at once has is delivered, also
// when its connections break while it ends.
func TestBreakAtTheEnd(t *testing.T) {
	s := newScripted(t, false)
	w := work(t, s)
	c := s.accept()
	mark, gate := filepath.Join(t.TempDir(), "mark"), filepath.Join(t.TempDir(), "gate")
	id := c.start(fmt.Sprintf("trap '' TERM; echo > %s.new; mv %s.new %s; while ! [ -e %s ]; do sleep 0.01; done", mark, mark, mark, gate), job.Limits{Grace: time.Minute})
	waitFile(t, mark)
	w.kill()
	for range 2 {
		c.Close()
		c = s.greet()
		c.resume(nil)
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if e := c.store(id); e.result.Cause != job.ShutDown {
		t.Errorf("result %v", e.result)
	}
	w.over(t)
}

// TestFarewell: a server that does not take what a worker delivers can not hold
// one that is told to end at once.
func TestFarewell(t *testing.T) {
	s := newScripted(t, false)
	w := work(t, s, func(c *worker.Config) { c.Farewell = 100 * time.Millisecond })
	w.leaves = true
	c := s.accept()
	c.start("head -c 50000000 /dev/zero > large")
	wait(t, "the end of the script", func() bool { return strings.Contains(w.log.String(), "build ended") })
	w.kill()
	w.over(t)
	if !strings.Contains(w.log.String(), "not delivered") {
		t.Error("that is not logged")
	}
}

// TestNotes: however many files are no artifacts, the message has room for them.
func TestNotes(t *testing.T) {
	s := newScripted(t, false)
	work(t, s)
	c := s.accept()
	id := c.start("i=0; while [ $i -lt 600 ]; do ln -s x link-$i; i=$((i+1)); done; echo x > file")
	e := c.store(id)
	if len(e.notes) < 100 || len(e.notes) > 1000 || !strings.Contains(e.notes[len(e.notes)-1], "more") {
		t.Errorf("%d notes", len(e.notes))
	}
	if len(e.files) != 1 {
		t.Errorf("artifacts %v", e.files)
	}
}

// meddling is a sandbox that does something between the collecting of artifacts
// and their sending.
type meddling struct {
	sandbox.Sandbox
	prepare error
	meddle  func(dir string)
}

func (m meddling) Prepare(ctx context.Context, spec sandbox.Spec) (sandbox.Place, error) {
	if m.prepare != nil {
		return nil, m.prepare
	}
	p, err := m.Sandbox.Prepare(ctx, spec)
	return &meddled{Place: p, meddle: m.meddle}, err
}

type meddled struct {
	sandbox.Place
	console strings.Builder
	meddle  func(dir string)
}

func (m *meddled) Run(ctx context.Context, console io.Writer) (sandbox.Exit, error) {
	return m.Place.Run(ctx, io.MultiWriter(console, &m.console))
}

func (m *meddled) Artifacts(check func(string) error) ([]sandbox.Artifact, []sandbox.Note, error) {
	artifacts, notes, err := m.Place.Artifacts(check)
	m.meddle(strings.TrimSpace(m.console.String()))
	return artifacts, notes, err
}

// TestArtifactsChange: a file that is not what was announced is said to be
// missing, or does not have its hash.
func TestArtifactsChange(t *testing.T) {
	for name, tt := range map[string]struct {
		meddle func(file string) error
		offer  int // artifacts
	}{
		"vanishes": {os.Remove, 0},
		"shrinks":  {func(file string) error { return os.Truncate(file, 1) }, 1},
		"replaced": {func(file string) error {
			return errors.Join(os.Remove(file), os.WriteFile(file, []byte("12345678\n"), 0o600))
		}, 0},
	} {
		t.Run("before it is sent: "+name, func(t *testing.T) {
			t.Parallel()
			s := newScripted(t, false)
			w := work(t, s)
			c := s.accept()
			id := c.start("pwd; echo content > file; echo other > other")
			c.until(func() bool { return s.build(id).over })
			if err := tt.meddle(filepath.Join(s.build(id).text(), "file")); err != nil {
				t.Fatal(err)
			}
			if e := c.store(id); len(e.files) != 1 || e.files["other"] != "other\n" {
				t.Errorf("files %q", e.files)
			}
			if !strings.Contains(w.log.String(), "missing") {
				t.Error("that is not logged")
			}
		})
		if name == "replaced" { // by a file that may have got the same number: then it is the artifact
			continue
		}
		t.Run("before it is hashed: "+name, func(t *testing.T) {
			t.Parallel()
			s := newScripted(t, false)
			work(t, s, func(c *worker.Config) {
				c.Sandbox = meddling{Sandbox: c.Sandbox, meddle: func(dir string) {
					if err := tt.meddle(filepath.Join(dir, "file")); err != nil {
						t.Error(err)
					}
				}}
			})
			c := s.accept()
			e := c.store(c.start("pwd; echo content > file"))
			if len(e.artifacts) != tt.offer || len(e.files) != tt.offer || len(e.notes) != 1-tt.offer {
				t.Errorf("artifacts %v, files %q, notes %q", e.artifacts, e.files, e.notes)
			}
		})
	}
}

// TestUnenforced: a job that asks for what the sandbox can not keep fails for that
// reason; trying again would not help.
func TestUnenforced(t *testing.T) {
	s := newScripted(t, false)
	work(t, s)
	c := s.accept()
	m := wire.Start{Build: wire.BuildStatus{UUID: uuid.New(), Job: "one", Platform: "p"}, Resources: job.Resources{Memory: 1 << 30}}
	c.send(m)
	e := c.store(m.Build.UUID)
	if e.result.Cause != job.Setup || !strings.Contains(e.result.Text, "isolation none keeps no bounds (memory 1GiB)") {
		t.Errorf("result %v", e.result)
	}
}

// TestNoSandbox: the server is told when there is no place for a build.
func TestNoSandbox(t *testing.T) {
	s := newScripted(t, false)
	work(t, s, func(c *worker.Config) { c.Sandbox = meddling{Sandbox: c.Sandbox, prepare: errors.New("no jail")} })
	c := s.accept()
	e := c.store(c.start("x"))
	if e.result.Cause != job.NoSandbox || !strings.Contains(e.result.Text, "no jail") {
		t.Errorf("result %v", e.result)
	}
}

// resisting is a sandbox whose first place can not be destroyed at once, nor swept.
type resisting struct {
	sandbox.Sandbox
	mu    sync.Mutex
	calls []string
}

func (r *resisting) did(call string) (before string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before = strings.Join(r.calls, " ")
	r.calls = append(r.calls, call)
	return before
}

func (r *resisting) Sweep() error {
	if r.did("sweep") == "sweep destroy" {
		return errors.New("still busy")
	}
	return r.Sandbox.Sweep()
}

func (r *resisting) Prepare(ctx context.Context, spec sandbox.Spec) (sandbox.Place, error) {
	p, err := r.Sandbox.Prepare(ctx, spec)
	return resistingPlace{p, r}, err
}

type resistingPlace struct {
	sandbox.Place
	r *resisting
}

func (p resistingPlace) Destroy() error {
	err := p.Place.Destroy()
	if p.r.did("destroy") == "sweep" {
		return errors.New("busy")
	}
	return err
}

// TestPlaceResists: a place that can not be destroyed is swept after that build, and
// after the next one if it still is there.
func TestPlaceResists(t *testing.T) {
	s := newScripted(t, false)
	box := &resisting{}
	w := work(t, s, func(c *worker.Config) { box.Sandbox, c.Sandbox = c.Sandbox, box })
	c := s.accept()
	want := "sweep"
	for _, more := range []string{" destroy sweep", " destroy sweep", " destroy"} {
		want += more
		c.store(c.start("echo content > file"))
		wait(t, want, func() bool {
			box.mu.Lock()
			defer box.mu.Unlock()
			return strings.Join(box.calls, " ") == want
		})
	}
	if log := w.log.String(); !strings.Contains(log, "still busy") {
		t.Errorf("that is not logged: %s", log)
	}
}
