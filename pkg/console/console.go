// Package console keeps one build's console on disk: one writer appends lines,
// any number of observers read them from the files, each at its own pace. It
// knows nothing of workers, connections or the wire protocol.
//
// The one invariant: what observers and readers are given is always a prefix of
// what was appended, line by line, with nothing lost, doubled or reordered.
//
// Two files lie in the build's directory:
//
//	console        the text as printed, for people to less and grep:
//	               the lines' octets, each with its newline, if it had one
//	console.index  one entry of 32 octets for each piece: a line, or several that
//	               were printed at the same time. Big-endian:
//
//	offset  octets  field
//	     0       8  end    offset in console behind the piece and its newline
//	     8       8  lines  number of lines up to here
//	    16       8  delta  nanoseconds since the build's start, signed, any value
//	    24       4  flags  1: no newline follows (see [job.Unended])
//	                       4: newlines in the piece end lines (see [job.Many])
//	    28       4  sum    CRC32C over: the previous entry's end and lines (8 octets
//	                       each, 0 for the first), this entry without its sum, the
//	                       piece's octets in console with their newline
//
// A line may hold any octets, newlines too: where it ends is said by the index,
// and by newlines only in a piece of several. The files are valid up to the last
// entry, counted from the start, whose end lies within console and whose sum is
// right, as are those of all entries before it. What lies behind is what a killed
// writer or a power cut left there: [Reopen] cuts it off. A [Reader] gives the
// valid lines and then, when anything lies behind them, a [*DamageError]. (Files
// that were both cut at the same entry look like a shorter console: the build's
// record keeps the number of lines.)
package console

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"builder/pkg/disk"
	"builder/pkg/job"
)

// The names of the two files in a build's directory.
const (
	TextFile  = "console"
	IndexFile = "console.index"
)

// MaxLine is the most octets that a line or piece holds, without its newline.
// [Writer.Append] splits longer ones.
const MaxLine = job.MaxLine

// Line is a line that a build printed, or several. Of its flags, all but Partial
// are stored; unknown bits are kept.
type Line = job.Line

// DamageError says that a console is not what was written from Offset of File on.
type DamageError struct {
	File   string
	Offset int64
	Reason string
}

// Error implements error.
func (e *DamageError) Error() string {
	return fmt.Sprintf("reading console: %s is damaged at offset %d: %s", e.File, e.Offset, e.Reason)
}

// files is the open pair. Reading by offset is safe for concurrent use.
type files struct {
	dir         string
	text, index disk.File
}

func openFiles(fsys disk.FS, dir string, flag int) (files, error) {
	text, err := fsys.OpenFile(filepath.Join(dir, TextFile), flag, 0o644)
	if err != nil {
		return files{}, err
	}
	index, err := fsys.OpenFile(filepath.Join(dir, IndexFile), flag, 0o644)
	if err != nil {
		text.Close()
		return files{}, err
	}
	return files{dir, text, index}, nil
}

func openForReading(fsys disk.FS, dir string) (files, error) {
	f, err := openFiles(fsys, dir, os.O_RDONLY)
	if err != nil {
		return files{}, fmt.Errorf("opening console: %w", err)
	}
	return f, nil
}

// sizes returns how many octets the files hold now.
func (f files) sizes() (text, index int64, err error) {
	textInfo, err := f.text.Stat()
	if err != nil {
		return 0, 0, err
	}
	indexInfo, err := f.index.Stat()
	if err != nil {
		return 0, 0, err
	}
	return textInfo.Size(), indexInfo.Size(), nil
}

// sync makes both files durable, at the same time.
func (f files) sync() error {
	index := make(chan error, 1)
	go func() { index <- f.index.Sync() }()
	text := f.text.Sync()
	return errors.Join(text, <-index)
}

func (f files) close() error {
	return errors.Join(f.text.Close(), f.index.Close())
}

func (f files) textDamage(offset int64, reason string) error {
	return &DamageError{filepath.Join(f.dir, TextFile), offset, reason}
}

func (f files) indexDamage(offset int64, reason string) error {
	return &DamageError{filepath.Join(f.dir, IndexFile), offset, reason}
}
