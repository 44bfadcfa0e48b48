package store

import (
	"errors"
	"sync"

	"builder/pkg/disk"

	"golang.org/x/sync/errgroup"
)

const (
	// maxUnsynced bounds the contents whose sync is under way: a disk that is
	// slower than the network holds the network up, not more files open.
	maxUnsynced = 8
	// largeContent is from where on a content is synced as soon as it is complete,
	// while the next one comes over the network.
	largeContent = 1 << 20
	// maxHeld is how many smaller ones are synced one by one. From about that many
	// on a barrier is cheaper, though it has to write what others wrote, too.
	maxHeld = 32
)

// contentSyncs makes the complete contents of one draft durable. It is safe for
// concurrent use, but for sync and close.
type contentSyncs struct {
	group errgroup.Group // syncs under way

	mu      sync.Mutex
	barrier disk.Barrier // nil before begin, or when there is none
	begun   bool
	held    []*incoming // to be synced one by one, unless they become too many
	many    bool        // they did: the barrier makes them durable, they are closed
	err     error       // a sync or a close that failed, for good
}

// begin has to be called before a file is opened that is added later.
func (s *contentSyncs) begin(store *Store) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.begun {
		return nil
	}
	b, err := store.fsys.OpenBarrier(store.contents)
	if err != nil && !errors.Is(err, disk.ErrNoBarrier) {
		return err
	}
	s.barrier, s.begun = b, true
	return nil
}

// add takes over a content whose file is open, and closes that in the end. It may
// wait for syncs of others. One that is to be synced alone was written before the
// barrier was opened.
func (s *contentSyncs) add(in *incoming, alone bool) {
	if alone || in.content.Size >= largeContent || !s.hold(in) {
		s.group.Go(in.sync)
	}
}

// hold leaves a content to sync, if there is a barrier.
func (s *contentSyncs) hold(in *incoming) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.barrier == nil {
		return false
	}
	s.held = append(s.held, in)
	if len(s.held) <= maxHeld && !s.many {
		return true
	}
	s.many = true
	for _, in := range s.held {
		s.err = errors.Join(s.err, in.close())
	}
	s.held = nil
	return true
}

// sync makes all that was added durable, and waits for it. After an error all of
// it is lost, and the error comes again.
func (s *contentSyncs) sync() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, in := range s.held {
		s.group.Go(in.sync)
	}
	s.held = nil
	err := s.group.Wait() // it returns its first error again
	if err == nil && s.err == nil && s.many {
		s.err = s.barrier.Sync()
	}
	return errors.Join(s.err, err)
}

// close waits for the syncs under way and closes what is open.
func (s *contentSyncs) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.group.Wait()
	for _, in := range s.held {
		err = errors.Join(err, in.close())
	}
	s.held = nil
	if s.barrier != nil {
		err = errors.Join(err, s.barrier.Close())
		s.barrier = nil
	}
	return err
}
