package worker

import (
	"errors"
	"io"
	"os"

	"builder/pkg/sandbox"
	"builder/pkg/wire"
)

// heldOpen is how many artifacts are kept open until they are sent: more than
// most builds have, fewer than a process may open.
const heldOpen = 100

var errChanged = errors.New("it was changed after the build had ended")

// delivery is the artifacts of a build on their way.
type delivery struct {
	files []wire.File
	notes []sandbox.Note
	held  []*os.File
}

// deliver makes of artifacts what is sent. Nothing of the build is alive, but
// somebody else, such as a cleaner of temporary files, may have changed them. So
// each is looked at again before its size is announced: one that is not what was
// listed is left out, with a note. The first ones stay open and may be removed
// while they are sent. What is too late for the announcement (any of them gets
// another size, one of the others is removed) costs the connection. Close it.
func deliver(artifacts []sandbox.Artifact) *delivery {
	d := &delivery{}
	for _, artifact := range artifacts {
		open := func() (io.ReadCloser, error) { return artifact.Open() }
		f, err := reopen(artifact)
		switch {
		case err != nil:
			d.notes = append(d.notes, sandbox.Note{Path: artifact.Path, Text: "left out: " + err.Error()})
			continue
		case len(d.held) < heldOpen:
			d.held = append(d.held, f)
			open = func() (io.ReadCloser, error) { return f, nil }
		default:
			f.Close()
		}
		d.files = append(d.files, wire.File{
			Path: artifact.Path, Mode: uint32(artifact.Mode), Data: wire.Blob{Size: artifact.Size, Open: open},
		})
	}
	return d
}

// Close closes what was not sent.
func (d *delivery) Close() {
	for _, f := range d.held {
		f.Close()
	}
}

// reopen opens an artifact that is as it was listed.
func reopen(artifact sandbox.Artifact) (*os.File, error) {
	f, err := artifact.Open()
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() != artifact.Size {
		err = errChanged
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
