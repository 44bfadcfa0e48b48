package der_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"builder/pkg/der"

	"github.com/google/go-cmp/cmp"
)

// element is what the fuzz targets compare.
type element struct {
	Tag     der.Tag
	Content string
	Inner   []element
}

// maxDepth keeps the fuzz targets' recursion flat; the decoders have none.
const maxDepth = 20

func readAll(r *der.Reader, depth int) []element {
	var all []element
	for r.More() {
		e := element{Tag: r.Peek()}
		if e.Tag == der.UTF8String || depth == maxDepth {
			e.Content = r.Text()
		} else {
			in := r.Enter(e.Tag)
			e.Inner = readAll(&in, depth+1)
		}
		all = append(all, e)
	}
	return all
}

func streamAll(s *der.Stream, depth int) []element {
	var all []element
	for s.More() {
		e := element{Tag: s.Peek()}
		switch {
		case e.Tag == der.UTF8String && depth%2 == 0:
			e.Content = s.Element(1 << 20).Text()
		case e.Tag == der.UTF8String || depth == maxDepth:
			data, size := s.Open()
			content, _ := io.ReadAll(data) // its error sticks
			if s.Err() == nil && int64(len(content)) != size {
				s.Fail(io.ErrShortBuffer)
			}
			e.Content = string(content)
		default:
			s.Enter(e.Tag)
			e.Inner = streamAll(s, depth+1)
			s.Leave()
		}
		all = append(all, e)
	}
	return all
}

func writeAll(w *der.Writer, all []element) {
	for _, e := range all {
		if e.Tag == der.UTF8String {
			w.Text(e.Content)
		} else {
			w.Element(e.Tag, func() { writeAll(w, e.Inner) })
		}
	}
}

func addSeeds(f *testing.F) {
	var w der.Writer
	w.Explicit(3, func() {
		w.Sequence(func() {
			w.Text("0123456789abcdef")
			w.Explicit(100, func() { w.Text(strings.Repeat("x", 200)) })
		})
	})
	f.Add(w.Data)
	f.Add([]byte{0x30, 0x80})
	f.Add([]byte{0x0c, 0x88, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Add(append([]byte{0x0c, 0x81, 0x7f}, make([]byte, 127)...))
}

// FuzzReader: what can be read is written the same, but for the one length that
// is not DER; and every typed read of it fails or is written the same.
func FuzzReader(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		r := der.NewReader(data)
		all := readAll(r, 0)
		if r.Err() == nil {
			var w der.Writer
			writeAll(&w, all)
			again := readAll(der.NewReader(w.Data), 0)
			if d := cmp.Diff(all, again); d != "" {
				t.Errorf("read again (-first +second):\n%s", d)
			}
			if !bytes.Contains(data, []byte{0x81, 0x7f}) && !bytes.Equal(w.Data, data) {
				t.Errorf("%x was written as %x", data, w.Data)
			}
		}
		if r := der.NewReader(data); r.Peek() == der.Integer {
			if v := r.Int(); r.Err() == nil {
				var w der.Writer
				w.Int(v)
				if !bytes.HasPrefix(data, w.Data) {
					t.Errorf("%x: %d was written as %x", data, v, w.Data)
				}
			}
		}
		if r := der.NewReader(data); r.Peek() == der.GeneralizedTime || r.Peek() == der.UTCTime {
			if v := r.Time(); r.Err() == nil {
				var w der.Writer
				w.Time(v)
				if got := der.NewReader(w.Data).Time(); !got.Equal(v) {
					t.Errorf("%x: %v was read again as %v", data, v, got)
				}
			}
		}
	})
}

// FuzzStream: Stream and Reader agree on what is read and on whether it is.
func FuzzStream(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		r, s := der.NewReader(data), stream(data)
		want, got := readAll(r, 0), streamAll(s, 0)
		if (r.Err() == nil) != (s.Err() == nil) {
			t.Fatalf("Reader: %v, Stream: %v", r.Err(), s.Err())
		}
		if d := cmp.Diff(want, got); r.Err() == nil && d != "" {
			t.Errorf("Stream (-Reader +Stream):\n%s", d)
		}
	})
}
