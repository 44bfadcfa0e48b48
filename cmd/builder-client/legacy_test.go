package main_test

import (
	"context"
	"errors"
	"os"
	"time"

	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/google/uuid"
	"github.com/rogpeppe/go-internal/testscript"
)

// legacyBuild is a build that runs at the legacy server. One of the job failing
// ends with a text, while one of the job ending is watched the connection breaks.
var (
	legacyBuild  = uuid.MustParse("3f1c9a2e-0b7c-4a5e-9d3c-5f0a1b2c3d4e")
	failingBuild = uuid.UUID{1}
	endingBuild  = uuid.UUID{2}
)

// legacyConsoles have the result as their last line.
var legacyConsoles = map[uuid.UUID][]string{
	legacyBuild:  {"one", "exited 0", "two", "exited 3"},
	failingBuild: {"one", "no such thing"},
	endingBuild:  {"one", "exited 0"},
}

// startLegacy runs a server that knows the reference's protocol 13 only, and
// sets BUILDER_REMOTE: legacy FILE. What it is asked is appended to the file, a
// kind on each line.
func startLegacy(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: legacy FILE")
	}
	asked, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	startFake(ts, func(ctx context.Context, conn *wire.Conn) error { return serveLegacy(ctx, conn, asked) })
	ts.Defer(func() { asked.Close() })
}

// serveLegacy does one request, as the reference does. It says nothing to who
// speaks another version.
func serveLegacy(ctx context.Context, conn *wire.Conn, asked *os.File) error {
	m, err := conn.Receive(ctx, wire.KindClientHello)
	if err != nil {
		return err
	}
	if m.(wire.ClientHello).Version != wire.ClientVersion {
		return nil
	}
	if err := conn.Send(wire.ServerHello{}); err != nil {
		return err
	}
	m, err = conn.Receive(ctx,
		wire.KindSchedule, wire.KindScheduleOrb, wire.KindUnschedule, wire.KindExecute, wire.KindReschedule,
		wire.KindDropPlatform, wire.KindUndropPlatform, wire.KindInfo, wire.KindObserve)
	if err != nil {
		return err
	}
	if _, err := asked.WriteString(m.Kind().String() + "\n"); err != nil {
		return err
	}
	switch m := m.(type) {
	case wire.Unschedule:
		return conn.Send(wire.Failure{Text: "no such job"})
	case wire.Info:
		err = conn.Send(legacyInfo())
	case wire.Observe:
		if legacyConsoles[m.UUID] == nil {
			return conn.Send(wire.Failure{Text: "no such build"})
		}
		for i, line := range legacyConsoles[m.UUID] {
			err = errors.Join(err, conn.Send(wire.Output{
				UUID: m.UUID, Data: []byte(line), Delta: time.Duration(i) * time.Second, Stamped: true,
			}))
		}
		if m.UUID == endingBuild {
			return err
		}
	}
	return errors.Join(err, conn.Send(wire.Success{}))
}

func legacyInfo() wire.InfoReply {
	opamPackage := "traceroute.0.1.0"
	script := wire.ScriptJob{Name: "hello", Platform: "debian-11", Script: wire.Blob{Data: []byte("echo hello\n")}}
	return wire.InfoReply{
		Schedule: []wire.ScheduleItem{
			{Next: time.Date(2999, 1, 2, 3, 4, 0, 0, time.UTC), Period: job.Weekly, Job: wire.AnyJob{ScriptJob: script}},
			{Next: wire.Never, Period: job.Never, Job: wire.AnyJob{
				ScriptJob: wire.ScriptJob{Name: "odd \x1b[2J"}, OrbPackage: &opamPackage,
			}},
		},
		Queues: []wire.PlatformQueue{{Platform: "debian-11", Jobs: []wire.AnyJob{{ScriptJob: script}}}},
		Running: []wire.RunningJob{
			{Started: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), UUID: legacyBuild, Job: script},
			{UUID: failingBuild, Job: wire.ScriptJob{Name: "failing", Platform: "failing"}},
			{UUID: endingBuild, Job: wire.ScriptJob{Name: "ending", Platform: "ending"}},
		},
		Dropped: []string{"debian-11"},
	}
}
