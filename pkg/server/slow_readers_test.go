package server_test

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"builder/pkg/job"
	"builder/pkg/server"
	"builder/pkg/wire"

	"github.com/rs/zerolog"
)

// stall asks, takes the beginning of the answer, and nothing more.
func (r *running) stall(m wire.Message) {
	r.t.Helper()
	p := r.dial(wire.Client, wire.OwnVersion)
	if err := p.net.SetReadBuffer(4 << 10); err != nil {
		r.t.Fatal(err)
	}
	p.send(m)
	if _, err := io.ReadFull(p.net, make([]byte, 100)); err != nil {
		r.t.Fatalf("no answer begins: %v", err)
	}
}

// TestSlowReaders: thirty clients ask for all that there is, more than the system
// buffers, and do not take it.
func TestSlowReaders(t *testing.T) {
	const (
		jobs = 240
		most = 100 << 20
	)
	r := start(t, func(c *server.Config) { c.Log = zerolog.Nop() })
	r.template("large.template", "%%V%%")
	for i := range jobs {
		j := job.Job{Name: fmt.Sprint("job", i), Platform: "p", Template: "large", Vars: []job.Var{{Name: "V", Value: strings.Repeat("x", 45_000)}}}
		if _, err := r.client().Schedule(t.Context(), j, nil, job.Plan{Period: job.Never}, false); err != nil {
			t.Fatal(err)
		}
	}
	for range 15 {
		r.stall(wire.Status{})
		r.stall(wire.Info{})
	}
	if used := heap(); used > most {
		t.Errorf("%d octets of memory", used)
	}
	if shown := len(r.status().Jobs); shown != jobs {
		t.Errorf("%d jobs are shown", shown)
	}
}
