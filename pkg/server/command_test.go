package server_test

import (
	"strings"
	"testing"
	"time"

	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// legacyInfo is what a client of the reference is shown.
func (r *running) legacyInfo() wire.InfoReply {
	r.t.Helper()
	p := r.dial(wire.Client, wire.ClientVersion)
	p.send(wire.Info{})
	info := p.receive(wire.KindInfoReply).(wire.InfoReply)
	p.done()
	return info
}

func scriptJob(name, platform, script string) wire.ScriptJob {
	return wire.ScriptJob{Name: name, Platform: platform, Script: text(script)}
}

// TestCommands sends what the reference's client can send, one after the other
// on one server, with the answer to each.
func TestCommands(t *testing.T) {
	r := start(t)
	r.template("orb-build.template.p", "build %%OPAM_PACKAGE%% on %%PLATFORM%%")
	platform := func(name string) *string { return &name }
	daily := job.Daily
	later := time.Date(2100, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, step := range []struct {
		name    string
		request wire.Message
		refusal string // a part of it; "" for Success
	}{
		{"schedule", wire.Schedule{Period: job.Hourly, Job: scriptJob("one", "p", "#!/bin/sh\n")}, ""},
		{"schedule the name again", wire.Schedule{Period: job.Daily, Job: scriptJob("one", "q", "other")}, `job name already used: "one"`},
		{"schedule a bad name", wire.Schedule{Job: scriptJob("../one", "p", "x")}, "is not allowed"},
		{"schedule on a bad platform", wire.Schedule{Job: scriptJob("two", "p/q", "x")}, "is not allowed"},
		{"schedule an empty script", wire.Schedule{Period: job.Never, Job: scriptJob("empty", "p", "")}, ""},
		{"schedule an orb build", wire.ScheduleOrb{Period: job.Weekly, Name: "orb", Package: "hello"}, ""},
		{"execute", wire.Execute{Name: "one"}, ""},
		{"execute on its platform", wire.Execute{Name: "one", Platform: platform("p")}, ""},
		{"execute on another", wire.Execute{Name: "one", Platform: platform("q")}, "not for platform"},
		{"execute, the old way", wire.Execute{Name: "orb"}, ""},
		{"execute what is unknown", wire.Execute{Name: "none"}, "unknown job"},
		{"reschedule", wire.Reschedule{Name: "one", Next: later}, ""},
		{"reschedule with a period", wire.Reschedule{Name: "orb", Next: later, Period: &daily}, ""},
		{"reschedule what is unknown", wire.Reschedule{Name: "none", Next: later}, "unknown job"},
		{"unschedule", wire.Unschedule{Name: "empty"}, ""},
		{"unschedule it again", wire.Unschedule{Name: "empty"}, "unknown job"},
		{"drop an unknown platform", wire.DropPlatform{Platform: "q"}, "unknown platform"},
		{"drop", wire.DropPlatform{Platform: "p"}, ""},
		{"drop again", wire.DropPlatform{Platform: "p"}, "dropped already"},
		{"execute on a dropped one", wire.Execute{Name: "one"}, "platform is dropped"},
		{"undrop", wire.UndropPlatform{Platform: "p"}, ""},
		{"undrop again", wire.UndropPlatform{Platform: "p"}, "not dropped"},
		{"observe nothing", wire.Observe{UUID: uuid.New()}, "no such build"},
	} {
		if got := r.legacy(step.request); (got == "") != (step.refusal == "") || !strings.Contains(got, step.refusal) {
			t.Errorf("%s: %q, expected %q", step.name, got, step.refusal)
		}
	}
	info := r.legacyInfo()
	orb := "hello"
	want := wire.InfoReply{
		Schedule: []wire.ScheduleItem{
			{Next: later, Period: job.Hourly, Job: wire.AnyJob{ScriptJob: scriptJob("one", "p", "#!/bin/sh\n")}},
			{Next: later, Period: job.Daily, Job: wire.AnyJob{ScriptJob: wire.ScriptJob{Name: "orb"}, OrbPackage: &orb}},
		},
		Queues: []wire.PlatformQueue{{Platform: "p", Jobs: []wire.AnyJob{
			{ScriptJob: wire.ScriptJob{Name: "orb"}, OrbPackage: &orb},
			{ScriptJob: scriptJob("one", "p", "#!/bin/sh\n")},
		}}},
	}
	if diff := cmp.Diff(want, info); diff != "" {
		t.Errorf("info (-want +got):\n%s", diff)
	}
}

// TestExecuteOld sends the retired form of execute.
func TestExecuteOld(t *testing.T) {
	r := start(t)
	r.schedule("one", "p", "x")
	r.schedule("two", "p", "x")
	p := r.dial(wire.Client, wire.ClientVersion)
	p.raw(message(wire.KindExecuteOld, []byte{0x0c, 0x03, 't', 'w', 'o'}))
	p.done()
	if first := r.platform("p").Queue[0].Job.Name; first != "two" {
		t.Errorf("the first in the queue is %q", first)
	}
}

// TestRescheduleRange: times that a record can not carry are refused, whatever
// they are to us; the reference's largest is never.
func TestRescheduleRange(t *testing.T) {
	r := start(t)
	r.schedule("one", "p", "x")
	for _, next := range []time.Time{
		{},
		time.Date(1969, 12, 31, 23, 59, 59, 0, time.UTC), time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(9999, 12, 31, 23, 59, 58, 0, time.UTC),
	} {
		if refusal := r.legacy(wire.Reschedule{Name: "one", Next: next}); !strings.Contains(refusal, "from 1970-01-01T00:00:00Z to 2116-") {
			t.Errorf("rescheduling to %v: %q", next, refusal)
		}
	}
	if refusal := r.legacy(wire.Reschedule{Name: "one", Next: wire.Never}); refusal != "" {
		t.Error(refusal)
	}
}

// TestBadPlatform: a worker of a platform that can not be is sent away for good,
// if it understands that.
func TestBadPlatform(t *testing.T) {
	r := start(t)
	for name, capabilities := range map[string][]string{"ours": {wire.CapDismissed}, "an older one of ours": nil} {
		p := r.socket()
		p.send(wire.ClientHello{Role: wire.Worker, Version: wire.OwnVersion})
		p.receive(wire.KindWelcome)
		p.send(wire.Introduce{Name: name, Capabilities: capabilities})
		p.send(wire.JobRequested{Platform: "bad name"})
		text := ""
		switch m := p.receive(wire.KindDismissed, wire.KindFailure).(type) {
		case wire.Dismissed:
			text = m.Text
		case wire.Failure:
			if capabilities == nil {
				text = m.Text
			}
		}
		if !strings.Contains(text, `"bad name"`) {
			t.Errorf("%s is told %q", name, text)
		}
		p.gone()
	}
	r.requested(wire.WorkerVersion, "bad name").gone()
}

// TestDroppedPlatform has workers of both kinds on a platform that is dropped.
func TestDroppedPlatform(t *testing.T) {
	r := start(t)
	r.schedule("one", "p", "x")
	if refusal := r.legacy(wire.DropPlatform{Platform: "p"}); refusal != "" {
		t.Fatal(refusal)
	}
	r.restart()
	if !r.platform("p").Dropped {
		t.Fatal("a restart brought the platform back")
	}
	old := r.requested(wire.WorkerVersion, "p")
	r.waiting("p", 1)
	own := r.requested(wire.OwnVersion, "p") // it may come again
	if m := own.receive(wire.KindFailure).(wire.Failure); !strings.Contains(m.Text, "dropped") {
		t.Errorf("our worker is told %q", m.Text)
	}
	own.gone()
	if queue := r.platform("p").Queue; len(queue) != 1 {
		t.Errorf("the queue has %d runs", len(queue))
	}
	if refusal := r.legacy(wire.UndropPlatform{Platform: "p"}); refusal != "" {
		t.Fatal(refusal)
	}
	if got := old.job(); got.Job.Name != "one" {
		t.Errorf("the worker that waited was given %q", got.Job.Name)
	}
}
