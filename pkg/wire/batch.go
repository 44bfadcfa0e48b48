package wire

import "builder/pkg/job"

const (
	// batchSize is how many octets of lines are gathered for one message: few
	// enough that with their headers they are a small frame.
	batchSize = 48 << 10
	// batchLines is how many lines are, for when they are short.
	batchLines = 768
)

// Batch gathers console lines for one Lines message. The zero value is empty.
type Batch struct {
	Lines  []job.Line
	text   []byte // what the last lines are slices of
	octets int    // of all lines
}

// Add copies a line into the batch and reports whether it is full: then it is
// to be sent and Reset before the next Add.
func (b *Batch) Add(line job.Line) (full bool) {
	if cap(b.text)-len(b.text) < len(line.Data) {
		// The lines that are there keep the old one.
		b.text = make([]byte, 0, max(min(4*cap(b.text), 4*batchSize), len(line.Data), 1<<10))
	}
	begin := len(b.text)
	b.text = append(b.text, line.Data...)
	line.Data = b.text[begin:]
	b.Lines = append(b.Lines, line)
	b.octets += len(line.Data)
	return b.octets >= batchSize || len(b.Lines) >= batchLines
}

// Reset empties the batch; its lines are void.
func (b *Batch) Reset() { b.Lines, b.text, b.octets = b.Lines[:0], b.text[:0], 0 }
