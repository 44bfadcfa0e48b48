package main

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

// proxy stands between peers and the server, and does to their connections what
// networks do, and worse.
type proxy struct {
	listener net.Listener
	server   string
	serving  sync.WaitGroup

	mu      sync.Mutex
	pairs   []*pair // oldest first
	weather weather
}

// weather is what the network is like.
type weather struct {
	delay  time.Duration // of each piece
	rate   int           // octets per second, 0 for any
	hole   bool          // nothing passes, nobody is told
	refuse bool          // new connections end at once
}

// pair is a connection and its other half.
type pair struct {
	client, server *net.TCPConn

	mu   sync.Mutex
	sent []byte // what the client said, from the beginning
	tear bool   // end in the middle of the next piece
}

// maxSent is how much of a connection can be sent again.
const maxSent = 4 << 20

func newProxy(ctx context.Context, server string) (*proxy, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: l, server: server}
	p.serving.Go(p.accept)
	return p, nil
}

func (p *proxy) address() string { return p.listener.Addr().String() }

// Close ends everything.
func (p *proxy) Close() error {
	err := p.listener.Close()
	p.setWeather(weather{})
	p.cut(func(*pair) bool { return true })
	p.serving.Wait()
	return err
}

func (p *proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		p.serving.Go(func() { p.serve(conn.(*net.TCPConn)) })
	}
}

// dial connects to the server.
func (p *proxy) dial() (*net.TCPConn, error) {
	address, err := net.ResolveTCPAddr("tcp", p.server)
	if err != nil {
		return nil, err
	}
	return net.DialTCP("tcp", nil, address) // on this machine: it does not take long
}

// serve passes on what both sides say.
func (p *proxy) serve(client *net.TCPConn) {
	defer client.Close()
	if p.getWeather().refuse {
		return
	}
	server, err := p.dial()
	if err != nil {
		return
	}
	defer server.Close()
	x := &pair{client: client, server: server}
	p.mu.Lock()
	p.pairs = append(p.pairs, x)
	p.mu.Unlock()
	var passing sync.WaitGroup
	passing.Go(func() { p.pass(x, x.server, x.client, true) })
	passing.Go(func() { p.pass(x, x.client, x.server, false) })
	passing.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pairs = slices.DeleteFunc(p.pairs, func(other *pair) bool { return other == x })
}

// pass copies from one side to the other.
func (p *proxy) pass(x *pair, to, from *net.TCPConn, keep bool) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		p.await(n)
		piece := buffer[:n]
		x.mu.Lock()
		if keep && len(x.sent) < maxSent {
			x.sent = append(x.sent, piece...)
		}
		torn := x.tear && n > 0
		x.mu.Unlock()
		if torn {
			piece = piece[:n/2]
		}
		if _, failed := to.Write(piece); failed != nil || torn {
			x.close()
			return
		}
		switch {
		case errors.Is(err, io.EOF):
			to.CloseWrite() //nolint:errcheck // it is closed then
			return
		case err != nil:
			x.close()
			return
		}
	}
}

// await lets the weather pass.
func (p *proxy) await(n int) {
	w := p.getWeather()
	time.Sleep(w.delay)
	if w.rate > 0 {
		time.Sleep(time.Duration(n) * time.Second / time.Duration(w.rate))
	}
	for p.getWeather().hole {
		time.Sleep(20 * time.Millisecond)
	}
}

func (x *pair) close() {
	x.client.Close()
	x.server.Close()
}

func (p *proxy) getWeather() weather {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.weather
}

func (p *proxy) setWeather(w weather) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.weather = w
}

// choose is a copy of the connections.
func (p *proxy) choose(fits func(*pair) bool) []*pair {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(p.pairs), func(x *pair) bool { return !fits(x) })
}

// cut resets connections.
func (p *proxy) cut(fits func(*pair) bool) {
	for _, x := range p.choose(fits) {
		x.client.SetLinger(0) //nolint:errcheck // it is closed then
		x.server.SetLinger(0) //nolint:errcheck // as above
		x.close()
	}
}

// tear lets connections end in the middle of what is said next.
func (p *proxy) tear(fits func(*pair) bool) {
	for _, x := range p.choose(fits) {
		x.mu.Lock()
		x.tear = true
		x.mu.Unlock()
	}
}

// double says to the server, over another connection, what the client of one has
// said until now. It reports how many octets that were.
func (p *proxy) double(dice int, hold time.Duration) (int, error) {
	pairs := p.choose(func(*pair) bool { return true })
	if len(pairs) == 0 {
		return 0, nil
	}
	x := pairs[dice%len(pairs)]
	x.mu.Lock()
	sent := slices.Clone(x.sent)
	x.mu.Unlock()
	conn, err := p.dial()
	if down := err != nil; down {
		return 0, nil
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(hold)); err != nil {
		return 0, err
	}
	var reading sync.WaitGroup
	reading.Go(func() { io.Copy(io.Discard, conn) }) //nolint:errcheck // whatever it says
	conn.Write(sent)                                 //nolint:errcheck // it may have hung up
	reading.Wait()
	return len(sent), nil
}
