package worker_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"builder/pkg/job"
	"builder/pkg/sandbox"
	"builder/pkg/wire"
	"builder/pkg/worker"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
)

// keeps waits until the places of those builds are kept, by their letters in the order
// of ids, and no other place is left.
func keeps(t *testing.T, path string, ids []uuid.UUID, want string) {
	t.Helper()
	wait(t, "kept: "+want, func() bool {
		got := ""
		for i, id := range ids {
			if _, err := os.Lstat(filepath.Join(path, "kept", id.String())); err == nil {
				got += string(rune('a' + i))
			}
		}
		places, err := os.ReadDir(filepath.Join(path, "builds"))
		return got == want && err == nil && len(places) == len(want)
	})
}

// enter runs a command in the place that a note tells of.
func enter(t *testing.T, notes []string, command string) string {
	t.Helper()
	if len(notes) == 0 {
		t.Fatal("no note tells how to enter the place")
	}
	_, how, found := strings.Cut(notes[len(notes)-1], "to enter it: ")
	cmd := exec.CommandContext(t.Context(), "sh", "-c", how+" -c '"+command+"'")
	cmd.Env = append(os.Environ(), "SHELL=/bin/sh")
	out, err := cmd.CombinedOutput()
	if !found || err != nil {
		t.Errorf("notes %q: %v", notes, err)
	}
	return string(out)
}

// TestKeepFailed: the latest places of failed builds are kept, over restarts of the
// worker, too; those of others are not.
func TestKeepFailed(t *testing.T) {
	path := t.TempDir()
	var ids []uuid.UUID
	var last *ended
	t.Run("kept", func(t *testing.T) {
		s := newScripted(t, false)
		w := workIn(t, path, s, func(c *worker.Config) { c.KeepFailed, c.Name = 2, "here" })
		w.leaves = true
		c := s.accept()
		for _, script := range []string{"exit 1", "exit 0", "echo x >file; kill $$", "exit 2", "cancelled"} {
			c.until(func() bool { return c.wishes > 0 })
			if script == "cancelled" {
				id := c.start("echo; sleep 1000")
				c.until(func() bool { return len(s.build(id).lines) > 0 })
				c.send(wire.Stop{UUID: id, Result: job.Failure(job.Cancelled, "by a person")})
				ids = append(ids, id)
			} else {
				ids = append(ids, c.start(script))
			}
			if e := c.store(ids[len(ids)-1]); script == "echo x >file; kill $$" {
				last = e
			}
			if script != "exit 0" && script != "cancelled" { // the next one is kept after it
				waitFile(t, filepath.Join(path, "kept", ids[len(ids)-1].String()))
			}
		}
		w.stored(t)
		keeps(t, path, ids, "cd")
		if got := enter(t, last.notes, "cat file; echo $BUILDER_JOB"); got != "x\none\n" {
			t.Errorf("found in the place: %q", got)
		}
	})
	t.Run("restarted", func(t *testing.T) {
		s := newScripted(t, false)
		w := workIn(t, path, s)
		w.leaves = true
		c := s.accept()
		c.store(c.start("exit 1")) // not kept: it is not wished any more
		w.stored(t)
		keeps(t, path, ids, "cd")
	})
	t.Run("swept", func(t *testing.T) {
		dir, box := openPlaces(t, path)
		defer dir.Close()
		defer box.Close()
		// What a worker leaves that is killed when it makes a spool, or removes one.
		for _, name := range []string{uuid.NewString(), uuid.NewString() + ".0"} {
			if err := os.WriteFile(filepath.Join(path, "spool", name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for _, test := range []struct {
			all  bool
			want string
		}{{false, "cd"}, {true, ""}} {
			if err := worker.Sweep(dir, box, test.all, zerolog.Nop()); err != nil {
				t.Error(err)
			}
			keeps(t, path, ids, test.want)
			if left, err := os.ReadDir(filepath.Join(path, "spool")); err != nil || len(left) > 0 {
				t.Errorf("the spool has %v, %v", left, err)
			}
		}
	})
}

// openPlaces opens the directory of a worker that does not run, and its places.
func openPlaces(t testing.TB, path string) (*worker.Directory, *sandbox.Plain) {
	t.Helper()
	dir, err := worker.OpenDirectory(path)
	if err != nil {
		t.Fatal(err)
	}
	box, err := sandbox.NewPlain(dir.Builds(), 0)
	if err != nil {
		t.Fatal(errors.Join(err, dir.Close()))
	}
	return dir, box
}
