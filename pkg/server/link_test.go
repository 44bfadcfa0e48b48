package server_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"builder/pkg/der"
	"builder/pkg/job"
	"builder/pkg/server"
	"builder/pkg/wire"
	"builder/pkg/worker"
)

// TestHostileWorker: a worker that breaks the rules loses that build, and its
// connection; nothing else happens.
func TestHostileWorker(t *testing.T) {
	tests := map[string]struct {
		message func(id uuid.UUID) wire.Message
		want    string
	}{
		"lines behind the end":       {func(id uuid.UUID) wire.Message { return lines(id, 1, "x") }, "from 1 on, 0 are there"},
		"lines before the beginning": {func(id uuid.UUID) wire.Message { return lines(id, -1, "x") }, "from -1 on"},
		"an end too early":           {func(id uuid.UUID) wire.Message { return wire.Done{UUID: id, Lines: 5} }, "after 5 lines, 0 have come"},
		"too much": {func(id uuid.UUID) wire.Message {
			half := job.ContentOf(nil)
			half.Size = 40 << 30
			return wire.Done{UUID: id, Artifacts: []job.Artifact{{Path: "a", Content: half}, {Path: "b", Content: half}}}
		}, "artifacts of 85899345920 octets"},
		"more than can be counted": {func(id uuid.UUID) wire.Message {
			var offered []job.Artifact
			for i := range 4 {
				content := job.ContentOf([]byte{byte(i)})
				content.Size = der.MaxInt
				offered = append(offered, job.Artifact{Path: strconv.Itoa(i), Content: content})
			}
			return wire.Done{UUID: id, Artifacts: offered}
		}, "artifacts of 9223372036854775807 octets"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := start(t)
			p, id := r.handedOut()
			p.send(test.message(id))
			if m := p.receive(wire.KindFailure).(wire.Failure); !strings.Contains(m.Text, test.want) {
				t.Errorf("failure %q", m.Text)
			}
			p.gone()
			if build := r.ended("one", 1)[0]; build.Result.Cause != job.WorkerLost || !strings.Contains(build.Result.Text, test.want) {
				t.Errorf("result %v", build.Result)
			}
		})
	}
}

// TestEndlessConsole: a worker that does not keep the limit of the console, of long
// lines or of empty ones, loses the build before it fills the disk.
func TestEndlessConsole(t *testing.T) {
	const many = 50_000
	for name, line := range map[string]job.Line{
		"long lines":  {Data: bytes.Repeat([]byte("x"), many)},
		"empty lines": {Data: bytes.Repeat([]byte("\n"), many), Flags: job.Many},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t)
			bounded := job.Job{Name: "one", Platform: "p", Limits: job.Limits{MaxConsole: 256 << 10}, Retries: job.Retries{Tries: 1}}
			if _, err := r.client().Schedule(t.Context(), bounded, []byte("x"), job.Plan{Period: job.Never}, false); err != nil {
				t.Fatal(err)
			}
			p, id := r.handedOut()
			sent := int64(0)
			for sent < 1<<30/many*line.Count() && p.Send(wire.Lines{UUID: id, From: sent, Lines: []job.Line{line}}) == nil {
				sent += line.Count()
			}
			if build := r.ended("one", 1)[0]; build.Result.Cause != job.WorkerLost || !strings.Contains(build.Result.Text, "262144 are allowed") {
				t.Errorf("result %v", build.Result)
			}
		})
	}
}

// TestStolenBuild: a worker can not touch the build of another one.
func TestStolenBuild(t *testing.T) {
	for name, message := range map[string]func(id uuid.UUID) wire.Message{
		"lines": func(id uuid.UUID) wire.Message { return lines(id, 0, "x") },
		"done":  func(id uuid.UUID) wire.Message { return wire.Done{UUID: id} },
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t)
			p, id := r.handedOut()
			thief, m := r.returning("thief", wire.Held{UUID: id})
			if m.Builds[0].Over == "" {
				t.Errorf("resume %+v", m)
			}
			thief.send(message(id))
			thief.receive(wire.KindFailure)
			thief.gone()
			p.send(lines(id, 0, "mine"))
			p.send(wire.Done{UUID: id, Lines: 1})
			stored(t, p, id)
			if diff := cmp.Diff([]string{"mine"}, r.export(id).Lines); diff != "" {
				t.Errorf("console (-want +got):\n%s", diff)
			}
		})
	}
}

// TestSlots: one connection carries many builds.
func TestSlots(t *testing.T) {
	r := start(t)
	names := []string{"a", "b", "c", "d"}
	p, _ := r.returning("w")
	for _, name := range names {
		r.schedule(name, "p", "script of "+name)
		p.send(wire.JobRequested{Platform: "p"})
	}
	ids := map[string]uuid.UUID{}
	for range names {
		m := p.begin()
		ids[m.Build.Job] = m.Build.UUID
	}
	for i := range 3 {
		for name, id := range ids {
			p.send(lines(id, int64(i), name))
		}
	}
	for _, id := range ids {
		p.send(wire.Done{UUID: id, Lines: 3})
		stored(t, p, id)
	}
	for name, id := range ids {
		if diff := cmp.Diff([]string{name, name, name}, r.export(id).Lines); diff != "" {
			t.Errorf("console of %s (-want +got):\n%s", name, diff)
		}
	}
}

// TestResources: what bounds a job reaches a worker that sees to it. Another one is
// not given the job.
func TestResources(t *testing.T) {
	r := start(t, func(c *server.Config) { c.Program = "server 3" })
	frugal := job.Job{Name: "one", Platform: "p", Resources: job.Resources{Memory: 1 << 30, NoNetwork: true}}
	if _, err := r.client().Schedule(t.Context(), frugal, []byte("x"), job.Plan{Period: job.Never}, false); err != nil {
		t.Fatal(err)
	}
	p, _ := r.returning("w")
	p.send(wire.JobRequested{Platform: "p"})
	r.ended("one", 1)
	old := r.requested(wire.WorkerVersion, "p")
	r.execute("one")
	for i, program := range []string{"one of protocol 5", "worker 2"} {
		build := r.ended("one", 2)[i]
		if build.Result.Cause != job.Setup {
			t.Errorf("result %v", build.Result)
		}
		for _, word := range []string{program, "server 3", `"resources"`, "upgrade the worker"} {
			if !strings.Contains(build.Result.Text, word) {
				t.Errorf("result %q does not say %q", build.Result.Text, word)
			}
		}
	}
	old.Close()
	able := r.introduced("able", wire.CapResources)
	able.send(wire.Holding{})
	able.receive(wire.KindResume)
	able.send(wire.JobRequested{Platform: "p"})
	r.execute("one")
	m := able.begin()
	if m.Resources != frugal.Resources {
		t.Errorf("resources %v", m.Resources)
	}
	place := job.Place{Kind: "container", Origin: "x@sha256:0", Phases: []job.Phase{{Name: "run", Took: time.Second}}}
	able.send(wire.Done{UUID: m.Build.UUID, Place: place})
	stored(t, able, m.Build.UUID)
	if diff := cmp.Diff(place, r.record(m.Build.UUID).Place); diff != "" {
		t.Errorf("place (-want +got):\n%s", diff)
	}
}

// TestLater: a server that is stopped tells its workers when to come again, and
// their builds go on.
func TestLater(t *testing.T) {
	r := start(t)
	p, id := r.handedOut()
	r.halt()
	p.receive(wire.KindLater)
	p.gone()
	r.start()
	p, m := r.returning("w", wire.Held{UUID: id, Lines: 1})
	resumed(t, m, id, 0)
	p.send(lines(id, 0, "printed meanwhile"))
	p.send(wire.Done{UUID: id, Lines: 1})
	stored(t, p, id)
}

// TestSilentWorker: a worker that hangs is away after three heartbeats.
func TestSilentWorker(t *testing.T) {
	r := start(t, func(c *server.Config) { c.Heartbeat = 50 * time.Millisecond })
	r.schedule("one", "p", "x")
	p := r.socket()
	p.send(wire.ClientHello{Role: wire.Worker, Version: wire.OwnVersion})
	p.receive(wire.KindWelcome)
	p.send(wire.Introduce{ID: "w", Capabilities: []string{wire.CapResume, wire.CapAlive}})
	p.send(wire.Holding{})
	p.receive(wire.KindResume)
	p.send(wire.JobRequested{Platform: "p"})
	for p.receive(wire.KindStart, wire.KindAlive).Kind() != wire.KindStart {
		continue
	}
	r.away()
}

// TestBusyWorkers: a worker that is talking while it waits is not taken for gone.
func TestBusyWorkers(t *testing.T) {
	r := start(t)
	const count = 60
	for i := range count {
		r.schedule(fmt.Sprint("job", i), "p", "#!/bin/sh\necho printed\n")
	}
	for range 2 {
		r.worker("p", func(c *worker.Config) { c.Slots = 2 })
	}
	for i := range count {
		if build := r.ended(fmt.Sprint("job", i), 1)[0]; !build.Result.Success() {
			t.Errorf("result %v", build.Result)
		}
	}
}

// TestSilentClient: a client that hangs is not told that it does, which would be
// the last word: when it goes on it comes again.
func TestSilentClient(t *testing.T) {
	r := start(t, func(c *server.Config) { c.Heartbeat = 50 * time.Millisecond })
	r.schedule("one", "p", "x")
	p := r.socket()
	p.send(wire.ClientHello{Role: wire.Client, Version: wire.OwnVersion})
	p.receive(wire.KindWelcome)
	p.send(wire.Introduce{Capabilities: []string{wire.CapAlive}})
	p.send(wire.Watch{Run: 1, Job: "one"})
	for {
		_, err := p.tryReceive(wire.KindAlive)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("waiting for the end of the connection: %v", err)
		}
	}
}
