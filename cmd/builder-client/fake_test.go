package main_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/google/uuid"
	"github.com/rogpeppe/go-internal/testscript"
)

// startFake runs a server to the end of the script, with serve for each
// connection, and sets BUILDER_REMOTE.
func startFake(ts *testscript.TestScript, serve func(context.Context, *wire.Conn) error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Setenv("BUILDER_REMOTE", l.Addr().String())
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	var sessions sync.WaitGroup
	errs := make(chan error, 1000)
	sessions.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			sessions.Go(func() {
				conn := wire.NewConn(nc, nil)
				defer conn.Close()
				errs <- serve(ctx, conn)
			})
		}
	})
	ts.Defer(func() {
		stop()
		l.Close()
		sessions.Wait()
		close(errs)
		for err := range errs {
			ts.Logf("fake server: %v", err)
		}
	})
}

// startFickle runs a server of our own version on which a run takes two tries,
// exports break off, or stand still if it is "stalled", watching "broken", "gone"
// and "down" breaks off too, after which there are no such build as the second,
// and no more connections for the third; and nothing can be cancelled.
func startFickle(ts *testscript.TestScript, _ bool, _ []string) {
	startFake(ts, func(ctx context.Context, conn *wire.Conn) error {
		all := []string{wire.CapDefine, wire.CapStatus, wire.CapWatch, wire.CapBuilds}
		if _, err := wire.Accept(ctx, conn, wire.Welcome{Program: "fickle 1", Capabilities: all}); err != nil {
			return err
		}
		for {
			m, err := conn.Receive(ctx, wire.KindExecute, wire.KindWatch, wire.KindExport)
			if err != nil {
				return err
			}
			w, watches := m.(wire.Watch)
			if watches && w.Build == fickleBuilds["down"] {
				return errBroken
			}
			for i, answer := range fickleAnswers(ctx, m) {
				if err := conn.Send(answer); err != nil {
					return err
				}
				if watches && i == 1 && fickleBuilds[w.What] != uuid.Nil {
					return errBroken
				}
			}
		}
	})
}

var errBroken = errors.New("broken off on purpose")

// fickleBuilds are the builds whose watching breaks off.
var fickleBuilds = map[string]uuid.UUID{"broken": {1}, "gone": {3}, "down": {4}}

func fickleAnswers(ctx context.Context, m wire.Message) []wire.Message {
	switch m := m.(type) {
	case wire.Execute:
		return []wire.Message{
			wire.Accepted{Runs: []wire.RunRef{{ID: 1, Platform: "a"}, {ID: 2, Platform: "b"}}}, wire.Success{},
		}
	case wire.Export:
		return []wire.Message{wire.ExportReply{Size: 1 << 20, Write: func(w io.Writer) error {
			_, err := w.Write(bytes.Repeat([]byte("begun\n"), 1<<16))
			if m.What == "stalled" {
				<-ctx.Done()
			}
			return errors.Join(err, errBroken)
		}}}
	}
	first, second := uuid.UUID{1}, uuid.UUID{2}
	if w := m.(wire.Watch); w.Build == fickleBuilds["gone"] && w.Build != uuid.Nil {
		return []wire.Message{wire.Failure{Text: "no such build"}}
	} else if id := fickleBuilds[w.What]; id != uuid.Nil {
		first = id
	}
	line := func(id uuid.UUID, text string) wire.Message {
		return wire.Lines{UUID: id, Lines: []job.Line{{Data: []byte(text)}}}
	}
	return []wire.Message{
		wire.Watching{Build: wire.BuildStatus{UUID: first, Job: "twice", Platform: "a", Try: 1}},
		line(first, "first try"),
		wire.Ended{Build: job.Build{UUID: first, Result: job.Failure(job.WorkerLost, "worker lost")}},
		wire.Watching{Build: wire.BuildStatus{UUID: second, Job: "twice", Platform: "a", Try: 2}},
		line(second, "second try"),
		wire.Ended{Build: job.Build{UUID: second}, Final: true},
		wire.Success{},
	}
}
