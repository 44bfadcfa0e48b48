package conform

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"builder/pkg/sandbox"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// deadline is how long tests wait for what must happen soon.
const deadline = 30 * time.Second

// suite is one run of the tests.
type suite struct {
	kind Kind
	root string // begins the names of all tests
	site Site
	box  Box
}

func newSite(t *testing.T) Site {
	t.Helper()
	return Site{Dir: t.TempDir(), ID: uuid.NewString(), Slots: 2}
}

// open opens a sandbox, which is closed at the end of the test if not before.
func (s *suite) open(t *testing.T, site Site) Box {
	t.Helper()
	made, err := s.kind.Open(site)
	if err != nil {
		t.Fatalf("opening: %v", err)
	}
	box := &closedOnce{Box: made}
	t.Cleanup(func() {
		if err := box.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return box
}

// closedOnce may be closed again.
type closedOnce struct {
	Box
	once sync.Once
	err  error
}

func (c *closedOnce) Close() error {
	c.once.Do(func() { c.err = c.Box.Close() })
	return c.err
}

// spec is what to run, and a variable by which its processes are found.
func spec(script string) (_ sandbox.Spec, mark string) {
	id := uuid.NewString()
	mark = "CONFORM_MARK=" + id
	return sandbox.Spec{
		Build: id, Job: "job", Platform: "platform", Script: []byte(script),
		Env: []string{mark}, Grace: 100 * time.Millisecond,
	}, mark
}

// prepare makes a place, which is destroyed at the end of the test.
func (s *suite) prepare(t *testing.T, spec sandbox.Spec) sandbox.Place {
	t.Helper()
	place, err := s.box.Prepare(context.Background(), spec)
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
func (s *suite) run(t *testing.T, script string) (sandbox.Exit, string) {
	t.Helper()
	what, _ := spec(script)
	exit, console, err := runIn(t.Context(), s.prepare(t, what))
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

// started runs a script until the test ends or stop is called; it returns when the
// script has printed something, and what that was.
func (s *suite) started(t *testing.T, what sandbox.Spec) (printed string, stop func() sandbox.Exit) {
	t.Helper()
	place := s.prepare(t, what)
	ctx, cancel := context.WithCancel(context.Background())
	out := make(printing, 1)
	var exit sandbox.Exit
	var err error
	over := make(chan struct{})
	go func() {
		defer close(over)
		exit, err = place.Run(ctx, out)
	}()
	stop = func() sandbox.Exit {
		t.Helper()
		cancel()
		<-over
		if err != nil {
			t.Errorf("running: %v", err)
		}
		return exit
	}
	t.Cleanup(func() { stop() }) // before the place is destroyed
	select {
	case printed = <-out:
	case <-over:
		t.Fatalf("it ended by itself: %+v, %v", exit, err)
	case <-time.After(deadline):
		t.Fatal("it prints nothing")
	}
	return printed, stop
}

// printing is a writer that hands on the first thing printed.
type printing chan string

func (p printing) Write(text []byte) (int, error) {
	select {
	case p <- string(text):
	default:
	}
	return len(text), nil
}

// AtOutput is a console that calls a function whenever something is printed.
type AtOutput func()

func (f AtOutput) Write(text []byte) (int, error) {
	f()
	return len(text), nil
}

// file is an artifact with its content.
type file struct {
	Path, Content string
	Mode          os.FileMode
}

// collect runs a script and reads everything that it left.
func (s *suite) collect(t *testing.T, script string) ([]file, []sandbox.Note) {
	t.Helper()
	what, _ := spec(script)
	place := s.prepare(t, what)
	if _, console, err := runIn(t.Context(), place); err != nil {
		t.Fatalf("running: %v, %q", err, console)
	}
	return contents(t, place)
}

func contents(t *testing.T, place sandbox.Place) (files []file, notes []sandbox.Note) {
	t.Helper()
	artifacts, notes, err := place.Artifacts(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, artifact := range artifacts {
		content, err := read(artifact)
		if err != nil {
			t.Fatal(err)
		}
		if int64(len(content)) != artifact.Size {
			t.Errorf("%s: size %d, %d octets read", artifact.Path, artifact.Size, len(content))
		}
		files = append(files, file{artifact.Path, string(content), artifact.Mode})
	}
	return files, notes
}

func read(artifact sandbox.Artifact) ([]byte, error) {
	f, err := artifact.Open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// equal compares.
func equal(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: %s", what, diff)
	}
}

// dead checks that no process is left which has the variable.
func dead(t *testing.T, mark string) {
	t.Helper()
	if left := marked(mark); len(left) > 0 {
		t.Errorf("alive: %v", left)
	}
}

// wait polls until done, and fails the test after the deadline.
func wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// look is Look, which must not fail.
func (s *suite) look(t *testing.T, site Site) Machine {
	t.Helper()
	m, err := Look(s.kind, site)
	if err != nil {
		t.Fatalf("looking at the machine: %v", err)
	}
	return m
}

// settle waits until the machine is as it was before: what is prepared ahead may
// be made anew meanwhile, under another name.
func (s *suite) settle(t *testing.T, site Site, before Machine) {
	t.Helper()
	var now Machine
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if now = s.look(t, site); slices.Equal(now.counts(), before.counts()) {
			return
		}
	}
	t.Errorf("the machine is not as it was: %s", cmp.Diff(before, now))
}

func (m Machine) counts() []string {
	return []string{
		fmt.Sprint("files ", len(m.Files)), fmt.Sprint("mounts ", len(m.Mounts)), fmt.Sprint("cgroups ", len(m.Cgroups)),
		fmt.Sprint("processes ", len(m.Processes)), fmt.Sprint("further ", len(m.Further)),
	}
}
