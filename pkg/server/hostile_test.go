package server_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/google/go-cmp/cmp"
)

// healthy expects that the server still does all that it should.
func (r *running) healthy(name string) {
	r.t.Helper()
	r.schedule(name, "healthy", "x")
	w := r.requested(wire.OwnVersion, "healthy")
	id := w.begin().Build.UUID
	w.send(wire.Finish{UUID: id, Result: success})
	w.receive(wire.KindStored)
	r.ended(name, 1)
	w.Close()
}

// nested is a DER bomb: sequences in each other.
func nested(depth int) []byte {
	b := []byte{0x30, 0x00}
	for range depth {
		head := []byte{0x30, 0x84}
		b = append(binary.BigEndian.AppendUint32(head, uint32(len(b))), b...)
		if len(b) > 60_000 {
			break
		}
	}
	return b
}

// TestBadInput: each peer that says what it must not is told so where its
// protocol has words for it, its connection ends, and everything else goes on.
func TestBadInput(t *testing.T) {
	client, own := int64(wire.ClientVersion), int64(wire.OwnVersion)
	huge := append(binary.BigEndian.AppendUint64(nil, 1<<62), 0xa5, 0x88, 0x3f, 0xff)
	garbage := make([]byte, 100_000)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range garbage {
		garbage[i] = byte(random.Uint32())
	}
	worker := wire.Worker
	for name, tt := range map[string]struct {
		role    wire.Role
		version int64 // 0: before any hello
		octets  []byte
	}{
		"garbage before the hello":         {octets: garbage},
		"retired 0 before the hello":       {octets: frame([]byte{0xa0, 0x03, 0x02, 0x01, 0x00})},
		"retired 1 before the hello":       {octets: frame([]byte{0xa1, 0x03, 0x02, 0x01, 0x00})},
		"retired 8 before the hello":       {octets: frame([]byte{0xa8, 0x02, 0x05, 0x00})},
		"huge frame before the hello":      {octets: huge},
		"negative frame before the hello":  {octets: binary.BigEndian.AppendUint64(nil, 1<<63)},
		"empty frame before the hello":     {octets: make([]byte, 8)},
		"http":                             {octets: []byte("GET / HTTP/1.0\r\n\r\n")},
		"garbage":                          {wire.Client, client, garbage},
		"garbage in a frame":               {wire.Client, client, frame(garbage)},
		"retired 0":                        {wire.Client, client, frame([]byte{0xa0, 0x03, 0x02, 0x01, 0x00})},
		"retired 8":                        {wire.Client, own, frame([]byte{0xa8, 0x02, 0x05, 0x00})},
		"huge frame":                       {wire.Client, client, huge},
		"huge frame's length":              {wire.Client, client, huge[:8]},
		"huge frame's length to our own":   {wire.Client, own, huge[:8]},
		"huge schedule":                    {wire.Client, own, append(binary.BigEndian.AppendUint64(nil, 1<<30), 0xa5, 0x84, 0x3f, 0xff, 0xff, 0xfa)},
		"bomb":                             {wire.Client, client, message(wire.KindSchedule, nested(10_000))},
		"bomb of our own":                  {wire.Client, own, message(wire.KindDefine, nested(10_000))},
		"worker's message from a client":   {wire.Client, client, message(wire.KindJobRequested, []byte{0x0c, 0x01, 'p'})},
		"server's message from a client":   {wire.Client, own, message(wire.KindSuccess, []byte{0x05, 0x00})},
		"a second hello":                   {wire.Client, own, message(wire.KindClientHello, nil)},
		"our own message in protocol 13":   {wire.Client, client, message(wire.KindStatus, []byte{0x30, 0x00})},
		"client's message from a worker":   {worker, own, message(wire.KindInfo, []byte{0x05, 0x00})},
		"finish without a build":           {worker, own, message(wire.KindFinish, nil)},
		"protocol 5: garbage":              {worker, wire.WorkerVersion, garbage},
		"protocol 5: finish without a job": {worker, wire.WorkerVersion, message(wire.KindJobFinished, nil)},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t)
			p := r.socket()
			if tt.version != 0 {
				p = r.dial(tt.role, tt.version)
			}
			p.net.Write(tt.octets) // the server may have closed in the middle
			m, err := p.tryReceive(wire.KindFailure)
			told := tt.version != 0 && (tt.role == wire.Client || tt.version == own)
			if failure, ok := m.(wire.Failure); told && (!ok || failure.Text == "") {
				t.Errorf("the peer is told %v (%v)", m, err)
			} else if !told && err == nil {
				t.Errorf("the peer is told %v", m)
			}
			p.gone()
			r.healthy("fine")
		})
	}
}

// TestLongScript: a client of the reference, which writes all of its script
// before it reads, is told that it is too long.
func TestLongScript(t *testing.T) {
	r := start(t)
	p := r.dial(wire.Client, wire.ClientVersion)
	const size = 64 << 20
	p.raw(append(binary.BigEndian.AppendUint64(nil, size), 0xa5, 0x84, 0x03, 0xff, 0xff, 0xfa))
	for piece, left := make([]byte, 1<<20), size-6; left > 0; left -= len(piece) {
		p.raw(piece[:min(left, len(piece))])
	}
	if m := p.receive(wire.KindFailure).(wire.Failure); !strings.Contains(m.Text, "too long") {
		t.Errorf("it is told %q", m.Text)
	}
	p.gone()
}

// TestSlowPeers: thousands of silent and dripping connections do not keep the
// others from working, and cost little.
func TestSlowPeers(t *testing.T) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < 10_000 {
		t.Skipf("needs 10,000 descriptors, the limit is %d (%v)", limit.Cur, err)
	}
	r := start(t)
	var peers []net.Conn
	for i := range 2000 {
		var d net.Dialer
		c, err := d.DialContext(t.Context(), "tcp", r.address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		peers = append(peers, c)
		switch i % 4 {
		case 1:
			c.Write(make([]byte, 7))
		case 2:
			c.Write(append(binary.BigEndian.AppendUint64(nil, 20), 0xae))
		case 3: // says hello and nothing more
			wire.NewConn(c, nil).Send(wire.ClientHello{Role: wire.Role(i / 4 % 2), Version: wire.OwnVersion})
		}
	}
	r.healthy("fine")
	if used := heap(); used > 100<<20 {
		t.Errorf("%d octets of memory with %d idle connections", used, len(peers))
	}
}

// TestLargeFrames: frames that are large and do not end share what memory there
// is for them.
func TestLargeFrames(t *testing.T) {
	r := start(t)
	part := make([]byte, 8<<20)
	head := append(binary.BigEndian.AppendUint64(nil, 16<<20), 0xa5, 0x84, 0x00, 0xff, 0xff, 0xfa)
	for range 20 {
		p := r.dial(wire.Client, wire.OwnVersion)
		go func() {
			p.net.Write(head)
			p.net.Write(part)
		}()
	}
	r.healthy("fine")
	if used := heap(); used > 150<<20 {
		t.Errorf("%d octets of memory", used)
	}
}

// TestEndlessLine prints a line without an end, and without a newline anywhere.
func TestEndlessLine(t *testing.T) {
	r := start(t)
	for name, version := range map[string]int64{"old": wire.WorkerVersion, "own": wire.OwnVersion} {
		r.schedule(name, "p", "x")
		w := r.requested(version, "p")
		if version == wire.WorkerVersion {
			id := w.job().UUID
			for range 10 {
				w.send(wire.Output{UUID: id, Data: make([]byte, 1<<20)})
			}
			w.send(wire.JobFinished{UUID: id})
			w.gone()
		} else {
			id := w.begin().Build.UUID
			for i := range 160 {
				w.send(wire.Lines{UUID: id, From: int64(i), Lines: []job.Line{{Data: make([]byte, 64<<10), Flags: job.Unended}}})
			}
			w.send(wire.Finish{UUID: id, Result: success})
			w.receive(wire.KindStored)
		}
		build := r.ended(name, 1)[0]
		total := 0
		for _, line := range r.export(build.UUID).Lines {
			total += len(line)
		}
		if total != 10<<20 {
			t.Errorf("%s: %d octets were kept", name, total)
		}
	}
}

// TestArtifacts: what can not be kept is dropped with a note, the build is kept.
func TestArtifacts(t *testing.T) {
	r := start(t)
	r.schedule("one", "p", "x")
	files := []wire.File{
		{Path: "good", Mode: 0o755, Data: text("good")},
		{Path: "../evil", Data: text("evil")},
		{Path: "/etc/evil", Data: text("evil")},
		{Path: "a/../../evil", Data: text("evil")},
		{Path: "", Data: text("evil")},
		{Path: "good", Data: text("twice")},
		{Path: "nul\x00", Data: text("evil")},
		{Path: strings.Repeat("x", 60_000), Data: text("evil")},
	}
	want := map[string]string{"good": "good"}
	for i := range 1000 {
		path := fmt.Sprintf("many/%d", i)
		files, want[path] = append(files, wire.File{Path: path, Data: text(path)}), path
	}
	for i, version := range []int64{wire.WorkerVersion, wire.OwnVersion} {
		if i > 0 {
			r.execute("one")
		}
		w := r.requested(version, "p")
		if version == wire.WorkerVersion {
			w.send(wire.JobFinished{UUID: w.job().UUID, Files: files})
			w.gone()
		} else {
			w.send(wire.Finish{
				UUID: w.begin().Build.UUID, Result: success, Files: files, Notes: []string{"link: symbolic link"},
				Duration: 1 << 61, // longer than the build can have been
			})
			w.receive(wire.KindStored)
		}
		s := r.watch(wire.Watch{What: "one"})
		s.expect(t, "begin 1", "final exited 0")
		build := r.ended("one", i+1)[0]
		if diff := cmp.Diff(want, r.export(build.UUID).Files); diff != "" {
			t.Errorf("artifacts (-want +got):\n%s", diff)
		}
		if took := build.Finished.Sub(build.Started); took < 0 || took > deadline {
			t.Errorf("it took %v", took)
		}
		if notes := r.notes(build.UUID); len(notes) != 7+i {
			t.Errorf("%d notes: %.300q", len(notes), notes)
		}
	}
}

// TestResults: builds for which there is no place on the worker are tried again.
func TestResults(t *testing.T) {
	r := start(t)
	r.schedule("one", "p", "x")
	w := r.requested(wire.OwnVersion, "p")
	for try := range 3 {
		id := w.begin().Build.UUID
		w.send(wire.Finish{UUID: id, Result: job.Failure(job.NoSandbox, "no \xff jail %d", try)})
		w.receive(wire.KindStored)
		w.send(wire.JobRequested{Platform: "p"})
	}
	builds := r.ended("one", 3)
	if builds[0].Result.Cause != job.NoSandbox || builds[0].Try != 3 {
		t.Errorf("the last: %+v", builds[0])
	}
	r.idle("one")
	r.restart()
	r.ended("one", 3)
}

// brokenListener fails before every second connection.
type brokenListener struct {
	net.Listener
	calls atomic.Int64
}

func (l *brokenListener) Accept() (net.Conn, error) {
	if l.calls.Add(1)%2 == 1 {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

// TestAcceptErrors: no error of accept ends the server.
func TestAcceptErrors(t *testing.T) {
	r := configure(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	broken := &brokenListener{Listener: l}
	r.startOn(broken)
	defer r.halt()
	r.healthy("fine")
	if r.log.count("accepting a connection", errors.New("too many open files").Error()) == 0 {
		t.Error("it is not logged")
	}
}
