package server_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"builder/pkg/job"
	"builder/pkg/server"
	"builder/pkg/store"
	"builder/pkg/wire"

	"github.com/google/go-cmp/cmp"
)

// failing makes the operations of those kinds fail on files whose names hold the
// text.
func failing(err error, name string, ops ...string) func(op, file string) error {
	return func(op, file string) error {
		for _, bad := range ops {
			if op == bad && strings.Contains(file, name) {
				return err
			}
		}
		return nil
	}
}

var diskFaults = map[string]struct {
	err error
	ops []string
}{
	"full":            {syscall.ENOSPC, []string{"write"}},
	"can not cut off": {syscall.EIO, []string{"write", "truncate", "sync", "open", "rename"}},
}

// TestFullJournal: changes are refused with the reason, runs are not handed out,
// and when there is space again everything goes on by itself.
func TestFullJournal(t *testing.T) {
	for name, fault := range diskFaults {
		t.Run(name, func(t *testing.T) {
			files := newFaulty()
			r := start(t, func(c *server.Config) { c.Files = files })
			r.schedule("before", "p", "x")
			files.set(failing(fault.err, "journal", fault.ops...))
			for i := range 3 {
				_, err := r.client().Schedule(t.Context(), job.Job{Name: fmt.Sprint("refused", i), Platform: "p"}, []byte("x"), job.Plan{}, false)
				if err == nil || !strings.Contains(err.Error(), fault.err.Error()) {
					t.Errorf("scheduling: %v", err)
				}
			}
			var workers []*peer
			for i := range 3 {
				workers = append(workers, r.requested(wire.OwnVersion, "p"))
				wait(t, "the worker waits", func() bool { return len(r.platform("p").Workers) == i+1 })
			}
			tries := r.log.count("journal refused a change")
			wait(t, "a hand-out is refused", func() bool { return r.log.count("journal refused a change") > tries })
			if status := r.status(); len(status.Building) > 0 || len(status.Jobs) != 1 {
				t.Errorf("status: %+v", status)
			}
			files.set(nil)
			build := workers[0].begin().Build // the one that has waited longest, still
			if build.Job != "before" {
				t.Errorf("handed out: %+v", build)
			}
			r.schedule("after", "p", "x")
			workers[1].begin()
			workers[0].send(wire.Finish{UUID: build.UUID, Result: success})
			workers[0].receive(wire.KindStored)
			r.restart()
			if jobs := r.status().Jobs; len(jobs) != 2 {
				t.Errorf("%d jobs after the restart", len(jobs))
			}
			r.ended("before", 1)
		})
	}
}

// TestFullWhileEnding: the end of a build waits for the journal, and is not lost.
func TestFullWhileEnding(t *testing.T) {
	files := newFaulty()
	r := start(t, func(c *server.Config) { c.Files = files })
	r.schedule("one", "p", "x")
	w := r.requested(wire.OwnVersion, "p")
	id := w.begin().Build.UUID
	s := r.watch(wire.Watch{What: "one"})
	s.expect(t, "begin 1")
	files.set(failing(syscall.ENOSPC, "/state/journal", "write"))
	w.send(wire.Finish{UUID: id, Result: success})
	wait(t, "the end is refused", func() bool { return r.log.count("ending the build") > 0 })
	if len(s.events) > 0 {
		t.Error("the end is told before it is durable")
	}
	files.set(nil)
	s.expect(t, "final exited 0")
	w.receive(wire.KindStored)
}

// TestFullCancel: a cancel that can not be kept stops the build all the same, and
// who asked is told both.
func TestFullCancel(t *testing.T) {
	files := newFaulty()
	r := start(t, func(c *server.Config) { c.Files = files })
	p, id := r.handedOut()
	files.set(failing(syscall.ENOSPC, "journal", "write"))
	err := r.client().Cancel(t.Context(), "one", "")
	if err == nil || !strings.Contains(err.Error(), "are stopped") || !strings.Contains(err.Error(), syscall.ENOSPC.Error()) {
		t.Errorf("cancelling: %v", err)
	}
	stop := p.receive(wire.KindStop).(wire.Stop)
	files.set(nil)
	p.send(wire.Done{UUID: id, Result: stop.Result})
	stored(t, p, id)
	if build := r.ended("one", 1)[0]; build.Result.Cause != job.Cancelled {
		t.Errorf("result %v", build.Result)
	}
	r.idle("one")
}

// TestFullStore: what a build brings can not be kept. It ends as the server's
// failure, is tried again, and goes well when there is space again.
func TestFullStore(t *testing.T) {
	for where, text := range map[string]string{
		"console": "/console", "artifacts": "/v1/tmp/", "contents": "/content/", "record": "/record", "build directory": "/builds/",
	} {
		for what, err := range map[string]error{"ENOSPC": syscall.ENOSPC, "EIO": syscall.EIO} {
			t.Run(where+" "+what, func(t *testing.T) {
				files := newFaulty()
				r := start(t, func(c *server.Config) { c.Files = files })
				run := r.schedule("one", "p", "x").Runs[0]
				broken := 0
				fault := failing(err, text, "write", "open", "mkdir", "sync", "rename", "syncdir")
				var mu sync.Mutex
				files.set(func(op, name string) error {
					mu.Lock()
					defer mu.Unlock()
					err := fault(op, name)
					if err != nil {
						broken++
					}
					return err
				})
				bring := func(w *peer) error {
					id := w.begin().Build.UUID
					w.Send(lines(id, 0, "printed"))
					w.Send(wire.Finish{UUID: id, Result: success, Files: []wire.File{{Path: "a", Data: wire.Blob{Data: make([]byte, 300_000)}}}})
					_, err := w.tryReceive(wire.KindStored)
					return err
				}
				w := r.requested(wire.OwnVersion, "p")
				lost := bring(w) != nil // when there is not even a place for the build
				wait(t, "the next try", func() bool {
					queue := r.platform("p").Queue
					return len(queue) == 1 && !queue[0].After.IsZero() && queue[0].Tries == 0
				})
				files.set(nil)
				mu.Lock()
				if broken == 0 {
					t.Error("nothing was broken")
				}
				mu.Unlock()
				if lost {
					w.Close()
					w = r.requested(wire.OwnVersion, "p")
				} else {
					w.send(wire.JobRequested{Platform: "p"})
				}
				if err := bring(w); err != nil {
					t.Fatal(err)
				}
				s := r.watch(wire.Watch{Run: run.ID, Job: "one"})
				s.expect(t, "begin 1", "line printed", "final exited 0")
				e := r.export(r.builds("one")[0].UUID)
				if diff := cmp.Diff([]string{"printed"}, e.Lines); diff != "" || len(e.Files["a"]) != 300_000 {
					t.Errorf("kept %d octets and the console (-want +got):\n%s", len(e.Files["a"]), diff)
				}
				// What was not kept has left nothing that looks like a build.
				damage := func(d store.Damage) { t.Errorf("damaged: %v", d) }
				if _, err := server.Verify(t.Context(), r.config.Dir, store.VerifyOptions{Report: damage}); err != nil {
					t.Error(err)
				}
				r.restart()
				r.idle("one")
			})
		}
	}
}

// TestReadyWhileSyncing: a try whose time comes while the disk is busy with
// putting it into the queue is handed out, though nothing else happens then.
func TestReadyWhileSyncing(t *testing.T) {
	files := newFaulty()
	r := start(t, func(c *server.Config) { c.Files = files })
	r.schedule("one", "p", "x")
	first := r.requested(wire.OwnVersion, "p")
	first.begin()
	second := r.requested(wire.OwnVersion, "p")
	r.waiting("p", 1)
	files.set(func(op, name string) error {
		if op == "sync" && strings.Contains(name, "journal") {
			time.Sleep(50 * time.Millisecond) // the retry waits for 1
		}
		return nil
	})
	first.Close()
	if got := second.begin(); got.Build.Try != 2 {
		t.Errorf("handed out: %+v", got.Build)
	}
}

// TestFullStart: a server starts on a full disk and shows what there is. Builds that
// were left running end, or go on, when there is space again.
func TestFullStart(t *testing.T) {
	for name, fault := range map[string]func(op, name string) error{
		"everything":  failing(syscall.ENOSPC, "", "write", "open", "mkdir"),
		"the journal": failing(syscall.ENOSPC, "/journal-", "write"),
	} {
		t.Run(name, func(t *testing.T) {
			files := newFaulty()
			r := start(t, func(c *server.Config) { c.Files = files })
			w := r.requested(wire.OwnVersion, "q")
			r.schedule("ended", "q", "x")
			id := w.begin().Build.UUID
			w.send(wire.Finish{UUID: id, Result: success})
			w.receive(wire.KindStored)
			w.send(wire.JobRequested{Platform: "q"})
			r.schedule("tied", "q", "x")
			tied := w.begin().Build
			p, _ := r.returning("w")
			p.send(wire.JobRequested{Platform: "p"})
			r.schedule("one", "p", "x")
			held := p.begin().Build.UUID
			p.send(lines(held, 0, "first"))
			r.watch(wire.Watch{What: "one"}).expect(t, "begin 1", "line first")
			r.halt()
			var settled atomic.Bool
			files.set(func(op, name string) error {
				if strings.Contains(name, "/journal-") && (op == "open" || settled.CompareAndSwap(false, op == "write")) {
					return nil // what is there is opened, and its last batch written once more in its place
				}
				return fault(op, name)
			})
			r.start()
			if status := r.status(); len(status.Jobs) != 3 || len(status.Building) != 2 {
				t.Errorf("status: %+v", status)
			}
			r.watch(wire.Watch{What: id.String()}).expect(t, "begin 1", "final exited 0")
			_, err := r.client().Schedule(t.Context(), job.Job{Name: "new", Platform: "p"}, []byte("new"), job.Plan{}, false)
			if err == nil || !strings.Contains(err.Error(), syscall.ENOSPC.Error()) {
				t.Errorf("scheduling: %v", err)
			}
			files.set(nil)
			if build := r.ended("tied", 1)[0]; build.Result.Cause != job.WorkerLost {
				t.Errorf("result %v", build.Result)
			}
			wait(t, "the run is queued again", func() bool {
				queue := r.platform("q").Queue
				return len(queue) == 1 && queue[0].ID == tied.Run && queue[0].Tries == 0
			})
			p, m := r.returning("w", wire.Held{UUID: held, Lines: 1})
			resumed(t, m, held, 1)
			p.send(wire.Done{UUID: held, Lines: 1, Result: success})
			stored(t, p, held)
			if diff := cmp.Diff([]string{"first"}, r.export(held).Lines); diff != "" {
				t.Errorf("console (-want +got):\n%s", diff)
			}
		})
	}
}
