package jail

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"builder/pkg/job"
	"builder/pkg/sandbox"
)

// callLimit bounds what is done to remove one place. What is busy is tried again
// for busyLimit.
const (
	callLimit = 2 * time.Minute
	busyLimit = 30 * time.Second
)

// Sandbox is the [sandbox.Sandbox] of kind "jail".
type Sandbox struct {
	conf   Config
	run    Runner
	source source
	able   abilities

	mu        sync.Mutex
	addresses []netip.Prefix          // that are free
	given     map[string]netip.Prefix // the others, by the name of the place
	warm      []*place
	making    int             // of those
	inUse     map[string]bool // names of places
	closed    bool
}

// New returns a Sandbox, after a look at what the system can do. Close removes what
// was made ahead.
func New(ctx context.Context, conf Config) (*Sandbox, error) {
	conf.User = cmp.Or(conf.User, DefaultUser)
	conf.Ruleset = cmp.Or(conf.Ruleset, DefaultRuleset)
	if conf.Run == nil {
		conf.Run = Run
	}
	if err := conf.Check(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(conf.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("making directory for builds: %w", err)
	}
	var err error
	if conf.Dir, err = filepath.EvalSymlinks(conf.Dir); err != nil { // mounts are listed so
		return nil, err
	}
	s := &Sandbox{
		conf: conf, run: conf.Run, addresses: slices.Clone(conf.Network.Addresses),
		given: map[string]netip.Prefix{}, inUse: map[string]bool{},
	}
	if s.source, err = newSource(ctx, conf); err != nil {
		return nil, err
	}
	s.able = able(ctx, conf)
	return s, nil
}

// Kind implements [sandbox.Sandbox].
func (*Sandbox) Kind() string { return "jail" }

// Enforces implements [sandbox.Sandbox].
func (s *Sandbox) Enforces(res job.Resources) error {
	switch {
	case s.able.racct != nil && (res.CPUs != 0 || res.Memory != 0 || res.PIDs != 0):
		return fmt.Errorf("%w: %v: %w", sandbox.ErrUnenforced, res, s.able.racct)
	case s.conf.Base != "" && res.Disk != 0:
		return fmt.Errorf("%w: %v: a bound on the disk needs clones of a ZFS snapshot", sandbox.ErrUnenforced, res)
	case s.able.vnet != nil && res.NoNetwork:
		return fmt.Errorf("%w: %v: %w", sandbox.ErrUnenforced, res, s.able.vnet)
	}
	return nil
}

// Prepare implements [sandbox.Sandbox].
func (s *Sandbox) Prepare(ctx context.Context, spec sandbox.Spec) (sandbox.Place, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("preparing jail: %w", err)
	}
	if err := s.Enforces(spec.Resources); err != nil {
		return nil, err
	}
	p, err := s.take(ctx, spec.Build)
	if err != nil {
		return nil, fmt.Errorf("preparing jail: %w", err)
	}
	if err := p.enter(ctx, spec); err != nil {
		return nil, errors.Join(fmt.Errorf("preparing jail: %w", err), p.Destroy())
	}
	return p, nil
}

// take returns a place that was made ahead, or makes one.
func (s *Sandbox) take(ctx context.Context, build string) (*place, error) {
	s.mu.Lock()
	if n := len(s.warm); n > 0 {
		p := s.warm[0]
		s.warm = s.warm[1:]
		s.mu.Unlock()
		return p, nil
	}
	s.mu.Unlock()
	return s.make(ctx, s.conf.prefix()+safe(build))
}

// safe is a build's uuid; what is no letter, digit or dash is left out of others.
func safe(build string) string {
	build = strings.Map(func(r rune) rune {
		if r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return -1
	}, build)
	return cmp.Or(build[:min(40, len(build))], strings.ToLower(rand.Text()))
}

// make makes a place as far as it does not depend on the build.
func (s *Sandbox) make(ctx context.Context, name string) (*place, error) {
	if !s.use(name) {
		return nil, fmt.Errorf("there is a place %s already", name)
	}
	p := newPlace(s, name)
	if err := os.Mkdir(s.dir(name), 0o700); err != nil {
		s.forget(name) // and what is there stays
		return nil, err
	}
	err := os.Mkdir(p.root, 0o755)
	if err == nil {
		err = s.source.fill(ctx, name, p.root)
	}
	if err == nil {
		err = p.furnish()
	}
	if err != nil {
		return nil, errors.Join(err, p.Destroy())
	}
	return p, nil
}

// Stock makes places ahead until there are Config.Warm. Destroy calls it. What
// fails is made when it is needed, and tells then.
func (s *Sandbox) Stock(ctx context.Context) {
	for ctx.Err() == nil && s.reserve() {
		p, err := s.make(ctx, s.conf.prefix()+"warm-"+strings.ToLower(rand.Text()[:12]))
		s.mu.Lock()
		s.making--
		late := s.closed
		if err == nil && !late {
			s.warm = append(s.warm, p)
		}
		s.mu.Unlock()
		if err != nil || late && p.Destroy() != nil {
			return
		}
	}
}

// reserve reports whether another place is to be made ahead.
func (s *Sandbox) reserve() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.warm)+s.making >= s.conf.Warm {
		return false
	}
	s.making++
	return true
}

// Reattach implements [sandbox.Sandbox].
func (s *Sandbox) Reattach(name string) (sandbox.Place, error) {
	if filepath.Base(name) != name || !strings.HasPrefix(name, s.conf.prefix()) {
		return nil, fmt.Errorf("attaching place: %q is not the name of one", name)
	}
	if _, err := os.Lstat(s.dir(name)); err != nil {
		return nil, fmt.Errorf("attaching place: %w", err)
	}
	s.use(name)
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	p := newPlace(s, name)
	p.ran = true
	err := s.leave(ctx, name)
	if err == nil {
		err = s.source.reopen(ctx, name)
	}
	if err != nil {
		s.forget(name) // the next Sweep removes it
		return nil, fmt.Errorf("attaching place %s: %w", name, err)
	}
	return p, nil
}

// Close removes what was made ahead.
func (s *Sandbox) Close() error {
	s.mu.Lock()
	warm := s.warm
	s.warm, s.closed = nil, true
	s.mu.Unlock()
	var failures []error
	for _, p := range warm {
		failures = append(failures, p.Destroy())
	}
	return errors.Join(failures...)
}

func (s *Sandbox) dir(name string) string { return filepath.Join(s.conf.Dir, name) }

// do runs a command for what it does.
func (s *Sandbox) do(ctx context.Context, argv []string) error {
	_, err := s.run(ctx, argv...)
	return err
}

// use reports whether the name was free.
func (s *Sandbox) use(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	used := s.inUse[name]
	s.inUse[name] = true
	return !used
}

func (s *Sandbox) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.inUse, name)
}

func (s *Sandbox) uses(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inUse[name]
}
