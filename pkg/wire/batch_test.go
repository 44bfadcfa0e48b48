package wire_test

import (
	"bytes"
	"fmt"
	"testing"

	"builder/pkg/job"
	"builder/pkg/wire"
)

// TestBatch: batches of lines of any length fit into a message, and hold the
// lines as they were, also when the caller uses its buffer again.
func TestBatch(t *testing.T) {
	for _, length := range []int{0, 1, 100, 1000, job.MaxLine - 1, job.MaxLine} {
		t.Run(fmt.Sprint(length), func(t *testing.T) {
			var batch wire.Batch
			for range 3 {
				var want []job.Line
				buffer := make([]byte, length)
				for full := false; !full; {
					for i := range buffer {
						buffer[i] = byte(len(want))
					}
					line := job.Line{Delta: 1 << 40, Flags: job.Unended, Data: buffer}
					full = batch.Add(line)
					line.Data = bytes.Clone(buffer)
					want = append(want, line)
				}
				if d := diff(want, batch.Lines); d != "" {
					t.Fatalf("(-want +got):\n%s", d)
				}
				size := wire.Encode(wire.Lines{Lines: batch.Lines}).Size()
				if limit := wire.KindLines.Limit(); size > limit {
					t.Errorf("%d lines take %d octets, limit %d", len(want), size, limit)
				}
				if length <= 1000 && size > 64<<10 {
					t.Errorf("%d lines take %d octets, no small frame", len(want), size)
				}
				batch.Reset()
			}
		})
	}
	t.Run("a short line and the longest", func(t *testing.T) {
		var batch wire.Batch
		for !batch.Add(job.Line{Data: make([]byte, 31)}) {
			if n := len(batch.Lines); n == 1000 {
				break
			}
		}
		batch.Add(job.Line{Data: make([]byte, job.MaxLine)})
		size := wire.Encode(wire.Lines{Lines: batch.Lines}).Size()
		if limit := wire.KindLines.Limit(); size > limit {
			t.Errorf("%d octets, limit %d", size, limit)
		}
	})
}
