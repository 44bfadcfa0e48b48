package wire

import (
	"io"
	"time"

	"builder/pkg/job"

	"github.com/google/uuid"
)

// Capabilities of our server, sent in Welcome. A feature that comes later adds
// one; a peer that misses one says so instead of sending what is not understood.
const (
	CapDefine    = "define"    // Define, Accepted
	CapStatus    = "status"    // Status
	CapWatch     = "watch"     // Watch: replay, partial lines
	CapBuilds    = "builds"    // List, Export
	CapCancel    = "cancel"    // Cancel, Stop
	CapBuild     = "build"     // Start, Lines, Finish, Stored
	CapLimits    = "limits"    // Job.Limits and Job.Retries in Define
	CapResources = "resources" // Job.Resources in Define; a worker's: it keeps those of Start
	CapResume    = "resume"    // Holding, Resume, Done, Want, Deliver, Content, Missing, Later; also a peer's
	CapAlive     = "alive"     // Alive; also a peer's
	CapFetch     = "fetch"     // Describe, Fetch, Find; outputs in ListReply
	CapOutbox    = "outbox"    // Outbox, OutboxChange, OutboxReply
	CapStore     = "store"     // Welcome.Stores; Location of artifacts in Done
)

// CapDismissed is a worker's, sent in Introduce: it understands Dismissed.
const CapDismissed = "dismissed"

// Our own messages, as in our ASN.1 module (docs/protocol.md). Their records may
// grow trailing fields, which older programs skip.
type (
	// Welcome answers a ClientHello of OwnVersion or higher.
	Welcome struct {
		Version      int64
		Program      string // the server's version, for people
		Capabilities []string
		// Nonce is drawn anew for each connection; empty for one that is never checked.
		Nonce []byte
		// Stores are the locations of artifacts that the server takes.
		Stores []string
		Beat   time.Duration // how often the server wants to hear something; 0 if it does not say
	}
	// Introduce is the peer's next message.
	Introduce struct {
		Name         string // for people: a worker's host name
		ID           string // a worker's identity, kept in its directory; empty for clients
		Program      string
		Capabilities []string
		// Nonce is that of the Welcome; empty from programs that know none.
		Nonce []byte
		Beat  time.Duration // how often the peer wants to hear something; 0 if it does not say
	}
	// Define schedules a job, or with Update replaces its definition and plan. A
	// job of a script carries it here; Job.Script is not sent.
	Define struct {
		Job    job.Job
		Script []byte
		Plan   job.Plan
		Update bool
	}
	// Accepted comes before the Success of Define, Execute and Reschedule.
	Accepted struct {
		Runs []RunRef
		Next time.Time // when the job is due next; zero for never
	}
	// RunRef names a run that was queued.
	RunRef struct {
		ID       uint64
		Platform string
	}
	// Status asks for StatusReply.
	Status struct{}
	// StatusReply is everything that Info shows, and what it can not.
	StatusReply struct {
		Jobs      []JobStatus
		Platforms []PlatformStatus
		Building  []BuildStatus
		Remotes   []RemoteStatus // that there are, or that builds wait for
		Paused    string         // why no builds are handed out; "" while they are
	}
	// JobStatus is one job of the schedule.
	JobStatus struct {
		Job    job.Job
		Plan   job.Plan
		Next   time.Time // zero for never
		Parked bool      // its builds ended their workers: not handed out before Execute
	}
	// PlatformStatus is one platform, its queue and its workers.
	PlatformStatus struct {
		Name    string
		Dropped bool
		Queue   []job.Run
		Workers []WorkerStatus
	}
	// WorkerStatus is one connected worker.
	WorkerStatus struct {
		Name, Address string
		Since         time.Time // of its connection
		Build         uuid.UUID // what it builds; zero if it waits
	}
	// BuildStatus is one build that runs.
	BuildStatus struct {
		UUID     uuid.UUID
		Run      uint64
		Try      int
		Job      string
		Platform string
		Worker   string
		Started  time.Time
		Away     time.Time // since when its worker is not connected; zero if it is
	}
	// Watch asks for the console of a build, from a line on: Watching, Lines,
	// and when it has ended Ended and Success. The build is named by Run if that
	// is not 0 (waiting for it to be handed out), else by What: a job's name
	// (the running build, or else the last one), a uuid or a unique prefix of
	// one, or nothing (the newest that runs, of Job and Platform if these are set).
	Watch struct {
		What     string
		Job      string
		Platform string
		Run      uint64
		From     int64     // number of the first line wanted, counted from 0
		Build    uuid.UUID // the build that From is meant for; others are shown whole. Zero: any
	}
	// Watching names the build whose console follows.
	Watching struct {
		Build BuildStatus
	}
	// Lines carries console lines, from a worker and to observers. One with the
	// Partial flag is the last and has no number.
	Lines struct {
		UUID  uuid.UUID
		From  int64 // number of the first line
		Lines []job.Line
	}
	// Ended is the record of an observed build. Watching, Lines and Ended may
	// come again: a run whose build was lost is watched to its last try.
	Ended struct {
		Build job.Build
		Final bool // no further build of the run follows
	}
	// List asks for builds that have ended, newest first.
	List struct {
		Job   string // "" for all
		Limit int64
	}
	// ListReply answers List; the builds come without artifacts and notes. Outputs
	// are theirs, in the same order, if the server can tell. It also answers Find.
	ListReply struct {
		Builds  []job.Build
		Outputs []job.Output
		Marks   []BuildMark // of those that have any
	}
	// Export asks for a build's result file, by uuid or prefix.
	Export struct{ What string }
	// ExportReply is the reference's result file: Size octets that Write writes.
	// Received as ReceivedExec.
	ExportReply struct {
		Size  int64
		Write func(io.Writer) error
	}
	// Cancel ends a job's queued runs and builds, or one build, by name or uuid.
	Cancel struct{ What, Reason string }
	// Stop tells a worker to end a build; its Finish follows with that result.
	Stop struct {
		UUID   uuid.UUID
		Result job.Result
	}
	// Start hands a build to a worker that sent JobRequested. A limit that is 0 is
	// the worker's default, or none.
	Start struct {
		Build     BuildStatus
		Script    []byte
		Limits    job.Limits
		Resources job.Resources
	}
	// Finish is a worker's last message of a build; received as Incoming.
	Finish struct {
		UUID     uuid.UUID
		Result   job.Result
		Duration time.Duration // of the script, on the worker's monotonic clock
		Notes    []string
		Files    []File
	}
	// Stored tells the worker that the build's end is durable. Refused says why
	// it was not taken, if it was not.
	Stored struct {
		UUID    uuid.UUID
		Refused string
	}
	// Dismissed ends a worker's connection, as Failure does, and says that it need
	// not come again as it is.
	Dismissed struct{ Text string }
)

// Kind implements [Message].
func (Welcome) Kind() Kind { return KindWelcome }

// Kind implements [Message].
func (Introduce) Kind() Kind { return KindIntroduce }

// Kind implements [Message].
func (Define) Kind() Kind { return KindDefine }

// Kind implements [Message].
func (Accepted) Kind() Kind { return KindAccepted }

// Kind implements [Message].
func (Status) Kind() Kind { return KindStatus }

// Kind implements [Message].
func (StatusReply) Kind() Kind { return KindStatusReply }

// Kind implements [Message].
func (Watch) Kind() Kind { return KindWatch }

// Kind implements [Message].
func (Watching) Kind() Kind { return KindWatching }

// Kind implements [Message].
func (Lines) Kind() Kind { return KindLines }

// Kind implements [Message].
func (Ended) Kind() Kind { return KindEnded }

// Kind implements [Message].
func (List) Kind() Kind { return KindList }

// Kind implements [Message].
func (ListReply) Kind() Kind { return KindListReply }

// Kind implements [Message].
func (Export) Kind() Kind { return KindExport }

// Kind implements [Message].
func (ExportReply) Kind() Kind { return KindExportReply }

// Kind implements [Message].
func (Cancel) Kind() Kind { return KindCancel }

// Kind implements [Message].
func (Stop) Kind() Kind { return KindStop }

// Kind implements [Message].
func (Start) Kind() Kind { return KindStart }

// Kind implements [Message].
func (Finish) Kind() Kind { return KindFinish }

// Kind implements [Message].
func (Stored) Kind() Kind { return KindStored }

// Kind implements [Message].
func (Dismissed) Kind() Kind { return KindDismissed }
