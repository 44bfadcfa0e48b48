package sandbox

import (
	"bytes"
	"errors"
	"sync"
	"time"
)

const (
	// MaxLine is the longest line, in octets, that stays in one piece.
	MaxLine = 64 << 10
	// PartialDelay is how long a line may be incomplete before it is shown so.
	PartialDelay = 200 * time.Millisecond
)

// LineKind says what a piece of the console is.
type LineKind uint8

const (
	// Whole is a line, or the last piece of a continued one, that a newline ended.
	Whole LineKind = iota
	// Continued is the next MaxLine octets of a line that is longer.
	Continued
	// Partial is what there is of a line so far. All of it comes again, in a
	// longer Partial or in one of the other kinds.
	Partial
	// Last is what stood behind the last newline when the console ended.
	Last
	// Many is several whole lines, with newlines between them: what came in one
	// write, at most MaxLine octets of it.
	Many
)

// LineFunc gets a piece of the console, without its newline, with the time since
// the start. The octets may be any, and are the callee's only until it returns.
// An error ends the splitting.
type LineFunc func(text []byte, since time.Duration, kind LineKind) error

// Lines is a writer that splits a console into lines. Only '\n' ends a line. But
// for Partial ones, the pieces do not depend on how the octets were cut into
// writes: they are the console, if those that are Whole or Many get back their
// newline.
type Lines struct {
	start time.Time
	each  LineFunc

	mu      sync.Mutex
	pending []byte // of the line that is not complete, at most MaxLine octets
	shown   int    // how much of pending was shown as Partial
	due     time.Time
	timer   *time.Timer // nil until first needed
	armed   bool
	err     error // what each returned
}

var errLinesClosed = errors.New("writing to a console that was closed")

// NewLines returns a Lines that calls each for every piece, one call at a time,
// from Write, from Close, and for Partial pieces from a goroutine of its own.
// Times are counted from start. The caller closes it.
func NewLines(start time.Time, each LineFunc) *Lines {
	return &Lines{start: start, each: each}
}

// Write implements [io.Writer]. It returns the error of the LineFunc, for ever
// after the first.
func (l *Lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for rest := p; len(rest) > 0; {
		if len(l.pending) == 0 { // nearly always: no octet is copied
			rest = rest[l.emitWhole(rest, now):]
		}
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			l.extend(rest, now)
			break
		}
		l.extend(rest[:end], now)
		l.emitPending(Whole, now)
		rest = rest[end+1:]
	}
	if l.err != nil {
		return 0, l.err
	}
	l.arm(now)
	return len(p), nil
}

// Close shows what is left as Last. It returns the error of the LineFunc, also
// of calls before.
func (l *Lines) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer != nil {
		l.timer.Stop()
	}
	if len(l.pending) > 0 {
		l.emitPending(Last, time.Now())
	}
	err := l.err
	l.err = errLinesClosed // a timer that fires right now finds this
	if errors.Is(err, errLinesClosed) {
		return nil
	}
	return err
}

// extend adds octets to the incomplete line.
func (l *Lines) extend(p []byte, now time.Time) {
	for len(p) > 0 {
		switch len(l.pending) {
		case 0:
			l.due = now.Add(PartialDelay)
		case MaxLine: // and there is more of it
			l.emitPending(Continued, now)
			continue
		}
		n := min(MaxLine-len(l.pending), len(p))
		l.pending = append(l.pending, p[:n]...)
		p = p[n:]
	}
}

// emitWhole emits the whole lines at the beginning of p, as many as fit in one
// piece, and returns how many octets they were.
func (l *Lines) emitWhole(p []byte, now time.Time) int {
	end := bytes.LastIndexByte(p[:min(len(p), MaxLine+1)], '\n')
	switch {
	case end < 0:
		return 0
	case bytes.IndexByte(p[:end], '\n') < 0:
		l.emit(p[:end], Whole, now)
	default:
		l.emit(p[:end], Many, now)
	}
	return end + 1
}

func (l *Lines) emitPending(kind LineKind, now time.Time) {
	l.emit(l.pending, kind, now)
	l.pending, l.shown = l.pending[:0], 0
}

func (l *Lines) emit(text []byte, kind LineKind, now time.Time) {
	if l.err == nil {
		l.err = l.each(text, now.Sub(l.start), kind)
	}
}

// arm sees to it that what has not been shown is shown when it is due. The timer
// is left alone while it runs, so that it costs nothing per write.
func (l *Lines) arm(now time.Time) {
	if l.armed || len(l.pending) == l.shown {
		return
	}
	l.armed = true
	if l.timer == nil {
		l.timer = time.AfterFunc(l.due.Sub(now), l.showPartial)
	} else {
		l.timer.Reset(l.due.Sub(now))
	}
}

// showPartial is called by the timer.
func (l *Lines) showPartial() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.armed = false
	if l.err != nil || len(l.pending) == l.shown {
		return
	}
	now := time.Now()
	if now.Before(l.due) { // another line than the one the timer was armed for
		l.arm(now)
		return
	}
	l.emit(l.pending, Partial, now)
	l.shown = len(l.pending)
	l.due = now.Add(PartialDelay)
}
