package client_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"builder/pkg/client"
	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/google/uuid"
)

// fake is a server of our own version: serve is called for each connection, the
// first is number 0, and what it returns ends that.
type fake struct {
	address string
	// wrap, if not nil, stands between a connection and its server.
	wrap func(n int, nc net.Conn) net.Conn
	can  []string
}

// start runs it to the end of the test.
func (f *fake) start(t *testing.T, serve func(ctx context.Context, n int, conn *wire.Conn) error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.address = l.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	var sessions sync.WaitGroup
	sessions.Go(func() {
		for n := 0; ; n++ {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			if f.wrap != nil {
				nc = f.wrap(n, nc)
			}
			sessions.Go(func() {
				conn := wire.NewConn(nc, nil)
				defer conn.Close()
				welcome := wire.Welcome{Program: "fake", Capabilities: append([]string{wire.CapWatch, wire.CapResume}, f.can...)}
				if _, err := wire.Accept(ctx, conn, welcome); err != nil {
					return
				}
				serve(ctx, n, conn) // what went wrong the client finds out
			})
		}
	})
	t.Cleanup(func() {
		stop()
		l.Close()
		sessions.Wait()
	})
}

// client asks it, with short pauses.
func (f *fake) client(t *testing.T, o client.Options) *client.Client {
	if o.Pause == 0 {
		o.Pause = 100 * time.Microsecond
	}
	o.Protocol = wire.OwnVersion
	c := client.New(f.address, o)
	t.Cleanup(func() { c.Close() })
	return c
}

// story is what a server has of a run: its builds with their lines.
type story []chapter

type chapter struct {
	id     uuid.UUID
	lines  []job.Line
	result job.Result
}

// twoTries is a run whose first build was lost.
func twoTries() story {
	line := func(text string, flags job.LineFlags) job.Line { return job.Line{Data: []byte(text), Flags: flags} }
	return story{
		{uuid.UUID{1}, []job.Line{
			line("one", 0), line("two\nthree\nfour", job.Many), line("fi", job.Partial), line("five", 0), line("six", job.Unended),
		}, job.Failure(job.WorkerLost, "worker lost")},
		{uuid.UUID{2}, []job.Line{
			line("again\n\nand again", job.Many), line("la", job.Partial), line("last", job.Partial), line("last line", 0),
		}, job.Result{}},
	}
}

// messages answer a watch: from the build and the line that it names on. Each
// line is a message of its own. A generous server repeats the lines before.
func (s story) messages(m wire.Watch, generous bool) []wire.Message {
	var all []wire.Message
	found := m.Build == uuid.Nil
	for i, c := range s {
		from := int64(0)
		if m.Build == c.id || m.Build == uuid.Nil && i == 0 {
			found, from = true, m.From
		}
		if !found {
			continue
		}
		if generous {
			from = 0
		}
		all = append(all, wire.Watching{Build: wire.BuildStatus{UUID: c.id, Try: i + 1}})
		number := int64(0)
		for _, line := range c.lines {
			count := line.Count()
			switch skip := from - number; {
			case skip > 0 && skip >= count: // a partial line among them has been replaced
			case skip > 0:
				all = append(all, wire.Lines{UUID: c.id, From: from, Lines: []job.Line{line.From(skip)}})
			default:
				all = append(all, wire.Lines{UUID: c.id, From: number, Lines: []job.Line{line}})
			}
			number += count
		}
		all = append(all, wire.Ended{Build: job.Build{UUID: c.id, Result: c.result}, Final: i == len(s)-1})
	}
	return append(all, wire.Success{})
}

// want is what a viewer is shown of it, without the partial lines.
func (s story) want() []string {
	var all []string
	for i, c := range s {
		all = append(all, fmt.Sprintf("begin %v", c.id))
		for _, many := range c.lines {
			for line := range many.Each() {
				if line.Flags&job.Partial == 0 {
					all = append(all, "line "+string(line.Data))
				}
			}
		}
		all = append(all, fmt.Sprintf("end %v, again %v", c.result, i < len(s)-1))
	}
	return all
}

// notes is what a viewer was shown.
type notes struct {
	events   []string
	partial  string // the line that is being shown
	partials int
	lost     []error
	waits    []time.Duration
}

func (n *notes) viewer() client.Viewer {
	note := func(format string, args ...any) error {
		n.events = append(n.events, fmt.Sprintf(format, args...))
		return nil
	}
	return client.Viewer{
		Begin: func(b wire.BuildStatus) error { return note("begin %v", b.UUID) },
		Line: func(l job.Line) error {
			if l.Flags&job.Partial != 0 {
				n.partials++
				n.partial = string(l.Data)
				return nil
			}
			n.partial = ""
			return note("line %s", l.Data)
		},
		End: func(b job.Build, again bool) error { return note("end %v, again %v", b.Result, again) },
		Lost: func(err error, wait time.Duration) error {
			n.lost, n.waits = append(n.lost, err), append(n.waits, wait)
			return nil
		},
	}
}
