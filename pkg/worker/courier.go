package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"time"

	"builder/pkg/job"
	"builder/pkg/wire"
)

// courier takes a build to the server, over one link: its lines from where the
// server lacks them, its end, then the contents of its artifacts that the server
// asks for, until the server says that it is stored.
type courier struct {
	*link
	build  *build
	from   int64
	want   chan struct{} // the server lacks contents
	told   bool          // the server knows what became of putting, over this link
	stop   context.CancelFunc
	answer atomic.Pointer[wire.Stored] // set before stop
}

func (c *courier) run(ctx context.Context) {
	err := c.carry(ctx)
	switch answer := c.answer.Load(); {
	case answer != nil:
		c.release(c.build, answer.Refused)
	case errors.Is(err, errDamaged):
		c.build.log.Error().Err(err).Msg("a spool is damaged")
		c.release(c.build, err.Error())
	case ctx.Err() == nil:
		c.lose(err)
	}
}

func (c *courier) carry(ctx context.Context) error {
	done, err := c.console(ctx)
	if err != nil {
		return err
	}
	for {
		select {
		case <-c.want:
			if c.puts && !c.told {
				err = c.put(ctx, done)
			} else {
				err = c.deliver(ctx)
			}
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// put waits until the contents were put into the store, and tells the server,
// which then says whether it lacks any.
func (c *courier) put(ctx context.Context, done wire.Done) error {
	p := c.link.put(c.over, c.build, done)
	select {
	case <-p.ended:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	c.told = true
	return c.conn.Send(p.located(done))
}

// console sends the lines as they come, and the end behind them, which it returns.
func (c *courier) console(ctx context.Context) (wire.Done, error) {
	f := c.build.spool.follow(c.from)
	defer f.Close()
	for {
		from, lines, done, err := f.read(ctx)
		switch {
		case err != nil:
			return wire.Done{}, err
		case done == nil:
			err = c.conn.Send(wire.Lines{UUID: c.build.id, From: from, Lines: lines})
		default:
			end := *done
			// After a power cut the server may have more than the spool.
			end.Lines = max(end.Lines, c.from)
			if p := c.wasPut(c.build); p != nil && c.puts {
				c.told = true
				return end, c.conn.Send(p.located(end))
			}
			return end, c.conn.Send(end)
		}
		if err != nil {
			return wire.Done{}, err
		}
	}
}

// deliver delivers contents until the server lacks none, over as many connections
// as it takes.
func (c *courier) deliver(ctx context.Context) error {
	for pause := min(firstPause, c.MaxDelay); ; pause = min(pause*3/2, c.MaxDelay) {
		err := c.contents(ctx)
		if err == nil || ctx.Err() != nil {
			return context.Cause(ctx)
		}
		wait := pause - rand.N(pause/3) //nolint:gosec // jitter
		c.build.log.Warn().Err(err).Dur("retry", wait).Msg("delivering artifacts")
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// contents delivers over a connection of its own: the worker's stays prompt.
func (c *courier) contents(ctx context.Context) error {
	conn, remote, err := c.dialer().Dial(ctx, c.Remote)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if remote.Can(wire.CapAlive) {
		conn.KeepAlive(wire.Beat(c.KeepAlive, remote.Beat), wire.Patience*c.KeepAlive)
	}
	if err := conn.Send(wire.Deliver{UUID: c.build.id}); err != nil {
		return err
	}
	for {
		m, err := conn.Receive(ctx, wire.KindWant, wire.KindSuccess, wire.KindFailure, wire.KindLater)
		if err != nil {
			return err
		}
		switch m := m.(type) {
		case wire.Success:
			return nil
		case wire.Want:
			for _, wanted := range m.Contents {
				if err := c.content(conn, wanted); err != nil {
					return err
				}
			}
		default:
			return refusal(m)
		}
	}
}

// content sends one content from an offset on, or says that it is missing.
func (c *courier) content(conn *wire.Conn, wanted wire.Wanted) error {
	content := wanted.Content
	if wanted.Offset < 0 || wanted.Offset > content.Size {
		return fmt.Errorf("the server wants %v from octet %d on, it has %d", content, wanted.Offset, content.Size)
	}
	f, err := c.build.open(content)
	if err != nil {
		c.build.log.Error().Err(err).Msg("an artifact is missing")
		return conn.Send(wire.Missing{Content: content, Reason: err.Error()})
	}
	if _, err := f.Seek(wanted.Offset, io.SeekStart); err != nil {
		return errors.Join(err, f.Close())
	}
	return conn.Send(wire.Content{Content: content, Offset: wanted.Offset, Data: wire.Blob{
		Size: content.Size - wanted.Offset, Open: func() (io.ReadCloser, error) { return f, nil },
	}})
}

// open opens an artifact that still is as long as it was.
func (b *build) open(content job.Content) (*os.File, error) {
	a, ok := b.artifacts[content]
	if !ok {
		return nil, errors.New("the worker has no such artifact")
	}
	f, err := a.Open()
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() != content.Size {
		err = fmt.Errorf("artifact %q is %d octets long now, it had %d", a.Path, info.Size(), content.Size)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// sleep waits, or returns why ctx is done.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
