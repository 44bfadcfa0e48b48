package server_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"builder/pkg/disk"
	"builder/pkg/job"
	"builder/pkg/server"
	"builder/pkg/wire"

	"github.com/google/uuid"
)

// build makes the build that is next on platform p, with one artifact.
func (r *running) build(artifact string) uuid.UUID {
	r.t.Helper()
	w := r.requested(wire.OwnVersion, "p")
	defer w.Close()
	id := w.begin().Build.UUID
	w.send(wire.Finish{UUID: id, Result: success, Files: []wire.File{{Path: "a", Data: text(artifact)}}})
	w.receive(wire.KindStored)
	return id
}

func (r *running) prune(name string, dry bool) wire.PruneReply {
	r.t.Helper()
	reply, err := r.client().Prune(r.t.Context(), name, dry)
	if err != nil {
		r.t.Fatalf("pruning: %v", err)
	}
	return reply
}

// refused checks that a request is refused with that text.
func refused(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

// TestPruneAsked: what a job says of its builds counts, before what the server does.
func TestPruneAsked(t *testing.T) {
	r := start(t, func(c *server.Config) { c.Retention = job.Retention{Builds: 1} })
	for name, kept := range map[string]job.Retention{"own": {Builds: 2}, "all": {Builds: job.Unbounded}, "default": {}} {
		j := job.Job{Name: name, Platform: "p", Retention: kept}
		if _, err := r.client().Schedule(t.Context(), j, []byte(name), job.Plan{Period: job.Never}, false); err != nil {
			t.Fatal(err)
		}
		r.build(name + " 0")
		for n := range 2 {
			r.execute(name)
			r.build(fmt.Sprint(name, n+1))
		}
	}
	for name, want := range map[string]int{"own": 1, "all": 0, "default": 2, "": 3} {
		if got := r.prune(name, true); len(got.Builds) != want || (want > 0) != (got.Freed > 0) {
			t.Errorf("prune --dry-run %s: %+v, want %d builds", name, got, want)
		}
	}
	pinned := r.builds("default")[2].UUID
	if id, err := r.client().Pin(t.Context(), pinned.String()[:8], false); id != pinned || err != nil {
		t.Errorf("pinned %v, %v", id, err)
	}
	if got := r.prune("", false); len(got.Builds) != 2 || got.Builds[0].Bound != "keep-builds" {
		t.Errorf("pruned %+v", got)
	}
	r.ended("default", 2)
	list, err := r.client().List(t.Context(), "default", 10)
	if err != nil || len(list.Marks) != 1 || list.Marks[0].UUID != pinned || !list.Marks[0].Pinned {
		t.Errorf("marks %+v, %v", list.Marks, err)
	}
	if _, err := r.client().Pin(t.Context(), pinned.String(), true); err != nil {
		t.Error(err)
	}
	r.restart()
	wait(t, "the new server prunes by itself", func() bool { return len(r.builds("default")) == 1 })
	r.ended("own", 2)
	r.ended("all", 3)

	_, err = r.client().Prune(t.Context(), "nothing", true)
	refused(t, err, `no job is called "nothing"`)
	_, err = r.client().Pin(t.Context(), pinned.String(), false)
	refused(t, err, "no such build")
	_, err = r.newClient().Schedule(t.Context(), job.Job{Name: "bad", Platform: "p", Retention: job.Retention{Days: 1 << 40}}, []byte("x"), job.Plan{}, false)
	refused(t, err, "days are too many")
	r.execute("own")
	w := r.requested(wire.OwnVersion, "p")
	_, err = r.client().Pin(t.Context(), w.begin().Build.UUID.String(), false)
	refused(t, err, "it can be pinned when it has ended")
}

// TestPruneNeeded: the script of what runs stays, whatever becomes of its job, and so
// does what waits for its upload.
func TestPruneNeeded(t *testing.T) {
	f := newFrontend(t)
	f.answer(http.StatusServiceUnavailable)
	r := start(t, func(c *server.Config) { c.Uploads, c.Retention = uploads(t, f.URL+"/upload"), job.Retention{Builds: 1} })
	r.template("tmpl.template", "echo from a template\n")
	if _, err := r.client().Schedule(t.Context(), job.Job{Name: "t", Platform: "p", Template: "tmpl"}, nil, job.Plan{Period: job.Never}, false); err != nil {
		t.Fatal(err)
	}
	expanded := r.requested(wire.OwnVersion, "p")
	second := expanded.begin().Build.UUID
	r.schedule("one", "p", "the first script")
	w := r.requested(wire.OwnVersion, "p")
	first := w.begin().Build.UUID
	if err := r.client().Unschedule(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	if got := r.prune("", false); len(got.Builds) != 0 || got.Orphans != 0 {
		t.Errorf("pruned %+v while builds run", got)
	}
	for id, w := range map[uuid.UUID]*peer{first: w, second: expanded} {
		w.send(wire.Finish{UUID: id, Result: success, Files: []wire.File{{Path: "a", Data: text("of " + id.String())}}})
		w.receive(wire.KindStored)
	}
	if script := r.export(first).Job.Script; string(script.Data) != "the first script" {
		t.Errorf("script %q", script.Data)
	}
	r.export(second)
	r.schedule("one", "p", "the second script")
	for range 2 {
		r.build("another")
		r.execute("one")
	}
	if got := r.prune("one", false); len(got.Builds) != 0 {
		t.Errorf("pruned %+v, which waits for its upload", got)
	}
	f.answer(http.StatusOK)
	wait(t, "the uploads", func() bool { return r.log.count("build delivered") == 4 })
	wait(t, "what was uploaded goes", func() bool {
		r.prune("", false)
		return len(r.builds("one")) == 1
	})
}

// TestPruneUploaded: the artifacts go some days after the frontend has them, but those
// of the latest success.
func TestPruneUploaded(t *testing.T) {
	f := newFrontend(t)
	r := start(t, func(c *server.Config) { c.Uploads, c.UploadedDays = uploads(t, f.URL+"/upload"), 7 })
	r.schedule("one", "p", "x")
	old := r.build("old")
	r.execute("one")
	latest := r.build("latest")
	mark := func(id uuid.UUID) string {
		return filepath.Join(r.config.Dir, "v1/builds/one", id.String(), "uploaded")
	}
	for _, id := range []uuid.UUID{old, latest} {
		wait(t, "the mark", func() bool { return os.Chtimes(mark(id), time.Time{}, time.Now().Add(-8*24*time.Hour)) == nil })
	}
	wait(t, "both left the outbox", func() bool { return r.log.count("build delivered") == 2 })
	var got wire.PruneReply
	wait(t, "a prune", func() bool { got = r.prune("", false); return len(got.Builds) > 0 })
	if len(got.Builds) != 1 || got.Builds[0].UUID != old || !got.Builds[0].ArtifactsOnly || got.Freed != int64(len("old")) {
		t.Errorf("pruned %+v", got)
	}
	r.export(latest)
	err := r.client().Export(t.Context(), old.String(), nil)
	refused(t, err, "were pruned on "+time.Now().UTC().Format(time.DateOnly)+" by retention")
	list, err := r.client().List(t.Context(), "one", 10)
	if err != nil || len(list.Marks) != 1 || !list.Marks[0].Pruned || list.Marks[0].At.IsZero() {
		t.Errorf("marks %+v, %v", list.Marks, err)
	}
}

// TestReserve: no build is handed out while there is too little room, and what waits
// is handed out when there is some again.
func TestReserve(t *testing.T) {
	const gib = 1 << 30
	files := newFaulty()
	files.room.Store(&disk.Room{Free: gib - 1, Size: 100 * gib})
	r := start(t, func(c *server.Config) { c.Files = files })
	r.schedule("one", "p", "x") // the schedule works
	w := r.requested(wire.OwnVersion, "p")
	r.waiting("p", 1)
	if got := r.status().Paused; !strings.Contains(got, "1024.0 MiB are free, 1024.0 MiB are kept in reserve") {
		t.Errorf("paused %q", got)
	}
	if r.log.count("no builds are handed out") != 1 || r.log.count("build handed out") != 0 {
		t.Error("the log does not say so once")
	}
	files.room.Store(&disk.Room{Free: gib, Size: 100 * gib, Files: 100, FreeFiles: 5})
	id := w.begin().Build.UUID
	if got := r.status().Paused; got != "" {
		t.Errorf("paused %q", got)
	}
	w.send(wire.Finish{UUID: id, Result: success})
	w.receive(wire.KindStored)
}

// TestReserveBounds are rooms at the bounds.
func TestReserveBounds(t *testing.T) {
	const mib = 1 << 20
	tests := []struct {
		name    string
		reserve int64
		room    disk.Room
		want    string // part of why there is none
	}{
		{"a small disk: a twentieth", 0, disk.Room{Free: 5 * mib, Size: 100 * mib}, ""},
		{"less than a twentieth", 0, disk.Room{Free: 5*mib - 1, Size: 100 * mib}, "5.0 MiB are kept"},
		{"its own reserve", 7 * mib, disk.Room{Free: 6 * mib, Size: 100 * mib}, "7.0 MiB are kept"},
		{"no reserve", -1, disk.Room{Free: 0, Size: 100 * mib, Files: 100}, ""},
		{"no more files", 0, disk.Room{Free: 50 * mib, Size: 100 * mib, Files: 1000, FreeFiles: 49}, "room for 49 more files, 50 are kept"},
		{"files that nobody counts", 0, disk.Room{Free: 50 * mib, Size: 100 * mib}, ""},
		{"many files", 0, disk.Room{Free: 50 * mib, Size: 100 * mib, Files: 1e9, FreeFiles: 10_000}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := newFaulty()
			files.room.Store(&tt.room)
			r := start(t, func(c *server.Config) { c.Files, c.Reserve = files, tt.reserve })
			got := r.status().Paused
			if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("paused %q, want %q", got, tt.want)
			}
		})
	}
}
