package server_test

import (
	"os"
	"path/filepath"
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

// TestRestart stops the server while builds of both kinds of workers run. They
// end as lost with what they had printed, their runs are queued again, and that
// was no try.
func TestRestart(t *testing.T) {
	r := start(t)
	for i := range 5 { // more often than there are tries
		var ids []uuid.UUID
		for name, version := range map[string]int64{"old": wire.WorkerVersion, "own": wire.OwnVersion} {
			if i == 0 {
				r.schedule(name, name, "script of "+name)
			}
			w := r.requested(version, name)
			var id uuid.UUID
			if version == wire.OwnVersion {
				start := w.begin()
				if start.Build.Try != 1 {
					t.Errorf("try %d", start.Build.Try)
				}
				id = start.Build.UUID
				w.send(lines(id, 0, "printed"))
			} else {
				id = w.job().UUID
				w.send(wire.Output{UUID: id, Data: []byte("printed")})
			}
			s := r.watch(wire.Watch{What: id.String()})
			s.expect(t, "begin 1", "line printed")
			ids = append(ids, id)
		}
		r.restart()
		for _, id := range ids {
			e := r.export(id)
			if diff := cmp.Diff([]string{"printed"}, e.Lines); diff != "" {
				t.Errorf("console (-want +got):\n%s", diff)
			}
			if want := "script of " + e.Job.Name; string(e.Job.Script.Data) != want {
				t.Errorf("script %q, expected %q", e.Job.Script.Data, want)
			}
		}
		for _, name := range []string{"old", "own"} {
			build := r.ended(name, i+1)[0]
			if build.Result.Cause != job.WorkerLost || !strings.Contains(build.Result.Text, "restarted") {
				t.Errorf("%s: result %v", name, build.Result)
			}
			if notes := r.notes(build.UUID); len(notes) != 1 || !strings.Contains(notes[0], "may still be running") {
				t.Errorf("%s: notes %q", name, notes)
			}
			queue := r.platform(name).Queue
			if len(queue) != 1 || queue[0].Tries != 0 || !queue[0].After.IsZero() || queue[0].ID != build.Run {
				t.Errorf("%s: queue %+v", name, queue)
			}
		}
	}
}

// TestStoppedWorkers: a worker that the last server took with it when it was stopped
// loses its build, by its own word or since it does not come, as often as that may be:
// no try is counted, and the job is not parked. Another worker's loss is one.
func TestStoppedWorkers(t *testing.T) {
	for name, test := range map[string]struct {
		stopped string
		comes   bool
		tries   int
	}{
		"it comes back":         {"w", true, 0},
		"it does not come back": {"w", false, 0},
		"another one":           {"v", true, 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, func(c *server.Config) {
				c.Stopped, c.Backoff = []string{test.stopped}, schedule.Backoff{First: 1, Most: 1}
				if !test.comes {
					c.WorkerGrace = time.Millisecond
				}
			})
			for i := range 4 { // more often than there are tries, and than a job is parked after
				p, id := r.handedOut()
				p.send(lines(id, 0, "printed"))
				r.watch(wire.Watch{What: id.String()}).expect(t, "begin 1", "line printed")
				r.restart()
				if test.comes {
					p, m := r.returning("w", wire.Held{UUID: id, Lines: 1})
					resumed(t, m, id, 1)
					p.send(wire.Done{UUID: id, Lines: 1, Result: job.Failure(job.Restarted, "worker restarted")})
					stored(t, p, id)
					p.Close()
				}
				r.ended("one", i+1)
				if queue := r.platform("p").Queue; len(queue) != 1 || queue[0].Tries != test.tries {
					t.Fatalf("queue %+v", queue)
				}
				if test.tries > 0 {
					return
				}
			}
		})
	}
}

// TestUnheard: the worker went, or the server was restarted, after the end of a
// build was durable and before the worker had heard so. It has ended once.
func TestUnheard(t *testing.T) {
	for name, after := range map[string]func(r *running){
		"worker gone": func(*running) {}, "restart": func(r *running) { r.restart() },
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t)
			r.schedule("one", "p", "x")
			w := r.requested(wire.OwnVersion, "p")
			w.send(wire.Finish{UUID: w.begin().Build.UUID, Result: success, Files: []wire.File{{Path: "a", Data: text("x")}}})
			w.net.CloseWrite()
			r.ended("one", 1)
			after(r)
			if build := r.ended("one", 1)[0]; !build.Result.Success() {
				t.Errorf("result %v", build.Result)
			}
			wait(t, "the build is over", func() bool { return len(r.status().Building) == 0 })
			r.idle("one")
		})
	}
}

// TestAdopt restarts a server whose last event is missing from the journal: the
// record of the build is complete, and is what counts.
func TestAdopt(t *testing.T) {
	r := start(t)
	r.schedule("one", "p", "x")
	w := r.requested(wire.OwnVersion, "p")
	id := w.begin().Build.UUID
	// What is on disk now is what a kill before the end of the build leaves.
	before := readTree(t, filepath.Join(r.config.Dir, "v1", "state"))
	w.send(lines(id, 0, "printed"))
	w.send(wire.Finish{UUID: id, Result: job.Result{Kind: job.Exited, Code: 7}, Files: []wire.File{{Path: "a", Data: text("kept")}}})
	w.receive(wire.KindStored)
	whole := r.export(id)
	r.halt()
	writeTree(t, filepath.Join(r.config.Dir, "v1", "state"), before)
	r.start()
	if n := r.log.count("left running", `"exited 7"`); n != 1 {
		t.Errorf("adopted %d times", n)
	}
	builds := r.ended("one", 1)
	if builds[0].Result.Code != 7 {
		t.Errorf("result %v", builds[0].Result)
	}
	r.idle("one")
	if diff := cmp.Diff(whole, r.export(id)); diff != "" {
		t.Errorf("the result file (-before +after):\n%s", diff)
	}
}

// TestAdoptNothing: the hand-out is all that is on disk.
func TestAdoptNothing(t *testing.T) {
	r := start(t)
	r.schedule("one", "p", "x")
	w := r.requested(wire.OwnVersion, "p")
	id := w.begin().Build.UUID
	r.halt()
	if err := os.RemoveAll(filepath.Join(r.config.Dir, "v1", "builds", "one")); err != nil {
		t.Fatal(err)
	}
	r.start()
	if build := r.ended("one", 1)[0]; build.UUID != id || build.Result.Cause != job.WorkerLost {
		t.Errorf("recorded: %+v", build)
	}
	if queue := r.platform("p").Queue; len(queue) != 1 || queue[0].Tries != 0 {
		t.Errorf("queue: %+v", queue)
	}
}

// TestLock: one server at a time has a directory.
func TestLock(t *testing.T) {
	r := start(t)
	r.schedule("one", "p", "x")
	before := readTree(t, r.config.Dir)
	if s, err := server.Open(r.config); err == nil {
		s.Close()
		t.Fatal("a second server was let in")
	} else if !strings.Contains(err.Error(), r.config.Dir) {
		t.Errorf("the error does not name the directory: %v", err)
	}
	if diff := cmp.Diff(before, readTree(t, r.config.Dir)); diff != "" {
		t.Errorf("it changed the directory (-before +after):\n%s", diff)
	}
	r.restart()
}

// readTree is every file below dir, by its path.
func readTree(t testing.TB, dir string) map[string]string {
	t.Helper()
	tree := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		tree[name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// writeTree makes dir hold these files and no others.
func writeTree(t testing.TB, dir string, tree map[string]string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for name, data := range tree {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
