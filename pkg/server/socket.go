package server

import (
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// quiet reports whether a connection is open and nothing has come from the
// peer: no octet, no end and no error. It does not wait and takes nothing, so
// it may be asked while another goroutine reads.
func quiet(c net.Conn) bool {
	_, err := peek(c)
	return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR)
}

// open is quiet for a peer that may say something at any time: it reports whether
// the connection has not ended.
func open(c net.Conn) bool {
	n, err := peek(c)
	return n > 0 || errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR)
}

// peek looks for an octet that has come.
func peek(c net.Conn) (n int, err error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return 0, unix.EAGAIN // not a socket: the reader will notice
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0, err
	}
	var received error
	err = raw.Control(func(fd uintptr) {
		var one [1]byte
		n, _, received = unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	})
	return n, errors.Join(err, received)
}

const (
	// partTime and partSize bound what is read of a peer that was told to go: a
	// client that is writing a script that is too long reads the answer only when
	// it has written all of it.
	partTime = 10 * time.Second
	partSize = 256 << 20
)

// part reads what a peer still sends that was told why its connection ends: to
// close over unread octets resets the connection, and the peer would not see
// the message.
func part(c net.Conn) {
	half, ok := c.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || c.SetReadDeadline(time.Now().Add(partTime)) != nil {
		return
	}
	io.CopyN(io.Discard, c, partSize) //nolint:errcheck // the connection is given up
}

// maxSessions is how many connections are served at a time: half of what the
// process may have open, the rest is for consoles, artifacts and the journal.
func maxSessions() int {
	const fewest, most = 16, 1 << 20
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fewest
	}
	return int(max(fewest, min(uint64(limit.Cur)/2, most))) //nolint:unconvert // signed on FreeBSD
}
