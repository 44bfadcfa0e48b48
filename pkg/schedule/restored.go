package schedule

import (
	"fmt"

	"builder/pkg/der"
	"builder/pkg/job"
)

// The events in this file state what is, instead of what happened. Snapshots
// and imports are made of them.

// RestoredEntry is an entry with its history.
//
//	[12] { job Job, plan Plan, next Instant, last SEQUENCE OF Ended (SIZE (0|1)),
//	       losses, setbacks INTEGER }
//	Ended ::= SEQUENCE { uuid Uuid, result Result, finished Instant }
type RestoredEntry struct{ Entry *Entry }

func (RestoredEntry) tag() int { return tagRestoredEntry }

func (e RestoredEntry) encode(w *der.Writer) {
	job.EncodeJob(w, e.Entry.Job)
	job.EncodePlan(w, e.Entry.Plan)
	job.EncodeTime(w, e.Entry.Next)
	w.Sequence(func() {
		if last := e.Entry.Last; last != nil {
			w.Sequence(func() {
				encodeUUID(w, last.UUID)
				job.EncodeResult(w, last.Result)
				job.EncodeTime(w, last.Finished)
			})
		}
	})
	w.Int(int64(e.Entry.Losses))
	w.Int(int64(e.Entry.Setbacks))
}

func decodeRestoredEntry(r *der.Reader) Event {
	e := &Entry{Job: job.DecodeJob(r), Plan: job.DecodePlan(r), Next: decodeNext(r)}
	if in := r.Enter(der.Sequence); in.More() {
		last := in.Enter(der.Sequence)
		e.Last = &Ended{
			UUID:     job.DecodeUUID(&last),
			Result:   job.DecodeResult(&last),
			Finished: job.DecodeTime(&last),
		}
		in.Done()
	}
	if r.More() {
		e.Losses, e.Setbacks = decodeCount(r), decodeCount(r)
	}
	return RestoredEntry{e}
}

func (e RestoredEntry) apply(s *State) error {
	if s.Entry(e.Entry.Job.Name) != nil {
		return fmt.Errorf("%w: %q", ErrExists, e.Entry.Job.Name)
	}
	s.put(e.Entry)
	if e.Entry.Job.Platform != "" {
		s.know(e.Entry.Job.Platform)
	}
	return nil
}

// RestoredRun is a run at the end of its platform's queue.
//
//	[13] { run Run }
type RestoredRun struct{ Run *job.Run }

func (RestoredRun) tag() int { return tagRestoredRun }

func (e RestoredRun) encode(w *der.Writer) { job.EncodeRun(w, *e.Run) }

func decodeRestoredRun(r *der.Reader) Event { return RestoredRun{decodeRun(r)} }

func decodeRun(r *der.Reader) *job.Run {
	run := job.DecodeRun(r)
	if r.Err() == nil && (run.ID == 0 || run.ID > maxID || run.Tries < 0 || run.Tries > maxTries) {
		r.Fail(fmt.Errorf("run %d with %d tries", run.ID, run.Tries))
	}
	return &run
}

func (e RestoredRun) apply(s *State) error {
	name := e.Run.Job.Name
	if s.Run(e.Run.ID) != nil || s.queued(name, e.Run.Platform) != nil {
		return fmt.Errorf("run %d of job %q is queued twice", e.Run.ID, name)
	}
	s.runs = max(s.runs, e.Run.ID)
	s.enqueue(s.share(e.Run), false)
	return nil
}

// share makes a run use the memory of its entry's definition if it is the same.
func (s *State) share(run *job.Run) *job.Run {
	if entry := s.Entry(run.Job.Name); entry != nil && entry.Job.Equal(run.Job) {
		shared := *run
		shared.Job = entry.Job
		return &shared
	}
	return run
}

// RestoredBuilding is a build that runs.
//
//	[14] { uuid Uuid, run Run, try INTEGER, worker UTF8String, started Instant,
//	       workerID UTF8String, decided SEQUENCE OF Decision (SIZE (0|1)),
//	       wish SEQUENCE OF Result (SIZE (0|1)),
//	       expanded SEQUENCE OF Content (SIZE (0|1)) }
//	Decision ::= SEQUENCE { result Result, at Instant }
type RestoredBuilding struct{ Building *Building }

func (RestoredBuilding) tag() int { return tagRestoredBuilding }

func (e RestoredBuilding) encode(w *der.Writer) {
	encodeUUID(w, e.Building.UUID)
	job.EncodeRun(w, *e.Building.Run)
	w.Int(int64(e.Building.Try))
	w.Text(e.Building.Worker)
	job.EncodeTime(w, e.Building.Started)
	w.Text(e.Building.WorkerID)
	w.Sequence(func() {
		if result := e.Building.Decided; result != nil {
			w.Sequence(func() {
				job.EncodeResult(w, *result)
				job.EncodeTime(w, e.Building.DecidedAt)
			})
		}
	})
	w.Sequence(func() {
		if wish := e.Building.Wish; wish != nil {
			job.EncodeResult(w, *wish)
		}
	})
	w.Sequence(func() {
		if !e.Building.Expanded.IsZero() {
			job.EncodeContent(w, e.Building.Expanded)
		}
	})
}

func decodeRestoredBuilding(r *der.Reader) Event {
	b := &Building{
		UUID:    job.DecodeUUID(r),
		Run:     decodeRun(r),
		Try:     decodeTries(r),
		Worker:  r.Text(),
		Started: job.DecodeTime(r),
	}
	if r.More() {
		b.WorkerID = r.Text()
		if in := r.Enter(der.Sequence); in.More() {
			decided := in.Enter(der.Sequence)
			result := job.DecodeResult(&decided)
			b.Decided, b.DecidedAt = &result, job.DecodeTime(&decided)
			in.Done()
		}
	}
	if r.More() {
		if in := r.Enter(der.Sequence); in.More() {
			wish := job.DecodeResult(&in)
			b.Wish = &wish
			in.Done()
		}
	}
	if r.More() {
		if in := r.Enter(der.Sequence); in.More() {
			b.Expanded = job.DecodeContent(&in)
			in.Done()
		}
	}
	return RestoredBuilding{b}
}

func (e RestoredBuilding) apply(s *State) error {
	if s.Building(e.Building.UUID) != nil {
		return fmt.Errorf("build %v runs twice", e.Building.UUID)
	}
	b := *e.Building
	b.Run = s.share(b.Run)
	s.runs = max(s.runs, b.Run.ID)
	s.begin(&b)
	return nil
}

// RestoredUpload is a build at the end of the outbox.
//
//	[15] { uuid Uuid, remote, parked UTF8String }
type RestoredUpload struct{ Post Post }

func (RestoredUpload) tag() int { return tagRestoredUpload }

func (e RestoredUpload) encode(w *der.Writer) {
	encodePost(w, e.Post.UUID, e.Post.Remote)
	w.Text(e.Post.Parked)
}

func decodeRestoredUpload(r *der.Reader) Event {
	p := Post{UUID: job.DecodeUUID(r)}
	if r.More() {
		p.Remote, p.Parked = decodeRemote(r), r.Text()
	}
	return RestoredUpload{p}
}

func (e RestoredUpload) apply(s *State) error {
	if s.posted(e.Post.UUID, e.Post.Remote) != nil {
		return fmt.Errorf("build %v is to be uploaded twice to %q", e.Post.UUID, e.Post.Remote)
	}
	s.post(e.Post)
	return nil
}

// RestoredCounter says how many runs there were.
//
//	[16] { runs INTEGER }
type RestoredCounter struct{ Runs uint64 }

func (RestoredCounter) tag() int { return tagRestoredCounter }

func (e RestoredCounter) encode(w *der.Writer) { w.Int(int64(e.Runs)) }

func decodeRestoredCounter(r *der.Reader) Event { return RestoredCounter{decodeRunID(r)} }

func (e RestoredCounter) apply(s *State) error {
	if e.Runs < s.runs {
		return fmt.Errorf("counter at %d after run %d", e.Runs, s.runs)
	}
	s.runs = e.Runs
	return nil
}
