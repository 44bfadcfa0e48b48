package schedule

import (
	"cmp"
	"container/list"
	"fmt"
	"iter"
	"slices"
	"time"

	"builder/pkg/job"
)

// platform has what waits for one platform's workers, and what they build.
//
// Ready runs stand in a line. A run that waits for its next try stands beside
// it, in the order of time; once that has come it goes before the line, where
// it would have been without the wait. Runs of parked jobs stand aside; when their
// job is freed they go to the end of the line, or wait for their next try.
type platform struct {
	dropped bool
	ready   *list.List // of *waiting
	// delayed is sorted by the time of the next try, then by id. Only builds
	// that ended without an answer get here, so it is short, and moving its
	// tail costs nothing.
	delayed []*waiting
	parked  *list.List // of *waiting
	byJob   map[string]*waiting
	running map[string]int // builds by job name
}

// waiting is the place of a queued run: it stays when the run is replaced.
type waiting struct {
	run    *job.Run
	parked bool
	line   *list.Element // of the ready or the parked ones, nil while delayed
}

// know returns the platform of that name, which is made if it is not known.
func (s *State) know(name string) *platform {
	p, ok := s.platforms[name]
	if !ok {
		p = &platform{ready: list.New(), parked: list.New(), byJob: map[string]*waiting{}, running: map[string]int{}}
		s.platforms[name] = p
	}
	return p
}

// isDropped reports whether a platform is dropped; unknown ones are not.
func (s *State) isDropped(name string) bool {
	p, ok := s.platforms[name]
	return ok && p.dropped
}

// queued is the run of a job that waits on a platform, nil if there is none.
func (s *State) queued(name, platform string) *job.Run {
	if p, ok := s.platforms[platform]; ok {
		if w, ok := p.byJob[name]; ok {
			return w.run
		}
	}
	return nil
}

// isBuilding reports whether a build of the job runs on the platform.
func (s *State) isBuilding(name, platform string) bool {
	p, ok := s.platforms[platform]
	return ok && p.running[name] > 0
}

// queuedRuns are the ids of all queued runs of a job, in their order.
func (s *State) queuedRuns(name string) []uint64 {
	var ids []uint64
	for _, p := range s.platforms {
		if w, ok := p.byJob[name]; ok {
			ids = append(ids, w.run.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// enqueue adds a run whose id and job are not queued.
func (s *State) enqueue(run *job.Run, front bool) {
	entry := s.Entry(run.Job.Name)
	w := &waiting{run: run, parked: entry != nil && entry.Parked()}
	s.waiting[run.ID] = w
	p := s.know(run.Platform)
	p.byJob[run.Job.Name] = w
	p.insert(w, front)
}

// dequeue takes a queued run out.
func (s *State) dequeue(id uint64) {
	w := s.waiting[id]
	p := s.platforms[w.run.Platform]
	p.extract(w)
	delete(p.byJob, w.run.Job.Name)
	delete(s.waiting, id)
}

// park sets the queued runs of a job aside, or lets them in again.
func (s *State) park(name string, parked bool) {
	for _, p := range s.platforms {
		if w, ok := p.byJob[name]; ok {
			p.extract(w)
			w.parked = parked
			p.insert(w, false)
		}
	}
}

// insert gives w its place in p.
func (p *platform) insert(w *waiting, front bool) {
	switch {
	case w.parked:
		w.line = p.parked.PushBack(w)
	case !w.run.After.IsZero():
		i, _ := slices.BinarySearchFunc(p.delayed, w, compareDelayed)
		p.delayed = slices.Insert(p.delayed, i, w)
	case front:
		w.line = p.ready.PushFront(w)
	default:
		w.line = p.ready.PushBack(w)
	}
}

// extract is the inverse of insert.
func (p *platform) extract(w *waiting) {
	if w.line == nil {
		i, _ := slices.BinarySearchFunc(p.delayed, w, compareDelayed)
		p.delayed = slices.Delete(p.delayed, i, i+1)
		return
	}
	line := p.ready
	if w.parked {
		line = p.parked
	}
	line.Remove(w.line)
	w.line = nil
}

// advance moves w to the front of the line, where it need not wait.
func (p *platform) advance(w *waiting) {
	p.extract(w)
	if !w.run.After.IsZero() {
		run := *w.run
		run.After = time.Time{}
		w.run = &run
	}
	p.insert(w, true)
}

func compareDelayed(a, b *waiting) int {
	return cmp.Or(a.run.After.Compare(b.run.After), cmp.Compare(a.run.ID, b.run.ID))
}

// first is the run that is handed out next, nil if none is ready.
func (p *platform) first(now time.Time) *job.Run {
	if len(p.delayed) > 0 && !p.delayed[0].run.After.After(now) {
		return p.delayed[0].run
	}
	if e := p.ready.Front(); e != nil {
		return e.Value.(*waiting).run
	}
	return nil
}

// nextReady is the earliest time after now at which a delayed run is ready.
func (p *platform) nextReady(now time.Time) (time.Time, bool) {
	i, _ := slices.BinarySearchFunc(p.delayed, now, func(w *waiting, now time.Time) int {
		if w.run.After.After(now) {
			return 1
		}
		return -1
	})
	if i == len(p.delayed) {
		return time.Time{}, false
	}
	return p.delayed[i].run.After, true
}

// all yields the runs in their order: those that wait for a try, then the line,
// then those of parked jobs.
func (p *platform) all() iter.Seq[*job.Run] {
	return func(yield func(*job.Run) bool) {
		for _, w := range p.delayed {
			if !yield(w.run) {
				return
			}
		}
		for _, line := range []*list.List{p.ready, p.parked} {
			for e := line.Front(); e != nil; e = e.Next() {
				if !yield(e.Value.(*waiting).run) {
					return
				}
			}
		}
	}
}

// Ticket puts a run into the queue of a platform, or joins the one that is
// there already.
type Ticket struct {
	Run      uint64
	Platform string
}

// tickets are those for a job on these platforms. New ones count on from the
// last run.
func (s *State) tickets(name string, platforms []string) []Ticket {
	var tickets []Ticket
	next := s.runs + 1
	for _, p := range platforms {
		if run := s.queued(name, p); run != nil {
			tickets = append(tickets, Ticket{Run: run.ID, Platform: p})
			continue
		}
		tickets = append(tickets, Ticket{Run: next, Platform: p})
		next++
	}
	return tickets
}

// checkTickets finds tickets that were not made by tickets on this state.
func (s *State) checkTickets(name string, tickets []Ticket) error {
	next := s.runs + 1
	seen := map[string]bool{}
	for _, t := range tickets {
		run := s.queued(name, t.Platform)
		switch {
		case seen[t.Platform]:
			return fmt.Errorf("two runs of job %q on platform %q", name, t.Platform)
		case run != nil && run.ID != t.Run:
			return fmt.Errorf("run %d where run %d of job %q is queued", t.Run, run.ID, name)
		case run == nil && t.Run != next:
			return fmt.Errorf("run %d where run %d is next", t.Run, next)
		case run == nil:
			next++
		}
		seen[t.Platform] = true
	}
	return nil
}

// admit does what checked tickets say.
func (s *State) admit(j job.Job, tickets []Ticket, asked time.Time, front bool) {
	for _, t := range tickets {
		w, joins := s.waiting[t.Run]
		switch {
		case joins && front:
			s.platforms[t.Platform].advance(w)
		case !joins:
			s.runs = t.Run
			s.enqueue(&job.Run{ID: t.Run, Job: j, Platform: t.Platform, Asked: asked}, front)
		}
	}
}

// checkQueued finds runs that are not queued, or not for the job (if not "").
func (s *State) checkQueued(name string, ids []uint64) error {
	seen := map[uint64]bool{}
	for _, id := range ids {
		run := s.Run(id)
		if run == nil || seen[id] || name != "" && run.Job.Name != name {
			return fmt.Errorf("%w: %d", ErrNotQueued, id)
		}
		seen[id] = true
	}
	return nil
}
