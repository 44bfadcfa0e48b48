package journal_test

import (
	"os"
	"path/filepath"
	"testing"

	"builder/pkg/disk"
	"builder/pkg/journal"
)

// BenchmarkAppend appends small records to the real disk of the temporary
// directory (TMPDIR), beside the floor: a bare write and fsync of as many octets.
func BenchmarkAppend(b *testing.B) {
	record := make([]byte, 100)
	b.Run("journal", func(b *testing.B) {
		j, _, err := journal.Open(disk.OS{}, b.TempDir(), newBlob, journal.Options{})
		if err != nil {
			b.Fatal(err)
		}
		defer j.Close()
		for b.Loop() {
			if err := j.Append(record); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("floor", func(b *testing.B) {
		f, err := os.Create(filepath.Join(b.TempDir(), "floor"))
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		octets := make([]byte, len(record)+24)
		for b.Loop() {
			if _, err := f.Write(octets); err != nil {
				b.Fatal(err)
			}
			if err := f.Sync(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkOpen reads back 1,000 batches of 100 records.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	j, _, err := journal.Open(disk.OS{}, dir, newBlob, journal.Options{})
	if err != nil {
		b.Fatal(err)
	}
	record := make([]byte, 300)
	many := make([][]byte, 100)
	for i := range many {
		many[i] = record
	}
	for range 1000 {
		if err := j.Append(many...); err != nil {
			b.Fatal(err)
		}
	}
	j.Close()
	for b.Loop() {
		j, _, err := journal.Open(disk.OS{}, dir, newBlob, journal.Options{})
		if err != nil {
			b.Fatal(err)
		}
		j.Close()
	}
}
