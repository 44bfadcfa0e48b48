package worker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"builder/pkg/job"
	"builder/pkg/sandbox"
	"builder/pkg/wire"
	"builder/pkg/worker"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/rs/zerolog"
)

// workerProcess is what the test binary does as a worker.
func workerProcess(path, remote string) error {
	dir, err := worker.OpenDirectory(path)
	if err != nil {
		return err
	}
	place, err := sandbox.NewPlain(dir.Builds(), 1)
	if err != nil {
		return err
	}
	return worker.Run(context.Background(), context.Background(), worker.Config{
		Platform: "p", Remote: remote, Dir: dir, Persistent: true, Slots: 2, Sandbox: place, Log: zerolog.New(os.Stderr),
	})
}

// process is a worker that can be killed.
type process struct {
	*exec.Cmd
	t    testing.TB
	path string
	log  *logged
}

func newProcess(t testing.TB, path string, s *scripted, wrap ...string) *process {
	t.Helper()
	p := &process{t: t, path: path, log: &logged{}}
	args := append(wrap, os.Args[0])
	p.Cmd = exec.Command(args[0], args[1:]...)
	p.Env = append(os.Environ(), "WORKER_TEST_DIR="+path, "WORKER_TEST_REMOTE="+s.l.Addr().String())
	p.Stderr = p.log
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("the process's log:\n%s", p.log)
		}
	})
	return p
}

// kill is kill -9. The supervisors see to their builds.
func (p *process) kill() {
	p.Process.Kill()
	p.Wait()
}

// dead waits until the script whose process id is in a file is gone.
func dead(t testing.TB, file string) {
	t.Helper()
	pid, err := strconv.Atoi(waitFile(t, file))
	if err != nil {
		t.Fatal(err)
	}
	wait(t, "the script is dead", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
}

// TestKilled kills a worker that has one build which runs and one that is not
// delivered. The next one delivers both, with what was printed and is there, and
// sweeps what it does not need.
func TestKilled(t *testing.T) {
	s := newScripted(t, false)
	path := t.TempDir()
	p := newProcess(t, path, s)
	c := s.accept()
	c.until(func() bool { return c.wishes == 2 })
	ended := c.start("echo one; echo kept > file; exit 3")
	c.until(func() bool { return s.build(ended).over && c.wishes == 2 })
	pid := filepath.Join(t.TempDir(), "pid")
	running := c.start("seq 50000; echo half > half; echo $$ > " + pid + "; sleep 1000")
	c.until(func() bool { return len(s.build(running).lines) == 50_000 })
	waitFile(t, pid)
	p.kill()
	c.Close()
	dead(t, pid)
	if err := os.MkdirAll(filepath.Join(path, "builds", "b-stale-x", "out"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.build(running).lines = s.build(running).lines[:1000]
	s.build(ended).over = false

	workIn(t, path, s)
	c = s.greet()
	c.resume(nil)
	e := c.store(running)
	if e.result.Cause != job.Restarted || e.text() != lineNumbers(1, 50_000) || e.files["half"] != "half\n" {
		t.Errorf("result %v, %d lines, files %q", e.result, len(e.lines), e.files)
	}
	e = c.store(ended)
	if diff := cmp.Diff(job.Result{Kind: job.Exited, Code: 3}, e.result); diff != "" || e.files["file"] != "kept\n" {
		t.Errorf("files %q, result (-want +got):\n%s", e.files, diff)
	}
	if _, err := os.Lstat(filepath.Join(path, "builds", "b-stale-x")); !os.IsNotExist(err) {
		t.Error("what is not needed was not swept")
	}
	c.wish()
}

// detached is a sandbox that can not attach places at the moment.
type detached struct{ sandbox.Sandbox }

func (detached) Reattach(string) (sandbox.Place, error) { return nil, errors.New("no answer") }

// TestDetached: what can not be attached for now is neither swept nor forgotten.
func TestDetached(t *testing.T) {
	s := newScripted(t, false)
	path := t.TempDir()
	p := newProcess(t, path, s)
	c := s.accept()
	id := c.start("echo kept > file")
	c.until(func() bool { return s.build(id).over })
	p.kill()
	c.Close()
	place, keep := filepath.Join(path, "builds", "b-kept-x"), filepath.Join(path, "kept", uuid.NewString())
	if err := errors.Join(os.Mkdir(place, 0o700), os.WriteFile(keep, []byte("b-kept-x\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	refuses := func(what string) {
		t.Helper()
		dir, box := openPlaces(t, path)
		defer dir.Close()
		defer box.Close()
		if err := worker.Sweep(dir, detached{box}, false, zerolog.Nop()); err == nil {
			t.Errorf("%s: swept", what)
		}
		err := worker.Run(t.Context(), t.Context(), worker.Config{Platform: "p", Dir: dir, Sandbox: detached{box}, Log: zerolog.Nop()})
		if err == nil || !strings.Contains(err.Error(), "no answer") {
			t.Errorf("%s: the worker runs: %v", what, err)
		}
	}
	refuses("a kept place")
	if _, err := os.Lstat(place); err != nil {
		t.Error(err)
	}
	if err := os.Remove(keep); err != nil {
		t.Error(err)
	}
	refuses("the place of a build")
	s.build(id).over = false
	workIn(t, path, s)
	c = s.greet()
	c.resume(nil)
	if e := c.store(id); e.files["file"] != "kept\n" {
		t.Errorf("files %q", e.files)
	}
}

// TestKilledCollecting kills a worker while it hashes what a build has left: the
// build's own result is not lost.
func TestKilledCollecting(t *testing.T) {
	s := newScripted(t, false)
	path := t.TempDir()
	p := newProcess(t, path, s)
	c := s.accept()
	script, open := gated(t)
	id := c.start("truncate -s 256M large; " + script + "; exit 3")
	e := s.build(id)
	c.until(func() bool { return len(e.lines) == 2 })
	size := func() int64 {
		info, err := os.Stat(filepath.Join(path, "spool", id.String()))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	before := size()
	open()
	// One more line is a record of 42 octets; more than that is how the script ended.
	wait(t, "the end of the script is kept", func() bool { return size() > before+42 })
	p.kill()
	c.Close()
	e.over = false
	workIn(t, path, s)
	c = s.greet()
	c.resume(nil)
	c.until(func() bool { return e.over })
	c.send(wire.Stored{UUID: id})
	if diff := cmp.Diff(job.Result{Kind: job.Exited, Code: 3}, e.result); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
	if len(e.artifacts) != 2 || e.artifacts[1].Size != 256<<20 {
		t.Errorf("artifacts %v", e.artifacts)
	}
}

// lineNumbers is what seq prints.
func lineNumbers(from, to int) string {
	var all []string
	for i := from; i <= to; i++ {
		all = append(all, strconv.Itoa(i))
	}
	return strings.Join(all, "\n")
}

// killedSpool leaves a directory in which a worker was killed: the build has
// printed so many lines, and ended if it was to.
func killedSpool(t testing.TB, s *scripted, script string, lines int, over bool) (path string, id uuid.UUID) {
	t.Helper()
	path = t.TempDir()
	p := newProcess(t, path, s)
	c := s.accept()
	id = c.start(script)
	c.until(func() bool { return len(s.build(id).lines) >= lines && s.build(id).over == over })
	p.kill()
	c.Close()
	*s.build(id) = ended{files: map[string]string{}}
	return path, id
}

// TestTornSpool cuts a spool and flips its bits: what is whole is delivered, in
// order, and nothing is invented.
func TestTornSpool(t *testing.T) {
	s := newScripted(t, false)
	path, id := killedSpool(t, s, "for i in 1 2 3 4 5; do echo $i; sleep 0.02; done", 5, true)
	file := filepath.Join("spool", id.String())
	whole, err := os.ReadFile(filepath.Join(path, file))
	if err != nil {
		t.Fatal(err)
	}
	all := lineNumbers(1, 5)
	step := max(1, len(whole)/25)
	for _, damage := range []string{"cut", "flipped", "zeros behind"} {
		t.Run(damage, func(t *testing.T) {
			t.Parallel()
			lost, ends := 0, 0
			for at := 0; at < len(whole); at += step {
				octets := append([]byte(nil), whole...)
				switch damage {
				case "cut":
					octets = octets[:at]
				case "flipped":
					octets[at] ^= 1 << (at % 8)
				case "zeros behind":
					octets = append(octets[:at], make([]byte, 5000)...)
				}
				dir := t.TempDir()
				if err := os.MkdirAll(filepath.Join(dir, "spool"), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, file), octets, 0o600); err != nil {
					t.Fatal(err)
				}
				s := newScripted(t, false)
				w := workIn(t, dir, s)
				c := s.greet()
				c.resume(nil)
				if len(c.held) == 0 {
					lost++
					if _, err := os.Stat(filepath.Join(dir, "rejected", id.String(), "spool")); (err == nil) != (len(octets) > 0) {
						t.Errorf("damage at %d: in rejected: %v", at, err)
					}
				} else {
					e := c.store(id)
					if !strings.HasPrefix(all, e.text()) || e.result.Cause != job.Restarted && e.text() != all {
						t.Errorf("damage at %d: %v, console %q", at, e.result, e.text())
					}
					if e.result.Cause != job.Restarted {
						ends++
					}
				}
				c.wish()
				w.stored(t)
				s.l.Close() // a worker that ends does not wait for it
				w.kill()
			}
			if lost == 0 || lost > 20 || ends > 2 {
				t.Errorf("%d damages lost all, %d nothing", lost, ends)
			}
		})
	}
}

// TestFullDisk: a build whose console finds no room ends, as the worker's fault.
// Others go on when there is room again: a spare takes none, and one that has a tail
// is none.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a small file system takes root")
	}
	t.Run("in the spool", func(t *testing.T) { fullDisk(t, job.Limits{}, 1) })
	t.Run("in its tail", func(t *testing.T) { fullDisk(t, job.Limits{MaxConsole: 300 << 10}, 0) })
}

func fullDisk(t *testing.T, limits job.Limits, spares int) {
	path := t.TempDir()
	spool := filepath.Join(path, "spool")
	if err := os.MkdirAll(spool, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=256k", "none", spool).CombinedOutput(); err != nil {
		t.Skipf("mounting a tmpfs: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", spool).CombinedOutput(); err != nil {
			t.Errorf("unmounting: %v: %s", err, out)
		}
	})
	s := newScripted(t, false)
	w := workIn(t, path, s, func(c *worker.Config) { c.Slots = 2 })
	c := s.accept()
	c.until(func() bool { return c.wishes == 2 })
	script, open := gated(t)
	other := c.start(script)
	c.until(func() bool { return len(s.build(other).lines) == 2 })
	c.store(c.start("true"))
	wait(t, "a spare", func() bool { return len(spooled(t, path, true)) == 1 })
	c.wish()
	id := c.start("echo x > file; seq 1000000; sleep 1000", limits)
	e := c.finish(id)
	if e.result.Cause != job.NoSandbox || !strings.Contains(e.result.Text, id.String()) || !strings.Contains(e.result.Text, "no space left") {
		t.Errorf("result %v", e.result)
	}
	if got := e.text(); got == "" || !strings.HasPrefix(lineNumbers(1, len(e.lines)+1), got) || e.files["file"] != "x\n" {
		t.Errorf("%d lines, files %q", len(e.lines), e.files)
	}
	c.send(wire.Stored{UUID: id})
	wait(t, "room", func() bool { return len(spooled(t, path, false)) == 1 })
	if got := spooled(t, path, true); len(got) != spares {
		t.Errorf("the spares are %q", got)
	}
	open()
	if e := c.store(other); !e.result.Success() || e.text() != "one\ntwo\nthree" {
		t.Errorf("the other: %v, console %q", e.result, e.text())
	}
	w.stored(t)
	s.l.Close()
	w.kill()
	w.over(t)
}

// raceEnabled is set by the race detector, which takes memory of its own.
var raceEnabled = false

// TestMemory: however large an artifact is, the worker stays small. 20 GiB of it
// in full takes a minute: BUILDER_TEST_LARGE=1.
func TestMemory(t *testing.T) {
	size := int64(256 << 20)
	if os.Getenv("BUILDER_TEST_LARGE") != "" {
		size = 20 << 30
	}
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("there is no /proc to ask")
	}
	s := newScripted(t, false)
	p := newProcess(t, t.TempDir(), s)
	c := s.accept()
	id := c.start(fmt.Sprintf("truncate -s %d large; seq 2000000", size))
	e := s.build(id)
	ctx := t.Context()
	for !e.over { // as until, without a deadline, and without keeping the console
		m, err := c.Receive(ctx, wire.KindLines, wire.KindDone, wire.KindJobRequested)
		if err != nil {
			t.Fatal(err)
		}
		if m, ok := m.(wire.Done); ok {
			e.over, e.artifacts = true, m.Artifacts
		}
	}
	c.send(wire.Want{UUID: id})
	bulk := s.bulk(id)
	bulk.send(wire.Want{UUID: id, Contents: []wire.Wanted{{Content: e.artifacts[0].Content}}})
	n, err := io.Copy(io.Discard, bulk.receive(wire.KindContent).(io.Reader))
	if err != nil || n != size {
		t.Errorf("%d octets came, %v", n, err)
	}
	bulk.send(wire.Success{})
	c.send(wire.Stored{UUID: id})
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, peak, _ := strings.Cut(string(status), "VmHWM:")
	var kilobytes int64
	if _, err := fmt.Sscan(peak, &kilobytes); err != nil {
		t.Fatal(err)
	}
	t.Logf("peak %d kB", kilobytes)
	if most := int64(64 << 10); kilobytes > most && !raceEnabled {
		t.Errorf("the worker has taken %d kB, %d are allowed", kilobytes, most)
	}
}
