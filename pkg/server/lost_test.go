package server_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"builder/pkg/server"

	"github.com/google/go-cmp/cmp"
)

// TestLostJournal: builds without a journal are not taken for a new server's.
func TestLostJournal(t *testing.T) {
	r := start(t)
	r.worker("p")
	r.schedule("one", "p", "true")
	r.ended("one", 1)
	r.halt()
	state := filepath.Join(r.config.Dir, "v1", "state")
	for _, lost := range []string{onlyFile(t, state), state} {
		if err := os.Remove(lost); err != nil {
			t.Fatal(err)
		}
		before := readTree(t, r.config.Dir)
		s, err := server.Open(r.config)
		if err == nil {
			s.Close()
			t.Fatalf("without %s it begins with an empty schedule", lost)
		}
		if !strings.Contains(err.Error(), state) || !strings.Contains(err.Error(), "backup") {
			t.Errorf("without %s: %v", lost, err)
		}
		if diff := cmp.Diff(before, readTree(t, r.config.Dir)); diff != "" {
			t.Errorf("without %s it changed the directory (-before +after):\n%s", lost, diff)
		}
	}
}

// TestCutJournal: what Open cuts off is told.
func TestCutJournal(t *testing.T) {
	r := start(t)
	r.schedule("one", "p", "true")
	r.halt()
	file := onlyFile(t, filepath.Join(r.config.Dir, "v1", "state"))
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, info.Size()-3); err != nil {
		t.Fatal(err)
	}
	r.start()
	if r.log.count("torn write", file) != 1 {
		t.Error("the log does not tell of the cut")
	}
}

// onlyFile is the path of the one file in dir.
func onlyFile(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%v, %v", entries, err)
	}
	return filepath.Join(dir, entries[0].Name())
}
