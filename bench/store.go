package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"builder/pkg/job"
	"builder/pkg/remote/remotetest"
	"builder/pkg/wire"

	"golang.org/x/sync/errgroup"
)

const (
	// smallOctets is the size of a small content.
	smallOctets = 1000
	// putsAtOnce, askedFirst and askedEach are how a worker does it: so many at a
	// time; it asks for the first, and then for one of so many.
	putsAtOnce, askedFirst, askedEach = 8, 20, 16
)

// storePuts measures how long a worker takes to put the contents of a build into nginx,
// by its own log. The floor makes the same requests.
func storePuts(ctx context.Context, b *bench) (_ []figure, err error) {
	contents := b.scale(10_000)
	name := fmt.Sprintf("%d contents of %d octets into nginx, contents/s", contents, smallOctets)
	nginx, err := remotetest.StartNginx(ctx, remotetest.Options{Dir: b.dir})
	if errors.Is(err, remotetest.ErrNotInstalled) {
		return []figure{{name, "not measured: " + err.Error(), "", "", ">= 0.8"}}, nil
	}
	if err != nil {
		return nil, err
	}
	defer nginx.Stop()
	auth := filepath.Join(b.dir, "auth")
	if err := os.WriteFile(auth, []byte(remotetest.User+":"+remotetest.Password+"\n"), 0o600); err != nil {
		return nil, err
	}
	flags := []string{"--store", nginx.URL, "--store-auth-file", auth}
	s, err := b.startFleet(ctx, 0, flags...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	w, err := b.startPutter(ctx, s.server, flags)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.stop()) }()
	var here, floor []time.Duration
	for i := range 3 { // in turns: the machine's speed drifts
		input, other := filepath.Join(b.dir, "input"+strconv.Itoa(i)), filepath.Join(b.dir, "other"+strconv.Itoa(i))
		if err := errors.Join(writeFiles(input, contents, smallOctets), writeFiles(other, contents, smallOctets)); err != nil {
			return nil, err
		}
		took, err := w.build(ctx, s, input, contents)
		if err != nil {
			return nil, err
		}
		here = append(here, took)
		if took, err = barePuts(ctx, nginx.URL, other); err != nil {
			return nil, err
		}
		floor = append(floor, took)
	}
	ours, bare := perSecond(contents, median(here)), perSecond(contents, median(floor))
	return []figure{{
		name, fmt.Sprintf("%.0f", ours),
		fmt.Sprintf("%.0f (read, the same requests, %d at a time)", bare, putsAtOnce),
		fmt.Sprintf("%.2f", ours/bare), ">= 0.8",
	}}, nil
}

// putter is a worker with a store, which tells how long it took to put.
type putter struct {
	cmd  *exec.Cmd
	puts chan put
}

// put is what the log of a worker has of a build.
type put struct {
	Message          string
	Contents, Failed int
	Dur              float64 // seconds
}

func (b *bench) startPutter(ctx context.Context, s *server, flags []string) (*putter, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(b.bin, "builder-worker"),
		append(flags, "-r", s.address, "--persistent", "--dir", filepath.Join(b.dir, "worker"), "bench")...)
	log, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	w := &putter{cmd, make(chan put, 1)}
	go func() {
		defer close(w.puts)
		for lines := bufio.NewScanner(log); lines.Scan(); {
			var entry put
			if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Message == "contents were put into the store" {
				w.puts <- entry
			}
		}
	}()
	return w, nil
}

func (w *putter) stop() error {
	w.cmd.Process.Signal(os.Interrupt) //nolint:errcheck // it is gone then
	for range w.puts {
	}
	return w.cmd.Wait()
}

// build has a build leave the files of dir, and returns how long it took to put them.
func (w *putter) build(ctx context.Context, f *fleet, dir string, contents int) (time.Duration, error) {
	name := filepath.Base(dir)
	// Links, not copies: after many inodes were removed, new ones are made slowly.
	script := fmt.Sprintf("#!/bin/sh\ncp -rl %s files\necho ready\n", dir)
	_, err := f.asking.Schedule(ctx, job.Job{Name: name, Platform: "bench"}, []byte(script), job.Plan{Period: job.Never}, false)
	if err != nil {
		return 0, err
	}
	if _, err := afterReady(ctx, f.asking, wire.Watch{What: name}); err != nil {
		return 0, err
	}
	p, ok := <-w.puts
	if !ok || p.Contents != contents || p.Failed > 0 {
		return 0, fmt.Errorf("the worker put %d contents, and could not put %d", p.Contents, p.Failed)
	}
	return time.Duration(p.Dur * float64(time.Second)), nil
}

// barePuts is the floor.
func barePuts(ctx context.Context, url, dir string) (time.Duration, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	addresses := make([]string, len(entries))
	for i, entry := range entries {
		data, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return 0, err
		}
		hash := job.ContentOf(data).String()
		addresses[i] = url + "/" + hash[:2] + "/" + hash
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: putsAtOnce}}
	defer client.CloseIdleConnections()
	begin := time.Now()
	var group errgroup.Group
	group.SetLimit(putsAtOnce)
	for i, entry := range entries {
		group.Go(func() error {
			if i < askedFirst || i%askedEach == 0 {
				if err := request(ctx, client, http.MethodHead, addresses[i], nil, http.StatusNotFound); err != nil {
					return err
				}
			}
			data, err := os.ReadFile(filepath.Join(dir, entry.Name()))
			if err != nil {
				return err
			}
			return request(ctx, client, http.MethodPut, addresses[i], data, http.StatusCreated)
		})
	}
	err = group.Wait()
	return time.Since(begin), err
}

func request(ctx context.Context, client *http.Client, method, address string, data []byte, status int) error {
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(data))
	if err != nil {
		return err
	}
	req.SetBasicAuth(remotetest.User, remotetest.Password)
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != status {
		return fmt.Errorf("%s: %s", method, resp.Status)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
