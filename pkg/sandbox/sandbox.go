// Package sandbox is the place a build runs in: made for it, and gone after it.
//
// A [Sandbox] prepares a [Place] for each build; the place runs the script,
// collects what it left, and is destroyed. [Plain] is the kind without
// isolation: a process of the worker's own user; a [Fence] puts namespaces and
// other accounts around it. The package knows nothing of
// the wire, of the server, or of other builds.
//
// The invariant: when [Place.Run] has returned, nothing of the build is alive.
// Where that can not be kept Run says so ([ErrSupervisor], [ErrLeftover]).
//
// # What lies where
//
//	ROOT/b-BUILD-RANDOM/     0700, one per build, not to be guessed
//	    script               what is run; apart from the artifacts
//	    out/                 working directory and BUILDER_OUTPUT; regular files are artifacts
//	    home/  tmp/          HOME and TMPDIR, empty at the start
//
// # Who watches whom
//
// The script is not a child of the worker but of a supervisor: the same binary,
// started again (see [Supervise]). The supervisor adopts whatever the script
// leaves behind, and "no child left" is its proof that the build is over.
//
//	worker ──socket──▸ supervisor ──▸ script ──▸ ... its tree
//	   ▲                                │
//	   └──────────── console pipe ──────┘
//
//	script ends              the rest of the tree is killed, then the status is told
//	Run's context ends       TERM to the tree, the grace period, KILL to the tree
//	worker dies              the socket closes: KILL to the tree
//	supervisor dies          the kernel kills the script, the worker adopts and kills the rest
//
// # What can not be promised
//
// A build without a fence has the user id of its worker. Without a pid namespace, cgroup or jail
// around it (other kinds have them) it can kill or trace its supervisor and the
// worker itself; it can have a daemon outside of the tree (cron, at, systemd,
// docker) start a process for it; and a process that it started through a
// setuid program can not be killed by us. A process that is killed between two
// looks at the process table may have its number given to another one of the
// same user, which is then signalled in its place; the kernel hands out all
// other numbers first. A build that kills supervisor and worker in this order
// leaves its processes to init.
package sandbox

import (
	"context"
	"errors"
	"io"
	"syscall"
	"time"

	"builder/pkg/job"
)

// DefaultGrace is the time between TERM and KILL when a Spec names none.
const DefaultGrace = 10 * time.Second

var (
	// ErrSupervisor says that the supervisor of a build was killed or stopped
	// answering: not the script's result, but a failure of the machinery. What
	// the build did until then is unknown.
	ErrSupervisor = errors.New("the supervisor of the build was killed")
	// ErrLeftover says that processes of the build could not be killed. The Exit
	// beside it is valid.
	ErrLeftover = errors.New("processes of the build can not be killed")
	// ErrOver says that there is nothing to resume.
	ErrOver = errors.New("the script is over, and nobody knows how it ended")
	// ErrUnenforced says that a bound can not be kept here.
	ErrUnenforced = errors.New("the bounds can not be kept")
)

// Spec says what to run.
type Spec struct {
	// Build, Job and Platform become BUILDER_BUILD, BUILDER_JOB and
	// BUILDER_PLATFORM. The beginning of Build is in the directory's name.
	Build, Job, Platform string
	// Script is executed by what its #! line names, by /bin/sh if it has none.
	Script []byte
	// Env holds further variables, KEY=value. They take precedence over PATH,
	// LANG and TZ, not over HOME, TMPDIR and BUILDER_*.
	Env []string
	// Grace is the time between TERM and KILL; 0 means DefaultGrace.
	Grace time.Duration
	// Resources bound what the build uses. Sandbox.Enforces has allowed them.
	Resources job.Resources
}

// Sandbox makes places. It is safe for concurrent use.
type Sandbox interface {
	// Kind is the kind of isolation, as it is called in flags and records.
	Kind() string
	// Enforces tells which of these bounds this kind, on this machine, can not keep,
	// and why; nil if it keeps all that are set.
	Enforces(res job.Resources) error
	// Prepare makes a place for one build. The caller destroys it. On an error
	// nothing is left.
	Prepare(ctx context.Context, spec Spec) (Place, error)
	// Reattach finds the place that an earlier process has left behind when it was
	// killed, by its Name. Its script is dead, or about to be killed by its
	// supervisor, unless the Place is a Resumer; it can not be Run.
	Reattach(name string) (Place, error)
	// Sweep removes what earlier processes have left behind, and what Destroy could
	// not, but for the places that were attached again. Other places may be made,
	// used and destroyed meanwhile.
	Sweep() error
}

// Place is the place of one build. Its methods are called one after the other:
// Run at most once, then Artifacts, then Keep or Salvage if that is wanted, then Destroy,
// which may follow Prepare at once.
type Place interface {
	// Run executes the script and writes what it prints, standard output and
	// error in the order printed, to console. When ctx ends, the whole tree of
	// processes gets TERM, and after the grace period KILL; Exit.Cause tells.
	// When writing to console fails the build is stopped in the same way and
	// that error is returned. Run waits for console for as long as it takes.
	//
	// A script that can not be executed (its interpreter is missing, say) is a
	// failure of the build: its exit status is 127 or 126 as in a shell, and the
	// console tells why. An error is a failure of the machinery.
	Run(ctx context.Context, console io.Writer) (Exit, error)
	// Artifacts lists the regular files that the build left in its output
	// directory, whatever its exit was, and notes what it left there besides.
	// Check says which paths are allowed (its error becomes the note); nil
	// allows all. Files whose names start with a dot are artifacts, empty
	// directories are nothing. Whether a file can be read is found by opening it.
	Artifacts(check func(path string) error) ([]Artifact, []Note, error)
	// Name finds the place again, in a later process.
	Name() string
	// Origin is what the place was made from, see job.Place.
	Origin() string
	// Salvage moves what the build left in its output directory to dir, which must
	// not exist and lie on the same file system. Artifacts can not be opened any
	// more; Destroy removes the rest.
	Salvage(dir string) error
	// Keep makes a place whose build is over one that people can look at, and says
	// how they enter it: a command. What runs of it stays ended. The place is there
	// until Destroy, which a later process may call after Reattach; Artifacts can be
	// opened still. Keep may be called again, also after Reattach. A kind that can not
	// do it returns an error, and the place is as before.
	Keep() (how string, err error)
	// Destroy removes everything. Artifacts can not be opened any more. On an error
	// the rest is left to Sweep.
	Destroy() error
}

// Resumer is a Place whose script outlives its worker. When it was attached again the
// script may be running yet, until Resume has returned or Artifacts, Keep, Salvage or
// Destroy is called, which kill it.
type Resumer interface {
	Place
	// Begun is when the place was prepared, by the clock on the wall.
	Begun() time.Time
	// Resume is Run for the rest of a script that an earlier process has begun: of
	// spec it needs Build, Grace and Resources. What was printed meanwhile comes first.
	// The error is ErrOver if nobody knows how the script ended, or it was never begun.
	Resume(ctx context.Context, spec Spec, console io.Writer) (Exit, error)
}

// Exit is how a script ended.
type Exit struct {
	// Start is when the script was started, with a monotonic reading. It is zero
	// when ctx had ended before, and nothing was started.
	Start time.Time
	// Duration is from start to end of the script, by the monotonic clock. It
	// does not contain the killing of what the script left behind.
	Duration time.Duration
	// Code is the exit status; meaningless when Signal is set.
	Code int
	// Signal is the one that ended the script, 0 if none did.
	Signal syscall.Signal
	// OutOfMemory says that the kernel ended processes of the build since it used
	// all of Spec.Resources.Memory. The script may have gone on.
	OutOfMemory bool
	// Cause is why the script was told to stop (context.Cause), nil if it was not.
	// The script may have ended by itself, even well, in the same moment.
	Cause error
}
