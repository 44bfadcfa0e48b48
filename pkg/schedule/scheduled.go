package schedule

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"builder/pkg/der"
	"builder/pkg/job"
)

// Scheduled adds an entry or gives it a new definition and plan.
//
//	[0] { job Job, plan Plan, next, at Instant, tickets Tickets, removed Runs }
type Scheduled struct {
	Job  job.Job
	Plan job.Plan
	Next time.Time
	At   time.Time
	// Tickets are the runs asked for along with it.
	Tickets []Ticket
	// Removed are queued runs on platforms that the job left.
	Removed []uint64
}

// Schedule decides on a new job, or, with update, also on a new definition and
// plan for a job that exists; its history is kept (a parked job stays parked),
// queued runs get the new definition. A job of a platform of its own runs there, others on the
// platforms in on: those that have its template.
//
// With a period (also never, as in the reference) or an interval it is enqueued
// at once, or joins its queued run, and is due a period later; with a cron
// expression it is due when that says. Dropped platforms are refused where the
// job has no other, and left out where it has.
func (s *State) Schedule(now time.Time, j job.Job, plan job.Plan, on []string, update bool) (Scheduled, error) {
	none := Scheduled{}
	old := s.Entry(j.Name)
	if old != nil && !update {
		return none, fmt.Errorf("%w: %q; use --update to replace its definition", ErrExists, j.Name)
	}
	j.Vars = slices.Clone(j.Vars)
	j.SortVars()
	if err := s.checkJob(j, old == nil); err != nil {
		return none, err
	}
	if err := CheckPlan(plan); err != nil {
		return none, fmt.Errorf("plan of job %q: %w", j.Name, err)
	}
	e := Scheduled{Job: j, Plan: plan, At: instant(now), Next: First(plan, now)}
	targets := targets(j, on)
	if plan.Cron == "" {
		e.Tickets = s.tickets(j.Name, s.notDropped(targets))
	}
	for _, id := range s.queuedRuns(j.Name) {
		if !slices.Contains(targets, s.Run(id).Platform) {
			e.Removed = append(e.Removed, id)
		}
	}
	return e, nil
}

// checkJob tells whether j may enter the schedule. Names that are in it already
// stay, whatever they are.
func (s *State) checkJob(j job.Job, isNew bool) error {
	if isNew {
		if err := job.CheckName("job", j.Name); err != nil {
			return err
		}
	}
	if j.Platform != "" {
		if _, known := s.platforms[j.Platform]; !known {
			if err := job.CheckName("platform", j.Platform); err != nil {
				return err
			}
		}
		if s.isDropped(j.Platform) {
			return fmt.Errorf("scheduling job %q: %w: %q; undrop it first", j.Name, ErrDropped, j.Platform)
		}
	}
	if err := j.Limits.Check(); err != nil {
		return fmt.Errorf("limits of job %q: %w", j.Name, err)
	}
	if err := j.Retries.Check(); err != nil {
		return fmt.Errorf("retries of job %q: %w", j.Name, err)
	}
	if err := j.Retention.Check(); err != nil {
		return fmt.Errorf("retention of job %q: %w", j.Name, err)
	}
	if err := j.Resources.Check(); err != nil {
		return fmt.Errorf("resources of job %q: %w", j.Name, err)
	}
	for i := 1; i < len(j.Vars); i++ {
		if j.Vars[i].Name == j.Vars[i-1].Name {
			return fmt.Errorf("job %q has two values for the variable %q", j.Name, j.Vars[i].Name)
		}
	}
	switch {
	case j.Template != "" && !j.Script.IsZero():
		return fmt.Errorf("job %q has both a script and a template", j.Name)
	case j.Template != "":
		return job.CheckName("template", j.Template)
	case j.Script.IsZero():
		return fmt.Errorf("job %q has neither a script nor a template", j.Name)
	case j.Platform == "":
		return fmt.Errorf("job %q has a script and no platform", j.Name)
	}
	return nil
}

// targets are the platforms that a job is for, each once.
func targets(j job.Job, on []string) []string {
	if j.Platform != "" {
		return []string{j.Platform}
	}
	on = slices.Clone(on)
	slices.Sort(on)
	return slices.Compact(on)
}

// notDropped are those of the platforms that are not dropped.
func (s *State) notDropped(platforms []string) []string {
	return slices.DeleteFunc(slices.Clone(platforms), s.isDropped)
}

func (Scheduled) tag() int { return tagScheduled }

func (e Scheduled) encode(w *der.Writer) {
	job.EncodeJob(w, e.Job)
	job.EncodePlan(w, e.Plan)
	job.EncodeTime(w, e.Next)
	job.EncodeTime(w, e.At)
	encodeTickets(w, e.Tickets)
	encodeRunIDs(w, e.Removed)
}

func decodeScheduled(r *der.Reader) Event {
	return Scheduled{
		Job:     job.DecodeJob(r),
		Plan:    job.DecodePlan(r),
		Next:    decodeNext(r),
		At:      job.DecodeTime(r),
		Tickets: decodeTickets(r),
		Removed: decodeRunIDs(r),
	}
}

func (e Scheduled) apply(s *State) error {
	if err := s.checkTickets(e.Job.Name, e.Tickets); err != nil {
		return err
	}
	if err := s.checkQueued(e.Job.Name, e.Removed); err != nil {
		return err
	}
	for _, t := range e.Tickets {
		if slices.Contains(e.Removed, t.Run) {
			return fmt.Errorf("run %d is both asked for and removed", t.Run)
		}
	}
	for _, id := range e.Removed {
		s.dequeue(id)
	}
	entry := &Entry{Job: e.Job, Plan: e.Plan, Next: e.Next}
	if old := s.Entry(e.Job.Name); old != nil {
		entry.Last, entry.Losses, entry.Setbacks = old.Last, old.Losses, old.Setbacks
	}
	s.put(entry)
	for _, id := range s.queuedRuns(e.Job.Name) {
		w := s.waiting[id]
		run := *w.run
		run.Job = e.Job
		w.run = &run
	}
	if e.Job.Platform != "" {
		s.know(e.Job.Platform)
	}
	s.admit(e.Job, e.Tickets, e.At, false)
	return nil
}

// Unscheduled takes a job out of the schedule.
//
//	[1] { name UTF8String, removed Runs }
type Unscheduled struct {
	Name    string
	Removed []uint64 // its queued runs
}

// Unschedule decides on the end of an entry and of its queued runs. Builds of
// it that run go on; should one end without an answer, it is not tried again.
func (s *State) Unschedule(name string) (Unscheduled, error) {
	if s.Entry(name) == nil {
		return Unscheduled{}, unknownJob(name)
	}
	return Unscheduled{Name: name, Removed: s.queuedRuns(name)}, nil
}

func unknownJob(name string) error { return fmt.Errorf("%w: %q", ErrUnknownJob, name) }

func (Unscheduled) tag() int { return tagUnscheduled }

func (e Unscheduled) encode(w *der.Writer) {
	w.Text(e.Name)
	encodeRunIDs(w, e.Removed)
}

func decodeUnscheduled(r *der.Reader) Event {
	return Unscheduled{Name: r.Text(), Removed: decodeRunIDs(r)}
}

func (e Unscheduled) apply(s *State) error {
	if s.Entry(e.Name) == nil {
		return unknownJob(e.Name)
	}
	if !slices.Equal(e.Removed, s.queuedRuns(e.Name)) {
		return errors.New("the runs removed are not those queued")
	}
	for _, id := range e.Removed {
		s.dequeue(id)
	}
	s.remove(e.Name)
	return nil
}
