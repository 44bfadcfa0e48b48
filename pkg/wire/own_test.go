package wire_test

import (
	"bytes"
	"encoding/asn1"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/google/uuid"
)

var update = flag.Bool("update", false, "write the vectors in testdata/own anew")

const ownDir = "testdata/own"

var (
	ownUUID  = uuid.MustParse("12345678-9abc-4def-8123-456789abcdef")
	ownTime  = time.Date(2026, 3, 4, 5, 6, 7, 123456789, time.UTC)
	ownJob   = job.Job{Name: "hello", Platform: "debian-12", Script: job.ContentOf([]byte("#!/bin/sh\n")), Limits: job.Limits{Silence: time.Minute}, Retries: job.Retries{Tries: 1, OnTimeout: true}, Retention: job.Retention{Builds: 10, Bytes: job.Unbounded}, Resources: job.Resources{Memory: 1 << 30, NoNetwork: true}}
	ownVars  = job.Job{Name: "site", Platform: "freebsd-14", Template: "go-build", Vars: []job.Var{{Name: "REF", Value: "main"}, {Name: "REPO", Value: "a/b"}}}
	ownRun   = job.Run{ID: 7, Job: ownJob, Platform: "debian-12", Asked: ownTime, Tries: 1, After: ownTime.Add(time.Minute)}
	ownState = wire.BuildStatus{UUID: ownUUID, Run: 7, Try: 2, Job: "hello", Platform: "debian-12", Worker: "pine", Started: ownTime, Away: ownTime.Add(time.Minute)}
	ownBuild = job.Build{
		UUID: ownUUID, Run: 7, Try: 2, Job: "hello", Platform: "debian-12", Script: ownJob.Script, Worker: "pine",
		Started: ownTime, Finished: ownTime.Add(90 * time.Second), Result: job.Result{Kind: job.Exited, Code: 3},
		Artifacts: []job.Artifact{{Path: "bin/hello", Mode: 0o755, Content: job.ContentOf([]byte("hello"))}},
		Notes:     []string{"link: a symbolic link, not kept"},
	}
)

// ownMessages are all kinds of our own messages, with their fields set and, as
// far as that makes a difference, without.
var ownMessages = []struct {
	name    string
	message wire.Message
}{
	{"welcome", wire.Welcome{Version: 1001, Program: "1.0", Capabilities: []string{wire.CapDefine, wire.CapStatus}, Nonce: []byte("drawn anew"), Beat: 15 * time.Second}},
	{"welcome_stores", wire.Welcome{Version: 1001, Program: "1.0", Capabilities: []string{wire.CapStore}, Stores: []string{"https://store.example.org/artifacts"}}},
	{"welcome_bare", wire.Welcome{Version: 1001}},
	{"introduce", wire.Introduce{Name: "pine", ID: "8f2c", Program: "1.0", Capabilities: []string{"lines"}, Nonce: []byte("drawn anew"), Beat: 2 * time.Second}},
	{"define_script", wire.Define{Job: job.Job{Name: "hello", Platform: "debian-12"}, Script: []byte("#!/bin/sh\nexit 0\n"), Plan: job.Plan{Period: job.Hourly}}},
	{"define_template", wire.Define{Job: ownVars, Plan: job.Plan{Cron: "30 3 * * mon-fri", Zone: "Europe/Berlin"}, Update: true}},
	{"accepted", wire.Accepted{Runs: []wire.RunRef{{ID: 7, Platform: "debian-12"}, {ID: 8, Platform: "freebsd-14"}}, Next: ownTime}},
	{"accepted_never", wire.Accepted{}},
	{"status", wire.Status{}},
	{"status_reply", wire.StatusReply{
		Jobs: []wire.JobStatus{
			{Job: ownJob, Plan: job.Plan{Every: 90 * time.Minute}, Next: ownTime, Parked: true},
			{Job: ownVars, Plan: job.Plan{Period: job.Never}},
		},
		Platforms: []wire.PlatformStatus{{
			Name: "debian-12", Dropped: true, Queue: []job.Run{ownRun},
			Workers: []wire.WorkerStatus{{Name: "pine", Address: "[::1]:4711", Since: ownTime, Build: ownUUID}},
		}},
		Building: []wire.BuildStatus{ownState},
		Remotes:  []wire.RemoteStatus{{Name: "https://host/upload", Configured: true, Waiting: 3, Parked: 1}},
		Paused:   "the disk is nearly full",
	}},
	{"watch_run", wire.Watch{Run: 7, From: 1_000_000}},
	{"watch_again", wire.Watch{Run: 7, From: 12, Build: ownUUID}},
	{"watch_latest", wire.Watch{Job: "hello", Platform: "debian-12"}},
	{"watch_what", wire.Watch{What: "1234"}},
	{"watching", wire.Watching{Build: ownState}},
	{"lines", wire.Lines{UUID: ownUUID, From: 41, Lines: []job.Line{
		{Delta: time.Millisecond, Data: []byte("whole")},
		{Delta: time.Second, Data: []byte{0, 0xff, '\r'}, Flags: job.Unended},
		{Delta: time.Minute, Data: []byte("two\nlines"), Flags: job.Many},
		{Delta: time.Minute, Data: []byte("50%"), Flags: job.Partial},
	}}},
	{"ended", wire.Ended{Build: ownBuild, Final: true}},
	{"ended_lost", wire.Ended{Build: job.Build{UUID: ownUUID, Job: "hello", Started: ownTime, Result: job.Failure(job.WorkerLost, "the worker went away")}}},
	{"list", wire.List{Job: "hello", Limit: 20}},
	{"list_reply_outputs", wire.ListReply{
		Builds:  []job.Build{ownBuild, {UUID: ownUUID, Job: "taken over"}},
		Outputs: []job.Output{{Path: "bin/hello", Main: ownBuild.Artifacts[0].Content, Inputs: ownJob.Script.SHA256}, {}},
	}},
	{"list_reply", wire.ListReply{Builds: []job.Build{ownBuild, {UUID: ownUUID, Job: "taken over"}}, Marks: []wire.BuildMark{{UUID: ownUUID, Pinned: true, Pruned: true, At: ownTime}, {UUID: ownUUID, Pinned: true}}}},
	{"export", wire.Export{What: ownUUID.String()}},
	{"cancel", wire.Cancel{What: "hello", Reason: "not needed"}},
	{"stop", wire.Stop{UUID: ownUUID, Result: job.Failure(job.Timeout, "ran longer than 1h0m0s")}},
	{"start", wire.Start{Build: ownState, Script: []byte("#!/bin/sh\n"), Limits: job.Limits{Timeout: time.Hour, MaxConsole: 1 << 30}}},
	{"finish", wire.Finish{
		UUID: ownUUID, Result: job.Result{Kind: job.Signalled, Code: 9}, Duration: 90 * time.Second, Notes: []string{"a", ""},
		Files: []wire.File{
			{Path: "bin/hello", Mode: 0o755, Data: wire.Blob{Data: []byte("hello")}},
			{Path: "empty", Mode: 0o600, Data: wire.Blob{Data: []byte{}}},
		},
	}},
	{"stored", wire.Stored{UUID: ownUUID}},
	{"stored_refused", wire.Stored{UUID: ownUUID, Refused: "ended already"}},
	{"dismissed", wire.Dismissed{Text: "platform name is not allowed"}},
	{"holding", wire.Holding{Builds: []wire.Held{{UUID: ownUUID, Lines: 41}, {UUID: ownUUID, Ended: true}}}},
	{"holding_nothing", wire.Holding{}},
	{"resume", wire.Resume{Builds: []wire.Resumption{{UUID: ownUUID, From: 7}, {UUID: ownUUID, Over: "it has ended as cancelled"}}}},
	{"done", wire.Done{
		UUID: ownUUID, Lines: 42, Result: job.Result{Kind: job.Exited, Code: 1}, Duration: 90 * time.Second, Notes: []string{"a"},
		Artifacts: ownBuild.Artifacts,
		Place:     job.Place{Kind: "container", Origin: "debian@sha256:00", Phases: []job.Phase{{Name: "run", Took: time.Second}}},
	}},
	{"done_located", wire.Done{UUID: ownUUID, Artifacts: []job.Artifact{
		{Path: "a", Mode: 0o644, Content: job.ContentOf([]byte("hello")), Location: "https://store.example.org/artifacts"},
		{Path: "b", Mode: 0o644, Content: job.ContentOf([]byte("hello"))},
	}}},
	{"want", wire.Want{UUID: ownUUID, Contents: []wire.Wanted{{Content: ownJob.Script, Offset: 3}}}},
	{"want_something", wire.Want{UUID: ownUUID}},
	{"deliver", wire.Deliver{UUID: ownUUID}},
	{"content", wire.Content{Content: ownJob.Script, Offset: 3, Data: wire.Blob{Data: []byte("bin/sh\n")}}},
	{"missing", wire.Missing{Content: ownJob.Script, Reason: "it was removed"}},
	{"alive", wire.Alive{}},
	{"describe", wire.Describe{What: "hello", Platform: "debian-12"}},
	{"described", wire.Described{Build: ownBuild}},
	{"fetch", wire.Fetch{UUID: ownUUID, Files: []wire.FilePart{{Path: "bin/hello", Offset: 1 << 40}, {Path: "a"}}}},
	{"find", wire.Find{SHA256: ownJob.Script.SHA256, Limit: 50}},
	{"outbox", wire.Outbox{Remote: "https://host/upload", Limit: 100}},
	{"outbox_change", wire.OutboxChange{Action: wire.OutboxDrop, What: "1234", Remote: "upload-hooks"}},
	{"outbox_reply", wire.OutboxReply{
		Remotes: []wire.RemoteStatus{{Name: "https://host/upload", Configured: true, Waiting: 3, Parked: 1}, {Waiting: 1}},
		Posts: []wire.PostStatus{
			{UUID: ownUUID, Job: "hello", Remote: "https://host/upload", Parked: "the remote answered 401 Unauthorized"},
			{UUID: ownUUID, Job: "hello", Remote: "https://host/upload", Tries: 2, Next: ownTime, Error: "broken pipe"},
			{UUID: ownUUID, Job: "site", Remote: "https://host/upload", Sending: true},
		},
		Changed: 7,
	}},
	{"pin", wire.Pin{What: "1234"}},
	{"pin_not", wire.Pin{What: ownUUID.String(), Unpin: true}},
	{"pinned", wire.Pinned{UUID: ownUUID}},
	{"prune", wire.Prune{Job: "hello", Dry: true}},
	{"prune_reply", wire.PruneReply{
		Builds: []wire.PrunedBuild{
			{UUID: ownUUID, Job: "hello", Platform: "debian-12", Finished: ownTime, Bound: "keep-days", Octets: 1 << 30},
			{UUID: ownUUID, Job: "hello", Platform: "debian-12", ArtifactsOnly: true, Bound: "keep-uploaded-days"},
		},
		Freed: 1 << 31, Orphans: 3, OrphanOctets: 4096, Damaged: 1,
	}},
	{"later", wire.Later{After: 5 * time.Second, Reason: "the server is restarted"}},
}

// TestOwn checks our own messages against testdata/own. Beside each NAME.der is
// a NAME.txt: what encoding/asn1, which shares no code with ours, sees in it, and
// which of its SEQUENCEs are records that may grow.
func TestOwn(t *testing.T) {
	missing := map[wire.Kind]bool{}
	for _, kind := range allKinds() {
		missing[kind] = kind >= wire.KindWelcome && kind != wire.KindExportReply // the reference's record, below
	}
	for _, tt := range ownMessages {
		delete(missing, tt.message.Kind())
		t.Run(tt.name, func(t *testing.T) {
			got := encoded(t, wire.Encode(tt.message))
			compareFile(t, tt.name+".der", got)
			compareFile(t, tt.name+".txt", describe(t, tt.message, got))
			back, err := decodeOwn(got)
			if err != nil {
				t.Fatal(err)
			}
			if d := diff(any(tt.message), back); d != "" {
				t.Errorf("decoded (-want +got):\n%s", d)
			}
		})
	}
	for kind, missed := range missing {
		if missed {
			t.Errorf("no vector of %v", kind)
		}
	}
}

func compareFile(t *testing.T, name string, got []byte) {
	t.Helper()
	name = filepath.Join(ownDir, name)
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s:\n%q, want\n%q", name, got, want)
	}
}

// decodeOwn receives a message of ours from a frame.
func decodeOwn(data []byte) (any, error) {
	all, err := receiveAll(newScript(frame(data)), allKinds()...)
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// node is an element as encoding/asn1 sees it.
type node struct {
	asn1.RawValue
	inner []*node
}

func parseNodes(t *testing.T, data []byte) []*node {
	var nodes []*node
	for len(data) > 0 {
		n := &node{}
		rest, err := asn1.Unmarshal(data, &n.RawValue)
		if err != nil {
			t.Fatalf("encoding/asn1 on %x: %v", data, err)
		}
		if n.IsCompound {
			n.inner = parseNodes(t, n.Bytes)
		}
		nodes = append(nodes, n)
		data = rest
	}
	return nodes
}

// encode encodes n again, with a NULL behind what is in grown.
func (n *node) encode(t *testing.T, grown *node) []byte {
	v := asn1.RawValue{Class: n.Class, Tag: n.Tag, IsCompound: n.IsCompound, Bytes: n.Bytes}
	if n.IsCompound {
		v.Bytes = nil
		for _, in := range n.inner {
			v.Bytes = append(v.Bytes, in.encode(t, grown)...)
		}
		if n == grown {
			v.Bytes = append(v.Bytes, asn1.NullBytes...)
		}
	}
	data, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// describe shows the encoding of message. A SEQUENCE with an unknown element at
// its end that is read as if it were not there is a record; others are lists.
func describe(t *testing.T, message wire.Message, data []byte) []byte {
	root := parseNodes(t, data)[0]
	if again := root.encode(t, nil); !bytes.Equal(again, data) {
		t.Errorf("encoding/asn1 encodes\n%x, we\n%x", again, data)
	}
	var out bytes.Buffer
	var show func(n *node, indent string)
	show = func(n *node, indent string) {
		text := fmt.Sprintf("[%d]", n.Tag)
		if n.Class == asn1.ClassUniversal {
			switch n.Tag {
			case asn1.TagInteger:
				var v int64
				if _, err := asn1.Unmarshal(n.FullBytes, &v); err != nil {
					t.Error(err)
				}
				text = fmt.Sprint(v)
			case asn1.TagUTF8String:
				text = fmt.Sprintf("%q", n.Bytes)
			case asn1.TagSequence:
				back, err := decodeOwn(root.encode(t, n))
				switch {
				case err == nil && diff(any(message), back) == "":
					text = "record"
				case len(n.inner) == 0:
					text = "nothing"
				default:
					text = "list"
				}
			default:
				t.Errorf("tag %d", n.Tag)
			}
		}
		fmt.Fprintln(&out, indent+text)
		for _, in := range n.inner {
			show(in, indent+"  ")
		}
	}
	show(root, "")
	return out.Bytes()
}

// TestExportReply checks the one message of ours whose content is the
// reference's: a result file behind our tag.
func TestExportReply(t *testing.T) {
	result := encoded(t, wire.EncodeExec(wire.Exec{
		Job: wire.ScriptJob{Name: "hello", Platform: "p", Script: wire.Blob{Data: []byte("true")}}, UUID: ownUUID,
		Started: ownTime, Finished: ownTime.Add(time.Second),
	}, wire.Console{}, []wire.File{{Path: "a", Data: wire.Blob{Data: []byte("x")}}}))
	got, err := decodeOwn(encoded(t, wire.Encode(exportReply(result))))
	if err != nil {
		t.Fatal(err)
	}
	if d := diff(any(result), got); d != "" {
		t.Errorf("received (-want +got):\n%s", d)
	}
}

func exportReply(result []byte) wire.ExportReply {
	return wire.ExportReply{Size: int64(len(result)), Write: func(out io.Writer) error {
		_, err := out.Write(result)
		return err
	}}
}
