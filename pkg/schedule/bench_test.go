package schedule_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"builder/pkg/job"
	"builder/pkg/schedule"
)

// filled has n jobs, each built once, and all but one due some time.
func filled(t testing.TB, n int) *schedule.State {
	s := schedule.New()
	plan := job.Plan{Period: job.Daily}
	for i := range n {
		must(t, s, decide(t)(s.Schedule(start.Add(time.Duration(i)*time.Second), script(fmt.Sprintf("job-%06d", i), "p"), plan, nil, false)))
		finish(t, s, start, handOut(t, s, start, "p"), job.Result{})
	}
	return s
}

// BenchmarkBuild is one build from asking for it to its end, encodings included.
func BenchmarkBuild(b *testing.B) {
	for _, n := range []int{10, 100_000} {
		s := filled(b, n)
		names := make([]string, n)
		for i := range names {
			names[i] = fmt.Sprintf("job-%06d", i)
		}
		b.Run(fmt.Sprintf("%d jobs", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				must(b, s, decide(b)(s.Execute(start, names[i*7919%n], "", nil)))
				finish(b, s, start, handOut(b, s, start, "p"), job.Result{})
			}
		})
	}
}

// BenchmarkHandOut has a queue as long as the schedule: a run goes from its
// front to its end.
func BenchmarkHandOut(b *testing.B) {
	for _, n := range []int{10, 100_000} {
		s := filled(b, n)
		for _, e := range s.Due(start.Add(72*time.Hour), on) {
			must(b, s, e)
		}
		b.Run(fmt.Sprintf("%d jobs", n), func(b *testing.B) {
			for range b.N {
				building := handOut(b, s, start, "p")
				finish(b, s, start, building, job.Result{})
				must(b, s, decide(b)(s.Reschedule(building.Run.Job.Name, start, nil)))
				for _, e := range s.Due(start, on) {
					must(b, s, e)
				}
			}
		})
	}
}

// BenchmarkSnapshot separates what stops the owner from what does not.
func BenchmarkSnapshot(b *testing.B) {
	s := filled(b, 100_000)
	b.Run("call", func(b *testing.B) {
		for range b.N {
			s.Snapshot()
		}
	})
	b.Run("records", func(b *testing.B) {
		octets := 0
		for range b.N {
			for record := range s.Snapshot() {
				octets += len(record)
			}
		}
		b.ReportMetric(float64(octets)/float64(b.N), "octets")
	})
	b.Run("rebuild", func(b *testing.B) {
		for range b.N {
			again := schedule.New()
			for record := range s.Snapshot() {
				if err := again.Apply(record); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}

// TestMemory: an entry with its name, script hash, history and all that finds
// it takes less than 600 octets.
func TestMemory(t *testing.T) {
	const n = 100_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s := schedule.New()
	for i := range n {
		must(t, s, schedule.RestoredEntry{Entry: &schedule.Entry{
			Job:  script(fmt.Sprintf("job-%06d", i), "p"),
			Plan: job.Plan{Period: job.Daily},
			Next: start.Add(time.Duration(i) * time.Second),
			Last: &schedule.Ended{UUID: newUUID(), Finished: start},
		}})
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := int64(after.HeapAlloc-before.HeapAlloc) / n
	t.Logf("%d octets an entry", each)
	if each > 600 {
		t.Errorf("%d octets an entry, want 600 at most", each)
	}
	runtime.KeepAlive(s)
}
