package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"builder/pkg/job"
	"builder/pkg/life"
	"builder/pkg/schedule"
	"builder/pkg/wire"
)

// tied is a build whose worker can not come back (protocol 5, or ours without
// the capability to resume): it lives and dies with the connection, in the
// goroutine of its session.
//
//	script ──▸ sent ──▸ lines ... ──▸ finish ──▸ committed ──▸ event ──▸ stored
//	   │         │         │ stop        │           │           │
//	   ▼         ▼         ▼             ▼           ▼           ▼
//	 setup     lost   timeout or    server side   server side  the first end
//	 failed    (try    cancelled     (disk)        (disk)      in the journal wins
//	           uncounted)
type tied struct {
	*build
	conn     *wire.Conn
	own      bool // the worker speaks our own version
	program  string
	sent     bool // the worker may have heard of it
	unheard  bool // the worker was gone before: this was no try
	finished bool // the worker waits for an answer to its Finish
	full     bool // the console is as long as it may be
	timeout  *time.Timer
	silence  *time.Timer // nil if the job may be silent
}

// conduct does the build up to its result. With a result that the worker did
// not bring, err says that the connection can not be used any more. The worker
// hears of the build first: it gets ready while its place in the store is made.
func (b *tied) conduct(ctx context.Context, gone error) (job.Result, error) {
	text, noScript := b.prepare(ctx)
	if halted(ctx, noScript) {
		close(b.begun)
		return job.Result{}, noScript
	}
	if noScript == nil {
		noScript = b.tooOld(b.program, false) // those that can be as new come back, too
	}
	if noScript == nil && gone == nil {
		b.sent = true
		gone = b.send(text)
	}
	if err := b.begin(); err != nil {
		return job.Failure(job.ServerSide, "the server could not begin the build: %v", err), errors.Join(gone, err)
	}
	switch {
	case noScript != nil:
		return unprepared(noScript), gone
	case gone != nil:
		b.unheard = !b.sent
		return b.lost(gone), gone
	}
	b.log.Info().Msg("build handed out")
	return b.follow(ctx)
}

// send hands the build to the worker.
func (b *tied) send(script []byte) error {
	if b.own {
		return b.conn.Send(wire.Start{Build: buildStatus(b.Building), Script: script, Limits: b.limits})
	}
	return b.conn.Send(wire.JobSchedule{UUID: b.UUID, Job: wire.ScriptJob{
		Name: b.Run.Job.Name, Platform: b.Run.Platform, Script: wire.Blob{Data: script},
	}})
}

// follow takes what the worker sends until the build has a result. One with an
// error was decided here, and the connection is of no more use.
func (b *tied) follow(ctx context.Context) (job.Result, error) {
	hearing, abandon := context.WithCancelCause(ctx)
	b.timeout = time.AfterFunc(b.limits.Timeout, func() {
		b.cancel(b.limits.TimedOut())
	})
	if b.limits.Silence > 0 {
		b.silence = time.AfterFunc(b.limits.Silence, func() {
			b.cancel(b.limits.Silenced())
		})
	}
	stopped := make(chan struct{})
	unstop := context.AfterFunc(b.stopping, func() {
		defer close(stopped)
		b.stopWorker(hearing, abandon)
	})
	result, err := b.receive(hearing)
	b.stopTimers()
	abandon(nil)
	if !unstop() {
		<-stopped
	}
	wish, lost := b.wish(), job.Result{}
	if result == nil {
		lost = b.lost(err)
		result = &lost
	}
	if wish != nil && result.Infrastructure() {
		return *wish, err
	}
	return *result, err
}

// unseen is a note of a build that ended without its worker, which could not be told.
const unseen = "the worker could not be told of the end: the script may still be running there"

// lost is the end of a build that its worker did not end. One of ours kills the
// script when its connection ends, one of the reference not before that prints.
func (b *tied) lost(cause error) job.Result {
	if b.sent && !b.own {
		b.notes = append(b.notes, unseen)
	}
	if errors.Is(cause, io.EOF) {
		cause = errGone
	}
	return life.Lost(cause)
}

// errGone is what EOF means here.
var errGone = errors.New("its connection ended")

// stopWorker ends a build before its time. The worker is heard on: its last
// lines and its Finish follow. One that does not end the build within the grace
// is given up, and so is one of protocol 5, which can not be told: the
// reference's worker notices the end of its connection when its script prints.
func (b *tied) stopWorker(hearing context.Context, abandon context.CancelCauseFunc) {
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
func (b *tied) receive(ctx context.Context) (*job.Result, error) {
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
			b.print(job.Line{Delta: time.Since(b.origin), Data: m.Data})
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
func (b *tied) lines(m wire.Lines) error {
	if m.UUID != b.UUID {
		return violation("lines of build %v, expected %v", m.UUID, b.UUID)
	}
	for _, line := range m.Lines {
		if line.Flags&job.Partial != 0 {
			b.console.SetPartial(line.Data, line.Delta)
			continue
		}
		b.print(line)
	}
	return nil
}

// print adds a line to the console, up to its limit: what such a worker prints
// beyond it can not be kept back for the tail.
func (b *tied) print(line job.Line) {
	if b.silence != nil {
		b.silence.Reset(b.limits.Silence)
	}
	if b.full {
		return
	}
	if b.console.Size()+int64(len(line.Data)) > b.limits.MaxConsole {
		b.full = true
		line = job.Line{Delta: line.Delta, Data: fmt.Appendf(nil, "[the console has %d octets here, its limit: the rest is left out]", b.console.Size())}
	}
	b.console.Append(line) //nolint:errcheck // sticky; Commit reports it
}

func (b *tied) stopTimers() {
	b.timeout.Stop()
	if b.silence != nil {
		b.silence.Stop()
	}
}

// finish takes the worker's last message: result and artifacts.
func (b *tied) finish(m *wire.Incoming) (*job.Result, error) {
	if m.UUID != b.UUID {
		return nil, violation("end of build %v, expected %v", m.UUID, b.UUID)
	}
	b.stopTimers() // the script has ended; how long this takes is bounded by package wire
	b.notes, b.finished = m.Notes, b.own
	if m.Duration > 0 && m.Duration <= time.Since(b.origin) {
		b.duration = m.Duration
	}
	var broken error
	result, size := m.Result, int64(0)
	for {
		file, err := m.Files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if size += file.Size; size > b.limits.MaxArtifacts && b.draft != nil {
			result = tooLarge(size, b.limits.MaxArtifacts)
			b.closeDraft()
			b.draft = nil // the next one begins without those that came
		}
		if broken != nil || b.draft == nil {
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
	if broken != nil {
		b.log.Error().Err(broken).Msg("keeping artifacts")
		result = job.Failure(job.ServerSide, "the build %v, but the server could not keep its artifacts: %v", m.Result, broken)
	}
	return &result, nil
}

// tooLarge is the result of a build that left more than it may.
func tooLarge(size, limit int64) job.Result {
	return job.Failure(job.TooLarge, "artifacts: the build left %d octets or more, %d are allowed", size, limit)
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

// settle makes the end durable and answers the worker. The error says that it
// could not be answered, or is not to be trusted with another build.
func (b *tied) settle(ctx context.Context, result job.Result) error {
	err := b.end(ctx, result, b.unheard)
	if !b.finished || err != nil && !errors.Is(err, schedule.ErrEnded) {
		return err
	}
	stored := wire.Stored{UUID: b.UUID}
	if err != nil {
		stored.Refused = err.Error()
	}
	return b.conn.Send(stored)
}
