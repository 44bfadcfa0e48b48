package schedule

import (
	"fmt"
	"slices"
	"time"

	"builder/pkg/der"
	"builder/pkg/job"
)

// Executed asks for runs of a job ahead of all others, and frees it if it is parked.
//
//	[2] { name UTF8String, at Instant, tickets Tickets }
type Executed struct {
	Name    string
	At      time.Time
	Tickets []Ticket
}

// Execute decides on running a job soon, on one platform or, with "", on all of
// its own. A run of it that is queued there moves to the front and need not
// wait for its next try; one that is being built stays, another is enqueued.
// A parked job is freed, on all platforms. The plan is left alone. on is as in [State.Schedule].
func (s *State) Execute(now time.Time, name, platform string, on []string) (Executed, error) {
	none := Executed{}
	entry := s.Entry(name)
	if entry == nil {
		return none, unknownJob(name)
	}
	platforms := targets(entry.Job, on)
	if platform != "" {
		if !slices.Contains(platforms, platform) {
			return none, fmt.Errorf("job %q is not for platform %q: %s", name, platform, s.whereFor(entry.Job, platforms))
		}
		platforms = []string{platform}
	}
	if len(platforms) == 0 {
		return none, fmt.Errorf("job %q can not run: no platform has the template %q", name, entry.Job.Template)
	}
	ready := s.notDropped(platforms)
	if len(ready) == 0 {
		return none, fmt.Errorf("executing job %q: %w: %s; undrop it first", name, ErrDropped, quoteNames(platforms))
	}
	return Executed{Name: name, At: instant(now), Tickets: s.tickets(name, ready)}, nil
}

// whereFor says for people which platforms a job is for.
func (s *State) whereFor(j job.Job, platforms []string) string {
	switch {
	case j.Platform != "":
		return fmt.Sprintf("it is for %q", j.Platform)
	case len(platforms) == 0:
		return fmt.Sprintf("no platform has the template %q", j.Template)
	}
	return fmt.Sprintf("the template %q is for %s", j.Template, quoteNames(platforms))
}

func (Executed) tag() int { return tagExecuted }

func (e Executed) encode(w *der.Writer) {
	w.Text(e.Name)
	job.EncodeTime(w, e.At)
	encodeTickets(w, e.Tickets)
}

func decodeExecuted(r *der.Reader) Event {
	return Executed{Name: r.Text(), At: job.DecodeTime(r), Tickets: decodeTickets(r)}
}

func (e Executed) apply(s *State) error {
	entry := s.Entry(e.Name)
	if entry == nil {
		return unknownJob(e.Name)
	}
	if err := s.checkTickets(e.Name, e.Tickets); err != nil {
		return err
	}
	if entry.Parked() {
		freed := *entry
		freed.Losses = 0
		s.put(&freed)
	}
	s.admit(entry.Job, e.Tickets, e.At, true)
	return nil
}
