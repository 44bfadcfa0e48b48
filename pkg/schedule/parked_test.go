package schedule_test

import (
	"testing"
	"time"

	"builder/pkg/job"
	"builder/pkg/schedule"
)

// lose hands out the job of platform p and ends it as one whose worker went.
func lose(t *testing.T, s *schedule.State, now time.Time, n int) {
	t.Helper()
	for range n {
		must(t, s, decide(t)(s.Execute(now, "j", "", nil)))
		finish(t, s, now, handOut(t, s, now, "p"), lost)
	}
}

// TestParked: a job that ended three workers in a row is left alone until
// somebody executes it. Others go on.
func TestParked(t *testing.T) {
	j := script("j", "p")
	j.Retries.Tries = 10
	s := schedule.New()
	must(t, s, decide(t)(s.Schedule(start, j, hourly, nil, false)))
	must(t, s, decide(t)(s.Schedule(start, script("other", "p"), never, nil, false)))
	now := start
	lose(t, s, now, 3)
	if e := s.Entry("j"); !e.Parked() || e.Losses != 3 {
		t.Fatalf("not parked: %+v", e)
	}
	if got := queue(s, "p"); got != "other j" {
		t.Errorf("queue is %q: its run stays, behind all others", got)
	}
	for _, want := range []string{"other", ""} {
		e, ok := s.HandOut(now.Add(time.Hour), "p", "w", "", newUUID())
		if ok != (want != "") || ok && s.Run(e.Run).Job.Name != want {
			t.Fatalf("handed out %+v, want %q", e, want)
		}
		if ok {
			must(t, s, e)
		}
	}
	cancelled, _ := s.CancelJob("j")
	must(t, s, cancelled)
	if next, ok := s.NextDue(now); !ok || !next.Equal(start.Add(time.Hour)) {
		t.Errorf("next due is %v: its wait for a try is nobody's business now", next)
	}
	for i := 1; i < 4; i++ {
		now = start.Add(time.Duration(i) * time.Hour)
		if n := due(t, s, now); n != 0 {
			t.Fatalf("%d runs of a parked job", n)
		}
		if next, _ := s.NextDue(now); !next.After(now) {
			t.Fatalf("next due is %v at %v: the timer is kept busy", next, now)
		}
	}
	must(t, s, decide(t)(s.Execute(now, "j", "", nil)))
	if e := s.Entry("j"); e.Parked() || e.Losses != 0 {
		t.Errorf("not freed: %+v", e)
	}
	finish(t, s, now, handOut(t, s, now, "p"), job.Result{})
	if n := due(t, s, now.Add(time.Hour)); n != 1 {
		t.Errorf("%d runs when it is due again", n)
	}
}

// TestNotParked: what is no loss in a row does not park. What counts for nothing
// neither parks nor begins the row anew.
func TestNotParked(t *testing.T) {
	for name, test := range map[string]struct {
		between schedule.End
		want    int32
	}{
		"an end of its own":         {schedule.End{Result: job.Result{Kind: job.Exited, Code: 1}}, 0},
		"the sandbox's doing":       {schedule.End{Result: job.Failure(job.NoSandbox, "no jail")}, 0},
		"the server's doing":        {schedule.End{Result: job.Failure(job.ServerSide, "full")}, 2},
		"what the worker never had": {schedule.End{Result: lost, Uncounted: true}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			j := script("j", "p")
			j.Retries.Tries = 1
			s := queued(t, j)
			lose(t, s, start, 2)
			must(t, s, decide(t)(s.Execute(start, "j", "", nil)))
			test.between.UUID = handOut(t, s, start, "p").UUID
			must(t, s, decide(t)(s.Finish(start, test.between, schedule.DefaultBackoff)))
			if e := s.Entry("j"); e.Losses != test.want || e.Parked() {
				t.Errorf("%d losses, want %d", e.Losses, test.want)
			}
		})
	}
}

// TestParkedEverywhere: parked and freed on all platforms, also by what ends on
// one of them only; a build that ends well beside frees nothing.
func TestParkedEverywhere(t *testing.T) {
	s := schedule.New()
	orb, on := job.OrbBuild("j", "pkg"), []string{"p", "q", "r"}
	must(t, s, decide(t)(s.Schedule(start, orb, never, on, false)))
	beside := handOut(t, s, start, "r")
	for range 3 {
		must(t, s, decide(t)(s.Execute(start, "j", "p", on)))
		finish(t, s, start, handOut(t, s, start, "p"), lost)
	}
	finish(t, s, start, beside, job.Result{})
	if s.Ready("q", start) || queue(s, "q") != "j" || !s.Entry("j").Parked() {
		t.Errorf("on q %q is ready: %v", queue(s, "q"), s.Ready("q", start))
	}
	again := rebuild(t, s)
	if again.Ready("q", start) || !again.Entry("j").Parked() {
		t.Error("a snapshot frees it")
	}
	if err := s.Advance(schedule.HandedOut{UUID: newUUID(), Run: 2}); err == nil {
		t.Error("a run of a parked job is handed out")
	}
	must(t, s, decide(t)(s.Execute(start, "j", "p", on)))
	if !s.Ready("q", start) {
		t.Error("it is not freed on q")
	}
}
