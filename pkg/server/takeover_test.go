package server_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"builder/pkg/job"
	"builder/pkg/server"
	"builder/pkg/wire"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
)

// reference fills a data directory as a reference server left it.
func (r *running) reference(files map[string][]byte) {
	r.t.Helper()
	for name, data := range files {
		path := filepath.Join(r.config.Dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			r.t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			r.t.Fatal(err)
		}
	}
}

func golden(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name+".der"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// referenceItems decodes a state file; scripts are in memory.
func referenceItems(t testing.TB, data []byte) []wire.StateItem {
	t.Helper()
	var items []wire.StateItem
	err := wire.ReadState(bytes.NewReader(data), int64(len(data)), func(item wire.StateItem) error {
		items = append(items, item)
		return nil
	})
	if err != nil {
		t.Fatalf("reading a state: %v", err)
	}
	return items
}

// byKind sorts items into what they are.
func byKind(items []wire.StateItem) (entries map[string]wire.ScheduleItem, queues map[string][]wire.AnyJob, dropped map[string]bool) {
	entries, queues, dropped = map[string]wire.ScheduleItem{}, map[string][]wire.AnyJob{}, map[string]bool{}
	for _, item := range items {
		switch {
		case item.Schedule != nil:
			entry := *item.Schedule
			if entry.Period == job.Never {
				entry.Next = time.Time{} // whatever the reference kept: it is never due
			}
			if entry.Next.Equal(time.Unix(0, 0)) {
				entry.Next = entry.Next.Add(time.Millisecond) // the earliest that our state can hold
			}
			entries[entry.Job.Name] = entry
		case item.Queue != nil && len(item.Queue.Jobs) > 0:
			queues[item.Queue.Platform] = item.Queue.Jobs
		case item.Dropped != nil:
			dropped[*item.Dropped] = true
		}
	}
	return entries, queues, dropped
}

const resultID = "12345678-9abc-4def-8123-456789abcdef" // of exec_console

// TestTakeOver starts on a directory of the reference, which is left as it is.
func TestTakeOver(t *testing.T) {
	for _, name := range []string{"state_full", "state_100_jobs"} {
		t.Run(name, func(t *testing.T) {
			r := configure(t)
			state, full := golden(t, name), golden(t, "exec_console")
			r.reference(map[string][]byte{"state": state, "hello/" + resultID + "/full": full})
			before := readTree(t, r.config.Dir)
			wantEntries, wantQueues, wantDropped := byKind(referenceItems(t, state))
			for _, when := range []string{"at first", "once more"} {
				entries, queues, dropped := byKind(referenceItems(t, r.exportState(func(name, what string) { t.Errorf("job %q: %s", name, what) })))
				equal := func(what string, want, got any) {
					t.Helper()
					if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
						t.Errorf("%s, %s (-want +got):\n%s", what, when, diff)
					}
				}
				equal("schedule", wantEntries, entries)
				equal("dropped", wantDropped, dropped)
				// A queued job is written with the platform that it is queued on.
				for platform, jobs := range wantQueues {
					for i := range jobs {
						if jobs[i].OrbPackage == nil {
							jobs[i].Platform = platform
						}
					}
				}
				equal("queues", wantQueues, queues)
			}
			r.start()
			info := r.legacyInfo()
			if len(info.Schedule) != len(wantEntries) || len(info.Dropped) != len(wantDropped) {
				t.Errorf("%d jobs and %d dropped platforms", len(info.Schedule), len(info.Dropped))
			}

			id := uuid.MustParse(resultID)
			if build := r.ended("hello", 1)[0]; build.UUID != id || build.Result.Code != 3 {
				t.Errorf("listed: %+v", build)
			}
			if e := r.export(id); !bytes.Equal(e.Raw, full) {
				t.Errorf("exported: %x, expected %x", e.Raw, full)
			}
			p := r.dial(wire.Client, wire.ClientVersion)
			p.send(wire.Observe{UUID: id})
			for _, want := range []string{"\xff\xfe", "", "second ☃", "third", "exited 3"} {
				if m := p.receive(wire.KindOutput).(wire.Output); string(m.Data) != want {
					t.Errorf("observed %q, expected %q", m.Data, want)
				}
			}
			p.done()

			r.halt()
			after := readTree(t, r.config.Dir)
			for name, data := range before {
				if after[name] != data {
					t.Errorf("%s was changed", name)
				}
			}
		})
	}
}

// exportState is what the command export-state prints.
func (r *running) exportState(warn func(name, what string)) []byte {
	r.t.Helper()
	s, err := server.Open(r.config)
	if err != nil {
		r.t.Fatal(err)
	}
	defer s.Close()
	state, err := s.ExportState(warn)
	if err != nil {
		r.t.Fatal(err)
	}
	return state
}

// TestTakeOverDamaged: a damaged state is refused with its name and an offset,
// nothing is changed, and a whole one is taken afterwards.
func TestTakeOverDamaged(t *testing.T) {
	whole := golden(t, "state_full")
	for name, data := range map[string][]byte{
		"empty":     {},
		"truncated": golden(t, "odd_state_truncated"),
		"cut":       whole[:len(whole)-1],
		"longer":    append(bytes.Clone(whole), 0),
		"text":      []byte("this is no state at all"),
	} {
		t.Run(name, func(t *testing.T) {
			r := configure(t)
			defer r.halt()
			r.reference(map[string][]byte{"state": data})
			for range 2 {
				_, err := server.Open(r.config)
				if err == nil {
					t.Fatal("it was taken")
				}
				if file := filepath.Join(r.config.Dir, "state"); !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "offset") {
					t.Errorf("the error names no file or offset: %v", err)
				}
			}
			if got, err := os.ReadFile(filepath.Join(r.config.Dir, "state")); err != nil || !bytes.Equal(got, data) {
				t.Errorf("the file was changed: %x (%v)", got, err)
			}
			r.reference(map[string][]byte{"state": whole})
			r.start()
			if n := len(r.legacyInfo().Schedule); n == 0 {
				t.Error("the whole state was not taken afterwards")
			}
		})
	}
}

// TestTakeOverKilled ends the taking over after each of its operations on the
// disk. The next start finds the reference's state, or all of ours.
func TestTakeOverKilled(t *testing.T) {
	state := golden(t, "state_full")
	entries, queues, _ := byKind(referenceItems(t, state))
	for n := int64(1); ; n++ {
		r := configure(t)
		r.reference(map[string][]byte{"state": state})
		files := newFaulty()
		var left atomic.Int64
		left.Store(n)
		files.set(func(op, _ string) error {
			if op != "read" && left.Add(-1) < 0 {
				return syscall.EIO
			}
			return nil
		})
		r.config.Files = files
		s, err := server.Open(r.config)
		if err == nil {
			s.Close()
		}
		files.set(nil)
		gotEntries, gotQueues, _ := byKind(referenceItems(t, r.exportState(nil)))
		if len(gotEntries) != len(entries) || len(gotQueues) != len(queues) {
			t.Errorf("killed at operation %d: %d jobs, %d queues", n, len(gotEntries), len(gotQueues))
		}
		if err == nil {
			return // there were fewer operations than that
		}
	}
}

// TestExportState tells what the reference can not express.
func TestExportState(t *testing.T) {
	r := configure(t)
	r.start()
	r.template("t.template", "run %%X%%")
	r.define("cron", "x", "30 3 * * *", 0)
	r.define("every", "x", "", 90)
	r.scheduleTemplate("templated", "p", "t", job.Var{Name: "X", Value: "it"})
	r.halt()
	told := map[string]bool{}
	back := r.exportState(func(name, what string) {
		if what == "" || told[name] {
			t.Errorf("job %s is told of as %q", name, what)
		}
		told[name] = true
	})
	if diff := cmp.Diff(map[string]bool{"cron": true, "every": true, "templated": true}, told); diff != "" {
		t.Errorf("told of (-want +got):\n%s", diff)
	}
	entries, queues, _ := byKind(referenceItems(t, back))
	if got := string(entries["templated"].Job.Script.Data); got != "run it" {
		t.Errorf("the script of the templated job is %q", got)
	}
	if got := fmt.Sprint(entries["cron"].Period, entries["every"].Period); got != "never never" {
		t.Errorf("periods %s", got)
	}
	if len(queues["p"]) != 2 { // cron does not run at once
		t.Errorf("%d runs are queued", len(queues["p"]))
	}
	// What was exported can be taken over again.
	again := configure(t)
	again.reference(map[string][]byte{"state": back})
	again.start()
	defer again.halt()
	if n := len(again.legacyInfo().Schedule); n != 3 {
		t.Errorf("%d jobs after the way back", n)
	}
}

// manyJobs is a reference state with many jobs of long names.
func manyJobs(t testing.TB, n int, next time.Time) []byte {
	t.Helper()
	var items []wire.StateItem
	for i := range n {
		j := scriptJob(fmt.Sprintf("job-%s-%d", strings.Repeat("x", 80), i), "p", "script")
		items = append(items, wire.StateItem{Schedule: &wire.ScheduleItem{Next: next, Period: job.Hourly, Job: wire.AnyJob{ScriptJob: j}}})
	}
	var state bytes.Buffer
	if _, err := wire.EncodeState(items).WriteTo(&state); err != nil {
		t.Fatal(err)
	}
	return state.Bytes()
}

// TestManyDue: however much has come due while there was no server, it is
// queued, each job once, in more than one batch.
func TestManyDue(t *testing.T) {
	const jobs = 8_000
	r := configure(t)
	r.reference(map[string][]byte{"state": manyJobs(t, jobs, time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC))})
	r.start()
	defer r.halt()
	wait(t, "all are queued", func() bool { return len(r.platform("p").Queue) == jobs })
	seen := map[string]bool{}
	for _, run := range r.platform("p").Queue {
		if seen[run.Job.Name] {
			t.Fatalf("%s is queued twice", run.Job.Name)
		}
		seen[run.Job.Name] = true
	}
	for _, j := range r.status().Jobs {
		if !j.Next.After(time.Now().Add(-time.Minute)) {
			t.Fatalf("%s is due next at %v", j.Job.Name, j.Next)
		}
	}
}
