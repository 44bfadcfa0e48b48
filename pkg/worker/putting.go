package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"builder/pkg/job"
	"builder/pkg/remote"
	"builder/pkg/wire"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"
)

const (
	// putAtOnce is how many contents of a build go into the store at a time.
	putAtOnce = 8
	// putTime, putRate (octets per second) and putEach bound what all contents of a
	// build may take: what is not there then goes to the server.
	putTime = 10 * time.Minute
	putRate = 64 << 10
	putEach = time.Second / 10
	// smallContent is up to how many octets a content costs as much to send as to
	// ask for. Of these only one in askSmall is asked for, once so many in a row were
	// found not to be there.
	smallContent = 4 << 10
	askSmall     = 16
)

// putting is a build's contents on their way into the store, which is tried once:
// what it does not take goes to the server. It goes on whatever becomes of
// connections to the server.
//
//	couriers ──▸ begin, or join ──▸ ended ──▸ Done again, with locations
type putting struct {
	stop  context.CancelFunc
	ended chan struct{}

	mu       sync.Mutex
	location string
	there    map[job.Content]bool
	failed   int
	failure  error // the first one
	given    bool  // up: nothing more is tried
	contents int
	absent   int // contents in a row that were asked for and were not there
	begun    int
}

// put begins to put the contents of a build that has ended, or joins who does.
func (w *holder) put(over context.Context, b *build, done wire.Done) *putting {
	w.mu.Lock()
	defer w.mu.Unlock()
	if b.putting == nil {
		ctx, stop := context.WithCancel(over)
		p := &putting{stop: stop, ended: make(chan struct{}), location: w.Store.Prefix(), there: map[job.Content]bool{}}
		b.putting = p
		w.tasks.Go(func() {
			defer close(p.ended)
			defer stop()
			p.run(ctx, w.Store, b, done.Artifacts)
		})
	}
	return b.putting
}

// wasPut is what became of putting, if that has ended; else nil.
func (w *holder) wasPut(b *build) *putting {
	w.mu.Lock()
	defer w.mu.Unlock()
	if b.putting != nil {
		select {
		case <-b.putting.ended:
			return b.putting
		default:
		}
	}
	return nil
}

// endPutting stops what nobody waits for any more.
func (w *holder) endPutting(b *build) {
	w.mu.Lock()
	p := b.putting
	w.mu.Unlock()
	if p != nil {
		p.stop()
		<-p.ended
	}
}

func (p *putting) run(ctx context.Context, s *remote.Store, b *build, artifacts []job.Artifact) {
	begun := time.Now()
	seen, size := map[job.Content]bool{}, int64(0)
	for _, a := range artifacts {
		if !seen[a.Content] {
			seen[a.Content] = true
			size += a.Size
		}
	}
	p.contents = len(seen)
	most := putTime + time.Duration(size/putRate)*time.Second + time.Duration(len(seen))*putEach
	ctx, cancel := context.WithTimeoutCause(ctx, most, errors.New("the store is too slow: all contents took too long"))
	defer cancel()
	var group errgroup.Group
	group.SetLimit(putAtOnce)
	for _, a := range artifacts {
		if !seen[a.Content] {
			continue
		}
		delete(seen, a.Content)
		group.Go(func() error {
			p.one(ctx, s, b, a.Content)
			return nil
		})
	}
	group.Wait() //nolint:errcheck // p keeps what went wrong
	if ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled) {
		return // nobody wants it any more
	}
	level := zerolog.InfoLevel
	if p.failure != nil {
		level = zerolog.WarnLevel
	}
	b.log.WithLevel(level).Err(p.failure).Str("peer", p.location).Int("contents", len(p.there)).Int("failed", p.failed).Dur("dur", time.Since(begun)).Msg("contents were put into the store")
}

// one puts one content, unless the store was given up: what is on its way then has
// bounds of its own, and may arrive.
func (p *putting) one(ctx context.Context, s *remote.Store, b *build, c job.Content) {
	given, unasked := p.next(c)
	if given {
		return
	}
	sent, err := s.Put(ctx, c, unasked, func() (io.ReadCloser, error) { return b.open(c) })
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case unasked:
	case sent:
		p.absent++
	default:
		p.absent = 0
	}
	var source *remote.SourceError
	var refused *remote.RefusedError
	switch {
	case err == nil:
		p.there[c] = true
		return
	case errors.As(err, &source): // the server will ask for it, and hear that it is missing
		b.log.Warn().Err(err).Msg("putting an artifact into the store")
		return
	case !errors.As(err, &refused):
		p.given = true
	}
	p.failed++
	if p.failure == nil {
		p.failure = err
	}
}

// next reports whether the store was given up, and whether c is small and most
// likely not there.
func (p *putting) next(c job.Content) (given, unasked bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.given {
		p.failed++
		return true, false
	}
	p.begun++
	return false, c.Size <= smallContent && p.absent >= askSmall && p.begun%askSmall != 0
}

// located is the end of a build with what became of putting, which has ended.
func (p *putting) located(done wire.Done) wire.Done {
	artifacts := make([]job.Artifact, len(done.Artifacts))
	for i, a := range done.Artifacts {
		if p.there[a.Content] {
			a.Location = p.location
		}
		artifacts[i] = a
	}
	located := done
	located.Artifacts = artifacts
	if p.failed > 0 {
		located.Notes = append(located.Notes[:len(located.Notes):len(located.Notes)],
			fmt.Sprintf("%d of %d contents went through the server, since the store did not take them: %v", p.failed, p.contents, p.failure))
	}
	if wire.Encode(located).Size() > wire.KindDone.Limit() {
		return done // without locations they go through the server
	}
	return located
}
