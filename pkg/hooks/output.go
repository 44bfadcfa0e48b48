package hooks

import (
	"bytes"

	"builder/pkg/job"

	"github.com/rs/zerolog"
)

// What a hook may say in the log.
const (
	maxLine  = 1 << 10 // octets
	maxLines = 1000
)

// output logs what a hook prints, line by line.
type output struct {
	log   zerolog.Logger
	line  []byte
	last  string
	lines int
}

// Write implements io.Writer. It never fails: a hook is not to die of its output.
func (o *output) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		at := bytes.IndexByte(p, '\n')
		part, rest := p, []byte(nil)
		if at >= 0 {
			part, rest = p[:at], p[at+1:]
		}
		room := min(len(part), maxLine-len(o.line))
		o.line = append(o.line, part[:room]...)
		if at >= 0 {
			o.flush()
		}
		p = rest
	}
	return n, nil
}

// end logs a last line that has no end.
func (o *output) end() {
	if len(o.line) > 0 {
		o.flush()
	}
	if o.lines > maxLines {
		o.log.Warn().Int("lines", o.lines-maxLines).Msg("the hook printed more than is logged")
	}
}

func (o *output) flush() {
	text := job.Printable(string(o.line))
	o.line = o.line[:0]
	if text == "" {
		return
	}
	o.last = text
	if o.lines++; o.lines <= maxLines {
		o.log.Info().Str("line", text).Msg("hook printed")
	}
}

// said is the last line, for who is told of a failure.
func (o *output) said() string {
	if o.last == "" {
		return ""
	}
	return ": " + o.last
}
