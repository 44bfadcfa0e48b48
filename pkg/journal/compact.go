package journal

import (
	"bytes"
	"fmt"
	"io"

	"builder/pkg/disk"
)

// chunkSize is from which size on the records of a snapshot are written.
const chunkSize = 64 << 10

// CompactDue says whether the newest segment is so large that it is time for
// Compact: larger than the last snapshot, so that over time no more is written
// for snapshots than for batches.
func (j *Journal[S]) CompactDue() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.active.size > max(j.options.SegmentSize, j.snapshotSize)
}

// Compact replaces all batches up to now by a snapshot. It may run beside all
// other methods: Append waits for the opening of a new segment only. Then the
// closed segments are read back into a state of its own, which is written beside
// them, and then they go. An error leaves all of them in place; the next Compact
// does the work of both.
func (j *Journal[S]) Compact() error {
	j.compacting.Lock()
	defer j.compacting.Unlock()
	to, err := j.rotate()
	if err != nil {
		return fmt.Errorf("compacting journal: %w", err)
	}
	if to.seq == j.snapshot {
		return nil
	}
	state := j.empty()
	if _, err := j.dir.load(state.Apply, &to); err != nil {
		return err
	}
	size, err := j.dir.writeSnapshot(to.seq, state)
	if err != nil {
		return fmt.Errorf("compacting journal: %w", err)
	}
	j.mu.Lock()
	j.snapshot, j.snapshotSize = to.seq, size
	j.mu.Unlock()
	j.files.Lock()
	defer j.files.Unlock()
	if err := j.dir.removeOlder(to.seq); err != nil {
		return fmt.Errorf("compacting journal: %w", err)
	}
	return nil
}

// rotate makes sure that the active segment is empty, and returns where the
// closed ones end.
func (j *Journal[S]) rotate() (position, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.ready(); err != nil {
		return position{}, err
	}
	if j.active.size > headerSize {
		if err := j.begin(); err != nil {
			return position{}, err
		}
	}
	return position{j.active.seq - 1, j.active.end}, nil
}

// writeSnapshot writes the state after batch last, and returns the size of the
// file. It goes through disk.WriteFile and not renameio, which knows only the
// operating system's files: a snapshot must be testable against a disk that
// forgets.
func (d directory) writeSnapshot(last uint64, state State) (size int64, err error) {
	h := newHeader(header{magic: snapshotMagic, seq: last})
	err = disk.WriteFile(d.fsys, d.snapshot(last), 0o644, func(w io.Writer) error {
		size = 0
		write := func(p []byte) error {
			size += int64(len(p))
			_, err := w.Write(p)
			return err
		}
		if err := write(h.encode()); err != nil {
			return err
		}
		var count, chunk uint64
		b := newBatch(nil)
		for record := range state.Snapshot() {
			if b.size() > 0 && b.size()+len(record) > chunkSize {
				chunk++
				if err := write(b.seal(h.seed(), chunk)); err != nil {
					return err
				}
				b = newBatch(b.octets)
			}
			if err := b.add(record); err != nil {
				return err
			}
			count++
		}
		if b.size() > 0 {
			if err := write(b.seal(h.seed(), chunk+1)); err != nil {
				return err
			}
		}
		return write(endMark(h.seed(), count))
	})
	return size, err
}

// loadSnapshot applies all records of a snapshot and returns its size.
func (d directory) loadSnapshot(last uint64, apply func([]byte) error) (int64, error) {
	name := d.snapshot(last)
	f, h, size, err := d.open(name, snapshotMagic, last)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var count uint64
	r := newReader(f, h, headerSize, size)
	for chunk := uint64(1); ; chunk++ {
		at := r.offset
		b, err := r.next()
		switch {
		case err != nil:
			return 0, damaged(name, at, err)
		case b.seq == 0 && !bytes.Equal(b.body, countBody(count)):
			return 0, damaged(name, at, badBatch("the end mark does not have the count of the records"))
		case b.seq == 0 && r.offset != size:
			return 0, damaged(name, r.offset, badBatch("there is more behind the end mark"))
		case b.seq == 0:
			return size, nil
		case b.seq != chunk:
			return 0, damaged(name, at, badBatch(fmt.Sprintf("chunk %d in place of %d", b.seq, chunk)))
		}
		err = b.each(func(record []byte) error {
			count++
			return apply(record)
		})
		if err != nil {
			return 0, damaged(name, at, err)
		}
	}
}
