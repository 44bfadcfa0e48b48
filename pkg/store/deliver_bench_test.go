package store_test

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"builder/pkg/disk"
	"builder/pkg/job"
	"builder/pkg/store"
)

// noise is size octets from memory that differ by seed. It can be read again.
type noise struct {
	seed uint64
	size int64
}

var block = []byte(random(1 << 20))

func (n noise) reader() io.Reader { return io.LimitReader(&noisy{n: n.seed}, n.size) }

// noisy repeats the block, each time with another number in front.
type noisy struct {
	n  uint64
	at int
}

func (r *noisy) Read(p []byte) (int, error) {
	size := copy(p, block[r.at:])
	if r.at == 0 {
		binary.BigEndian.PutUint64(p[:8], r.n)
		r.n++
	}
	r.at = (r.at + size) % len(block)
	return size, nil
}

func (n noise) content() job.Content {
	c := job.Content{Size: n.size}
	sum := sha256.New()
	io.Copy(sum, n.reader())
	sum.Sum(c.SHA256[:0])
	return c
}

// BenchmarkDeliverLarge is a build with one artifact of 1 GiB (DELIVER_LARGE
// octets), from its offer to its commit.
func BenchmarkDeliverLarge(b *testing.B) {
	s, size := open(b, disk.OS{}, b.TempDir()), large(b)
	b.SetBytes(size)
	for n := 0; b.Loop(); n++ {
		b.StopTimer()
		in := noise{uint64(n) << 32, size}
		c := in.content()
		b.StartTimer()
		deliverBuild(b, s, n, []job.Artifact{{Path: "large", Content: c}}, func(int) io.Reader { return in.reader() })
	}
}

// BenchmarkPlainLarge is what that can not be cheaper than: read, hash, write, one
// sync.
func BenchmarkPlainLarge(b *testing.B) {
	dir, size := b.TempDir(), large(b)
	b.SetBytes(size)
	for n := 0; b.Loop(); n++ {
		f, err := os.Create(filepath.Join(dir, fmt.Sprint(n)))
		if err != nil {
			b.Fatal(err)
		}
		sum := sha256.New()
		if _, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(f, sum)}, noise{uint64(n) << 32, size}.reader(), make([]byte, 128<<10)); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
}

func large(b *testing.B) int64 {
	size := int64(1 << 30)
	if set := os.Getenv("DELIVER_LARGE"); set != "" {
		if _, err := fmt.Sscan(set, &size); err != nil {
			b.Fatal(err)
		}
	}
	return size
}

const (
	manyFiles = 10_000
	smallSize = 10 << 10
)

func smallOnes(n int) (all []noise) {
	for i := range manyFiles {
		all = append(all, noise{uint64(n)<<32 + uint64(i), smallSize})
	}
	return all
}

// BenchmarkDeliverSmall is a build with 10,000 artifacts of 10 KB.
func BenchmarkDeliverSmall(b *testing.B) {
	s := open(b, disk.OS{}, b.TempDir())
	b.SetBytes(manyFiles * smallSize)
	for n := 0; b.Loop(); n++ {
		b.StopTimer()
		all := smallOnes(n)
		var artifacts []job.Artifact
		for i, in := range all {
			artifacts = append(artifacts, job.Artifact{Path: fmt.Sprint(i), Content: in.content()})
		}
		b.StartTimer()
		deliverBuild(b, s, n, artifacts, func(i int) io.Reader { return all[i].reader() })
	}
}

// BenchmarkPlainSmall creates and writes 10,000 files of 10 KB and syncs once.
func BenchmarkPlainSmall(b *testing.B) {
	dir := b.TempDir()
	b.SetBytes(manyFiles * smallSize)
	buffer := make([]byte, smallSize)
	for n := 0; b.Loop(); n++ {
		sub := filepath.Join(dir, fmt.Sprint(n))
		if err := os.Mkdir(sub, 0o755); err != nil {
			b.Fatal(err)
		}
		for i, in := range smallOnes(n) {
			if _, err := io.ReadFull(in.reader(), buffer); err != nil {
				b.Fatal(err)
			}
			sha256.Sum256(buffer)
			if err := os.WriteFile(filepath.Join(sub, fmt.Sprint(i)), buffer, 0o644); err != nil {
				b.Fatal(err)
			}
		}
		if barrier, err := (disk.OS{}).OpenBarrier(dir); err != nil || barrier.Sync() != nil {
			b.Skipf("no barrier here: %v", err)
		}
	}
}

func deliverBuild(b *testing.B, s *store.Store, n int, artifacts []job.Artifact, open func(i int) io.Reader) {
	b.Helper()
	d, err := s.Begin("hello", number(n))
	if err != nil {
		b.Fatal(err)
	}
	offer(b, d, artifacts)
	for i, w := range d.Lacking() {
		if err := d.Deliver(w.Content, w.Offset, open(i)); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := d.Commit(buildOf("hello", n)); err != nil {
		b.Fatal(err)
	}
}
