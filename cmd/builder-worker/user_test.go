package main

import (
	"os"
	"strings"
	"testing"

	"builder/pkg/sandbox"
	"builder/pkg/worker"

	"github.com/rs/zerolog"
)

// TestClaim: an account is one worker's, until that ends.
func TestClaim(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, whose workers know of each other")
	}
	const account = "irc" // nothing is run as it
	if _, err := sandbox.LookupAccount(account); err != nil {
		t.Skip(err)
	}
	kind := &user{runAs: []string{account}}
	open := func(trial bool) (closingSandbox, error) {
		dir, err := worker.OpenDirectory(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { dir.Close() })
		return kind.open(t.Context(), site{dir: dir, slots: 0, log: zerolog.Nop(), trial: trial})
	}
	for range 2 {
		first, err := open(false)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := open(false); err == nil || !strings.Contains(err.Error(), "account "+account+" can not be had") {
			t.Errorf("had twice: %v", err)
		}
		if trial, err := open(true); err != nil || trial.Close() != nil {
			t.Errorf("a trial: %v", err)
		}
		if err := first.Close(); err != nil {
			t.Error(err)
		}
	}
}
