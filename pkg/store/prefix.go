package store

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/google/uuid"
)

// minPrefix is the fewest hexadecimal digits that are taken for a Prefix.
const minPrefix = 4

// Prefix is a uuid as people type it, or the beginning of one.
type Prefix struct{ from, to uuid.UUID }

// ParsePrefix reads at least 4 hexadecimal digits of either case, with or
// without dashes.
func ParsePrefix(typed string) (Prefix, error) {
	var p Prefix
	digits := strings.ReplaceAll(typed, "-", "")
	if missing := 2*len(p.from) - len(digits); missing >= 0 && len(digits) >= minPrefix {
		_, low := hex.Decode(p.from[:], []byte(digits+strings.Repeat("0", missing)))
		_, high := hex.Decode(p.to[:], []byte(digits+strings.Repeat("f", missing)))
		if low == nil && high == nil {
			return p, nil
		}
	}
	return Prefix{}, fmt.Errorf("%q is neither a uuid nor the beginning of one: give at least %d hexadecimal digits", typed, minPrefix)
}

// Fits reports whether id begins with p.
func (p Prefix) Fits(id uuid.UUID) bool {
	return bytes.Compare(p.from[:], id[:]) <= 0 && bytes.Compare(id[:], p.to[:]) <= 0
}
