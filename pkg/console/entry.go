package console

import (
	"encoding/binary"
	"hash/crc32"
	"time"

	"builder/pkg/job"
)

const (
	entrySize = 32
	// covered is what the sum covers in front of the piece's octets: where the
	// previous one ended, and the entry without its sum.
	covered = 16 + entrySize - 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// entry is one entry of the index.
type entry struct {
	end   int64
	lines int64
	delta time.Duration
	flags job.LineFlags
	sum   uint32
}

func parseEntry(b []byte) entry {
	return entry{
		end:   int64(binary.BigEndian.Uint64(b)),
		lines: int64(binary.BigEndian.Uint64(b[8:])),
		delta: time.Duration(binary.BigEndian.Uint64(b[16:])),
		flags: job.LineFlags(binary.BigEndian.Uint32(b[24:])),
		sum:   binary.BigEndian.Uint32(b[28:]),
	}
}

func (e entry) append(b []byte) []byte {
	b = e.appendFields(b)
	return binary.BigEndian.AppendUint32(b, e.sum)
}

func (e entry) appendFields(b []byte) []byte {
	b = e.appendEnd(b)
	b = binary.BigEndian.AppendUint64(b, uint64(e.delta))
	return binary.BigEndian.AppendUint32(b, uint32(e.flags))
}

func (e entry) appendEnd(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(e.end))
	return binary.BigEndian.AppendUint64(b, uint64(e.lines))
}

// newline is the number of octets that follow the piece's data: 1 or 0.
func (e entry) newline() int64 {
	if e.flags&job.Unended != 0 {
		return 0
	}
	return 1
}

// plausible says whether e can follow previous. It keeps offsets from a damaged
// index from being believed, before any text is read.
func (e entry) plausible(previous entry) bool {
	length, count := e.end-previous.end, e.lines-previous.lines
	if previous.end < 0 || previous.lines < 0 || e.end < previous.end || e.lines < previous.lines {
		return false
	}
	most := int64(1)
	if e.flags&job.Many != 0 {
		most = 1 + length
	}
	return 1 <= count && count <= most && e.newline() <= length && length <= MaxLine+e.newline()
}

// checksum is what e.sum must be when e follows previous and the piece is text,
// with its newline. It uses scratch to not allocate.
func (e entry) checksum(previous entry, text []byte, scratch *[covered]byte) uint32 {
	b := e.appendFields(previous.appendEnd(scratch[:0]))
	return crc32.Update(crc32.Checksum(b, castagnoli), castagnoli, text)
}
