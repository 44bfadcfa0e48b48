package journal

import (
	"bufio"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
)

// reader reads the batches of a file, one after the other, in the memory of one.
type reader struct {
	source *bufio.Reader
	seed   uint32
	offset int64 // of the next batch
	size   int64 // where the last one ends
	frame  [frameSize]byte
	body   []byte
}

func newReader(f io.ReaderAt, h header, from, size int64) *reader {
	section := io.NewSectionReader(f, from, size-from)
	return &reader{source: bufio.NewReaderSize(section, int(min(section.Size(), chunkSize))), seed: h.seed(), offset: from, size: size}
}

// next returns the next batch, io.EOF at the end, a badBatch for what is none,
// or the error of reading. After a badBatch the reader is at its end.
func (r *reader) next() (batch, error) {
	rest := r.size - r.offset
	if rest == 0 {
		return batch{}, io.EOF
	}
	if rest < frameSize {
		return batch{}, badBatch("the header of a batch is cut short")
	}
	if err := r.read(r.frame[:]); err != nil {
		return batch{}, err
	}
	f, ok := decodeFrame(r.frame[:], r.seed)
	switch {
	case !ok:
		return batch{}, badBatch("the checksum of a batch's header is wrong")
	case f.length > maxBody:
		return batch{}, badBatch("a batch is over the limit")
	case int64(f.length) > rest-frameSize:
		return batch{}, badBatch("a batch is cut short")
	}
	r.body = slices.Grow(r.body[:0], int(f.length))[:f.length]
	if err := r.read(r.body); err != nil {
		return batch{}, err
	}
	if crc32.Update(r.seed, castagnoli, r.body) != f.checksum {
		return batch{}, badBatch("the checksum of a batch is wrong")
	}
	r.offset += frameSize + int64(f.length)
	return batch{f.seq, r.body}, nil
}

// read fills p; the file was long enough a moment ago.
func (r *reader) read(p []byte) error {
	_, err := io.ReadFull(r.source, p)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// laterFrame looks behind a bad batch for the header of one with a higher
// number. A batch is written when the one before it is synced, so that one would
// prove that the bad one was whole once. It returns -1 when there is none.
func laterFrame(f io.ReaderAt, h header, from, size int64, seq uint64) (int64, error) {
	seed := h.seed()
	window := make([]byte, chunkSize)
	for size-from >= frameSize {
		p := window[:min(int64(len(window)), size-from)]
		if n, err := f.ReadAt(p, from); n < len(p) {
			return 0, fmt.Errorf("reading at offset %d: %w", from, err)
		}
		for i := range len(p) - frameSize + 1 {
			if next, ok := decodeFrame(p[i:], seed); ok && next.seq > seq {
				return from + int64(i), nil
			}
		}
		from += int64(len(p) - frameSize + 1)
	}
	return -1, nil
}
