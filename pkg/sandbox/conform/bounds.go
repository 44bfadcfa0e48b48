package conform

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"builder/pkg/job"
	"builder/pkg/sandbox"
)

// bounded is spec with bounds, which must be refused if they are not promised: then
// it reports false.
func (s *suite) bounded(t *testing.T, promised bool, script string, bounds job.Resources) (_ sandbox.Spec, mark string, ok bool) {
	t.Helper()
	what, mark := spec(script)
	what.Resources = bounds
	err := s.box.Enforces(bounds)
	if promised {
		if err != nil {
			t.Fatalf("promised, but %v", err)
		}
		return what, mark, true
	}
	if !errors.Is(err, sandbox.ErrUnenforced) {
		t.Errorf("not promised, not refused: %v", err)
	}
	place, err := s.box.Prepare(t.Context(), what)
	if !errors.Is(err, sandbox.ErrUnenforced) {
		t.Errorf("not promised, but prepared: %v", err)
	}
	if err == nil {
		err = place.Destroy()
		t.Log(err)
	}
	return what, mark, false
}

// pids lets a fork bomb go off, and stops it.
func (s *suite) pids(t *testing.T) {
	const most = 60
	what, mark, ok := s.bounded(t, s.kind.Promises.PIDs,
		"bomb() { bomb | bomb & }; (bomb) 2>/dev/null; echo; exec tail -f /dev/null", job.Resources{PIDs: most})
	if !ok {
		return
	}
	_, stop := s.started(t, what)
	for range 20 { // while it goes on
		if n := len(marked(mark)); n > most {
			t.Errorf("%d processes, %d are allowed", n, most)
		}
	}
	stop()
	dead(t, mark)
}

// memory has the kernel end a build that takes too much, and one of its processes
// where the rest goes on.
func (s *suite) memory(t *testing.T) {
	const hungry = "dd if=/dev/zero of=/dev/null bs=200M count=1 2>/dev/null"
	tests := []struct {
		name, script string
		limit        int64
		out          bool
	}{
		{"the script", "exec " + hungry, 32 << 20, true},
		{"a child", hungry + "; exit 3", 32 << 20, true},
		{"a grandchild in a session of its own", "setsid sh -c '" + hungry + "; exit 3'; exit 3", 32 << 20, true},
		{"enough", hungry + "; exit 3", 512 << 20, false},
	}
	for _, test := range tests {
		s.test(t, test.name, func(t *testing.T) {
			what, mark, ok := s.bounded(t, s.kind.Promises.Memory, test.script, job.Resources{Memory: test.limit})
			if !ok {
				return
			}
			exit, console, err := runIn(t.Context(), s.prepare(t, what))
			if err != nil || exit.OutOfMemory != test.out || exit.Code == 0 && exit.Signal == 0 {
				t.Errorf("exit %+v, console %q, error %v", exit, console, err)
			}
			dead(t, mark)
		})
	}
}

func (s *suite) disk(t *testing.T) {
	const most = 8 << 20
	what, _, ok := s.bounded(t, s.kind.Promises.Disk,
		`for dir in "$BUILDER_OUTPUT" "$TMPDIR" "$HOME"; do head -c 33554432 /dev/zero >"$dir/f" && exit 3; done; exit 4`,
		job.Resources{Disk: most})
	if !ok {
		return
	}
	place := s.prepare(t, what)
	exit, console, err := runIn(t.Context(), place)
	if err != nil || exit.Code != 4 {
		t.Errorf("exit %+v, console %q, error %v", exit, console, err)
	}
	artifacts, _, err := place.Artifacts(nil)
	if err != nil || len(artifacts) != 1 || artifacts[0].Size > most {
		t.Errorf("artifacts %v, %v", artifacts, err)
	}
}

// cpus can not be seen without a clock: the kind's own tests look where it says so.
func (s *suite) cpus(t *testing.T) {
	what, _, ok := s.bounded(t, s.kind.Promises.CPUs, "exit 3", job.Resources{CPUs: 500})
	if !ok {
		return
	}
	if exit, _, err := runIn(t.Context(), s.prepare(t, what)); err != nil || exit.Code != 3 {
		t.Errorf("exit %+v, error %v", exit, err)
	}
}

func (s *suite) noNetwork(t *testing.T) {
	what, _, ok := s.bounded(t, s.kind.Promises.NoNetwork,
		"tail -n +3 /proc/net/dev | cut -d: -f1", job.Resources{NoNetwork: true})
	if !ok {
		return
	}
	_, console, err := runIn(t.Context(), s.prepare(t, what))
	if device := strings.TrimSpace(console); err != nil || device != "lo" && device != "" {
		t.Errorf("devices %q, error %v", console, err)
	}
}

// private has a build look for the files and processes of another one, which runs,
// and of one that is over.
func (s *suite) private(t *testing.T) {
	if !s.kind.Promises.Private {
		return
	}
	first, mark := spec(`for dir in "$BUILDER_OUTPUT" "$TMPDIR" "$HOME" /tmp /var/tmp /dev/shm; do
			echo >"$dir/$BUILDER_BUILD" && echo "$dir/$BUILDER_BUILD"; done 2>/dev/null >list
		cat list; sleep 1000`)
	printed, stop := s.started(t, first)
	if n := len(strings.Fields(printed)); n < 4 {
		t.Fatalf("it wrote %d files only: %q", n, printed)
	}
	look := fmt.Sprintf(`for file in %s; do [ -e "$file" ] && echo "$file"; done
		cat /proc/[0-9]*/environ 2>/dev/null | tr '\0' '\n' | grep -x %s; :`, strings.Join(strings.Fields(printed), " "), mark)
	for _, when := range []string{"runs", "is over"} {
		if _, console := s.run(t, look); console != "" {
			t.Errorf("of a build that %s another one sees %q", when, console)
		}
		stop()
	}
}
