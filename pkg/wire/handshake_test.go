package wire_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"builder/pkg/wire"
)

var ownWelcome = wire.Welcome{Program: "1.0", Capabilities: []string{wire.CapWatch}}

func TestAccept(t *testing.T) {
	hello := func(role wire.Role, version int64) wire.Message {
		return wire.ClientHello{Role: role, Version: version}
	}
	introduce := wire.Introduce{Name: "pine", ID: "8f2c"}
	welcome := ownWelcome
	welcome.Version = wire.OwnVersion
	tests := []struct {
		name    string
		send    []wire.Message
		want    wire.Peer
		answer  []wire.Message
		refused string // part of the error and of the Failure; the answer is that
	}{
		{
			"a client of 13",
			[]wire.Message{hello(wire.Client, 13)},
			wire.Peer{Version: 13},
			[]wire.Message{wire.ServerHello{}},
			"",
		},
		{
			"a worker of 5",
			[]wire.Message{hello(wire.Worker, 5)},
			wire.Peer{Role: wire.Worker, Version: 5},
			[]wire.Message{wire.ServerHello{}},
			"",
		},
		{
			"our client",
			[]wire.Message{hello(wire.Client, 1001), introduce},
			wire.Peer{Version: 1001, Introduce: introduce},
			[]wire.Message{welcome},
			"",
		},
		{
			"our worker of a later version",
			[]wire.Message{hello(wire.Worker, 1002), introduce},
			wire.Peer{Role: wire.Worker, Version: 1001, Introduce: introduce},
			[]wire.Message{welcome},
			"",
		},
		{"a client of 12", []wire.Message{hello(wire.Client, 12)}, wire.Peer{}, nil, "a client of protocol version 12"},
		{"a client of 5", []wire.Message{hello(wire.Client, 5)}, wire.Peer{}, nil, "a client of protocol version 5"},
		{"a worker of 13", []wire.Message{hello(wire.Worker, 13)}, wire.Peer{}, nil, "a worker of protocol version 13"},
		{"version 1000", []wire.Message{hello(wire.Client, 1000)}, wire.Peer{}, nil, "version 1000"},
		{"version -1", []wire.Message{hello(wire.Client, -1)}, wire.Peer{}, nil, "version -1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var input []byte
			for _, m := range tt.send {
				input = append(input, frame(wire.Encode(m).Data)...)
			}
			peer := newScript(input)
			got, err := wire.Accept(t.Context(), wire.NewConn(peer, nil), ownWelcome)
			answer, rerr := receiveAll(newScript(slices.Concat(peer.writes...)), allKinds()...)
			if rerr != nil {
				t.Fatal(rerr)
			}
			if tt.refused != "" {
				if err == nil || !strings.Contains(err.Error(), tt.refused) {
					t.Errorf("got %v, want an error with %q", err, tt.refused)
				}
				if len(answer) != 1 || !strings.Contains(fmt.Sprint(answer[0]), tt.refused) {
					t.Errorf("answered %v, want a failure with %q", answer, tt.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := diff(tt.want, got); d != "" {
				t.Errorf("peer (-want +got):\n%s", d)
			}
			if d := diff(fmt.Sprint(tt.answer), fmt.Sprint(answer)); d != "" {
				t.Errorf("answered (-want +got):\n%s", d)
			}
		})
	}
}

// TestNonce: what was said in answer to another Welcome is not heard.
func TestNonce(t *testing.T) {
	for name, test := range map[string]struct {
		welcome, introduce string
		want               error
	}{
		"of this connection":    {"this", "this", nil},
		"of another connection": {"this", "that", wire.ErrRepeated},
		"of no connection":      {"this", "thi", wire.ErrRepeated},
		"an older peer":         {"this", "", nil},
		"not asked for":         {"", "that", nil},
	} {
		t.Run(name, func(t *testing.T) {
			var input []byte
			for _, m := range []wire.Message{
				wire.ClientHello{Role: wire.Worker, Version: wire.OwnVersion}, wire.Introduce{ID: "8f2c", Nonce: []byte(test.introduce)},
			} {
				input = append(input, frame(wire.Encode(m).Data)...)
			}
			_, err := wire.Accept(t.Context(), wire.NewConn(newScript(input), nil), wire.Welcome{Nonce: []byte(test.welcome)})
			if !errors.Is(err, test.want) {
				t.Errorf("error %v, expected %v", err, test.want)
			}
		})
	}
}

func TestAcceptRefuses(t *testing.T) {
	own := frame(wire.Encode(wire.ClientHello{Version: wire.OwnVersion}).Data)
	tests := []struct {
		name  string
		input []byte
		want  error // nil: any
	}{
		{"nothing", nil, io.EOF},
		{"another protocol", []byte("GET / HTTP/1.1\r\n\r\n"), nil},
		{"no hello", frame(wire.Encode(wire.Info{}).Data), wire.ErrUnexpected},
		{"a streamed message", announce(wire.KindJobFinished, 1<<40), wire.ErrTooLong},
		{"a short one", announce(wire.KindJobFinished, 60), wire.ErrUnexpected},
		{"a longer hello", announce(wire.KindClientHello, 65), nil},
		{"no introduction", own, io.EOF},
		{"something else than an introduction", append(own, frame(wire.Encode(wire.Info{}).Data)...), wire.ErrUnexpected},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			peer, err := wire.Accept(t.Context(), wire.NewConn(newScript(tt.input), nil), ownWelcome)
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("accepted %+v, %v, want %v", peer, err, tt.want)
			}
		})
	}
}

// TestAcceptSilence: a peer that says nothing, or little, is given up in time.
func TestAcceptSilence(t *testing.T) {
	hello := frame(wire.Encode(wire.ClientHello{Version: wire.OwnVersion}).Data)
	for name, input := range map[string][]byte{"nothing": nil, "half a hello": hello[:10], "no introduction": hello} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				var peer sync.WaitGroup
				peer.Go(func() {
					far.Write(input)         // closed at the end
					io.Copy(io.Discard, far) // closed at the end
				})
				begun := time.Now()
				_, err := wire.Accept(t.Context(), wire.NewConn(near, nil), ownWelcome)
				if !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) > 10*time.Second {
					t.Errorf("after %v: %v", time.Since(begun), err)
				}
				near.Close()
				peer.Wait()
			})
		})
	}
}

// server is a scripted server: each connection is handled by the next handler,
// which has read a hello.
type server struct {
	address string
	hellos  func() []wire.ClientHello // in their order; it ends the server
}

type handler func(conn *wire.Conn, raw *net.TCPConn)

func serve(t *testing.T, handlers ...handler) *server {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var hellos []wire.ClientHello
	var group sync.WaitGroup
	group.Go(func() {
		for _, handle := range handlers {
			raw, err := listener.Accept()
			if err != nil {
				return // the client came less often
			}
			conn := wire.NewConn(raw, nil)
			m, err := conn.Receive(context.Background(), wire.KindClientHello)
			if err != nil {
				t.Error(err)
			} else {
				hellos = append(hellos, m.(wire.ClientHello))
				handle(conn, raw.(*net.TCPConn))
			}
			conn.Close()
		}
	})
	stop := func() []wire.ClientHello {
		listener.Close()
		group.Wait()
		return hellos
	}
	t.Cleanup(func() { stop() })
	return &server{address: listener.Addr().String(), hellos: stop}
}

// What scripted servers do.
var (
	silent = func(*wire.Conn, *net.TCPConn) {}
	reset  = func(_ *wire.Conn, raw *net.TCPConn) { raw.SetLinger(0) } // the client tells
	plain  = func(conn *wire.Conn, _ *net.TCPConn) { conn.Send(wire.ServerHello{}) }
	greets = func(conn *wire.Conn, _ *net.TCPConn) {
		conn.Send(wire.Welcome{Version: wire.OwnVersion, Capabilities: []string{wire.CapWatch}})
		conn.Receive(context.Background(), wire.KindIntroduce)
	}
	refuses = func(conn *wire.Conn, _ *net.TCPConn) { conn.Send(wire.Failure{Text: "go away"}) }
)

func says(octets string) handler {
	return func(_ *wire.Conn, raw *net.TCPConn) { raw.Write([]byte(octets)) }
}

// saysAndResets relies on octets not being overtaken by the reset behind them.
func saysAndResets(octets string) handler {
	return func(_ *wire.Conn, raw *net.TCPConn) {
		raw.Write([]byte(octets))
		raw.SetLinger(0)
	}
}

func TestDial(t *testing.T) {
	own, legacy := wire.OwnVersion, wire.ClientVersion
	tests := []struct {
		name     string
		dialer   wire.Dialer
		handlers []handler
		want     int    // version; 0 for an error
		problem  string // part of the error
		asked    []int
	}{
		{"our server", wire.Dialer{}, []handler{greets}, own, "", []int{own}},
		{"a reference server", wire.Dialer{}, []handler{silent, silent, plain}, legacy, "", []int{own, own, legacy}},
		{"a reference server that resets", wire.Dialer{}, []handler{reset, reset, plain}, legacy, "", []int{own, own, legacy}},
		{"a reference server, as a worker", wire.Dialer{Role: wire.Worker}, []handler{silent, silent, plain}, wire.WorkerVersion, "", []int{own, own, 5}},
		{"silent once", wire.Dialer{}, []handler{silent, greets}, own, "", []int{own, own}},
		{"silent once, then refused", wire.Dialer{}, []handler{silent, refuses, plain}, 0, "go away", []int{own, own}},
		{"always silent", wire.Dialer{}, []handler{silent, silent, silent, plain}, 0, "without an answer", []int{own, own, legacy}},
		{"an octet, then the end", wire.Dialer{}, []handler{says("\x00"), plain}, 0, "unexpected EOF", []int{own}},
		{"silence, then an octet", wire.Dialer{}, []handler{silent, says("\x00"), plain}, 0, "unexpected EOF", []int{own, own}},
		{"a length, then a reset", wire.Dialer{}, []handler{saysAndResets("\x00\x00\x00\x00\x00\x00\x00\x09"), plain}, 0, "reset", []int{own}},
		{"known as ours", wire.Dialer{KnownOwn: true}, []handler{silent, plain}, 0, "without an answer", []int{own}},
		{"forced to ours", wire.Dialer{Force: own}, []handler{silent, plain}, 0, "without an answer", []int{own}},
		{"forced to 13", wire.Dialer{Force: 13}, []handler{plain}, 13, "", []int{13}},
		{"forced to 13, silent", wire.Dialer{Force: 13}, []handler{silent, plain}, 0, "without an answer", []int{13}},
		{"ours answered plainly", wire.Dialer{}, []handler{plain, plain}, 0, "plain hello", []int{own}},
		{"13 answered with a welcome", wire.Dialer{Force: 13}, []handler{greets, plain}, 0, "welcome", []int{13}},
		{"refused", wire.Dialer{}, []handler{refuses, plain}, 0, "go away", []int{own}},
		{"another protocol", wire.Dialer{}, []handler{says("SSH-2.0-OpenSSH_9.6\r\n"), plain}, 0, "greeting", []int{own}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.problem == "reset" && runtime.GOOS != "linux" {
				t.Skip("only Linux is known to deliver what came before a reset")
			}
			s := serve(t, tt.handlers...)
			conn, remote, err := tt.dialer.Dial(t.Context(), s.address)
			if conn != nil {
				conn.Close()
			}
			switch {
			case tt.want == 0 && (err == nil || !strings.Contains(err.Error(), tt.problem)):
				t.Errorf("got %+v, %v, want an error with %q", remote, err, tt.problem)
			case tt.want != 0 && (err != nil || remote.Version != tt.want || remote.Own() != (tt.want == own)):
				t.Errorf("got %+v, %v, want version %d", remote, err, tt.want)
			case remote.Own() && (!remote.Can(wire.CapWatch) || remote.Can(wire.CapCancel)):
				t.Errorf("capabilities %q", remote.Capabilities)
			}
			var asked []int
			for _, hello := range s.hellos() {
				if hello.Role != tt.dialer.Role {
					t.Errorf("came as a %v", hello.Role)
				}
				asked = append(asked, int(hello.Version))
			}
			if d := diff(tt.asked, asked); d != "" {
				t.Errorf("versions tried (-want +got):\n%s", d)
			}
		})
	}
}

// TestDialCancelled: a server that keeps the connection and says nothing is not
// taken for one of the reference's.
func TestDialCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := serve(t, func(_ *wire.Conn, raw *net.TCPConn) {
		cancel()
		io.Copy(io.Discard, raw) // until the client goes
	}, plain)
	if _, _, err := (wire.Dialer{}).Dial(ctx, s.address); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

func TestDialNobody(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	_, _, err = wire.Dialer{}.Dial(t.Context(), listener.Addr().String())
	var opErr *net.OpError
	if !errors.As(err, &opErr) || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v, want a refused connection", err)
	}
}
