package server_test

import (
	"testing"

	"builder/pkg/wire"
)

// TestEnd stops the server in every phase of a connection. The harness checks
// that it ends, and that nothing is left of it.
func TestEnd(t *testing.T) {
	for name, phase := range map[string]func(r *running){
		"nobody":         func(*running) {},
		"silent":         func(r *running) { r.socket() },
		"half a hello":   func(r *running) { r.socket().raw(make([]byte, 4)) },
		"idle client":    func(r *running) { r.dial(wire.Client, wire.OwnVersion) },
		"old client":     func(r *running) { r.dial(wire.Client, wire.ClientVersion) },
		"waiting worker": func(r *running) { r.requested(wire.OwnVersion, "p"); r.waiting("p", 1) },
		"waiting for a build": func(r *running) {
			r.watch(wire.Watch{Run: r.schedule("one", "p", "x").Runs[0].ID, Job: "one"})
		},
		"building": func(r *running) {
			r.schedule("one", "p", "x")
			r.requested(wire.OwnVersion, "p").begin()
			r.watch(wire.Watch{What: "one"})
		},
		"stopping": func(r *running) {
			r.schedule("one", "p", "x")
			w := r.requested(wire.OwnVersion, "p")
			w.begin()
			r.cancel("one")
			w.receive(wire.KindStop)
		},
		"delivering": func(r *running) {
			r.schedule("one", "p", "x")
			w := r.requested(wire.OwnVersion, "p")
			var full recorder
			id := w.begin().Build.UUID
			wire.NewConn(&full, nil).Send(wire.Finish{UUID: id, Files: []wire.File{{Path: "a", Data: text("content")}}})
			w.raw(full.data[:len(full.data)-1])
		},
		"half a frame": func(r *running) {
			p := r.dial(wire.Client, wire.OwnVersion)
			p.raw(message(wire.KindInfo, nil)[:5])
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t)
			phase(r)
			r.halt()
			r.start() // and the next one finds nothing wrong
		})
	}
}
