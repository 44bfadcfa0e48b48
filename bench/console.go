package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"builder/pkg/client"
	"builder/pkg/job"
	"builder/pkg/wire"

	"golang.org/x/sync/errgroup"
)

// consoleLines measures a job that prints many lines, with one observer.
func consoleLines(ctx context.Context, b *bench) ([]figure, error) {
	n := b.scale(1_000_000)
	printer := fmt.Sprintf("#!/bin/sh\nyes %s | head -n %d\n", strings.Repeat("x", 100), n)
	took, peak, err := observed(ctx, b, printer, n)
	if err != nil {
		return nil, err
	}
	floor, err := bareConsole(ctx, b, printer, n)
	if err != nil {
		return nil, err
	}
	here, bare := perSecond(n, took), perSecond(n, floor)
	return []figure{{
		"console lines of 100 octets, one observer, lines/s", fmt.Sprintf("%.0f", here),
		fmt.Sprintf("%.0f (read a pipe, frame, socket pair, append to a file)", bare),
		fmt.Sprintf("%.2f", here/bare), ">= 0.5",
	}, {
		"peak memory of the server meanwhile", megabytes(peak), "259 MB for a fifth of the lines (robur's builder)", "", "< 64 MB",
	}, {
		"the same, to robur's builder", fmt.Sprintf("%.0f", here), "153846", fmt.Sprintf("%.1f", here*1.3/200_000), "",
	}}, nil
}

// observed takes the time from the request to the observer's last line.
func observed(ctx context.Context, b *bench, script string, n int) (took time.Duration, peak int64, err error) {
	s, err := b.startFleet(ctx, 1)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	begin := time.Now()
	accepted, err := s.asking.Schedule(ctx, job.Job{Name: "printer", Platform: "bench"}, []byte(script), job.Plan{Period: job.Never}, false)
	if err != nil {
		return 0, 0, err
	}
	lines := 0
	err = s.asking.Watch(ctx, wire.Watch{Run: accepted.Runs[0].ID, Job: "printer"}, client.Viewer{Line: func(line job.Line) error {
		if line.Flags&job.Partial == 0 {
			if lines++; lines == n {
				took = time.Since(begin)
			}
		}
		return nil
	}})
	if err == nil && lines != n {
		err = fmt.Errorf("the observer saw %d lines of %d", lines, n)
	}
	if err != nil {
		return 0, 0, err
	}
	peak, err = s.memory("VmHWM")
	return took, peak, err
}

// bareConsole is the floor: one goroutine reads the pipe line by line and frames
// each into a socket, the other reads the frames and appends them to a file.
func bareConsole(ctx context.Context, b *bench, script string, n int) (time.Duration, error) {
	ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return 0, err
	}
	near, far := os.NewFile(uintptr(ends[0]), "near"), os.NewFile(uintptr(ends[1]), "far")
	defer far.Close()
	file, err := os.Create(filepath.Join(b.dir, "floor"))
	if err != nil {
		return 0, err
	}
	defer file.Close()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", script)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	var group errgroup.Group
	group.Go(func() error {
		defer near.Close()
		return frameLines(out, near)
	})
	group.Go(func() error { return appendFrames(far, file, n) })
	if err := group.Wait(); err != nil {
		return 0, err
	}
	return time.Since(begin), cmd.Wait()
}

func frameLines(in io.Reader, out io.Writer) error {
	lines, w := bufio.NewReaderSize(in, 64<<10), bufio.NewWriterSize(out, 64<<10)
	for {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return w.Flush()
		}
		if err != nil {
			return err
		}
		var header [8]byte
		binary.BigEndian.PutUint64(header[:], uint64(len(line)))
		w.Write(header[:]) //nolint:errcheck // sticky
		if _, err := w.Write(line); err != nil {
			return err
		}
	}
}

func appendFrames(in io.Reader, out io.Writer, n int) error {
	r, w := bufio.NewReaderSize(in, 64<<10), bufio.NewWriterSize(out, 64<<10)
	var line [4096]byte
	for range n {
		var header [8]byte
		if _, err := io.ReadFull(r, header[:]); err != nil {
			return err
		}
		data := line[:binary.BigEndian.Uint64(header[:])]
		if _, err := io.ReadFull(r, data); err != nil {
			return err
		}
		if _, err := w.Write(data); err != nil {
			return err
		}
	}
	return w.Flush()
}
