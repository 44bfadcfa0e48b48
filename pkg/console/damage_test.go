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

// damaged is a console that gets damaged in a new way for each case. It lies in
// memory: there are thousands of cases, and Reopen syncs.
type damaged struct {
	fsys        disk.FS
	lines       []console.Line
	ends        []int // of each line in the text
	text, index []byte
}

func newDamaged(t *testing.T) *damaged {
	d := &damaged{lines: oddLines()}
	dir := written(t, d.lines)
	end := 0
	for _, line := range d.lines {
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
	d.fsys = disktest.New(1)
	for name, data := range map[string][]byte{console.TextFile: text, console.IndexFile: index} {
		f, err := d.fsys.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o644)
		must(t, err)
		_, err = f.Write(data)
		must(t, err)
		must(t, f.Close())
	}
}

// check compares what readers and Reopen make of the files with the rule: prefix
// lines are valid, and sound says that nothing lies behind them.
func (d *damaged) check(t *testing.T, prefix int, sound bool) {
	t.Helper()
	want := append([]console.Line(nil), d.lines[:prefix]...)

	r, err := console.Open(d.fsys, ".")
	must(t, err)
	got, err := collect(r.Forward(0))
	if diff := difference(want, got); diff != "" {
		t.Errorf("forward: %s", diff)
	}
	checkDamage(t, sound, err)
	got, err = collect(r.Backward())
	// Newest first: what comes before the error is right, however little it is.
	if count := int(r.Count()); len(got) > count {
		t.Errorf("backward gave %d lines of %d", len(got), count)
	} else if diff := difference(reversed(d.lines[count-len(got):count]), got); diff != "" {
		t.Errorf("backward: %s", diff)
	}
	checkDamage(t, sound, err)
	must(t, r.Close())

	w, err := console.Reopen(d.fsys, ".")
	must(t, err)
	if w.Lines() != int64(prefix) {
		t.Errorf("reopened with %d lines, want %d", w.Lines(), prefix)
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

// linesWithin is how many lines end within a text of the given size.
func (d *damaged) linesWithin(size int) (n int) {
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
			d.check(t, d.linesWithin(size), false)
		})
	}
	for size := range len(d.index) {
		t.Run(fmt.Sprintf("index %d", size), func(t *testing.T) {
			d.write(t, d.text, d.index[:size])
			d.check(t, size/24, false)
		})
	}
	for n := range len(d.lines) + 1 {
		t.Run(fmt.Sprintf("both behind line %d", n), func(t *testing.T) {
			end := 0
			if n > 0 {
				end = d.ends[n-1]
			}
			d.write(t, d.text[:end], d.index[:24*n])
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
			d.check(t, d.linesWithin(bit/8), false)
		})
	}
	for bit := range 8 * len(d.index) {
		t.Run(fmt.Sprintf("index bit %d", bit), func(t *testing.T) {
			d.write(t, d.text, flipped(d.index, bit))
			d.check(t, bit/8/24, false)
		})
	}
}

// What a power cut leaves on some file systems: the length without the data.
func TestZerosBehindTheEnd(t *testing.T) {
	d := newDamaged(t)
	for _, n := range []int{1, 23, 24, 25, 480} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			d.write(t, append(append([]byte(nil), d.text...), make([]byte, n)...), append(append([]byte(nil), d.index...), make([]byte, n)...))
			w, err := console.Reopen(d.fsys, ".")
			must(t, err)
			must(t, w.Close())
			got, err := readFrom(t, d.fsys, ".")
			must(t, err)
			if diff := difference(d.lines, got); diff != "" {
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

// Extents and the lines are used together: to size an encoding, then to write it.
func TestExtentsRefuseWhatCanNotBe(t *testing.T) {
	d := newDamaged(t)
	cases := map[string]struct{ text, index []byte }{
		"text cut":  {d.text[:len(d.text)-1], d.index},
		"text more": {append(append([]byte(nil), d.text...), 'x'), d.index},
		"index cut": {d.text, d.index[:len(d.index)-1]},
		"ends swapped": {d.text, append(append(append([]byte(nil), d.index[24:48]...), d.index[:24]...),
			d.index[48:]...)},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			d.write(t, c.text, c.index)
			r, err := console.Open(d.fsys, ".")
			must(t, err)
			defer r.Close()
			var last error
			for _, err := range r.Extents() {
				last = err
			}
			checkDamage(t, false, last)
		})
	}
}
