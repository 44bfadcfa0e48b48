package server_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"builder/pkg/server"
	"builder/pkg/store"
)

// verify returns what is found in the data directory, a line each.
func (r *running) verify(repair bool) ([]string, store.Verified, error) {
	r.t.Helper()
	var found []string
	v, err := server.Verify(r.t.Context(), r.config.Dir, store.VerifyOptions{
		Repair: repair, Report: func(d store.Damage) { found = append(found, d.String()) },
	})
	return found, v, err
}

// TestVerifyBesideServer: a server that builds, and one that was halted while it
// did, has no damage; nothing is repaired beside it.
func TestVerifyBesideServer(t *testing.T) {
	r := start(t)
	r.worker("p")
	for n := range 20 {
		r.schedule(fmt.Sprint("job", n), "p", fmt.Sprintf("echo %d; echo %d > file; echo same > same", n, n))
		if found, _, err := r.verify(false); err != nil || len(found) > 0 {
			t.Fatalf("after %d jobs: %q, %v", n+1, found, err)
		}
	}
	if _, _, err := r.verify(true); err == nil || !strings.Contains(err.Error(), "stop that process first") {
		t.Errorf("repairing beside the server: %v", err)
	}
	for n := range 20 {
		r.ended(fmt.Sprint("job", n), 1)
	}
	if found, v, err := r.verify(false); err != nil || len(found) > 0 || v.Builds != 20 {
		t.Errorf("after all builds: %q, %+v, %v", found, v, err)
	}
	for n := range 5 {
		r.schedule(fmt.Sprint("late", n), "p", "echo late; sleep 0.05")
	}
	r.halt()
	if found, v, err := r.verify(true); err != nil || len(found) > 0 || v.Builds < 20 {
		t.Errorf("after a halt: %q, %+v, %v", found, v, err)
	}
}

// TestVerifySchedule: scripts of jobs that wait, and the journal itself.
func TestVerifySchedule(t *testing.T) {
	r := start(t)
	r.schedule("one", "p", "script of one")
	r.schedule("two", "p", "script of two")
	r.halt()
	if err := os.Remove(r.content("script of one")); err != nil {
		t.Fatal(err)
	}
	found, _, err := r.verify(false)
	if err != nil || len(found) != 1 || !strings.HasPrefix(found[0], "job one: script: v1/content/") {
		t.Errorf("without the script: %q, %v", found, err)
	}
	state := filepath.Join(r.config.Dir, "v1", "state")
	journals, err := filepath.Glob(filepath.Join(state, "journal-*"))
	if err != nil || len(journals) != 1 {
		t.Fatal(journals, err)
	}
	data, err := os.ReadFile(journals[0])
	if err != nil {
		t.Fatal(err)
	}
	whole := string(data)
	data[60] ^= 1
	if err := os.WriteFile(journals[0], data, 0o644); err != nil {
		t.Fatal(err)
	}
	want := "schedule: v1/state/" + filepath.Base(journals[0]) + " at offset 48: "
	if found, v, err := r.verify(false); err != nil || len(found) != 1 || !strings.HasPrefix(found[0], want) || v.Damaged != 1 {
		t.Errorf("with another journal: %q, %+v, %v, want %q", found, v, err, want)
	}
	if err := errors.Join(os.Remove(journals[0]), os.MkdirAll(filepath.Join(r.config.Dir, "v1/builds/one"), 0o755)); err != nil {
		t.Fatal(err)
	}
	if found, _, err := r.verify(false); err != nil || len(found) != 1 || !strings.Contains(found[0], "has no journal") {
		t.Errorf("without a journal: %q, %v", found, err)
	}
	if err := os.WriteFile(journals[0], []byte(whole), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestVerifyReference: a directory that only the reference has used, whole and
// not, and directories that are none.
func TestVerifyReference(t *testing.T) {
	r := configure(t)
	state, result := golden(t, "state_full"), golden(t, "exec_console")
	file := "hello/0b0bbf4b-4f8e-4a3f-9d8e-000000000001/full"
	r.reference(map[string][]byte{"state": state, file: result})
	for _, repair := range []bool{false, true} {
		if found, v, err := r.verify(repair); err != nil || len(found) > 0 || v.Builds != 1 {
			t.Errorf("whole: %q, %+v, %v", found, v, err)
		}
	}
	if _, err := os.Stat(filepath.Join(r.config.Dir, "v1")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something was made there: %v", err)
	}
	r.reference(map[string][]byte{"state": state[:len(state)/2], file: result[:len(result)/2]})
	found, _, err := r.verify(false)
	if err != nil || len(found) != 2 || !strings.HasPrefix(found[0], "schedule: state: ") || !strings.Contains(found[1], file) {
		t.Errorf("cut: %q, %v", found, err)
	}

	r.config.Dir = t.TempDir()
	if _, _, err := r.verify(false); err == nil || !strings.Contains(err.Error(), "it is no data directory") {
		t.Errorf("an empty directory: %v", err)
	}
	r.config.Dir = filepath.Join(r.config.Dir, "missing")
	if _, _, err := r.verify(true); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

// TestVerifyInterrupted: it says so.
func TestVerifyInterrupted(t *testing.T) {
	r := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := server.Verify(ctx, r.config.Dir, store.VerifyOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
