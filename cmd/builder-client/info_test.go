package main_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	cli "builder/cmd/builder-client"

	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

var now = time.Date(2026, 3, 29, 1, 0, 0, 0, time.UTC)

// everything is a status in which nothing is empty.
func everything() wire.StatusReply {
	return wire.StatusReply{
		Paused: "the disk is nearly full",
		Jobs: []wire.JobStatus{
			{
				Job:  job.Job{Name: "nightly", Platform: "debian-12", Script: job.ContentOf([]byte("true\n"))},
				Plan: job.Plan{Cron: "30 3 * * *", Zone: "Europe/Berlin"}, Next: now.Add(133 * time.Minute),
			},
			{Job: job.OrbBuild("odd\x1b[2J", "traceroute.0.1.0"), Plan: job.Plan{Period: job.Weekly}, Next: now.Add(-time.Minute)},
			{
				Job: job.Job{
					Name: "tool", Platform: "p", Template: "go-build", Vars: []job.Var{{Name: "REPO", Value: "a b"}},
					Limits: job.Limits{
						Timeout: 2 * time.Hour, Silence: 20 * time.Minute, Grace: 90 * time.Second, MaxConsole: 1 << 30, MaxArtifacts: 3e9,
					},
					Retries:   job.Retries{Tries: 6, OnFailure: true, OnTimeout: true},
					Retention: job.Retention{Builds: 10, Days: job.Unbounded, Bytes: 3e9},
				},
				Plan: job.Plan{Every: 90 * time.Minute},
			},
			{Job: job.Job{Name: "wild", Platform: "p", Retries: job.Retries{Tries: 1}}, Plan: job.Plan{Period: job.Daily}, Next: now, Parked: true},
		},
		Platforms: []wire.PlatformStatus{
			{
				Name: "debian-12", Queue: []job.Run{
					{ID: 7, Job: job.Job{Name: "nightly"}, Asked: now.Add(-5 * time.Second)},
					{ID: 6, Job: job.Job{Name: "tool"}, Asked: now.Add(-time.Hour), Tries: 1, After: now.Add(20 * time.Second)},
					{ID: 4, Job: job.Job{Name: "wild"}, Asked: now.Add(-time.Minute), Tries: 2, After: now.Add(time.Second)},
				},
				Workers: []wire.WorkerStatus{
					{Name: "w1", Address: "10.0.0.1:4242", Since: now.Add(-3 * time.Hour)},
					{Name: "w2", Build: uuid.UUID{1}},
				},
			},
			{Name: "old", Dropped: true},
		},
		Building: []wire.BuildStatus{
			{
				UUID: uuid.UUID{1}, Run: 5, Try: 2, Job: "tool", Platform: "debian-12", Worker: "w2", Started: now.Add(-72 * time.Second),
			},
			{
				UUID: uuid.UUID{2}, Run: 8, Try: 1, Job: "nightly", Platform: "debian-12", Worker: "w3",
				Started: now.Add(-72 * time.Second), Away: now.Add(-20 * time.Second),
			},
		},
		Remotes: []wire.RemoteStatus{
			{Name: "https://host/upload", Configured: true, Waiting: 3, Parked: 2},
			{Name: "http://old/upload", Waiting: 1},
		},
	}
}

func TestWriteStatus(t *testing.T) {
	local := time.Local
	defer func() { time.Local = local }()
	time.Local = time.UTC
	var out bytes.Buffer
	if err := cli.WriteStatus(&out, everything(), now); err != nil {
		t.Fatal(err)
	}
	want := `No builds are handed out: the disk is nearly full

Schedule
  JOB           PLATFORM        WHAT                           PLAN                             NEXT
  nightly       debian-12       script                         cron "30 3 * * *" Europe/Berlin  2026-03-29 03:13 UTC (in 2 h 13 min)
  "odd\x1b[2J"  (all that can)  orb build of traceroute.0.1.0  weekly                           2026-03-29 00:59 UTC (1 min 0 s ago)
  tool          p               template go-build REPO="a b"   every 1h30m                      never
  wild          p               script                         daily                            parked: it ended its workers; execute frees it

Limits
  JOB   OTHER THAN THE DEFAULTS
  tool  timeout 2h, silence 20m, grace 1m30s, artifacts 3GB, retries 5 on failure and timeout, keep 10 builds, any number of days, 3GB
  wild  retries 0

Queued
  PLATFORM   RUN  JOB      WAITING    TRIES
  debian-12  7    nightly  5.0 s      0
  debian-12  6    tool     1 h 0 min  1, the next in 20 s
  debian-12  4    wild     1 min 0 s  2, parked

Running
  JOB      PLATFORM   WORKER              BUILD                                 ELAPSED
  tool     debian-12  w2                  01000000-0000-0000-0000-000000000000  1 min 12 s
  nightly  debian-12  w3 (away for 20 s)  02000000-0000-0000-0000-000000000000  1 min 12 s

Waiting workers
  PLATFORM   WORKER  ADDRESS        WAITING
  debian-12  w1      10.0.0.1:4242  3 h 0 min

Dropped platforms
  PLATFORM
  old

Outbox
  REMOTE                              WAITING  PARKED
  https://host/upload                 3        2: see ` + "`outbox`" + `
  http://old/upload (not configured)  1        0
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

// The fields of the JSON are those of the manual.
func TestStatusJSON(t *testing.T) {
	var out bytes.Buffer
	if err := cli.WriteJSON(&out, cli.StatusJSON(everything())); err != nil {
		t.Fatal(err)
	}
	var got any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	type object = map[string]any
	type list = []any
	period := func(p string) object { return object{"period": p, "every": 0.0, "cron": "", "zone": ""} }
	unbounded := object{"cpus": 0.0, "memory": 0.0, "pids": 0.0, "disk": 0.0, "no_network": false}
	none := object{"timeout": 0.0, "silence": 0.0, "grace": 0.0, "max_console": 0.0, "max_artifacts": 0.0}
	open := object{"builds": 0.0, "days": 0.0, "bytes": 0.0}
	want := object{
		"paused": "the disk is nearly full",
		"jobs": list{
			object{
				"name": "nightly", "platform": "debian-12", "template": "", "vars": object{},
				"script": object{"sha256": job.ContentOf([]byte("true\n")).String(), "size": 5.0},
				"plan":   object{"period": "", "every": 0.0, "cron": "30 3 * * *", "zone": "Europe/Berlin"},
				"next":   "2026-03-29T03:13:00Z",
				"limits": none, "retries": 2.0, "retry_on": list{}, "keep": open, "parked": false, "resources": unbounded,
			},
			object{
				"name": "odd\x1b[2J", "platform": "", "template": "orb-build", "vars": object{"OPAM_PACKAGE": "traceroute.0.1.0"},
				"script": nil, "plan": period("weekly"), "next": "2026-03-29T00:59:00Z",
				"limits": none, "retries": 2.0, "retry_on": list{}, "keep": open, "parked": false, "resources": unbounded,
			},
			object{
				"name": "tool", "platform": "p", "template": "go-build", "vars": object{"REPO": "a b"},
				"script": nil, "plan": object{"period": "", "every": 5400.0, "cron": "", "zone": ""}, "next": nil,
				"limits":  object{"timeout": 7200.0, "silence": 1200.0, "grace": 90.0, "max_console": float64(1 << 30), "max_artifacts": 3e9},
				"retries": 5.0, "retry_on": list{"failure", "timeout"}, "parked": false, "keep": object{"builds": 10.0, "days": -1.0, "bytes": 3e9}, "resources": unbounded,
			},
			object{
				"name": "wild", "platform": "p", "template": "", "vars": object{},
				"script": nil, "plan": period("daily"), "next": "2026-03-29T01:00:00Z",
				"limits": none, "retries": 0.0, "retry_on": list{}, "keep": open, "parked": true, "resources": unbounded,
			},
		},
		"platforms": list{
			object{
				"name": "debian-12", "dropped": false,
				"queue": list{
					object{"run": 7.0, "job": "nightly", "asked": "2026-03-29T00:59:55Z", "tries": 0.0, "after": nil},
					object{"run": 6.0, "job": "tool", "asked": "2026-03-29T00:00:00Z", "tries": 1.0, "after": "2026-03-29T01:00:20Z"},
					object{"run": 4.0, "job": "wild", "asked": "2026-03-29T00:59:00Z", "tries": 2.0, "after": "2026-03-29T01:00:01Z"},
				},
				"workers": list{
					object{"name": "w1", "address": "10.0.0.1:4242", "since": "2026-03-28T22:00:00Z", "build": nil},
					object{"name": "w2", "address": "", "since": nil, "build": "01000000-0000-0000-0000-000000000000"},
				},
			},
			object{"name": "old", "dropped": true, "queue": list{}, "workers": list{}},
		},
		"remotes": list{
			object{"name": "https://host/upload", "configured": true, "waiting": 3.0, "parked": 2.0},
			object{"name": "http://old/upload", "configured": false, "waiting": 1.0, "parked": 0.0},
		},
		"building": list{
			object{
				"uuid": "01000000-0000-0000-0000-000000000000", "job": "tool", "platform": "debian-12", "worker": "w2",
				"run": 5.0, "try": 2.0, "started": "2026-03-29T00:58:48Z", "away": nil,
			},
			object{
				"uuid": "02000000-0000-0000-0000-000000000000", "job": "nightly", "platform": "debian-12", "worker": "w3",
				"run": 8.0, "try": 1.0, "started": "2026-03-29T00:58:48Z", "away": "2026-03-29T00:59:40Z",
			},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
