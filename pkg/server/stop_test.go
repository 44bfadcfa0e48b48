package server_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"builder/pkg/client"
	"builder/pkg/job"
	"builder/pkg/server"
	"builder/pkg/wire"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

func (r *running) cancel(what string) {
	r.t.Helper()
	if err := r.client().Cancel(r.t.Context(), what, "because"); err != nil {
		r.t.Fatalf("cancelling %s: %v", what, err)
	}
}

// idle expects that the job is neither queued nor running.
func (r *running) idle(name string) {
	r.t.Helper()
	status := r.status()
	for _, p := range status.Platforms {
		for _, run := range p.Queue {
			if run.Job.Name == name {
				r.t.Errorf("%s is queued", name)
			}
		}
	}
	for _, b := range status.Building {
		if b.Job == name {
			r.t.Errorf("%s is running", name)
		}
	}
}

// TestCancelQueued: a run that waits is taken out, the job stays.
func TestCancelQueued(t *testing.T) {
	r := start(t)
	run := r.schedule("one", "p", "x").Runs[0]
	s := r.watch(wire.Watch{Run: run.ID, Job: "one"})
	r.cancel("one")
	var refused *client.RefusedError
	if err := s.over(t); !errors.As(err, &refused) {
		t.Errorf("watching it: %v", err)
	}
	r.idle("one")
	for what, want := range map[string]string{"one": "neither queued nor running", "none": "no job", "abcdef": "no job"} {
		if err := r.client().Cancel(t.Context(), what, ""); !errors.As(err, &refused) || !strings.Contains(refused.Text, want) {
			t.Errorf("cancelling %s: %v, expected %q", what, err, want)
		}
	}
	r.execute("one")
}

// TestCancelWorker: a real worker kills the whole tree, and what the build left
// is kept.
func TestCancelWorker(t *testing.T) {
	r := start(t, func(c *server.Config) { c.Grace = deadline })
	r.worker("p")
	mark := filepath.Join(t.TempDir(), "mark")
	r.schedule("one", "p", `#!/bin/sh
trap 'echo terminated; echo kept > artifact; exit 0' TERM
(echo begun > `+mark+`; exec sleep 1000) &
echo begun
while :; do wait; done
`)
	wait(t, "the script runs", func() bool { _, err := os.Stat(mark); return err == nil })
	id := r.status().Building[0].UUID
	s := r.watch(wire.Watch{What: "one"})
	s.expect(t, "begin 1", "line begun")
	r.cancel(id.String()[:8])
	s.expect(t, "line terminated", "final cancelled: because")
	build := r.ended("one", 1)[0]
	if diff := cmp.Diff(job.Failure(job.Cancelled, "cancelled: because"), build.Result); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"artifact": "kept\n"}, r.export(id).Files); diff != "" {
		t.Errorf("artifacts (-want +got):\n%s", diff)
	}
	r.idle("one")
	r.waiting("p", 1) // on the same connection
}

// TestCancelBusy cancels builds that print as fast as they can: the frame that
// is arriving at that moment is not broken.
func TestCancelBusy(t *testing.T) {
	r := start(t, func(c *server.Config) { c.Grace = deadline })
	r.worker("p")
	mark := filepath.Join(t.TempDir(), "mark")
	r.schedule("one", "p", "#!/bin/sh\necho > "+mark+"\nexec yes\n")
	for i := range 5 {
		if i > 0 {
			r.execute("one")
		}
		wait(t, "it runs", func() bool { return os.Remove(mark) == nil })
		r.cancel("one")
		build := r.ended("one", i+1)[0]
		if build.Result.Cause != job.Cancelled {
			t.Fatalf("result %v", build.Result)
		}
	}
	if n := r.log.count("retry"); n > 0 {
		t.Errorf("the worker lost its connection %d times", n)
	}
}

// TestCancelLegacy: the connection of a worker of the reference is closed.
func TestCancelLegacy(t *testing.T) {
	r := start(t, func(c *server.Config) { c.Grace = 1000 * time.Hour })
	r.schedule("one", "p", "x")
	w := r.requested(wire.WorkerVersion, "p")
	w.job()
	r.cancel("one")
	w.gone()
	if build := r.ended("one", 1)[0]; build.Result.Cause != job.Cancelled {
		t.Errorf("result %v", build.Result)
	}
	r.idle("one")
}

// TestCancelThenLost: a worker that goes when it is told to stop does not bring
// the run back.
func TestCancelThenLost(t *testing.T) {
	r := start(t, func(c *server.Config) { c.Grace = 1000 * time.Hour })
	r.schedule("one", "p", "x")
	w := r.requested(wire.OwnVersion, "p")
	id := w.begin().Build.UUID
	r.cancel("one")
	stop := w.receive(wire.KindStop).(wire.Stop)
	if diff := cmp.Diff(wire.Stop{UUID: id, Result: job.Failure(job.Cancelled, "cancelled: because")}, stop); diff != "" {
		t.Errorf("stop (-want +got):\n%s", diff)
	}
	w.Close()
	if build := r.ended("one", 1)[0]; build.Result.Cause != job.Cancelled {
		t.Errorf("result %v", build.Result)
	}
	r.idle("one")
}

// TestCancelCrossed: the script had ended when the wish arrived.
func TestCancelCrossed(t *testing.T) {
	for name, tt := range map[string]struct {
		sent job.Result
		want job.Cause
	}{
		"success":    {job.Result{Kind: job.Exited}, ""},
		"no sandbox": {job.Failure(job.NoSandbox, "none"), job.Cancelled},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t)
			r.schedule("one", "p", "x")
			w := r.requested(wire.OwnVersion, "p")
			id := w.begin().Build.UUID
			r.cancel("one")
			w.send(wire.Finish{UUID: id, Result: tt.sent})
			w.receive(wire.KindStop)
			w.receive(wire.KindStored)
			if build := r.ended("one", 1)[0]; build.Result.Cause != tt.want {
				t.Errorf("result %v", build.Result)
			}
			r.idle("one")
			w.send(wire.JobRequested{Platform: "p"})
			r.waiting("p", 1)
		})
	}
}

// TestTimeout ends builds that take too long, of workers that obey, that do not,
// and that can not.
func TestTimeout(t *testing.T) {
	for name, tt := range map[string]struct {
		version int64
		answer  func(w *peer, id uuid.UUID)
	}{
		"obeys": {wire.OwnVersion, func(w *peer, id uuid.UUID) {
			stop := w.receive(wire.KindStop).(wire.Stop)
			w.send(wire.Finish{UUID: id, Result: stop.Result, Files: []wire.File{{Path: "a", Data: text("kept")}}})
			w.receive(wire.KindStored)
		}},
		"ignores it": {wire.OwnVersion, func(w *peer, _ uuid.UUID) {
			w.receive(wire.KindStop)
			w.receive(wire.KindFailure)
			w.gone()
		}},
		"protocol 5": {wire.WorkerVersion, func(w *peer, _ uuid.UUID) { w.gone() }},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, func(c *server.Config) { c.Timeout, c.Grace = 20*time.Millisecond, 20*time.Millisecond })
			r.schedule("one", "p", "x")
			w := r.requested(tt.version, "p")
			var id uuid.UUID
			if tt.version == wire.OwnVersion {
				id = w.begin().Build.UUID
			} else {
				id = w.job().UUID
			}
			tt.answer(w, id)
			build := r.ended("one", 1)[0]
			if build.Result.Cause != job.Timeout {
				t.Errorf("result %v", build.Result)
			}
			files := r.export(id).Files
			if name == "obeys" && files["a"] != "kept" {
				t.Errorf("artifacts %v", files)
			}
			r.idle("one")
		})
	}
}

// TestTimeoutDelivering: how long a script may run does not bound how long its
// artifacts may take.
func TestTimeoutDelivering(t *testing.T) {
	r := start(t, func(c *server.Config) { c.Timeout, c.Grace = 100*time.Millisecond, time.Millisecond })
	r.schedule("one", "p", "x")
	w := r.requested(wire.OwnVersion, "p")
	id := w.begin().Build.UUID
	content := strings.Repeat("x", 1000)
	var full recorder
	wire.NewConn(&full, nil).Send(wire.Finish{UUID: id, Result: success, Files: []wire.File{{Path: "a", Data: text(content)}}})
	w.raw(full.data[:len(full.data)/2])
	time.Sleep(300 * time.Millisecond) // three times as long as the script may run
	w.raw(full.data[len(full.data)/2:])
	w.receive(wire.KindStored)
	if got := r.export(id).Files["a"]; got != content {
		t.Errorf("artifact of %d octets", len(got))
	}
}

// TestCancelDelivering: a worker that drips its artifacts can not hold a run
// that was cancelled.
func TestCancelDelivering(t *testing.T) {
	r := start(t, func(c *server.Config) { c.Grace = 10 * time.Millisecond })
	r.schedule("one", "p", "x")
	w := r.requested(wire.OwnVersion, "p")
	id := w.begin().Build.UUID
	var full recorder
	wire.NewConn(&full, nil).Send(wire.Finish{UUID: id, Result: success, Files: []wire.File{{Path: "a", Data: text("content")}}})
	w.raw(full.data[:len(full.data)-1])
	r.cancel("one")
	if build := r.ended("one", 1)[0]; build.Result.Cause != job.Cancelled {
		t.Errorf("result %v", build.Result)
	}
	r.idle("one")
}
