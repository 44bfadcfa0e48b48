package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// helloTime is how long a peer may take for each message of the handshake.
const helloTime = 10 * time.Second

// Peer is who is at the other end.
type Peer struct {
	Role    Role
	Version int // 13, 5 or OwnVersion
	Introduce
}

// Own reports whether the peer speaks our own version.
func (p Peer) Own() bool { return p.Version >= OwnVersion }

// Can reports whether the peer said that it has that capability.
func (p Peer) Can(capability string) bool { return slices.Contains(p.Capabilities, capability) }

// ErrRepeated says that what came was sent over another connection, to another
// Welcome: the network, or who is in it, has sent it again.
var ErrRepeated = errors.New("this repeats another connection")

// Accept does the server's part of the handshake. A peer whose version is not
// spoken here is told so as far as its protocol allows, and gets an error.
func Accept(ctx context.Context, c *Conn, welcome Welcome) (Peer, error) {
	m, err := receiveWithin(ctx, c, KindClientHello)
	if err != nil {
		return Peer{}, err
	}
	hello := m.(ClientHello)
	peer := Peer{Role: hello.Role}
	switch {
	case hello.Version >= OwnVersion:
		peer.Version = OwnVersion
		welcome.Version = OwnVersion
		if err := c.Send(welcome); err != nil {
			return peer, err
		}
		m, err := receiveWithin(ctx, c, KindIntroduce)
		if err != nil {
			return peer, err
		}
		peer.Introduce = m.(Introduce)
		if n := peer.Nonce; len(n) > 0 && len(welcome.Nonce) > 0 && !bytes.Equal(n, welcome.Nonce) {
			return peer, ErrRepeated
		}
		return peer, nil
	case hello.Role == Client && hello.Version == ClientVersion,
		hello.Role == Worker && hello.Version == WorkerVersion:
		peer.Version = int(hello.Version)
		return peer, c.Send(ServerHello{})
	}
	err = fmt.Errorf("a %v of protocol version %d: this server, %s, speaks %d with clients, %d with workers, and %d with both: use a %v of one of these",
		hello.Role, hello.Version, welcome.Program, ClientVersion, WorkerVersion, OwnVersion, hello.Role)
	return peer, errors.Join(err, c.Send(Failure{Text: "refused: " + err.Error()}))
}

func receiveWithin(ctx context.Context, c *Conn, allowed ...Kind) (Message, error) {
	ctx, cancel := context.WithTimeout(ctx, helloTime)
	defer cancel()
	return c.Receive(ctx, allowed...)
}

// Dialer connects to a server, as a client or a worker.
type Dialer struct {
	Role      Role
	Introduce Introduce
	// Force is the one version to speak; 0 tries OwnVersion and falls back to the
	// reference's when the server is one that knows nothing else.
	Force int
	// KnownOwn tells that this server has sent Welcome before: no falling back.
	KnownOwn bool
}

// Remote is the server at the other end.
type Remote struct {
	Version int
	Welcome // of a server that speaks our own version
}

// Own reports whether the server speaks our own version.
func (r Remote) Own() bool { return r.Version >= OwnVersion }

// Can reports whether the server has that capability.
func (r Remote) Can(capability string) bool { return slices.Contains(r.Capabilities, capability) }

// legacyVersion is what the reference's server speaks with that role.
func legacyVersion(r Role) int {
	if r == Worker {
		return WorkerVersion
	}
	return ClientVersion
}

// errSilent says that the connection ended after a complete hello with not one
// octet received: what the reference's server does with a version that it does
// not know.
var errSilent = errors.New("the server closed the connection without an answer")

// Dial connects to address ("host:port") and does the handshake. Our own version
// is tried first on every call. Only a server that twice in a row ends the
// connection without one octet is taken for one of the reference's.
func (d Dialer) Dial(ctx context.Context, address string) (*Conn, Remote, error) {
	version := d.Force
	if version == 0 {
		version = OwnVersion
	}
	conn, remote, err := d.dialVersion(ctx, address, version)
	if d.KnownOwn && errors.Is(err, errSilent) {
		return conn, remote, fmt.Errorf("%w; it has spoken version %d before, so no other is tried: force version %d if it was replaced by the reference",
			err, OwnVersion, legacyVersion(d.Role))
	}
	if !errors.Is(err, errSilent) || d.Force != 0 {
		return conn, remote, err
	}
	conn, remote, err = d.dialVersion(ctx, address, version)
	if !errors.Is(err, errSilent) {
		return conn, remote, err
	}
	return d.dialVersion(ctx, address, legacyVersion(d.Role))
}

func (d Dialer) dialVersion(ctx context.Context, address string, version int) (*Conn, Remote, error) {
	nd := net.Dialer{Timeout: helloTime}
	nc, err := nd.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, Remote{}, fmt.Errorf("connecting to %s: %w", address, err)
	}
	if err := WatchOver(nc.(*net.TCPConn), KeepAlive); err != nil {
		nc.Close()
		return nil, Remote{}, fmt.Errorf("connecting to %s: %w", address, err)
	}
	conn := NewConn(nc, nil)
	remote, err := d.greet(ctx, conn, version)
	if err != nil {
		conn.Close()
		return nil, remote, fmt.Errorf("greeting %s with version %d: %w", address, version, err)
	}
	return conn, remote, nil
}

func (d Dialer) greet(ctx context.Context, c *Conn, version int) (Remote, error) {
	if err := c.Send(ClientHello{Role: d.Role, Version: int64(version)}); err != nil {
		return Remote{}, err
	}
	m, err := receiveWithin(ctx, c, KindServerHello, KindWelcome, KindFailure)
	switch {
	case c.timing.received == 0 && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)):
		return Remote{}, errSilent
	case errors.Is(err, context.DeadlineExceeded):
		return Remote{}, fmt.Errorf("no answer within %v: %w", helloTime, err)
	case err != nil:
		return Remote{}, fmt.Errorf("the answer is not that of a builder server: %w", err)
	}
	switch m := m.(type) {
	case Failure:
		return Remote{}, fmt.Errorf("the server says: %s", m.Text)
	case ServerHello:
		if version >= OwnVersion {
			return Remote{}, fmt.Errorf("the server answered version %d with a plain hello", version)
		}
		return Remote{Version: version}, nil
	case Welcome:
		if version < OwnVersion {
			return Remote{}, fmt.Errorf("the server answered version %d with a welcome", version)
		}
		d.Introduce.Nonce = m.Nonce
		return Remote{Version: OwnVersion, Welcome: m}, c.Send(d.Introduce)
	}
	return Remote{}, ErrUnexpected
}

// Address is the "host:port" that a person means: a host with or without a port,
// an IPv6 address in brackets or, without a port, also bare. The default port is
// [DefaultPort].
func Address(typed string) (string, error) {
	host, port, err := net.SplitHostPort(typed)
	if err != nil {
		host, port = typed, strconv.Itoa(DefaultPort)
		if n := len(host); n > 1 && host[0] == '[' && host[n-1] == ']' {
			host = host[1 : n-1]
		}
	}
	number, err := strconv.Atoi(port)
	ipv6 := strings.Contains(host, ":")
	switch {
	case host == "" || strings.ContainsAny(host, "/[] \t\n"):
		return "", fmt.Errorf("address %q names no host: use HOST or HOST:PORT", typed)
	case ipv6 && net.ParseIP(strings.SplitN(host, "%", 2)[0]) == nil:
		return "", fmt.Errorf("address %q is neither HOST:PORT nor an IPv6 address", typed)
	case err != nil || number < 1 || number > 65535:
		return "", fmt.Errorf("address %q has no port between 1 and 65535 behind its colon", typed)
	}
	return net.JoinHostPort(host, port), nil
}
