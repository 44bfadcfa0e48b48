package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"builder/pkg/job"
	"builder/pkg/schedule"
	"builder/pkg/store"
	"builder/pkg/wire"

	"github.com/rs/zerolog"
)

// build is one build in the hands of its worker's session.
//
//	script ──▸ sent ──▸ lines ... ──▸ finish ──▸ committed ──▸ event ──▸ stored
//	   │         │         │ stop        │           │           │
//	   ▼         ▼         ▼             ▼           ▼           ▼
//	 setup     lost   timeout or    server side   server side  the first end
//	 failed    (try    cancelled     (disk)        (disk)      in the journal wins
//	           uncounted)
type build struct {
	*workerSession
	*live
	log      zerolog.Logger
	origin   time.Time // of the console's deltas where the worker sends none
	draft    *store.Draft
	script   job.Content
	duration time.Duration // on the worker's clock; 0 if it sent none
	sent     bool          // the worker may have heard of it
	unheard  bool          // the worker was gone before: this was no try
	timeout  *time.Timer
	finished bool // the worker waits for an answer to its Finish
	notes    []string
}

// conduct does the build up to its result. With a result that the worker did
// not bring, err says that the connection can not be used any more. The worker
// hears of the build first: it gets ready while its place in the store is made.
func (b *build) conduct(ctx context.Context, gone error) (job.Result, error) {
	text, script, noScript := b.Server.script(b.Run)
	b.script = script
	if noScript == nil && gone == nil {
		b.sent = true
		gone = b.send(text)
	}
	if err := b.begin(); err != nil {
		return job.Failure(job.ServerSide, "the server could not begin the build: %v", err), errors.Join(gone, err)
	}
	switch {
	case noScript != nil:
		return job.Failure(job.Setup, "%v", noScript), gone
	case gone != nil:
		b.unheard = !b.sent
		return lost(gone), gone
	}
	b.log.Info().Msg("build handed out")
	return b.follow(ctx)
}

// begin makes the build's place in the store, and lets observers in.
func (b *build) begin() error {
	defer close(b.begun)
	draft, err := b.store.Begin(b.Run.Job.Name, b.UUID)
	if err != nil {
		return err
	}
	b.draft, b.console = draft, draft.Console()
	return nil
}

// script makes the text that a run executes.
func (s *Server) script(run *job.Run) ([]byte, job.Content, error) {
	if run.Job.Template == "" {
		in, err := s.store.OpenChecked(run.Job.Script)
		if err != nil {
			return nil, job.Content{}, fmt.Errorf("opening the script: %w", err)
		}
		defer in.Close()
		text, err := io.ReadAll(in)
		if err != nil {
			return nil, job.Content{}, fmt.Errorf("reading the script: %w", err)
		}
		return text, run.Job.Script, nil
	}
	text, err := s.expand(run.Job, run.Platform)
	if err != nil {
		return nil, job.Content{}, err
	}
	content, err := s.store.Put(bytes.NewReader(text))
	if err != nil {
		return nil, job.Content{}, fmt.Errorf("keeping the script: %w", err)
	}
	return text, content, nil
}

// send hands the build to the worker.
func (b *build) send(script []byte) error {
	if b.own {
		return b.conn.Send(wire.Start{Build: buildStatus(b.Building), Script: script})
	}
	return b.conn.Send(wire.JobSchedule{UUID: b.UUID, Job: wire.ScriptJob{
		Name: b.Run.Job.Name, Platform: b.Run.Platform, Script: wire.Blob{Data: script},
	}})
}

// follow takes what the worker sends until the build has a result. One with an
// error was decided here, and the connection is of no more use.
func (b *build) follow(ctx context.Context) (job.Result, error) {
	hearing, abandon := context.WithCancelCause(ctx)
	b.timeout = time.AfterFunc(b.Timeout, func() {
		b.cancel(job.Failure(job.Timeout, "timeout: the build took longer than %v", b.Timeout))
	})
	stopped := make(chan struct{})
	unstop := context.AfterFunc(b.stopping, func() {
		defer close(stopped)
		b.stopWorker(hearing, abandon)
	})
	result, err := b.receive(hearing)
	b.timeout.Stop()
	abandon(nil)
	if !unstop() {
		<-stopped
	}
	wish := b.wish()
	switch {
	case wish != nil && (result == nil || result.Infrastructure()):
		return *wish, err
	case result == nil:
		return lost(err), err
	}
	return *result, err
}

// stopWorker ends a build before its time. The worker is heard on: its last
// lines and its Finish follow. One that does not end the build within the grace
// is given up, and so is one of protocol 5, which can not be told: the
// reference's worker notices the end of its connection when its script prints.
func (b *build) stopWorker(hearing context.Context, abandon context.CancelCauseFunc) {
	wish := *b.wish()
	b.log.Info().Stringer("result", wish).Msg("stopping build")
	if b.own && b.conn.Send(wire.Stop{UUID: b.UUID, Result: wish}) == nil {
		select {
		case <-time.After(b.Grace):
		case <-hearing.Done():
			return
		}
	}
	abandon(errors.New("the worker did not stop the build in time"))
	if wish.Cause == job.Cancelled {
		b.conn.Close() // nobody waits for artifacts that are on their way
	}
}

// workerMessages may come while a build runs.
var (
	legacyMessages = []wire.Kind{wire.KindOutput, wire.KindJobFinished}
	ownMessages    = []wire.Kind{wire.KindLines, wire.KindFinish}
)

// receive takes messages until the worker's last one, or an error. What can not
// be written here ends the build as the server's failure; the worker is heard
// to the end all the same.
func (b *build) receive(ctx context.Context) (*job.Result, error) {
	kinds := legacyMessages
	if b.own {
		kinds = ownMessages
	}
	for {
		m, err := b.conn.Receive(ctx, kinds...)
		if err != nil {
			return nil, err
		}
		switch m := m.(type) {
		case wire.Output:
			if m.UUID != b.UUID {
				return nil, violation("output of build %v, expected %v", m.UUID, b.UUID)
			}
			b.console.Append(job.Line{Delta: time.Since(b.origin), Data: m.Data}) //nolint:errcheck // sticky; Commit reports it
		case wire.Lines:
			if err := b.lines(m); err != nil {
				return nil, err
			}
		case *wire.Incoming:
			return b.finish(m)
		}
		if !b.conn.Buffered() {
			b.console.Flush() //nolint:errcheck // sticky; Commit reports it
		}
	}
}

// lines takes console lines in our own version.
func (b *build) lines(m wire.Lines) error {
	if m.UUID != b.UUID {
		return violation("lines of build %v, expected %v", m.UUID, b.UUID)
	}
	for _, line := range m.Lines {
		if line.Flags&job.Partial != 0 {
			b.console.SetPartial(line.Data, line.Delta)
			continue
		}
		b.console.Append(line) //nolint:errcheck // sticky; Commit reports it
	}
	return nil
}

// finish takes the worker's last message: result and artifacts.
func (b *build) finish(m *wire.Incoming) (*job.Result, error) {
	if m.UUID != b.UUID {
		return nil, violation("end of build %v, expected %v", m.UUID, b.UUID)
	}
	b.timeout.Stop() // the script has ended; how long this takes is bounded by package wire
	b.notes, b.finished = m.Notes, b.own
	if m.Duration > 0 && m.Duration <= time.Since(b.origin) {
		b.duration = m.Duration
	}
	var broken error
	for {
		file, err := m.Files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if broken != nil {
			continue // the message is heard to its end, the octets are not wanted
		}
		source := &watchedReader{in: file.Data}
		if err := b.draft.Add(file.Path, fs.FileMode(file.Mode)&fs.ModePerm, source, file.Size); err != nil {
			if source.err != nil {
				return nil, source.err
			}
			broken = err
		}
	}
	result := m.Result
	if broken != nil {
		b.log.Error().Err(broken).Msg("keeping artifacts")
		result = job.Failure(job.ServerSide, "the build %v, but the server could not keep its artifacts: %v", m.Result, broken)
	}
	return &result, nil
}

// watchedReader tells an error of the source from one of where it is copied to.
type watchedReader struct {
	in  io.Reader
	err error
}

func (r *watchedReader) Read(p []byte) (int, error) {
	n, err := r.in.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}

// end makes the build's end durable: first the record and all that it names,
// then the event, then the answers. The error says that the worker could not
// be answered, or is not to be trusted with another build.
func (b *build) end(ctx context.Context, result job.Result) error {
	record := b.commit(b.record(result))
	policy := func() schedule.Retries {
		if b.wish() != nil {
			return schedule.Retries{} // somebody wanted this end
		}
		return b.Retries
	}
	again := false
	err := b.retry(ctx, "ending the build", func() error {
		return b.owner.change(ctx, func(st *schedule.State, now time.Time) ([]schedule.Event, error) {
			e, err := st.Finish(now, schedule.End{
				UUID: b.UUID, Result: record.Result, Upload: b.outbox != nil && uploadable(record.Result), Uncounted: b.unheard,
			}, policy())
			again = e.Again
			return []schedule.Event{e}, err
		})
	})
	if err != nil && !errors.Is(err, schedule.ErrEnded) {
		return err // the server ends; the next one adopts the record
	}
	b.closeDraft()
	if err == nil && b.outbox != nil && uploadable(record.Result) {
		b.outbox.Add(b.UUID, record.Job)
	}
	b.building.end(b.live, record, again)
	b.log.Info().Stringer("result", record.Result).Dur("dur", record.Finished.Sub(record.Started)).Msg("build ended")
	if !b.finished {
		return err
	}
	stored := wire.Stored{UUID: b.UUID}
	if err != nil {
		stored.Refused = err.Error()
	}
	return b.conn.Send(stored)
}

// uploadable leaves out ends that tell nothing of the job.
func uploadable(r job.Result) bool { return !r.Infrastructure() }

// record is the build as it is kept.
func (b *build) record(result job.Result) job.Build {
	finished := time.Now().UTC()
	if b.duration > 0 {
		finished = b.Started.Add(b.duration)
	}
	return job.Build{
		UUID: b.UUID, Run: b.Run.ID, Try: b.Try, Job: b.Run.Job.Name, Platform: b.Run.Platform,
		Script: b.script, Worker: b.Worker, Started: b.Started, Finished: finished, Result: result,
	}
}

// commit stores the record. When that fails (the disk is full, say) the build
// is the server's failure: it is stored again without its artifacts, and if
// even that fails only the journal tells of it.
func (b *build) commit(record job.Build) job.Build {
	record.Notes = b.notes
	stored, err := b.keep(record)
	if err == nil {
		return stored
	}
	b.log.Error().Err(err).Msg("storing the build")
	if !record.Result.Infrastructure() {
		record.Result = job.Failure(job.ServerSide, "the build %v, but the server could not keep it: %v", record.Result, err)
	}
	b.closeDraft()
	b.draft = nil
	if stored, err = b.keep(record); err != nil {
		b.log.Error().Err(err).Msg("storing the failure of the build")
		b.discard()
		return record
	}
	return stored
}

// keep stores the record with its draft, or a new one if that could not be made.
func (b *build) keep(record job.Build) (job.Build, error) {
	if b.draft == nil {
		draft, err := b.store.Resume(record.Job, record.UUID)
		if err != nil {
			return job.Build{}, err
		}
		b.draft = draft
	}
	return b.draft.Commit(record)
}

// discard removes what is there of a build that has no record, and so can not be
// shown: its console may be what fills the disk.
func (b *build) discard() {
	if b.draft == nil {
		return
	}
	if err := b.draft.Discard(); err != nil {
		b.log.Error().Err(err).Msg("removing a build that could not be stored")
	}
}

// retry calls f until it succeeds, the build turns out to have ended already,
// or the server ends: a full disk must not leave a build without an end.
func (b *build) retry(ctx context.Context, what string, f func() error) error {
	for pause := time.Second; ; pause = min(2*pause, time.Minute) {
		err := f()
		if err == nil || errors.Is(err, schedule.ErrEnded) || errors.Is(err, errStopped) || ctx.Err() != nil {
			return err
		}
		b.log.Error().Err(err).Msg(what)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// closeDraft closes the build's files, which stay; without a record, if it was
// not committed.
func (b *build) closeDraft() {
	if b.draft == nil {
		return
	}
	if err := b.draft.Abandon(); err != nil {
		b.log.Error().Err(err).Msg("closing the build's files")
	}
}
