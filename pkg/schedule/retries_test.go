package schedule_test

import (
	"testing"
	"time"

	"builder/pkg/job"
	"builder/pkg/schedule"

	"github.com/google/go-cmp/cmp"
)

// queued is a state with a job on platform p that is to run.
func queued(t *testing.T, j job.Job) *schedule.State {
	t.Helper()
	s := schedule.New()
	must(t, s, decide(t)(s.Schedule(start, j, never, nil, false)))
	return s
}

// TestRetriesOfTheJob: the job says how often it is tried, and after what.
func TestRetriesOfTheJob(t *testing.T) {
	failed, timeout := job.Result{Kind: job.Exited, Code: 1}, job.Failure(job.Timeout, "an hour")
	for name, test := range map[string]struct {
		retries job.Retries
		result  job.Result
		builds  int
	}{
		"default":                  {job.Retries{}, lost, 3},
		"once":                     {job.Retries{Tries: 1}, lost, 1},
		"five times":               {job.Retries{Tries: 5}, job.Failure(job.NoSandbox, "no jail"), 5},
		"success":                  {job.Retries{OnFailure: true, OnTimeout: true}, job.Result{}, 1},
		"failure":                  {job.Retries{OnTimeout: true}, failed, 1},
		"failure, asked for":       {job.Retries{OnFailure: true}, failed, 3},
		"timeout":                  {job.Retries{OnFailure: true}, timeout, 1},
		"timeout, asked for":       {job.Retries{Tries: 2, OnTimeout: true}, timeout, 2},
		"silence, asked for":       {job.Retries{OnTimeout: true}, job.Failure(job.Silence, "quiet"), 3},
		"cancelled":                {job.Retries{OnFailure: true, OnTimeout: true}, job.Failure(job.Cancelled, "by me"), 1},
		"too large, whatever asks": {job.Retries{OnFailure: true, OnTimeout: true}, job.Failure(job.TooLarge, "60 GiB"), 1},
	} {
		t.Run(name, func(t *testing.T) {
			j := script("j", "p")
			j.Retries = test.retries
			s := queued(t, j)
			builds := 0
			for now := start; queue(s, "p") != "" && builds < 10; builds++ {
				b := handOut(t, s, now, "p")
				if b.Try != builds+1 {
					t.Errorf("build %d is try %d", builds+1, b.Try)
				}
				now = now.Add(time.Hour)
				finish(t, s, now, b, test.result)
				now = now.Add(time.Hour)
			}
			if builds != test.builds {
				t.Errorf("%d builds, want %d", builds, test.builds)
			}
		})
	}
}

// TestRetriesNow: the retries are those of the job as it is when its build ends.
func TestRetriesNow(t *testing.T) {
	s := queued(t, script("j", "p"))
	b := handOut(t, s, start, "p")
	changed := script("j", "p")
	changed.Retries.Tries = 1
	must(t, s, decide(t)(s.Schedule(start, changed, job.Plan{Cron: "0 0 1 1 *"}, nil, true)))
	if e := finish(t, s, start, b, lost); e.Again {
		t.Errorf("tried again by the old definition: %+v", e)
	}
}

// TestServerSide: what the server is to blame for is no try of the job, but waits
// longer each time, up to a bound, and is never given up.
func TestServerSide(t *testing.T) {
	full := job.Failure(job.ServerSide, "the disk is full")
	j := script("j", "p")
	j.Retries.Tries = 1
	s := queued(t, j)
	now := start
	least := time.Duration(0)
	for i := range 50 {
		e := finish(t, s, now, handOut(t, s, now, "p"), full)
		if wait := e.After.Sub(now); !e.Again || e.Tries != 0 || wait < 5*time.Second || wait < least || wait > 5*time.Minute {
			t.Fatalf("end %d: %+v", i, e)
		} else {
			least = wait
		}
		now = now.Add(time.Hour)
	}
	finish(t, s, now.Add(time.Hour), handOut(t, s, now.Add(time.Hour), "p"), job.Result{})
	if e := s.Entry("j"); e.Setbacks != 0 {
		t.Errorf("a build that ended well leaves %d setbacks", e.Setbacks)
	}
}

// TestFinal: what somebody wanted to end is not tried again.
func TestFinal(t *testing.T) {
	s := queued(t, script("j", "p"))
	e, err := s.Finish(start, schedule.End{UUID: handOut(t, s, start, "p").UUID, Result: lost, Final: true}, schedule.DefaultBackoff)
	if err != nil || e.Again {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestLimitsRefused(t *testing.T) {
	for want, change := range map[string]func(*job.Job){
		`limits of job "j": a limit is negative: {Timeout:-1s Silence:0s Grace:0s MaxConsole:0 MaxArtifacts:0}`: func(j *job.Job) { j.Limits.Timeout = -time.Second },
		`limits of job "j": 87673h0m0s is too long: use 87672h (ten years) or less`:                             func(j *job.Job) { j.Limits.Grace = job.MaxTime + time.Hour },
		`retention of job "j": a bound of what is kept is negative: {Builds:-2 Days:0 Bytes:0}`:                 func(j *job.Job) { j.Retention.Builds = -2 },
		`retention of job "j": 200000 days are too many: use 106751 at the most`:                                func(j *job.Job) { j.Retention.Days = 200_000 },
		`limits of job "j": a console of at most 1 octets is too small: use 262144 or more`:                     func(j *job.Job) { j.Limits.MaxConsole = 1 },
		`retries of job "j": 1001 tries are not allowed: use 1 to 1000`:                                         func(j *job.Job) { j.Retries.Tries = 1001 },
	} {
		t.Run(want, func(t *testing.T) {
			j := script("j", "p")
			change(&j)
			_, err := schedule.New().Schedule(start, j, never, nil, false)
			if err == nil || err.Error() != want {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestUpdateLimits: a definition of which only the limits differ is another one,
// for the runs that are queued too, and the history stays.
func TestUpdateLimits(t *testing.T) {
	s := scheduled(t, never, "j")
	must(t, s, decide(t)(s.Execute(start, "j", "", nil)))
	last := s.Entry("j").Last
	changed := script("j", "p")
	changed.Limits.Timeout = 2 * time.Hour
	must(t, s, decide(t)(s.Schedule(start, changed, never, nil, true)))
	if diff := cmp.Diff(&schedule.Entry{Job: changed, Plan: never, Last: last}, s.Entry("j")); diff != "" {
		t.Errorf("entry differs (-want +got):\n%s", diff)
	}
	if run := s.Run(2); !run.Job.Equal(changed) {
		t.Errorf("the queued run is of %+v", run.Job)
	}
}
