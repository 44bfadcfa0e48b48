package server_test

import (
	"strings"
	"testing"
	"time"

	"builder/pkg/job"
	"builder/pkg/schedule"
	"builder/pkg/server"
	"builder/pkg/wire"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// TestLegacyBuild is a build by a worker of the reference, seen by a client of
// the reference.
func TestLegacyBuild(t *testing.T) {
	r := start(t)
	w := r.requested(wire.WorkerVersion, "p")
	r.waiting("p", 1)
	accepted := r.schedule("one", "p", "#!/bin/sh\necho\n")
	got := w.job()
	if diff := cmp.Diff(scriptJob("one", "p", "#!/bin/sh\necho\n"), got.Job); diff != "" {
		t.Fatalf("the job (-want +got):\n%s", diff)
	}
	w.send(wire.Output{UUID: got.UUID, Data: []byte("before")})
	observer := r.dial(wire.Client, wire.ClientVersion)
	observer.send(wire.Observe{UUID: got.UUID})
	see := func(want string) {
		t.Helper()
		if m := observer.receive(wire.KindOutput).(wire.Output); string(m.Data) != want || m.UUID != got.UUID {
			t.Fatalf("observed %q, expected %q", m.Data, want)
		}
	}
	see("before")
	if running := r.legacyInfo().Running; len(running) != 1 || running[0].UUID != got.UUID || running[0].Job.Name != "one" {
		t.Errorf("running: %v", running)
	}
	w.send(wire.Output{UUID: got.UUID, Data: []byte("with \xff octets")})
	see("with \xff octets")
	w.send(wire.JobFinished{UUID: got.UUID, Result: job.Result{Kind: job.Exited, Code: 3}, Files: []wire.File{
		{Path: "bin/a", Data: text("artifact a")}, {Path: "b", Data: text("")},
	}})
	see("exited 3")
	observer.done()
	observer.gone()
	w.gone() // one job per connection

	build := r.ended("one", 1)[0]
	if build.Run != accepted.Runs[0].ID || build.Try != 1 || build.UUID != got.UUID {
		t.Errorf("recorded: %+v", build)
	}
	e := r.export(got.UUID)
	if diff := cmp.Diff(map[string]string{"bin/a": "artifact a", "b": ""}, e.Files); diff != "" {
		t.Errorf("artifacts (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"before", "with \xff octets"}, e.Lines); diff != "" {
		t.Errorf("console (-want +got):\n%s", diff)
	}
	// It has ended: now it is replayed.
	replay := r.dial(wire.Client, wire.ClientVersion)
	replay.send(wire.Observe{UUID: got.UUID})
	for _, want := range []string{"before", "with \xff octets", "exited 3"} {
		if m := replay.receive(wire.KindOutput).(wire.Output); string(m.Data) != want {
			t.Errorf("replayed %q, expected %q", m.Data, want)
		}
	}
	replay.done()
}

// TestLegacyResults are what a worker of the reference may report.
func TestLegacyResults(t *testing.T) {
	r := start(t)
	r.schedule("one", "p", "x")
	for i, tt := range []struct {
		result job.Result
		shown  string
	}{
		{job.Result{Kind: job.Exited}, "exited 0"},
		{job.Result{Kind: job.Exited, Code: 255}, "exited 255"},
		{job.Result{Kind: job.Signalled, Code: -7}, "killed by SIGKILL"}, // OCaml's number
		{job.Result{Kind: job.Stopped, Code: -16}, "stopped by SIGSTOP"},
		{job.Result{Kind: job.Failed, Text: "no \xff luck"}, "no \uFFFD luck"},
	} {
		if i > 0 {
			r.execute("one")
		}
		w := r.requested(wire.WorkerVersion, "p")
		id := w.job().UUID
		w.send(wire.JobFinished{UUID: id, Result: tt.result})
		w.gone()
		build := r.ended("one", i+1)[0]
		if diff := cmp.Diff(tt.result, build.Result); diff != "" {
			t.Errorf("result (-want +got):\n%s", diff)
		}
		if build.Result.String() != tt.shown {
			t.Errorf("shown as %q, expected %q", build.Result, tt.shown)
		}
		if e := r.export(id); e.Result.Kind != tt.result.Kind || e.Result.Code != tt.result.Code {
			t.Errorf("exported as %v, expected %v", e.Result, tt.result)
		}
	}
}

// TestWorkerLost has workers that go in the middle: the run is tried three
// times, before any other, then it has failed for that reason.
func TestWorkerLost(t *testing.T) {
	for name, version := range map[string]int64{"protocol 5": wire.WorkerVersion, "our own": wire.OwnVersion} {
		t.Run(name, func(t *testing.T) {
			r := start(t)
			run := r.schedule("lost", "p", "x").Runs[0].ID
			r.schedule("other", "p", "x")
			for try := 1; try <= 3; try++ {
				wait(t, "the next try is ready", func() bool {
					queue := r.platform("p").Queue
					return queue[0].ID == run && queue[0].Tries == try-1 && time.Now().After(queue[0].After)
				})
				w := r.requested(version, "p")
				if version == wire.OwnVersion {
					start := w.begin()
					if start.Build.Run != run || start.Build.Try != try {
						t.Fatalf("handed out %+v, expected try %d of run %d", start.Build, try, run)
					}
					w.send(wire.Lines{UUID: start.Build.UUID, Lines: []job.Line{{Data: []byte("begun")}}})
				} else {
					got := w.job()
					w.send(wire.Output{UUID: got.UUID, Data: []byte("begun")})
				}
				w.Close()
				r.ended("lost", try)
			}
			for _, build := range r.ended("lost", 3) {
				if build.Result.Cause != job.WorkerLost || build.Run != run {
					t.Errorf("recorded: %+v", build)
				}
				if diff := cmp.Diff([]string{"begun"}, r.export(build.UUID).Lines); diff != "" {
					t.Errorf("console (-want +got):\n%s", diff)
				}
				// One of ours kills the script when its connection ends.
				notes := strings.Join(r.notes(build.UUID), "\n")
				if unseen := strings.Contains(notes, "the script may still be running"); unseen != (version == wire.WorkerVersion) {
					t.Errorf("notes %q", notes)
				}
			}
			w := r.requested(wire.WorkerVersion, "p")
			if got := w.job(); got.Job.Name != "other" {
				t.Errorf("after three tries %q is handed out", got.Job.Name)
			}
		})
	}
}

// TestBackoff: no try before its time.
func TestBackoff(t *testing.T) {
	r := start(t, func(c *server.Config) {
		c.Backoff = schedule.Backoff{First: 1 << 40, Most: 1 << 40} // 18 minutes
	})
	r.schedule("lost", "p", "x")
	w := r.requested(wire.WorkerVersion, "p")
	w.job()
	w.Close()
	r.ended("lost", 1)
	next := r.requested(wire.OwnVersion, "p")
	r.waiting("p", 1)
	queue := r.platform("p").Queue
	if len(queue) != 1 || queue[0].After.IsZero() || queue[0].Tries != 1 {
		t.Fatalf("queue: %+v", queue)
	}
	// Somebody who asks for it need not wait.
	r.execute("lost")
	if got := next.begin(); got.Build.Run != queue[0].ID || got.Build.Try != 2 {
		t.Errorf("handed out: %+v", got.Build)
	}
}

// TestForeignBuild has workers that speak of builds that are not theirs.
func TestForeignBuild(t *testing.T) {
	foreign := uuid.New()
	for name, tt := range map[string]struct {
		version int64
		message wire.Message
	}{
		"output":   {wire.WorkerVersion, wire.Output{UUID: foreign, Data: []byte("x")}},
		"finished": {wire.WorkerVersion, wire.JobFinished{UUID: foreign}},
		"lines":    {wire.OwnVersion, wire.Lines{UUID: foreign, Lines: []job.Line{{Data: []byte("x")}}}},
		"finish":   {wire.OwnVersion, wire.Finish{UUID: foreign}},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, func(c *server.Config) { c.Backoff = schedule.Backoff{First: 1 << 40, Most: 1 << 40} })
			r.schedule("one", "p", "x")
			w := r.requested(tt.version, "p")
			if tt.version == wire.OwnVersion {
				w.begin()
			} else {
				w.job()
			}
			w.send(tt.message)
			if tt.version == wire.OwnVersion {
				if m := w.receive(wire.KindFailure).(wire.Failure); !strings.Contains(m.Text, foreign.String()) {
					t.Errorf("the worker is told %q", m.Text)
				}
			}
			w.gone()
			build := r.ended("one", 1)[0]
			if build.Result.Cause != job.WorkerLost || !strings.Contains(build.Result.Text, "protocol violation") {
				t.Errorf("result %v", build.Result)
			}
			if lines := r.export(build.UUID).Lines; len(lines) > 0 {
				t.Errorf("console %q", lines)
			}
		})
	}
}
