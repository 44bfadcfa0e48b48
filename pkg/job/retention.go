package job

import (
	"fmt"
	"math"

	"builder/pkg/der"
)

// Retention says how much is kept of a job's builds that have ended. A bound of 0
// is not set: it is the default's, or none.
type Retention struct {
	// Builds is how many are kept on each platform.
	Builds int64
	// Days is how many days one is kept after its end.
	Days int64
	// Bytes is how many octets of the disk all of them may take.
	Bytes int64
}

// Unbounded is a bound that is set to none, whatever the default is.
const Unbounded = -1

// maxDays keeps a number of days within what a time.Duration can hold.
const maxDays = math.MaxInt64 / int64(24*60*60*1e9)

// Or is r, with the bounds of other where it sets none.
func (r Retention) Or(other Retention) Retention {
	return Retention{Builds: or(r.Builds, other.Builds), Days: or(r.Days, other.Days), Bytes: or(r.Bytes, other.Bytes)}
}

// Check tells whether r may be a job's.
func (r Retention) Check() error {
	switch {
	case r.Builds < Unbounded || r.Days < Unbounded || r.Bytes < Unbounded:
		return fmt.Errorf("a bound of what is kept is negative: %+v", r)
	case r.Days > maxDays:
		return fmt.Errorf("%d days are too many: use %d at the most", r.Days, maxDays)
	}
	return nil
}

// EncodeRetention writes Retention ::= SEQUENCE { builds, days, bytes INTEGER }; 0
// for what is not set, -1 for no bound.
func EncodeRetention(w *der.Writer, r Retention) {
	w.Sequence(func() {
		for _, n := range []int64{r.Builds, r.Days, r.Bytes} {
			w.Int(min(n, der.MaxInt))
		}
	})
}

// DecodeRetention is the inverse of EncodeRetention.
func DecodeRetention(r *der.Reader) Retention {
	in := r.Enter(der.Sequence)
	kept := Retention{Builds: in.Int(), Days: in.Int(), Bytes: in.Int()}
	if err := kept.Check(); err != nil && r.Err() == nil {
		r.Fail(err)
	}
	return kept
}
