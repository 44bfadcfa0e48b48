package console_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"builder/pkg/console"
	"builder/pkg/disk"
	"builder/pkg/job"
)

// difference is cmp.Diff, which looks at every octet and is slow where it matters
// here: when there is no difference.
func difference(want, got []console.Line) string {
	same := func(a, b console.Line) bool {
		return a.Delta == b.Delta && a.Flags == b.Flags && bytes.Equal(a.Data, b.Data)
	}
	if slices.EqualFunc(want, got, same) {
		return ""
	}
	return "-want +got\n" + cmp.Diff(want, got)
}

// oddLines are the lines of oddPieces, one by one.
func oddLines() []console.Line { return each(oddPieces()) }

// each takes apart what is several lines in one.
func each(pieces []console.Line) (lines []console.Line) {
	for _, piece := range pieces {
		lines = slices.AppendSeq(lines, piece.Each())
	}
	return lines
}

// oddPieces are a line of every kind.
func oddPieces() []console.Line {
	return []console.Line{
		{Delta: 0, Data: []byte("hello")},
		{Delta: -5, Data: []byte{}},
		{Delta: math.MinInt64, Data: []byte("before\nand after a newline")},
		{Delta: math.MaxInt64, Data: []byte{0, 0xff, '\r', '\n', '\n'}},
		{Delta: 7, Flags: job.Unended, Data: []byte("first half, ")},
		{Delta: 7, Data: []byte("second half")},
		{Delta: 8, Flags: job.Many, Data: []byte("one\ntwo\n\nfour")},
		{Delta: 8, Flags: job.Many, Data: []byte("alone")},
		{Delta: 3, Flags: job.Unended, Data: []byte{}},
		{Delta: 9, Flags: job.Many | job.Unended, Data: []byte("\nno end")},
	}
}

// numbered is line number n of a console that is made up for a test. Ten lines
// are printed at the same time.
func numbered(n int64) console.Line {
	data := fmt.Appendf(nil, "line %d %s", n, strings.Repeat("x", int(n*7919%173)))
	return console.Line{Delta: time.Duration(n / 10 * 1000), Data: data}
}

// joined is the lines from n on to the last that was printed at the same time.
func joined(n int64) console.Line {
	line := numbered(n)
	line.Flags = job.Many
	for n++; n%10 != 0; n++ {
		line.Data = append(append(line.Data, '\n'), numbered(n).Data...)
	}
	return line
}

func create(t testing.TB) (*console.Writer, string) {
	t.Helper()
	dir := t.TempDir()
	w, err := console.Create(disk.OS{}, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w, dir
}

// written makes a console of the given lines, closed.
func written(t testing.TB, lines []console.Line) (dir string) {
	t.Helper()
	w, dir := create(t)
	must(t, w.Append(lines...))
	must(t, w.Close())
	return dir
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func clone(l console.Line) console.Line {
	l.Data = append([]byte{}, l.Data...)
	return l
}

func collect(seq iter.Seq2[console.Line, error]) (lines []console.Line, err error) {
	for line, err := range seq {
		if err != nil {
			return lines, err
		}
		lines = slices.AppendSeq(lines, clone(line).Each())
	}
	return lines, nil
}

// read returns the lines that a Reader gives, and its error.
func read(t testing.TB, dir string) ([]console.Line, error) {
	t.Helper()
	return readFrom(t, disk.OS{}, dir)
}

func readFrom(t testing.TB, fsys disk.FS, dir string) ([]console.Line, error) {
	t.Helper()
	r, err := console.Open(fsys, dir)
	must(t, err)
	defer r.Close()
	return collect(r.Forward(0))
}

// follow reads an observer to its end.
func follow(ctx context.Context, o *console.Observer) (lines []console.Line, err error) {
	for {
		batch, _, err := o.Next(ctx)
		if errors.Is(err, io.EOF) {
			return lines, nil
		}
		if err != nil {
			return lines, err
		}
		for _, line := range batch {
			lines = slices.AppendSeq(lines, clone(line).Each())
		}
	}
}

func TestTextIsWhatWasPrinted(t *testing.T) {
	dir := written(t, oddPieces())
	got, err := os.ReadFile(filepath.Join(dir, console.TextFile))
	must(t, err)
	want := "hello\n\nbefore\nand after a newline\n\x00\xff\r\n\n\nfirst half, second half\none\ntwo\n\nfour\nalone\n\nno end"
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
	index, err := os.Stat(filepath.Join(dir, console.IndexFile))
	must(t, err)
	if want := int64(32 * len(oddPieces())); index.Size() != want {
		t.Errorf("index has %d octets, want %d", index.Size(), want)
	}
}

// The format is on people's disks: it does not change by accident.
func TestIndexOctets(t *testing.T) {
	dir := written(t, []console.Line{{Delta: 1, Data: []byte("a")}, {Delta: -2, Flags: job.Many | job.Unended, Data: []byte("b\ncd")}})
	got, err := os.ReadFile(filepath.Join(dir, console.IndexFile))
	must(t, err)
	want := "" +
		"0000000000000002" + "0000000000000001" + "0000000000000001" + "00000000" + "71102b8a" +
		"0000000000000006" + "0000000000000003" + "fffffffffffffffe" + "00000005" + "e39ad40c"
	if diff := cmp.Diff(want, fmt.Sprintf("%x", got)); diff != "" {
		t.Error(diff)
	}
}

func TestReaderGivesBackWhatWasAppended(t *testing.T) {
	dir := written(t, oddPieces())
	r, err := console.Open(disk.OS{}, dir)
	must(t, err)
	defer r.Close()
	if got, want := r.Count(), int64(len(oddLines())); got != want {
		t.Errorf("count is %d, want %d", got, want)
	}
	for from := range len(oddLines()) + 2 {
		got, err := collect(r.Forward(int64(from)))
		must(t, err)
		var want []console.Line
		if from < len(oddLines()) {
			want = oddLines()[from:]
		}
		if diff := difference(want, got); diff != "" {
			t.Errorf("forward from %d: %s", from, diff)
		}
	}
	got, err := collect(r.Backward())
	must(t, err)
	if diff := difference(reversed(oddLines()), got); diff != "" {
		t.Errorf("backward: %s", diff)
	}
}

func reversed(lines []console.Line) []console.Line {
	var out []console.Line
	for i := len(lines) - 1; i >= 0; i-- {
		out = append(out, lines[i])
	}
	return out
}

// Many batches, of both kinds: limited by the lines and limited by the octets.
func TestReaderOverManyBatches(t *testing.T) {
	var want []console.Line
	for n := range int64(3000) {
		line := numbered(n)
		if n > 2000 && n%3 == 0 {
			line.Data = bytes.Repeat([]byte{byte(n)}, int(n*7919%console.MaxLine))
		}
		if n > 1500 && n < 1800 {
			line = console.Line{Data: []byte{}}
		}
		if n > 600 && n < 900 {
			line.Flags, line.Data = job.Many, bytes.Repeat([]byte("some lines in one\n"), int(n*7919%100))
		}
		if n%500 == 0 {
			line.Data = bytes.Repeat([]byte{'L'}, console.MaxLine)
		}
		want = append(want, line)
	}
	r, err := console.Open(disk.OS{}, written(t, want))
	must(t, err)
	defer r.Close()
	forward, err := collect(r.Forward(0))
	must(t, err)
	if diff := difference(each(want), forward); diff != "" {
		t.Errorf("forward: %s", diff)
	}
	backward, err := collect(r.Backward())
	must(t, err)
	if diff := difference(reversed(each(want)), backward); diff != "" {
		t.Errorf("backward: %s", diff)
	}
	for range r.Forward(0) {
		break // leaving an iteration early is allowed
	}
}

func TestLongLineIsSplit(t *testing.T) {
	for _, extra := range []int{-1, 0, 1, console.MaxLine, console.MaxLine + 1} {
		t.Run(fmt.Sprint(extra), func(t *testing.T) {
			long := make([]byte, console.MaxLine+extra)
			for i := range long {
				long[i] = byte(rand.Uint32()) //nolint:gosec // content does not matter
			}
			lines, err := read(t, written(t, []console.Line{{Delta: 4, Data: long}, {Data: []byte("next")}}))
			must(t, err)
			var got []byte
			for i, line := range lines[:len(lines)-1] {
				last := i == len(lines)-2
				if (line.Flags&job.Unended == 0) != last || len(line.Data) > console.MaxLine || line.Delta != 4 {
					t.Errorf("piece %d: flags %d, %d octets, delta %d", i, line.Flags, len(line.Data), line.Delta)
				}
				got = append(got, line.Data...)
			}
			if !bytes.Equal(got, long) {
				t.Error("the pieces are not the line")
			}
			if want := (len(long) + console.MaxLine - 1) / console.MaxLine; len(lines)-1 != want {
				t.Errorf("%d pieces, want %d", len(lines)-1, want)
			}
		})
	}
}

// Many lines that are more than MaxLine together are cut where a line ends.
func TestManyLinesAreSplit(t *testing.T) {
	for name, text := range map[string]string{
		"short lines":              strings.Repeat(strings.Repeat("x", 99)+"\n", 3000),
		"one of MaxLine":           "a\n" + strings.Repeat("x", console.MaxLine) + "\nb",
		"a newline behind MaxLine": strings.Repeat("x", console.MaxLine) + "\n",
		"a long one":               "a\n" + strings.Repeat("x", console.MaxLine+1) + "\nb",
	} {
		t.Run(name, func(t *testing.T) {
			dir := written(t, []console.Line{{Delta: 4, Flags: job.Many, Data: []byte(text)}})
			got, err := os.ReadFile(filepath.Join(dir, console.TextFile))
			must(t, err)
			if string(got) != text+"\n" {
				t.Error("the text is another one")
			}
			lines, err := read(t, dir)
			must(t, err)
			var want []string
			for line := range strings.SplitSeq(text, "\n") {
				for len(line) > console.MaxLine {
					want = append(want, line[:console.MaxLine])
					line = line[console.MaxLine:]
				}
				want = append(want, line)
			}
			var printed []string
			for _, line := range lines {
				printed = append(printed, string(line.Data))
			}
			if !slices.Equal(want, printed) {
				t.Errorf("%d lines, want %d", len(printed), len(want))
			}
		})
	}
}

func TestEmptyConsole(t *testing.T) {
	r, err := console.Open(disk.OS{}, written(t, nil))
	must(t, err)
	defer r.Close()
	for name, seq := range map[string]iter.Seq2[console.Line, error]{"forward": r.Forward(0), "backward": r.Backward()} {
		if lines, err := collect(seq); len(lines) != 0 || err != nil {
			t.Errorf("%s: %v, %v", name, lines, err)
		}
	}
}

func TestCreateAndOpenRefuse(t *testing.T) {
	dir := written(t, oddLines())
	if _, err := console.Create(disk.OS{}, dir); !errors.Is(err, fs.ErrExist) {
		t.Errorf("creating twice: %v", err)
	}
	if got, err := read(t, dir); err != nil || len(got) != len(oddLines()) {
		t.Errorf("after creating twice: %d lines, %v", len(got), err)
	}
	must(t, os.Remove(filepath.Join(dir, console.IndexFile)))
	if _, err := console.Open(disk.OS{}, dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opening without index: %v", err)
	}
	if _, err := console.Open(disk.OS{}, t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opening nothing: %v", err)
	}
}

func TestClosedWriterRefuses(t *testing.T) {
	w, _ := create(t)
	must(t, w.Close())
	must(t, w.Close())
	for name, err := range map[string]error{"append": w.Append(oddLines()...), "flush": w.Flush(), "sync": w.Sync()} {
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s after close: %v", name, err)
		}
	}
}

func TestCountsAreOfWhatWasFlushed(t *testing.T) {
	w, dir := create(t)
	must(t, w.Append(oddLines()...))
	if w.Lines() != 0 || w.Size() != 0 {
		t.Errorf("before the flush: %d lines, %d octets", w.Lines(), w.Size())
	}
	must(t, w.Sync())
	text, err := os.Stat(filepath.Join(dir, console.TextFile))
	must(t, err)
	if w.Lines() != int64(len(oddLines())) || w.Size() != text.Size() {
		t.Errorf("after the flush: %d lines, %d octets; want %d, %d", w.Lines(), w.Size(), len(oddLines()), text.Size())
	}
}
