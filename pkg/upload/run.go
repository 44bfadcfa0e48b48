package upload

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"builder/pkg/job"

	"github.com/rs/zerolog"
)

// recordTime bounds a call of the Journal when Run is to end.
const recordTime = 10 * time.Second

// Run delivers builds until ctx is done, and returns nil. Tries under way are
// broken off then; all goroutines have ended when it returns. It is called once.
func (o *Outbox) Run(ctx context.Context) error {
	var senders sync.WaitGroup
	for range o.limits.Parallel {
		senders.Go(func() {
			for l, it := o.next(ctx); l != nil; l, it = o.next(ctx) {
				o.deliver(ctx, l, it)
			}
		})
	}
	senders.Wait()
	return nil
}

// next waits for a lane that is due, and returns it and its first build; nil when
// ctx is done.
func (o *Outbox) next(ctx context.Context) (*lane, *item) {
	for ctx.Err() == nil {
		o.mu.Lock()
		now := time.Now()
		l, it, at := o.queue.take(now)
		changed := o.changed
		o.mu.Unlock()
		if l != nil {
			return l, it
		}
		var due <-chan time.Time
		if !at.IsZero() {
			due = time.After(at.Sub(now))
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-due:
		}
	}
	return nil, nil
}

// deliver makes one try with the first build of the lane, and puts the lane back.
func (o *Outbox) deliver(ctx context.Context, l *lane, it *item) {
	log := o.log.With().Str("job", it.Job).Stringer("build", it.UUID).Logger()
	begin := time.Now()
	var err error
	if !it.delivered {
		var size int64
		if size, err = o.send(ctx, it.UUID); err == nil {
			it.delivered = true
			log.Info().Int64("bytes", size).Dur("dur", time.Since(begin)).Msg("build delivered")
		}
	}
	var refused *RefusedError
	switch {
	case err == nil:
		err = o.record(ctx, func(ctx context.Context) error { return o.journal.Delivered(ctx, it.UUID) })
	case errors.As(err, &refused):
		reason := printable(refused.Text)
		err = o.record(ctx, func(ctx context.Context) error { return o.journal.Parked(ctx, it.UUID, reason) })
		if err != nil {
			err = fmt.Errorf("%s; %w", reason, err)
			break
		}
		log.Error().Str("err", reason).Msg("build is parked: it is not sent again before `builder-client outbox retry`")
	}
	switch {
	case err == nil:
		o.change(func(now time.Time) { o.queue.done(l, now) })
	case ctx.Err() != nil: // nobody's fault
		o.change(func(now time.Time) { o.queue.later(l, now) })
	default:
		o.failed(l, it, err, log)
	}
}

// failed logs a failed try and puts the lane back.
func (o *Outbox) failed(l *lane, it *item, err error, log zerolog.Logger) {
	tries, text := it.Tries+1, printable(err.Error())
	level, delay := zerolog.WarnLevel, o.limits.delay(tries)
	var ofBuild *BuildError
	if errors.As(err, &ofBuild) {
		level = zerolog.ErrorLevel
	}
	// Not with the lock held: a log may be slow, and Add never waits.
	log.WithLevel(level).Str("err", text).
		Msgf("build not delivered, next try in %s", delay.Round(time.Millisecond))
	o.change(func(now time.Time) {
		it.Tries, it.Err = tries, text
		if ofBuild != nil {
			o.queue.aside(l, now.Add(delay), now)
		} else {
			o.queue.later(l, now.Add(delay))
		}
	})
}

// delay is drawn from the whole range ("full jitter"): after an outage of the
// remote the tries of many builds, and of many servers, spread out.
func (l Limits) delay(tries int) time.Duration {
	bound := min(float64(l.Longest), math.Ldexp(float64(l.Shortest), tries-1))
	return rand.N(time.Duration(bound))
}

// record tells the journal. When ctx is done meanwhile, that goes on for a while:
// else the build would be sent again after the next start.
func (o *Outbox) record(ctx context.Context, tell func(context.Context) error) error {
	recording, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(recordTime, cancel) })
	defer stop()
	if err := tell(recording); err != nil {
		return fmt.Errorf("recording what became of it: %w", err)
	}
	return nil
}

// maxShown is how much is shown of why a build is not there, in octets.
const maxShown = 1 << 10

// printable makes one line of a text that a remote may have written.
func printable(text string) string { return job.Shorten(job.Printable(text), maxShown) }
