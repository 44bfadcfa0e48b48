package schedule

import (
	"fmt"
	"time"

	"builder/pkg/der"
	"builder/pkg/job"
)

// Rescheduled gives an entry another time, and perhaps another plan.
//
//	[3] { name UTF8String, plan Plan, next Instant }
type Rescheduled struct {
	Name string
	Plan job.Plan
	Next time.Time
}

// Reschedule decides that a job is due at exactly t, and by its plan after
// that, or by the new plan if one is given. Nothing runs by this itself: a time
// that has passed is due at the next call of [State.Due]. No time (zero, or the
// reference's largest) is never.
func (s *State) Reschedule(name string, t time.Time, plan *job.Plan) (Rescheduled, error) {
	none := Rescheduled{}
	entry := s.Entry(name)
	if entry == nil {
		return none, unknownJob(name)
	}
	e := Rescheduled{Name: name, Plan: entry.Plan}
	if plan != nil {
		if err := CheckPlan(*plan); err != nil {
			return none, fmt.Errorf("plan of job %q: %w", name, err)
		}
		e.Plan = *plan
	}
	switch {
	case isNever(t):
	case t.Before(epoch), t.After(latest):
		return none, fmt.Errorf("time %s is out of range: use one from %s to %s, or never",
			t.UTC().Format(time.RFC3339), epoch.Format(time.RFC3339), latest.Format(time.RFC3339))
	default:
		e.Next = planned(t)
	}
	return e, nil
}

// theirNever is the second that the reference's largest time lies in.
var theirNever = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// isNever reports whether t stands for no time at all: ours, or the reference's.
func isNever(t time.Time) bool { return t.IsZero() || !t.Before(theirNever) }

func (Rescheduled) tag() int { return tagRescheduled }

func (e Rescheduled) encode(w *der.Writer) {
	w.Text(e.Name)
	job.EncodePlan(w, e.Plan)
	job.EncodeTime(w, e.Next)
}

func decodeRescheduled(r *der.Reader) Event {
	return Rescheduled{Name: r.Text(), Plan: job.DecodePlan(r), Next: decodeNext(r)}
}

func (e Rescheduled) apply(s *State) error {
	old := s.Entry(e.Name)
	if old == nil {
		return unknownJob(e.Name)
	}
	entry := *old
	entry.Plan, entry.Next = e.Plan, e.Next
	s.put(&entry)
	return nil
}

// CameDue moves an entry on to its next time, and asks for its runs.
//
//	[4] { name UTF8String, next, at Instant, tickets Tickets }
type CameDue struct {
	Name    string
	Next    time.Time
	At      time.Time
	Tickets []Ticket
}

// Due decides on every entry whose time has come, the earliest first. Each is
// enqueued once on each of its platforms, however many of its times have
// passed, unless it is queued or being built there; on a dropped platform it
// waits. For a parked job the time passes and nothing else. Its next time is the first of its plan that lies after now. on tells
// the platforms of a job that has none of its own; it is called during Due.
//
// The events are to be applied in order, all before the next decision.
func (s *State) Due(now time.Time, on func(job.Job) []string) []CameDue {
	var events []CameDue
	last := s.runs
	for _, entry := range s.due.until(now) {
		e := CameDue{Name: entry.Job.Name, At: instant(now), Next: Next(entry.Plan, entry.Next, now)}
		var templated []string
		if entry.Job.Platform == "" {
			templated = on(entry.Job)
		}
		for _, p := range targets(entry.Job, templated) {
			if !entry.Parked() && s.queued(e.Name, p) == nil && !s.isBuilding(e.Name, p) {
				last++
				e.Tickets = append(e.Tickets, Ticket{Run: last, Platform: p})
			}
		}
		events = append(events, e)
	}
	return events
}

func (CameDue) tag() int { return tagCameDue }

func (e CameDue) encode(w *der.Writer) {
	w.Text(e.Name)
	job.EncodeTime(w, e.Next)
	job.EncodeTime(w, e.At)
	encodeTickets(w, e.Tickets)
}

func decodeCameDue(r *der.Reader) Event {
	return CameDue{Name: r.Text(), Next: decodeNext(r), At: job.DecodeTime(r), Tickets: decodeTickets(r)}
}

func (e CameDue) apply(s *State) error {
	old := s.Entry(e.Name)
	if old == nil {
		return unknownJob(e.Name)
	}
	if err := s.checkTickets(e.Name, e.Tickets); err != nil {
		return err
	}
	entry := *old
	entry.Next = e.Next
	s.put(&entry)
	s.admit(old.Job, e.Tickets, e.At, false)
	return nil
}
