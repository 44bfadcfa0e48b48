package main

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"builder/pkg/job"
)

// checkBuild compares a build with what its payload must have done.
func (r *round) checkBuild(b ended, o order) error {
	if text := r.unexplained(b, o); text != "" {
		r.find("build %v of %s (%s) ended as %q: %s", b.UUID, b.Job, b.Worker, b.Result, text)
	}
	whole := finishes(b.Result)
	if text := wrongConsole(b.console, o.payload.text(b.UUID.String()), whole, o.job.Limits.MaxConsole > 0); text != "" {
		r.find("build %v of %s (%s), %q: console: %s", b.UUID, b.Job, b.Worker, b.Result, text)
	}
	return r.checkArtifacts(b, o, whole && b.Result.Cause != job.TooLarge)
}

// finishes reports whether the script has ended by itself.
func finishes(result job.Result) bool {
	return result.Kind != job.Failed || result.Cause == job.TooLarge
}

// unexplained says why a build can not have ended so.
func (r *round) unexplained(b ended, o order) string {
	p, result := o.payload, b.Result
	happened := func(what ...string) bool {
		return slices.ContainsFunc(what, func(w string) bool { return r.done[w] > 0 })
	}
	can := false
	switch {
	case result.Kind == job.Exited:
		can = p.End == exits && result.Code == int64(p.Code) && o.job.Limits.MaxArtifacts == 0
	case result.Kind == job.Signalled:
		can = p.End == dies && result.Code == int64(p.Code)
	case result.Cause == job.Timeout:
		can = o.job.Limits.Timeout > 0
	case result.Cause == job.Silence:
		can = o.job.Limits.Silence > 0
	case result.Cause == job.TooLarge:
		can = o.job.Limits.MaxArtifacts > 0
	case result.Cause == job.Cancelled:
		can = r.customer.cancelled[b.Job]
	case result.Cause == job.WorkerLost:
		return r.wronglyLost(b)
	case result.Cause == job.Restarted:
		can = happened("kill a worker", "kill a worker for long", "restart a worker")
	case result.Cause == job.ShutDown:
		can = happened("restart a worker")
	case result.Cause == job.NoSandbox:
		can = happened("kill a supervisor", "stop a supervisor", "fill a worker's disk")
	case result.Cause == job.ServerSide:
		can = happened("fill the server's disk")
	}
	if can {
		return ""
	}
	return fmt.Sprintf("that does not fit %+v, %+v", o.job.Limits, p)
}

// wronglyLost says why a build should not be lost. Workers that are away for long
// lose their builds, and hand-outs that are not received are none; but only what a
// worker says, or seems to say, makes the server believe that of one that runs.
func (r *round) wronglyLost(b ended) string {
	const unheard, unsent = "it never received the build", "its connection ended before it was handed the build"
	begun := exists(filepath.Join(r.dir, "ledger", b.UUID.String()))
	if begun && (strings.Contains(b.Result.Text, unheard) || strings.Contains(b.Result.Text, unsent)) {
		return "its script had begun"
	}
	for _, known := range []string{"did not come back within", unheard, unsent, "broken pipe", "connection reset", "closed network connection", "i/o timeout"} {
		if strings.Contains(b.Result.Text, known) {
			return ""
		}
	}
	return "the reason is none that a torture gives"
}

// wrongConsole says what is wrong with a console; expected is all that the script
// prints.
func wrongConsole(got, expected []byte, whole, bounded bool) string {
	if head, tail, omitted, ok := divide(got); bounded && ok {
		switch {
		case !bytes.HasPrefix(expected, head):
			return "the head differs, " + difference(head, expected)
		case whole && !bytes.HasSuffix(expected, tail), !bytes.Contains(expected, tail):
			return "the tail is none"
		case whole && len(head)+len(tail)+omitted != len(expected):
			return fmt.Sprintf("%d octets are said to be left out of %d, but there are %d and %d", omitted, len(expected), len(head), len(tail))
		}
		return ""
	}
	switch {
	case whole && bytes.Equal(got, expected):
		return ""
	case whole, !bytes.HasPrefix(expected, got):
		return difference(got, expected)
	}
	return ""
}

// divide finds the line that tells what is left out.
func divide(got []byte) (head, tail []byte, omitted int, ok bool) {
	from := bytes.Index(got, []byte("\n... "))
	if from < 0 {
		return nil, nil, 0, false
	}
	head = got[:from+1]
	line, tail, _ := bytes.Cut(got[from+1:], []byte("\n"))
	lines := 0
	n, _ := fmt.Sscanf(string(line), "... %d octets in %d lines are left out ...", &omitted, &lines)
	return head, tail, omitted, n == 2
}

// difference tells people where two texts part.
func difference(got, expected []byte) string {
	at := 0
	for at < min(len(got), len(expected)) && got[at] == expected[at] {
		at++
	}
	around := func(text []byte) []byte { return text[min(at, len(text)):min(at+60, len(text))] }
	return fmt.Sprintf("%d octets, expected %d; from %d on (line %d) it is %q, expected %q",
		len(got), len(expected), at, bytes.Count(got[:at], []byte("\n")), around(got), around(expected))
}

// checkArtifacts compares those in the record. Where the script did not end there
// may be fewer, but none that is not whole.
func (r *round) checkArtifacts(b ended, o order, all bool) error {
	left := map[string]job.Artifact{}
	for _, f := range o.payload.Files {
		a, err := f.artifact()
		if err != nil {
			return err
		}
		left[a.Path] = a
	}
	for _, got := range b.Artifacts {
		expected, ok := left[got.Path]
		delete(left, got.Path)
		if !ok || got != expected {
			r.find("build %v of %s, %q: artifact %q %v %v %d, expected %q %v %v %d", b.UUID, b.Job, b.Result,
				got.Path, got.Mode, got.Content, got.Size, expected.Path, expected.Mode, expected.Content, expected.Size)
		}
	}
	if len(left) > 0 && all {
		r.find("build %v of %s (%s), %q: artifacts are missing: %+v; notes: %q", b.UUID, b.Job, b.Worker, b.Result, left, b.Notes)
	}
	return nil
}
