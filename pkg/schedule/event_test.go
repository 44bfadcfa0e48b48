package schedule_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"builder/pkg/der"
	"builder/pkg/job"
	"builder/pkg/schedule"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// events has one of each kind, with every field set.
func events() []schedule.Event {
	id := uuid.UUID{1, 2, 3, 15: 255}
	at := time.Date(2026, 3, 29, 1, 2, 3, 456789012, time.UTC)
	next := time.Date(2026, 3, 30, 1, 2, 3, 456000000, time.UTC)
	j := job.Job{Name: "odd/\x00name\xff", Platform: "p", Template: "t", Script: job.ContentOf([]byte("x")), Vars: []job.Var{{Name: "A", Value: "b c"}}}
	j.Limits = job.Limits{Timeout: 1, Silence: 2, Grace: 3, MaxConsole: 1 << 20, MaxArtifacts: 5}
	j.Retention = job.Retention{Builds: 1, Days: 2, Bytes: job.Unbounded}
	j.Retries = job.Retries{Tries: 7, OnFailure: true, OnTimeout: true}
	j.Resources = job.Resources{CPUs: 10, Memory: 4 << 20, PIDs: 3, Disk: 1 << 20, NoNetwork: true}
	plan := job.Plan{Period: job.Weekly, Every: time.Minute, Cron: "@daily", Zone: "Europe/Berlin"}
	result := job.Failure(job.NoSandbox, "no jail: %s", "\xfe")
	tickets := []schedule.Ticket{{Run: 1, Platform: "p"}, {Run: 1 << 40, Platform: ""}}
	run := &job.Run{ID: 7, Job: j, Platform: "p", Asked: at, Tries: 2, After: next}
	return []schedule.Event{
		schedule.Scheduled{Job: j, Plan: plan, Next: next, At: at, Tickets: tickets, Removed: []uint64{3, 4}},
		schedule.Unscheduled{Name: j.Name, Removed: []uint64{1}},
		schedule.Executed{Name: j.Name, At: at, Tickets: tickets},
		schedule.Rescheduled{Name: j.Name, Plan: plan, Next: next},
		schedule.CameDue{Name: j.Name, Next: next, At: at, Tickets: tickets},
		schedule.PlatformSeen{Platform: "p\x00"},
		schedule.PlatformDropped{Platform: "p"},
		schedule.PlatformUndropped{Platform: "p"},
		schedule.HandedOut{UUID: id, Run: 9, Worker: "w", WorkerID: "i\x00", Started: at},
		schedule.Finished{UUID: id, Result: result, Finished: at, Upload: true, Again: true, Tries: 2, After: at, Losses: 3, Setbacks: 4, Remotes: []string{"https://a/upload", "b"}},
		schedule.Cancelled{Runs: []uint64{5, 6}},
		schedule.Delivered{UUID: id, Remote: "https://a/upload"},
		schedule.PostsAddressed{Remote: "a"},
		schedule.PostParked{UUID: id, Remote: "a", Reason: "answered \xfe"},
		schedule.PostFreed{UUID: id, Remote: "a"},
		schedule.PostDropped{UUID: id, Remote: "a"},
		schedule.RestoredEntry{Entry: &schedule.Entry{
			Job: j, Plan: plan, Next: next, Last: &schedule.Ended{UUID: id, Result: result, Finished: at}, Losses: 3, Setbacks: 4,
		}},
		schedule.RestoredEntry{Entry: &schedule.Entry{Job: job.Job{Name: "n"}}},
		schedule.RestoredRun{Run: run},
		schedule.RestoredBuilding{Building: &schedule.Building{UUID: id, Run: run, Try: 3, Worker: "w", Started: at}},
		schedule.RestoredBuilding{Building: &schedule.Building{
			UUID: id, Run: run, Try: 3, Worker: "w", WorkerID: "i\x00", Started: at, Decided: &result, DecidedAt: at, Wish: &result,
			Expanded: job.ContentOf([]byte("expanded")),
		}},
		schedule.Decided{UUID: id, Result: result, At: at},
		schedule.Wished{UUID: id, Result: result},
		schedule.Expanded{UUID: id, Script: job.ContentOf([]byte("expanded"))},
		schedule.RestoredUpload{Post: schedule.Post{UUID: id, Remote: "a", Parked: "b"}},
		schedule.RestoredCounter{Runs: 12},
	}
}

func TestEventEncoding(t *testing.T) {
	for _, e := range events() {
		record := schedule.Encode(e)
		got, err := schedule.Decode(record)
		if err != nil {
			t.Errorf("decoding %#v: %v", e, err)
			continue
		}
		if diff := cmp.Diff(e, got); diff != "" {
			t.Errorf("encoding changes %T:\n%s", e, diff)
		}
		for n := range record {
			if _, err := schedule.Decode(record[:n]); err == nil {
				t.Errorf("%T: the first %d octets of its %d are accepted", e, n, len(record))
			}
		}
		if _, err := schedule.Decode(append(slices.Clone(record), 0)); err == nil {
			t.Errorf("%T: a trailing octet is accepted", e)
		}
	}
}

// TestEventUnknownFields: a newer version may have written more.
func TestEventUnknownFields(t *testing.T) {
	var w der.Writer
	w.Explicit(5, func() {
		w.Sequence(func() {
			w.Text("p")
			w.Int(42)
			w.Null()
		})
	})
	got, err := schedule.Decode(w.Data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(schedule.Event(schedule.PlatformSeen{Platform: "p"}), got); diff != "" {
		t.Error(diff)
	}
}

// oldEvent is an event that had fewer fields in the first version.
type oldEvent struct {
	event  schedule.Event
	fields int // that it had
	want   schedule.Event
}

func oldEvents() []oldEvent {
	id := uuid.UUID{1, 15: 2}
	run := &job.Run{ID: 7, Job: job.Job{Name: "n", Platform: "p"}, Platform: "p"}
	return []oldEvent{
		{
			schedule.HandedOut{UUID: id, Run: 9, Worker: "w", WorkerID: "new", Started: start},
			4,
			schedule.HandedOut{UUID: id, Run: 9, Worker: "w", Started: start},
		},
		{
			schedule.Finished{UUID: id, Finished: start, Again: true, Tries: 2, After: start, Losses: 1, Setbacks: 1},
			7,
			schedule.Finished{UUID: id, Finished: start, Again: true, Tries: 2, After: start},
		},
		{
			schedule.Finished{UUID: id, Finished: start, Upload: true, Losses: 1, Setbacks: 2, Remotes: []string{"a"}},
			9,
			schedule.Finished{UUID: id, Finished: start, Upload: true, Losses: 1, Setbacks: 2},
		},
		{schedule.Delivered{UUID: id, Remote: "a"}, 1, schedule.Delivered{UUID: id}},
		{
			schedule.RestoredUpload{Post: schedule.Post{UUID: id, Remote: "a", Parked: "b"}},
			1,
			schedule.RestoredUpload{Post: schedule.Post{UUID: id}},
		},
		{
			schedule.RestoredEntry{Entry: &schedule.Entry{Job: run.Job, Losses: 3, Setbacks: 1}},
			4,
			schedule.RestoredEntry{Entry: &schedule.Entry{Job: run.Job}},
		},
		{
			schedule.RestoredBuilding{Building: &schedule.Building{UUID: id, Run: run, Try: 1, Started: start, WorkerID: "new"}},
			5,
			schedule.RestoredBuilding{Building: &schedule.Building{UUID: id, Run: run, Try: 1, Started: start}},
		},
		{
			schedule.RestoredBuilding{Building: &schedule.Building{UUID: id, Run: run, Try: 1, Started: start, WorkerID: "w", Expanded: job.ContentOf(nil)}},
			8,
			schedule.RestoredBuilding{Building: &schedule.Building{UUID: id, Run: run, Try: 1, Started: start, WorkerID: "w"}},
		},
	}
}

// TestEventOld: records of the first version mean what they meant.
func TestEventOld(t *testing.T) {
	for _, test := range oldEvents() {
		got, err := schedule.Decode(shortened(schedule.Encode(test.event), test.fields))
		if err != nil {
			t.Errorf("%T: %v", test.event, err)
			continue
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%T differs (-want +got):\n%s", test.event, diff)
		}
	}
}

// shortened is a record without its fields after the first n.
func shortened(record []byte, n int) []byte {
	r := der.NewReader(record)
	tag, in := r.Choice()
	fields := in.Enter(der.Sequence)
	var w der.Writer
	w.Explicit(tag, func() {
		w.Sequence(func() {
			for range n {
				tag := fields.Peek()
				content := fields.Element(tag)
				w.Element(tag, func() { w.Data = append(w.Data, content...) })
			}
		})
	})
	return w.Data
}

func TestEventRefused(t *testing.T) {
	record := func(tag int, fields func(*der.Writer)) []byte {
		var w der.Writer
		w.Explicit(tag, func() { w.Sequence(func() { fields(&w) }) })
		return w.Data
	}
	tests := []struct {
		name   string
		record []byte
		want   string
	}{
		{"nothing", nil, "missing"},
		{"unknown event", record(20, func(*der.Writer) {}), "[20] is unknown"},
		{"large tag", record(16000, func(*der.Writer) {}), "[16000] is unknown"},
		{"run 0", record(10, func(w *der.Writer) { w.Sequence(func() { w.Int(0) }) }), "run id 0"},
		{"negative run", record(10, func(w *der.Writer) { w.Sequence(func() { w.Int(-1) }) }), "run id -1"},
		{"short uuid", record(11, func(w *der.Writer) { w.Text("short") }), "uuid of 5 octets"},
		{"two elements", append(record(11, func(w *der.Writer) { w.Text("0123456789abcdef") }), 5, 0), "trailing"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if e, err := schedule.Decode(test.record); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %#v, error %v, want one with %q", e, err, test.want)
			}
		})
	}
}

// TestEventDamage: an event that does not fit is refused, and changes nothing.
func TestEventDamage(t *testing.T) {
	s := schedule.New()
	must(t, s,
		decide(t)(s.Schedule(start, script("built", "p"), job.Plan{}, nil, false)))
	b := handOut(t, s, start, "p")
	must(t, s, decide(t)(s.Schedule(start, script("queued", "p"), job.Plan{}, nil, false)))
	must(t, s, schedule.RestoredUpload{Post: schedule.Post{UUID: uuid.UUID{9}, Remote: "a"}}, schedule.RestoredUpload{Post: schedule.Post{UUID: uuid.UUID{9}}})
	decided := &schedule.Building{UUID: uuid.UUID{7}, Run: b.Run, Decided: &lost, Wish: &lost, Expanded: job.ContentOf(nil)}
	must(t, s, schedule.RestoredBuilding{Building: decided})
	before := slices.Collect(s.Snapshot())

	ticket := func(run uint64) []schedule.Ticket { return []schedule.Ticket{{Run: run, Platform: "p"}} }
	run := func(id uint64, name string) *job.Run { return &job.Run{ID: id, Job: script(name, "p"), Platform: "p"} }
	tests := []struct {
		name  string
		event schedule.Event
	}{
		{"run skipped", schedule.Scheduled{Job: script("new", "p"), Tickets: ticket(4)}},
		{"run used twice", schedule.Scheduled{Job: script("new", "p"), Tickets: ticket(1)}},
		{"run of another job", schedule.Scheduled{Job: script("new", "p"), Tickets: ticket(2)}},
		{"new run where one is queued", schedule.Executed{Name: "queued", Tickets: ticket(3)}},
		{"two runs on one platform", schedule.Executed{Name: "built", Tickets: append(ticket(3), ticket(4)...)}},
		{"removes a run of another job", schedule.Scheduled{Job: script("new", "p"), Removed: []uint64{2}}},
		{"removes what it asks for", schedule.Scheduled{Job: script("queued", "p"), Tickets: ticket(2), Removed: []uint64{2}}},
		{"unschedules an unknown job", schedule.Unscheduled{Name: "new"}},
		{"leaves a run behind", schedule.Unscheduled{Name: "queued"}},
		{"executes an unknown job", schedule.Executed{Name: "new"}},
		{"reschedules an unknown job", schedule.Rescheduled{Name: "new"}},
		{"unknown job is due", schedule.CameDue{Name: "new"}},
		{"platform seen twice", schedule.PlatformSeen{Platform: "p"}},
		{"drops an unknown platform", schedule.PlatformDropped{Platform: "q"}},
		{"undrops a platform that is not dropped", schedule.PlatformUndropped{Platform: "p"}},
		{"hands out an unknown run", schedule.HandedOut{UUID: uuid.UUID{8}, Run: 7}},
		{"hands out a run that is built", schedule.HandedOut{UUID: uuid.UUID{8}, Run: 1}},
		{"uuid of a running build", schedule.HandedOut{UUID: b.UUID, Run: 2}},
		{"uuid of an ended build", schedule.HandedOut{UUID: uuid.UUID{9}, Run: 2}},
		{"decides on an unknown build", schedule.Decided{UUID: uuid.UUID{8}}},
		{"decides twice", schedule.Decided{UUID: decided.UUID}},
		{"wishes for the end of an unknown build", schedule.Wished{UUID: uuid.UUID{8}}},
		{"wishes twice", schedule.Wished{UUID: decided.UUID}},
		{"expands the template of an unknown build", schedule.Expanded{UUID: uuid.UUID{8}}},
		{"expands twice", schedule.Expanded{UUID: decided.UUID}},
		{"finishes an unknown build", schedule.Finished{UUID: uuid.UUID{8}}},
		{"cancels an unknown run", schedule.Cancelled{Runs: []uint64{7}}},
		{"cancels a run twice", schedule.Cancelled{Runs: []uint64{2, 2}}},
		{"delivers an unknown build", schedule.Delivered{UUID: uuid.UUID{8}}},
		{"delivers to another remote", schedule.Delivered{UUID: uuid.UUID{9}, Remote: "b"}},
		{"parks for another remote", schedule.PostParked{UUID: uuid.UUID{9}, Remote: "b", Reason: "x"}},
		{"parks for no reason", schedule.PostParked{UUID: uuid.UUID{9}, Remote: "a"}},
		{"frees an unknown build", schedule.PostFreed{UUID: uuid.UUID{8}, Remote: "a"}},
		{"drops an unknown build", schedule.PostDropped{UUID: uuid.UUID{8}, Remote: "a"}},
		{"addresses to nobody", schedule.PostsAddressed{}},
		{"addresses to who has it", schedule.PostsAddressed{Remote: "a"}},
		{"restores an entry twice", schedule.RestoredEntry{Entry: &schedule.Entry{Job: script("built", "p")}}},
		{"restores a run twice", schedule.RestoredRun{Run: run(2, "other")}},
		{"restores a second run of a job", schedule.RestoredRun{Run: run(9, "queued")}},
		{"restores a build twice", schedule.RestoredBuilding{Building: b}},
		{"restores an upload twice", schedule.RestoredUpload{Post: schedule.Post{UUID: uuid.UUID{9}}}},
		{"counter goes back", schedule.RestoredCounter{Runs: 1}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if err := s.Apply(schedule.Encode(test.event)); err == nil {
				t.Error("accepted")
			}
			if diff := cmp.Diff(before, slices.Collect(s.Snapshot())); diff != "" {
				t.Errorf("the state has changed:\n%s", diff)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	for _, e := range events() {
		f.Add(schedule.Encode(e))
	}
	for _, old := range oldEvents() {
		f.Add(shortened(schedule.Encode(old.event), old.fields))
	}
	f.Fuzz(func(t *testing.T, record []byte) {
		e, err := schedule.Decode(record)
		if err != nil {
			return
		}
		again, err := schedule.Decode(schedule.Encode(e))
		if err != nil {
			t.Fatalf("%#v does not decode: %v", e, err)
		}
		if diff := cmp.Diff(e, again); diff != "" {
			t.Fatalf("encoding changes the event:\n%s", diff)
		}
		// Whatever it says, it is applied or refused.
		s := schedule.New()
		if s.Advance(e) == nil {
			rebuilt := schedule.New()
			for r := range s.Snapshot() {
				if err := rebuilt.Apply(r); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}
