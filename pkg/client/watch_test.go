package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"builder/pkg/client"
	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// watches are ways to ask for the same builds: the whole run, or its last one.
func watches() map[string]struct {
	target wire.Watch
	story  story
} {
	last := twoTries()[1:]
	return map[string]struct {
		target wire.Watch
		story  story
	}{
		"run":    {wire.Watch{Run: 7, Job: "j"}, twoTries()},
		"job":    {wire.Watch{What: "j"}, last},
		"uuid":   {wire.Watch{What: last[0].id.String()}, last},
		"latest": {wire.Watch{Platform: "p"}, last},
	}
}

// TestWatchCut cuts the connection behind each of its messages, and the next one
// behind each of its: all is shown once, in its order.
func TestWatchCut(t *testing.T) {
	for name, way := range watches() {
		for _, generous := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, generous %v", name, generous), func(t *testing.T) {
				whole := len(way.story.messages(way.target, false))
				for first := range whole {
					for second := range whole + 1 {
						watchCut(t, way.target, way.story, generous, first, second)
					}
				}
			})
		}
	}
}

// watchCut watches a story over connections, the first of which are cut behind so
// many messages.
func watchCut(t *testing.T, target wire.Watch, s story, generous bool, cuts ...int) {
	t.Helper()
	var f fake
	f.start(t, func(ctx context.Context, n int, conn *wire.Conn) error {
		m, err := conn.Receive(ctx, wire.KindWatch)
		if err != nil {
			return err
		}
		for i, answer := range s.messages(m.(wire.Watch), generous) {
			if n < len(cuts) && i == cuts[n] {
				return nil
			}
			if err := conn.Send(answer); err != nil {
				return err
			}
		}
		_, err = conn.Receive(ctx) // the client closes
		return err
	})
	var seen notes
	c := f.client(t, client.Options{})
	if err := c.Watch(t.Context(), target, seen.viewer()); err != nil {
		t.Fatalf("cut at %v: %v", cuts, err)
	}
	c.Close()
	if diff := cmp.Diff(s.want(), seen.events); diff != "" {
		t.Fatalf("cut at %v (-want +shown):\n%s", cuts, diff)
	}
	if seen.partial != "" || seen.partials == 0 {
		t.Errorf("cut at %v: %d partial lines, left over: %q", cuts, seen.partials, seen.partial)
	}
	if len(seen.lost) == 0 && cuts[0] < len(s.messages(target, false))-1 {
		t.Errorf("cut at %v: the viewer was not told", cuts)
	}
}

// cutConn breaks off what is written to it after so many octets.
type cutConn struct {
	net.Conn
	left int
}

// Write implements io.Writer.
func (c *cutConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p[:min(len(p), c.left)])
	c.left -= n
	if n < len(p) {
		return n, errors.Join(err, c.Close(), net.ErrClosed)
	}
	return n, err
}

// TestWatchCutAnywhere cuts in the middle of messages, the handshake's of the
// second connection too.
func TestWatchCutAnywhere(t *testing.T) {
	s := twoTries()
	target := wire.Watch{Run: 7, Job: "j"}
	for cut := 0; ; cut += 3 {
		f := fake{wrap: func(n int, nc net.Conn) net.Conn {
			if n == 1 {
				return &cutConn{nc, cut}
			}
			return nc
		}}
		f.start(t, func(ctx context.Context, n int, conn *wire.Conn) error {
			m, err := conn.Receive(ctx, wire.KindWatch)
			if err != nil {
				return err
			}
			if n == 0 {
				return conn.Send(s.messages(m.(wire.Watch), false)[0])
			}
			for _, answer := range s.messages(m.(wire.Watch), false) {
				if err := conn.Send(answer); err != nil {
					return err
				}
			}
			_, err = conn.Receive(ctx)
			return err
		})
		var seen notes
		if err := f.client(t, client.Options{}).Watch(t.Context(), target, seen.viewer()); err != nil {
			t.Fatalf("cut at octet %d: %v", cut, err)
		}
		if diff := cmp.Diff(s.want(), seen.events); diff != "" {
			t.Fatalf("cut at octet %d (-want +shown):\n%s", cut, diff)
		}
		if len(seen.lost) == 1 {
			if cut < 200 {
				t.Errorf("only %d octets were cut", cut)
			}
			return // the second connection was whole
		}
	}
}

// TestWatchFrom: the first line that is wanted is kept over connections, and is
// not meant for other builds.
func TestWatchFrom(t *testing.T) {
	watchFrom := func(target wire.Watch, want []string) {
		t.Helper()
		var f fake
		f.start(t, func(ctx context.Context, n int, conn *wire.Conn) error {
			m, err := conn.Receive(ctx, wire.KindWatch)
			if err != nil {
				return err
			}
			for i, answer := range twoTries().messages(m.(wire.Watch), false) {
				if i == 4 {
					return nil
				}
				if err := conn.Send(answer); err != nil {
					return err
				}
			}
			return nil
		})
		var seen notes
		if err := f.client(t, client.Options{}).Watch(t.Context(), target, seen.viewer()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, seen.events); diff != "" {
			t.Errorf("from line %d (-want +shown):\n%s", target.From, diff)
		}
	}
	all := twoTries().want()
	watchFrom(wire.Watch{Run: 7, From: 2}, append([]string{all[0]}, all[3:]...))
	watchFrom(wire.Watch{Run: 7, From: 2, Build: uuid.UUID{2}}, append([]string{all[8]}, all[11:]...))
}

// TestWatchEnds: what no other connection mends is an error, and the only one that
// a viewer is not told before.
func TestWatchEnds(t *testing.T) {
	id := uuid.UUID{1}
	begin := wire.Watching{Build: wire.BuildStatus{UUID: id}}
	lostEnd := wire.Ended{Build: job.Build{UUID: id, Result: job.Failure(job.WorkerLost, "worker lost")}}
	finalEnd := lostEnd
	finalEnd.Final = true
	lines := func(id uuid.UUID, from int64) wire.Message {
		return wire.Lines{UUID: id, From: from, Lines: []job.Line{{Data: []byte("x")}}}
	}
	for name, test := range map[string]struct {
		answers [][]wire.Message // over each connection
		want    string
		lost    int
	}{
		"refused":                     {[][]wire.Message{{wire.Failure{Text: "no such build"}}}, "no such build", 0},
		"refused later":               {[][]wire.Message{{begin}, {wire.Failure{Text: "no such build"}}}, "no such build", 1},
		"lines left out":              {[][]wire.Message{{begin, lines(id, 2)}}, "the server left out lines 0 to 1", 0},
		"lines left out later":        {[][]wire.Message{{begin, lines(id, 0)}, {begin, lines(id, 2)}}, "the server left out lines 1 to 1", 1},
		"lines of nothing":            {[][]wire.Message{{lines(id, 0)}}, "the server sent lines of build 01000000-", 0},
		"message out of place":        {[][]wire.Message{{begin, wire.ListReply{}}}, "unexpected message", 0},
		"no other try after all":      {[][]wire.Message{{begin, lostEnd}, {begin, finalEnd, wire.Success{}}}, "run 7 ended without a further build", 1},
		"cut behind the last message": {[][]wire.Message{{begin, finalEnd}}, "", 0},
		"not before it was handed out": {
			[][]wire.Message{{}, {}, {begin, finalEnd}}, "", 2,
		},
		"later": {[][]wire.Message{{wire.Later{After: 1, Reason: "upgrade"}}, {begin, finalEnd}}, "", 1},
	} {
		t.Run(name, func(t *testing.T) {
			var f fake
			f.start(t, func(ctx context.Context, n int, conn *wire.Conn) error {
				if _, err := conn.Receive(ctx, wire.KindWatch); err != nil {
					return err
				}
				if n == len(test.answers) {
					return conn.Send(wire.Failure{Text: "too many connections"})
				}
				for _, m := range test.answers[n] {
					if err := conn.Send(m); err != nil {
						return err
					}
				}
				return nil
			})
			var seen notes
			err := f.client(t, client.Options{}).Watch(t.Context(), wire.Watch{Run: 7, Job: "j"}, seen.viewer())
			if text := fmt.Sprint(err); test.want == "" && err != nil || test.want != "" && !strings.Contains(text, test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
			if len(seen.lost) != test.lost {
				t.Errorf("lost %d times: %v", len(seen.lost), seen.lost)
			}
			if name == "later" && !strings.Contains(fmt.Sprint(seen.lost), "upgrade") {
				t.Errorf("the reason is not told: %v", seen.lost)
			}
		})
	}
}

// TestWatchViewerErrors: an error of each function ends the watching.
func TestWatchViewerErrors(t *testing.T) {
	broken := errors.New("the screen is broken")
	for name, v := range map[string]client.Viewer{
		"begin": {Begin: func(wire.BuildStatus) error { return broken }},
		"line":  {Line: func(job.Line) error { return broken }},
		"pause": {Pause: func() error { return broken }},
		"end":   {End: func(job.Build, bool) error { return broken }},
		"lost":  {Lost: func(error, time.Duration) error { return broken }},
	} {
		t.Run(name, func(t *testing.T) {
			var f fake
			f.start(t, func(ctx context.Context, n int, conn *wire.Conn) error {
				m, err := conn.Receive(ctx, wire.KindWatch)
				if err != nil {
					return err
				}
				for i, answer := range twoTries().messages(m.(wire.Watch), false) {
					if err := conn.Send(answer); err != nil || name == "lost" && i == 3 {
						return err
					}
				}
				_, err = conn.Receive(ctx)
				return err
			})
			if err := f.client(t, client.Options{}).Watch(t.Context(), wire.Watch{Run: 7}, v); !errors.Is(err, broken) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestWatchNoServer: a first connection that can not be made is an error at once.
func TestWatchNoServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	var seen notes
	c := client.New(l.Addr().String(), client.Options{})
	defer c.Close()
	if err := c.Watch(t.Context(), wire.Watch{What: "j"}, seen.viewer()); err == nil || len(seen.lost) > 0 {
		t.Errorf("error %v, lost %v", err, seen.lost)
	}
}

// TestWatchPauses: the pauses grow, and begin anew when something has come.
func TestWatchPauses(t *testing.T) {
	const pause = 200 * time.Microsecond
	begin := wire.Watching{Build: wire.BuildStatus{UUID: uuid.UUID{1}}}
	var f fake
	f.start(t, func(ctx context.Context, n int, conn *wire.Conn) error {
		_, err := conn.Receive(ctx, wire.KindWatch)
		switch {
		case err != nil:
			return err
		case n == 6:
			return conn.Send(begin)
		case n == 9:
			return conn.Send(wire.Ended{Build: job.Build{UUID: begin.Build.UUID}, Final: true})
		}
		return nil
	})
	var seen notes
	if err := f.client(t, client.Options{Pause: pause}).Watch(t.Context(), wire.Watch{What: "j"}, seen.viewer()); err != nil {
		t.Fatal(err)
	}
	if len(seen.waits) != 9 {
		t.Fatalf("waits: %v", seen.waits)
	}
	for i, wait := range seen.waits {
		grown := pause
		for range i % 6 {
			grown = grown * 3 / 2
		}
		if wait < grown/2 || wait > grown {
			t.Errorf("wait %d is %v, want %v to %v", i, wait, grown/2, grown)
		}
	}
}

// TestWatchInterrupted: nobody waits for a pause to end.
func TestWatchInterrupted(t *testing.T) {
	var f fake
	f.start(t, func(ctx context.Context, _ int, conn *wire.Conn) error {
		_, err := conn.Receive(ctx, wire.KindWatch)
		return err
	})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	v := client.Viewer{Lost: func(error, time.Duration) error {
		stop()
		return nil
	}}
	if err := f.client(t, client.Options{Pause: time.Hour}).Watch(ctx, wire.Watch{What: "j"}, v); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// TestWatchSilent: a server that hangs is left; one that has nothing to say is not.
func TestWatchSilent(t *testing.T) {
	s := twoTries()
	f := fake{can: []string{wire.CapAlive}}
	f.start(t, func(ctx context.Context, n int, conn *wire.Conn) error {
		m, err := conn.Receive(ctx, wire.KindWatch)
		if err != nil {
			return err
		}
		messages := s.messages(m.(wire.Watch), false)
		if n == 0 {
			err := conn.Send(messages[0])
			<-ctx.Done()
			return err
		}
		conn.KeepAlive(10*time.Millisecond, time.Hour)
		for _, answer := range messages {
			if err := conn.Send(answer); err != nil {
				return err
			}
		}
		_, err = conn.Receive(ctx)
		return err
	})
	var seen notes
	c := f.client(t, client.Options{KeepAlive: 100 * time.Millisecond})
	if err := c.Watch(t.Context(), wire.Watch{Run: 7, Job: "j"}, seen.viewer()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s.want(), seen.events); diff != "" {
		t.Errorf("(-want +shown):\n%s", diff)
	}
	if len(seen.lost) == 0 || !errors.Is(seen.lost[0], wire.ErrSilent) {
		t.Errorf("lost: %v", seen.lost)
	}
}
