package server_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"builder/pkg/job"
	"builder/pkg/server"
	"builder/pkg/wire"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// TestLeftover: the disk refuses the record of a build, and even to remove what
// the build printed. The next server records it, and the one after that has
// nothing to do.
func TestLeftover(t *testing.T) {
	files := newFaulty()
	r := start(t, func(c *server.Config) { c.Files = files })
	r.schedule("one", "p", "x")
	w := r.requested(wire.OwnVersion, "p")
	id := w.begin().Build.UUID
	r.schedule("runs", "q", "x")
	r.requested(wire.OwnVersion, "q").begin() // this one is lost, as always
	record := failing(syscall.EIO, "/record", "open", "write")
	files.set(func(op, name string) error {
		if op == "remove" && strings.Contains(name, "/builds/") {
			return syscall.EIO
		}
		return record(op, name)
	})
	w.send(lines(id, 0, "printed"))
	w.send(wire.Finish{UUID: id, Result: success})
	w.receive(wire.KindStored)
	files.set(nil)
	if builds := r.builds("one"); len(builds) != 0 {
		t.Fatalf("it was recorded: %v", builds)
	}
	r.halt()
	jobs := filepath.Join(r.config.Dir, "v1", "builds")
	empty := uuid.New()
	long := filepath.Join(jobs, "x%~"+strings.Repeat("a", 64), uuid.NewString())
	for _, dir := range []string{filepath.Join(jobs, "one", empty.String()), filepath.Join(jobs, "one", "notes"), long} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r.start()
	for range 2 {
		for _, build := range r.ended("one", 2) {
			var want []string
			if build.UUID == id {
				want = []string{"printed"}
			} else if build.UUID != empty {
				t.Errorf("build %v", build.UUID)
			}
			if build.Result.Cause != job.ServerSide {
				t.Errorf("result %v", build.Result)
			}
			if diff := cmp.Diff(want, r.export(build.UUID).Lines); diff != "" {
				t.Errorf("console (-want +got):\n%s", diff)
			}
		}
		if build := r.ended("runs", 1)[0]; build.Result.Cause != job.WorkerLost {
			t.Errorf("the build that ran: %v", build.Result)
		}
		r.restart()
	}
	if n := r.log.count("recorded a build that had no record"); n != 2 {
		t.Errorf("recorded %d", n)
	}
	if n := r.log.count("left alone", long); n != 3 {
		t.Errorf("the log names what is left alone %d times in 3 starts", n)
	}
	if left, err := os.ReadDir(long); err != nil || len(left) > 0 {
		t.Errorf("it was touched: %v (%v)", left, err)
	}
}

// TestLeftoverFails: a server starts though its disk takes no record.
func TestLeftoverFails(t *testing.T) {
	files := newFaulty()
	r := start(t, func(c *server.Config) { c.Files = files })
	r.schedule("one", "p", "x")
	r.halt()
	if err := os.MkdirAll(filepath.Join(r.config.Dir, "v1", "builds", "one", uuid.NewString()), 0o755); err != nil {
		t.Fatal(err)
	}
	files.set(failing(syscall.ENOSPC, "/builds/", "open", "write"))
	r.start()
	if len(r.builds("one")) > 0 || r.log.count("recording a build", "no space") != 1 {
		t.Errorf("it was recorded")
	}
	files.set(nil)
	r.restart()
	r.ended("one", 1)
}
