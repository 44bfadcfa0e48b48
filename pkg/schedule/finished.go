package schedule

import (
	"fmt"
	"time"

	"builder/pkg/der"
	"builder/pkg/job"

	"github.com/google/uuid"
)

// Finished ends a build, and its run unless that is tried again.
//
//	[9] { uuid Uuid, result Result, finished Instant, upload, again Flag,
//	      tries INTEGER, after Instant, losses, setbacks INTEGER,
//	      remotes SEQUENCE OF UTF8String }
type Finished struct {
	UUID     uuid.UUID
	Result   job.Result
	Finished time.Time
	Upload   bool
	// Again puts the run back to the front of its queue, with Tries and After.
	Again bool
	Tries int
	After time.Time
	// Losses and Setbacks are the new ones of the job's entry, if it has one.
	Losses, Setbacks int32
	// Remotes are those that are to have the build. A release that knew only one
	// wrote none, and Upload.
	Remotes []string
}

// Backoff says how long a run waits that is tried again: First, then four times
// as long each time, at most Most.
type Backoff struct{ First, Most time.Duration }

// DefaultBackoff is 5 and 20 seconds before the second and the third try.
var DefaultBackoff = Backoff{First: 5 * time.Second, Most: 5 * time.Minute}

// wait is the time after so many tries, at least one.
func (b Backoff) wait(tries int) time.Duration {
	wait := b.First
	for i := 1; i < tries && wait < b.Most; i++ {
		wait *= 4
	}
	return max(0, min(wait, b.Most))
}

// End is what the owner knows about the end of a build.
type End struct {
	UUID   uuid.UUID
	Result job.Result // ignored when another one was decided
	// Remotes are the names of those that are to have the build.
	Remotes []string
	// Uncounted ends tell nothing of the job (the worker never received the build,
	// or could not come back since the server was restarted): they count for
	// nothing, and nobody waits.
	Uncounted bool
	// Final ends are somebody's wish, whatever the result is: no other try follows.
	Final bool
}

// Finish decides on the end of a build. A result that was decided stands whatever
// came later. The run goes back to the front of its queue, with the current
// definition of its job, if the retries of that say so of the result and leave it
// a try.
//
// An end of the cause server is no try of the job: its run waits longer each time that
// such ends follow each other, and is never given up for them.
//
// No run goes back whose job was unscheduled or moved to another platform
// meanwhile, or has another run waiting there already: that one is its next try.
// The error wraps [ErrEnded]: the first end wins.
func (s *State) Finish(now time.Time, end End, backoff Backoff) (Finished, error) {
	b := s.Building(end.UUID)
	if b == nil {
		return Finished{}, unknownBuild(end.UUID)
	}
	e := Finished{UUID: end.UUID, Result: end.Result, Finished: instant(now), Upload: len(end.Remotes) > 0, Remotes: end.Remotes}
	if b.Decided != nil {
		e.Result = *b.Decided
	}
	e.Result.Text = cut(e.Result.Text)
	entry := s.Entry(b.Run.Job.Name)
	if entry == nil {
		return e, nil
	}
	e.Losses, e.Setbacks = entry.Losses, entry.Setbacks
	tries, wait := b.Run.Tries, time.Duration(0)
	switch {
	case end.Uncounted:
	case serverEnded(e.Result):
		e.Setbacks = entry.Setbacks + 1
		wait = backoff.wait(int(e.Setbacks))
	default:
		e.Losses, e.Setbacks = losses(entry, e.Result), 0
		tries++
		wait = backoff.wait(tries)
	}
	retries := entry.Job.Retries
	if end.Final || tries >= retries.Max() || !retries.Again(e.Result) || !s.mayReturn(b.Run) {
		return e, nil
	}
	e.Again, e.Tries = true, tries
	if !end.Uncounted {
		e.After = instant(now.Add(wait))
	}
	return e, nil
}

// serverEnded reports whether a build ended for a reason of the server's.
func serverEnded(result job.Result) bool {
	return result.Kind == job.Failed && result.Cause == job.ServerSide
}

// losses is an entry's new number of them. A parked job stays parked, however the
// builds end that ran beside the one that parked it.
func losses(entry *Entry, result job.Result) int32 {
	switch {
	case entry.Parked():
		return entry.Losses
	case result.WorkerEnded():
		return entry.Losses + 1
	}
	return 0
}

// mayReturn reports whether a run that is being built may be queued again.
func (s *State) mayReturn(run *job.Run) bool {
	entry := s.Entry(run.Job.Name)
	return entry != nil &&
		(entry.Job.Platform == "" || entry.Job.Platform == run.Platform) &&
		s.queued(run.Job.Name, run.Platform) == nil
}

func (Finished) tag() int { return tagFinished }

func (e Finished) encode(w *der.Writer) {
	encodeUUID(w, e.UUID)
	job.EncodeResult(w, e.Result)
	job.EncodeTime(w, e.Finished)
	w.Bool(e.Upload)
	w.Bool(e.Again)
	w.Int(int64(e.Tries))
	job.EncodeTime(w, e.After)
	w.Int(int64(e.Losses))
	w.Int(int64(e.Setbacks))
	w.Sequence(func() {
		for _, name := range e.Remotes {
			w.Text(name)
		}
	})
}

func decodeFinished(r *der.Reader) Event {
	e := Finished{
		UUID:     job.DecodeUUID(r),
		Result:   job.DecodeResult(r),
		Finished: job.DecodeTime(r),
		Upload:   r.Bool(),
		Again:    r.Bool(),
		Tries:    decodeTries(r),
		After:    job.DecodeTime(r),
	}
	if r.More() {
		e.Losses, e.Setbacks = decodeCount(r), decodeCount(r)
	}
	if r.More() {
		e.Remotes = decodeRemotes(r)
	}
	return e
}

func (e Finished) apply(s *State) error {
	b := s.Building(e.UUID)
	switch {
	case b == nil:
		return unknownBuild(e.UUID)
	case e.Again && !s.mayReturn(b.Run):
		return fmt.Errorf("run %d can not be tried again", b.Run.ID)
	}
	name := b.Run.Job.Name
	delete(s.building, e.UUID)
	running := s.platforms[b.Run.Platform].running
	if running[name]--; running[name] == 0 {
		delete(running, name)
	}
	if entry := s.Entry(name); entry != nil {
		ended := *entry
		ended.Last = &Ended{UUID: e.UUID, Result: e.Result, Finished: e.Finished}
		ended.Losses, ended.Setbacks = e.Losses, e.Setbacks
		s.put(&ended)
	}
	for _, name := range e.Remotes {
		s.post(Post{UUID: e.UUID, Remote: name})
	}
	if e.Upload && len(e.Remotes) == 0 {
		s.post(Post{UUID: e.UUID})
	}
	if e.Again {
		run := *b.Run
		run.Job, run.Tries, run.After = s.Entry(name).Job, e.Tries, e.After
		s.enqueue(&run, true)
	}
	return nil
}
