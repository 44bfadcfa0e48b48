package server

import (
	"context"
	"fmt"
	"io"
	"sync"

	"builder/pkg/job"
	"builder/pkg/remote"
	"builder/pkg/wire"

	"golang.org/x/sync/errgroup"
)

// elsewhere are the stores that are followed, as long as the server runs: nobody
// who reads there may hold up its end.
type elsewhere struct {
	remote.Stores
	over context.Context //nolint:containedctx // the server's, not a call's
}

// Has implements [store.Elsewhere].
func (e elsewhere) Has(ctx context.Context, location string, c job.Content) (bool, error) {
	ctx, stop := e.join(ctx)
	defer stop()
	return e.Stores.Has(ctx, location, c)
}

// Open implements [store.Elsewhere].
func (e elsewhere) Open(ctx context.Context, location string, c job.Content) (io.ReadCloser, error) {
	ctx, stop := e.join(ctx)
	in, err := e.Stores.Open(ctx, location, c)
	if err != nil {
		stop()
		return nil, err
	}
	return &joined{in, stop}, nil
}

func (e elsewhere) join(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	forget := context.AfterFunc(e.over, cancel)
	return ctx, func() {
		forget()
		cancel()
	}
}

type joined struct {
	io.ReadCloser
	stop func()
}

// Close implements io.Closer.
func (j *joined) Close() error {
	defer j.stop()
	return j.ReadCloser.Close()
}

// askedAtOnce is how many contents a store is asked for at a time.
const askedAtOnce = 8

// see looks whether the contents that are said to lie in a store do: for this
// server, whose name or way for that store may be another than the worker's, and
// with their lengths. Only what was seen keeps its location. What was not is
// lacking, so it comes the normal way, and a note says so. After the first error
// of a store nothing more is asked for. It is called by the build's conductor.
func (h *held) see(ctx context.Context, done *wire.Done) {
	if h.seen == nil {
		h.seen = map[job.Content]string{}
	}
	said := map[job.Content]string{}
	for _, a := range done.Artifacts {
		if a.Location != "" && h.seen[a.Content] != a.Location && h.Stores.Follows(a.Location) {
			said[a.Content] = a.Location
		}
	}
	if len(said) > 0 {
		if err := h.ask(ctx, said); err != nil {
			h.log.Warn().Err(err).Msg("looking for contents in a store")
			done.Notes = append(done.Notes, fmt.Sprintf("contents that the worker put into a store came through the server as well: %v", err))
		}
	}
	for i, a := range done.Artifacts {
		if h.seen[a.Content] != a.Location {
			done.Artifacts[i].Location = ""
		}
	}
}

// ask adds to h.seen what is there of what is said to be. The error is the first
// reason why something is not.
func (h *held) ask(ctx context.Context, said map[job.Content]string) error {
	ctx, stop := context.WithTimeout(ctx, h.CollectTimeout)
	defer stop()
	var mu sync.Mutex
	group, asking := errgroup.WithContext(ctx)
	group.SetLimit(askedAtOnce)
	var lacks error
	for c, location := range said {
		group.Go(func() error {
			there, err := h.elsewhere.Has(asking, location, c)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				return err
			case there:
				h.seen[c] = location
			case lacks == nil:
				lacks = fmt.Errorf("%s has not all of content %v", location, c)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return lacks
}
