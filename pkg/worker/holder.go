package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"builder/pkg/disk"
	"builder/pkg/job"
	"builder/pkg/sandbox"
	"builder/pkg/stack"
	"builder/pkg/wire"

	"github.com/google/uuid"
)

// holder has the builds that this worker holds: those that run, and those that
// have ended and are not stored by the server. Links and couriers come and go.
type holder struct {
	Config
	tasks   sync.WaitGroup // what goes on without a connection
	pruning sync.Mutex     // of what was rejected
	spares  spares

	sweeping sync.Mutex
	unswept  bool // a place could not be destroyed, guarded by sweeping

	mu      sync.Mutex
	builds  map[uuid.UUID]*build
	running int           // of them
	begun   int           // builds, ever
	refused int           // builds that the server did not take, ever
	kept    []kept        // places of failed builds, the oldest first
	wishes  int           // builds that were asked for, on the last connection, and did not come
	changed chan struct{} // closed and replaced when any of this changes
}

func newHolder(c Config) *holder {
	return &holder{Config: c, spares: make(spares, c.Slots), builds: map[uuid.UUID]*build{}, changed: make(chan struct{})}
}

// update changes what mu guards.
func (w *holder) update(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
	close(w.changed)
	w.changed = make(chan struct{})
}

// state is what is held, and a channel that is closed when that has changed.
func (w *holder) state() (held, running, begun int, changed <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.builds), w.running, w.begun, w.changed
}

// wished reports whether builds were asked for that have not come: one may have
// been handed out and not received.
func (w *holder) wished() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wishes > 0
}

// wishAgain forgets what was asked for: wishes end with their connection.
func (w *holder) wishAgain() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wishes = 0
}

// wish is how many builds are to be asked for: one for each slot that is free.
func (w *holder) wish() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := max(0, w.Slots-w.running-w.wishes)
	w.wishes += n
	return n
}

// vacant reports whether a slot is free for which no build was asked for.
func (w *holder) vacant() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.running+w.wishes < w.Slots
}

// finished reports whether there is nothing left to do. A worker that is not
// persistent does one build.
func (w *holder) finished(drain context.Context) bool {
	held, _, begun, _ := w.state()
	return held == 0 && (drain.Err() != nil || !w.Persistent && begun > 0)
}

// begin takes a build and runs it.
func (w *holder) begin(ctx, over context.Context, s wire.Start) (*build, error) {
	b := w.newBuild(s.Build.UUID, s.Build.Job)
	running, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	b.stop = stop
	var err error
	w.update(func() {
		switch {
		case w.wishes == 0:
			err = fmt.Errorf("the server sent build %v, for which nobody asked", b.id)
		case w.builds[b.id] != nil:
			err = fmt.Errorf("the server sent build %v, which is held already", b.id)
		}
		if err != nil {
			return
		}
		w.wishes--
		w.builds[b.id] = b
		w.running++
		w.begun++
	})
	if err != nil {
		stop(nil)
		return nil, err
	}
	shut := context.AfterFunc(ctx, func() { stop(errShutDown) })
	w.tasks.Go(func() {
		stack.Grow()
		defer stop(nil)
		defer shut()
		b.run(running, over, s)
		w.update(func() { w.running-- })
	})
	return b, nil
}

// errShutDown stops the builds of a worker that is told to end at once.
var errShutDown = &stopped{job.Failure(job.ShutDown, "worker shut down")}

// holding are the builds that the server is told of, in order.
func (w *holder) holding() []*build {
	w.mu.Lock()
	defer w.mu.Unlock()
	var builds []*build
	for _, b := range w.builds {
		if !b.over {
			builds = append(builds, b)
		}
	}
	slices.SortFunc(builds, func(a, b *build) int { return strings.Compare(a.id.String(), b.id.String()) })
	return builds
}

// stopBuild ends a build on the server's word. One that is not held has ended.
func (w *holder) stopBuild(m wire.Stop) {
	w.mu.Lock()
	b := w.builds[m.UUID]
	w.mu.Unlock()
	if b != nil {
		b.stop(&stopped{m.Result})
	}
}

// release lets a build go that the server has stored, or, with a reason, has no
// use for: then it is stopped if it runs, and set aside.
func (w *holder) release(b *build, refused string) {
	w.update(func() { b.over = true })
	w.tasks.Go(func() {
		stack.Grow()
		b.stop(&stopped{job.Failure(job.Cancelled, "the server has no use for the build: %s", refused)})
		<-b.ended
		w.endPutting(b)
		var err error
		if refused == "" {
			err = w.forget(b)
		} else {
			err = w.reject(b, refused)
		}
		if err != nil {
			b.log.Error().Err(err).Msg("letting go of the build")
		}
		w.update(func() {
			delete(w.builds, b.id)
			if refused != "" {
				w.refused++
			}
		})
	})
}

// forget removes everything of a build, but for a place that is kept. Its spool goes first: what is left of the
// place without it is swept.
func (w *holder) forget(b *build) error {
	done := b.spool.view().done
	err := b.spool.remove()
	switch {
	case b.place == nil:
		return err
	case done == nil: // given up
		return errors.Join(err, w.destroy(b.place))
	}
	return errors.Join(err, w.letGo(b.id, b.place, done.Result))
}

// destroy destroys the place of a build. What resists is swept after this build and
// after each that follows, until it is gone.
func (w *holder) destroy(place sandbox.Place) error {
	err := place.Destroy()
	w.sweeping.Lock()
	defer w.sweeping.Unlock()
	if err == nil && !w.unswept {
		return nil
	}
	swept := w.Sandbox.Sweep()
	w.unswept = swept != nil
	return errors.Join(err, swept)
}

// minFree is how much room the worker's disk must have for another build.
const minFree = 64 << 20

// room reports whether another build may be asked for, beside what has ended and
// waits to be delivered.
func (w *holder) room(held, running int) error {
	if ended := held - running; ended > 2*w.Slots {
		return fmt.Errorf("%d builds are not delivered yet", ended)
	}
	room, err := disk.OS{}.Room(w.Dir.Path)
	if err != nil {
		return fmt.Errorf("asking for room: %w", err)
	}
	if room.Free < minFree {
		return fmt.Errorf("the disk of %s has %d octets left", w.Dir.Path, room.Free)
	}
	return nil
}
