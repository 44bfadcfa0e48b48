package server_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"builder/pkg/job"
	"builder/pkg/server"
	"builder/pkg/wire"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// returning is a worker that can come back, on a connection of its own, which
// says what it holds.
func (r *running) returning(identity string, held ...wire.Held) (*peer, wire.Resume) {
	r.t.Helper()
	p := r.introduced(identity)
	p.send(wire.Holding{Builds: held})
	return p, p.receive(wire.KindResume).(wire.Resume)
}

// introduced is the beginning of a connection of such a worker.
func (r *running) introduced(identity string, capabilities ...string) *peer {
	r.t.Helper()
	p := r.socket()
	p.send(wire.ClientHello{Role: wire.Worker, Version: wire.OwnVersion})
	p.receive(wire.KindWelcome)
	p.send(wire.Introduce{Name: "tester", Program: "worker 2", ID: identity, Capabilities: append(capabilities, wire.CapResume, wire.CapAlive)})
	p.KeepAlive(time.Minute, deadline)
	return p
}

// handedOut is such a worker with a build of the job "one" on platform "p".
func (r *running) handedOut() (*peer, uuid.UUID) {
	r.t.Helper()
	if len(r.status().Jobs) == 0 {
		r.schedule("one", "p", "script")
	}
	p, _ := r.returning("w")
	p.send(wire.JobRequested{Platform: "p"})
	return p, p.begin().Build.UUID
}

// away waits until the server has noticed that the worker of the build went.
func (r *running) away() {
	r.t.Helper()
	wait(r.t, "worker away", func() bool {
		building := r.status().Building
		return len(building) == 1 && !building[0].Away.IsZero()
	})
}

func resumed(t *testing.T, m wire.Resume, id uuid.UUID, from int64) {
	t.Helper()
	if diff := cmp.Diff([]wire.Resumption{{UUID: id, From: from}}, m.Builds); diff != "" {
		t.Fatalf("resume (-want +got):\n%s", diff)
	}
}

// stored waits until the build is. It may have been told to stop before.
func stored(t *testing.T, p *peer, id uuid.UUID) {
	t.Helper()
	m := p.receive(wire.KindStored, wire.KindStop)
	if m.Kind() == wire.KindStop {
		m = p.receive(wire.KindStored)
	}
	if diff := cmp.Diff(any(wire.Stored{UUID: id}), any(m)); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
}

// TestResume breaks the connection, or restarts the server, between all messages
// of a build, each of which is sent again.
func TestResume(t *testing.T) {
	for name, breaking := range map[string]func(r *running, p *peer){
		"the connection breaks": func(r *running, p *peer) {
			p.Close()
			wait(r.t, "worker away", func() bool {
				building := r.status().Building
				return len(building) == 0 || !building[0].Away.IsZero()
			})
		},
		"the server restarts": func(r *running, _ *peer) { r.restart() },
		"a new connection":    func(*running, *peer) {},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t)
			p, id := r.handedOut()
			old := p
			again := func(printed int64, ended bool, from int64) {
				t.Helper()
				old = p
				breaking(r, p)
				var m wire.Resume
				p, m = r.returning("w", wire.Held{UUID: id, Lines: printed, Ended: ended})
				resumed(t, m, id, from)
			}
			again(0, false, 0)
			p.send(lines(id, 0, "first", "second"))
			r.watch(wire.Watch{What: id.String()}).expect(t, "begin 1", "line first", "line second")
			again(3, false, 2)
			p.send(lines(id, 0, "first", "second", "third")) // those that are there are skipped
			p.send(lines(id, 2, "third"))
			p.send(wire.Lines{UUID: id, From: 1, Lines: []job.Line{{Data: []byte("second\nthird\nfourth"), Flags: job.Many}}})
			done := wire.Done{UUID: id, Lines: 4, Result: job.Result{Kind: job.Exited, Code: 3}, Notes: []string{"a note"}}
			p.send(done)
			stored(t, p, id)
			build := r.ended("one", 1)[0]
			again(4, true, 4) // the answer was lost
			p.send(done)
			stored(t, p, id)
			if build.Result.Code != 3 {
				t.Errorf("result %v", build.Result)
			}
			if diff := cmp.Diff([]string{"first", "second", "third", "fourth"}, r.export(id).Lines); diff != "" {
				t.Errorf("console (-want +got):\n%s", diff)
			}
			r.idle("one")
			if name == "a new connection" {
				old.gone()
			}
		})
	}
}

// TestRepeated: the network sends the beginning of a connection again, in which
// nothing was held yet, while a build runs on it. The build goes on.
func TestRepeated(t *testing.T) {
	r := start(t)
	r.schedule("one", "p", "script")
	var first wire.Introduce
	greet := func() *peer {
		p := r.socket()
		p.send(wire.ClientHello{Role: wire.Worker, Version: wire.OwnVersion})
		welcome := p.receive(wire.KindWelcome).(wire.Welcome)
		if first.ID == "" {
			first = wire.Introduce{ID: "w", Capabilities: []string{wire.CapResume}, Nonce: welcome.Nonce}
		}
		p.send(first)
		return p
	}
	p := greet()
	p.send(wire.Holding{})
	p.receive(wire.KindResume)
	p.send(wire.JobRequested{Platform: "p"})
	id := p.begin().Build.UUID
	again := greet()
	if m := again.receive(wire.KindFailure).(wire.Failure); !strings.Contains(m.Text, "repeats") {
		t.Errorf("failure %q", m.Text)
	}
	again.gone()
	p.send(lines(id, 0, "printed"))
	p.send(wire.Done{UUID: id, Lines: 1, Result: success})
	stored(t, p, id)
	if build := r.ended("one", 1)[0]; !build.Result.Success() {
		t.Errorf("result %v", build.Result)
	}
}

// TestNeverReceived: what the worker does not hold when it comes back it never
// got. The run is handed out again, and that was no try.
func TestNeverReceived(t *testing.T) {
	r := start(t)
	p, id := r.handedOut()
	p.Close()
	p, m := r.returning("w")
	if len(m.Builds) > 0 {
		t.Errorf("resume %+v", m)
	}
	if build := r.ended("one", 1)[0]; build.UUID != id || build.Result.Cause != job.WorkerLost || build.Try != 1 {
		t.Errorf("build %+v", build)
	}
	p.send(wire.JobRequested{Platform: "p"})
	if start := p.begin(); start.Build.Try != 1 || start.Build.UUID == id {
		t.Errorf("start %+v", start.Build)
	}
}

// TestWorkerAway: a worker that does not come back has lost its build; what it
// says of it later is refused.
func TestWorkerAway(t *testing.T) {
	r := start(t, func(c *server.Config) { c.WorkerGrace = 100 * time.Millisecond })
	p, id := r.handedOut()
	p.send(lines(id, 0, "printed"))
	p.Close()
	build := r.ended("one", 1)[0]
	if build.Result.Cause != job.WorkerLost || build.Result.Text != "worker lost: it did not come back within 100ms" {
		t.Errorf("result %v", build.Result)
	}
	if diff := cmp.Diff([]string{"printed"}, r.export(id).Lines); diff != "" {
		t.Errorf("console (-want +got):\n%s", diff)
	}
	unknown := uuid.New()
	p, m := r.returning("w", wire.Held{UUID: id, Lines: 5}, wire.Held{UUID: unknown})
	want := []wire.Resumption{
		{UUID: id, Over: "the build has ended already: worker lost: it did not come back within 100ms"},
		{UUID: unknown, Over: "the server does not know the build"},
	}
	if diff := cmp.Diff(want, m.Builds); diff != "" {
		t.Errorf("resume (-want +got):\n%s", diff)
	}
	p.send(wire.Done{UUID: id, Lines: 5})
	if m := p.receive(wire.KindStored).(wire.Stored); !strings.Contains(m.Refused, "ended already") {
		t.Errorf("stored: %+v", m)
	}
	p.send(wire.Lines{UUID: id, From: 5}) // on its way when the worker heard so
	p.send(wire.JobRequested{Platform: "p"})
	if start := p.begin(); start.Build.Try != 2 {
		t.Errorf("start %+v", start.Build)
	}
}

// TestAwayAnew: a server that starts has as much patience with workers that are away
// as if they had gone in that moment.
func TestAwayAnew(t *testing.T) {
	r := start(t)
	p, _ := r.handedOut()
	p.Close()
	r.away()
	r.stop()
	stopped := time.Now()
	r.halt()
	r.start()
	if away := r.status().Building[0].Away; !away.After(stopped) {
		t.Errorf("away since %v, the server was stopped at %v", away, stopped)
	}
}

// TestCancelHeld cancels a build in all its states.
func TestCancelHeld(t *testing.T) {
	cancelled := job.Failure(job.Cancelled, "cancelled")
	tests := map[string]struct {
		before func(r *running, p *peer, id uuid.UUID)
		after  func(r *running, p *peer, id uuid.UUID)
		want   job.Result
	}{
		"the worker is away": {
			before: func(r *running, p *peer, _ uuid.UUID) { p.Close(); r.away() },
			want:   cancelled,
		},
		"the worker stops it": {
			after: func(_ *running, p *peer, id uuid.UUID) {
				stop := p.receive(wire.KindStop).(wire.Stop)
				p.send(lines(id, 0, "terminated"))
				p.send(wire.Done{UUID: id, Lines: 1, Result: stop.Result})
				stored(t, p, id)
			},
			want: cancelled,
		},
		"the worker goes instead": {
			after: func(_ *running, p *peer, _ uuid.UUID) {
				p.receive(wire.KindStop)
				p.Close()
			},
			want: cancelled,
		},
		"it ended by itself in that moment": {
			after: func(_ *running, p *peer, id uuid.UUID) {
				p.send(wire.Done{UUID: id, Result: job.Result{Kind: job.Exited, Code: 7}})
				stored(t, p, id)
			},
			want: job.Result{Kind: job.Exited, Code: 7},
		},
		"the worker failed to stop it": {
			after: func(_ *running, p *peer, id uuid.UUID) {
				p.receive(wire.KindStop)
				p.send(wire.Done{UUID: id, Result: job.Failure(job.NoSandbox, "processes are left")})
				if m := p.receive(wire.KindStored).(wire.Stored); !strings.Contains(m.Refused, "cancelled") {
					t.Errorf("stored %+v", m) // what it says is nowhere else
				}
			},
			want: cancelled,
		},
		"the worker comes back meanwhile": {
			after: func(r *running, p *peer, id uuid.UUID) {
				p.receive(wire.KindStop)
				p, m := r.returning("w", wire.Held{UUID: id})
				if m.Builds[0].Over != "" {
					return // it was away for a moment, which was enough
				}
				stop := p.receive(wire.KindStop).(wire.Stop) // again
				p.send(wire.Done{UUID: id, Result: stop.Result})
				stored(t, p, id)
			},
			want: cancelled,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := start(t)
			p, id := r.handedOut()
			if test.before != nil {
				test.before(r, p, id)
			}
			if err := r.client().Cancel(t.Context(), "one", ""); err != nil {
				t.Fatal(err)
			}
			if test.after != nil {
				test.after(r, p, id)
			}
			build := r.ended("one", 1)[0]
			if diff := cmp.Diff(test.want, build.Result); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
			r.idle("one")
		})
	}
}

// TestCancelKept: a cancel that was acknowledged is not forgotten by a server that
// ends before anybody else has heard of it.
func TestCancelKept(t *testing.T) {
	for name, version := range map[string]int64{"a worker that comes back": 0, "one that can not": wire.WorkerVersion} {
		t.Run(name, func(t *testing.T) {
			r := start(t)
			r.schedule("one", "p", "script")
			var id uuid.UUID
			if version == 0 {
				_, id = r.handedOut()
			} else {
				id = r.requested(version, "p").job().UUID
			}
			if err := r.client().Cancel(t.Context(), "one", ""); err != nil {
				t.Fatal(err)
			}
			r.restart()
			if version == 0 {
				if p, m := r.returning("w", wire.Held{UUID: id}); m.Builds[0].Over == "" {
					stop := p.receive(wire.KindStop).(wire.Stop)
					p.send(wire.Done{UUID: id, Result: stop.Result})
					stored(t, p, id)
				}
			}
			if build := r.ended("one", 1)[0]; build.Result.Cause != job.Cancelled {
				t.Errorf("result %v", build.Result)
			}
			r.idle("one")
		})
	}
}

// TestDecidedAway: a build whose end was fixed, though artifacts were lacking, ends so
// when the server was restarted meanwhile; the record says that they are lacking.
func TestDecidedAway(t *testing.T) {
	r := start(t)
	p, id := r.handedOut()
	if err := r.client().Cancel(t.Context(), "one", ""); err != nil {
		t.Fatal(err)
	}
	p.receive(wire.KindStop)
	offer := []job.Artifact{{Path: "a", Mode: 0o644, Content: job.ContentOf([]byte("lacking"))}}
	p.send(wire.Done{UUID: id, Result: success, Artifacts: offer})
	wait(t, "the decision", func() bool { return r.log.count("build decided") > 0 })
	r.restart()
	build := r.ended("one", 1)[0]
	notes := strings.Join(r.notes(id), "\n")
	if !build.Result.Success() || !strings.Contains(notes, "the artifacts are lacking") {
		t.Errorf("ended as %v, with the notes %q", build.Result, notes)
	}
}

// TestDeaf: a worker that does not stop its build in time does not hold up its
// result, and is refused when it comes with another one.
func TestDeaf(t *testing.T) {
	r := start(t, func(c *server.Config) { c.CollectTimeout = time.Millisecond })
	_, err := r.client().Schedule(t.Context(), job.Job{Name: "one", Platform: "p", Limits: job.Limits{Grace: time.Millisecond}},
		[]byte("x"), job.Plan{Period: job.Never}, false)
	if err != nil {
		t.Fatal(err)
	}
	p, id := r.handedOut()
	if err := r.client().Cancel(t.Context(), "one", "too late"); err != nil {
		t.Fatal(err)
	}
	p.receive(wire.KindStop)
	if build := r.ended("one", 1)[0]; build.Result.Text != "cancelled: too late" {
		t.Errorf("result %v", build.Result)
	}
	p.receive(wire.KindStop)
	p.send(wire.Done{UUID: id})
	if m := p.receive(wire.KindStored).(wire.Stored); !strings.Contains(m.Refused, "cancelled") {
		t.Errorf("stored: %+v", m)
	}
}

// TestNobodyThere: the connection ends while the server makes the script of a build
// that it has handed out.
func TestNobodyThere(t *testing.T) {
	files := newFaulty()
	r := start(t, func(c *server.Config) { c.Files = files })
	r.schedule("one", "p", "script")
	p, _ := r.returning("w")
	reading, closed := make(chan struct{}), make(chan struct{})
	var once sync.Once
	files.set(func(op, name string) error {
		if op == "read" && strings.Contains(name, "/content/") {
			once.Do(func() {
				close(reading)
				<-closed
			})
		}
		return nil
	})
	p.send(wire.JobRequested{Platform: "p"})
	<-reading
	p.Close()
	r.away()
	close(closed)
	if build := r.ended("one", 1)[0]; build.Result.Cause != job.WorkerLost {
		t.Errorf("result %v", build.Result)
	}
	p, _ = r.returning("w")
	p.send(wire.JobRequested{Platform: "p"})
	if start := p.begin(); start.Build.Try != 1 {
		t.Errorf("start %+v", start.Build)
	}
}

// TestHaltedAtTheEnd: a server that is told to end when an end has come that it has
// not looked at yet does not refuse what the next one takes.
func TestHaltedAtTheEnd(t *testing.T) {
	files := newFaulty()
	r := start(t, func(c *server.Config) { c.Files = files })
	r.schedule("one", "p", "script")
	for range 10 {
		stopped := make(chan struct{})
		files.set(func(op, name string) error {
			if op == "mkdir" && strings.Contains(name, "/builds/") {
				<-stopped // the build has been sent, and does not go on before
			}
			return nil
		})
		p, id := r.handedOut()
		done := wire.Done{UUID: id, Result: job.Result{Kind: job.Exited, Code: 3}}
		p.send(done)
		r.status() // the end has come meanwhile, most likely
		r.stop()
		close(stopped)
		r.halt()
		for {
			m, err := p.Receive(t.Context(), wire.KindStored, wire.KindStop, wire.KindLater, wire.KindAlive)
			if err != nil {
				break
			}
			if m, ok := m.(wire.Stored); ok && m.Refused != "" {
				t.Fatalf("refused: %s", m.Refused)
			}
		}
		files.set(nil)
		r.start()
		p, _ = r.returning("w", wire.Held{UUID: id, Ended: true})
		p.send(done)
		stored(t, p, id)
		p.Close()
		r.execute("one")
	}
}

// TestStaleConnection: what comes late on a connection that the worker has given up
// is not taken for news: neither does it replace the worker's new one, nor is a
// build taken for never received that was handed out since.
func TestStaleConnection(t *testing.T) {
	for name, breaks := range map[string]bool{"beside the new one": false, "after the new one": true} {
		t.Run(name, func(t *testing.T) {
			r := start(t)
			stale := r.introduced("w")
			p, id := r.handedOut()
			if breaks {
				p.Close()
				r.away()
			}
			stale.send(wire.Holding{})
			if m := stale.receive(wire.KindFailure).(wire.Failure); !strings.Contains(m.Text, "newer connection") {
				t.Errorf("failure %q", m.Text)
			}
			stale.gone()
			if breaks {
				var m wire.Resume
				p, m = r.returning("w", wire.Held{UUID: id})
				resumed(t, m, id, 0)
			}
			p.send(wire.Done{UUID: id})
			stored(t, p, id)
		})
	}
}
