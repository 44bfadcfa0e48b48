package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"builder/pkg/job"
	"builder/pkg/sandbox"
	"builder/pkg/wire"

	"github.com/rs/zerolog"
)

// session is one build over a connection.
type session struct {
	*Config
	link  *link
	log   zerolog.Logger
	begun bool // a build was received
}

// build waits for a build, runs it and sends its end.
func (s *session) build(drain context.Context) error {
	a, err := s.await(drain)
	if err != nil {
		return err
	}
	s.begun = true
	s.log = s.Log.With().Str("job", a.job).Stringer("build", a.id).Logger()
	s.log.Info().Msg("build begins")
	running, stop := context.WithCancelCause(s.link.alive)
	defer stop(nil)
	s.link.begin(a.id, stop)
	if err := s.perform(running, a); err != nil {
		s.link.Close()
		return errors.Join(context.Cause(s.link.alive), err)
	}
	return nil
}

// await asks for a build and waits until one comes, or nobody wants it any more.
func (s *session) await(drain context.Context) (assignment, error) {
	if err := s.link.conn.Send(wire.JobRequested{Platform: s.Platform}); err != nil {
		return assignment{}, err
	}
	select {
	case a := <-s.link.starts:
		return a, nil
	case <-s.link.alive.Done():
		return assignment{}, context.Cause(s.link.alive)
	case <-drain.Done():
		return assignment{}, context.Canceled
	}
}

// perform runs the build and sends its end.
func (s *session) perform(ctx context.Context, a assignment) error {
	place, err := s.Sandbox.Prepare(ctx, sandbox.Spec{
		Build: a.id.String(), Job: a.job, Platform: a.platform, Script: a.script, Env: s.Env,
	})
	if err != nil {
		s.log.Error().Err(err).Msg("preparing the sandbox")
		err = fmt.Errorf("the worker could not prepare the build: %w", err)
		result, lost := resultOf(sandbox.Exit{}, err, context.Cause(ctx))
		if lost != nil {
			return lost
		}
		return s.finish(a, end{result: result, duration: time.Since(a.received)})
	}
	defer func() {
		if err := place.Destroy(); err != nil {
			s.log.Error().Err(err).Msg("destroying the sandbox")
		}
	}()
	out := newConsole(s.link.conn, a, s.link.own)
	exit, err := place.Run(ctx, out)
	duration := time.Since(a.received)
	if closed := out.Close(); err == nil {
		err = closed
	}
	result, lost := resultOf(exit, err, context.Cause(ctx))
	if lost != nil {
		return lost
	}
	artifacts, notes, err := place.Artifacts(job.CheckPath)
	if err != nil {
		result = job.Failure(job.NoSandbox, "the build %v, but its artifacts could not be collected: %v", result, err)
	}
	return s.finish(a, end{result, duration, artifacts, notes})
}

// end is what is told of a build at its end.
type end struct {
	result    job.Result
	duration  time.Duration // until the script ended
	artifacts []sandbox.Artifact
	notes     []sandbox.Note
}

// resultOf tells how a build ended. An error says that nobody is there to tell.
func resultOf(exit sandbox.Exit, err, cause error) (job.Result, error) {
	var stop *stopped
	var console *consoleError
	switch {
	case errors.As(err, &console):
		return job.Result{}, err
	case errors.As(exit.Cause, &stop), errors.As(cause, &stop) && err != nil:
		return stop.result, nil //nolint:nilerr // what went wrong while stopping is not the result
	case exit.Cause != nil:
		return job.Result{}, exit.Cause
	case err != nil:
		return job.Failure(job.NoSandbox, "%v", err), nil
	case exit.Signal != 0:
		return job.Result{Kind: job.Signalled, Code: int64(exit.Signal)}, nil
	}
	return job.Result{Kind: job.Exited, Code: int64(exit.Code)}, nil
}

// finish sends the build's end. The artifacts are read while they are sent.
func (s *session) finish(a assignment, e end) error {
	s.log.Info().Stringer("result", e.result).Int("artifacts", len(e.artifacts)).Msg("build ended")
	d := deliver(e.artifacts)
	defer d.Close()
	if !s.link.own {
		return s.link.finish(a.id, wire.JobFinished{UUID: a.id, Result: e.result.Legacy(), Files: d.files})
	}
	return s.link.finish(a.id, wire.Finish{
		UUID: a.id, Result: e.result, Duration: e.duration, Notes: noteTexts(append(d.notes, e.notes...)), Files: d.files,
	})
}

// What is told of files that are no artifacts is bounded: a build may leave more
// symbolic links, with longer paths, than a message has room for.
const (
	maxNotes = 500
	maxNote  = 1200 // octets
)

func noteTexts(notes []sandbox.Note) []string {
	var texts []string
	for i, note := range notes {
		if i == maxNotes {
			return append(texts, fmt.Sprintf("%d more notes are left out", len(notes)-maxNotes))
		}
		path := note.Path
		if len(path) > maxNote {
			path = path[:maxNote] + "..."
		}
		texts = append(texts, path+": "+note.Text)
	}
	return texts
}
