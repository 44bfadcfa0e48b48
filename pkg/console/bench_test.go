package console_test

import (
	"bytes"
	"testing"

	"builder/pkg/console"
	"builder/pkg/disk"
)

const benchLines = 1_000_000

var benchLine = console.Line{Delta: 1, Data: bytes.Repeat([]byte{'x'}, 99)}

func TestAppendDoesNotAllocate(t *testing.T) {
	w, _ := create(t)
	for range 20_000 {
		must(t, w.Append(benchLine))
	}
	if got := testing.AllocsPerRun(20_000, func() { must(t, w.Append(benchLine)) }); got > 0 {
		t.Errorf("%v allocations per line", got)
	}
}

func fill(b *testing.B) (dir string) {
	w, dir := create(b)
	for range benchLines {
		if err := w.Append(benchLine); err != nil {
			b.Fatal(err)
		}
	}
	must(b, w.Close())
	return dir
}

func BenchmarkAppendMillionLines(b *testing.B) {
	b.SetBytes(benchLines * 100)
	for b.Loop() {
		fill(b)
	}
}

func BenchmarkReopenMillionLines(b *testing.B) {
	dir := fill(b)
	b.SetBytes(benchLines * 100)
	for b.Loop() {
		w, err := console.Reopen(disk.OS{}, dir)
		must(b, err)
		must(b, w.Close())
	}
}

func BenchmarkObserveMillionLines(b *testing.B) {
	dir := fill(b)
	w, err := console.Reopen(disk.OS{}, dir)
	must(b, err)
	must(b, w.Close())
	b.SetBytes(benchLines * 100)
	b.ReportAllocs()
	for b.Loop() {
		o := w.Observe(0)
		count := 0
		for {
			lines, _, err := o.Next(b.Context())
			if err != nil {
				break
			}
			count += len(lines)
		}
		must(b, o.Close())
		if count != benchLines {
			b.Fatalf("%d lines", count)
		}
	}
}

func BenchmarkReadMillionLines(b *testing.B) {
	r, err := console.Open(disk.OS{}, fill(b))
	must(b, err)
	defer r.Close()
	b.Run("backward", func(b *testing.B) {
		b.SetBytes(benchLines * 100)
		b.ReportAllocs()
		for b.Loop() {
			for _, err := range r.Backward() {
				if err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}
