package server_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/google/uuid"
)

// TestLongestWaiting: runs go to the workers in the order in which they came,
// one to each, and nobody else is woken.
func TestLongestWaiting(t *testing.T) {
	r := start(t)
	var workers []*peer
	for i := range 5 {
		version := int64(wire.OwnVersion)
		if i%2 == 1 {
			version = wire.WorkerVersion
		}
		workers = append(workers, r.requested(version, "p"))
		r.waiting("p", i+1)
	}
	for i, w := range workers {
		name := fmt.Sprint("job", i)
		r.schedule(name, "p", "x")
		var got string
		if i%2 == 1 {
			got = w.job().Job.Name
		} else {
			got = w.begin().Build.Job
		}
		if got != name {
			t.Errorf("worker %d is given %q", i, got)
		}
		r.waiting("p", len(workers)-i-1)
	}
}

// TestGoneWorker: a worker that went is never given a run, however shortly
// before it went.
func TestGoneWorker(t *testing.T) {
	const rounds = 1000
	r := start(t)
	r.schedule("one", "p", "x")
	r.cancel("one")
	for round := range rounds {
		version := int64(wire.OwnVersion)
		if round%2 == 1 {
			version = wire.WorkerVersion
		}
		gone := r.requested(version, "p")
		r.waiting("p", 1)
		if round%4 < 2 {
			gone.net.SetLinger(0) // RST instead of FIN
		}
		gone.net.Close()
		r.execute("one")
		if builds := r.status().Building; len(builds) > 0 {
			t.Fatalf("round %d: %v was given to a worker that is gone", round, builds[0])
		}
		r.cancel("one")
	}
	if builds := r.builds("one"); len(builds) > 0 {
		t.Errorf("%d builds", len(builds))
	}
}

// TestSetupKeepsWorker: a build that ends before the worker has heard of it
// leaves the worker waiting.
func TestSetupKeepsWorker(t *testing.T) {
	for name, version := range map[string]int64{"protocol 5": wire.WorkerVersion, "our own": wire.OwnVersion} {
		t.Run(name, func(t *testing.T) {
			r := start(t)
			w := r.requested(version, "p")
			r.waiting("p", 1)
			r.template("t.template", "x")
			r.scheduleTemplate("gone", "p", "t")
			if version == wire.OwnVersion {
				w.send(wire.Finish{UUID: w.begin().Build.UUID, Result: success})
				w.receive(wire.KindStored)
				w.send(wire.JobRequested{Platform: "p"})
			} else {
				w.send(wire.JobFinished{UUID: w.job().UUID})
				w.gone()
				w = r.requested(version, "p")
			}
			r.removeTemplate("t.template")
			r.waiting("p", 1)
			r.execute("gone")
			build := r.ended("gone", 2)[0]
			if build.Result.Cause != job.Setup || !strings.Contains(build.Result.Text, "t.template") {
				t.Errorf("result %v", build.Result)
			}
			r.schedule("next", "p", "x")
			if version == wire.OwnVersion {
				w.begin()
			} else {
				w.job()
			}
		})
	}
}

// TestCrowd has many workers and many runs at once: each run has exactly one
// build.
func TestCrowd(t *testing.T) {
	const platforms, workers, jobs = 3, 8, 40
	r := start(t)
	var running sync.WaitGroup
	for i := range platforms * workers {
		version := int64(wire.OwnVersion)
		if i%2 == 1 {
			version = wire.WorkerVersion
		}
		platform := fmt.Sprint("p", i%platforms)
		running.Go(func() { r.drone(version, platform) })
	}
	var clients sync.WaitGroup
	for c := range 4 {
		clients.Go(func() {
			asking := r.newClient()
			for i := range jobs {
				name := fmt.Sprintf("job-%d-%d", c, i)
				j := job.Job{Name: name, Platform: fmt.Sprint("p", i%platforms)}
				if _, err := asking.Schedule(t.Context(), j, []byte(name), job.Plan{Period: job.Never}, false); err != nil {
					t.Errorf("scheduling: %v", err)
				}
			}
		})
	}
	clients.Wait()
	var builds []job.Build
	wait(t, "all builds", func() bool { builds = r.builds(""); return len(builds) >= 4*jobs })
	runs := map[uint64]uuid.UUID{}
	for _, b := range builds {
		if other, twice := runs[b.Run]; twice || !b.Result.Success() || b.Try != 1 {
			t.Errorf("build %v of run %d, also built as %v: %v", b.UUID, b.Run, other, b.Result)
		}
		runs[b.Run] = b.UUID
	}
	if len(builds) != 4*jobs || len(runs) != 4*jobs {
		t.Errorf("%d builds of %d runs, expected %d", len(builds), len(runs), 4*jobs)
	}
	r.halt()
	running.Wait()
}

// drone does builds without doing anything, until the server ends.
func (r *running) drone(version int64, platform string) {
	d := wire.Dialer{Role: wire.Worker, Force: int(version)}
	for {
		conn, _, err := d.Dial(r.t.Context(), r.address)
		if err != nil {
			return
		}
		for err == nil {
			err = droneBuild(conn, platform, r)
		}
		conn.Close()
	}
}

func droneBuild(conn *wire.Conn, platform string, r *running) error {
	if err := conn.Send(wire.JobRequested{Platform: platform}); err != nil {
		return err
	}
	m, err := conn.Receive(r.t.Context(), wire.KindJobSchedule, wire.KindStart)
	switch m := m.(type) {
	case wire.JobSchedule:
		conn.Send(wire.Output{UUID: m.UUID, Data: []byte("printed")})
		return conn.Send(wire.JobFinished{UUID: m.UUID})
	case wire.Start:
		conn.Send(lines(m.Build.UUID, 0, "printed"))
		if err := conn.Send(wire.Finish{UUID: m.Build.UUID, Result: success}); err != nil {
			return err
		}
		_, err := conn.Receive(r.t.Context(), wire.KindStored)
		return err
	}
	return err
}

// TestWatchCrowd has a watcher for each of many runs, whose workers go now and
// then: each watcher sees its run to the end, and the end that is recorded.
func TestWatchCrowd(t *testing.T) {
	const runs, workers = 60, 6
	r := start(t)
	var working sync.WaitGroup
	for i := range workers {
		working.Go(func() { r.deserter(rand.New(rand.NewPCG(uint64(i), 0))) })
	}
	watched := map[string]*seen{}
	for i := range runs {
		name := fmt.Sprint("job-", i)
		watched[name] = r.watch(wire.Watch{Run: r.schedule(name, "p", "x").Runs[0].ID, Job: name})
	}
	for name, s := range watched {
		if err := s.over(t); err != nil {
			t.Errorf("watching %s: %v", name, err)
		}
		var last string
		for len(s.events) > 0 {
			last = <-s.events
		}
		if want := "final " + r.builds(name)[0].Result.String(); last != want {
			t.Errorf("%s: the last that was shown is %q, expected %q", name, last, want)
		}
		r.idle(name)
	}
	r.halt()
	working.Wait()
}

// deserter does builds until the server ends, and goes in the midst of every
// third.
func (r *running) deserter(random *rand.Rand) {
	d := wire.Dialer{Role: wire.Worker, Force: wire.OwnVersion}
	for {
		conn, _, err := d.Dial(r.t.Context(), r.address)
		if err != nil {
			return
		}
		for err == nil && random.IntN(3) > 0 {
			err = droneBuild(conn, "p", r)
		}
		if err == nil && conn.Send(wire.JobRequested{Platform: "p"}) == nil {
			conn.Receive(r.t.Context(), wire.KindStart)
		}
		conn.Close()
	}
}
