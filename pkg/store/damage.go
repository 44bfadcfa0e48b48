package store

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"builder/pkg/console"
	"builder/pkg/job"

	"github.com/google/uuid"
)

// Part is what of a data directory is damaged.
type Part string

// The parts.
const (
	PartRecord   Part = "record"
	PartConsole  Part = "console"
	PartScript   Part = "script" // of a build, or of a job in the schedule
	PartArtifact Part = "artifact"
	PartResult   Part = "result" // of the reference
	// PartContent is a content that no build names, or a file among them that is none.
	PartContent Part = "content"
	// PartSchedule is the journal of the schedule, which is not the Store's.
	PartSchedule Part = "schedule"
)

// Damage is something that is not what was written.
type Damage struct {
	Part    Part
	Job     string      // whose it is; "" for none
	UUID    uuid.UUID   // of the build; zero for none
	Path    string      // of an artifact
	Content job.Content // of a script or artifact; else zero
	File    string      // within the data directory
	Offset  int64       // in the file where the damage is, or begins; -1 when that is not known
	Reason  string
	// Aside is where Repair has moved the file, within the data directory; "" when
	// it is where it was.
	Aside string
}

// String tells of the damage in one line.
func (d Damage) String() string {
	var b strings.Builder
	if d.Job != "" {
		fmt.Fprintf(&b, "job %s: ", quoted(d.Job))
	}
	if d.UUID != (uuid.UUID{}) {
		fmt.Fprintf(&b, "build %v: ", d.UUID)
	}
	b.WriteString(string(d.Part))
	if d.Path != "" {
		b.WriteString(" " + quoted(d.Path))
	}
	fmt.Fprintf(&b, ": %s", quoted(d.File))
	if d.Offset >= 0 {
		fmt.Fprintf(&b, " at offset %d", d.Offset)
	}
	b.WriteString(": " + d.Reason)
	if d.Aside != "" {
		fmt.Fprintf(&b, " (moved to %s)", quoted(d.Aside))
	}
	return b.String()
}

// quoted is a name for a line of text: as it is when it is plain.
func quoted(name string) string {
	if strings.ContainsFunc(name, func(r rune) bool { return !strconv.IsPrint(r) || r == ' ' || r == '"' }) {
		return strconv.Quote(name)
	}
	return name
}

// damageOf describes what err, of reading file, shows.
func damageOf(part Part, file string, err error) Damage {
	d := Damage{Part: part, File: file, Offset: -1, Reason: err.Error()}
	if _, reason, ok := strings.Cut(d.Reason, ErrDamaged.Error()+": "); ok {
		d.Reason = reason // the file stands beside it
	}
	var (
		at    *console.DamageError
		input *fs.PathError
	)
	switch {
	case errors.As(err, &at):
		d.File, d.Offset, d.Reason = at.File, at.Offset, at.Reason
	case errors.As(err, &input) && errors.Is(err, fs.ErrNotExist):
		d.File, d.Reason = input.Path, "it is missing"
	}
	return d
}
