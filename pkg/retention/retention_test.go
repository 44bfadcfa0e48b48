package retention_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"builder/pkg/job"
	"builder/pkg/retention"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

const day = 24 * time.Hour

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// build is the n-th build of job j on platform p, ended so many days ago, of 10
// octets; with + in how it succeeded.
func build(n int, days float64, how string) retention.Build {
	ended := now.Add(-time.Duration(days * float64(day)))
	b := retention.Build{
		Job: "j", Platform: "p", Started: ended.Add(-time.Minute), Finished: ended,
		Success: strings.Contains(how, "+"), Pinned: strings.Contains(how, "pinned"), Pruned: strings.Contains(how, "pruned"),
		Artifacts: 1, Octets: 10,
	}
	if strings.Contains(how, "uploaded") {
		b.Uploaded = ended
	}
	if strings.Contains(how, "elsewhere") {
		b.Platform = "q"
	}
	if strings.Contains(how, "bare") {
		b.Artifacts = 0
	}
	binary.BigEndian.PutUint32(b.UUID[:], uint32(n))
	return b
}

// shown is verdicts as "number fate bound".
func shown(verdicts []retention.Verdict) []string {
	var all []string
	for _, v := range verdicts {
		all = append(all, fmt.Sprintf("%d %s %s", binary.BigEndian.Uint32(v.UUID[:]), map[retention.Fate]string{retention.Strip: "strip", retention.Remove: "remove"}[v.Fate], v.Bound))
	}
	return all
}

func unboundedDays(string) job.Retention { return job.Retention{Days: job.Unbounded} }

func TestDecide(t *testing.T) {
	five := []retention.Build{build(1, 10, "+"), build(2, 8, "+"), build(3, 6, ""), build(4, 4, "+"), build(5, 2, "")}
	tests := []struct {
		name   string
		policy retention.Policy
		builds []retention.Build
		want   []string
	}{
		{"everything is kept by default", retention.Policy{}, five, nil},
		{"a number of builds", retention.Policy{Default: job.Retention{Builds: 3}}, five, []string{"2 remove keep-builds", "1 remove keep-builds"}},
		{"the latest success and the latest build stay", retention.Policy{Default: job.Retention{Builds: 1}}, five, []string{"3 remove keep-builds", "2 remove keep-builds", "1 remove keep-builds"}},
		{"a number of days", retention.Policy{Default: job.Retention{Days: 7}}, five, []string{"2 remove keep-days", "1 remove keep-days"}},
		{"exactly so many days", retention.Policy{Default: job.Retention{Days: 8}}, five, []string{"1 remove keep-days"}},
		{"a number of octets", retention.Policy{Default: job.Retention{Bytes: 35}}, five, []string{"2 remove keep-bytes", "1 remove keep-bytes"}},
		{"less than anything has", retention.Policy{Default: job.Retention{Bytes: 1}}, five, []string{"3 remove keep-bytes", "2 remove keep-bytes", "1 remove keep-bytes"}},
		{"the first bound that counts", retention.Policy{Default: job.Retention{Builds: 4, Days: 7, Bytes: 25}}, five, []string{"3 remove keep-bytes", "2 remove keep-days", "1 remove keep-builds"}},
		{"the job's own bounds, field by field", retention.Policy{Default: job.Retention{Builds: 4, Days: 5}, Own: unboundedDays}, five, []string{"1 remove keep-builds"}},
		{"another job's bounds", retention.Policy{Own: func(name string) job.Retention { return map[string]job.Retention{"other": {Builds: 1}}[name] }}, five, nil},
		{"one job only", retention.Policy{Default: job.Retention{Builds: 1}, Job: "other"}, five, nil},
		{
			"pinned and needed ones stay, and count",
			retention.Policy{Default: job.Retention{Builds: 2}, Needed: func(id uuid.UUID) bool { return id == build(2, 0, "").UUID }},
			[]retention.Build{build(1, 10, ""), build(2, 8, ""), build(3, 6, "pinned"), build(4, 4, ""), build(5, 2, "")},
			[]string{"1 remove keep-builds"},
		},
		{
			"each platform has its own",
			retention.Policy{Default: job.Retention{Builds: 1}},
			[]retention.Build{build(1, 10, "+"), build(2, 8, "+ elsewhere"), build(3, 6, "+ elsewhere"), build(4, 4, "+")},
			[]string{"2 remove keep-builds", "1 remove keep-builds"},
		},
		{
			"artifacts that were uploaded",
			retention.Policy{UploadedDays: 7},
			[]retention.Build{build(1, 20, "+ uploaded"), build(2, 10, "uploaded pruned"), build(3, 10, "+"), build(4, 9, "bare uploaded"), build(5, 8, "+ uploaded"), build(6, 3, "+ uploaded"), build(7, 1, "+")},
			[]string{"5 strip keep-uploaded-days", "1 strip keep-uploaded-days"},
		},
		{"uploaded, but not to be removed for it", retention.Policy{}, []retention.Build{build(1, 20, "uploaded"), build(2, 1, "")}, nil},
		{"the latest success keeps its artifacts", retention.Policy{UploadedDays: 7}, []retention.Build{build(1, 20, "+ uploaded"), build(2, 10, "uploaded")}, nil},
		{"whole before its artifacts only", retention.Policy{Default: job.Retention{Days: 9}, UploadedDays: 7}, []retention.Build{build(1, 20, "uploaded"), build(2, 8, "uploaded"), build(3, 1, "+")}, []string{"2 strip keep-uploaded-days", "1 remove keep-days"}},
		{"a clock that was set back", retention.Policy{Default: job.Retention{Days: 1}}, []retention.Build{build(1, -5, ""), build(2, -6, "")}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if d := cmp.Diff(tt.want, shown(tt.policy.Decide(now, tt.builds))); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestRandom holds random decisions to what must never happen, and to what the bounds
// promise: what stays beyond them stays for a reason.
func TestRandom(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 2000 {
		var builds []retention.Build
		needed := map[uuid.UUID]bool{}
		for n := range rng.IntN(30) {
			how := []string{"", "+", "uploaded", "+ uploaded", "pinned", "pruned uploaded", "+ elsewhere", "elsewhere", "bare"}[rng.IntN(9)]
			b := build(n+1, float64(rng.IntN(20)), how)
			b.Job = []string{"i", "j"}[rng.IntN(2)]
			b.Octets = rng.Int64N(20)
			needed[b.UUID] = rng.IntN(10) == 0
			builds = append(builds, b)
		}
		policy := retention.Policy{
			Default: job.Retention{Builds: rng.Int64N(5), Days: rng.Int64N(15), Bytes: rng.Int64N(100)}, UploadedDays: rng.Int64N(10),
			Needed: func(id uuid.UUID) bool { return needed[id] },
		}
		fates := map[uuid.UUID]retention.Fate{}
		for _, v := range policy.Decide(now, builds) {
			if fates[v.UUID] != 0 {
				t.Fatalf("seed %d: two verdicts about %v", seed, v.UUID)
			}
			fates[v.UUID] = v.Fate
		}
		for _, b := range builds {
			if err := check(policy, b, builds, needed, fates[b.UUID]); err != nil {
				t.Fatalf("seed %d: build %+v of %+v with %+v: %v", seed, b, builds, policy, err)
			}
		}
	}
}

// check is a naive second opinion on one build.
func check(p retention.Policy, b retention.Build, all []retention.Build, needed map[uuid.UUID]bool, fate retention.Fate) error {
	newer, newerSuccess := int64(0), false
	octets := b.Octets
	for _, other := range all {
		if other.Job != b.Job || retention.Newer(other, b) >= 0 {
			continue
		}
		octets += other.Octets
		if other.Platform == b.Platform {
			newer++
			newerSuccess = newerSuccess || other.Success
		}
	}
	stays := b.Pinned || needed[b.UUID] || newer == 0 || b.Success && !newerSuccess
	bounds := p.Default
	beyond := bounds.Builds > 0 && newer >= bounds.Builds || bounds.Bytes > 0 && octets > bounds.Bytes ||
		bounds.Days > 0 && now.Sub(b.Finished) > time.Duration(bounds.Days)*day
	delivered := !b.Uploaded.IsZero() && p.UploadedDays > 0 && now.Sub(b.Uploaded) > time.Duration(p.UploadedDays)*day
	want := retention.Fate(0)
	switch {
	case stays:
	case beyond:
		want = retention.Remove
	case delivered && b.Artifacts > 0 && !b.Pruned:
		want = retention.Strip
	}
	if fate != want {
		return fmt.Errorf("its fate is %d, want %d", fate, want)
	}
	return nil
}
