package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
)

// watcher is a builder-client that shows builds: its standard output is their
// consoles, one behind the other, its standard error says which they are.
type watcher struct {
	process
	killed atomic.Bool
}

// watch starts one, of a run that it asks for itself, or of what the job does.
func (f *fleet) watch(ctx context.Context, how, name string) (bool, error) {
	f.mu.Lock()
	n := len(f.watchers)
	w := &watcher{}
	f.watchers = append(f.watchers, w)
	f.mu.Unlock()
	base := filepath.Join(f.dir, "logs", fmt.Sprintf("client%03d", n))
	w.name, w.log, w.stdout = filepath.Base(base), base+".log", base+".out"
	w.args = []string{
		filepath.Join(f.bin, "builder-client"), "--remote", f.outside.address(), "--protocol", own, "--keepalive", beat.String(),
	}
	if how == follows {
		w.args = append(w.args, "execute", name, "--follow")
	} else {
		w.args = append(w.args, "observe", name)
	}
	if ctx.Err() != nil {
		return false, nil //nolint:nilerr // it is too late
	}
	return true, w.start(func(*process, *os.ProcessState) {})
}

// said is what a watcher has said about builds.
type said struct {
	builds []string // their uuids, in order
	ended  bool     // the last one has
	last   string   // line
	runs   []uint64 // that were promised to it
	job    string
}

func (w *watcher) said() (said, error) {
	text, err := os.ReadFile(w.log)
	if err != nil {
		return said{}, err
	}
	var s said
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		s.last = line
		var build, name string
		var run uint64
		switch {
		case scan(line, "build %s of job %s", &build, &name):
			s.builds, s.ended = append(s.builds, build), false
		case strings.HasPrefix(line, "result: "):
			s.ended = true
		case scan(line, "queued: run %d on", &run):
			s.runs = append(s.runs, run)
		case scan(line, "job %s is to run", &name):
			s.job = name
		}
	}
	return s, nil
}

func scan(line, format string, into ...any) bool {
	n, _ := fmt.Sscanf(line, format, into...)
	return n == len(into)
}
