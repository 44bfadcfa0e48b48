package console

import (
	"encoding/binary"
	"hash/crc32"
	"time"

	"builder/pkg/job"
)

const (
	entrySize = 24
	// covered is what the sum covers in front of the line's octets: the previous
	// end and the entry without its sum.
	covered = 8 + entrySize - 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// entry is one entry of the index.
type entry struct {
	end   int64
	delta time.Duration
	flags job.LineFlags
	sum   uint32
}

func parseEntry(b []byte) entry {
	return entry{
		end:   int64(binary.BigEndian.Uint64(b)),
		delta: time.Duration(binary.BigEndian.Uint64(b[8:])),
		flags: job.LineFlags(binary.BigEndian.Uint32(b[16:])),
		sum:   binary.BigEndian.Uint32(b[20:]),
	}
}

func (e entry) append(b []byte) []byte {
	b = e.appendFields(b)
	return binary.BigEndian.AppendUint32(b, e.sum)
}

func (e entry) appendFields(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(e.end))
	b = binary.BigEndian.AppendUint64(b, uint64(e.delta))
	return binary.BigEndian.AppendUint32(b, uint32(e.flags))
}

// newline is the number of octets that follow the line's data: 1 or 0.
func (e entry) newline() int64 {
	if e.flags&job.Unended != 0 {
		return 0
	}
	return 1
}

// plausible says whether e can follow an entry that ends at previous. It keeps
// offsets from a damaged index from being believed, before any text is read.
func (e entry) plausible(previous int64) bool {
	length := e.end - previous
	return 0 <= previous && previous <= e.end && e.newline() <= length && length <= MaxLine+e.newline()
}

// checksum is what e.sum must be when e follows an entry that ends at previous
// and the line is text, with its newline. It uses scratch to not allocate.
func (e entry) checksum(previous int64, text []byte, scratch *[covered]byte) uint32 {
	b := binary.BigEndian.AppendUint64(scratch[:0], uint64(previous))
	b = e.appendFields(b)
	return crc32.Update(crc32.Checksum(b, castagnoli), castagnoli, text)
}
