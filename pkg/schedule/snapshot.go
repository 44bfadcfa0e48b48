package schedule

import (
	"bytes"
	"cmp"
	"iter"
	"maps"
	"slices"

	"builder/pkg/job"
)

// Snapshot yields records that, applied to a [New] State, make one equal to s
// as it is now: s is read during the call, which copies pointers only, and not
// while the records are taken, which may happen on another goroutine and while
// s goes on. Equal states have equal snapshots.
func (s *State) Snapshot() iter.Seq[[]byte] {
	entries := slices.AppendSeq(make([]*Entry, 0, s.Len()), s.Entries())
	platforms := s.Platforms()
	queued := make([]*job.Run, 0, len(s.waiting))
	for _, p := range platforms {
		queued = slices.AppendSeq(queued, s.Queue(p.Name))
	}
	building := slices.Collect(maps.Values(s.building))
	outbox := slices.AppendSeq(make([]Post, 0, len(s.unsent)), s.Outbox())
	runs := s.runs

	return func(yield func([]byte) bool) {
		put := func(e Event) bool { return yield(Encode(e)) }
		for _, p := range platforms {
			if !put(PlatformSeen{p.Name}) || p.Dropped && !put(PlatformDropped{p.Name}) {
				return
			}
		}
		slices.SortFunc(entries, func(a, b *Entry) int { return cmp.Compare(a.Job.Name, b.Job.Name) })
		for _, e := range entries {
			if !put(RestoredEntry{e}) {
				return
			}
		}
		for _, run := range queued {
			if !put(RestoredRun{run}) {
				return
			}
		}
		slices.SortFunc(building, func(a, b *Building) int { return bytes.Compare(a.UUID[:], b.UUID[:]) })
		for _, b := range building {
			if !put(RestoredBuilding{b}) {
				return
			}
		}
		for _, post := range outbox {
			if !put(RestoredUpload{post}) {
				return
			}
		}
		if runs > 0 {
			put(RestoredCounter{runs})
		}
	}
}
