package console_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"builder/pkg/console"
	"builder/pkg/job"
)

// seed is printed by tests that draw numbers; CONSOLE_SEED repeats one.
func seed(t *testing.T) *rand.Rand {
	t.Helper()
	n, err := strconv.ParseUint(os.Getenv("CONSOLE_SEED"), 10, 64)
	if err != nil {
		n = rand.Uint64()
	}
	t.Logf("CONSOLE_SEED=%d", n)
	return rand.New(rand.NewPCG(n, 0))
}

// expect follows o to the end and checks that it gives the lines from to total,
// each once and in order.
func expect(ctx context.Context, o *console.Observer, from, total int64) error {
	next := min(from, total)
	for {
		lines, _, err := o.Next(ctx)
		if errors.Is(err, io.EOF) {
			if next != total {
				return fmt.Errorf("observer from %d ended at line %d of %d", from, next, total)
			}
			return nil
		}
		if err != nil {
			return err
		}
		octets := 0
		for _, line := range each(lines) {
			want := numbered(next)
			if line.Delta != want.Delta || !bytes.Equal(line.Data, want.Data) {
				return fmt.Errorf("observer from %d: line %d is %q", from, next, line.Data)
			}
			octets += len(line.Data)
			next++
		}
		if octets > 64<<10 {
			return fmt.Errorf("a batch of %d octets", octets)
		}
	}
}

// Observers begin before, while and after the console is written, at any line,
// and some give up: all others see every line once.
func TestManyObserversLoseAndDoubleNothing(t *testing.T) {
	random := seed(t)
	const total = 10_000
	w, _ := create(t)
	var group sync.WaitGroup
	observe := func() {
		from := random.Int64N(total)
		givesUp := random.IntN(4) == 0
		group.Go(func() {
			o := w.Observe(from)
			defer o.Close()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if givesUp {
				if _, _, err := o.Next(ctx); err != nil && !errors.Is(err, io.EOF) {
					t.Error(err)
				}
				return
			}
			if err := expect(ctx, o, from, total); err != nil {
				t.Error(err)
			}
		})
	}
	for range 5 {
		observe()
	}
	for n := int64(0); n < total; {
		for range min(random.Int64N(300)+1, total-n) {
			line := numbered(n)
			if random.IntN(2) == 0 {
				line = joined(n)
			}
			must(t, w.Append(line))
			if n += line.Count(); n == total {
				break
			}
		}
		must(t, w.Flush())
		if random.IntN(3) == 0 {
			observe()
		}
	}
	must(t, w.Close())
	for range 5 {
		observe()
	}
	group.Wait()
}

// A console that was reopened is observed from its first line.
func TestObserveAfterReopen(t *testing.T) {
	d := newDamaged(t)
	d.write(t, d.text[:len(d.text)-1], d.index)
	w, err := console.Reopen(d.fsys, ".")
	must(t, err)
	must(t, w.Append(d.pieces[len(d.pieces)-1]))
	must(t, w.Close())
	for from, want := 0, each(d.pieces); from <= len(want); from++ {
		o := w.Observe(int64(from))
		got, err := follow(t.Context(), o)
		must(t, err)
		if diff := difference(want[from:], got); diff != "" {
			t.Errorf("from line %d: %s", from, diff)
		}
		must(t, o.Close())
	}
}

func TestObserverWaitsForFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := create(t)
		var mu sync.Mutex
		var batches []int
		var ended error
		go func() {
			o := w.Observe(0)
			defer o.Close()
			for {
				lines, _, err := o.Next(t.Context())
				mu.Lock()
				if err != nil {
					ended = err
					mu.Unlock()
					return
				}
				batches = append(batches, len(lines))
				mu.Unlock()
			}
		}()
		expectBatches := func(want ...int) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if diff := cmp.Diff(want, batches); diff != "" {
				t.Error(diff)
			}
		}
		expectBatches()
		for n := range int64(10) {
			must(t, w.Append(numbered(n)))
		}
		expectBatches()
		must(t, w.Flush())
		expectBatches(10)
		must(t, w.Flush())
		expectBatches(10)
		w.SetPartial([]byte("not asked for"), 0)
		must(t, w.Flush())
		expectBatches(10)
		must(t, w.Append(numbered(10)))
		must(t, w.Close())
		expectBatches(10, 1)
		if !errors.Is(ended, io.EOF) {
			t.Errorf("ended with %v", ended)
		}
	})
}

func TestObserverStopsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := create(t)
		must(t, w.Append(numbered(0)))
		must(t, w.Flush())
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		o := w.Observe(1)
		defer o.Close()
		if _, _, err := o.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("while waiting: %v", err)
		}
		replay := w.Observe(0)
		defer replay.Close()
		if _, _, err := replay.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with lines to be had: %v", err)
		}
		// It can be asked again under another context, and has lost nothing.
		if lines, _, err := replay.Next(t.Context()); err != nil || len(lines) != 1 {
			t.Errorf("asked again: %d lines, %v", len(lines), err)
		}
		must(t, w.Close())
	})
}

func TestPartialLine(t *testing.T) {
	w, dir := create(t)
	o := w.Observe(0)
	defer o.Close()
	o.ShowPartial()
	type step struct{ Lines, Partial string }
	next := func() (got step) {
		t.Helper()
		lines, partial, err := o.Next(t.Context())
		must(t, err)
		for _, line := range lines {
			got.Lines += string(line.Data) + "|"
		}
		if partial != nil {
			got.Partial = fmt.Sprintf("%s at %d", partial.Data, partial.Delta)
		}
		return got
	}
	check := func(want step) {
		t.Helper()
		if diff := cmp.Diff(want, next()); diff != "" {
			t.Error(diff)
		}
	}
	data := []byte("10 %")
	w.SetPartial(data, 1)
	must(t, w.Flush())
	copy(data, "XXXX")
	check(step{Partial: "10 % at 1"})

	w.SetPartial([]byte("20 %"), 2)
	w.SetPartial([]byte("30 %"), 3)
	must(t, w.Flush())
	check(step{Partial: "30 % at 3"})

	must(t, w.Append(console.Line{Data: []byte("100 %")}))
	w.SetPartial([]byte("next"), 4)
	must(t, w.Flush())
	check(step{Lines: "100 %|", Partial: "next at 4"})

	w.SetPartial([]byte("never seen"), 5)
	must(t, w.Append(console.Line{Data: []byte("next one")}))
	must(t, w.Flush())
	check(step{Lines: "next one|"})

	late := w.Observe(0)
	defer late.Close()
	w.SetPartial(make([]byte, 2*console.MaxLine), 6)
	must(t, w.Flush())
	late.ShowPartial()
	lines, partial, err := late.Next(t.Context())
	must(t, err)
	if len(lines) != 2 || partial == nil || len(partial.Data) != console.MaxLine || partial.Flags != job.Partial {
		t.Fatalf("late observer: %d lines, partial %v", len(lines), partial != nil)
	}
	must(t, w.Append(console.Line{Flags: job.Partial, Data: []byte("flagged")}))
	must(t, w.Flush())
	if lines, _, err = o.Next(t.Context()); err != nil || len(lines) != 1 || lines[0].Flags != 0 {
		t.Errorf("a line flagged partial was stored as %v, %v", lines, err)
	}
	must(t, w.Close())
	if _, _, err := o.Next(t.Context()); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
	text, err := os.ReadFile(filepath.Join(dir, console.TextFile))
	must(t, err)
	if diff := cmp.Diff("100 %\nnext one\nflagged\n", string(text)); diff != "" {
		t.Errorf("the partial line got to the file: %s", diff)
	}
}

func TestObserverBehindTheEnd(t *testing.T) {
	w, _ := create(t)
	must(t, w.Append(numbered(0)))
	must(t, w.Close())
	for _, from := range []int64{1, 2, 1000} {
		o := w.Observe(from)
		if lines, _, err := o.Next(t.Context()); !errors.Is(err, io.EOF) {
			t.Errorf("from %d: %d lines, %v", from, len(lines), err)
		}
		must(t, o.Close())
	}
	o := w.Observe(-1)
	defer o.Close()
	if lines, _, err := o.Next(t.Context()); err != nil || len(lines) != 1 {
		t.Errorf("from -1: %d lines, %v", len(lines), err)
	}
}

// The directory was removed before the observer came to read.
func TestObserverReportsMissingFiles(t *testing.T) {
	w, dir := create(t)
	must(t, w.Append(numbered(0), numbered(1)))
	must(t, w.Close())
	must(t, os.Remove(filepath.Join(dir, console.TextFile)))
	o := w.Observe(0)
	defer o.Close()
	if _, _, err := o.Next(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error is %v", err)
	}
}
