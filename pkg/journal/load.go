package journal

import (
	"errors"
	"fmt"
	"io"

	"builder/pkg/disk"
)

// position is a place in the journal: behind the batch seq, which ends at the
// offset end of its segment.
type position struct {
	seq uint64
	end int64
}

// found is what load has read.
type found struct {
	listing
	snapshot     uint64
	snapshotSize int64
	seq          uint64 // the last batch
	last         tail
}

// tail is the end of the newest segment.
type tail struct {
	header     header
	end        int64 // of the last good batch
	lastOffset int64 // where that begins; 0, the header, when there is none
	size       int64 // of the file: what lies behind end is a torn write
}

// load applies the newest snapshot and all batches behind it up to to, or, when
// to is nil, up to the end, where a torn write is passed over. It changes nothing.
func (d directory) load(apply func([]byte) error, to *position) (found, error) {
	l, err := d.list()
	if err != nil {
		return found{}, err
	}
	f := found{listing: l}
	if to == nil {
		to = &position{seq: 1<<64 - 1, end: -1}
	}
	for _, last := range l.snapshots {
		if last <= to.seq {
			f.snapshot = last
		}
	}
	if f.snapshot > 0 {
		if f.snapshotSize, err = d.loadSnapshot(f.snapshot, apply); err != nil {
			return f, err
		}
	}
	f.seq = f.snapshot
	chain, err := d.chain(f, to)
	if err != nil {
		return f, err
	}
	for i, h := range chain {
		end := to.end
		if i+1 < len(chain) {
			end = chain[i+1].end
		}
		if h.seq != f.seq+1 {
			return f, d.gap(h.seq, f.seq+1)
		}
		if f.last, f.seq, err = d.loadSegment(h, end, apply); err != nil {
			return f, err
		}
	}
	if to.end >= 0 && f.seq != to.seq {
		return f, d.gap(to.seq+1, f.seq+1)
	}
	return f, nil
}

func (d directory) gap(have, want uint64) error {
	return &DamageError{d.segment(have), 0, badBatch(fmt.Sprintf("batches %d to %d are missing before it", want, have-1))}
}

// chain returns the headers of the segments behind the snapshot.
func (d directory) chain(f found, to *position) ([]header, error) {
	var chain []header
	for _, first := range f.segments {
		if first <= f.snapshot || first > to.seq {
			continue
		}
		file, h, _, err := d.open(d.segment(first), segmentMagic, first)
		if err != nil {
			return nil, err
		}
		file.Close()
		chain = append(chain, h)
	}
	if len(chain) == 0 && f.snapshot > 0 && to.end < 0 {
		return nil, &DamageError{d.snapshot(f.snapshot), 0, badBatch("the segment that goes with it is missing")}
	}
	return chain, nil
}

// loadSegment applies the batches of a segment that ends at end, or, when end is
// negative, with its last whole batch.
func (d directory) loadSegment(h header, end int64, apply func([]byte) error) (tail, uint64, error) {
	name := d.segment(h.seq)
	f, h, size, err := d.open(name, segmentMagic, h.seq)
	if err != nil {
		return tail{}, 0, err
	}
	defer f.Close()
	newest := end < 0
	if newest {
		end = size
	}
	if end < headerSize || end > size {
		return tail{}, 0, damaged(name, size, badBatch(fmt.Sprintf("it should end at offset %d", end)))
	}
	t := tail{header: h, end: headerSize, size: size}
	r := newReader(f, h, headerSize, end)
	for seq := h.seq; ; seq++ {
		b, err := r.next()
		switch {
		case errors.Is(err, io.EOF):
			return t, seq - 1, nil
		case newest && isBad(err):
			return t, seq - 1, checkTorn(f, t, name, err, seq)
		case err != nil:
			return t, 0, damaged(name, t.end, err)
		case b.seq != seq:
			return t, 0, damaged(name, t.end, badBatch(fmt.Sprintf("batch %d in place of %d", b.seq, seq)))
		}
		if err := b.each(apply); err != nil {
			return t, 0, damaged(name, t.end, err)
		}
		t.lastOffset, t.end = t.end, r.offset
	}
}

// checkTorn returns an error when the bad batch behind t is not a torn write.
func checkTorn(f disk.File, t tail, name string, bad error, seq uint64) error {
	later, err := laterFrame(f, t.header, t.end+1, t.size, seq)
	if err != nil {
		return fmt.Errorf("reading %s: %w", name, err)
	}
	if later >= 0 {
		return damaged(name, t.end, fmt.Errorf("%w, and there is a later batch at offset %d", bad, later))
	}
	return nil
}

func isBad(err error) bool {
	var bad badBatch
	return errors.As(err, &bad)
}
