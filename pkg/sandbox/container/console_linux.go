package container

import (
	"context"
	"io"
	"os"
	"sync/atomic"
	"time"

	"builder/pkg/sandbox"
)

// consoleIdle is how long the shim may hold back what a container printed that has
// ended. It closes the FIFO when it has passed on everything.
const consoleIdle = 5 * time.Second

// copying is a console on its way to a writer.
type copying struct {
	from    *os.File
	to      io.Writer
	writing atomic.Bool
	writes  atomic.Int64
	done    chan error
}

func (p *place) copyConsole(to io.Writer, stop context.CancelCauseFunc) *copying {
	c := &copying{from: p.console, to: to, done: make(chan error, 1)}
	go func() { c.done <- sandbox.CopyConsole(c, c.from, stop) }()
	return c
}

// Write implements [io.Writer].
func (c *copying) Write(p []byte) (int, error) {
	c.writing.Store(true)
	defer c.writing.Store(false)
	c.writes.Add(1)
	return c.to.Write(p)
}

// end waits until all is copied. A shim that was killed may leave the FIFO open in
// a process that has nothing to do with us.
func (c *copying) end() error {
	for before := int64(-1); ; {
		select {
		case err := <-c.done:
			return err
		case <-time.After(consoleIdle):
		}
		if now := c.writes.Load(); now != before || c.writing.Load() {
			before = now
			continue
		}
		if err := c.from.SetReadDeadline(time.Unix(1, 0)); err != nil {
			c.from.Close()
		}
		return <-c.done
	}
}
