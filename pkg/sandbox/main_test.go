package sandbox_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"builder/pkg/sandbox"
	"builder/pkg/sandbox/conform"
)

func TestMain(m *testing.M) { conform.Main(m, plain, namespaces, accounts) }

// deadline is how long tests wait for what must happen soon.
const deadline = 20 * time.Second

// newPlain is a Plain with one slot.
func newPlain(t testing.TB) *sandbox.Plain {
	t.Helper()
	root := t.TempDir()
	p, err := sandbox.NewPlain(root, 1)
	if err != nil {
		t.Fatal(err)
	}
	closes(t, p, root)
	return p
}

// closes closes p at the end of the test, and checks that no place was left.
func closes(t testing.TB, p *sandbox.Plain, root string) {
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
		if left, err := os.ReadDir(root); err != nil || len(left) > 0 {
			t.Errorf("left in the root: %v (%v)", left, err)
		}
	})
}

func prepare(t testing.TB, p *sandbox.Plain, spec sandbox.Spec) sandbox.Place {
	t.Helper()
	place, err := p.Prepare(context.Background(), spec)
	if err != nil {
		t.Fatalf("preparing: %v", err)
	}
	t.Cleanup(func() {
		if err := place.Destroy(); err != nil {
			t.Errorf("destroying: %v", err)
		}
	})
	return place
}

// run runs a script in a place of its own, which must not be an error.
func run(t testing.TB, p *sandbox.Plain, script string) (sandbox.Exit, string) {
	t.Helper()
	exit, console, err := runIn(t.Context(), prepare(t, p, sandbox.Spec{Script: []byte(script)}))
	if err != nil {
		t.Fatalf("running: %v", err)
	}
	return exit, console
}

func runIn(ctx context.Context, place sandbox.Place) (sandbox.Exit, string, error) {
	var console bytes.Buffer
	exit, err := place.Run(ctx, &console)
	return exit, console.String(), err
}

// wait polls until done, and fails the test after the deadline.
func wait(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// pids reads numbers, one in a line, from a file or a console.
func pids(t testing.TB, text string) []int {
	t.Helper()
	var all []int
	for _, field := range strings.Fields(text) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			t.Fatalf("not a process number: %q", field)
		}
		all = append(all, pid)
	}
	return all
}

// alive tells whether a process exists and is more than a zombie.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

// marked are the processes whose environment holds the variable (one that is
// not in the process table any more has none, so zombies do not count).
func marked(t testing.TB, variable string) []int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	var found []int
	for _, file := range files {
		environ, err := os.ReadFile(file)
		if err == nil && bytes.Contains(environ, []byte(variable+"\x00")) {
			pid, _ := strconv.Atoi(strings.Split(file, "/")[2])
			found = append(found, pid)
		}
	}
	return found
}
