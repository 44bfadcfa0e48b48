package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"builder/pkg/client"
	"builder/pkg/job"
	"builder/pkg/wire"

	"golang.org/x/sync/errgroup"
)

// artifacts measures from the end of a script to the durable end of its build:
// artifacts go from the sandbox to the content store, hashed on both sides.
func artifacts(ctx context.Context, b *bench) ([]figure, error) {
	var figures []figure
	for _, load := range []struct {
		name  string
		files int
		size  int64
	}{
		{"one file", 1, int64(b.scale(4<<10)) << 20},
		{"10,000 files of 10 KB", b.scale(10_000), 10_000},
	} {
		dir := filepath.Join(b.dir, "input"+strconv.Itoa(load.files))
		if err := writeFiles(dir, load.files, load.size); err != nil {
			return nil, err
		}
		some, err := deliver(ctx, b, dir, load.name, int64(load.files)*load.size)
		if err != nil {
			return nil, err
		}
		figures = append(figures, some...)
		if err := os.RemoveAll(dir); err != nil {
			return nil, err
		}
	}
	return figures, nil
}

// writeFiles makes files of octets that are nowhere else.
func writeFiles(dir string, files int, size int64) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	block := make([]byte, 1<<20)
	for i := range block {
		block[i] = byte(rand.Uint32()) //nolint:gosec // just octets
	}
	for i := range files {
		f, err := os.Create(filepath.Join(dir, strconv.Itoa(i)))
		if err != nil {
			return err
		}
		for left := size; left > 0; left -= int64(len(block)) {
			binary.BigEndian.PutUint64(block, rand.Uint64()) //nolint:gosec // as above
			if _, err := f.Write(block[:min(left, int64(len(block)))]); err != nil {
				f.Close()
				return err
			}
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

// deliver has a build leave the files of dir, twice, and compares with bare loops.
func deliver(ctx context.Context, b *bench, dir, name string, size int64) (_ []figure, err error) {
	data := filepath.Join(b.dir, "data")
	defer func() { err = errors.Join(err, os.RemoveAll(data)) }()
	s, err := b.startFleet(ctx, 1)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	// Links, not copies: what the script does is not measured.
	script := fmt.Sprintf("#!/bin/sh\ncp -rl %s files\necho ready\n", dir)
	_, err = s.asking.Schedule(ctx, job.Job{Name: "files", Platform: "bench"}, []byte(script), job.Plan{Period: job.Never}, false)
	if err != nil {
		return nil, err
	}
	first, err := afterReady(ctx, s.asking, wire.Watch{What: "files"})
	if err != nil {
		return nil, err
	}
	second, pass, err := again(ctx, b, s.asking, dir)
	if err != nil {
		return nil, err
	}
	serverPeak, err := s.memory("VmHWM")
	if err != nil {
		return nil, err
	}
	workerPeak, err := memory(s.worker.Process.Pid, "VmHWM")
	if err != nil {
		return nil, err
	}
	floor, err := bareDelivery(ctx, b, dir)
	if err != nil {
		return nil, err
	}
	rate := func(d time.Duration) float64 { return float64(size) / d.Seconds() / 1e6 }
	return []figure{{
		"artifacts, " + name + ", MB/s", fmt.Sprintf("%.0f", rate(first)),
		fmt.Sprintf("%.0f (read, hash, socket, hash, write, one sync)", rate(floor)),
		fmt.Sprintf("%.2f", floor.Seconds()/first.Seconds()), ">= 0.7",
	}, {
		"the same build again", second.Round(time.Millisecond).String(),
		pass.Round(time.Millisecond).String() + " (read and hash)", fmt.Sprintf("%.2f", second.Seconds()/pass.Seconds()), "<= 1.3",
	}, {
		"peak memory, server and worker", megabytes(serverPeak) + ", " + megabytes(workerPeak), "", "", "< 64 MB each",
	}}, nil
}

// again has the build run again, in turns with the floor: the machine's speed drifts.
func again(ctx context.Context, b *bench, c *client.Client, dir string) (build, pass time.Duration, err error) {
	turns := 3
	if b.quick {
		turns = 1
	}
	var builds, passes []time.Duration
	for range turns {
		accepted, err := c.Execute(ctx, "files", "")
		if err != nil {
			return 0, 0, err
		}
		took, err := afterReady(ctx, c, wire.Watch{Run: accepted.Runs[0].ID, Job: "files"})
		if err != nil {
			return 0, 0, err
		}
		builds = append(builds, took)
		time.Sleep(time.Second) // the worker removes what the build left
		if took, err = bareHash(dir); err != nil {
			return 0, 0, err
		}
		passes = append(passes, took)
	}
	return median(builds), median(passes), nil
}

// afterReady is the time from a build's last line to its durable end.
func afterReady(ctx context.Context, c *client.Client, target wire.Watch) (time.Duration, error) {
	var ready time.Time
	var result job.Result
	var took time.Duration
	for ready.IsZero() { // until there is something to watch
		err := c.Watch(ctx, target, client.Viewer{
			Line: func(job.Line) error {
				ready = time.Now()
				return nil
			},
			End: func(build job.Build, _ bool) error {
				took, result = time.Since(ready), build.Result
				return nil
			},
		})
		var refused *client.RefusedError
		if err != nil && !errors.As(err, &refused) {
			return 0, err
		}
	}
	if !result.Success() {
		return 0, fmt.Errorf("a build %v", result)
	}
	return took, nil
}

// bareDelivery is the floor: one goroutine reads the files, hashes them and writes
// them to a socket, the other hashes what comes and writes it to files.
func bareDelivery(ctx context.Context, b *bench, dir string) (time.Duration, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	out := filepath.Join(b.dir, "floor")
	if err := os.Mkdir(out, 0o755); err != nil {
		return 0, err
	}
	defer os.RemoveAll(out) //nolint:errcheck // what is left is seen
	near, far, err := loopback(ctx)
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	var group errgroup.Group
	group.Go(func() error {
		defer near.Close()
		return sendFiles(near, dir, entries)
	})
	group.Go(func() error {
		defer far.Close()
		return receiveFiles(far, out, len(entries))
	})
	if err := group.Wait(); err != nil {
		return 0, err
	}
	if err := syncAll(out); err != nil {
		return 0, err
	}
	return time.Since(begin), nil
}

// loopback is a TCP connection of this process with itself.
func loopback(ctx context.Context) (near, far net.Conn, err error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	if near, err = new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String()); err != nil {
		return nil, nil, err
	}
	far, err = l.Accept()
	return near, far, err
}

func sendFiles(to io.Writer, dir string, entries []os.DirEntry) error {
	buffer := make([]byte, 256<<10)
	for _, entry := range entries {
		f, err := os.Open(filepath.Join(dir, entry.Name()))
		if err != nil {
			return err
		}
		info, err := f.Stat()
		if err != nil {
			return err
		}
		sum := sha256.New()
		if err := binary.Write(to, binary.BigEndian, info.Size()); err != nil {
			return err
		}
		if _, err := io.CopyBuffer(to, onlyReader{io.TeeReader(f, sum)}, buffer); err != nil {
			return err
		}
		if _, err := to.Write(sum.Sum(nil)); err != nil {
			return err
		}
		f.Close()
	}
	return nil
}

// onlyReader hides what io.Copy would take a shortcut by.
type onlyReader struct{ io.Reader }

func receiveFiles(from io.Reader, dir string, files int) error {
	buffer := make([]byte, 256<<10)
	for i := range files {
		var size int64
		if err := binary.Read(from, binary.BigEndian, &size); err != nil {
			return err
		}
		f, err := os.Create(filepath.Join(dir, strconv.Itoa(i)))
		if err != nil {
			return err
		}
		sum := sha256.New()
		if _, err := io.CopyBuffer(io.MultiWriter(f, sum), io.LimitReader(from, size), buffer); err != nil {
			return err
		}
		sent := make([]byte, sha256.Size)
		if _, err := io.ReadFull(from, sent); err != nil {
			return err
		}
		if string(sent) != string(sum.Sum(nil)) {
			return errors.New("the hashes differ")
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

// bareHash is one pass of reading and hashing, one file after the other as the
// worker does.
func bareHash(dir string) (time.Duration, error) {
	begin := time.Now()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	buffer := make([]byte, 256<<10)
	sum := sha256.New()
	for _, entry := range entries {
		f, err := os.Open(filepath.Join(dir, entry.Name()))
		if err != nil {
			return 0, err
		}
		sum.Reset()
		_, err = io.CopyBuffer(sum, onlyReader{f}, buffer)
		if err = errors.Join(err, f.Close()); err != nil {
			return 0, err
		}
		sum.Sum(nil)
	}
	return time.Since(begin), nil
}
