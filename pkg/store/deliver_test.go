package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"builder/pkg/disk"
	"builder/pkg/job"
	"builder/pkg/store"

	"github.com/google/go-cmp/cmp"
)

// TestDeliverRefused: what is not to be taken touches nothing, and is not read.
func TestDeliverRefused(t *testing.T) {
	s := open(t, disk.OS{}, scratch(t))
	d := begin(t, s, 1)
	offer(t, d, offered(file{"a", "here"}, file{"b", "partly"}, file{"c", "dropped"}))
	mustDeliver(t, d, "here")
	if err := deliver(d, "partly", 0, 3); !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	d.Drop(job.ContentOf([]byte("dropped")), "for a test")
	long := job.ContentOf([]byte("partly"))
	long.Size++
	tests := map[string]struct {
		content job.Content
		offset  int64
		want    string
	}{
		"not offered":    {job.ContentOf([]byte("never")), 0, "not offered"},
		"another size":   {long, 3, "not offered"},
		"here already":   {job.ContentOf([]byte("here")), 0, "not wanted"},
		"dropped":        {job.ContentOf([]byte("dropped")), 0, "not wanted"},
		"from the start": {job.ContentOf([]byte("partly")), 0, "expected 3"},
		"a gap":          {job.ContentOf([]byte("partly")), 4, "expected 3"},
		"negative":       {job.ContentOf([]byte("partly")), -1, "expected 3"},
		"behind the end": {job.ContentOf([]byte("partly")), 7, "expected 3"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := d.Deliver(test.content, test.offset, iotest.ErrReader(errBroken))
			if err == nil || errors.Is(err, errBroken) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			lacks(t, d, wanted("partly", 3))
		})
	}
	if err := deliver(d, "partly", 3, 6); err != nil {
		t.Error(err)
	}
	if _, err := d.Commit(buildOf("hello", 1)); err != nil {
		t.Error(err)
	}
	if err := deliver(d, "partly", 3, 6); !errors.Is(err, os.ErrClosed) {
		t.Errorf("delivered to what has ended: %v", err)
	}
	if err := d.Offer(nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("offered to what has ended: %v", err)
	}
}

// TestDeliverLength: more octets than the content has are not kept, fewer are.
func TestDeliverLength(t *testing.T) {
	for _, size := range []int{0, 10, 3 << 20} {
		for _, from := range []int{0, size / 2} {
			t.Run(fmt.Sprintf("%d from %d", size, from), func(t *testing.T) {
				s := open(t, disk.OS{}, scratch(t))
				d := begin(t, s, 1)
				data := random(size)
				offer(t, d, offered(file{"a", data}))
				if from > 0 {
					if err := deliver(d, data, 0, from); !errors.Is(err, errBroken) {
						t.Fatal(err)
					}
				}
				c := job.ContentOf([]byte(data))
				if err := d.Deliver(c, int64(from), strings.NewReader(data[from:]+"x")); err == nil || !strings.Contains(err.Error(), "more than") {
					t.Errorf("too many octets: %v", err)
				}
				lacks(t, d, wanted(data, from))
				if size > 0 {
					err := d.Deliver(c, int64(from), strings.NewReader(data[from:size-1]))
					if !errors.Is(err, io.ErrUnexpectedEOF) {
						t.Errorf("too few octets: %v", err)
					}
					from = size - 1
					lacks(t, d, wanted(data, from))
				}
				if err := deliver(d, data, from, size); err != nil {
					t.Error(err)
				}
				lacks(t, d)
			})
		}
	}
}

// random is size octets that do not repeat.
func random(size int) string {
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(size)}).Read(data)
	return string(data)
}

func TestMismatch(t *testing.T) {
	const large = 2 << 20
	for _, size := range []int{10, large} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			dir := scratch(t)
			s := open(t, disk.OS{}, dir)
			d := begin(t, s, 1)
			good, once := random(size), random(size+1)
			offer(t, d, offered(file{"a", good}, file{"once", once}, file{"b", good}))
			bad := func(data string, from int) error {
				other := []byte(data)
				other[size-1]++
				return d.Deliver(job.ContentOf([]byte(data)), int64(from), bytes.NewReader(other[from:]))
			}
			if err := bad(once, 0); !errors.Is(err, store.ErrMismatch) {
				t.Errorf("other octets: %v", err)
			}
			lacks(t, d, wanted(good, 0), wanted(once, 0))
			isEmpty(t, dir)
			mustDeliver(t, d, once)
			for i := range 2 {
				lacks(t, d, wanted(good, 0))
				// The second one comes in two pieces.
				if err := deliver(d, good, 0, i*size/2); i > 0 && !errors.Is(err, errBroken) {
					t.Fatal(err)
				}
				if err := bad(good, i*size/2); !errors.Is(err, store.ErrMismatch) {
					t.Errorf("other octets again: %v", err)
				}
			}
			lacks(t, d)
			got, err := d.Commit(buildOf("hello", 1))
			if err != nil {
				t.Fatal(err)
			}
			want := buildOf("hello", 1)
			want.Artifacts = offered(file{"once", once})
			want.Notes = []string{
				`not kept: artifact "a": its content did not match its hash 2 times`,
				`not kept: artifact "b": its content did not match its hash 2 times`,
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			isEmpty(t, dir)
		})
	}
}

// pausing gives its octets when it is told to.
type pausing struct {
	io.Reader
	reached, goOn chan struct{}
}

func (p *pausing) Read(b []byte) (int, error) {
	if p.reached != nil {
		close(p.reached)
		p.reached = nil
		<-p.goOn
	}
	return p.Reader.Read(b)
}

// TestDuringDelivery: what is asked meanwhile neither waits nor does harm.
func TestDuringDelivery(t *testing.T) {
	tests := map[string]struct {
		meanwhile func(*store.Draft)
		lacks     []store.Wanted
	}{
		"the same offer": {func(d *store.Draft) { offer(t, d, offered(file{"a", "one"}, file{"b", "two"})) }, []store.Wanted{wanted("two", 0)}},
		"another offer":  {func(d *store.Draft) { offer(t, d, offered(file{"b", "two"})) }, []store.Wanted{wanted("two", 0)}},
		"it is dropped":  {func(d *store.Draft) { d.Drop(job.ContentOf([]byte("one")), "for a test") }, []store.Wanted{wanted("two", 0)}},
		"withdrawn and offered again": {func(d *store.Draft) {
			offer(t, d, offered(file{"b", "two"}))
			offer(t, d, offered(file{"a", "one"}))
		}, nil},
		"a second delivery": {func(d *store.Draft) {
			if err := deliver(d, "two", 0, 3); err == nil || !strings.Contains(err.Error(), "under way") {
				t.Error(err)
			}
		}, []store.Wanted{wanted("two", 0)}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			dir := scratch(t)
			s := open(t, disk.OS{}, dir)
			d := begin(t, s, 1)
			offer(t, d, offered(file{"a", "one"}, file{"b", "two"}))
			in := &pausing{strings.NewReader("one"), make(chan struct{}), make(chan struct{})}
			reached, delivered := in.reached, make(chan error)
			go func() { delivered <- d.Deliver(job.ContentOf([]byte("one")), 0, in) }()
			<-reached
			test.meanwhile(d)
			close(in.goOn)
			if err := <-delivered; err != nil {
				t.Error(err)
			}
			lacks(t, d, test.lacks...)
			for _, w := range test.lacks {
				d.Drop(w.Content, "not needed")
			}
			b, err := d.Commit(buildOf("hello", 1))
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range b.Artifacts {
				if _, err := read(s.OpenContent(a.Content)); err != nil {
					t.Error(err)
				}
			}
			isEmpty(t, dir)
		})
	}
}
