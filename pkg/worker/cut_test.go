package worker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/google/uuid"
)

// cutter is a server that hands out one build, and cuts a connection after so many
// messages have passed, each as often as it is to. It keeps what it got, as if
// that was durable at once.
type cutter struct {
	t     testing.TB
	after int // messages; of a content, half of its data
	cuts  int // that are left

	mu       sync.Mutex
	passed   int
	id       uuid.UUID
	control  *wire.Conn
	handed   bool // the worker has it
	build    ended
	contents map[job.Content][]byte
	stored   bool
}

var errCut = errors.New("cut")

// pass lets a message pass, or cuts.
func (s *cutter) pass() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.passed++; s.passed == s.after && s.cuts > 0 {
		s.passed = 0
		s.cuts--
		return errCut
	}
	return nil
}

func (s *cutter) send(c *wire.Conn, m wire.Message) error {
	if err := s.pass(); err != nil {
		return err
	}
	return c.Send(m)
}

func (s *cutter) receive(c *wire.Conn, kinds ...wire.Kind) (wire.Message, error) {
	if err := s.pass(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), deadline)
	defer cancel()
	return c.Receive(ctx, kinds...)
}

// serve takes connections until the listener is closed.
func (s *cutter) serve(l net.Listener) {
	var connections sync.WaitGroup
	defer connections.Wait()
	for {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		connections.Go(func() {
			c := wire.NewConn(nc, nil)
			defer c.Close()
			defer context.AfterFunc(s.t.Context(), func() { c.Close() })()
			if err := s.speak(c); err != nil && s.t.Context().Err() == nil && !benign(err) {
				s.t.Errorf("cut after %d: %v", s.after, err)
			}
		})
	}
}

// benign are the errors of connections that the worker leaves, or that were cut.
func benign(err error) bool {
	return errors.Is(err, errCut) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.As(err, new(*net.OpError))
}

func (s *cutter) speak(c *wire.Conn) error {
	welcome := wire.Welcome{Capabilities: []string{wire.CapBuild, wire.CapResume, wire.CapAlive}}
	if _, err := wire.Accept(s.t.Context(), c, welcome); err != nil {
		return err
	}
	c.KeepAlive(time.Hour, time.Hour)
	m, err := s.receive(c, wire.KindHolding, wire.KindDeliver)
	if err != nil {
		return err
	}
	if holding, ok := m.(wire.Holding); ok {
		return s.worker(c, holding)
	}
	return s.bulk(c)
}

// worker is the connection of the worker.
func (s *cutter) worker(c *wire.Conn, holding wire.Holding) error {
	s.mu.Lock()
	s.control = c
	s.handed = len(holding.Builds) > 0
	var resume wire.Resume
	for _, held := range holding.Builds {
		resume.Builds = append(resume.Builds, wire.Resumption{UUID: held.UUID, From: int64(len(s.build.lines))})
	}
	s.mu.Unlock()
	if err := s.send(c, resume); err != nil {
		return err
	}
	for {
		m, err := s.receive(c, wire.KindJobRequested, wire.KindLines, wire.KindDone)
		if err != nil {
			return err
		}
		switch m := m.(type) {
		case wire.JobRequested:
			err = s.handOut(c)
		case wire.Lines:
			s.mu.Lock()
			s.build.add(s.t, m)
			s.mu.Unlock()
		case wire.Done:
			err = s.done(c, m)
		}
		if err != nil {
			return err
		}
	}
}

func (s *cutter) handOut(c *wire.Conn) error {
	s.mu.Lock()
	if s.handed || s.stored || s.build.over {
		s.mu.Unlock()
		return nil
	}
	s.handed = true
	if s.id == uuid.Nil {
		s.id = uuid.New()
	}
	s.mu.Unlock()
	return s.send(c, wire.Start{
		Build:  wire.BuildStatus{UUID: s.id, Job: "one", Platform: "p"},
		Script: []byte("for i in 1 2 3; do echo $i; sleep 0.1; done; seq 100000 > large; echo small > small; exit 3"),
	})
}

func (s *cutter) done(c *wire.Conn, m wire.Done) error {
	s.mu.Lock()
	s.build.over, s.build.result, s.build.artifacts = true, m.Result, m.Artifacts
	if m.Lines != int64(len(s.build.lines)) || m.UUID != s.id {
		s.t.Errorf("cut after %d: %d lines of %v, %d are here", s.after, m.Lines, m.UUID, len(s.build.lines))
	}
	lacking := len(s.lacking()) > 0
	s.mu.Unlock()
	if lacking {
		return s.send(c, wire.Want{UUID: s.id})
	}
	return s.store(c)
}

func (s *cutter) store(c *wire.Conn) error {
	if err := s.send(c, wire.Stored{UUID: s.id}); err != nil {
		c.Close() // it may not be the caller's
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stored = true
	return nil
}

// lacking are the contents that are not here.
func (s *cutter) lacking() []wire.Wanted {
	var list []wire.Wanted
	for _, a := range s.build.artifacts {
		if have := int64(len(s.contents[a.Content])); have < a.Size {
			list = append(list, wire.Wanted{Content: a.Content, Offset: have})
		}
	}
	return list
}

func (s *cutter) bulk(c *wire.Conn) error {
	for {
		s.mu.Lock()
		lacking, control := s.lacking(), s.control
		s.mu.Unlock()
		if len(lacking) == 0 {
			return errors.Join(s.send(c, wire.Success{}), s.store(control))
		}
		if err := s.send(c, wire.Want{UUID: s.id, Contents: lacking}); err != nil {
			return err
		}
		for range lacking {
			m, err := s.receive(c, wire.KindContent)
			if err != nil {
				return err
			}
			in := m.(*wire.IncomingContent)
			var data bytes.Buffer
			cut := s.pass()
			if cut != nil {
				_, err = io.CopyN(&data, in, in.Size/2)
			} else {
				_, err = data.ReadFrom(in)
			}
			s.mu.Lock()
			if int64(len(s.contents[in.Content])) == in.Offset {
				s.contents[in.Content] = append(s.contents[in.Content], data.Bytes()...)
			}
			s.mu.Unlock()
			if err := errors.Join(cut, err); err != nil {
				return err
			}
		}
	}
}

// TestCut cuts the connections at every message, once, and at some twice: the build
// ends once, with all that it printed and left.
func TestCut(t *testing.T) {
	for _, cuts := range []int{1, 2} {
		for after := 1; after <= 18; after += 2*cuts - 1 {
			t.Run(fmt.Sprintf("%d after %d", cuts, after), func(t *testing.T) {
				t.Parallel()
				var serving sync.WaitGroup
				t.Cleanup(serving.Wait) // the last one
				s := newScripted(t, false)
				w := work(t, s)
				c := &cutter{t: t, after: after, cuts: cuts, contents: map[job.Content][]byte{}}
				serving.Go(func() { c.serve(s.l) })
				wait(t, "the build is stored", func() bool {
					c.mu.Lock()
					defer c.mu.Unlock()
					return c.stored
				})
				w.stored(t)
				c.mu.Lock()
				defer c.mu.Unlock()
				if c.build.text() != "1\n2\n3" || c.build.result.Code != 3 || len(c.build.artifacts) != 2 {
					t.Errorf("result %v, console %q, artifacts %v", c.build.result, c.build.text(), c.build.artifacts)
				}
				for content, octets := range c.contents {
					if job.ContentOf(octets) != content {
						t.Errorf("%d octets came of %v", len(octets), content)
					}
				}
			})
		}
	}
}
