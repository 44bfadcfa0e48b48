package sandbox

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Worker and supervisor are always the same binary, so there are no versions.
// They talk over a stream socket, in the byte order of the machine:
//
//	worker      request   length uint32, kind byte, body
//	              'r'     run: fields, each ended by NUL: directory, number of
//	                      arguments, arguments, environment. The write end of the
//	                      console comes along as a descriptor
//	              'c'     confine the run that follows, the last one: JSON, see
//	                      confinement
//	              's'     stop: the grace period in nanoseconds, decimal
//	supervisor  reply     once for each run, see the type
//
// Neither paths nor arguments nor variables can contain NUL.
const (
	kindRun     = 'r'
	kindConfine = 'c'
	kindStop    = 's'

	headerSize = 5
	maxRequest = 16 << 20
)

// request is what the worker asks for.
type request struct {
	kind    byte
	console int // descriptor, with kindRun
	dir     string
	args    []string
	env     []string
	grace   time.Duration
	body    []byte // with kindConfine
}

// reply is how a run ended. Nothing of it is alive then, but for Left processes.
type reply struct {
	Duration int64  // nanoseconds
	Errno    uint32 // why the script was not executed, or 0
	Step     step   // what failed with Errno
	Code     uint32
	Signal   uint32
	Left     uint32
}

// send writes the reply to the socket fd. When the worker is gone, that is for
// the next receive to find out.
func (r reply) send(fd int) error {
	data, err := binary.Append(nil, binary.NativeEndian, r)
	if err != nil {
		return err
	}
	if _, err = unix.Write(fd, data); errors.Is(err, unix.EPIPE) {
		return nil
	}
	return err
}

// send writes a request to the socket of a supervisor.
func (r request) send(conn *net.UnixConn) error {
	var body []byte
	switch r.kind {
	case kindStop:
		body = strconv.AppendInt(nil, int64(r.grace), 10)
	case kindConfine:
		body = r.body
	default:
		fields := append([]string{r.dir, strconv.Itoa(len(r.args))}, r.args...)
		fields = append(fields, r.env...)
		body = []byte(strings.Join(fields, "\x00") + "\x00")
	}
	if len(body) > maxRequest {
		return fmt.Errorf("sending request: %d octets, %d are allowed: %w", len(body), maxRequest, syscall.E2BIG)
	}
	message := binary.NativeEndian.AppendUint32(make([]byte, 0, headerSize+len(body)), uint32(len(body)))
	message = append(append(message, r.kind), body...)
	var rights []byte
	if r.kind == kindRun {
		rights = unix.UnixRights(r.console)
	}
	n, _, err := conn.WriteMsgUnix(message, rights, nil)
	if err == nil && n < len(message) {
		_, err = conn.Write(message[n:])
	}
	return err
}

// receive reads the next request from the socket fd; io.EOF when the worker has
// closed it, or died.
func receive(fd int) (request, error) {
	header := make([]byte, headerSize)
	oob := make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := recvmsg(fd, header, oob)
	if err != nil {
		return request{}, fmt.Errorf("receiving request: %w", err)
	}
	if n == 0 {
		return request{}, io.EOF
	}
	if err := readFull(fd, header[n:]); err != nil {
		return request{}, err
	}
	size := binary.NativeEndian.Uint32(header)
	if size > maxRequest {
		return request{}, fmt.Errorf("receiving request: %d octets, %d are allowed", size, maxRequest)
	}
	body := make([]byte, size)
	if err := readFull(fd, body); err != nil {
		return request{}, err
	}
	r := request{kind: header[4]}
	if r.kind == kindRun {
		if r.console, err = descriptor(oob[:oobn]); err != nil {
			return request{}, err
		}
	}
	return r, r.parse(body)
}

func (r *request) parse(body []byte) error {
	switch r.kind {
	case kindStop:
		grace, err := strconv.ParseInt(string(body), 10, 64)
		r.grace = time.Duration(grace)
		return err
	case kindConfine:
		r.body = body
		return nil
	}
	fields := strings.Split(string(bytes.TrimSuffix(body, []byte{0})), "\x00")
	if len(fields) < 2 {
		return errors.New("receiving request: too few fields")
	}
	args, err := strconv.Atoi(fields[1])
	if err != nil || args < 1 || args > len(fields)-2 {
		return fmt.Errorf("receiving request: %q arguments", fields[1])
	}
	r.dir, r.args, r.env = fields[0], fields[2:2+args], fields[2+args:]
	return nil
}

// descriptor is the one that came along with a message.
func descriptor(oob []byte) (int, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) != 1 {
		return 0, fmt.Errorf("receiving request: no descriptor came with it (%v)", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return 0, fmt.Errorf("receiving request: %d descriptors came with it (%v)", len(fds), err)
	}
	return fds[0], nil
}

func recvmsg(fd int, p, oob []byte) (n, oobn, flags int, from unix.Sockaddr, err error) {
	for {
		n, oobn, flags, from, err = unix.Recvmsg(fd, p, oob, unix.MSG_CMSG_CLOEXEC)
		if !errors.Is(err, unix.EINTR) {
			return n, oobn, flags, from, err
		}
	}
}

func readFull(fd int, p []byte) error {
	for len(p) > 0 {
		n, err := unix.Read(fd, p)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("receiving request: %w", err)
		case n == 0:
			return io.EOF
		default:
			p = p[n:]
		}
	}
	return nil
}
