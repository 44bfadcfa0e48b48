package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// progress is the line on a terminal that says how far a transfer has come. On
// anything else it shows nothing.
type progress struct {
	out   io.Writer
	file  *os.File // out, if it is a terminal
	name  string   // of what is being transferred
	total int64    // octets of all
	have  int64    // that are here,
	moved int64    // of these from now

	began time.Time
	drawn time.Time // when the line was
	shown bool      // the line is there
	said  bool      // that the connection was lost
	rate  float64   // octets in a second, lately
	since time.Time // when rate was found
	then  int64     // moved at that time
}

func newProgress(out io.Writer, total int64) *progress {
	p := &progress{out: out, total: total, began: time.Now()}
	p.since = p.began
	if isTerminal(out) {
		p.file, _ = out.(*os.File)
	}
	return p
}

// begin names what comes next.
func (p *progress) begin(name string) { p.name = name }

// leaveOut takes what will not come out of the total.
func (p *progress) leaveOut(size int64) { p.total -= size }

// redrawTime is how often the line is drawn at the most.
const redrawTime = 100 * time.Millisecond

// add counts octets that have come.
func (p *progress) add(n int64) {
	p.moved += n
	p.said = false
	p.found(n)
}

// found counts octets that are there, from an earlier time, or are not any more.
func (p *progress) found(n int64) {
	p.have += n
	if now := time.Now(); p.file != nil && now.Sub(p.drawn) >= redrawTime {
		p.drawn = now
		p.draw(now)
	}
}

// rateTime is the time over which the rate is found.
const rateTime = time.Second

// draw writes the line anew.
func (p *progress) draw(now time.Time) {
	if d := now.Sub(p.since); d >= rateTime {
		lately := float64(p.moved-p.then) / d.Seconds()
		if p.rate == 0 {
			p.rate = lately
		}
		p.rate, p.since, p.then = (2*p.rate+lately)/3, now, p.moved
	}
	width, _, err := term.GetSize(int(p.file.Fd()))
	if err != nil || width <= 0 {
		width = 80
	}
	p.shown = true
	fmt.Fprintf(p.out, "\r%s\x1b[K", cutTo(p.line(), width-1))
}

// line is how far it has come: octets, rate, time left, and of what.
func (p *progress) line() string {
	percent := int64(100)
	if p.total > 0 {
		percent = min(100, int64(float64(p.have)/float64(p.total)*100))
	}
	text := fmt.Sprintf("%3d %%  %s of %s", percent, octets(p.have), octets(p.total))
	if p.rate > 0 {
		left := time.Duration(float64(max(0, p.total-p.have)) / p.rate * float64(time.Second))
		text += fmt.Sprintf("  %s/s  %s left", octets(int64(p.rate)), span(max(left, time.Second).Round(time.Second)))
	}
	return text + "  " + p.name
}

// print writes a line of text in place of the progress.
func (p *progress) print(out io.Writer, text string) error {
	p.clear()
	_, err := fmt.Fprintln(out, text)
	return err
}

// lost says that there is no connection, once until something comes.
func (p *progress) lost(err error, _ time.Duration) error {
	if p.said {
		return nil
	}
	p.said = true
	return p.print(p.out, "connection lost, trying again: "+harmless(err.Error()))
}

// clear takes the line away.
func (p *progress) clear() {
	if p.shown {
		p.shown = false
		fmt.Fprint(p.out, "\r\x1b[K") //nolint:errcheck // nobody looks at that terminal any more
	}
}

// octets is a size for people, in about three digits.
func octets(n int64) string {
	size, unit := float64(n), 0
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	for size >= 1000 && unit < len(units)-1 {
		size /= 1024
		unit++
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", size, units[unit])
}

// cutTo cuts a text to a number of columns, one for each rune.
func cutTo(text string, columns int) string {
	runes := []rune(text)
	if len(runes) <= columns {
		return text
	}
	return strings.TrimRight(string(runes[:max(0, columns)]), " ")
}
