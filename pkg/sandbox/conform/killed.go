package conform

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// worker is a process that is going to be killed.
type worker struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
	mark  string
}

func (s *suite) startWorker(t *testing.T, site Site, last phase, script string) *worker {
	t.Helper()
	w := &worker{cmd: exec.CommandContext(context.Background(), os.Args[0]), mark: site.ID}
	w.cmd.Env = append(os.Environ(),
		kindVariable+"="+s.kind.Name, dirVariable+"="+site.Dir, idVariable+"="+site.ID,
		phaseVariable+"="+string(last), scriptVariable+"="+script, markVariable+"="+w.mark)
	w.cmd.Stderr = os.Stderr
	if _, err := w.cmd.StdinPipe(); err != nil { // stays open, and so the worker alive
		t.Fatal(err)
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	w.lines = bufio.NewScanner(out)
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return w
}

// await reads until the worker is in a phase, and returns the name of its place.
func (w *worker) await(t *testing.T, last phase) (name string) {
	t.Helper()
	for w.lines.Scan() {
		now, name, _ := strings.Cut(w.lines.Text(), " ")
		if phase(now) == last {
			return name
		}
	}
	t.Errorf("the worker ended before it was %s", last)
	return ""
}

// kill kills the worker, and nothing else; what it had started ends by itself, or is
// swept.
func (w *worker) kill(t *testing.T) {
	t.Helper()
	if err := w.cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	w.cmd.Wait() //nolint:errcheck // it was killed
}

// killed kills a worker in a phase, and returns the name of its place.
func (s *suite) killed(t *testing.T, site Site, last phase, script string) (name string) {
	t.Helper()
	w := s.startWorker(t, site, last, script)
	defer w.kill(t)
	return w.await(t, last)
}

// baseline is the machine with a worker that has ended well.
func (s *suite) baseline(t *testing.T, site Site) Machine {
	t.Helper()
	s.sweepIn(t, site)
	return s.look(t, site)
}

// sweepIn is a worker that only sweeps.
func (s *suite) sweepIn(t *testing.T, site Site) {
	t.Helper()
	site.Slots = 0
	box := s.open(t, site)
	if err := box.Sweep(); err != nil {
		t.Error(err)
	}
	if err := box.Close(); err != nil {
		t.Error(err)
	}
}

// sweepAfter sweeps what a killed worker has left, and compares.
func (s *suite) sweepAfter(t *testing.T, site Site, before Machine) {
	t.Helper()
	s.sweepIn(t, site)
	wait(t, "the build dies", func() bool { return len(marked(markVariable+"="+site.ID)) == 0 })
	s.settle(t, site, before)
}

// killedWorker kills workers in every phase, and sweeps what they leave.
func (s *suite) killedWorker(t *testing.T) {
	const endless = Stubborn + "sleep 0.1; echo running; wait"
	tests := []struct {
		name   string
		at     phase
		script string
	}{
		{"opened", atOpened, ""},
		{"prepared", atPrepared, ""},
		{"running", atRunning, endless},
		{"running, its outputs closed", atRunning, Stubborn + "sleep 0.1; echo running; exec >&- 2>&-; wait"},
		{"running, its parent stopped", atRunning, Stubborn + "sleep 0.1; kill -STOP $PPID; echo running; wait"},
		{"stopping", atStopping, "trap 'echo stopping' TERM; (setsid sleep 1000 &); echo running; while :; do sleep 0.01; done"},
		{"ended", atEnded, "echo a >a; (setsid sleep 1000 &)"},
		{"collected", atCollected, "echo a >a; chmod 0 ."},
		{"destroyed", atDestroyed, "echo a >a"},
	}
	for _, test := range tests {
		s.test(t, test.name, func(t *testing.T) {
			site := newSite(t)
			before := s.baseline(t, site)
			w := s.startWorker(t, site, test.at, test.script)
			w.await(t, test.at)
			theirs := children(w.cmd.Process.Pid)
			w.kill(t)
			wait(t, "its children end", func() bool { return !slices.ContainsFunc(theirs, alive) })
			s.sweepAfter(t, site, before)
		})
	}
	s.test(t, "at any time", func(t *testing.T) { s.killedAnytime(t) })
}

// killedAnytime kills workers between two phases: SEED repeats the times, not what
// the worker is doing then.
func (s *suite) killedAnytime(t *testing.T) {
	seed, err := strconv.ParseUint(cmp.Or(os.Getenv("SEED"), fmt.Sprint(rand.Uint32())), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	site := newSite(t)
	before := s.baseline(t, site)
	phases := []phase{atOpened, atPrepared, atRunning, atEnded, atCollected, atDestroyed}
	for range min(10, cmp.Or(s.kind.Builds, 200)/4) {
		w := s.startWorker(t, site, never, "echo running; echo a >a; (setsid sleep 1000 &); mkdir -p d/e")
		w.await(t, phases[random.IntN(len(phases))])
		time.Sleep(time.Duration(random.IntN(5000)) * time.Microsecond)
		w.kill(t)
		s.sweepAfter(t, site, before)
	}
}
