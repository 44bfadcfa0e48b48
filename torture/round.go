package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"
)

// round is one plan, from beginning to end.
type round struct {
	seed     uint64
	dir, bin string
	takes    time.Duration
	jobs     int
	keep     bool

	begun    time.Time
	plan     plan
	fleet    *fleet
	customer *customer
	keeper   *keeper

	mu       sync.Mutex
	findings []string
	done     map[string]int // steps
	results  map[string]int // of builds
	quiet    time.Duration  // that it took all to come to rest

	unrecorded map[string]string    // builds for which the server had no room, with their jobs
	removed    map[uuid.UUID]string // builds that retention says it removed, with their jobs
}

// find notes what should not be.
func (r *round) find(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.findings = append(r.findings, fmt.Sprintf(format, args...))
}

// surprised is called when a process has ended that was not told to.
func (r *round) surprised(p *process, status *os.ProcessState) {
	if status == nil {
		r.find("%s did not end within 3 s after SIGTERM, see %s", p.name, p.log)
		return
	}
	for _, w := range r.fleet.workers {
		if &w.process == p && w.once && (status.Success() || strings.Contains(p.lastWord(), "the server did not take the build")) {
			return
		}
	}
	if p.hadNoRoom() {
		return
	}
	r.find("%s ended by itself: %v, see %s", p.name, status, p.log)
}

// run is the round. The error is one of the torture itself.
func (r *round) run(ctx context.Context) (err error) {
	ledger := filepath.Join(r.dir, "ledger")
	for _, dir := range []string{r.dir, ledger, filepath.Join(r.dir, "logs"), filepath.Join(r.dir, "hooked"), filepath.Join(r.dir, "upload-hooks"), filepath.Join(r.dir, "downloads")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	if err := writeHook(r.dir); err != nil {
		return err
	}
	r.done, r.results = map[string]int{}, map[string]int{}
	r.plan = newPlan(r.seed, r.takes, r.jobs, ledger)
	if err := r.write("plan", r.plan.print); err != nil {
		return err
	}
	f, noDisks, err := newFleet(ctx, r.dir, r.bin, r.seed, r.surprised, r.find)
	if err != nil {
		return err
	}
	if noDisks != nil {
		fmt.Printf("no disk is filled: %v\n", noDisks)
	}
	r.fleet, r.customer = f, newCustomer(f, filepath.Join(r.bin, "torture"), r.plan.jobs)
	r.keeper = newKeeper(f, r.find)
	defer func() { err = errors.Join(err, r.close()) }()
	if err := f.start(); err != nil {
		return err
	}
	if err := r.suffer(ctx); err != nil {
		return err
	}
	if err := r.calm(); err != nil {
		return err
	}
	if !r.settle(ctx) {
		return nil
	}
	return r.check(ctx)
}

// write makes a file beside the logs.
func (r *round) write(name string, print func(io.Writer) error) error {
	out, err := os.Create(filepath.Join(r.dir, "logs", name))
	if err != nil {
		return err
	}
	return errors.Join(print(out), out.Close())
}

// suffer does all steps, each at its time.
func (r *round) suffer(ctx context.Context) error {
	events, err := os.Create(filepath.Join(r.dir, "logs", "steps"))
	if err != nil {
		return err
	}
	defer events.Close()
	storm, end := context.WithTimeout(ctx, r.takes)
	defer end()
	// Customers insist until all is calm, for a while.
	insisting, stop := context.WithTimeout(ctx, r.takes+patience)
	defer stop()
	var busy, tending sync.WaitGroup
	var failures []error
	var mu sync.Mutex
	note := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		failures = append(failures, err)
	}
	tending.Go(func() { note(r.fleet.tend(storm)) })
	r.begun = time.Now()
	for _, s := range r.plan.steps {
		rest(storm, time.Until(r.begun.Add(s.at)))
		if storm.Err() != nil {
			break
		}
		run := func() (bool, error) { return r.fleet.do(storm, s) }
		if slices.Contains([]string{schedules, executes, cancels, follows, observes}, s.what) {
			run = func() (bool, error) { return r.customer.do(insisting, s) }
		}
		if slices.Contains([]string{pins, ages, prunes, verifies, downloads}, s.what) {
			run = func() (bool, error) { return r.keeper.do(insisting, s) }
		}
		busy.Go(func() {
			from := time.Since(r.begun)
			done, err := run()
			fmt.Fprintf(events, "%7.3f to %7.3f %v: done %v\n", from.Seconds(), time.Since(r.begun).Seconds(), s, done)
			note(err)
			if done {
				r.mu.Lock()
				r.done[s.what]++
				r.mu.Unlock()
			}
		})
	}
	<-storm.Done()
	tending.Wait()
	if err := r.calm(); err != nil { // whoever is in the midst of something goes on
		return err
	}
	busy.Wait()
	return errors.Join(failures...)
}

// calm ends all faults.
func (r *round) calm() error {
	var failures []error
	for _, v := range r.fleet.volumes() {
		failures = append(failures, v.free())
	}
	for _, way := range r.fleet.ways() {
		way.setWeather(weather{})
		way.cut(func(*pair) bool { return true })
	}
	for _, s := range r.fleet.sites() {
		s.heal()
	}
	r.fleet.server.signal(syscall.SIGCONT)
	for _, w := range r.fleet.workers {
		w.signal(syscall.SIGCONT)
		if w.running() {
			for _, pid := range supervisors(w.pid()) {
				syscall.Kill(pid, syscall.SIGCONT) //nolint:errcheck // it is gone
			}
		}
	}
	for _, w := range r.fleet.watchers {
		w.signal(syscall.SIGCONT)
	}
	return errors.Join(failures...)
}

// close ends everything that is left, and keeps what tells of findings.
func (r *round) close() error {
	r.fleet.kill()
	var failures []error
	for _, way := range r.fleet.ways() {
		failures = append(failures, way.Close())
	}
	for _, s := range r.fleet.sites() {
		failures = append(failures, s.Close())
	}
	for _, v := range r.fleet.volumes() {
		keep := ""
		if len(r.findings) > 0 || r.keep {
			keep = v.dir + ".kept"
		}
		failures = append(failures, v.free(), v.Close(keep))
	}
	return errors.Join(failures...)
}
