package schedule

import (
	"fmt"
	"time"

	"builder/pkg/der"
	"builder/pkg/job"

	"github.com/google/uuid"
)

// Building is a build that runs. It is never changed, only replaced.
type Building struct {
	UUID   uuid.UUID
	Run    *job.Run
	Try    int    // 1 for the first build of its run
	Worker string // name or address, for people
	// WorkerID is the worker's identity, by which it is known when it comes back;
	// empty for one that can not.
	WorkerID string
	Started  time.Time
	// Expanded is what the template of its job became; zero if it has none, or is
	// not expanded yet.
	Expanded job.Content
	// Wish is the end that somebody wants it to have, nil if nobody does.
	Wish *job.Result
	// Decided is how it ends, whatever becomes of it, and DecidedAt since when that
	// is known; nil and zero while it is open.
	Decided   *job.Result
	DecidedAt time.Time
}

// Script is what the build executes; zero while that is not known.
func (b *Building) Script() job.Content {
	if b.Expanded.IsZero() {
		return b.Run.Job.Script
	}
	return b.Expanded
}

// HandedOut takes a run out of its queue and begins a build of it.
//
//	[8] { uuid Uuid, run INTEGER, worker UTF8String, started Instant,
//	      workerID UTF8String }
type HandedOut struct {
	UUID     uuid.UUID
	Run      uint64
	Worker   string
	WorkerID string
	Started  time.Time
}

// HandOut decides which run a worker of the platform gets; ok is false when
// none is ready. The uuid must be new, the worker's identity may be empty.
func (s *State) HandOut(now time.Time, platform, worker, workerID string, id uuid.UUID) (e HandedOut, ok bool) {
	p, known := s.platforms[platform]
	if !known || p.dropped {
		return e, false
	}
	run := p.first(now)
	if run == nil {
		return e, false
	}
	return HandedOut{UUID: id, Run: run.ID, Worker: worker, WorkerID: workerID, Started: instant(now)}, true
}

func (HandedOut) tag() int { return tagHandedOut }

func (e HandedOut) encode(w *der.Writer) {
	encodeUUID(w, e.UUID)
	w.Int(int64(e.Run))
	w.Text(e.Worker)
	job.EncodeTime(w, e.Started)
	w.Text(e.WorkerID)
}

func decodeHandedOut(r *der.Reader) Event {
	e := HandedOut{
		UUID:    job.DecodeUUID(r),
		Run:     decodeRunID(r),
		Worker:  r.Text(),
		Started: job.DecodeTime(r),
	}
	if r.More() {
		e.WorkerID = r.Text()
	}
	return e
}

func (e HandedOut) apply(s *State) error {
	run := s.Run(e.Run)
	switch {
	case run == nil:
		return fmt.Errorf("%w: %d", ErrNotQueued, e.Run)
	case s.waiting[e.Run].parked:
		return fmt.Errorf("run %d is handed out though its job is parked", e.Run)
	case s.Building(e.UUID) != nil || s.Posted(e.UUID):
		return fmt.Errorf("build %v is handed out twice", e.UUID)
	}
	s.dequeue(e.Run)
	s.begin(&Building{
		UUID: e.UUID, Run: run, Try: run.Tries + 1, Worker: e.Worker, WorkerID: e.WorkerID, Started: e.Started,
	})
	return nil
}

func (s *State) begin(b *Building) {
	s.building[b.UUID] = b
	s.know(b.Run.Platform).running[b.Run.Job.Name]++
}

// cut bounds what the state keeps of a text; the build's record has it all.
func cut(text string) string { return job.Shorten(text, 200) }

func unknownBuild(id uuid.UUID) error { return fmt.Errorf("%w: %v", ErrEnded, id) }
