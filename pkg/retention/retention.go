// Package retention decides which builds go, and of which only the artifacts. It is
// a pure function of what is known of them: no clock, no disk. Package store carries
// the verdicts out, package server says what the bounds are.
//
//	a build goes whole         its artifacts go
//	beyond the last N builds   long enough delivered to a frontend
//	older than D days
//	beyond SIZE octets
//
// The invariant: neither happens to a build that is pinned or needed, nor to the
// latest success of its job on its platform, nor to the latest build there.
package retention

import (
	"cmp"
	"slices"
	"time"

	"builder/pkg/job"

	"github.com/google/uuid"
)

// Build is what is known of a build that has ended.
type Build struct {
	UUID              uuid.UUID
	Job, Platform     string
	Started, Finished time.Time
	Success           bool
	Pinned            bool
	Pruned            bool      // its artifacts are gone
	Uploaded          time.Time // since when a frontend has it; zero if none has
	Artifacts         int
	// Octets is what it takes of the disk that no newer build of its job takes.
	Octets int64
}

// Fate is what becomes of a build.
type Fate int

// The fates of those that do not stay as they are.
const (
	Strip  Fate = iota + 1 // its artifacts go; its record and its console stay
	Remove                 // all of it goes
)

// Bound is what a build is beyond, named as the flag that sets it.
type Bound string

// The bounds.
const (
	Builds   Bound = "keep-builds"
	Days     Bound = "keep-days"
	Bytes    Bound = "keep-bytes"
	Uploaded Bound = "keep-uploaded-days"
)

// Verdict is about one build that does not stay as it is.
type Verdict struct {
	Build
	Fate  Fate
	Bound Bound
}

// Policy says what is kept.
type Policy struct {
	// Default is for all jobs, Own what a job sets itself, field by field. Own may
	// be nil.
	Default job.Retention
	Own     func(name string) job.Retention
	// UploadedDays is how many days artifacts are kept after a frontend has them; 0
	// for as long as their builds.
	UploadedDays int64
	// Needed reports whether something else needs a build; nil for nothing.
	Needed func(uuid.UUID) bool
	// Job is the only job that it is about; "" for all.
	Job string
}

// Decide returns the builds that do not stay as they are, by job, the newest first.
func (p Policy) Decide(now time.Time, builds []Build) []Verdict {
	sorted := slices.Clone(builds)
	slices.SortFunc(sorted, func(a, b Build) int { return cmp.Or(cmp.Compare(a.Job, b.Job), Newer(a, b)) })
	var verdicts []Verdict
	for len(sorted) > 0 {
		name := sorted[0].Job
		n := slices.IndexFunc(sorted, func(b Build) bool { return b.Job != name })
		if n < 0 {
			n = len(sorted)
		}
		if p.Job == "" || p.Job == name {
			verdicts = append(verdicts, p.decide(now, sorted[:n])...)
		}
		sorted = sorted[n:]
	}
	return verdicts
}

// Newer orders builds of a job: the one that was started last comes first.
func Newer(a, b Build) int {
	return cmp.Or(b.Started.Compare(a.Started), slices.Compare(b.UUID[:], a.UUID[:]))
}

// decide is about the builds of one job, the newest first.
func (p Policy) decide(now time.Time, builds []Build) []Verdict {
	bounds := p.Default
	if p.Own != nil {
		bounds = p.Own(builds[0].Job).Or(bounds)
	}
	var verdicts []Verdict
	var octets int64
	platforms := map[string]*seen{}
	for _, b := range builds {
		on := platforms[b.Platform]
		if on == nil {
			on = &seen{}
			platforms[b.Platform] = on
		}
		octets += b.Octets
		stays := on.last(b) || b.Pinned || p.Needed != nil && p.Needed(b.UUID)
		if stays {
			continue
		}
		switch {
		case bounds.Builds > 0 && on.builds > bounds.Builds:
			verdicts = append(verdicts, Verdict{b, Remove, Builds})
		case older(now, b.Finished, bounds.Days):
			verdicts = append(verdicts, Verdict{b, Remove, Days})
		case bounds.Bytes > 0 && octets > bounds.Bytes:
			verdicts = append(verdicts, Verdict{b, Remove, Bytes})
		case !b.Uploaded.IsZero() && older(now, b.Uploaded, p.UploadedDays) && b.Artifacts > 0 && !b.Pruned:
			verdicts = append(verdicts, Verdict{b, Strip, Uploaded})
		}
	}
	return verdicts
}

// seen is what came so far of a job's builds on one platform.
type seen struct {
	builds  int64
	success bool
}

// last counts b, and reports whether it is the latest build or the latest success.
func (s *seen) last(b Build) bool {
	s.builds++
	last := s.builds == 1 || b.Success && !s.success
	s.success = s.success || b.Success
	return last
}

// older reports whether t lies more than that many days back; 0 and less are no
// bound.
func older(now, t time.Time, days int64) bool {
	return days > 0 && now.Sub(t) > time.Duration(days)*24*time.Hour
}
