package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"builder/pkg/store"
)

// eraseLine goes to the beginning of a terminal's line and empties it.
const eraseLine = "\r\033[K"

// progressLine is the last line of a terminal, which tells how far the verifying
// has come.
type progressLine struct {
	out      io.Writer
	begun    time.Time
	progress *store.Progress
	mu       sync.Mutex // one writes at a time
}

// show renews the line until ended is closed, and removes it then.
func (l *progressLine) show(ended <-chan struct{}) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			l.clear()
			return
		case <-tick.C:
			l.write(l.text(time.Since(l.begun)))
		}
	}
}

// clear removes the line.
func (l *progressLine) clear() { l.write("") }

func (l *progressLine) write(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprint(l.out, eraseLine, text) //nolint:errcheck // it is for people who look at it
}

// above prints other lines in place of this one, which comes again below them.
func (l *progressLine) above(print func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprint(l.out, eraseLine) //nolint:errcheck // as in write
	print()
}

// text tells what was read, of how much, and how fast.
func (l *progressLine) text(after time.Duration) string {
	done, total := l.progress.Done.Load(), l.progress.Total.Load()
	text := octets(done)
	if total > 0 {
		// A little more may be read than there was at first.
		text += fmt.Sprintf(" of %s, %d %%", octets(total), min(100, int(100*float64(done)/float64(total))))
	}
	return text + fmt.Sprintf(", %s/s", octets(int64(float64(done)/max(after.Seconds(), 0.001))))
}

// octets is a number of them for people, in units of 1024.
func octets(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/1024, 0
	for value >= 1024 && unit < 4 {
		value, unit = value/1024, unit+1
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGTP"[unit])
}
