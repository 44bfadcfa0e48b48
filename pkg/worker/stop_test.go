package worker_test

import (
	"context"
	"sync/atomic"
	"testing"

	"builder/pkg/job"
	"builder/pkg/sandbox"
	"builder/pkg/wire"
	"builder/pkg/worker"

	"github.com/google/go-cmp/cmp"
)

// halting is a sandbox in which the first build halts, while it is prepared until it
// is stopped, or while its artifacts are collected until the gate opens.
type halting struct {
	sandbox.Sandbox
	prepare      bool
	halted, gate chan struct{}
	met          atomic.Bool // the first build
}

func (h *halting) Prepare(ctx context.Context, spec sandbox.Spec) (sandbox.Place, error) {
	if h.prepare && h.met.CompareAndSwap(false, true) {
		close(h.halted)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	p, err := h.Sandbox.Prepare(ctx, spec)
	return haltingPlace{p, h}, err
}

type haltingPlace struct {
	sandbox.Place
	h *halting
}

func (p haltingPlace) Artifacts(check func(string) error) ([]sandbox.Artifact, []sandbox.Note, error) {
	if p.h.met.CompareAndSwap(false, true) {
		close(p.h.halted)
		<-p.h.gate
	}
	return p.Place.Artifacts(check)
}

// TestStopAnywhere: a build that is told to stop before its script begins, or after it
// has ended, ends with the result that it was told. What it left is kept.
func TestStopAnywhere(t *testing.T) {
	for name, tt := range map[string]struct {
		prepare bool
		files   map[string]string
	}{
		"preparing":  {true, map[string]string{}},
		"collecting": {false, map[string]string{"kept": "x\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			box := &halting{prepare: tt.prepare, halted: make(chan struct{}), gate: make(chan struct{})}
			s := newScripted(t, false)
			work(t, s, func(c *worker.Config) { box.Sandbox, c.Sandbox, c.Slots = c.Sandbox, box, 2 })
			c := s.accept()
			c.until(func() bool { return c.wishes == 2 })
			id := c.start("echo x > kept; exit 3")
			<-box.halted
			enough := job.Failure(job.Cancelled, "enough")
			c.send(wire.Stop{UUID: id, Result: enough})
			c.store(c.start("true")) // when this has ended, the word was heard
			close(box.gate)
			e := c.store(id)
			if diff := cmp.Diff(enough, e.result); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.files, e.files); diff != "" {
				t.Errorf("artifacts (-want +got):\n%s", diff)
			}
		})
	}
}
