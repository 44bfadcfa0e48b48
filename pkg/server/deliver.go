package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"builder/pkg/store"
	"builder/pkg/wire"

	"github.com/google/uuid"
)

// delivery is a connection over which the contents of one build come.
type delivery struct {
	conn  *wire.Conn
	ended chan struct{} // closed when the build is not touched any more
}

// deliver takes the contents of a build that the store lacks, until none is
// lacking. What broke off goes on where it was, over the next connection.
func (s *Server) deliver(ctx context.Context, conn *wire.Conn, identity string, id uuid.UUID) (err error) {
	h, foreign := s.crew.find(identity, id)
	switch {
	case foreign:
		return violation("build %v is another worker's", id)
	case h == nil:
		return fmt.Errorf("contents are not wanted: %s", s.overText(id))
	}
	d := &delivery{conn: conn, ended: make(chan struct{})}
	if err := h.admit(d); err != nil {
		return err
	}
	defer func() {
		h.dismiss(d) // first: else the end of the build would close the connection, before it is told why
		if errors.Is(err, errProtocol) {
			h.condemn(err)
		}
	}()
	for {
		lacking := h.draft.Lacking()
		if len(lacking) == 0 {
			return conn.Send(wire.Success{})
		}
		want := wire.Want{UUID: id}
		for _, w := range lacking[:min(len(lacking), maxWanted)] {
			want.Contents = append(want.Contents, wire.Wanted(w))
		}
		if err := conn.Send(want); err != nil {
			return err
		}
		for _, w := range want.Contents {
			if err := h.receive(ctx, conn, w); err != nil {
				return err
			}
		}
	}
}

// maxWanted is how many contents are asked for at a time.
const maxWanted = 10_000

// admit makes d the delivery of the build; an older one ends.
func (h *held) admit(d *delivery) error {
	for {
		h.mu.Lock()
		old := h.delivery
		switch {
		case h.over || !h.offered:
			h.mu.Unlock()
			return fmt.Errorf("no contents of build %v are wanted now", h.UUID)
		case old == nil:
			h.delivery = d
			h.mu.Unlock()
			return nil
		}
		h.mu.Unlock()
		old.conn.Close()
		<-old.ended
	}
}

func (h *held) dismiss(d *delivery) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.delivery = nil
	close(d.ended)
	h.wake()
}

// receive takes one content, or the word that it is missing.
func (h *held) receive(ctx context.Context, conn *wire.Conn, w wire.Wanted) error {
	m, err := conn.Receive(ctx, wire.KindContent, wire.KindMissing)
	if err != nil {
		return err
	}
	switch m := m.(type) {
	case wire.Missing:
		if m.Content != w.Content {
			return violation("content %v is missing, expected %v", m.Content, w.Content)
		}
		h.draft.Drop(w.Content, shorten(m.Reason))
	case *wire.IncomingContent:
		if m.Content != w.Content || m.Offset != w.Offset || m.Size != w.Content.Size-w.Offset {
			return violation("content %v from %d with %d octets, expected %v from %d with %d",
				m.Content, m.Offset, m.Size, w.Content, w.Offset, w.Content.Size-w.Offset)
		}
		if err := h.draft.Deliver(w.Content, w.Offset, arriving{m, h}); err != nil && !errors.Is(err, store.ErrMismatch) {
			return err
		}
	}
	return nil
}

// arriving is a content of a build that is told when something of it comes.
type arriving struct {
	in io.Reader
	*held
}

// Read implements io.Reader.
func (a arriving) Read(p []byte) (int, error) {
	n, err := a.in.Read(p)
	if n > 0 {
		a.mu.Lock()
		a.arrived = time.Now()
		a.mu.Unlock()
	}
	return n, err
}
