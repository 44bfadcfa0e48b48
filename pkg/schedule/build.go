package schedule

import (
	"fmt"
	"time"

	"builder/pkg/der"
	"builder/pkg/job"

	"github.com/google/uuid"
)

// Building is a build that runs. It is never changed.
type Building struct {
	UUID    uuid.UUID
	Run     *job.Run
	Try     int // 1 for the first build of its run
	Worker  string
	Started time.Time
}

// HandedOut takes a run out of its queue and begins a build of it.
//
//	[8] { uuid Uuid, run INTEGER, worker UTF8String, started Instant }
type HandedOut struct {
	UUID    uuid.UUID
	Run     uint64
	Worker  string
	Started time.Time
}

// HandOut decides which run a worker of the platform gets; ok is false when
// none is ready. The uuid must be new.
func (s *State) HandOut(now time.Time, platform, worker string, id uuid.UUID) (e HandedOut, ok bool) {
	p, known := s.platforms[platform]
	if !known || p.dropped {
		return e, false
	}
	run := p.first(now)
	if run == nil {
		return e, false
	}
	return HandedOut{UUID: id, Run: run.ID, Worker: worker, Started: instant(now)}, true
}

func (HandedOut) tag() int { return tagHandedOut }

func (e HandedOut) encode(w *der.Writer) {
	encodeUUID(w, e.UUID)
	w.Int(int64(e.Run))
	w.Text(e.Worker)
	job.EncodeTime(w, e.Started)
}

func decodeHandedOut(r *der.Reader) Event {
	return HandedOut{
		UUID:    job.DecodeUUID(r),
		Run:     decodeRunID(r),
		Worker:  r.Text(),
		Started: job.DecodeTime(r),
	}
}

func (e HandedOut) apply(s *State) error {
	run := s.Run(e.Run)
	switch {
	case run == nil:
		return fmt.Errorf("%w: %d", ErrNotQueued, e.Run)
	case s.Building(e.UUID) != nil || s.unsent[e.UUID] != nil:
		return fmt.Errorf("build %v is handed out twice", e.UUID)
	}
	s.dequeue(e.Run)
	s.begin(&Building{UUID: e.UUID, Run: run, Try: run.Tries + 1, Worker: e.Worker, Started: e.Started})
	return nil
}

func (s *State) begin(b *Building) {
	s.building[b.UUID] = b
	s.know(b.Run.Platform).running[b.Run.Job.Name]++
}

// Finished ends a build, and its run unless that is tried again.
//
//	[9] { uuid Uuid, result Result, finished Instant, upload, again Flag,
//	      tries INTEGER, after Instant }
type Finished struct {
	UUID     uuid.UUID
	Result   job.Result
	Finished time.Time
	Upload   bool
	// Again puts the run back to the front of its queue, with Tries and After.
	Again bool
	Tries int
	After time.Time
}

// Retries says how often a run is tried that ends without an answer, and how
// long it waits before: First, then four times as long each time, at most Most.
type Retries struct {
	Max         int
	First, Most time.Duration
}

// DefaultRetries are three tries, after 5 and 20 seconds.
var DefaultRetries = Retries{Max: 3, First: 5 * time.Second, Most: 5 * time.Minute}

// wait is the time before the try that follows so many.
func (r Retries) wait(tries int) time.Duration {
	wait := r.First
	for i := 1; i < tries && wait < r.Most; i++ {
		wait *= 4
	}
	return max(0, min(wait, r.Most))
}

// End is what the owner knows about the end of a build.
type End struct {
	UUID   uuid.UUID
	Result job.Result
	// Upload puts the build into the outbox.
	Upload bool
	// Uncounted ends are the server's own doing (it was restarted, the worker
	// never received the build): they do not count as a try, and nobody waits.
	Uncounted bool
}

// Finish decides on the end of a build. When the result says that neither the
// job nor a person is its reason, the run goes back to the front of its queue,
// with the current definition of its job, until the policy's tries are used up.
// It ends all the same when its job was unscheduled or moved to another
// platform meanwhile, or when another run of the job waits there already: that
// one is its next try. The error wraps [ErrEnded]: the first end wins.
func (s *State) Finish(now time.Time, end End, policy Retries) (Finished, error) {
	b := s.Building(end.UUID)
	if b == nil {
		return Finished{}, unknownBuild(end.UUID)
	}
	e := Finished{UUID: end.UUID, Result: end.Result, Finished: instant(now), Upload: end.Upload}
	e.Result.Text = cut(e.Result.Text)
	tries := b.Run.Tries
	if !end.Uncounted {
		tries++
	}
	if !end.Result.Infrastructure() || tries >= policy.Max || !s.mayReturn(b.Run) {
		return e, nil
	}
	e.Again, e.Tries = true, tries
	if !end.Uncounted {
		e.After = instant(now.Add(policy.wait(tries)))
	}
	return e, nil
}

// mayReturn reports whether a run that is being built may be queued again.
func (s *State) mayReturn(run *job.Run) bool {
	entry := s.Entry(run.Job.Name)
	return entry != nil &&
		(entry.Job.Platform == "" || entry.Job.Platform == run.Platform) &&
		s.queued(run.Job.Name, run.Platform) == nil
}

// cut bounds what the state keeps of a text; the build's record has it all.
func cut(text string) string {
	const most = 200
	if len(text) > most {
		return text[:most] + "..."
	}
	return text
}

func unknownBuild(id uuid.UUID) error { return fmt.Errorf("%w: %v", ErrEnded, id) }

func (Finished) tag() int { return tagFinished }

func (e Finished) encode(w *der.Writer) {
	encodeUUID(w, e.UUID)
	job.EncodeResult(w, e.Result)
	job.EncodeTime(w, e.Finished)
	w.Bool(e.Upload)
	w.Bool(e.Again)
	w.Int(int64(e.Tries))
	job.EncodeTime(w, e.After)
}

func decodeFinished(r *der.Reader) Event {
	return Finished{
		UUID:     job.DecodeUUID(r),
		Result:   job.DecodeResult(r),
		Finished: job.DecodeTime(r),
		Upload:   r.Bool(),
		Again:    r.Bool(),
		Tries:    decodeTries(r),
		After:    job.DecodeTime(r),
	}
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
		last := &Ended{UUID: e.UUID, Result: e.Result, Finished: e.Finished}
		s.put(&Entry{Job: entry.Job, Plan: entry.Plan, Next: entry.Next, Last: last})
	}
	if e.Upload {
		s.post(e.UUID)
	}
	if e.Again {
		run := *b.Run
		run.Job, run.Tries, run.After = s.Entry(name).Job, e.Tries, e.After
		s.enqueue(&run, true)
	}
	return nil
}
