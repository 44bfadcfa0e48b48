package worker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"builder/pkg/job"
	"builder/pkg/sandbox"
	"builder/pkg/wire"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
)

// recover takes up what an earlier process has left behind, and sweeps the rest.
func (w *holder) recover(ctx, over context.Context) error {
	old, err := w.Dir.attachKept(w.Sandbox, w.Log)
	if err != nil {
		return err
	}
	w.kept = old
	if w.KeepFailed > 0 {
		if err := w.pruneKept(); err != nil {
			return err
		}
	}
	var held []*build
	err = w.Dir.spools(func(id uuid.UUID, s *spool, err error) error {
		switch {
		case errors.Is(err, errDamaged):
			w.Log.Error().Err(err).Stringer("build", id).Msg("a spool is damaged")
			return w.reject(w.newBuild(id, ""), err.Error())
		case err != nil:
			return err
		}
		b, err := w.reopen(id, s)
		if err == nil {
			held = append(held, b)
		}
		return err
	})
	if err == nil {
		err = w.Sandbox.Sweep()
	}
	if err != nil { // scripts that outlive this process run on
		return err
	}
	for _, b := range held {
		w.takeUp(ctx, over, b)
	}
	return nil
}

// Sweep removes what a worker of that directory has left behind in a sandbox, but
// for what builds need that are not delivered, and, unless all is set, places of
// failed builds that are kept. No worker may be using it.
func Sweep(dir *Directory, box sandbox.Sandbox, all bool, log zerolog.Logger) error {
	old, err := dir.attachKept(box, log)
	if err != nil {
		return err
	}
	for _, k := range old {
		if !all {
			break
		}
		if err := dir.removeKept(k); err != nil {
			return err
		}
	}
	err = dir.spools(func(_ uuid.UUID, s *spool, err error) error {
		switch {
		case errors.Is(err, errDamaged):
			return nil // what is left of that build names no place
		case err != nil:
			return err
		}
		_, err = box.Reattach(s.place)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil // what is gone needs no keeping
		}
		return errors.Join(err, s.close())
	})
	if err != nil {
		return err
	}
	return box.Sweep()
}

// spools calls each with every spool in the directory, open, or with the error of
// opening it. Tails whose spool is gone are removed.
func (d *Directory) spools(each func(id uuid.UUID, s *spool, err error) error) error {
	entries, err := os.ReadDir(d.spool())
	if err != nil {
		return fmt.Errorf("reading spool: %w", err)
	}
	for _, entry := range entries {
		id, err := uuid.Parse(entry.Name())
		if err != nil {
			err = d.sweepTail(entry.Name())
		} else if s, opened := openSpool(d.spoolPath(id)); !errors.Is(opened, fs.ErrNotExist) {
			err = each(id, s, opened)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sweepTail removes a tail whose spool is gone.
func (d *Directory) sweepTail(name string) error {
	path := filepath.Join(d.spool(), name)
	spool := strings.TrimSuffix(path, filepath.Ext(path))
	if _, err := os.Lstat(spool); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Remove(path)
}

// reopen holds the build of a spool and attaches its place.
func (w *holder) reopen(id uuid.UUID, s *spool) (*build, error) {
	b := w.newBuild(id, s.start.Build.Job)
	s.spares = w.spares
	b.spool = s
	w.update(func() { w.builds[b.id] = b })
	var err error
	b.place, err = w.Sandbox.Reattach(s.place)
	if errors.Is(err, fs.ErrNotExist) {
		b.log.Warn().Err(err).Msg("the artifacts of a build are gone")
		b.place, err = nil, nil
	}
	return b, err // what can not be attached now would be swept
}

// takeUp goes on with a build of an earlier process.
func (w *holder) takeUp(ctx, over context.Context, b *build) {
	if done := b.spool.view().done; done != nil {
		b.log.Info().Stringer("result", done.Result).Msg("a build is delivered that ended before")
		if b.place != nil {
			if err := b.reattach(done); err != nil {
				b.log.Warn().Err(err).Msg("the artifacts of a build are gone")
			}
		}
		close(b.ended)
		return
	}
	running, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	b.stop = stop
	w.update(func() { w.running++ })
	shut := context.AfterFunc(ctx, func() { stop(errShutDown) })
	w.tasks.Go(func() {
		defer stop(nil)
		defer shut()
		b.restart(running, over)
		w.update(func() { w.running-- })
	})
}

// restart goes on with a build whose script outlives the worker, or ends one whose
// script died with an earlier process, or has ended before that.
func (b *build) restart(ctx, over context.Context) {
	s := b.spool
	if place, ok := b.place.(sandbox.Resumer); ok && s.exited == nil {
		done, err := b.resume(ctx, place)
		if err == nil {
			b.collect(ctx, over, done, s.start.Limits.MaxArtifacts)
			return
		}
		b.log.Warn().Err(err).Msg("a build can not be resumed")
	}
	_, size := shares(s.start.Limits.MaxConsole)
	err := s.fold(size)
	if err != nil {
		b.log.Error().Err(err).Msg("reading the tail of the console")
	}
	done := wire.Done{
		UUID: b.id, Duration: s.latest, Result: job.Failure(job.Restarted, "worker restarted: the script died with it"),
		Place: job.Place{Kind: b.conf.Sandbox.Kind()},
	}
	if s.exited != nil {
		done = *s.exited
	}
	b.collect(ctx, over, done, s.start.Limits.MaxArtifacts)
}

// resume waits for the end of a script that an earlier process has begun. The error
// says that there is none; what ends it otherwise is in its result.
func (b *build) resume(ctx context.Context, place sandbox.Resumer) (wire.Done, error) {
	s := b.spool.start
	_, tail := shares(s.Limits.MaxConsole)
	if err := b.spool.goOn(tail); err != nil {
		return wire.Done{}, err
	}
	ran := max(time.Since(place.Begun()), b.spool.latest)
	begun := time.Now().Add(-ran) // by the monotonic clock, from here on
	out := newConsole(b.spool, begun, s.Limits.MaxConsole)
	out.wrote.Store(int64(ran))
	defer b.watch(s.Limits, ran, out)()
	b.log.Info().Dur("dur", ran).Msg("build goes on")
	exit, err := place.Resume(ctx, b.specOf(s), out)
	if closed := out.Close(); err == nil {
		err = closed
	}
	if errors.Is(err, sandbox.ErrOver) {
		return wire.Done{}, err
	}
	done := wire.Done{UUID: b.id, Duration: time.Since(begun), Result: b.judge(ctx, s, exit, err)}
	done.Place = job.Place{Kind: b.conf.Sandbox.Kind(), Origin: place.Origin()}
	done.Place.Add("run", done.Duration)
	return done, nil
}
