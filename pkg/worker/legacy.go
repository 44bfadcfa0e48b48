package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"builder/pkg/job"
	"builder/pkg/sandbox"
	"builder/pkg/wire"
)

// legacy does one build for a server of protocol 5. The build dies with its
// connection: the server has given it to another worker then, so a worker that is
// not persistent must not begin another one in the same throw-away place.
func (w *holder) legacy(ctx, drain context.Context, conn *wire.Conn) (delivered bool, err error) {
	defer conn.Close()
	w.wishAgain()
	if w.Slots > 1 {
		w.Log.Warn().Msg("a server of protocol 5 uses one slot only")
	}
	m, err := w.await(ctx, drain, conn)
	if err != nil {
		return false, err
	}
	err = w.perform(ctx, conn, m)
	w.update(func() { w.begun++ })
	if err != nil && !w.Persistent {
		err = fmt.Errorf("%w: the build is lost: %w", errFatal, err)
	}
	return err == nil, err
}

// await waits for a build.
func (w *holder) await(ctx, drain context.Context, conn *wire.Conn) (wire.JobSchedule, error) {
	waiting, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(drain, stop)()
	if err := conn.Send(wire.JobRequested{Platform: w.Platform}); err != nil {
		return wire.JobSchedule{}, err
	}
	m, err := conn.Receive(waiting, wire.KindJobSchedule, wire.KindFailure)
	if err != nil {
		return wire.JobSchedule{}, err
	}
	schedule, ok := m.(wire.JobSchedule)
	if !ok {
		return schedule, refusal(m)
	}
	schedule.Job.Script.Data = slices.Clone(schedule.Job.Script.Data)
	return schedule, nil
}

// perform runs the build and sends its end. An error is the connection's.
func (w *holder) perform(ctx context.Context, conn *wire.Conn, m wire.JobSchedule) error {
	log := w.Log.With().Str("job", m.Job.Name).Stringer("build", m.UUID).Logger()
	log.Info().Msg("build begins")
	alive, lose := context.WithCancelCause(ctx)
	defer lose(nil)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer conn.Close()
	reading.Go(func() { // the server says no more: what ends this is the connection's end
		_, err := conn.Receive(alive)
		lose(fmt.Errorf("the connection to the server was lost: %w", err))
	})
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	spec := sandbox.Spec{
		Build: m.UUID.String(), Job: m.Job.Name, Platform: m.Job.Platform, Script: m.Job.Script.Data, Env: w.Env, Resources: w.Resources,
	}
	finished := wire.JobFinished{UUID: m.UUID}
	place, err := w.Sandbox.Prepare(alive, spec)
	if err != nil {
		log.Error().Err(err).Msg("preparing the sandbox")
		finished.Result = job.Failure(job.NoSandbox, "the worker could not prepare the build: %v", err)
		return conn.Send(finished)
	}
	result := job.Result{} // a success is not kept
	defer func() {
		if err := w.letGo(m.UUID, place, result); err != nil {
			log.Error().Err(err).Msg("destroying the sandbox")
		}
	}()
	lines := sandbox.NewLines(time.Now(), func(text []byte, since time.Duration, kind sandbox.LineKind) error {
		return sendOutput(conn, m, lineOf(text, since, kind))
	})
	exit, err := place.Run(alive, lines)
	if closed := lines.Close(); err == nil {
		err = closed
	}
	if alive.Err() != nil {
		return errors.Join(context.Cause(alive), err)
	}
	result = resultOf(exit, err, nil)
	finished.Result = result.Legacy()
	artifacts, _, err := place.Artifacts(job.CheckPath)
	if err != nil {
		finished.Result = job.Failure(job.NoSandbox, "the artifacts could not be collected: %v", err)
	}
	delivery := deliver(artifacts)
	defer delivery.Close()
	finished.Files = delivery.files
	for _, note := range delivery.notes {
		log.Warn().Str("artifact", note.Path).Msg(note.Text)
	}
	log.Info().Stringer("result", finished.Result).Int("artifacts", len(artifacts)).Msg("build ended")
	return conn.Send(finished)
}

// sendOutput sends the lines one by one. Partial ones are unknown to protocol 5.
func sendOutput(conn *wire.Conn, m wire.JobSchedule, lines job.Line) error {
	if lines.Flags&job.Partial != 0 {
		return nil
	}
	for line := range lines.Each() {
		if err := conn.Send(wire.Output{UUID: m.UUID, Data: line.Data}); err != nil {
			return err
		}
	}
	return nil
}
