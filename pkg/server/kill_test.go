package server_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"builder/pkg/client"
	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/google/uuid"
)

// acknowledged is what servers have said yes to, over their lives.
type acknowledged struct {
	mu        sync.Mutex
	jobs      map[string]bool   // true while scheduled, false when unscheduled
	uncertain map[string]bool   // asked for when the server died
	runs      map[uint64]string // with their job
	stored    map[uuid.UUID]bool
}

// TestKill kills real servers in the midst of commands and builds. What was
// acknowledged is there, and each run that was has exactly one end.
func TestKill(t *testing.T) {
	kills := 4
	if text := os.Getenv("SERVER_ROUNDS"); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("SERVER_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("SERVER_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	ack := &acknowledged{jobs: map[string]bool{}, uncertain: map[string]bool{}, runs: map[uint64]string{}, stored: map[uuid.UUID]bool{}}
	for life := range kills {
		p := startProcess(t, dir)
		ctx, cancel := context.WithCancel(t.Context())
		var busy sync.WaitGroup
		for i := range 4 {
			busy.Go(func() {
				ack.command(ctx, p.address, fmt.Sprintf("%d-%d", life, i), rand.New(rand.NewPCG(seed, uint64(life*10+i+1))))
			})
		}
		for i := range 4 {
			version := wire.OwnVersion
			if i%2 == 1 {
				version = wire.WorkerVersion
			}
			busy.Go(func() { ack.build(ctx, p.address, version) })
		}
		time.Sleep(time.Duration(50+random.IntN(250)) * time.Millisecond)
		p.kill()
		cancel()
		busy.Wait()
	}
	// The last one lives until everything is built.
	p := startProcess(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var busy sync.WaitGroup
	for range 4 {
		busy.Go(func() { ack.build(ctx, p.address, wire.OwnVersion) })
	}
	c := client.New(p.address, client.Options{})
	defer c.Close()
	wait(t, "empty queues", func() bool {
		status, err := c.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(status.Building) == 0 && len(status.Platforms[0].Queue) == 0
	})
	cancel()
	busy.Wait()
	ack.check(t, c)
}

// command schedules, executes and unschedules until the server is gone.
func (a *acknowledged) command(ctx context.Context, address, name string, random *rand.Rand) {
	c := client.New(address, client.Options{Protocol: wire.OwnVersion})
	defer c.Close()
	for n := 0; ; n++ {
		name := fmt.Sprintf("job-%s-%d", name, n)
		a.asked(name)
		accepted, err := c.Schedule(ctx, job.Job{Name: name, Platform: "p"}, []byte(name), job.Plan{Period: job.Never}, false)
		if err != nil {
			return
		}
		a.accepted(name, true, accepted)
		if random.IntN(2) == 0 {
			if accepted, err = c.Execute(ctx, name, ""); err != nil {
				return
			}
			a.accepted(name, true, accepted)
		}
		if random.IntN(8) == 0 {
			a.asked(name)
			if c.Unschedule(ctx, name) != nil {
				return
			}
			a.accepted(name, false, wire.Accepted{})
		}
	}
}

func (a *acknowledged) asked(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.uncertain[name] = true
}

func (a *acknowledged) accepted(name string, scheduled bool, accepted wire.Accepted) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.uncertain, name)
	a.jobs[name] = scheduled
	for _, run := range accepted.Runs {
		a.runs[run.ID] = name
	}
}

// build does builds until the server is gone.
func (a *acknowledged) build(ctx context.Context, address string, version int) {
	d := wire.Dialer{Role: wire.Worker, Force: version}
	for {
		conn, _, err := d.Dial(ctx, address)
		if err != nil {
			return
		}
		for err == nil {
			var id uuid.UUID
			if id, err = oneBuild(ctx, conn); err == nil && version == wire.OwnVersion {
				a.mu.Lock()
				a.stored[id] = true
				a.mu.Unlock()
			}
		}
		conn.Close()
	}
}

// check compares what the server has with what it had said yes to.
func (a *acknowledged) check(t *testing.T, c *client.Client) {
	t.Helper()
	status, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, j := range status.Jobs {
		there[j.Job.Name] = true
	}
	for name, scheduled := range a.jobs {
		if there[name] != scheduled && !a.uncertain[name] {
			t.Errorf("job %s: in the schedule %v, expected %v", name, there[name], scheduled)
		}
	}
	for name := range there {
		if !a.jobs[name] && !a.uncertain[name] {
			t.Errorf("job %s: nobody has scheduled it", name)
		}
	}
	builds, err := c.Builds(t.Context(), "", 10_000)
	if err != nil {
		t.Fatal(err)
	}
	ends, losses := map[uint64]int{}, map[uint64]int{}
	lost, ended := map[uint64]time.Time{}, map[string]time.Time{} // when a run was lost, and its job had an end
	for _, b := range builds {
		if b.Result.Infrastructure() {
			losses[b.Run]++
			lost[b.Run] = b.Finished
		} else {
			ends[b.Run]++
			if b.Finished.After(ended[b.Job]) {
				ended[b.Job] = b.Finished
			}
		}
		if a.stored[b.UUID] {
			delete(a.stored, b.UUID)
			if !b.Result.Success() {
				t.Errorf("build %v was stored, and is now %v", b.UUID, b.Result)
			}
		}
	}
	for id := range a.stored {
		t.Errorf("build %v was stored, and is gone", id)
	}
	// A run that was lost with each of its tries ends with the last of them, and one
	// that was lost while another of its job waited ends with that one.
	for run, name := range a.runs {
		givenUp := losses[run] >= job.DefaultTries || losses[run] > 0 && ended[name].After(lost[run])
		if n := ends[run]; n > 1 {
			t.Errorf("run %d of %s has %d ends", run, name, n)
		} else if n == 0 && !givenUp && a.jobs[name] && !a.uncertain[name] {
			t.Errorf("run %d of %s has no end after %d losses", run, name, losses[run])
		}
	}
	t.Logf("%d jobs, %d runs, %d builds", len(a.jobs), len(a.runs), len(builds))
	if len(a.runs) == 0 || len(builds) == 0 {
		t.Error("nothing was done")
	}
}

func oneBuild(ctx context.Context, conn *wire.Conn) (uuid.UUID, error) {
	if err := conn.Send(wire.JobRequested{Platform: "p"}); err != nil {
		return uuid.Nil, err
	}
	m, err := conn.Receive(ctx, wire.KindJobSchedule, wire.KindStart)
	files := []wire.File{{Path: "a", Data: text("content")}}
	switch m := m.(type) {
	case wire.JobSchedule:
		conn.Send(wire.Output{UUID: m.UUID, Data: []byte("printed")})
		return m.UUID, conn.Send(wire.JobFinished{UUID: m.UUID, Files: files})
	case wire.Start:
		id := m.Build.UUID
		conn.Send(lines(id, 0, "printed"))
		if err := conn.Send(wire.Finish{UUID: id, Result: success, Files: files}); err != nil {
			return id, err
		}
		_, err := conn.Receive(ctx, wire.KindStored)
		return id, err
	}
	return uuid.Nil, err
}
