package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"builder/pkg/job"

	"github.com/google/uuid"
)

// checkWatchers looks whether each client that was left alive has shown each line
// once and in order.
func (r *round) checkWatchers(builds map[uuid.UUID]ended) error {
	for _, w := range r.fleet.watchers {
		if w.stdout == "" || !exists(w.stdout) {
			continue
		}
		s, err := w.said()
		if err != nil {
			return err
		}
		for _, run := range s.runs {
			r.customer.mu.Lock()
			r.customer.promised[run] = s.job
			r.customer.mu.Unlock()
		}
		out, err := os.ReadFile(w.stdout)
		if err != nil {
			return err
		}
		if text := r.wrongShow(s, out, builds, w.killed.Load()); text != "" {
			r.find("%s: %s; see %s", w.name, text, w.log)
		}
	}
	return nil
}

// wrongShow says what is wrong with what a watcher has shown.
func (r *round) wrongShow(s said, out []byte, builds map[uuid.UUID]ended, killed bool) string {
	for i, name := range s.builds {
		id, err := uuid.Parse(name)
		if err != nil {
			return err.Error()
		}
		b, ok := builds[id]
		last := i == len(s.builds)-1
		switch {
		case ok && bytes.HasPrefix(out, b.console):
			out = out[len(b.console):]
		case last && (killed || !s.ended) && bytes.HasPrefix(b.console, out):
			out = nil
		case !ok || b.Result.Cause == job.ServerSide:
			return "" // it was removed, or the server had no room for what it showed
		default:
			return fmt.Sprintf("the console of build %v: %s", id, difference(out, b.console))
		}
	}
	switch {
	case len(out) > 0:
		return fmt.Sprintf("%d octets were shown that belong to no build", len(out))
	case killed || s.ended || excused(s.last):
		return ""
	}
	return fmt.Sprintf("it ended with %q", shorten(s.last))
}

// excused are the last words of a client that had nothing to show, or was refused.
func excused(text string) bool {
	for _, known := range []string{
		"no such build", // any more
		"has not been built yet", "no job is called", "unknown job", "was cancelled or unscheduled",
		// What the disk had no room for, or the server no time.
		"the change was not kept", "may be kept or not", "no space left", "is shutting down",
		// At the beginning, while the server is down or the network is bad, clients give up.
		"connection refused", "connection reset", "EOF", "broken pipe", "i/o timeout", "the peer is silent", "the server hung up", "closed the connection",
	} {
		if strings.Contains(text, known) {
			return true
		}
	}
	return false
}

// exported is how many builds are fetched with the client as well.
const exported = 12

// checkExports fetches some builds with the real client, and looks into their files.
func (r *round) checkExports(ctx context.Context, builds map[uuid.UUID]ended) error {
	dir := filepath.Join(r.dir, "exports")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	n := 0
	for id, b := range builds {
		if _, pruned := r.keeper.has(b.Job, id, "pruned"); pruned {
			continue
		}
		if n++; n > exported {
			return nil
		}
		base := filepath.Join(dir, id.String())
		for _, args := range [][]string{{"export", id.String(), "-o", base}, {"inspect", base, "--output", base + ".files"}} {
			cmd := exec.CommandContext(ctx, filepath.Join(r.bin, "builder-client"), append([]string{"--remote", r.fleet.address}, args...)...) //nolint:gosec // ours
			if text, err := cmd.CombinedOutput(); err != nil {
				r.find("%v: %v: %s", cmd.Args, err, shorten(string(text)))
			}
		}
		for _, a := range b.Artifacts {
			if got, err := contentOf(filepath.Join(base+".files", a.Path)); err != nil || got != a.Content {
				r.find("build %v: %s was exported as %v (%v), expected %v", id, a.Path, got, err, a.Content)
			}
		}
	}
	return nil
}

// contentOf reads a file.
func contentOf(path string) (job.Content, error) {
	f, err := os.Open(path)
	if err != nil {
		return job.Content{}, err
	}
	defer f.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, f)
	c := job.Content{Size: n}
	sum.Sum(c.SHA256[:0])
	return c, err
}
