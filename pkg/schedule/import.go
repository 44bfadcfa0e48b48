package schedule

import (
	"fmt"
	"time"

	"builder/pkg/job"
)

// Reference is what a state file of the reference holds. Names may be any octets.
type Reference struct {
	Entries []Entry // Last is not used
	Queues  []ReferenceQueue
	Dropped []string
}

// ReferenceQueue is the queue of one platform, the next job first.
type ReferenceQueue struct {
	Platform string
	Jobs     []job.Job
}

// Import makes the events that give a [New] State what the reference had. A job
// of the period never is due never: that is what the reference did, whatever
// time it kept for it. What the reference's own rules exclude is refused: two
// entries of one name, one job twice in a queue.
func Import(now time.Time, ref Reference) ([]Event, error) {
	var events []Event
	s := New() // finds what does not fit
	add := func(e Event) error {
		events = append(events, e)
		return s.Advance(e)
	}
	for _, e := range ref.Entries {
		entry := e
		entry.Last = nil
		switch {
		case isNever(e.Next) || e.Plan == job.Plan{Period: job.Never}:
			entry.Next = time.Time{}
		default:
			entry.Next = planned(e.Next)
		}
		if err := add(RestoredEntry{&entry}); err != nil {
			return nil, err
		}
	}
	for _, q := range ref.Queues {
		if _, known := s.platforms[q.Platform]; !known {
			if err := add(PlatformSeen{q.Platform}); err != nil {
				return nil, err
			}
		}
		for _, j := range q.Jobs {
			run := &job.Run{ID: s.runs + 1, Job: j, Platform: q.Platform, Asked: instant(now)}
			if err := add(RestoredRun{run}); err != nil {
				return nil, err
			}
		}
	}
	for _, name := range ref.Dropped {
		if _, known := s.platforms[name]; !known {
			if err := add(PlatformSeen{name}); err != nil {
				return nil, err
			}
		}
		if err := add(PlatformDropped{name}); err != nil {
			return nil, fmt.Errorf("dropped platforms: %w", err)
		}
	}
	return events, nil
}
