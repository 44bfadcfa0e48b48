package journal_test

import (
	"fmt"
	"hash/crc32"
	"iter"
	"maps"
	"slices"
	"strings"

	"builder/pkg/disk"
	"builder/pkg/journal"
)

// ledger is a small state: what is set, and a sum over all records that depends
// on their order.
type ledger struct {
	values  map[string]string
	sum     uint32
	between func() // when not nil, called in the middle of a snapshot
}

func newLedger() *ledger { return &ledger{values: map[string]string{}} }

// Apply takes "set K V", "delete K", and from a snapshot "is K V" and "sum N".
func (l *ledger) Apply(record []byte) error {
	word := strings.Fields(string(record))
	switch {
	case len(word) == 3 && word[0] == "set":
		l.values[word[1]] = word[2]
	case len(word) == 2 && word[0] == "delete":
		delete(l.values, word[1])
	case len(word) == 3 && word[0] == "is":
		l.values[word[1]] = word[2]
		return nil
	case len(word) == 2 && word[0] == "sum":
		_, err := fmt.Sscan(word[1], &l.sum)
		return err
	default:
		return fmt.Errorf("unknown record %q", record)
	}
	l.sum = crc32.Update(l.sum, crc32.IEEETable, record)
	return nil
}

func (l *ledger) Snapshot() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for _, key := range slices.Sorted(maps.Keys(l.values)) {
			if !yield(fmt.Appendf(nil, "is %s %s", key, l.values[key])) {
				return
			}
		}
		if l.between != nil {
			l.between()
		}
		yield(fmt.Appendf(nil, "sum %d", l.sum))
	}
}

func (l *ledger) String() string {
	return fmt.Sprint(l.sum, l.values)
}

// after is the state after one more batch.
func (l *ledger) after(batch [][]byte) *ledger {
	next := &ledger{values: maps.Clone(l.values), sum: l.sum}
	for _, record := range batch {
		if err := next.Apply(record); err != nil {
			panic(err)
		}
	}
	return next
}

const dir = "/var/lib/journal"

func open(fsys disk.FS) (*journal.Journal[*ledger], *ledger, error) {
	return journal.Open(fsys, dir, newLedger, journal.Options{SegmentSize: 300})
}
