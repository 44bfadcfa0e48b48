package store

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/google/uuid"
)

// errNoLog: the disk did not let the log be opened, but it may have builds.
var errNoLog = errors.New("the log of committed builds could not be opened at the last start")

// settle makes the files of all builds durable that are in the log, and drops them
// from it. It may be called beside everything else; builds that are committed
// meanwhile stay in the log. After an error all of them do.
func (a *writeAhead) settle() error {
	a.settling.Lock()
	defer a.settling.Unlock()
	if a.journal == nil {
		return errNoLog
	}
	settled, err := a.sync()
	if err == nil {
		err = a.compact(settled)
	}
	if err != nil {
		return fmt.Errorf("dropping the log of committed builds: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, e := range settled {
		delete(a.pending, id)
		a.octets -= e.size()
	}
	return nil
}

// compact drops what was settled. Before it there has to be a batch: Compact leaves a
// snapshot alone that nothing has come behind, and those may be in it that were
// committed while the last one was made.
func (a *writeAhead) compact(settled map[uuid.UUID]entry) error {
	a.writing.Lock()
	err := a.journal.Append(nil)
	a.writing.Unlock()
	if err != nil {
		return err
	}
	a.settled = settled
	defer func() { a.settled = nil }()
	return a.journal.Compact()
}

// sync makes the files of what is pending durable. It stays pending as long as it is in
// the log: whoever prunes or pins goes by that. After an error the files have to be
// written again: nobody knows then what of them is on the disk.
func (a *writeAhead) sync() (synced map[uuid.UUID]entry, err error) {
	next, err := a.store.fsys.OpenBarrier(a.store.builds())
	if err != nil {
		return nil, err
	}
	a.commits.Lock()
	barrier := a.barrier
	a.barrier = next
	a.generation.Add(1)
	a.mu.Lock()
	synced = maps.Clone(a.pending)
	a.mu.Unlock()
	a.commits.Unlock()
	for _, e := range synced {
		if e.doubtful {
			err = errors.Join(err, e.write(a.store))
		}
	}
	if err == nil {
		err = barrier.Sync()
	}
	err = errors.Join(err, barrier.Close())
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, e := range synced {
		e.doubtful = err != nil
		a.pending[id] = e
	}
	return synced, err
}

// settleSoon settles in the background, unless that is being done, or has just failed.
func (a *writeAhead) settleSoon() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.busy || time.Now().Before(a.resting) {
		return
	}
	a.busy = true
	a.background.Go(func() {
		var rest time.Time
		if !a.settleLogged() {
			rest = time.Now().Add(aheadRest)
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		a.busy, a.resting = false, rest
	})
}

// settleLogged is settle for when nobody waits for it.
func (a *writeAhead) settleLogged() bool {
	began := time.Now()
	if err := a.settle(); err != nil {
		a.store.log.Error().Err(err).Msg("builds that were committed stay in the log")
		return false
	}
	a.store.log.Debug().Dur("dur", time.Since(began)).Msg("the log of committed builds was dropped")
	return true
}
