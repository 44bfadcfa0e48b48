package worker_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"builder/pkg/job"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// TestLimits: what runs too long, is silent too long or leaves too much ends for
// that reason.
func TestLimits(t *testing.T) {
	for name, tt := range map[string]struct {
		script  string
		limits  job.Limits
		cause   job.Cause
		text    string
		console string
		files   map[string]string
	}{
		"timeout": {
			"echo x > file; while :; do echo on; sleep 0.02; done",
			job.Limits{Timeout: 300 * time.Millisecond, Silence: time.Minute},
			job.Timeout, "longer than 300ms", "",
			map[string]string{"file": "x\n"},
		},
		"silence": {
			"for i in 1 2 3 4 5 6; do echo $i; sleep 0.1; done; sleep 1000",
			job.Limits{Timeout: time.Minute, Silence: 400 * time.Millisecond},
			job.Silence, "nothing for 400ms", "1\n2\n3\n4\n5\n6",
			map[string]string{},
		},
		"grace": {
			"trap '' TERM; echo x; while :; do sleep 0.01; done",
			job.Limits{Timeout: 100 * time.Millisecond, Grace: 10 * time.Millisecond},
			job.Timeout, "longer than 100ms", "x",
			map[string]string{},
		},
		"artifacts": {
			"echo 123 > a; echo 456 > b",
			job.Limits{MaxArtifacts: 7},
			job.TooLarge, "8 octets in 2 files are left, 7 octets are allowed", "",
			map[string]string{},
		},
		"artifacts just fit": {
			"echo 123 > a; echo 456 > b",
			job.Limits{MaxArtifacts: 8},
			"", "exited 0", "",
			map[string]string{"a": "123\n", "b": "456\n"},
		},
		"artifacts of what took too long": {
			"echo 123 > a; sleep 1000",
			job.Limits{MaxArtifacts: 3, Timeout: 200 * time.Millisecond},
			job.Timeout, "longer", "",
			map[string]string{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScripted(t, false)
			work(t, s)
			c := s.accept()
			e := c.store(c.start(tt.script, tt.limits))
			if e.result.Cause != tt.cause || !strings.Contains(e.result.String(), tt.text) {
				t.Errorf("result %v (%v)", e.result, e.result.Cause)
			}
			if diff := cmp.Diff(tt.files, e.files); diff != "" {
				t.Errorf("artifacts (-want +got):\n%s", diff)
			}
			if tt.console != "" && e.text() != tt.console {
				t.Errorf("console %q", e.text())
			}
		})
	}
}

// TestMaxConsole: of a console that is too long head and tail are kept, and a line
// says what is missing. The head comes as it is printed, and the job goes on.
func TestMaxConsole(t *testing.T) {
	const most = 1 << 20
	for name, tt := range map[string]struct{ lines int }{
		"fits":       {lines: 100_000},
		"just over":  {lines: 125_000},
		"twice":      {lines: 250_000},
		"some times": {lines: 700_000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScripted(t, false)
			work(t, s)
			c := s.accept()
			e := c.store(c.start(fmt.Sprintf("seq 1000000 %d; echo x > file", 1_000_000+tt.lines-1), job.Limits{MaxConsole: most}))
			checkConsole(t, e, 1_000_000, tt.lines, most)
			if !e.result.Success() || e.files["file"] != "x\n" {
				t.Errorf("result %v", e.result)
			}
		})
	}
}

// checkConsole checks what is left of so many lines of numbers.
func checkConsole(t *testing.T, e *ended, first, count int, most int64) {
	t.Helper()
	size, next := int64(0), first
	for _, line := range e.lines {
		size += int64(len(line.Data)) + 1
		text := string(line.Data)
		if strings.HasPrefix(text, "... ") {
			var octets, lines int
			if _, err := fmt.Sscanf(text, "... %d octets in %d lines are left out ...", &octets, &lines); err != nil {
				t.Fatalf("%q: %v", text, err)
			}
			next += lines
			if octets != lines*8 {
				t.Errorf("%q", text)
			}
			continue
		}
		if text != strconv.Itoa(next) {
			t.Fatalf("line %q, expected %d", text, next)
		}
		next++
	}
	if next != first+count || size > most+100 {
		t.Errorf("%d lines of %d, %d octets of %d", next-first, count, size, most)
	}
	if total := int64(count) * 8; total > most && size < most/2 {
		t.Errorf("only %d octets of %d are left", size, total)
	}
}

// TestKilledTail kills a worker whose build has printed too much: head and tail
// are what was printed.
func TestKilledTail(t *testing.T) {
	for name, count := range map[string]int{"short tail": 120_000, "long tail": 500_000} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScripted(t, false)
			path := t.TempDir()
			p := newProcess(t, path, s)
			c := s.accept()
			mark := t.TempDir() + "/mark"
			id := c.start(fmt.Sprintf("seq 1000000 %d; sleep 0.3; echo x > %s; sleep 1000", 1_000_000+count-1, mark), job.Limits{MaxConsole: 1 << 20})
			waitFile(t, mark)
			p.kill()
			c.Close()
			*s.build(id) = ended{files: map[string]string{}}
			stale := filepath.Join(path, "spool", uuid.NewString()+".tail1")
			if err := os.WriteFile(stale, []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
			workIn(t, path, s) // which checks that no file is left
			c = s.greet()
			c.resume(nil)
			e := c.store(id)
			if e.result.Cause != job.Restarted {
				t.Errorf("result %v", e.result)
			}
			checkConsole(t, e, 1_000_000, count, 1<<20)
		})
	}
}
