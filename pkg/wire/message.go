package wire

import (
	"bytes"
	"io"
	"time"

	"builder/pkg/der"
	"builder/pkg/job"

	"github.com/google/uuid"
)

// Message is one message of the protocol. Octets in a received message lie in
// the connection's buffer and are valid until its next Receive.
type Message interface {
	Kind() Kind
	// encode writes the content behind the kind's tag.
	encode(w *der.Writer)
}

// Role is what a peer says it is.
type Role int

// The roles. The values are those of the protocol's CHOICE.
const (
	Client Role = iota
	Worker
)

// String names the role in messages.
func (r Role) String() string {
	if r == Worker {
		return "worker"
	}
	return "client"
}

// Blob is octets that are in memory, or that Open gives when they are sent.
// Received blobs are in memory.
type Blob struct {
	Data []byte
	Size int64 // with Open; otherwise the length of Data counts
	Open func() (io.ReadCloser, error)
}

// encode writes b as a UTF8String.
func (b Blob) encode(w *der.Writer) {
	if b.Open == nil {
		w.Octets(b.Data)
		return
	}
	w.SpliceOctets(b.Size, func(out io.Writer) error {
		in, err := b.Open()
		if err != nil {
			return err
		}
		defer in.Close()
		_, err = io.Copy(out, io.LimitReader(in, b.Size+1))
		return err
	})
}

// Reader reads the octets.
func (b Blob) Reader() (io.ReadCloser, error) {
	if b.Open == nil {
		return io.NopCloser(bytes.NewReader(b.Data)), nil
	}
	return b.Open()
}

// ScriptJob is the reference's job of a script.
type ScriptJob struct {
	Name     string
	Platform string
	Script   Blob
}

// AnyJob is the reference's CHOICE: a script job, or an orb build if OrbPackage
// is not nil.
type AnyJob struct {
	ScriptJob  // of an orb build only the Name
	OrbPackage *string
}

// ScheduleItem is a line of the reference's schedule. Never is the largest time
// that it can write.
type ScheduleItem struct {
	Next   time.Time
	Period job.Period
	Job    AnyJob
}

// Never stands for a time that does not come (Ptime.max, cut to milliseconds
// on the wire).
var Never = time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC)

// PlatformQueue is the queue of one platform.
type PlatformQueue struct {
	Platform string
	Jobs     []AnyJob
}

// RunningJob is a build that runs.
type RunningJob struct {
	Started time.Time
	UUID    uuid.UUID
	Job     ScriptJob
}

// File is an artifact to be sent.
type File struct {
	Path string
	Mode uint32 // permission bits; not carried by version 5
	Data Blob
}

// The reference's messages, as in its ASN.1 module (docs/protocol.md).
type (
	// JobSchedule hands a job to a worker.
	JobSchedule struct {
		UUID uuid.UUID
		Job  ScriptJob
	}
	// JobFinished is a worker's last message; received as [Incoming].
	JobFinished struct {
		UUID   uuid.UUID
		Result job.Result
		Files  []File
	}
	// Output is one console line. A worker sends it without, the server with the
	// time since the job's start.
	Output struct {
		UUID    uuid.UUID
		Data    []byte
		Delta   time.Duration
		Stamped bool
	}
	// Schedule adds a script job.
	Schedule struct {
		Period job.Period
		Job    ScriptJob
	}
	// Info asks for InfoReply.
	Info struct{}
	// InfoReply is the schedule, the queues and what runs.
	InfoReply struct {
		Schedule []ScheduleItem
		Queues   []PlatformQueue
		Running  []RunningJob
		Dropped  []string
	}
	// Unschedule removes a job.
	Unschedule struct{ Name string }
	// Observe asks for the console of a running build.
	Observe struct{ UUID uuid.UUID }
	// ScheduleOrb adds an orb build.
	ScheduleOrb struct {
		Period        job.Period
		Name, Package string
	}
	// Reschedule sets a job's next time, and its period unless that is nil.
	Reschedule struct {
		Name   string
		Next   time.Time
		Period *job.Period
	}
	// ClientHello is the first message of every connection.
	ClientHello struct {
		Role    Role
		Version int64
	}
	// ServerHello answers it, for versions 13 and 5.
	ServerHello struct{}
	// JobRequested is a worker's wish for a job of its platform.
	JobRequested struct{ Platform string }
	// DropPlatform pauses a platform.
	DropPlatform struct{ Platform string }
	// Success ends a client's request.
	Success struct{}
	// Failure ends a client's request.
	Failure struct{ Text string }
	// Execute asks for a run of a job, on one platform unless that is nil.
	Execute struct {
		Name     string
		Platform *string
	}
	// UndropPlatform brings a platform back.
	UndropPlatform struct{ Platform string }
)

// Kind implements [Message].
func (JobSchedule) Kind() Kind { return KindJobSchedule }

// Kind implements [Message].
func (JobFinished) Kind() Kind { return KindJobFinished }

// Kind implements [Message].
func (Output) Kind() Kind { return KindOutput }

// Kind implements [Message].
func (Schedule) Kind() Kind { return KindSchedule }

// Kind implements [Message].
func (Info) Kind() Kind { return KindInfo }

// Kind implements [Message].
func (InfoReply) Kind() Kind { return KindInfoReply }

// Kind implements [Message].
func (Unschedule) Kind() Kind { return KindUnschedule }

// Kind implements [Message].
func (Observe) Kind() Kind { return KindObserve }

// Kind implements [Message].
func (ScheduleOrb) Kind() Kind { return KindScheduleOrb }

// Kind implements [Message].
func (Reschedule) Kind() Kind { return KindReschedule }

// Kind implements [Message].
func (ClientHello) Kind() Kind { return KindClientHello }

// Kind implements [Message].
func (ServerHello) Kind() Kind { return KindServerHello }

// Kind implements [Message].
func (JobRequested) Kind() Kind { return KindJobRequested }

// Kind implements [Message].
func (DropPlatform) Kind() Kind { return KindDropPlatform }

// Kind implements [Message].
func (Success) Kind() Kind { return KindSuccess }

// Kind implements [Message].
func (Failure) Kind() Kind { return KindFailure }

// Kind implements [Message].
func (Execute) Kind() Kind { return KindExecute }

// Kind implements [Message].
func (UndropPlatform) Kind() Kind { return KindUndropPlatform }
