package der_test

import (
	"bufio"
	"bytes"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"builder/pkg/der"
)

func TestHeader(t *testing.T) {
	tags := []der.Tag{der.Sequence, der.UTF8String, der.Context(0), der.Context(30), der.Context(31), der.Context(127), der.Context(128), der.Context(16383)}
	lengths := []int64{0, 1, 126, 127, 128, 255, 256, 65535, 65536, 1<<24 - 1, 1 << 24, 1 << 32, 1<<62 - 1}
	for _, tag := range tags {
		for _, length := range lengths {
			b := der.AppendHeader(nil, tag, length)
			if got := der.HeaderSize(tag, length); got != int64(len(b)) {
				t.Errorf("HeaderSize(%v, %d) = %d, but %x has %d", tag, length, got, b, len(b))
			}
			if got, err := der.ParseTag(b); err != nil || got != tag {
				t.Errorf("ParseTag(%x) = %v, %v, want %v", b, got, err, tag)
			}
			if length > 1<<16 {
				continue
			}
			content := make([]byte, length)
			r := der.NewReader(append(b, content...))
			if got := r.Element(tag); r.Err() != nil || int64(len(got)) != length {
				t.Errorf("%v of %d octets was read as %d, %v", tag, length, len(got), r.Err())
			}
		}
	}
}

func TestRefused(t *testing.T) {
	tests := []struct{ name, input, problem string }{
		{"nothing", "", "truncated"},
		{"a tag only", "0c", "truncated"},
		{"a high tag cut", "bf", "truncated"},
		{"a high tag cut later", "bf81", "truncated"},
		{"a high tag below 31", "bf1e00", "short form"},
		{"a high tag with a leading zero", "bf8040", "out of range"},
		{"a high tag of three octets", "bf81818100", "out of range"},
		{"indefinite length", "0c80", "indefinite"},
		{"length of nine octets", "0c89010000000000000000", "overflow"},
		{"length of 2^63", "0c888000000000000000", "overflow"},
		{"length of 2^63-1", "0c887fffffffffffffff", "overflow"},
		{"length of 2^62", "0c884000000000000000", "truncated"},
		{"length with a leading zero", "0c82007f", "shortest"},
		{"length 5 in long form", "0c81050000000000", "shortest"},
		{"length cut", "0c8201", "truncated"},
		{"content cut", "0c0261", "truncated"},
		{"another tag", "0400", "want UTF8String, got OCTET STRING"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			input, err := hex.DecodeString(tt.input)
			if err != nil {
				t.Fatal(err)
			}
			r := der.NewReader(input)
			r.Octets()
			s := stream(input)
			data, _ := s.Open()
			io.Copy(io.Discard, data) // it sticks
			for who, err := range map[string]error{"Reader": r.Err(), "Stream": s.Err()} {
				if err == nil || !strings.Contains(err.Error(), tt.problem) {
					t.Errorf("%s: got %v, want %q", who, err, tt.problem)
				}
			}
		})
	}
}

func TestInt(t *testing.T) {
	for shift := range 62 {
		for _, v := range []int64{1<<shift - 1, 1 << shift, 1<<shift + 1, -1 << shift, -1<<shift - 1, -1<<shift + 1} {
			var w der.Writer
			w.Int(v)
			if want, err := asn1.Marshal(v); err != nil || !bytes.Equal(w.Data, want) {
				t.Errorf("%d: wrote %x, want %x", v, w.Data, want)
			}
			if got := der.IntSize(v); got != int64(len(w.Data)) {
				t.Errorf("IntSize(%d) = %d, want %d", v, got, len(w.Data))
			}
			r := der.NewReader(w.Data)
			if got := r.Int(); got != v || r.Err() != nil {
				t.Errorf("%d was read as %d, %v", v, got, r.Err())
			}
		}
	}
}

func TestIntOutOfRange(t *testing.T) {
	for _, v := range []int64{der.MaxInt + 1, der.MinInt - 1} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%d was written", v)
				}
			}()
			new(der.Writer).Int(v)
		}()
		b, err := asn1.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if r := der.NewReader(b); r.Int() != 0 || r.Err() == nil {
			t.Errorf("%d was read", v)
		}
	}
}

func TestTime(t *testing.T) {
	tests := []struct {
		time time.Time
		want string
	}{
		{time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC), "20260304050607Z"},
		{time.Date(2026, 3, 4, 5, 6, 7, 120_999_999, time.UTC), "20260304050607.120Z"},
		{time.Date(2026, 3, 4, 5, 6, 7, 1, time.UTC), "20260304050607.000Z"},
		{time.Date(2026, 3, 4, 5, 6, 7, 0, time.FixedZone("", 5400)), "20260304033607Z"},
		{time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC), "99991231235959.999Z"},
		{time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC), "00000101000000Z"},
	}
	for _, tt := range tests {
		var w der.Writer
		w.Time(tt.time)
		if got := string(w.Data[2:]); got != tt.want {
			t.Errorf("%v: wrote %s, want %s", tt.time, got, tt.want)
		}
		r := der.NewReader(w.Data)
		if got, want := r.Time(), tt.time.Truncate(time.Millisecond); !got.Equal(want) || got.Location() != time.UTC || r.Err() != nil {
			t.Errorf("%s: read %v, %v, want %v", tt.want, got, r.Err(), want)
		}
	}
}

// TestElementGrows: the octet kept for a length moves what is behind it, splices
// too, at every size and depth.
func TestElementGrows(t *testing.T) {
	for _, size := range []int{0, 1, 125, 126, 127, 128, 129, 253, 254, 255, 256, 65530, 65536, 70000} {
		content := bytes.Repeat([]byte("x"), size)
		var w der.Writer
		w.Explicit(100, func() {
			w.Sequence(func() {
				w.SpliceOctets(int64(size), func(out io.Writer) error {
					_, err := out.Write(content)
					return err
				})
				w.Octets(content)
				w.SpliceOctets(1, func(out io.Writer) error {
					_, err := out.Write([]byte("y"))
					return err
				})
			})
		})
		var out bytes.Buffer
		if n, err := w.WriteTo(&out); err != nil || n != w.Size() || int64(out.Len()) != n {
			t.Fatalf("size %d: wrote %d of %d octets, %v", size, n, w.Size(), err)
		}
		r := der.NewReader(out.Bytes())
		r.Explicit(100, func(r *der.Reader) {
			in := r.Enter(der.Sequence)
			for _, want := range [][]byte{content, content, []byte("y")} {
				if !bytes.Equal(in.Octets(), want) {
					t.Errorf("size %d: other content", size)
				}
			}
			in.Done()
		})
		r.Done()
		if r.Err() != nil {
			t.Errorf("size %d: %v", size, r.Err())
		}
	}
}

func TestSpliceOfAnotherSize(t *testing.T) {
	broken := errors.New("broken")
	tests := []struct {
		name  string
		write func(io.Writer) error
		want  string
	}{
		{"short", func(w io.Writer) error { _, err := w.Write([]byte("ab")); return err }, "2 octets, expected 3"},
		{"long", func(w io.Writer) error { _, err := w.Write([]byte("abcd")); return err }, "4 octets, expected 3"},
		{"broken", func(io.Writer) error { return broken }, "broken"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var w der.Writer
			w.SpliceOctets(3, tt.write)
			w.Text("more")
			if _, err := w.WriteTo(io.Discard); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestCount(t *testing.T) {
	var w der.Writer
	for range 3 {
		w.Text("abc")
	}
	for n, want := range map[int]int{0: 0, 4: 0, 5: 1, 14: 2, 15: 3} {
		if got := der.NewReader(w.Data[:n]).Count(); got != want {
			t.Errorf("of %d octets: %d elements, want %d", n, got, want)
		}
	}
}

// TestStreamSkip: what is skipped has to be there.
func TestStreamSkip(t *testing.T) {
	var w der.Writer
	w.Sequence(func() {
		w.Text("read")
		w.Octets(make([]byte, 10_000))
	})
	w.Text("behind")
	s := stream(w.Data)
	s.Enter(der.Sequence)
	s.Element(100)
	s.Skip()
	s.Leave()
	if got := s.Element(100).Text(); got != "behind" || s.Err() != nil {
		t.Errorf("read %q, %v", got, s.Err())
	}
	s = der.NewStream(bufio.NewReader(bytes.NewReader(w.Data[:5000])), int64(len(w.Data)))
	s.Enter(der.Sequence)
	s.Skip()
	if !errors.Is(s.Err(), io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want %v", s.Err(), io.ErrUnexpectedEOF)
	}
}

func TestStreamLimit(t *testing.T) {
	var w der.Writer
	w.Text("0123456789")
	if s := stream(w.Data); s.Element(12).Text() != "0123456789" || s.Err() != nil {
		t.Errorf("at the limit: %v", s.Err())
	}
	if s := stream(w.Data); s.Element(11).Text() != "" || s.Err() == nil || !strings.Contains(s.Err().Error(), "limit 11") {
		t.Errorf("above the limit: got %v", s.Err())
	}
}

func stream(data []byte) *der.Stream {
	return der.NewStream(bufio.NewReaderSize(iotest.HalfReader(bytes.NewReader(data)), 16), int64(len(data)))
}
