package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"builder/pkg/job"
	"builder/pkg/sandbox"
	"builder/pkg/wire"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
)

// session is one build over a connection.
type session struct {
	*Config
	conn  *wire.Conn
	own   bool // the server speaks our own version
	log   zerolog.Logger
	begun bool // a build was received
}

// assignment is a build as the server hands it out.
type assignment struct {
	id            uuid.UUID
	job, platform string
	script        []byte
	received      time.Time
}

// build waits for a build, runs it and delivers it.
func (s *session) build(ctx, drain context.Context) error {
	a, err := s.await(ctx, drain)
	if err != nil {
		return err
	}
	s.begun = true
	s.log = s.Log.With().Str("job", a.job).Stringer("build", a.id).Logger()
	s.log.Info().Msg("build begins")
	running, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	heard := make(chan error, 1)
	go func() {
		err := s.hear(ctx, a.id, stop)
		if err != nil {
			s.conn.Close() // what is being sent must not wait for a server that does not read
		}
		heard <- err
	}()
	err = s.perform(running, a)
	if err == nil && s.own {
		return <-heard
	}
	// A server of protocol 5 says nothing more; and one that could not be told
	// has nothing to say.
	s.conn.Close()
	if gone := <-heard; err != nil && gone != nil {
		return gone // why the connection is of no use tells more
	}
	return err
}

// await asks for a build and waits until one comes, or nobody wants it any more.
func (s *session) await(ctx, drain context.Context) (assignment, error) {
	if err := s.conn.Send(wire.JobRequested{Platform: s.Platform}); err != nil {
		return assignment{}, err
	}
	waiting, wake := context.WithCancelCause(ctx)
	defer wake(nil)
	defer context.AfterFunc(drain, func() { wake(context.Canceled) })()
	m, err := s.conn.Receive(waiting, wire.KindJobSchedule, wire.KindStart, wire.KindFailure)
	if err != nil {
		return assignment{}, err
	}
	a := assignment{received: time.Now()}
	switch m := m.(type) {
	case wire.JobSchedule:
		a.id, a.job, a.platform, a.script = m.UUID, m.Job.Name, m.Job.Platform, m.Job.Script.Data
	case wire.Start:
		a.id, a.job, a.platform, a.script = m.Build.UUID, m.Build.Job, m.Build.Platform, m.Script
	case wire.Failure:
		return a, fmt.Errorf("%w: %s", errRefused, m.Text)
	}
	a.script = append([]byte(nil), a.script...) // the connection's buffer is used again
	return a, nil
}

// stopped is why a build is stopped on the server's word.
type stopped struct{ result job.Result }

func (e *stopped) Error() string { return e.result.String() }

// hear listens to the server while a build runs. It returns nil when the server
// has the build's end; when the connection is lost it stops the build.
func (s *session) hear(ctx context.Context, id uuid.UUID, stop context.CancelCauseFunc) error {
	var kinds []wire.Kind // none of protocol 5: there the end is all that comes
	if s.own {
		kinds = []wire.Kind{wire.KindStop, wire.KindStored, wire.KindFailure}
	}
	for {
		m, err := s.conn.Receive(ctx, kinds...)
		if failure, ok := m.(wire.Failure); ok {
			err = fmt.Errorf("%w: %s", errRefused, failure.Text)
		}
		if err != nil {
			err = fmt.Errorf("the connection to the server was lost: %w", err)
			stop(err)
			return err
		}
		switch m := m.(type) {
		case wire.Stop:
			if m.UUID == id {
				stop(&stopped{m.Result})
			}
		case wire.Stored:
			if m.Refused != "" {
				s.log.Warn().Str("reason", m.Refused).Msg("the server did not take the build")
			}
			return nil
		}
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
	out := newConsole(s.conn, a, s.own)
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
	files := make([]wire.File, len(e.artifacts))
	for i, artifact := range e.artifacts {
		files[i] = wire.File{
			Path: artifact.Path, Mode: uint32(artifact.Mode),
			Data: wire.Blob{Size: artifact.Size, Open: func() (io.ReadCloser, error) { return artifact.Open() }},
		}
	}
	if !s.own {
		return s.conn.Send(wire.JobFinished{UUID: a.id, Result: e.result.Legacy(), Files: files})
	}
	return s.conn.Send(wire.Finish{
		UUID: a.id, Result: e.result, Duration: e.duration, Notes: noteTexts(e.notes), Files: files,
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
