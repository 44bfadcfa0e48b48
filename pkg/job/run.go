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
	// Place tells of the place in which it ran.
	Place Place
}

// Place tells of the place that a worker made for a build; zero if it did not say.
type Place struct {
	Kind string // of isolation: none, user, container, jail
	// Origin is what the place was made from: an image by its digest, a snapshot by
	// its name and guid. Empty if there is none.
	Origin string
	Phases []Phase // in the order in which they began
}

// Add notes that a phase of that name took so long.
func (p *Place) Add(name string, took time.Duration) {
	p.Phases = append(p.Phases, Phase{name, took})
}

// Phase is a part of the work that a worker had with a build.
type Phase struct {
	Name string // prepare, run, collect, ...
	Took time.Duration
}
