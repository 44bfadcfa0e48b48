package schedule_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"builder/pkg/job"
	"builder/pkg/schedule"

	"github.com/google/go-cmp/cmp"
)

// queue is the names of the jobs that wait, in their order.
func queue(s *schedule.State, platform string) string {
	var names []string
	for run := range s.Queue(platform) {
		names = append(names, run.Job.Name)
	}
	return strings.Join(names, " ")
}

// scheduled is a state with these jobs on platform p, whose first runs are done.
func scheduled(t *testing.T, plan job.Plan, names ...string) *schedule.State {
	t.Helper()
	s := schedule.New()
	for _, name := range names {
		must(t, s, decide(t)(s.Schedule(start, script(name, "p"), plan, nil, false)))
		if plan.Cron == "" {
			finish(t, s, start, handOut(t, s, start, "p"), job.Result{})
		}
	}
	return s
}

var (
	hourly = job.Plan{Period: job.Hourly}
	never  = job.Plan{Period: job.Never}
	lost   = job.Failure(job.WorkerLost, "the worker went away")
)

func TestScheduleEnqueues(t *testing.T) {
	tests := []struct {
		name  string
		plan  job.Plan
		queue string
		next  time.Time
	}{
		{"hourly", hourly, "j", start.Add(time.Hour)},
		{"weekly", job.Plan{Period: job.Weekly}, "j", start.Add(7 * 24 * time.Hour)},
		{"never runs once", never, "j", time.Time{}},
		{"interval", job.Plan{Every: 90 * time.Minute}, "j", start.Add(90 * time.Minute)},
		{"cron waits", job.Plan{Cron: "30 3 * * *", Zone: "Europe/Berlin"}, "", start.Add(2*time.Hour + 30*time.Minute)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := schedule.New()
			must(t, s, decide(t)(s.Schedule(start.Add(456*time.Microsecond), script("j", "p"), test.plan, nil, false)))
			if got := queue(s, "p"); got != test.queue {
				t.Errorf("queue is %q, want %q", got, test.queue)
			}
			if got := s.Entry("j").Next; !got.Equal(test.next) {
				t.Errorf("next is %v, want %v", got, test.next)
			}
			if _, fresh, err := s.Seen("p"); fresh || err != nil {
				t.Errorf("platform is fresh: %v, error %v", fresh, err)
			}
		})
	}
}

func TestScheduleRefused(t *testing.T) {
	s := scheduled(t, hourly, "j")
	must(t, s, schedule.PlatformSeen{Platform: "gone"}, schedule.PlatformDropped{Platform: "gone"})
	with := func(change func(*job.Job)) job.Job {
		j := script("new", "p")
		change(&j)
		return j
	}
	tests := []struct {
		name string
		job  job.Job
		plan job.Plan
		want string
	}{
		{"exists", script("j", "p"), hourly, "job name already used: \"j\""},
		{"job name", script("a/b", "p"), hourly, "job name \"a/b\" is not allowed"},
		{"platform name", script("new", "p/q"), hourly, "platform name \"p/q\" is not allowed"},
		{"template name", job.Job{Name: "new", Template: "../x"}, hourly, "template name \"../x\" is not allowed"},
		{"dropped platform", script("new", "gone"), hourly, "platform is dropped: \"gone\""},
		{"nothing to run", with(func(j *job.Job) { j.Script = job.Content{} }), hourly, "neither a script nor a template"},
		{"two things to run", with(func(j *job.Job) { j.Template = "t" }), hourly, "both a script and a template"},
		{"nowhere to run", with(func(j *job.Job) { j.Platform = "" }), hourly, "a script and no platform"},
		{"variable twice", with(func(j *job.Job) { j.Vars = []job.Var{{Name: "A"}, {Name: "B"}, {Name: "A"}} }), hourly, "two values for the variable \"A\""},
		{"plan", script("new", "p"), job.Plan{Cron: "@every 1h"}, "plan of job \"new\": the cron expression"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if _, err := s.Schedule(start, test.job, test.plan, nil, false); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestUpdate(t *testing.T) {
	s := scheduled(t, hourly, "j")
	last := s.Entry("j").Last
	must(t, s, decide(t)(s.Execute(start, "j", "", nil)))
	queued := s.Entry("j")

	changed := script("j", "p")
	changed.Script = job.ContentOf([]byte("changed"))
	e, err := s.Schedule(start.Add(time.Minute), changed, never, nil, true)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]schedule.Ticket{{Run: 2, Platform: "p"}}, e.Tickets); diff != "" {
		t.Errorf("it does not join the queued run:\n%s", diff)
	}
	must(t, s, e)
	if run := s.Run(2); !run.Job.Equal(changed) {
		t.Errorf("the queued run is of %v", run.Job)
	}
	if diff := cmp.Diff(&schedule.Entry{Job: changed, Plan: never, Last: last}, s.Entry("j")); diff != "" {
		t.Errorf("entry differs (-want +got):\n%s", diff)
	}
	if queued.Job.Equal(changed) {
		t.Error("the old entry was changed in place")
	}

	// To another platform: the queued run goes with it.
	changed.Platform = "q"
	must(t, s, decide(t)(s.Schedule(start, changed, hourly, nil, true)))
	if p, q := queue(s, "p"), queue(s, "q"); p != "" || q != "j" {
		t.Errorf("queues are p %q, q %q", p, q)
	}
}

// TestOddNames: what was taken over keeps its name, and can be changed.
func TestOddNames(t *testing.T) {
	odd, platform := "../a\x00\xff", "no platform"
	s := schedule.New()
	must(t, s, schedule.RestoredEntry{Entry: &schedule.Entry{Job: script(odd, platform), Plan: hourly}})
	must(t, s,
		decide(t)(s.Schedule(start, script(odd, platform), never, nil, true)))
	must(t, s, decide(t)(s.Execute(start, odd, platform, nil)))
	if _, _, err := s.Seen(platform); err != nil {
		t.Error(err)
	}
	must(t, s, decide(t)(s.DropPlatform(platform)))
	must(t, s, decide(t)(s.Unschedule(odd)))
	if s.Len() != 0 || queue(s, platform) != "" {
		t.Error("it is still there")
	}
}

func TestExecute(t *testing.T) {
	s := scheduled(t, hourly, "a", "b", "c")
	for _, name := range []string{"a", "b", "c"} {
		must(t, s, decide(t)(s.Execute(start, name, "", nil)))
	}
	if got := queue(s, "p"); got != "c b a" {
		t.Fatalf("queue is %q: each goes to the front", got)
	}
	before := s.Entry("a")
	e, err := s.Execute(start, "a", "p", nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]schedule.Ticket{{Run: 4, Platform: "p"}}, e.Tickets); diff != "" {
		t.Errorf("it does not join its run:\n%s", diff)
	}
	must(t, s, e)
	if got := queue(s, "p"); got != "a c b" {
		t.Errorf("queue is %q", got)
	}
	if s.Entry("a") != before {
		t.Error("the plan was touched")
	}
	handOut(t, s, start, "p")
	must(t, s, decide(t)(s.Execute(start, "a", "", nil)))
	if got := queue(s, "p"); got != "a c b" {
		t.Errorf("queue is %q: a running job is enqueued once more", got)
	}
}

func TestExecuteRefused(t *testing.T) {
	s := scheduled(t, hourly, "j")
	must(t, s, decide(t)(s.Schedule(start, job.OrbBuild("orb", "pkg"), hourly, []string{"x", "y"}, false)))
	must(t, s, decide(t)(s.DropPlatform("y")))
	tests := []struct {
		name          string
		job, platform string
		on            []string
		want          string
	}{
		{"unknown", "nothing", "", nil, "unknown job: \"nothing\""},
		{"other platform", "j", "q", nil, "job \"j\" is not for platform \"q\": it is for \"p\""},
		{"no template there", "orb", "q", []string{"x", "y"}, "the template \"orb-build\" is for \"x\", \"y\""},
		{"no template at all", "orb", "", nil, "no platform has the template \"orb-build\""},
		{"dropped", "orb", "y", []string{"x", "y"}, "platform is dropped: \"y\""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if _, err := s.Execute(start, test.job, test.platform, test.on); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want one with %q", err, test.want)
			}
		})
	}
	e, err := s.Execute(start, "orb", "", []string{"y", "x"})
	if err != nil || len(e.Tickets) != 1 || e.Tickets[0].Platform != "x" {
		t.Errorf("dropped platforms are not left out: %+v, %v", e, err)
	}
}

func TestReschedule(t *testing.T) {
	s := scheduled(t, hourly, "j")
	at := start.Add(10*time.Hour + 123*time.Millisecond)
	must(t, s, decide(t)(s.Reschedule("j", at, nil)))
	if got := s.Entry("j").Next; !got.Equal(at) {
		t.Errorf("next is %v, want %v", got, at)
	}
	if queue(s, "p") != "" || due(t, s, at.Add(-time.Millisecond)) != 0 {
		t.Error("it runs before its time")
	}
	if due(t, s, at) != 1 || !s.Entry("j").Next.Equal(at.Add(time.Hour)) {
		t.Errorf("it does not run at its time, or the period is lost: next is %v", s.Entry("j").Next)
	}
	must(t, s, decide(t)(s.CancelRun(2)))

	past := start.Add(-time.Hour)
	must(t, s, decide(t)(s.Reschedule("j", past, &never)))
	if queue(s, "p") != "" {
		t.Error("rescheduling to the past runs it by itself")
	}
	if next, ok := s.NextDue(start); !ok || !next.Equal(past) {
		t.Errorf("next due is %v, want %v", next, past)
	}
	if due(t, s, start) != 1 || !s.Entry("j").Next.IsZero() {
		t.Error("a time that has passed is due now, and then, by the new plan, never")
	}
	for _, no := range []time.Time{{}, time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)} {
		must(t, s, decide(t)(s.Reschedule("j", no, nil)))
		if !s.Entry("j").Next.IsZero() {
			t.Errorf("%v is not never", no)
		}
	}
	for _, out := range []time.Time{
		start.AddDate(500, 0, 0), time.Date(9999, 12, 31, 23, 59, 58, 0, time.UTC),
		time.Unix(0, -1), time.Date(1969, 12, 31, 0, 0, 0, 0, time.UTC), time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		if _, err := s.Reschedule("j", out, nil); err == nil || !strings.Contains(err.Error(), "from 1970-01-01T00:00:00Z to 2116-") {
			t.Errorf("rescheduling to %v: %v", out, err)
		}
	}
	if _, err := s.Reschedule("nothing", start, nil); !errors.Is(err, schedule.ErrUnknownJob) {
		t.Errorf("got error %v", err)
	}
	if _, err := s.Reschedule("j", start, &job.Plan{Every: 1}); err == nil {
		t.Error("an impossible plan is accepted")
	}
	epoch := time.Unix(0, 0)
	must(t, s, decide(t)(s.Reschedule("j", epoch, nil)))
	if _, ok := s.NextDue(start); !ok {
		t.Error("1970 has become never")
	}
}

// TestNoDrift: 10,000 virtual runs, each of which starts late, stay in step.
func TestNoDrift(t *testing.T) {
	for _, plan := range []job.Plan{hourly, {Period: job.Daily}, {Every: 90*time.Minute + time.Millisecond}} {
		t.Run(plan.String(), func(t *testing.T) {
			s := scheduled(t, plan, "j")
			period := s.Entry("j").Next.Sub(start)
			for i := 1; i <= 10_000; i++ {
				planned, ok := s.NextDue(start)
				if want := start.Add(time.Duration(i) * period); !ok || !planned.Equal(want) {
					t.Fatalf("run %d is planned at %v, want %v", i, planned, want)
				}
				late := planned.Add(time.Duration(i) * 7919 % period)
				if n := due(t, s, late); n != 1 {
					t.Fatalf("%d runs at %v", n, late)
				}
				finish(t, s, late, handOut(t, s, late, "p"), job.Result{})
			}
		})
	}
}

// TestClockJumps: a clock that is set forward or back by a day, and a server
// that was down for a year, ask for one run.
func TestClockJumps(t *testing.T) {
	for _, plan := range []job.Plan{hourly, {Every: time.Second}, {Cron: "*/5 * * * *"}, {Cron: "0 3 * * *", Zone: "Europe/Berlin"}} {
		t.Run(plan.String(), func(t *testing.T) {
			s := scheduled(t, plan, "j")
			now := start
			for _, jump := range []time.Duration{24 * time.Hour, 365 * 24 * time.Hour, -24 * time.Hour} {
				now = now.Add(jump)
				want := 1
				if jump < 0 {
					want = 0
				}
				if n := due(t, s, now); n != want {
					t.Fatalf("%d runs after a jump of %v", n, jump)
				}
				if n := due(t, s, now); n != 0 {
					t.Fatalf("%d more runs at once", n)
				}
				if !s.Entry("j").Next.After(now) {
					t.Fatalf("next is %v at %v", s.Entry("j").Next, now)
				}
				if want > 0 {
					finish(t, s, now, handOut(t, s, now, "p"), job.Result{})
				}
			}
		})
	}
}

func TestDueWhileBusy(t *testing.T) {
	s := scheduled(t, hourly, "j")
	if due(t, s, start.Add(time.Hour)) != 1 || due(t, s, start.Add(2*time.Hour)) != 0 {
		t.Error("a queued job is queued again")
	}
	b := handOut(t, s, start.Add(2*time.Hour), "p")
	if due(t, s, start.Add(3*time.Hour)) != 0 {
		t.Error("a running job is queued again")
	}
	finish(t, s, start.Add(3*time.Hour), b, job.Result{})
	if due(t, s, start.Add(4*time.Hour)) != 1 {
		t.Error("it is not queued any more")
	}
}

func TestDropPlatform(t *testing.T) {
	s := scheduled(t, hourly, "j")
	must(t, s, decide(t)(s.Execute(start, "j", "", nil)))
	must(t, s, decide(t)(s.DropPlatform("p")))
	if s.Ready("p", start) {
		t.Error("a dropped platform is ready")
	}
	if _, ok := s.HandOut(start, "p", "w", "", newUUID()); ok {
		t.Error("a dropped platform gets a run")
	}
	if _, fresh, err := s.Seen("p"); fresh || !errors.Is(err, schedule.ErrDropped) {
		t.Errorf("its worker gets error %v", err)
	}
	if due(t, s, start.Add(time.Hour)) != 0 || queue(s, "p") != "j" {
		t.Error("its queue is lost")
	}
	for name, request := range map[string]func(string) error{
		"drop":   func(p string) error { _, err := s.DropPlatform(p); return err },
		"undrop": func(p string) error { _, err := s.UndropPlatform(p); return err },
	} {
		if err := request("q"); err == nil || !strings.Contains(err.Error(), `unknown platform "q": known are "p"`) {
			t.Errorf("%s of an unknown platform: %v", name, err)
		}
	}
	if _, err := s.DropPlatform("p"); !errors.Is(err, schedule.ErrDropped) {
		t.Errorf("dropped twice: %v", err)
	}
	must(t, s, decide(t)(s.UndropPlatform("p")))
	if b := handOut(t, s, start, "p"); b.Run.Job.Name != "j" {
		t.Errorf("got %v", b.Run)
	}
	if _, err := s.UndropPlatform("p"); err == nil {
		t.Error("undropped twice")
	}
}

func TestSeen(t *testing.T) {
	s := schedule.New()
	e, fresh, err := s.Seen("p")
	if !fresh || err != nil {
		t.Fatalf("fresh %v, error %v", fresh, err)
	}
	must(t, s, e)
	if _, fresh, _ := s.Seen("p"); fresh {
		t.Error("it is fresh twice")
	}
	if _, fresh, err := s.Seen("a b"); fresh || err == nil {
		t.Error("any name is taken")
	}
}

func TestCancel(t *testing.T) {
	s := schedule.New()
	must(t, s, decide(t)(s.Schedule(start, job.OrbBuild("orb", "pkg"), hourly, []string{"x", "y"}, false)))
	e, err := s.CancelRun(2)
	must(t, s, decide(t)(e, err))
	if queue(s, "x") != "orb" || queue(s, "y") != "" {
		t.Errorf("queues are %q, %q", queue(s, "x"), queue(s, "y"))
	}
	if _, err := s.CancelRun(2); !errors.Is(err, schedule.ErrNotQueued) {
		t.Errorf("cancelled twice: %v", err)
	}
	all, ok := s.CancelJob("orb")
	if !ok {
		t.Fatal("nothing is queued")
	}
	must(t, s, all)
	if _, ok := s.CancelJob("orb"); ok || s.Entry("orb") == nil {
		t.Error("the queue is not empty, or the entry is gone")
	}
}

func TestImport(t *testing.T) {
	next := start.Add(-time.Hour)
	orb := job.OrbBuild("orb", "pkg")
	ref := schedule.Reference{
		Entries: []schedule.Entry{
			{Job: script("late", "p"), Plan: hourly, Next: next},
			{Job: script("once", "p"), Plan: never, Next: start},
			{Job: script("max", "gone"), Plan: hourly, Next: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)},
			{Job: orb, Plan: job.Plan{Period: job.Daily}, Next: start.Add(time.Hour)},
			{Job: script("..\x00/", "no-platform"), Plan: never},
		},
		Queues:  []schedule.ReferenceQueue{{Platform: "p", Jobs: []job.Job{orb, script("late", "p")}}, {Platform: "q", Jobs: []job.Job{orb}}},
		Dropped: []string{"gone", "other"},
	}
	events, err := schedule.Import(start, ref)
	if err != nil {
		t.Fatal(err)
	}
	s := schedule.New()
	must(t, s, events...)
	if p, q := queue(s, "p"), queue(s, "q"); p != "orb late" || q != "orb" {
		t.Errorf("queues are p %q, q %q", p, q)
	}
	want := []schedule.Platform{
		{Name: "gone", Dropped: true},
		{Name: "no-platform"},
		{Name: "other", Dropped: true},
		{Name: "p", Queued: 2},
		{Name: "q", Queued: 1},
	}
	if diff := cmp.Diff(want, s.Platforms()); diff != "" {
		t.Errorf("platforms differ (-want +got):\n%s", diff)
	}
	for name, want := range map[string]time.Time{"late": next, "once": {}, "max": {}, "orb": start.Add(time.Hour), "..\x00/": {}} {
		if got := s.Entry(name).Next; !got.Equal(want) {
			t.Errorf("%q is due at %v, want %v", name, got, want)
		}
	}
	if due(t, s, start) != 0 || !s.Entry("late").Next.Equal(start.Add(time.Hour)) {
		t.Errorf("the late job was queued already; it is due at %v", s.Entry("late").Next)
	}

	ref.Entries = append(ref.Entries, ref.Entries[0])
	if _, err := schedule.Import(start, ref); !errors.Is(err, schedule.ErrExists) {
		t.Errorf("two entries of one name: %v", err)
	}
}
