package server_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"builder/pkg/wire"

	"github.com/google/uuid"
)

// peer is a connection on which a test says what it likes.
type peer struct {
	*wire.Conn
	net *net.TCPConn
	t   testing.TB
}

// socket is a connection on which nothing was said yet.
func (r *running) socket() *peer {
	r.t.Helper()
	var d net.Dialer
	c, err := d.DialContext(context.Background(), "tcp", r.address)
	if err != nil {
		r.t.Fatalf("dialing: %v", err)
	}
	p := &peer{wire.NewConn(c, nil), c.(*net.TCPConn), r.t}
	r.t.Cleanup(func() { p.Close() })
	return p
}

func (r *running) dial(role wire.Role, version int64) *peer {
	r.t.Helper()
	p := r.socket()
	p.send(wire.ClientHello{Role: role, Version: version})
	p.receive(wire.KindServerHello, wire.KindWelcome)
	if version >= wire.OwnVersion {
		p.send(wire.Introduce{Name: "tester"})
	}
	return p
}

// raw writes octets past the protocol.
func (p *peer) raw(octets []byte) {
	p.t.Helper()
	if _, err := p.net.Write(octets); err != nil {
		p.t.Fatalf("writing: %v", err)
	}
}

// requested is a worker that has asked for a build.
func (r *running) requested(version int64, platform string) *peer {
	r.t.Helper()
	p := r.dial(wire.Worker, version)
	p.send(wire.JobRequested{Platform: platform})
	return p
}

func (p *peer) send(m wire.Message) {
	p.t.Helper()
	if err := p.Send(m); err != nil {
		p.t.Fatalf("sending: %v", err)
	}
}

// receive returns the next message, which must be of one of the kinds.
func (p *peer) receive(kinds ...wire.Kind) wire.Message {
	p.t.Helper()
	m, err := p.tryReceive(kinds...)
	if err != nil {
		p.t.Fatalf("receiving: %v", err)
	}
	return m
}

func (p *peer) tryReceive(kinds ...wire.Kind) (wire.Message, error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), deadline)
	defer cancel()
	return p.Receive(ctx, kinds...)
}

// job is what a worker of protocol 5 is given.
func (p *peer) job() wire.JobSchedule {
	p.t.Helper()
	m := p.receive(wire.KindJobSchedule).(wire.JobSchedule)
	m.Job.Script.Data = bytes.Clone(m.Job.Script.Data)
	return m
}

// begin is what a worker of ours is given.
func (p *peer) begin() wire.Start {
	p.t.Helper()
	m := p.receive(wire.KindStart).(wire.Start)
	m.Script = bytes.Clone(m.Script)
	return m
}

// gone waits for the end of the connection.
func (p *peer) gone() {
	p.t.Helper()
	_, err := p.tryReceive()
	if err == nil || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, wire.ErrUnexpected) {
		p.t.Fatalf("the connection should have ended: %v", err)
	}
}

// done expects Success, fails a Failure.
func (p *peer) done() {
	p.t.Helper()
	if m, failed := p.receive(wire.KindSuccess, wire.KindFailure).(wire.Failure); failed {
		p.t.Fatalf("refused: %s", m.Text)
	}
}

// legacy does one request of protocol 13 and returns the server's refusal.
func (r *running) legacy(m wire.Message) string {
	r.t.Helper()
	p := r.dial(wire.Client, wire.ClientVersion)
	p.send(m)
	answer := p.receive(wire.KindSuccess, wire.KindFailure)
	p.gone()
	if failure, failed := answer.(wire.Failure); failed {
		return failure.Text
	}
	return ""
}

// text is a file's content in a message.
func text(s string) wire.Blob { return wire.Blob{Data: []byte(s)} }

// exported is the result file of a build, decoded and as it is.
type exported struct {
	wire.Exec
	Lines []string
	Files map[string]string
	Raw   []byte
}

func (r *running) export(id uuid.UUID) exported {
	r.t.Helper()
	var out bytes.Buffer
	if err := r.client().Export(r.t.Context(), id.String(), &out); err != nil {
		r.t.Fatalf("exporting: %v", err)
	}
	return decode(r.t, out.Bytes())
}

func decode(t testing.TB, raw []byte) exported {
	t.Helper()
	e := exported{Raw: raw, Files: map[string]string{}}
	var err error
	e.Exec, err = wire.ReadExec(bytes.NewReader(raw), int64(len(raw)), wire.ExecVisitor{
		Line: func(_ time.Duration, data io.Reader, _ int64) error {
			line, err := io.ReadAll(data)
			e.Lines = append([]string{string(line)}, e.Lines...) // the file has the newest first
			return err
		},
		File: func(path string, data io.Reader, _ int64) error {
			content, err := io.ReadAll(data)
			e.Files[path] = string(content)
			return err
		},
	})
	if err != nil {
		t.Fatalf("reading the result file: %v", err)
	}
	return e
}
