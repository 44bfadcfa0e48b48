package worker

import (
	"sync"
	"time"

	"builder/pkg/job"
	"builder/pkg/sandbox"
	"builder/pkg/wire"

	"github.com/google/uuid"
)

// console sends what a build prints to the server: the lines that came in one
// write, in one message.
type console struct {
	conn  *wire.Conn
	id    uuid.UUID
	own   bool
	lines *sandbox.Lines

	mu    sync.Mutex
	batch wire.Batch
	next  int64 // number of the first line of the batch
	err   error
}

// consoleError marks that the server could not be told.
type consoleError struct{ error }

func (e *consoleError) Unwrap() error { return e.error }

func newConsole(conn *wire.Conn, a assignment, own bool) *console {
	c := &console{conn: conn, id: a.id, own: own}
	c.lines = sandbox.NewLines(a.received, c.add)
	return c
}

// Write implements [io.Writer].
func (c *console) Write(p []byte) (int, error) {
	n, err := c.lines.Write(p)
	if err == nil {
		err = c.flush()
	}
	return n, err
}

// Close sends what is left.
func (c *console) Close() error {
	if err := c.lines.Close(); err != nil {
		return err
	}
	return c.flush()
}

// add takes one line, or many. A partial one leaves at once: it comes from a timer.
func (c *console) add(text []byte, since time.Duration, kind sandbox.LineKind) error {
	line := job.Line{Delta: since, Data: text}
	switch kind {
	case sandbox.Partial:
		line.Flags = job.Partial
	case sandbox.Continued, sandbox.Last:
		line.Flags = job.Unended
	case sandbox.Many:
		line.Flags = job.Many
	case sandbox.Whole:
	}
	c.mu.Lock()
	full := c.batch.Add(line)
	c.mu.Unlock()
	if full || kind == sandbox.Partial {
		return c.flush()
	}
	return nil
}

// flush sends the batch. After an error it returns that error for ever.
func (c *console) flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.batch.Lines) == 0 || c.err != nil {
		return c.err
	}
	if err := c.send(); err != nil {
		c.err = &consoleError{err}
	}
	c.next += job.CountLines(c.batch.Lines)
	c.batch.Reset()
	return c.err
}

func (c *console) send() error {
	if c.own {
		return c.conn.Send(wire.Lines{UUID: c.id, From: c.next, Lines: c.batch.Lines})
	}
	for _, many := range c.batch.Lines {
		for line := range many.Each() {
			if line.Flags&job.Partial != 0 {
				continue
			}
			if err := c.conn.Send(wire.Output{UUID: c.id, Data: line.Data}); err != nil {
				return err
			}
		}
	}
	return nil
}
