package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"builder/pkg/job"
	"builder/pkg/schedule"
	"builder/pkg/store"
	"builder/pkg/wire"

	"github.com/rs/zerolog"
)

// build is what the server keeps of a build while it runs, and how it ends. Who
// conducts it knows its worker: [tied] or [held].
type build struct {
	*Server
	*live
	log      zerolog.Logger
	limits   job.Limits
	origin   time.Time // of the console's deltas where the worker sends none
	draft    *store.Draft
	script   job.Content
	release  func()        // of the script, that the record is to name
	duration time.Duration // on the worker's clock; 0 if it sent none
	notes    []string
	place    job.Place // as the worker says
}

func (s *Server) newBuild(building *schedule.Building) *build {
	run := building.Run
	return &build{
		Server: s, live: s.building.get(building.UUID), origin: time.Now(), release: func() {},
		limits: run.Job.Limits.Or(job.Limits{Timeout: s.Timeout}).Or(job.DefaultLimits),
		log: s.Log.With().Str("job", run.Job.Name).Str("build", building.UUID.String()).
			Str("platform", run.Platform).Str("worker", building.Worker).Logger(),
	}
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

// tooOld is why a build can not be handed to a worker of that program, nil if it can:
// if it is able to bound what the build uses, or need not.
func (b *build) tooOld(program string, able bool) error {
	res := b.Run.Job.Resources
	if able || res == (job.Resources{}) {
		return nil
	}
	return fmt.Errorf("the job bounds what it uses (%v): its worker is %s and lacks %q, which this server, %s, asks for: upgrade the worker to this version or later",
		res, program, wire.CapResources, b.Program)
}

// prepare makes the text that the build executes. What a template became is durable
// then: a server that starts while the build runs could not make it again.
func (b *build) prepare(ctx context.Context) ([]byte, error) {
	b.script = b.Run.Job.Script
	if b.Run.Job.Template == "" {
		in, err := b.store.OpenChecked(b.script)
		if err != nil {
			return nil, fmt.Errorf("opening the script: %w", err)
		}
		defer in.Close()
		text, err := io.ReadAll(in)
		if err != nil {
			return nil, fmt.Errorf("reading the script: %w", err)
		}
		return text, nil
	}
	text, err := b.expand(b.Run.Job, b.Run.Platform)
	if err != nil {
		return nil, err
	}
	script, release, err := b.store.PutHeld(bytes.NewReader(text))
	if err != nil {
		return nil, unkept{err}
	}
	b.release = release
	err = b.owner.change(ctx, func(st *schedule.State, _ time.Time) ([]schedule.Event, error) {
		e, err := st.Expand(b.UUID, script)
		return []schedule.Event{e}, err
	})
	if err != nil {
		return nil, unkept{err}
	}
	b.script = script
	return text, nil
}

// unkept marks that the server, not the job, is why there is no script.
type unkept struct{ error }

func (u unkept) Unwrap() error { return u.error }

// unprepared is the end of a build without a script.
func unprepared(err error) job.Result {
	if errors.As(err, &unkept{}) {
		return job.Failure(job.ServerSide, "the server could not keep the script: %v", err)
	}
	return job.Failure(job.Setup, "%v", err)
}

// halted reports whether err says that the server ends. The next one goes on.
func halted(ctx context.Context, err error) bool {
	return err != nil && (ctx.Err() != nil || errors.Is(err, errStopped))
}

// end makes the build's end durable: first the record and all that it names, then
// the event; then observers see it. An uncounted end is no try of the run. The
// error is schedule.ErrEnded when the build had ended before, or says that the
// server ends: the next one goes on.
func (b *build) end(ctx context.Context, result job.Result, uncounted bool) error {
	defer b.release()
	record := b.commit(b.record(result))
	again := false
	remotes := b.destinations(record.Result)
	err := b.retry(ctx, "ending the build", func() error {
		return b.owner.change(ctx, func(st *schedule.State, now time.Time) ([]schedule.Event, error) {
			e, err := st.Finish(now, schedule.End{
				UUID: b.UUID, Result: record.Result, Remotes: remotes, Uncounted: uncounted,
				Final: result.Cause == job.Cancelled, // also one that could not be kept
			}, b.Backoff)
			again = e.Again
			return []schedule.Event{e}, err
		})
	})
	if err != nil && !errors.Is(err, schedule.ErrEnded) {
		return err // the server ends; the next one adopts the record
	}
	b.closeDraft()
	if err == nil {
		b.post(b.UUID, record.Job, remotes)
	}
	b.building.end(b.live, record, again)
	b.log.Info().Stringer("result", record.Result).Dur("dur", record.Finished.Sub(record.Started)).Msg("build ended")
	return err
}

// record is the build as it is kept.
func (b *build) record(result job.Result) job.Build {
	finished := time.Now().UTC()
	if b.duration > 0 {
		finished = b.Started.Add(b.duration)
	}
	return job.Build{
		UUID: b.UUID, Run: b.Run.ID, Try: b.Try, Job: b.Run.Job.Name, Platform: b.Run.Platform,
		Script: b.script, Worker: b.Worker, Started: b.Started, Finished: finished, Result: result, Place: b.place,
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
	discard := func() error { return b.store.Discard(b.Run.Job.Name, b.UUID) }
	if b.draft != nil {
		discard = b.draft.Discard
	}
	if err := discard(); err != nil {
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
