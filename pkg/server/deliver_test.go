package server_test

import (
	"strings"
	"testing"

	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// delivering is a connection over which the contents of a build are delivered.
func (r *running) delivering(id uuid.UUID) *peer {
	r.t.Helper()
	p := r.introduced("w")
	p.send(wire.Deliver{UUID: id})
	return p
}

// wanted is what the server wants next.
func (p *peer) wanted() []wire.Wanted {
	p.t.Helper()
	return p.receive(wire.KindWant).(wire.Want).Contents
}

func content(text string, offset int) wire.Content {
	return wire.Content{Content: job.ContentOf([]byte(text)), Offset: int64(offset), Data: wire.Blob{Data: []byte(text[offset:])}}
}

// offered is a build that has ended and offers these files, path and content.
func (r *running) offered(files ...string) (*peer, uuid.UUID, wire.Done) {
	r.t.Helper()
	p, id := r.handedOut()
	done := wire.Done{UUID: id, Result: success}
	for i := 0; i < len(files); i += 2 {
		done.Artifacts = append(done.Artifacts, job.Artifact{Path: files[i], Mode: 0o755, Content: job.ContentOf([]byte(files[i+1]))})
	}
	p.send(done)
	return p, id, done
}

// TestDeliver: contents that the server has are not asked for, those of two files
// once, and what broke off goes on, also when the server was restarted meanwhile.
func TestDeliver(t *testing.T) {
	r := start(t)
	p, id, _ := r.offered("kept", "the same in both builds")
	p.receive(wire.KindWant)
	d := r.delivering(id)
	d.wanted()
	d.send(content("the same in both builds", 0))
	d.receive(wire.KindSuccess)
	stored(t, p, id)
	p.Close()

	r.execute("one")
	long := strings.Repeat("a long content ", 100_000)
	p, id, done := r.offered("bin/a", long, "bin/b", long, "kept", "the same in both builds", "small", "x")
	p.receive(wire.KindWant)
	d = r.delivering(id)
	want := []wire.Wanted{{Content: job.ContentOf([]byte(long))}, {Content: job.ContentOf([]byte("x"))}}
	if diff := cmp.Diff(want, d.wanted()); diff != "" {
		t.Fatalf("want (-want +got):\n%s", diff)
	}
	d.raw(frameOf(content(long, 0))[:700_000])
	d.net.CloseWrite()
	d.receive(wire.KindFailure)
	for _, breaking := range []func(){func() {}, func() { r.restart() }} {
		breaking()
		p, _ = r.returning("w", wire.Held{UUID: id, Ended: true})
		p.send(done)
		p.receive(wire.KindWant)
		d = r.delivering(id)
		wanted := d.wanted()
		if wanted[0].Offset < 600_000 || wanted[0].Offset > 700_000 {
			t.Fatalf("wanted from %d on", wanted[0].Offset)
		}
		d.raw(frameOf(content(long, int(wanted[0].Offset)))[:100])
		d.Close()
	}
	d = r.delivering(id)
	d.send(content(long, int(d.wanted()[0].Offset)))
	d.send(content("x", 0))
	d.receive(wire.KindSuccess)
	stored(t, p, id)
	e := r.export(id)
	if e.Files["bin/a"] != long || e.Files["bin/b"] != long || e.Files["small"] != "x" || e.Files["kept"] == "" || len(e.Files) != 4 {
		t.Errorf("%d files, another content", len(e.Files))
	}
}

// frameOf is a message as it is sent.
func frameOf(m wire.Message) []byte {
	w := wire.Encode(m)
	data := w.Data
	frame := make([]byte, 8, 8+len(data))
	for i := range 8 {
		frame[i] = byte(len(data) >> (56 - 8*i))
	}
	return append(frame, data...)
}

// TestUndelivered: a file that can not be delivered, or comes with other octets
// than were offered, is left out with a note. The build is kept.
func TestUndelivered(t *testing.T) {
	r := start(t)
	p, id, _ := r.offered("gone", "no more there", "changed", "as it was", "well", "fine")
	p.receive(wire.KindWant)
	d := r.delivering(id)
	wanted := d.wanted()
	d.send(wire.Missing{Content: wanted[0].Content, Reason: "somebody removed it"})
	lie := wire.Content{Content: wanted[1].Content, Data: text("as it is!")}
	d.send(lie)
	d.send(content("fine", 0))
	if wanted = d.wanted(); len(wanted) != 1 || wanted[0].Content != lie.Content || wanted[0].Offset != 0 {
		t.Fatalf("wanted %+v", wanted)
	}
	d.send(lie)
	d.receive(wire.KindSuccess)
	stored(t, p, id)
	build := r.ended("one", 1)[0]
	e := r.export(id)
	if diff := cmp.Diff(map[string]string{"well": "fine"}, e.Files); diff != "" || !build.Result.Success() {
		t.Errorf("result %v, files (-want +got):\n%s", build.Result, diff)
	}
	notes := strings.Join(r.record(id).Notes, "\n")
	for _, part := range []string{"gone", "somebody removed it", "changed"} {
		if !strings.Contains(notes, part) {
			t.Errorf("no note tells of %q:\n%s", part, notes)
		}
	}
}

// record is what is kept of a build that has ended.
func (r *running) record(id uuid.UUID) job.Build {
	r.t.Helper()
	p := r.dial(wire.Client, wire.OwnVersion)
	defer p.Close()
	p.send(wire.Watch{What: id.String()})
	for {
		if m, ok := p.receive(wire.KindWatching, wire.KindLines, wire.KindEnded).(wire.Ended); ok {
			return m.Build
		}
	}
}

// TestHostileDelivery: what breaks the rules costs that build and connection.
func TestHostileDelivery(t *testing.T) {
	tests := map[string]func(w wire.Wanted) wire.Message{
		"another content": func(wire.Wanted) wire.Message { return content("another", 0) },
		"an offset beyond the end": func(w wire.Wanted) wire.Message {
			return wire.Content{Content: w.Content, Offset: w.Content.Size + 1, Data: text("")}
		},
		"too much": func(w wire.Wanted) wire.Message {
			return wire.Content{Content: w.Content, Data: text("far too much of it")}
		},
		"too little":   func(w wire.Wanted) wire.Message { return wire.Content{Content: w.Content, Data: text("x")} },
		"missing that": func(wire.Wanted) wire.Message { return wire.Missing{Content: job.ContentOf([]byte("another"))} },
	}
	for name, message := range tests {
		t.Run(name, func(t *testing.T) {
			r := start(t)
			_, id, _ := r.offered("a", "content")
			wait(t, "offered", func() bool {
				d := r.delivering(id)
				m := d.receive(wire.KindWant, wire.KindFailure)
				if want, ok := m.(wire.Want); ok {
					d.send(message(want.Contents[0]))
					d.receive(wire.KindFailure)
					return true
				}
				return false
			})
			if build := r.ended("one", 1)[0]; build.Result.Cause != job.WorkerLost || !strings.Contains(build.Result.Text, "violation") {
				t.Errorf("result %v", build.Result)
			}
		})
	}
	r := start(t)
	r.offered("a", "content")
	d := r.delivering(uuid.New())
	if m := d.receive(wire.KindFailure).(wire.Failure); !strings.Contains(m.Text, "does not know the build") {
		t.Errorf("failure %q", m.Text)
	}
}

// TestUnmoved: a worker that stays and brings nothing of what it offered does not
// hold up its build, nor keep it from telling how it ended.
func TestUnmoved(t *testing.T) {
	r := start(t)
	p, id, _ := r.offered("kept", "came before")
	p.receive(wire.KindWant)
	d := r.delivering(id)
	d.wanted()
	d.send(content("came before", 0))
	d.receive(wire.KindSuccess)
	stored(t, p, id)
	p.Close()
	r.config.CollectTimeout = 1
	r.restart()
	r.execute("one")
	p, id, _ = r.offered("kept", "came before", "never", "does not come")
	p.receive(wire.KindWant)
	stored(t, p, id)
	build := r.record(id)
	if !build.Result.Success() || len(build.Notes) != 1 || !strings.Contains(build.Notes[0], "never") {
		t.Errorf("result %v, notes %q", build.Result, build.Notes)
	}
	if diff := cmp.Diff(map[string]string{"kept": "came before"}, r.export(id).Files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	r.idle("one")
}

// TestCollectTimeout: artifacts of a cancelled build may follow, but not for ever.
func TestCollectTimeout(t *testing.T) {
	for name, in := range map[string]bool{"in time": true, "too late": false} {
		t.Run(name, func(t *testing.T) {
			r := start(t)
			if !in {
				r.config.CollectTimeout = 1
				r.restart()
			}
			p, id := r.handedOut()
			if err := r.client().Cancel(t.Context(), "one", ""); err != nil {
				t.Fatal(err)
			}
			stop := p.receive(wire.KindStop).(wire.Stop)
			p.send(wire.Done{UUID: id, Result: stop.Result, Artifacts: []job.Artifact{{Path: "a", Content: job.ContentOf([]byte("x"))}}})
			p.receive(wire.KindWant)
			if in {
				d := r.delivering(id)
				d.wanted()
				d.send(content("x", 0))
				d.receive(wire.KindSuccess)
			}
			stored(t, p, id)
			build := r.ended("one", 1)[0]
			if files := r.export(id).Files; build.Result.Cause != job.Cancelled || (len(files) == 1) != in {
				t.Errorf("result %v, files %v", build.Result, files)
			}
		})
	}
}
