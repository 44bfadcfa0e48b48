package worker

import (
	"context"
	"errors"
	"fmt"
	"io"

	"builder/pkg/job"
	"builder/pkg/wire"
)

// follower gives a console to a courier, in messages.
type follower struct {
	spool   *spool
	cursor  *cursor
	next    int64 // number of the next line
	partial *job.Line
	lines   []job.Line
}

// follow reads the console from a line on. Close the follower.
func (s *spool) follow(from int64) *follower {
	return &follower{spool: s, next: from}
}

func (f *follower) Close() {
	if f.cursor != nil {
		f.cursor.Close()
	}
}

// read waits for more of the console, or of the line that is being printed. What
// it returns is valid until the next call. When the build has ended and all was
// read it returns its end.
func (f *follower) read(ctx context.Context) (from int64, lines []job.Line, end *wire.Done, err error) {
	for {
		v, changed := f.spool.now()
		if v.lines > f.next { // and not for the place alone
			if f.cursor == nil {
				f.cursor = newCursor(f.spool.main)
			}
			f.cursor.end = v.end
			if from, lines, err = f.pieces(); len(lines) > 0 || err != nil {
				return from, lines, nil, err
			}
		}
		if v.done != nil {
			return 0, nil, v.done, nil
		}
		if v.partial != nil && v.partial != f.partial {
			f.partial = v.partial
			return f.next, append(f.lines[:0], *v.partial), nil, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, nil, nil, context.Cause(ctx)
		}
	}
}

// pieces are those at hand, few enough for one message.
func (f *follower) pieces() (from int64, lines []job.Line, err error) {
	f.lines = f.lines[:0]
	for len(f.lines) == 0 || f.cursor.ready() {
		kind, body, err := f.cursor.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, nil, fmt.Errorf("reading spool %s: %w", f.spool.path, err)
		}
		if kind != recordLines {
			continue
		}
		p, err := parsePiece(body)
		if err != nil {
			return 0, nil, err
		}
		behind := p.behind().first
		if behind <= f.next {
			continue // the server has it
		}
		if len(f.lines) == 0 {
			from = max(f.next, p.first)
		}
		f.lines = append(f.lines, p.From(max(0, f.next-p.first)))
		f.next = behind
	}
	return from, f.lines, nil
}
