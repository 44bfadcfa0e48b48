package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"builder/pkg/program"
	"builder/pkg/sandbox"
	"builder/pkg/worker"
)

// TestMain lets the test binary be the worker, and its supervisor.
func TestMain(m *testing.M) {
	if os.Getenv("BUILDER_WORKER_TEST") != "" || sandbox.IsSupervisor() {
		main()
		return
	}
	os.Exit(m.Run())
}

// nobody is an address at which nothing listens.
func nobody(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestAway: a server that can not be reached has a status of its own.
func TestAway(t *testing.T) {
	told := capture(t, func() int {
		cmd := command()
		cmd.SetArgs([]string{"p", "-r", nobody(t), "--max-retries", "1", "--max-delay", "1s"})
		return program.Main(t.Context(), cmd)
	}, 75)
	if !strings.Contains(told, "can not be reached") || !strings.Contains(told, "no --dir") {
		t.Errorf("told %q", told)
	}
}

// TestShutdownFile: a file that appears, or changes, ends the worker.
func TestShutdownFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "stop")
	ctx, cancel := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	writing.Go(func() {
		for ctx.Err() == nil { // until the worker has seen a change
			if err := os.WriteFile(file, nil, 0o644); err != nil {
				t.Error(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	defer writing.Wait()
	defer cancel()
	capture(t, func() int {
		cmd := command()
		cmd.SetArgs([]string{"p", "-r", nobody(t), "--persistent", "--dir", t.TempDir(), "--shutdown-file", file})
		return program.Main(t.Context(), cmd)
	}, 0)
}

// TestRefused: wrong command lines, with what is told of them and the status.
func TestRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	dir, jails := t.TempDir(), t.TempDir()
	d, err := worker.OpenDirectory(jails)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Claim("jail"), os.MkdirAll(filepath.Join(d.Builds(), "place"), 0o700), d.Close()); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		args   []string
		status int
		told   string
	}{
		"no platform":   {nil, 2, "name one platform"},
		"two platforms": {[]string{"a", "b"}, 2, "name one platform"},
		"flag":          {[]string{"a", "--nosuch"}, 2, "unknown flag"},
		"no accounts":   {[]string{"a", "--isolation", "user"}, 1, "0 are named, and there are 1 slots; name one account"},
		"root's":        {[]string{"a", "--isolation", "user", "--run-as", "root"}, 1, "account root can not be one"},
		"run as":        {[]string{"a", "--run-as", "games"}, 2, "--run-as is a setting of --isolation user, not of none"},
		"namespaces":    {[]string{"check", "--isolation", "user", "--namespaces"}, 2, "--namespaces is a setting of --isolation none"},
		"check memory":  {[]string{"check", "--memory", "1GiB"}, 1, "isolation none does not work here"},
		"check slots":   {[]string{"check", "--slots", "0"}, 2, "--slots 0"},
		"jail's slots":  {[]string{"a", "--isolation", "jail", "--jail-base", "x", "--jail-network", "alias:lo1", "--jail-address", "127.0.2.1", "--persistent", "--slots", "2"}, 2, "1 addresses are given, and there are 2 slots"},
		"sweep nothing": {[]string{"sweep", "--dir", dir}, 1, dir + " is no worker's directory"},
		"another kind":  {[]string{"sweep", "--dir", jails}, 1, "has places of isolation jail"},
		"many pids":     {[]string{"a", "--pids", "4194304"}, 2, "use 4194303 at most"},
		"isolation":     {[]string{"a", "--isolation", "glass"}, 2, `isolation "glass" is unknown`},
		"protocol":      {[]string{"a", "--protocol", "7"}, 2, "protocol 7 is unknown"},
		"variable":      {[]string{"a", "--env", "NO_SUCH_VARIABLE"}, 2, "NO_SUCH_VARIABLE"},
		"log level":     {[]string{"a", "--log-level", "loud"}, 2, `"loud"`},
		"no slots":      {[]string{"a", "--persistent", "--slots", "0"}, 2, "--slots 0"},
		"slots of one":  {[]string{"a", "--slots", "2"}, 2, "--slots needs --persistent"},
		"retries":       {[]string{"a", "--max-retries", "-1"}, 2, "--max-retries -1"},
		"delay":         {[]string{"a", "--max-delay", "1ms"}, 2, `"1ms" for "--max-delay" flag: use 1s`},
		"keepalive":     {[]string{"a", "--keepalive", "1ms"}, 2, `"1ms" for "--keepalive" flag: use 100ms`},
		"warm":          {[]string{"a", "--warm", "-1"}, 2, "--warm -1"},
		"keep failed":   {[]string{"a", "--keep-failed"}, 2, "--keep-failed needs --dir"},
		"keep less":     {[]string{"a", "--keep-failed=-1"}, 2, "--keep-failed=-1"},
		"directory":     {[]string{"a", "--dir", file}, 1, file},
	} {
		t.Run(name, func(t *testing.T) {
			told := capture(t, func() int {
				cmd := command()
				cmd.SetArgs(test.args)
				return program.Main(t.Context(), cmd)
			}, test.status)
			if !strings.Contains(told, test.told) {
				t.Errorf("told %q, want %q", told, test.told)
			}
		})
	}
}

// capture runs f, checks its status and returns what went to standard error.
func capture(t *testing.T, f func() int, want int) string {
	t.Helper()
	stderr := os.Stderr
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	os.Stderr = w
	status := f()
	os.Stderr = stderr
	w.Close()
	var out bytes.Buffer
	if _, err := out.ReadFrom(r); err != nil {
		t.Fatal(err)
	}
	if status != want {
		t.Errorf("status %d, want %d: %s", status, want, out.String())
	}
	return out.String()
}
