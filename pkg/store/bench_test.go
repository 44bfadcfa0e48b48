package store_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"builder/pkg/console"
	"builder/pkg/disk"
	"builder/pkg/job"
	"builder/pkg/store"

	"github.com/google/uuid"
)

var twoLines = []console.Line{{Data: []byte("hello")}, {Data: []byte("world")}}

func commitTrivial(b *testing.B, s *store.Store, n int) {
	id := number(n)
	d, err := s.Begin("hello", id)
	if err != nil {
		b.Fatal(err)
	}
	if err := d.Console().Append(twoLines...); err != nil {
		b.Fatal(err)
	}
	if _, err := d.Commit(buildOf("hello", n)); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkCommit is a build with two lines and no artifact, from Begin to Commit.
func BenchmarkCommit(b *testing.B) {
	s := open(b, disk.OS{}, b.TempDir())
	n := 0
	for b.Loop() {
		n++
		commitTrivial(b, s, n)
	}
}

// BenchmarkTwoAppends is what a build can not be cheaper than.
func BenchmarkTwoAppends(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	data := make([]byte, 200)
	for b.Loop() {
		for range 2 {
			if _, err := f.Write(data); err != nil {
				b.Fatal(err)
			}
			if err := f.Sync(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkCommitArtifact is a build with an artifact of 16 MiB.
func BenchmarkCommitArtifact(b *testing.B) {
	s := open(b, disk.OS{}, b.TempDir())
	const size = 16 << 20
	b.SetBytes(size)
	n := 0
	for b.Loop() {
		n++
		d, err := s.Begin("hello", number(n))
		if err != nil {
			b.Fatal(err)
		}
		if err := d.Add("large", 0o644, io.LimitReader(&zeroes{byte(n)}, size), size); err != nil {
			b.Fatal(err)
		}
		if _, err := d.Commit(buildOf("hello", n)); err != nil {
			b.Fatal(err)
		}
	}
}

type zeroes struct{ first byte }

func (z *zeroes) Read(p []byte) (int, error) {
	clear(p)
	p[0] = z.first
	return len(p), nil
}

// BenchmarkRebuild is a start without an index, with 5,000 builds.
func BenchmarkRebuild(b *testing.B) {
	dir := b.TempDir()
	s := open(b, disk.OS{}, dir)
	for n := range 5000 {
		commitTrivial(b, s, n)
	}
	s.Close()
	for b.Loop() {
		removeIndex(b, dir)
		open(b, disk.OS{}, dir).Close()
	}
}

func having(s *store.Store, c job.Content, want int) error {
	n, err := s.Having(c.SHA256, 150)
	if err == nil && n != want {
		err = fmt.Errorf("%d found, want %d", n, want)
	}
	return err
}

// BenchmarkManyArtifacts is what a build with 100,000 of them costs the index.
func BenchmarkManyArtifacts(b *testing.B) {
	s := open(b, disk.OS{}, b.TempDir())
	artifacts := make([]job.Artifact, 100_000)
	n := 0
	for b.Loop() {
		n++
		for i := range artifacts {
			artifacts[i].Content = job.ContentOf(fmt.Append(nil, n, i))
		}
		build := buildOf("hello", n)
		build.Artifacts = artifacts
		s.AddToIndex(build)
		if _, err := s.Find(job.ContentOf(nil).SHA256, 1); err != nil { // waits for it
			b.Fatal(err)
		}
	}
}

// BenchmarkLarge is what is asked of an index of 100,000 builds of 100 jobs. (Of
// their directories there is none, so a start would empty it.)
func BenchmarkLarge(b *testing.B) {
	s := open(b, disk.OS{}, b.TempDir())
	ids := make([]uuid.UUID, 100_000)
	for n := range ids {
		build := buildOf(fmt.Sprintf("job%d", n%100), n)
		build.UUID = uuid.New()
		ids[n] = build.UUID
		build.Result = job.Result{}
		// One artifact of its own, one that all have.
		build.Artifacts = []job.Artifact{{Path: "bin/x", Content: job.ContentOf(build.UUID[:])}, {Path: "LICENSE", Content: job.ContentOf(nil)}}
		s.AddToIndex(build)
	}
	if _, err := s.Build(uuid.Nil); err == nil { // waits for the index
		b.Fatal("found what is not there")
	}
	for name, ask := range map[string]func() error{
		"list": func() error {
			_, err := s.List("", 50)
			return err
		},
		"list-job": func() error {
			_, err := s.List("job7", 50)
			return err
		},
		"resolve": func() error {
			_, err := s.Resolve(ids[500].String()[:10])
			return err
		},
		"latest-success": func() error {
			_, err := s.LatestSuccess("job7", "")
			return err
		},
		// Without their records: the index alone.
		"find-one": func() error { return having(s, job.ContentOf(ids[500][:]), 1) },
		"find-all": func() error { return having(s, job.ContentOf(nil), 150) },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := ask(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("check", func(b *testing.B) {
		for b.Loop() {
			var ok string
			if err := s.Database().QueryRow("PRAGMA quick_check(1)").Scan(&ok); err != nil || ok != "ok" {
				b.Fatal(ok, err)
			}
		}
	})
}
