package store_test

import (
	"errors"
	"testing"

	"builder/pkg/disk"
	"builder/pkg/store"
)

// TestRecordSize grows with the artifacts.
func TestRecordSize(t *testing.T) {
	s := open(t, disk.OS{}, scratch(t))
	mustCommit(t, s, buildOf("alpha", 1), []string{"a line"}, nil)
	mustCommit(t, s, buildOf("alpha", 2), nil, []file{{"one", "content"}, {"two", "content"}})
	small, err := s.RecordSize(number(1))
	if err != nil || small <= 0 {
		t.Errorf("without artifacts: %d, %v", small, err)
	}
	if large, err := s.RecordSize(number(2)); err != nil || large <= small {
		t.Errorf("with artifacts: %d, %v; without %d", large, err, small)
	}
	if _, err := s.RecordSize(number(3)); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("of no build: %v", err)
	}
}
