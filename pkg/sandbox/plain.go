package sandbox

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// placePrefix begins the name of every place's directory.
const placePrefix = "b-"

// Plain is the Sandbox without isolation: a script runs as a process of the
// worker's own user, in a directory of its own. Cancelling, killing and cleaning
// up are complete as far as the package comment says.
type Plain struct {
	root string

	mu     sync.Mutex
	idle   []*handle
	inUse  map[string]bool // names of directories in root
	closed bool
}

// NewPlain returns a Plain that makes its places below the directory root, which
// is made, for this user only, if it is missing. One supervisor process for each
// of slots is started at once; more builds at a time start more. Close ends them.
//
// The calling process becomes the parent of orphans among its descendants, and
// kills such orphans that are not in its session when a supervisor was killed.
func NewPlain(root string, slots int) (*Plain, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, fmt.Errorf("making directory for builds: %w", err)
	}
	p := &Plain{root: root, inUse: make(map[string]bool)}
	for range slots {
		h, err := startSupervisor()
		if err != nil {
			return nil, errors.Join(err, p.Close())
		}
		p.idle = append(p.idle, h)
	}
	return p, nil
}

// Sweep removes the places below root that an earlier process has left behind
// when it was killed. Places of this Plain stay. No other process may be using
// root.
func (p *Plain) Sweep() error {
	entries, err := os.ReadDir(p.root)
	if err != nil {
		return fmt.Errorf("sweeping: %w", err)
	}
	var failures []error
	for _, entry := range entries {
		name := entry.Name()
		if !entry.IsDir() || !strings.HasPrefix(name, placePrefix) || p.uses(name) {
			continue
		}
		failures = append(failures, remove(filepath.Join(p.root, name)))
	}
	return errors.Join(failures...)
}

// Close ends the idle supervisors. One that is running a build ends after it.
func (p *Plain) Close() error {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.closed = nil, true
	p.mu.Unlock()
	var failures []error
	for _, h := range idle {
		failures = append(failures, h.close())
	}
	return errors.Join(failures...)
}

// Prepare implements [Sandbox].
func (p *Plain) Prepare(ctx context.Context, spec Spec) (Place, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("preparing place: %w", err)
	}
	if spec.Grace <= 0 {
		spec.Grace = DefaultGrace
	}
	name := placePrefix + prefix(spec.Build) + "-" + strings.ToLower(rand.Text()[:12])
	pl := &place{sandbox: p, dir: filepath.Join(p.root, name), spec: spec}
	p.mu.Lock()
	p.inUse[name] = true
	p.mu.Unlock()
	if err := pl.make(); err != nil {
		return nil, errors.Join(fmt.Errorf("preparing place: %w", err), pl.Destroy())
	}
	return pl, nil
}

// prefix is the beginning of a build's uuid: enough for people to find the
// directory, and short, since builds make sockets below it, whose paths are
// limited to about 100 octets.
func prefix(build string) string {
	build = build[:min(8, len(build))]
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return -1
	}, build)
}

// take returns a supervisor that is idle and alive.
func (p *Plain) take() (*handle, error) {
	for {
		p.mu.Lock()
		if len(p.idle) == 0 {
			p.mu.Unlock()
			return startSupervisor()
		}
		h := p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		p.mu.Unlock()
		if h.alive() {
			return h, nil
		}
		h.discard()
	}
}

// give takes back a supervisor whose build is over.
func (p *Plain) give(h *handle) error {
	p.mu.Lock()
	if !p.closed {
		p.idle = append(p.idle, h)
		p.mu.Unlock()
		return nil
	}
	p.mu.Unlock()
	return h.close()
}

func (p *Plain) uses(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.inUse[name]
}

func (p *Plain) forget(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.inUse, name)
}
