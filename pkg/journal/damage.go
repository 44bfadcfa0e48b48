package journal

import "fmt"

// DamageError says that a file does not hold what was written to it.
type DamageError struct {
	File   string
	Offset int64 // where the bad part begins
	Err    error // what is wrong with it
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("%s is damaged at offset %d: %v (nothing was changed; keep a copy of its directory and restore it from a backup)",
		e.File, e.Offset, e.Err)
}

// Unwrap returns what is wrong.
func (e *DamageError) Unwrap() error { return e.Err }
