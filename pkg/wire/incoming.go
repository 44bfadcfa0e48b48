package wire

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"builder/pkg/der"
	"builder/pkg/job"

	"github.com/google/uuid"
)

// The longest small parts of a streamed frame, in octets.
const (
	maxUUID   = 64
	maxInt    = 16
	maxResult = 1 << 20
	maxPath   = 64 << 10
	maxNotes  = 1 << 20

	maxContent = 128
)

// streamed is a message whose rest comes from the connection while it is read.
type streamed interface {
	Message
	// finished reports whether all of it was read.
	finished() bool
}

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

func (m *Incoming) finished() bool { return m.Files.done }

// Files are the artifacts of a received message, in the order sent.
type Files struct {
	stream *der.Stream
	own    bool // a Finish: with modes, unknown trailing fields are skipped
	begun  bool // inside an artifact
	done   bool
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
	if f.done {
		return ReceivedFile{}, io.EOF
	}
	s := f.stream
	if f.begun {
		f.leave() // the artifact before
	}
	f.begun = s.More()
	if !f.begun {
		return ReceivedFile{}, f.end()
	}
	s.Enter(der.Sequence)
	file := ReceivedFile{Path: s.Element(maxPath).Text()}
	if f.own {
		file.Mode = uint32(s.Element(maxInt).Int()) & uint32(fs.ModePerm)
	}
	file.Data, file.Size = s.Open()
	return file, s.Err()
}

// leave ends a record.
func (f *Files) leave() {
	if f.own {
		f.stream.Skip()
	}
	f.stream.Leave()
}

// end checks that nothing is left of the message.
func (f *Files) end() error {
	s := f.stream
	s.Leave() // the list of files
	f.leave() // the record
	s.Leave() // the message
	if s.More() {
		s.Fail(errors.New("octets behind the message"))
	}
	if err := s.Err(); err != nil {
		return err
	}
	f.done = true
	return io.EOF
}

// receiveFinished reads the head of a JobFinished or Finish frame of size octets.
func receiveFinished(kind Kind, in *bufio.Reader, size int64) (*Incoming, error) {
	s := der.NewStream(in, size)
	m := &Incoming{kind: kind, Files: &Files{stream: s, own: kind == KindFinish}}
	s.Enter(der.Context(int(kind)))
	s.Enter(der.Sequence)
	m.UUID = job.DecodeUUID(s.Element(maxUUID))
	if kind == KindFinish {
		m.Result = job.DecodeResult(s.Element(maxResult))
		m.Duration = time.Duration(s.Element(maxInt).Int())
		m.Notes = decodeTexts(s.Element(maxNotes), maxNoteCount)
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

	full *fullReader
}

// Kind implements [Message].
func (*ReceivedExec) Kind() Kind { return KindExportReply }

func (*ReceivedExec) encode(*der.Writer) { panic("wire: an incoming message is not sent") }

func (m *ReceivedExec) finished() bool { return m.full.N == 0 }

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
	full := &fullReader{io.LimitedReader{R: in, N: length}}
	return &ReceivedExec{Size: length, Data: full, full: full}, nil
}

// IncomingContent is a Content that is being received: its data comes from the
// connection while it is read. Read it to io.EOF before the connection's next
// Receive, or close the connection.
type IncomingContent struct {
	Content job.Content
	Offset  int64
	Size    int64 // octets of data; a lie when that is not what is left of Content

	data   io.Reader
	stream *der.Stream
	done   bool
}

// Kind implements [Message].
func (*IncomingContent) Kind() Kind { return KindContent }

func (*IncomingContent) encode(*der.Writer) { panic("wire: an incoming message is not sent") }

func (m *IncomingContent) finished() bool { return m.done }

// Read implements io.Reader. At the end of the data it checks the message's.
func (m *IncomingContent) Read(p []byte) (int, error) {
	n, err := m.data.Read(p)
	if err == io.EOF && !m.done { // an io.Reader returns it bare
		s := m.stream
		s.Skip()
		s.Leave() // the record
		s.Leave() // the message
		if s.More() {
			s.Fail(errors.New("octets behind the message"))
		}
		if s.Err() != nil {
			return n, s.Err()
		}
		m.done = true
	}
	return n, err
}

// receiveContent reads the head of a Content frame of size octets.
func receiveContent(in *bufio.Reader, size int64) (*IncomingContent, error) {
	s := der.NewStream(in, size)
	s.Enter(der.Context(int(KindContent)))
	s.Enter(der.Sequence)
	m := &IncomingContent{stream: s}
	m.Content = job.DecodeContent(s.Element(maxContent))
	m.Offset = s.Element(maxInt).Int()
	m.data, m.Size = s.Open()
	return m, s.Err()
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
