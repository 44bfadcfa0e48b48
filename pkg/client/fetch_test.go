package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"builder/pkg/client"
	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

var fetched = uuid.UUID{7}

// goods are the artifacts of a build, in their order.
type goods []struct{ path, octets string }

func (g goods) artifacts() []job.Artifact {
	var all []job.Artifact
	for _, a := range g {
		all = append(all, job.Artifact{Path: a.path, Mode: 0o644, Content: job.ContentOf([]byte(a.octets))})
	}
	return all
}

func (g goods) of(path string) (string, bool) {
	for _, a := range g {
		if a.path == path {
			return a.octets, true
		}
	}
	return "", false
}

// answer is what an honest server says to a Fetch.
func (g goods) answer(m wire.Fetch) []wire.Message {
	var all []wire.Message
	for _, f := range m.Files {
		octets, ok := g.of(f.Path)
		if !ok {
			all = append(all, wire.Missing{Reason: "lost"})
			continue
		}
		all = append(all, wire.Content{
			Content: job.ContentOf([]byte(octets)), Offset: f.Offset, Data: wire.Blob{Data: []byte(octets[f.Offset:])},
		})
	}
	return append(all, wire.Success{})
}

// serving answers every Fetch, and notes what was asked for.
func (g goods) serving(f *fake, t *testing.T, answer func(wire.Fetch) []wire.Message) *asked {
	t.Helper()
	f.can = []string{wire.CapFetch}
	var a asked
	f.start(t, func(ctx context.Context, _ int, conn *wire.Conn) error {
		for {
			m, err := conn.Receive(ctx, wire.KindFetch)
			if err != nil {
				return err
			}
			a.note(m.(wire.Fetch))
			for _, m := range answer(m.(wire.Fetch)) {
				if err := conn.Send(m); err != nil {
					return err
				}
			}
		}
	})
	return &a
}

// asked are the parts that were asked for, each request in brackets.
type asked struct {
	mu  sync.Mutex
	all []string
}

func (a *asked) note(m wire.Fetch) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var parts []string
	for _, f := range m.Files {
		parts = append(parts, fmt.Sprintf("%s from %d", f.Path, f.Offset))
	}
	a.all = append(a.all, strings.Join(parts, ", "))
}

// shelf keeps what is fetched in memory.
type shelf struct {
	t     *testing.T
	there map[string]*bytes.Buffer // of an earlier time, or now
	ended []string
	lost  int
	fail  map[string]error // of Begin
	write error
}

// slot is one of its artifacts.
type slot struct {
	*shelf
	to   *bytes.Buffer
	read int
}

func (s *slot) Read(p []byte) (int, error) {
	n := copy(p, s.to.Bytes()[s.read:])
	s.read += n
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (s *slot) Write(p []byte) (int, error) {
	if s.write != nil {
		return 0, s.write
	}
	return s.to.Write(p)
}

func (s *slot) Restart() error {
	s.to.Reset()
	return nil
}

func (s *shelf) receiver() client.Receiver {
	return client.Receiver{
		Begin: func(a job.Artifact) (client.Partial, error) {
			if err := s.fail[a.Path]; err != nil {
				return nil, err
			}
			if s.there[a.Path] == nil {
				s.there[a.Path] = &bytes.Buffer{}
			}
			return &slot{shelf: s, to: s.there[a.Path]}, nil
		},
		End: func(a job.Artifact, to client.Partial, err error) error {
			if (to == nil) != (s.fail[a.Path] != nil) {
				s.t.Errorf("%s ended with %v", a.Path, to)
			}
			s.ended = append(s.ended, strings.TrimSuffix(fmt.Sprintf("%s: %v", a.Path, err), ": <nil>"))
			return nil
		},
		Lost: func(error, time.Duration) error { s.lost++; return nil },
	}
}

func newShelf(t *testing.T) *shelf {
	return &shelf{t: t, there: map[string]*bytes.Buffer{}, fail: map[string]error{}}
}

// holds checks that all is there.
func (s *shelf) holds(g goods) {
	s.t.Helper()
	var want []string
	for _, a := range g {
		want = append(want, a.path)
		if got := s.there[a.path]; got == nil || got.String() != a.octets {
			s.t.Fatalf("artifact %q: %v", a.path, got)
		}
	}
	if diff := cmp.Diff(want, s.ended); diff != "" {
		s.t.Fatalf("ended (-want +got):\n%s", diff)
	}
}

// random makes octets that look like no others.
func random(size int) string {
	r := rand.NewChaCha8([32]byte{byte(size)})
	b := make([]byte, size)
	r.Read(b)
	return string(b)
}

// TestFetchCutAnywhere cuts one connection after the other behind so many octets,
// in the handshake, in heads of messages and in what they carry: every octet comes
// once.
func TestFetchCutAnywhere(t *testing.T) {
	g := goods{{"a", random(100)}, {"empty", ""}, {"b/c", random(300)}, {"b/d", random(1)}, {"e", random(200)}}
	for cut := 1; ; cut += 3 {
		f := fake{wrap: func(n int, nc net.Conn) net.Conn {
			if n < 3 {
				return &cutConn{nc, cut + n}
			}
			return nc
		}}
		g.serving(&f, t, g.answer)
		c := f.client(t, client.Options{})
		s := newShelf(t)
		err := c.Fetch(t.Context(), fetched, g.artifacts(), s.receiver())
		if err != nil && s.lost == 0 && len(s.ended) == 0 && cut < 200 {
			continue // the first connection did not come about
		}
		if err != nil {
			t.Fatalf("cut at octet %d: %v", cut, err)
		}
		s.holds(g)
		if s.lost == 0 {
			if cut < 700 {
				t.Errorf("only %d octets were cut", cut)
			}
			return
		}
	}
}

// TestFetchCutLarge: of a large artifact the rest is asked for, whatever of it came.
func TestFetchCutLarge(t *testing.T) {
	g := goods{{"small", "x"}, {"large", random(3 << 20)}, {"other", "y"}}
	for _, cut := range []int{1000, 1 << 20, 2<<20 + 1, 3<<20 + 100} {
		f := fake{wrap: func(n int, nc net.Conn) net.Conn {
			if n == 0 {
				return &cutConn{nc, cut}
			}
			return nc
		}}
		a := g.serving(&f, t, g.answer)
		s := newShelf(t)
		if err := f.client(t, client.Options{}).Fetch(t.Context(), fetched, g.artifacts(), s.receiver()); err != nil {
			t.Fatalf("cut at octet %d: %v", cut, err)
		}
		s.holds(g)
		if s.lost != 1 || len(a.all) != 4 || a.all[1] != "large from 0" || a.all[2] == "large from 0" || !strings.HasPrefix(a.all[2], "large from ") {
			t.Errorf("cut at octet %d: lost %d times, asked for %q", cut, s.lost, a.all)
		}
	}
}

// TestFetchEarlier: what is there of an earlier time is used if it is right, and
// thrown away if it is not.
func TestFetchEarlier(t *testing.T) {
	g := goods{{"a", "0123456789"}, {"b", "other"}}
	for name, tt := range map[string]struct {
		there string
		asked []string
	}{
		"nothing":      {"", []string{"a from 0, b from 0"}},
		"a part":       {"0123", []string{"a from 4", "b from 0"}},
		"all":          {"0123456789", []string{"a from 10", "b from 0"}},
		"another part": {"01x3", []string{"a from 4", "a from 0, b from 0"}},
		"another file": {"abcdefghij", []string{"a from 10", "a from 0, b from 0"}},
		"too much":     {"0123456789a", []string{"a from 0, b from 0"}},
	} {
		t.Run(name, func(t *testing.T) {
			var f fake
			a := g.serving(&f, t, g.answer)
			s := newShelf(t)
			s.there["a"] = bytes.NewBufferString(tt.there)
			if err := f.client(t, client.Options{}).Fetch(t.Context(), fetched, g.artifacts(), s.receiver()); err != nil {
				t.Fatal(err)
			}
			s.holds(g)
			if diff := cmp.Diff(tt.asked, a.all); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
		})
	}
}

// TestFetchMany: many small artifacts are asked for at once, but not too many.
func TestFetchMany(t *testing.T) {
	var g goods
	for i := range 2500 {
		g = append(g, struct{ path, octets string }{fmt.Sprint("f", i), fmt.Sprint("content ", i)})
	}
	long := strings.Repeat("long/", 800)
	for i := range 20 {
		g = append(g, struct{ path, octets string }{fmt.Sprint(long, i), "x"})
	}
	var f fake
	a := g.serving(&f, t, g.answer)
	s := newShelf(t)
	if err := f.client(t, client.Options{}).Fetch(t.Context(), fetched, g.artifacts(), s.receiver()); err != nil {
		t.Fatal(err)
	}
	s.holds(g)
	if len(a.all) != 5 {
		t.Errorf("%d requests", len(a.all))
	}
}

// TestFetchHostile: a server that does not send what it said is found out, and
// writes nothing of it; one that just has not got something is not.
func TestFetchHostile(t *testing.T) {
	g := goods{{"a", "0123456789"}, {"b", "other"}}
	a := job.ContentOf([]byte("0123456789"))
	other := func(c wire.Content) func(wire.Fetch) []wire.Message {
		return func(m wire.Fetch) []wire.Message {
			all := g.answer(m)
			all[0] = c
			return all
		}
	}
	data := func(text string) wire.Blob { return wire.Blob{Data: []byte(text)} }
	endless := wire.Blob{Size: 1 << 50, Open: func() (io.ReadCloser, error) { return io.NopCloser(zeros{}), nil }}
	for name, tt := range map[string]struct {
		answer func(wire.Fetch) []wire.Message
		want   string // of the error; empty: none
		ended  []string
	}{
		"other octets":  {other(wire.Content{Content: a, Data: data("0123x56789")}), "", []string{"a: its octets are not those of its hash", "b"}},
		"other content": {other(wire.Content{Content: job.ContentOf([]byte("x")), Data: data("x")}), "of artifact \"a\"", []string{"a: the transfer ended"}},
		"other offset":  {other(wire.Content{Content: a, Offset: 1, Data: data("123456789")}), "of artifact \"a\"", []string{"a: the transfer ended"}},
		"too few":       {other(wire.Content{Content: a, Data: data("012345678")}), "of artifact \"a\"", []string{"a: the transfer ended"}},
		"too many":      {other(wire.Content{Content: a, Data: data("0123456789a")}), "of artifact \"a\"", []string{"a: the transfer ended"}},
		"endless":       {other(wire.Content{Content: a, Data: endless}), "of artifact \"a\"", []string{"a: the transfer ended"}},
		"missing":       {func(m wire.Fetch) []wire.Message { return g[1:].answer(m) }, "", []string{"a: the server does not have it: lost", "b"}},
		"left out":      {func(m wire.Fetch) []wire.Message { return append(g.answer(m)[:1], wire.Success{}) }, "left out 1 artifact", []string{"a"}},
		"one more": {func(m wire.Fetch) []wire.Message {
			return append(g.answer(m)[:2], wire.Missing{Reason: "why not"}, wire.Success{})
		}, "unexpected", []string{"a", "b"}},
		"failure":         {func(wire.Fetch) []wire.Message { return []wire.Message{wire.Failure{Text: "no such build"}} }, "no such build", []string{"a: the transfer ended"}},
		"another message": {func(wire.Fetch) []wire.Message { return []wire.Message{wire.Status{}} }, "unexpected", []string{"a: the transfer ended"}},
	} {
		t.Run(name, func(t *testing.T) {
			var f fake
			g.serving(&f, t, tt.answer)
			s := newShelf(t)
			err := f.client(t, client.Options{}).Fetch(t.Context(), fetched, g.artifacts(), s.receiver())
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if diff := cmp.Diff(tt.ended, s.ended); diff != "" {
				t.Errorf("ended (-want +got):\n%s", diff)
			}
			if got := s.there["a"]; got != nil && got.Len() > 10 {
				t.Errorf("%d octets were written", got.Len())
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestFetchReceiver: what the receiver does not take is left out, or ends it.
func TestFetchReceiver(t *testing.T) {
	g := goods{{"a", "0123456789"}, {"b", "other"}, {"large", random(2 << 20)}, {"c", "last"}}
	refusal := errors.New("no place")
	for _, path := range []string{"a", "b", "large", "c"} {
		t.Run("refuses "+path, func(t *testing.T) {
			var f fake
			g.serving(&f, t, g.answer)
			s := newShelf(t)
			s.fail[path] = refusal
			if err := f.client(t, client.Options{}).Fetch(t.Context(), fetched, g.artifacts(), s.receiver()); err != nil {
				t.Fatal(err)
			}
			var want []string
			for _, a := range g {
				if a.path == path {
					want = append(want, path+": no place")
				} else {
					want = append(want, a.path)
				}
			}
			if diff := cmp.Diff(want, s.ended); diff != "" {
				t.Errorf("ended (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("can not write", func(t *testing.T) {
		var f fake
		g.serving(&f, t, g.answer)
		s := newShelf(t)
		s.write = refusal
		err := f.client(t, client.Options{}).Fetch(t.Context(), fetched, g.artifacts(), s.receiver())
		if !errors.Is(err, refusal) || s.lost > 0 || !cmp.Equal(s.ended, []string{"a: the transfer ended"}) {
			t.Errorf("%v, lost %d times, ended %q", err, s.lost, s.ended)
		}
	})
	t.Run("ends it", func(t *testing.T) {
		var f fake
		g.serving(&f, t, g.answer)
		r := newShelf(t).receiver()
		r.End = func(job.Artifact, client.Partial, error) error { return refusal }
		if err := f.client(t, client.Options{}).Fetch(t.Context(), fetched, g.artifacts(), r); !errors.Is(err, refusal) {
			t.Error(err)
		}
	})
}

// TestFetchInterrupted: a context ends it in the middle of an artifact.
func TestFetchInterrupted(t *testing.T) {
	ctx, stop := context.WithCancelCause(t.Context())
	reason := errors.New("enough")
	g := goods{{"a", random(1000)}}
	var f fake
	f.can = []string{wire.CapFetch}
	f.start(t, func(ctx context.Context, _ int, conn *wire.Conn) error {
		if _, err := conn.Receive(ctx, wire.KindFetch); err != nil {
			return err
		}
		return conn.Send(wire.Content{Content: g.artifacts()[0].Content, Data: wire.Blob{Size: 1000, Open: func() (io.ReadCloser, error) {
			stop(reason)
			<-ctx.Done() // the test's end
			return nil, ctx.Err()
		}}})
	})
	s := newShelf(t)
	err := f.client(t, client.Options{}).Fetch(ctx, fetched, g.artifacts(), s.receiver())
	if !errors.Is(err, reason) || !cmp.Equal(s.ended, []string{"a: the transfer ended"}) {
		t.Errorf("%v, ended %q", err, s.ended)
	}
}

// TestFetchOldServer: what an older server can not be asked.
func TestFetchOldServer(t *testing.T) {
	var f fake
	f.start(t, func(ctx context.Context, _ int, conn *wire.Conn) error {
		_, err := conn.Receive(ctx)
		return err
	})
	c := f.client(t, client.Options{})
	_, described := c.Describe(t.Context(), "j", "")
	_, found := c.Find(t.Context(), [32]byte{}, 1)
	for what, err := range map[string]error{
		"describe": described, "find": found, "fetch": c.Fetch(t.Context(), fetched, nil, client.Receiver{}),
	} {
		if err == nil || !strings.Contains(err.Error(), `lacks "fetch"`) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
