package worker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"builder/pkg/job"
	"builder/pkg/sandbox"
	"builder/pkg/wire"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
)

// build is a build that is held: it runs, or has ended and is to be delivered.
// Connections come and go without its notice.
//
//	preparing ──▸ running ──▸ collecting ──▸ ended ──▸ stored: gone
//	                                           └─────▸ refused: in rejected/
type build struct {
	id    uuid.UUID
	log   zerolog.Logger
	conf  *Config
	spool *spool
	stop  context.CancelCauseFunc // with *stopped: ends the script
	// Guarded by the holder:
	over    bool     // the server has no use for it any more
	putting *putting // its contents into the store; nil if that was not begun

	// ended is closed when the build has ended. What follows is set before.
	ended     chan struct{}
	place     sandbox.Place // nil if there is none
	artifacts map[job.Content]sandbox.Artifact
}

// stopped is why a build is stopped: what it ends as.
type stopped struct{ result job.Result }

func (e *stopped) Error() string { return e.result.String() }

func (w *holder) newBuild(id uuid.UUID, name string) *build {
	return &build{
		id: id, conf: &w.Config, log: w.Log.With().Str("job", name).Stringer("build", id).Logger(),
		spool: &spool{path: w.Dir.spoolPath(id), spares: w.spares}, stop: func(error) {}, ended: make(chan struct{}),
	}
}

// run is the life of a build until it has ended.
func (b *build) run(ctx, over context.Context, s wire.Start) {
	begun := time.Now()
	b.log.Info().Msg("build begins")
	done := wire.Done{UUID: b.id, Place: job.Place{Kind: b.conf.Sandbox.Kind()}}
	s.Resources = s.Resources.Within(b.conf.Resources)
	exit, err := b.script(ctx, s, begun, &done.Place)
	done.Duration = time.Since(begun)
	done.Result = b.judge(ctx, s, exit, err)
	b.collect(ctx, over, done, s.Limits.MaxArtifacts)
}

// judge is the result of a script that was run so.
func (b *build) judge(ctx context.Context, s wire.Start, exit sandbox.Exit, err error) job.Result {
	result := resultOf(exit, err, context.Cause(ctx))
	if exit.OutOfMemory && !result.Success() && result.Kind != job.Failed {
		result = s.Resources.Exhausted()
	}
	if result.Cause == job.NoSandbox {
		b.log.Error().Err(err).Msg("running the build")
	}
	return result
}

// script prepares a place and runs the script in it; it tells of both in facts.
func (b *build) script(ctx context.Context, s wire.Start, begun time.Time, facts *job.Place) (sandbox.Exit, error) {
	place, err := b.conf.Sandbox.Prepare(ctx, b.specOf(s))
	facts.Add("prepare", time.Since(begun))
	if err != nil {
		return sandbox.Exit{}, fmt.Errorf("the worker could not prepare the build: %w", err)
	}
	b.place, facts.Origin = place, place.Origin()
	if err := b.spool.begin(s, place.Name()); err != nil {
		return sandbox.Exit{}, fmt.Errorf("the worker could not keep the build: %w", err)
	}
	out := newConsole(b.spool, begun, s.Limits.MaxConsole)
	defer b.watch(s.Limits, 0, out)()
	exit, err := place.Run(ctx, out)
	facts.Add("run", exit.Duration)
	if closed := out.Close(); err == nil {
		err = closed
	}
	return exit, err
}

func (b *build) specOf(s wire.Start) sandbox.Spec {
	return sandbox.Spec{
		Build: b.id.String(), Job: s.Build.Job, Platform: s.Build.Platform, Script: s.Script, Env: b.conf.Env,
		Grace: s.Limits.Grace, Resources: s.Resources,
	}
}

// watch stops the build, which has run for so long already, when it runs too long or
// is silent too long, until the function returned is called.
func (b *build) watch(limits job.Limits, ran time.Duration, out *console) (end func()) {
	var timers []*time.Timer
	if limits.Timeout > 0 {
		timers = append(timers, time.AfterFunc(limits.Timeout-ran, func() {
			b.stop(&stopped{limits.TimedOut()})
		}))
	}
	if limits.Silence > 0 {
		// The timer looks when the build printed, so that printing need not reset it.
		var timer *time.Timer
		timer = time.AfterFunc(math.MaxInt64, func() {
			if left := limits.Silence - out.silence(); left > 0 {
				timer.Reset(left)
				return
			}
			b.stop(&stopped{limits.Silenced()})
		})
		timer.Reset(limits.Silence)
		timers = append(timers, timer)
	}
	return func() {
		for _, timer := range timers {
			timer.Stop()
		}
	}
}

// resultOf tells how a script ended.
func resultOf(exit sandbox.Exit, err, cause error) job.Result {
	var stop *stopped
	var unkept *spoolError
	switch {
	case errors.As(err, &unkept):
		return job.Failure(job.NoSandbox, "the worker could not keep what the build printed: %v", unkept.error)
	case errors.As(exit.Cause, &stop), errors.As(cause, &stop) && err != nil:
		return stop.result // what went wrong while stopping is not the result
	case errors.Is(err, sandbox.ErrUnenforced):
		return job.Failure(job.Setup, "%v", err)
	case err != nil:
		return job.Failure(job.NoSandbox, "%v", err)
	case exit.Cause != nil:
		return job.Failure(job.NoSandbox, "the script was stopped: %v", exit.Cause)
	case exit.Signal != 0:
		return job.Result{Kind: job.Signalled, Code: int64(exit.Signal)}
	}
	return job.Result{Kind: job.Exited, Code: int64(exit.Code)}
}
