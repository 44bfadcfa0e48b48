package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"builder/pkg/store"

	"golang.org/x/sync/errgroup"
)

// verify measures builder-server verify. The floor makes the hashes of all contents,
// as many at a time. Nothing of the files is in memory before either.
func verify(ctx context.Context, b *bench) ([]figure, error) {
	const (
		builds   = 8
		contents = 64
	)
	size := int64(b.scale(10<<10)) << 20 / (builds * contents)
	err := b.fillStore(ctx, builds, 1, func(d *store.Draft, n int) error {
		for i := range contents {
			noise := rand.NewChaCha8([32]byte{byte(n), byte(i)})
			if err := d.Add("file"+strconv.Itoa(i), 0o644, noise, size); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	data := filepath.Join(b.dir, "data")
	if err := syncAll(data); err != nil { // only what is on the disk can be forgotten
		return nil, err
	}
	var here, floor time.Duration
	for range 2 { // in turns: the machine's speed drifts
		if err := eachFile(data, forget); err != nil {
			return nil, err
		}
		begin := time.Now()
		cmd := exec.CommandContext(ctx, filepath.Join(b.bin, "builder-server"), "verify", "--dir", data)
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("verifying: %w\n%s", err, out)
		}
		here += time.Since(begin)
		if err := eachFile(data, forget); err != nil {
			return nil, err
		}
		took, err := hashAll(filepath.Join(data, "v1", "content"))
		if err != nil {
			return nil, err
		}
		floor += took
	}
	total := size * builds * contents
	rate := func(d time.Duration) string { return fmt.Sprintf("%.0f", 2*float64(total)/d.Seconds()/1e6) }
	return []figure{{
		fmt.Sprintf("verify of %d MiB, MB/s", total>>20), rate(here),
		fmt.Sprintf("%s (read, hash, %d at a time)", rate(floor), runtime.GOMAXPROCS(0)),
		fmt.Sprintf("%.2f", floor.Seconds()/here.Seconds()), ">= 0.9",
	}}, nil
}

// hashAll is the floor.
func hashAll(dir string) (time.Duration, error) {
	begin := time.Now()
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	err := eachFile(dir, func(name string) error {
		group.Go(func() error {
			f, err := os.Open(name)
			if err != nil {
				return err
			}
			defer f.Close()
			sum := sha256.New()
			if _, err := io.CopyBuffer(sum, onlyReader{f}, make([]byte, 256<<10)); err != nil {
				return err
			}
			sum.Sum(nil)
			return nil
		})
		return nil
	})
	return time.Since(begin), errors.Join(err, group.Wait())
}

// eachFile calls visit for each file below dir, in the order of their names.
func eachFile(dir string, visit func(name string) error) error {
	return filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		return visit(name)
	})
}
