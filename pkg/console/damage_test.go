package console_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"builder/pkg/console"
	"builder/pkg/disk"
	"builder/pkg/disk/disktest"
	"builder/pkg/job"
)

const entrySize = 32

// damaged is a console that gets damaged in a new way for each case. It lies in
// memory: there are thousands of cases, and Reopen syncs.
type damaged struct {
	fsys        disk.FS
	pieces      []console.Line
	ends        []int // of each piece in the text
	text, index []byte

	entries int // whole ones, in the index that was written last
}

func newDamaged(t *testing.T) *damaged {
	d := &damaged{pieces: oddPieces()}
	dir := written(t, d.pieces)
	end := 0
	for _, line := range d.pieces {
		end += len(line.Data)
		if line.Flags&job.Unended == 0 {
			end++
		}
		d.ends = append(d.ends, end)
	}
	var err error
	d.text, err = os.ReadFile(filepath.Join(dir, console.TextFile))
	must(t, err)
	d.index, err = os.ReadFile(filepath.Join(dir, console.IndexFile))
	must(t, err)
	return d
}

func (d *damaged) write(t *testing.T, text, index []byte) {
	t.Helper()
	d.fsys, d.entries = disktest.New(1), len(index)/entrySize
	for name, data := range map[string][]byte{console.TextFile: text, console.IndexFile: index} {
		f, err := d.fsys.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o644)
		must(t, err)
		_, err = f.Write(data)
		must(t, err)
		must(t, f.Close())
	}
}

// check compares what readers and Reopen make of the files with the rule: prefix
// pieces are valid, and sound says that nothing lies behind them.
func (d *damaged) check(t *testing.T, prefix int, sound bool) {
	t.Helper()
	want := each(d.pieces[:prefix])

	r, err := console.Open(d.fsys, ".")
	must(t, err)
	got, err := collect(r.Forward(0))
	if diff := difference(want, got); diff != "" {
		t.Errorf("forward: %s", diff)
	}
	checkDamage(t, sound, err)
	got, err = collect(r.Backward())
	// Newest first: what comes before the error is right, however little it is.
	whole := each(d.pieces[:d.entries])
	if len(got) > len(whole) {
		t.Errorf("backward gave %d lines of %d", len(got), len(whole))
	} else if diff := difference(reversed(whole[len(whole)-len(got):]), got); diff != "" {
		t.Errorf("backward: %s", diff)
	}
	checkDamage(t, sound, err)
	must(t, r.Close())

	w, err := console.Reopen(d.fsys, ".")
	must(t, err)
	if w.Lines() != int64(len(want)) {
		t.Errorf("reopened with %d lines, want %d", w.Lines(), len(want))
	}
	more := console.Line{Delta: 1, Data: []byte("appended after the damage")}
	must(t, w.Append(more))
	must(t, w.Close())
	got, err = readFrom(t, d.fsys, ".")
	must(t, err)
	if diff := difference(append(want, more), got); diff != "" {
		t.Errorf("after reopening: %s", diff)
	}
}

func checkDamage(t *testing.T, sound bool, err error) {
	t.Helper()
	if sound {
		must(t, err)
		return
	}
	var damage *console.DamageError
	if !errors.As(err, &damage) {
		t.Fatalf("error is %v, want a DamageError", err)
	}
	if damage.File != console.TextFile && damage.File != console.IndexFile {
		t.Errorf("the damaged file is %s", damage.File)
	}
	if where := fmt.Sprintf("%s is damaged at offset %d", damage.File, damage.Offset); !strings.Contains(err.Error(), where) {
		t.Errorf("error %q does not say that %s", err, where)
	}
}

// piecesWithin is how many pieces end within a text of the given size.
func (d *damaged) piecesWithin(size int) (n int) {
	for n < len(d.ends) && d.ends[n] <= size {
		n++
	}
	return n
}

func TestEveryTruncation(t *testing.T) {
	d := newDamaged(t)
	for size := range len(d.text) {
		t.Run(fmt.Sprintf("text %d", size), func(t *testing.T) {
			d.write(t, d.text[:size], d.index)
			d.check(t, d.piecesWithin(size), false)
		})
	}
	for size := range len(d.index) {
		t.Run(fmt.Sprintf("index %d", size), func(t *testing.T) {
			d.write(t, d.text, d.index[:size])
			d.check(t, size/entrySize, false)
		})
	}
	for n := range len(d.pieces) + 1 {
		t.Run(fmt.Sprintf("both behind piece %d", n), func(t *testing.T) {
			end := 0
			if n > 0 {
				end = d.ends[n-1]
			}
			d.write(t, d.text[:end], d.index[:entrySize*n])
			d.check(t, n, true)
		})
	}
}

func TestEverySingleBitFlip(t *testing.T) {
	d := newDamaged(t)
	flipped := func(b []byte, bit int) []byte {
		b = append([]byte(nil), b...)
		b[bit/8] ^= 1 << (bit % 8)
		return b
	}
	for bit := range 8 * len(d.text) {
		t.Run(fmt.Sprintf("text bit %d", bit), func(t *testing.T) {
			d.write(t, flipped(d.text, bit), d.index)
			d.check(t, d.piecesWithin(bit/8), false)
		})
	}
	for bit := range 8 * len(d.index) {
		t.Run(fmt.Sprintf("index bit %d", bit), func(t *testing.T) {
			d.write(t, d.text, flipped(d.index, bit))
			d.check(t, bit/8/entrySize, false)
		})
	}
}

// What a power cut leaves on some file systems: the length without the data.
func TestZerosBehindTheEnd(t *testing.T) {
	d := newDamaged(t)
	for _, n := range []int{1, 31, 32, 33, 640} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			d.write(t, append(append([]byte(nil), d.text...), make([]byte, n)...), append(append([]byte(nil), d.index...), make([]byte, n)...))
			w, err := console.Reopen(d.fsys, ".")
			must(t, err)
			must(t, w.Close())
			got, err := readFrom(t, d.fsys, ".")
			must(t, err)
			if diff := difference(each(d.pieces), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestReopenWithMissingFiles(t *testing.T) {
	for _, missing := range [][]string{{console.TextFile}, {console.IndexFile}, {console.TextFile, console.IndexFile}} {
		t.Run(strings.Join(missing, " and "), func(t *testing.T) {
			dir := written(t, oddLines())
			for _, name := range missing {
				must(t, os.Remove(filepath.Join(dir, name)))
			}
			w, err := console.Reopen(disk.OS{}, dir)
			must(t, err)
			must(t, w.Append(oddLines()...))
			must(t, w.Close())
			got, err := read(t, dir)
			must(t, err)
			if diff := difference(oddLines(), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
