package store_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"builder/pkg/disk"
	"builder/pkg/store"
)

// TestJustReceived: a large content is not held to its hash again right after it came,
// but is when its file was written since, or later.
func TestJustReceived(t *testing.T) {
	const large = 1 << 20
	for name, test := range map[string]struct {
		size    int
		written bool // at a time that can be told
		later   time.Duration
		want    error
	}{
		"large, at once":          {large, false, 9 * time.Minute, nil},
		"large, written to":       {large, true, 0, store.ErrDamaged},
		"large, after some time":  {large, false, 11 * time.Minute, store.ErrDamaged},
		"not so large, at once":   {large - 1, false, 0, store.ErrDamaged},
		"not so large, but later": {large - 1, false, 11 * time.Minute, store.ErrDamaged},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				s := open(t, disk.OS{}, dir)
				defer s.Close()
				c, err := s.Put(bytes.NewReader(make([]byte, test.size)))
				if err != nil {
					t.Fatal(err)
				}
				changeOctet(t, filepath.Join(dir, "v1", "content", c.String()[:2], c.String()), test.written)
				time.Sleep(test.later)
				in, err := s.OpenChecked(c)
				if err != nil {
					t.Fatal(err)
				}
				defer in.Close()
				if _, err := io.Copy(io.Discard, in); !errors.Is(err, test.want) {
					t.Errorf("got %v, expected %v", err, test.want)
				}
			})
		})
	}
}

// changeOctet changes one octet of a file; unless it is to be told, its time stays.
func changeOctet(t *testing.T, name string, told bool) {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte{1}, 7)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	changed := info.ModTime()
	if told {
		changed = changed.Add(time.Nanosecond)
	}
	if err := os.Chtimes(name, time.Time{}, changed); err != nil {
		t.Fatal(err)
	}
}
