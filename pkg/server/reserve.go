package server

import (
	"fmt"
	"time"

	"builder/pkg/disk"

	"github.com/rs/zerolog"
)

const (
	// reserveInterval is how often the room on the disk is looked at: when a build is
	// handed out, and as long as one waits for room.
	reserveInterval = 2 * time.Second
	// defaultReserve is the reserve of a large disk, of a small one it is a part.
	defaultReserve     = 1 << 30
	defaultReservePart = 20
	// reserveFiles is how many files have to be free, where they are counted.
	reserveFiles = 10_000
)

// reserve tells whether there is room for another build. What runs may go on, and so
// may the schedule: it is for them that room is kept. It belongs to the owner's
// goroutine.
type reserve struct {
	files  disk.FS
	dir    string
	octets int64 // as configured
	log    zerolog.Logger
	looked time.Time
	short  string // why there is no room; "" while there is
}

// check returns why there is no room; "" if there is. It asks the system only now and
// then. What can not be asked is no reason to stop.
func (r *reserve) check(now time.Time) string {
	if r.octets < 0 || !r.looked.IsZero() && !now.Before(r.looked) && now.Sub(r.looked) < reserveInterval {
		return r.short
	}
	r.looked = now
	room, err := r.files.Room(r.dir)
	if err != nil {
		r.log.Error().Err(err).Msg("asking for the room on the disk")
	}
	short := ""
	if err == nil {
		short = r.lacks(room)
	}
	switch {
	case short != "" && r.short == "":
		r.log.Warn().Str("reason", short).Msg("no builds are handed out")
	case short == "" && r.short != "":
		r.log.Info().Msg("builds are handed out again")
	}
	r.short = short
	return short
}

func (r *reserve) lacks(room disk.Room) string {
	octets := r.octets
	if octets == 0 {
		octets = min(defaultReserve, room.Size/defaultReservePart)
	}
	files := min(reserveFiles, room.Files/defaultReservePart)
	switch {
	case room.Free < octets:
		return fmt.Sprintf("the disk of %s is nearly full: %s are free, %s are kept in reserve (--reserve)", r.dir, megabytes(room.Free), megabytes(octets))
	case room.FreeFiles < files:
		return fmt.Sprintf("the disk of %s is nearly full: it has room for %d more files, %d are kept in reserve", r.dir, room.FreeFiles, files)
	}
	return ""
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
