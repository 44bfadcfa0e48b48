package server_test

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"builder/pkg/server"
	"builder/pkg/wire"
	"builder/pkg/worker"
)

// narrow is a link that all connections of a worker share: what is sent over it
// waits in one line, in which there is room for 64 KiB, and goes on at the link's
// pace.
type narrow struct {
	t        testing.TB
	l        net.Listener
	server   string
	line     chan segment
	pace     atomic.Int64 // octets per second; 0 means as they come
	carried  atomic.Int64 // octets
	accepted atomic.Int64 // connections
	closing  chan struct{}
	busy     sync.WaitGroup

	mu   sync.Mutex
	ends []net.Conn
}

// segment is what is sent at once; without data it is the end.
type segment struct {
	to   net.Conn
	data []byte
}

const segmentSize = 4 << 10

// narrowLink makes a link to the server, until the test ends.
func (r *running) narrowLink(pace int64) *narrow {
	r.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	n := &narrow{t: r.t, l: l, server: r.address, line: make(chan segment, 64<<10/segmentSize), closing: make(chan struct{})}
	n.pace.Store(pace)
	n.busy.Go(n.accept)
	n.busy.Go(n.carry)
	r.t.Cleanup(func() {
		close(n.closing)
		l.Close()
		n.mu.Lock()
		for _, end := range n.ends {
			end.Close()
		}
		n.mu.Unlock()
		n.busy.Wait()
	})
	return n
}

func (n *narrow) accept() {
	for {
		near, err := n.l.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", n.server)
		if err != nil {
			n.t.Errorf("connecting to the server: %v", err)
			near.Close()
			return
		}
		n.mu.Lock()
		n.ends = append(n.ends, near, far)
		n.mu.Unlock()
		n.accepted.Add(1)
		n.busy.Go(func() { n.queue(near, far) })
		n.busy.Go(func() { n.queue(far, near) })
	}
}

// queue puts what comes from one end into the line.
func (n *narrow) queue(from, to net.Conn) {
	for {
		data := make([]byte, segmentSize)
		size, err := from.Read(data)
		select {
		case n.line <- segment{to, data[:size]}:
		case <-n.closing:
			return
		}
		if err != nil {
			return
		}
	}
}

// carry is the link.
func (n *narrow) carry() {
	free := time.Now() // when the link is
	for {
		var s segment
		select {
		case s = <-n.line:
		case <-n.closing:
			return
		}
		if pace := n.pace.Load(); pace > 0 {
			if now := time.Now(); free.Before(now) {
				free = now
			}
			free = free.Add(time.Duration(len(s.data)) * time.Second / time.Duration(pace))
			time.Sleep(time.Until(free))
		}
		if len(s.data) == 0 {
			s.to.Close()
			continue
		}
		s.to.Write(s.data) // whoever reads there finds out
		n.carried.Add(int64(len(s.data)))
	}
}

// TestNarrowLink: over a link of 1 MB/s, which a large artifact keeps busy, another
// build of the worker is begun, shown line by line, and ended, and no peer is taken
// for silent.
func TestNarrowLink(t *testing.T) {
	const beat = 500 * time.Millisecond
	r := start(t, func(c *server.Config) { c.Heartbeat = beat })
	link := r.narrowLink(1_000_000)
	r.worker("p", func(c *worker.Config) { c.Remote, c.Slots, c.KeepAlive = link.l.Addr().String(), 2, beat })
	const size = 32 << 20 // half a minute
	r.schedule("large", "p", "head -c 33554432 /dev/urandom > large")
	wait(t, "the artifact is on its way", func() bool { return link.carried.Load() > 256<<10 })
	small := r.schedule("small", "p", "for i in 1 2 3 4 5 6 7 8; do echo line $i; sleep 0.25; done").Runs[0]
	shown := r.watch(wire.Watch{Run: small.ID, Job: "small"})
	shown.expect(t, "begin 1")
	for _, line := range []string{"1", "2", "3", "4", "5", "6", "7", "8"} {
		shown.expect(t, "line line "+line)
	}
	shown.expect(t, "final exited 0")
	if carried := link.carried.Load(); carried >= size {
		t.Errorf("%d octets have passed: the artifact was not on its way any more", carried)
	}
	if builds := r.builds("large"); len(builds) > 0 {
		t.Errorf("the artifact has come before: %+v", builds)
	}
	link.pace.Store(0)
	build := r.ended("large", 1)[0]
	if !build.Result.Success() || len(r.record(build.UUID).Artifacts) != 1 {
		t.Errorf("result %v, artifacts %v", build.Result, r.record(build.UUID).Artifacts)
	}
	if n := link.accepted.Load(); n != 2 {
		t.Errorf("the worker has made %d connections: one for all builds and one for the artifact were enough", n)
	}
}
