package wire

import (
	"bufio"
	"fmt"
	"io"
	"time"

	"builder/pkg/der"
	"builder/pkg/job"

	"github.com/google/uuid"
)

// The longest small parts of a streamed frame, in octets.
const (
	maxResult = 1 << 20
	maxPath   = 64 << 10
	maxNotes  = 16 << 20
)

// Incoming is a JobFinished or Finish that is being received: its artifacts come
// from the connection while they are read. Read Files to io.EOF before the
// connection's next Receive, or close the connection.
type Incoming struct {
	kind     Kind
	UUID     uuid.UUID
	Result   job.Result
	Duration time.Duration // 0 if the protocol does not carry it
	Notes    []string
	Files    *Files
}

// Kind implements [Message].
func (m *Incoming) Kind() Kind { return m.kind }

func (m *Incoming) encode(*der.Writer) { panic("wire: an incoming message is not sent") }

// Files are the artifacts of a received message, in the order sent.
type Files struct {
	stream *der.Stream
	modes  bool
	begun  bool
}

// ReceivedFile is the head of one artifact; its data is read from the Files
// that gave it, until their next Next. The path is as the peer sent it.
type ReceivedFile struct {
	Path string
	Mode uint32
	Size int64
	Data io.Reader
}

// Next is the next artifact. At the end of the message, which it checks, the
// error is io.EOF.
func (f *Files) Next() (ReceivedFile, error) {
	s := f.stream
	if f.begun {
		s.Leave() // of the artifact before
	}
	f.begun = false
	if !s.More() {
		s.Leave() // files
		s.Leave() // record
		s.Leave() // message
		if s.More() {
			s.Fail(fmt.Errorf("octets behind the message"))
		}
		if err := s.Err(); err != nil {
			return ReceivedFile{}, err
		}
		return ReceivedFile{}, io.EOF
	}
	s.Enter(der.Sequence)
	file := ReceivedFile{Path: s.Element(maxPath).Text()}
	if f.modes {
		file.Mode = uint32(s.Element(16).Int())
	}
	file.Data, file.Size = s.Open()
	f.begun = true
	return file, s.Err()
}

// receiveFinished reads the head of a JobFinished or Finish frame of size octets.
func receiveFinished(kind Kind, in *bufio.Reader, size int64) (*Incoming, error) {
	s := der.NewStream(in, size)
	m := &Incoming{kind: kind, Files: &Files{stream: s, modes: kind == KindFinish}}
	s.Enter(der.Context(int(kind)))
	s.Enter(der.Sequence)
	m.UUID = job.DecodeUUID(s.Element(64))
	if kind == KindFinish {
		m.Result = job.DecodeResult(s.Element(maxResult))
		m.Duration = time.Duration(s.Element(16).Int())
		m.Notes = decodeTexts(s.Element(maxNotes))
	} else {
		m.Result = decodeResult(s.Element(maxResult))
	}
	s.Enter(der.Sequence)
	return m, s.Err()
}

// ReceivedExec is an ExportReply that is being received.
type ReceivedExec struct {
	// Size is the number of octets of the result file.
	Size int64
	// Data yields them. Read it to the end before the next Receive.
	Data io.Reader
}

// Kind implements [Message].
func (*ReceivedExec) Kind() Kind { return KindExportReply }

func (*ReceivedExec) encode(*der.Writer) { panic("wire: an incoming message is not sent") }

// receiveExec reads the tag and length of an ExportReply frame of size octets.
func receiveExec(in *bufio.Reader, size int64) (*ReceivedExec, error) {
	s := der.NewStream(in, size)
	length := s.Enter(der.Context(int(KindExportReply)))
	if err := s.Err(); err != nil {
		return nil, err
	}
	if der.ElementSize(der.Context(int(KindExportReply)), length) != size {
		return nil, fmt.Errorf("export reply of %d octets in a frame of %d", length, size)
	}
	return &ReceivedExec{Size: length, Data: &fullReader{io.LimitedReader{R: in, N: length}}}, nil
}

// fullReader turns an early end into io.ErrUnexpectedEOF.
type fullReader struct{ io.LimitedReader }

func (f *fullReader) Read(p []byte) (int, error) {
	n, err := f.LimitedReader.Read(p)
	if err == io.EOF && f.N > 0 { //nolint:errorlint // an io.Reader returns it bare
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
