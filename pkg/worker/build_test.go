package worker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

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
			c.receive(wire.KindJobRequested)
		}
		id := c.start(tt.script)
		e := c.finish(id)
		c.send(wire.Stored{UUID: id})
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
	c.receive(wire.KindJobRequested)
	w.drain()
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
	for {
		m := c.receive(wire.KindLines).(wire.Lines)
		if len(m.Lines) == 1 && m.Lines[0].Flags == job.Partial && string(m.Lines[0].Data) == "part" && m.From == 0 {
			break
		}
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	e := c.finish(id)
	c.send(wire.Stored{UUID: id})
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
	e := c.finish(id)
	c.send(wire.Stored{UUID: id})
	if diff := cmp.Diff(job.Failure(job.Cancelled, "enough"), e.result); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
	if e.text() != "stopped" || e.files["kept"] != "x\n" {
		t.Errorf("console %q, artifacts %v", e.text(), e.files)
	}
	c.receive(wire.KindJobRequested)
}

// TestKill ends the worker in the midst of a build: by draining it goes on to
// its end, by killing it is gone.
func TestKill(t *testing.T) {
	script := func(mark, gate string) string {
		return fmt.Sprintf("echo $$ > %s.new; mv %s.new %s; while ! [ -e %s ]; do sleep 0.01; done", mark, mark, mark, gate)
	}
	t.Run("drain", func(t *testing.T) {
		s := newScripted(t, false)
		w := work(t, s)
		c := s.accept()
		mark, gate := filepath.Join(t.TempDir(), "mark"), filepath.Join(t.TempDir(), "gate")
		id := c.start(script(mark, gate))
		waitFile(t, mark)
		w.drain()
		if err := os.WriteFile(gate, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if e := c.finish(id); !e.result.Success() {
			t.Errorf("result %v", e.result)
		}
		c.send(wire.Stored{UUID: id})
		w.over(t)
	})
	for name, end := range map[string]func(w *working, c *connection){
		"kill":            func(w *working, _ *connection) { w.kill() },
		"connection lost": func(_ *working, c *connection) { c.Close() },
		"server refuses":  func(_ *working, c *connection) { c.send(wire.Failure{Text: "no"}) },
		"bad message":     func(_ *working, c *connection) { c.send(wire.Info{}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScripted(t, false)
			w := work(t, s)
			c := s.accept()
			mark := filepath.Join(t.TempDir(), "mark")
			c.start(script(mark, mark+".never"))
			var pid int
			fmt.Sscan(waitFile(t, mark), &pid)
			end(w, c)
			wait(t, "the script is dead", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
			if name == "kill" {
				w.over(t)
			} else {
				s.accept() // it comes again
			}
		})
	}
}

// TestKillDelivering: a server that does not read the artifacts can not hold a
// worker that is told to end.
func TestKillDelivering(t *testing.T) {
	s := newScripted(t, false)
	w := work(t, s)
	c := s.accept()
	c.start("head -c 50000000 /dev/zero > large")
	wait(t, "the end of the script", func() bool { return strings.Contains(w.log.String(), "build ended") })
	w.kill()
	w.over(t)
}

// TestNotes: however many files are no artifacts, the message has room for them.
func TestNotes(t *testing.T) {
	s := newScripted(t, false)
	work(t, s)
	c := s.accept()
	id := c.start("i=0; while [ $i -lt 600 ]; do ln -s x link-$i; i=$((i+1)); done; echo x > file")
	e := c.finish(id)
	c.send(wire.Stored{UUID: id})
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

// changes are what somebody else may do to an artifact.
var changes = map[string]func(file string) error{
	"vanishes": os.Remove,
	"shrinks":  func(file string) error { return os.Truncate(file, 1) },
	"grows":    func(file string) error { return os.Truncate(file, 1000) },
	"replaced": func(file string) error {
		return errors.Join(os.Remove(file), os.WriteFile(file, []byte("12345678\n"), 0o600))
	},
}

// TestArtifactsChange: a file that is not what was collected is left out, and
// noted. The build and its other files are kept.
func TestArtifactsChange(t *testing.T) {
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScripted(t, false)
			work(t, s, func(c *worker.Config) {
				c.Sandbox = meddling{Sandbox: c.Sandbox, meddle: func(dir string) {
					if err := change(filepath.Join(dir, "file")); err != nil {
						t.Error(err)
					}
				}}
			})
			c := s.accept()
			id := c.start("pwd; echo content > file; echo x > other")
			e := c.finish(id)
			c.send(wire.Stored{UUID: id})
			if diff := cmp.Diff(map[string]string{"other": "x\n"}, e.files); diff != "" || !e.result.Success() {
				t.Errorf("%v, artifacts (-want +got):\n%s", e.result, diff)
			}
			if len(e.notes) != 1 || !strings.HasPrefix(e.notes[0], "file: left out: ") {
				t.Errorf("notes %q", e.notes)
			}
			c.receive(wire.KindJobRequested)
		})
	}
}

// TestArtifactsChangeLate: the size of a file was announced. One that vanishes is
// sent all the same while there are few. One with another size can not be sent as
// if it were whole: the connection ends, and the worker goes on with another.
func TestArtifactsChangeLate(t *testing.T) {
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScripted(t, false)
			w := work(t, s)
			c := s.accept()
			id := c.start("pwd; truncate -s 32M before; echo content > file")
			dir := string(c.receive(wire.KindLines).(wire.Lines).Lines[0].Data)
			in := c.receive(wire.KindFinish).(*wire.Incoming)
			file, err := in.Files.Next()
			if err != nil {
				t.Fatal(err)
			}
			if err := change(filepath.Join(dir, "file")); err != nil {
				t.Fatal(err)
			}
			for err == nil {
				if _, err = io.Copy(io.Discard, file.Data); err == nil {
					file, err = in.Files.Next()
				}
			}
			if name == "vanishes" || name == "replaced" {
				if !errors.Is(err, io.EOF) {
					t.Fatalf("receiving: %v", err)
				}
				c.send(wire.Stored{UUID: id})
				c.receive(wire.KindJobRequested)
				return
			}
			if errors.Is(err, io.EOF) {
				t.Error("the artifact came as a whole")
			}
			s.accept()
			if !strings.Contains(w.log.String(), "sending finish") {
				t.Error("the reason is not logged")
			}
		})
	}
}

// TestNoSandbox: the server is told when there is no place for a build.
func TestNoSandbox(t *testing.T) {
	s := newScripted(t, false)
	work(t, s, func(c *worker.Config) { c.Sandbox = meddling{prepare: errors.New("no jail")} })
	c := s.accept()
	id := c.start("x")
	e := c.finish(id)
	c.send(wire.Stored{UUID: id})
	if e.result.Cause != job.NoSandbox || !strings.Contains(e.result.Text, "no jail") {
		t.Errorf("result %v", e.result)
	}
}
