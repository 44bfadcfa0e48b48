package store_test

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"testing"
	"time"

	"builder/pkg/console"
	"builder/pkg/disk"
	"builder/pkg/job"
)

// TestMemory sends much data through a store and looks at what is allocated on the
// way, which bounds what was held.
func TestMemory(t *testing.T) {
	const (
		size  = 200 << 20
		limit = 8 << 20
	)
	s := open(t, disk.OS{}, t.TempDir())
	d, err := s.Begin("large", number(1))
	if err != nil {
		t.Fatal(err)
	}
	line := bytes.Repeat([]byte("x"), 1000)
	for range 20_000 {
		if err := d.Console().Append(console.Line{Delta: time.Second, Data: line}); err != nil {
			t.Fatal(err)
		}
	}
	measure := func(what string, f func() error) {
		t.Helper()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := f(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		runtime.ReadMemStats(&after)
		if allocated := after.TotalAlloc - before.TotalAlloc; allocated > limit {
			t.Errorf("%s allocated %d octets, the limit is %d", what, allocated, limit)
		}
	}
	content := noise{0, size}.content()
	measure("delivering", func() error {
		if err := d.Offer([]job.Artifact{{Path: "offered", Content: content}}); err != nil {
			return err
		}
		in := noise{0, size}.reader()
		if err := d.Deliver(content, 0, io.MultiReader(io.LimitReader(in, size/2), failing{errBroken})); !errors.Is(err, errBroken) {
			return err
		}
		return d.Deliver(content, size/2, in)
	})
	measure("adding", func() error { return d.Add("large", 0o644, &counter{left: size}, size) })
	measure("committing", func() error {
		_, err := d.Commit(buildOf("large", 1))
		return err
	})
	measure("exporting", func() error {
		want, write, err := s.Export(number(1))
		var out counted
		if err == nil {
			err = write(&out)
		}
		if int64(out) != want || out < size {
			t.Errorf("exported %d octets, announced were %d", out, want)
		}
		return err
	})
	measure("replaying", func() error {
		count := 0
		for lines, err := range s.Lines(number(1), 0) {
			if err != nil {
				return err
			}
			count += len(lines)
		}
		if count != 20_000 {
			return errors.New("lines are missing")
		}
		return nil
	})
}

// counter is left octets, not all the same.
type counter struct {
	left int
	n    uint64
}

func (c *counter) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	p = p[:min(len(p), c.left)]
	for i := 0; i < len(p); i += 512 {
		c.n++
		p[i] = byte(c.n)
	}
	c.left -= len(p)
	return len(p), nil
}

// counted counts what is written to it.
type counted int64

func (c *counted) Write(p []byte) (int, error) {
	*c += counted(len(p))
	return len(p), nil
}
