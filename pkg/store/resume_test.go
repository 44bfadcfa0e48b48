package store_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"builder/pkg/console"
	"builder/pkg/disk"
	"builder/pkg/job"
	"builder/pkg/store"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
)

// TestResumedOffer: what came before a restart is there for the same offer, and
// what was damaged meanwhile comes again, without blame.
func TestResumedOffer(t *testing.T) {
	whole, part, bad, long := random(3<<20), random(3<<20+1), random(300), random(200)
	files := []file{{"whole", whole}, {"part", part}, {"bad", bad}, {"long", long}, {"new", "new"}}
	for name, end := range map[string]func(*store.Draft) error{
		"killed":    func(*store.Draft) error { return nil },
		"suspended": (*store.Draft).Suspend,
	} {
		t.Run(name, func(t *testing.T) {
			dir := scratch(t)
			s := open(t, disk.OS{}, dir)
			id := number(1)
			d := begin(t, s, 1)
			if err := fill(d, []string{"one", "two"}, nil); err != nil {
				t.Fatal(err)
			}
			if err := d.Console().Flush(); err != nil {
				t.Fatal(err)
			}
			offer(t, d, offered(files...))
			mustDeliver(t, d, whole)
			for data, to := range map[string]int{part: 2<<20 + 7, bad: 100, long: 100} {
				if err := deliver(d, data, 0, to); !errors.Is(err, errBroken) {
					t.Fatal(err)
				}
			}
			if err := end(d); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			spoil := func(data, with string) {
				c := job.ContentOf([]byte(data))
				if err := os.WriteFile(filepath.Join(dir, "v1/tmp", fmt.Sprintf("%v-%v-%d", id, c, c.Size)), []byte(with), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			spoil(bad, strings.Repeat("x", 100))
			spoil(long, long+"x")

			s, err := store.Open(disk.OS{}, dir, func(of uuid.UUID) bool { return of == id }, zerolog.Nop())
			if err != nil {
				t.Fatal(err)
			}
			if _, ok, err := s.Recorded("hello", id); ok || err != nil {
				t.Fatalf("it is recorded: %v", err)
			}
			d, err = s.Resume("hello", id)
			if err != nil {
				t.Fatal(err)
			}
			if n := d.Console().Lines(); n != 2 {
				t.Errorf("resumed at line %d, want 2", n)
			}
			if err := d.Console().Append(console.Line{Data: []byte("three")}); err != nil {
				t.Fatal(err)
			}
			offer(t, d, offered(files...))
			lacks(t, d, wanted(whole, len(whole)), wanted(part, 2<<20+7), wanted(bad, 100), wanted(long, 0), wanted("new", 0))
			for _, w := range d.Lacking() {
				for _, f := range files {
					if w.Content != job.ContentOf([]byte(f.data)) {
						continue
					}
					if err := deliver(d, f.data, int(w.Offset), len(f.data)); err != nil && (f.path != "bad" || !errors.Is(err, store.ErrMismatch)) {
						t.Errorf("%s: %v", f.path, err)
					}
				}
			}
			// The first mismatch was not the worker's.
			if err := d.Deliver(job.ContentOf([]byte(bad)), 0, strings.NewReader(long+long[:100])); !errors.Is(err, store.ErrMismatch) {
				t.Error(err)
			}
			lacks(t, d, wanted(bad, 0))
			mustDeliver(t, d, bad)
			if _, err := d.Commit(buildOf("hello", 1)); err != nil {
				t.Fatal(err)
			}
			k := kept{build: buildOf("hello", 1), lines: []string{"one", "two", "three"}, files: files}
			if err := k.check(s); err != nil {
				t.Error(err)
			}
			isEmpty(t, dir)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestOfferIsSwept: what came for a build goes with it, however it ends.
func TestOfferIsSwept(t *testing.T) {
	for name, end := range map[string]func(d *store.Draft) error{
		"abandoned":                             (*store.Draft).Abandon,
		"discarded":                             (*store.Draft).Discard,
		"ended by a server that heard no offer": func(d *store.Draft) error { return nil },
		"not running at the next start":         nil,
	} {
		t.Run(name, func(t *testing.T) {
			dir := scratch(t)
			s := open(t, disk.OS{}, dir)
			d := begin(t, s, 1)
			offer(t, d, offered(file{"a", "whole"}, file{"b", "partly"}))
			mustDeliver(t, d, "whole")
			if err := deliver(d, "partly", 0, 3); !errors.Is(err, errBroken) {
				t.Fatal(err)
			}
			running := end != nil
			if running {
				if err := end(d); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s, err := store.Open(disk.OS{}, dir, func(uuid.UUID) bool { return running }, zerolog.Nop())
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if running {
				d, err := s.Resume("hello", number(1))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := d.Commit(buildOf("hello", 1)); err != nil {
					t.Fatal(err)
				}
			}
			isEmpty(t, dir)
		})
	}
}
