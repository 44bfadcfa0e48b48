package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"
)

// The faults, and how often each is drawn.
var faults = []struct {
	what  string
	often int
	takes time.Duration // at most
}{
	{"kill the server", 6, 1500 * time.Millisecond},
	{"restart the server", 4, 500 * time.Millisecond},
	{"stop the server", 5, 5 * time.Second},
	{"kill a worker", 9, 2 * time.Second},
	{"kill a worker for long", 1, 2 * workerGrace},
	{"restart a worker", 5, 2 * time.Second},
	{"stop a worker", 6, 9 * time.Second},
	{"kill a supervisor", 5, 0},
	{"stop a supervisor", 4, 5 * time.Second},
	{"kill a client", 3, 0},
	{"stop a client", 5, 6 * time.Second},
	{"cut", 8, 0},
	{"tear", 8, 0},
	{"delay", 4, 3 * time.Second},
	{"throttle", 4, 3 * time.Second},
	{"swallow", 5, 5 * time.Second},
	{"refuse", 3, 2 * time.Second},
	{"double", 10, 2 * time.Second},
	{"fill the server's disk", 3, 3 * time.Second},
	{"fill a worker's disk", 4, 4 * time.Second},
	{"break a frontend", 4, 4 * time.Second},
	{"break the depot", 4, 3 * time.Second},
}

// newFault draws one.
func newFault(at time.Duration, random *rand.Rand) step {
	all := 0
	for _, f := range faults {
		all += f.often
	}
	dice := random.IntN(all)
	for _, f := range faults {
		if dice -= f.often; dice >= 0 {
			continue
		}
		takes := f.takes/10 + rand64(random, f.takes+1)*9/10
		return step{at: at, what: f.what, target: random.IntN(100), takes: takes, dice: random.IntN(1000)}
	}
	return step{}
}

// do does a fault, from beginning to end. It reports false where there was
// nothing to do it to: another one is under way, say.
func (f *fleet) do(ctx context.Context, s step) (done bool, err error) {
	w := f.workers[s.target%len(f.workers)]
	ways := f.ways()
	way := ways[s.target%len(ways)]
	switch s.what {
	case "kill the server":
		return f.hurt(f.server, func() error { return f.restart(ctx, f.server, s, syscall.SIGKILL) })
	case "restart the server":
		return f.hurt(f.server, func() error { return f.restart(ctx, f.server, s, syscall.SIGTERM) })
	case "stop the server":
		return f.hurt(f.server, func() error { return f.halt(ctx, f.server, s) })
	case "kill a worker", "kill a worker for long":
		return f.hurt(&w.process, func() error { return f.restart(ctx, &w.process, s, syscall.SIGKILL) })
	case "restart a worker":
		return f.hurt(&w.process, func() error { return f.restart(ctx, &w.process, s, syscall.SIGTERM) })
	case "stop a worker":
		return f.hurt(&w.process, func() error { return f.halt(ctx, &w.process, s) })
	case "kill a supervisor", "stop a supervisor":
		return f.supervisor(ctx, w, s)
	case "kill a client", "stop a client":
		return f.watcher(ctx, s)
	case "fill the server's disk":
		return f.fill(ctx, f.data, s)
	case "fill a worker's disk":
		from := time.Now()
		done, err := f.fill(ctx, w.volume, s)
		f.mu.Lock()
		defer f.mu.Unlock()
		w.full = append(w.full, period{from, time.Now()})
		return done, err
	case "break a frontend":
		return []*frontend{f.good, f.bad}[s.dice%2].fail(ctx, s.takes), nil
	case "break the depot":
		return f.depot.fail(ctx, s.takes), nil
	}
	return f.storm(ctx, way, s)
}

// hurt does something to a process that runs and has no other fault.
func (f *fleet) hurt(p *process, do func() error) (bool, error) {
	if !p.fault.TryLock() {
		return false, nil
	}
	defer p.fault.Unlock()
	if !p.running() {
		return false, nil
	}
	return true, do()
}

// restart ends a process and starts it again. One that takes its time is told
// once more, as people do.
func (f *fleet) restart(ctx context.Context, p *process, s step, by syscall.Signal) error {
	p.tell(by)
	if !p.wait(3 * time.Second) {
		if p == f.server {
			f.surprised(p, nil)
		}
		p.tell(by)
		if !p.wait(10 * time.Second) {
			p.kill()
		}
	}
	rest(ctx, s.takes)
	return p.start(f.surprised)
}

// halt stops a process and lets it go on.
func (f *fleet) halt(ctx context.Context, p *process, s step) error {
	p.signal(syscall.SIGSTOP)
	rest(ctx, s.takes)
	p.signal(syscall.SIGCONT)
	return nil
}

func (f *fleet) supervisor(ctx context.Context, w *worker, s step) (bool, error) {
	if !w.running() {
		return false, nil
	}
	found := supervisors(w.pid())
	if len(found) == 0 {
		return false, nil
	}
	pid := found[s.dice%len(found)]
	if s.takes == 0 {
		return syscall.Kill(pid, syscall.SIGKILL) == nil, nil
	}
	if syscall.Kill(pid, syscall.SIGSTOP) != nil {
		return false, nil //nolint:nilerr // it has gone
	}
	rest(ctx, s.takes)
	syscall.Kill(pid, syscall.SIGCONT) //nolint:errcheck // it has been killed meanwhile
	return true, nil
}

func (f *fleet) watcher(ctx context.Context, s step) (bool, error) {
	f.mu.Lock()
	var running []*watcher
	for _, w := range f.watchers {
		if w.running() {
			running = append(running, w)
		}
	}
	f.mu.Unlock()
	if len(running) == 0 {
		return false, nil
	}
	w := running[s.target%len(running)]
	return f.hurt(&w.process, func() error {
		if s.takes > 0 {
			return f.halt(ctx, &w.process, s)
		}
		w.killed.Store(true)
		w.kill()
		return nil
	})
}

// fill makes a disk full for a while.
func (f *fleet) fill(ctx context.Context, v volume, s step) (bool, error) {
	if !v.mounted || exists(v.ballast()) {
		return false, nil
	}
	if err := v.fill(); err != nil {
		return true, fmt.Errorf("filling %s: %w", v.dir, err)
	}
	rest(ctx, s.takes)
	return true, v.free()
}

// storm is what a proxy does.
func (f *fleet) storm(ctx context.Context, way *proxy, s step) (bool, error) {
	// All connections of the way, or about half of them.
	n := 0
	fits := func(*pair) bool { n++; return s.dice%2 == 0 || (s.dice>>(n%8))&2 == 0 }
	bad := weather{}
	switch s.what {
	case "cut":
		way.cut(fits)
		return true, nil
	case "tear":
		way.tear(fits)
		return true, nil
	case "double":
		n, err := way.double(s.dice, s.takes)
		return n > 0, err
	case "delay":
		bad.delay = time.Duration(s.dice) * 200 * time.Microsecond
	case "throttle":
		bad.rate = 20_000 + 1000*s.dice
	case "swallow":
		bad.hole = true
	case "refuse":
		bad.refuse = true
		way.cut(fits)
	default:
		return false, fmt.Errorf("fault %q is unknown", s.what)
	}
	if way.getWeather() != (weather{}) {
		return false, nil
	}
	way.setWeather(bad)
	rest(ctx, s.takes)
	way.setWeather(weather{})
	return true, nil
}

// rest waits, not beyond ctx.
func rest(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
