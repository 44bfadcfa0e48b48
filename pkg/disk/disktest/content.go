package disktest

import (
	"bytes"
	"maps"
	"slices"
)

// pieceSize is what reaches the disk at once. A real sector is larger; a small
// piece tears small writes too.
const pieceSize = 32

// content is the data of a file: what readers see, and what the disk may hold
// in its place.
type content struct {
	data   []byte
	length past[int]
	pieces map[int]*past[[]byte] // by number; one that is missing is on disk
}

// past is what the disk may hold in place of the present value.
type past[T any] struct {
	versions []T
	// lost: a sync failed. The disk holds versions[0], the system believes that
	// it holds the present value, and syncs it only when it changes again.
	lost bool
}

// note records that the value is about to change.
func (p *past[T]) note(present T) {
	if p.lost {
		p.lost = false // the present value never was on its way to the disk
		return
	}
	p.versions = append(p.versions, present)
}

// sync says that the present value is on disk, unless it was lost before.
func (p *past[T]) sync() {
	if !p.lost {
		p.versions = nil
	}
}

// failSync decides what a failed sync has put on disk.
func (p *past[T]) failSync(pick func(n int) int) {
	if p.lost || len(p.versions) == 0 {
		return
	}
	i := pick(len(p.versions))
	if i == len(p.versions) {
		p.versions = nil
		return
	}
	p.versions = []T{p.versions[i]}
	p.lost = true
}

// after is what a power cut leaves; pick chooses from n old versions, n is the
// present one.
func (p *past[T]) after(present T, pick func(n int) int) T {
	if p.lost {
		return p.versions[0]
	}
	if i := pick(len(p.versions)); i < len(p.versions) {
		return p.versions[i]
	}
	return present
}

func (c *content) piece(i int) []byte {
	p := make([]byte, pieceSize)
	if at := i * pieceSize; at < len(c.data) {
		copy(p, c.data[at:])
	}
	return p
}

// note records that the octets from begin to end are about to change, and the
// length with them. (A write inside a file also brings a lost length to disk:
// the system sets it when it has written the data.)
func (c *content) note(begin, end int, resize bool) {
	if c.pieces == nil {
		c.pieces = map[int]*past[[]byte]{}
	}
	for i := begin / pieceSize; i*pieceSize < end; i++ {
		if c.pieces[i] == nil {
			c.pieces[i] = &past[[]byte]{}
		}
		c.pieces[i].note(c.piece(i))
	}
	if resize || c.length.lost {
		c.length.note(len(c.data))
	}
}

func (c *content) write(at int, p []byte) {
	if len(p) == 0 {
		return
	}
	end := at + len(p)
	c.note(at, end, end > len(c.data))
	c.resize(max(end, len(c.data)))
	copy(c.data[at:], p)
}

func (c *content) truncate(size int) {
	c.note(size, len(c.data), true)
	c.resize(size)
}

func (c *content) resize(size int) {
	if old := len(c.data); size > old {
		c.data = slices.Grow(c.data, size-old)[:size]
		clear(c.data[old:]) // the room may hold what was cut off before
	}
	c.data = c.data[:size]
}

// dirty reports whether anything waits for a sync.
func (c *content) dirty() bool { return len(c.length.versions) > 0 || len(c.pieces) > 0 }

func (c *content) sync() {
	c.length.sync()
	for i, p := range c.pieces {
		if p.sync(); len(p.versions) == 0 {
			delete(c.pieces, i)
		}
	}
}

// failSync is a sync that fails as it does on Linux: some of the data is on
// disk, the rest is taken for clean. With evict the system also drops it from
// its cache: readers see what the disk holds.
func (c *content) failSync(evict bool, pick func(n int) int) {
	c.length.failSync(pick)
	for _, i := range slices.Sorted(maps.Keys(c.pieces)) {
		p := c.pieces[i]
		p.failSync(pick)
		if evict && p.lost {
			if at := i * pieceSize; at < len(c.data) {
				copy(c.data[at:], p.versions[0])
			}
			p.versions = nil
		}
		if len(p.versions) == 0 {
			delete(c.pieces, i)
		}
	}
}

// after is the content that a power cut leaves.
func (c *content) after(pickLength, pickData func(n int) int) content {
	left := content{data: bytes.Clone(c.data)}
	left.resize(c.length.after(len(c.data), pickLength))
	for _, i := range slices.Sorted(maps.Keys(c.pieces)) {
		p := c.pieces[i].after(c.piece(i), pickData)
		if at := i * pieceSize; at < len(left.data) {
			copy(left.data[at:], p)
		}
	}
	return left
}
