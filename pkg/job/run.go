package job

import (
	"time"

	"github.com/google/uuid"
)

// Run is one time that a job is due or asked for, waiting in the queue of one
// platform or being built.
type Run struct {
	ID       uint64 // counts up from 1, never used twice
	Job      Job    // as it was when the run was asked for
	Platform string
	Asked    time.Time
	// Tries is how many builds of it have ended without an answer.
	Tries int
	// After is the earliest time of its next try; zero if it need not wait.
	After time.Time
}

// Build is one attempt at a run on one worker: what is known of it once it has
// ended, and what is kept of it. While it runs, Finished and what follows is
// not set.
type Build struct {
	UUID     uuid.UUID
	Run      uint64 // 0 for builds taken over from the reference
	Try      int    // 1 for the first build of its run
	Job      string
	Platform string
	Script   Content // as it ran: templates are expanded
	Worker   string  // name or address, for people
	Started  time.Time
	Finished time.Time
	Result   Result
	// Artifacts in the order in which they arrived.
	Artifacts []Artifact
	// Notes tell what was not kept and why: symbolic links, bad paths.
	Notes []string
}

// Line is one line of a console.
type Line struct {
	Delta time.Duration // since the build's start, on the worker's clock
	Data  []byte        // any octets; without the newline
	Flags LineFlags
}

// LineFlags say how a line ended.
type LineFlags uint32

// The flags.
const (
	// Unended: no newline followed. The line was longer than MaxLine and goes on
	// in the next one, or it was the last and the script ended without one.
	Unended LineFlags = 1 << iota
	// Partial: more may come. Shown to observers, replaced by what follows it,
	// never stored.
	Partial
)

// MaxLine is the longest line, in octets; longer ones are split.
const MaxLine = 64 << 10
