package life

import "builder/pkg/job"

// Answer is what a worker that is there hears of a build whose end is durable.
type Answer int

// The answers.
const (
	// Nothing: it never had the build.
	Nothing Answer = iota
	// Stop: it has not said how the build ended, and is to end it.
	Stop
	// Forget: what it said is recorded.
	Forget
	// SetAside: something else is recorded, and what it said is nowhere but there.
	SetAside
)

// Ended is the answer when the build ended with end, to a worker that said another
// one or the same, or none yet.
func Ended(end job.Result, said *job.Result, unheard bool) Answer {
	switch {
	case said != nil && *said == end:
		return Forget
	case said != nil:
		return SetAside
	case unheard:
		return Nothing
	}
	return Stop
}

// Skip is how many of the lines that come from a line on are there already, when
// have are. ok is false when lines are missing between.
func Skip(have, from int64) (skip int64, ok bool) {
	return have - from, 0 <= from && from <= have
}
