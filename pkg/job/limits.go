package job

import (
	"fmt"
	"time"
)

// Limits bound a build. A zero one is not set: it is the default's, or none.
type Limits struct {
	// Timeout is how long the script may run; then the build ends as timeout.
	Timeout time.Duration
	// Silence is how long the script may print nothing; then the build ends as
	// silence.
	Silence time.Duration
	// Grace is the time between TERM and KILL.
	Grace time.Duration
	// MaxConsole is how many octets of the console are kept: its head and its tail.
	// The job goes on.
	MaxConsole int64
	// MaxArtifacts is how many octets all artifacts may have together; a build that
	// leaves more ends as artifacts, without any.
	MaxArtifacts int64
}

// DefaultLimits are those of a job that sets none.
var DefaultLimits = Limits{
	Timeout: time.Hour, Grace: 30 * time.Second, MaxConsole: 1 << 30, MaxArtifacts: 50 << 30,
}

// MaxTime is the longest time that anybody may ask for, ten years: whoever wants more
// has mistyped it, and sums of some are still times.
const MaxTime = 3653 * 24 * time.Hour

// Or is l, with the limits of other where it sets none.
func (l Limits) Or(other Limits) Limits {
	return Limits{
		Timeout: or(l.Timeout, other.Timeout), Silence: or(l.Silence, other.Silence), Grace: or(l.Grace, other.Grace),
		MaxConsole: or(l.MaxConsole, other.MaxConsole), MaxArtifacts: or(l.MaxArtifacts, other.MaxArtifacts),
	}
}

func or[T comparable](a, b T) T {
	var zero T
	if a != zero {
		return a
	}
	return b
}

// minConsole is the smallest MaxConsole: room for a head and a tail.
const minConsole = 4 * MaxLine

// Check tells whether l may be a job's.
func (l Limits) Check() error {
	if longest := max(l.Timeout, l.Silence, l.Grace); longest > MaxTime {
		return fmt.Errorf("%v is too long: use %.0fh (ten years) or less", longest, MaxTime.Hours())
	}
	return l.check()
}

// check is what Check is without the longest time, which earlier releases did not
// know: their journals are read.
func (l Limits) check() error {
	switch {
	case l.Timeout < 0 || l.Silence < 0 || l.Grace < 0 || l.MaxConsole < 0 || l.MaxArtifacts < 0:
		return fmt.Errorf("a limit is negative: %+v", l)
	case l.MaxConsole > 0 && l.MaxConsole < minConsole:
		return fmt.Errorf("a console of at most %d octets is too small: use %d or more", l.MaxConsole, minConsole)
	}
	return nil
}

// TimedOut is the result of a build whose script ran longer than Timeout.
func (l Limits) TimedOut() Result {
	return Failure(Timeout, "timeout: the build took longer than %v", l.Timeout)
}

// Silenced is the result of a build whose script printed nothing for Silence.
func (l Limits) Silenced() Result {
	return Failure(Silence, "silence: the build printed nothing for %v", l.Silence)
}

// Retries say when a run whose build has ended is tried again.
type Retries struct {
	// Tries is how many builds a run has at most: 1 for no second try, 0 for
	// DefaultTries.
	Tries int
	// OnFailure also tries again what the script failed with, OnTimeout what took
	// too long or printed nothing for too long. Without them only the ends are
	// tried again that lie in the infrastructure.
	OnFailure, OnTimeout bool
}

// DefaultTries are the first and two more.
const DefaultTries = 3

// MaxTries is the most tries that a job may ask for.
const MaxTries = 1000

// Max is how many builds a run has at most.
func (r Retries) Max() int { return or(r.Tries, DefaultTries) }

// Check tells whether r may be a job's.
func (r Retries) Check() error {
	if r.Tries < 0 || r.Tries > MaxTries {
		return fmt.Errorf("%d tries are not allowed: use 1 to %d", r.Tries, MaxTries)
	}
	return nil
}

// Again reports whether an end may be tried again, as long as tries are left.
func (r Retries) Again(end Result) bool {
	switch {
	case end.Infrastructure():
		return true
	case end.Kind == Failed:
		return r.OnTimeout && (end.Cause == Timeout || end.Cause == Silence)
	}
	return r.OnFailure && !end.Success()
}
