package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"time"

	"builder/pkg/client"
	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/google/uuid"
	"golang.org/x/term"
)

// screen shows a build that is watched: its console, any octets as they are, on
// out; what is said about it on notes.
//
// A line that is still being printed is shown on a terminal only, by what is
// new of it: the octets that are there are never printed again.
type screen struct {
	out      *bufio.Writer
	notes    io.Writer
	terminal bool
	shown    []byte     // of the line that is being printed
	midLine  bool       // the cursor is not at the beginning of a line
	lost     bool       // the connection, and that was said
	build    uuid.UUID  // begun last
	ended    *job.Build // what became of it, nil while it runs
}

func newScreen(out, notes io.Writer) *screen {
	return &screen{out: bufio.NewWriterSize(out, 64<<10), notes: notes, terminal: isTerminal(out)}
}

// isTerminal reports whether people look at what is written there.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

func (s *screen) viewer() client.Viewer {
	return client.Viewer{Begin: s.begin, Line: s.line, Pause: s.out.Flush, End: s.end, Lost: s.lose}
}

func (s *screen) begin(b wire.BuildStatus) error {
	s.build, s.ended, s.lost = b.UUID, nil, false
	text := "build " + b.UUID.String()
	if b.Job != "" {
		text += " of job " + quoted(b.Job)
	}
	if b.Platform != "" {
		text += " on " + quoted(b.Platform)
	}
	if b.Worker != "" {
		text += ", worker " + quoted(b.Worker)
	}
	if b.Try > 1 {
		text += fmt.Sprintf(", try %d", b.Try)
	}
	if !b.Started.IsZero() {
		text += ", started " + clock(b.Started)
	}
	return s.note(text)
}

func (s *screen) line(l job.Line) error {
	s.lost = false
	partial := l.Flags&job.Partial != 0
	if partial && !s.terminal {
		return nil
	}
	text := l.Data
	if rest, ok := bytes.CutPrefix(text, s.shown); ok {
		text = rest
	} else if err := s.endLine(); err != nil { // what was shown was taken back
		return err
	}
	s.shown = s.shown[:0]
	if partial {
		s.shown = append(s.shown, l.Data...)
	}
	if len(text) > 0 {
		s.midLine = true
	}
	if _, err := s.out.Write(text); err != nil {
		return err
	}
	if l.Flags&(job.Partial|job.Unended) != 0 {
		return nil
	}
	s.midLine = false
	return s.out.WriteByte('\n')
}

// endLine brings a terminal's cursor to the beginning of a line.
func (s *screen) endLine() error {
	if !s.midLine || !s.terminal {
		return nil
	}
	s.midLine = false
	return s.out.WriteByte('\n')
}

func (s *screen) end(b job.Build, again bool) error {
	s.ended, s.lost = &b, false
	text := "result: " + harmless(b.Result.String())
	if took := b.Finished.Sub(b.Started); took > 0 {
		text += " after " + span(took)
	}
	if n := len(b.Artifacts); n > 0 {
		text += ", " + count(n, "artifact")
	}
	if b.Place.Kind != "" && b.Place.Kind != "none" { // of a plain process there is nothing to tell
		text += "\nplace: " + placeText(b.Place)
	}
	for _, note := range b.Notes {
		text += "\nnote: " + harmless(note)
	}
	if again {
		text += "\nit is tried again"
	}
	return s.note(text)
}

// placeText tells what a place was, and what it cost.
func placeText(p job.Place) string {
	text := harmless(p.Kind)
	if p.Origin != "" {
		text += " of " + harmless(p.Origin)
	}
	for _, phase := range p.Phases {
		text += ", " + harmless(phase.Name) + " " + span(phase.Took)
	}
	return text
}

// lose says that there is no connection, once until there is something to show.
func (s *screen) lose(err error, _ time.Duration) error {
	if s.lost {
		return nil
	}
	s.lost = true
	return s.note("connection lost, trying again: " + harmless(err.Error()))
}

// note says something about the build, behind what was printed until now.
func (s *screen) note(text string) error {
	if err := s.endLine(); err != nil {
		return err
	}
	s.shown = s.shown[:0]
	if err := s.out.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(s.notes, "%s\n", text)
	return err
}

// watching reports whether a build was begun that has not ended.
func (s *screen) watching() bool { return s.build != uuid.Nil && s.ended == nil }

// leave says what becomes of what is no longer watched.
func (s *screen) leave() error {
	if !s.watching() {
		return s.note("stopped watching; the run stays in its queue")
	}
	return s.note(fmt.Sprintf("stopped watching; the build goes on (builder-client observe %s)", s.build))
}
