package worker

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"math"
	"time"

	"builder/pkg/job"
	"builder/pkg/sandbox"
	"builder/pkg/wire"
)

// collect lists and hashes what the build left, and ends it. When over is done it
// gives up: a later process goes on.
func (b *build) collect(ctx, over context.Context, done wire.Done, most int64) {
	defer close(b.ended)
	begun := time.Now()
	if b.place != nil && !b.offer(over, &done, most) {
		return
	}
	done.Place.Add("collect", time.Since(begun))
	var stop *stopped
	if errors.As(context.Cause(ctx), &stop) && stop.result.Cause != job.ShutDown {
		done.Result = stop.result // it may have come while the artifacts were hashed
	}
	if b.place != nil && b.conf.keeps(done.Result) {
		done.Notes = append(done.Notes, b.announce())
	}
	done.Lines = b.spool.view().lines
	encoded := wire.Encode(done)
	if size := encoded.Size(); size > wire.KindDone.Limit() {
		done.Result = job.Failure(job.TooLarge, "artifacts: a list of %d files is %d octets long, %d are allowed",
			len(done.Artifacts), size, wire.KindDone.Limit())
		done.Artifacts, b.artifacts = nil, nil
		encoded = wire.Encode(done)
	}
	b.log.Info().Stringer("result", done.Result).Int("artifacts", len(done.Artifacts)).Dur("dur", done.Duration).Msg("build ended")
	if err := b.spool.finish(done, encoded.Data); err != nil {
		b.log.Error().Err(err).Msg("keeping the end of the build: it is in memory only")
	}
}

// offer lists the artifacts in done. It reports false if it gave up.
func (b *build) offer(over context.Context, done *wire.Done, most int64) bool {
	artifacts, notes, err := b.place.Artifacts(job.CheckPath)
	if err != nil {
		done.Result = job.Failure(job.NoSandbox, "the build %v, but its artifacts could not be collected: %v", done.Result, err)
		return true
	}
	done.Notes = noteTexts(notes)
	total := int64(0)
	for _, a := range artifacts {
		total += min(a.Size, math.MaxInt64-total) // sparse files may be of any size
	}
	switch {
	case len(artifacts) == 0:
		return true
	case most > 0 && total > most:
		text := fmt.Sprintf("artifacts: %d octets in %d files are left, %d octets are allowed", total, len(artifacts), most)
		if done.Result.Kind == job.Failed {
			done.Notes = append(done.Notes, text)
		} else {
			done.Result = job.Failure(job.TooLarge, "%s", text)
		}
		return true
	}
	if err := b.spool.exit(*done); err != nil {
		b.log.Error().Err(err).Msg("keeping how the script ended")
	}
	b.artifacts = make(map[job.Content]sandbox.Artifact, len(artifacts))
	done.Artifacts = make([]job.Artifact, 0, len(artifacts))
	buffer := make([]byte, hashBuffer)
	sum := sha256.New()
	for _, a := range artifacts {
		content, err := contentOf(over, a, sum, buffer)
		if over.Err() != nil {
			return false
		}
		if err != nil {
			notes = append(notes, sandbox.Note{Path: a.Path, Text: err.Error()})
			continue
		}
		b.artifacts[content] = a
		done.Artifacts = append(done.Artifacts, job.Artifact{Path: a.Path, Mode: a.Mode, Content: content})
	}
	done.Notes = noteTexts(notes)
	return true
}

const hashBuffer = 256 << 10

// contentOf reads an artifact once.
func contentOf(over context.Context, a sandbox.Artifact, sum hash.Hash, buffer []byte) (job.Content, error) {
	content := job.Content{}
	sum.Reset()
	err := a.Read(buffer, func(octets []byte) error {
		sum.Write(octets)
		content.Size += int64(len(octets))
		return over.Err()
	})
	sum.Sum(content.SHA256[:0])
	return content, err
}

// reattach finds the artifacts of a build that an earlier process has collected.
func (b *build) reattach(done *wire.Done) error {
	artifacts, _, err := b.place.Artifacts(job.CheckPath)
	if err != nil {
		return err
	}
	paths := make(map[string]sandbox.Artifact, len(artifacts))
	for _, a := range artifacts {
		paths[a.Path] = a
	}
	b.artifacts = make(map[job.Content]sandbox.Artifact, len(done.Artifacts))
	for _, offered := range done.Artifacts {
		if a, ok := paths[offered.Path]; ok && a.Size == offered.Size {
			b.artifacts[offered.Content] = a
		}
	}
	return nil
}

// What is told of files that are no artifacts is bounded: a build may leave more
// symbolic links, with longer paths, than a message has room for.
const (
	maxNotes = 500
	maxNote  = 1200 // octets
)

func noteTexts(notes []sandbox.Note) []string {
	var texts []string
	for i, note := range notes {
		if i == maxNotes {
			return append(texts, fmt.Sprintf("%d more notes are left out", len(notes)-maxNotes))
		}
		texts = append(texts, job.Shorten(note.Path, maxNote)+": "+note.Text)
	}
	return texts
}
