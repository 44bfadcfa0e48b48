package wire

import (
	"bytes"
	"fmt"
	"math"
	"time"

	"builder/pkg/der"
	"builder/pkg/job"
)

// decodeOwn reads the content of one of our own messages. What follows the
// fields known here is skipped.
func decodeOwn(kind Kind, r *der.Reader) Message {
	in := r.Enter(der.Sequence)
	switch kind {
	case KindWelcome:
		m := Welcome{Version: in.Int(), Program: in.Text(), Capabilities: decodeTexts(&in, maxCapabilities), Nonce: decodeNonce(&in)}
		if in.More() {
			m.Stores = decodeTexts(&in, maxStores)
		}
		m.Beat = decodeBeat(&in)
		return m
	case KindIntroduce:
		return Introduce{
			Name: in.Text(), ID: in.Text(), Program: in.Text(), Capabilities: decodeTexts(&in, maxCapabilities), Nonce: decodeNonce(&in),
			Beat: decodeBeat(&in),
		}
	case KindDefine:
		return Define{Job: job.DecodeJob(&in), Script: in.Octets(), Plan: job.DecodePlan(&in), Update: in.Bool()}
	case KindAccepted:
		return decodeAccepted(&in)
	case KindStatus:
		return Status{}
	case KindStatusReply:
		return decodeStatusReply(&in)
	case KindWatch:
		m := Watch{What: in.Text(), Job: in.Text(), Platform: in.Text(), Run: uint64(in.Int()), From: in.Int()}
		if in.More() {
			m.Build = job.DecodeUUID(&in)
		}
		return m
	case KindWatching:
		return Watching{Build: decodeBuildStatus(&in)}
	case KindLines:
		return decodeLines(&in)
	case KindEnded:
		return Ended{Build: job.DecodeBuild(&in), Final: in.Bool()}
	case KindList:
		return List{Job: in.Text(), Limit: in.Int()}
	case KindListReply:
		return decodeListReply(&in)
	case KindDescribe, KindDescribed, KindFetch, KindFind:
		return decodeFetching(kind, &in)
	case KindExport:
		return Export{What: in.Text()}
	case KindCancel:
		return Cancel{What: in.Text(), Reason: in.Text()}
	case KindStop:
		return Stop{UUID: job.DecodeUUID(&in), Result: job.DecodeResult(&in)}
	case KindStart:
		m := Start{Build: decodeBuildStatus(&in), Script: in.Octets()}
		if in.More() {
			m.Limits = job.DecodeLimits(&in)
		}
		if in.More() {
			m.Resources = job.DecodeResources(&in)
		}
		return m
	case KindStored:
		return Stored{UUID: job.DecodeUUID(&in), Refused: in.Text()}
	case KindDismissed:
		return Dismissed{Text: in.Text()}
	case KindOutbox, KindOutboxReply, KindOutboxChange:
		return decodeOutbox(kind, &in)
	default:
		return decodeRetention(kind, r, &in)
	}
}

func decodeAccepted(in *der.Reader) Message {
	var m Accepted
	for runs := in.Enter(der.Sequence); runs.More(); {
		run := runs.Enter(der.Sequence)
		m.Runs = append(m.Runs, RunRef{ID: uint64(run.Int()), Platform: run.Text()})
	}
	m.Next = job.DecodeTime(in)
	return m
}

func decodeListReply(in *der.Reader) Message {
	var m ListReply
	for builds := in.Enter(der.Sequence); builds.More(); {
		m.Builds = append(m.Builds, job.DecodeBuild(&builds))
	}
	if in.More() {
		for outputs := in.Enter(der.Sequence); outputs.More(); {
			m.Outputs = append(m.Outputs, job.DecodeOutput(&outputs))
		}
	}
	if in.More() {
		m.Marks = decodeMarks(in)
	}
	return m
}

func decodeStatusReply(in *der.Reader) Message {
	var m StatusReply
	for jobs := in.Enter(der.Sequence); jobs.More(); {
		j := jobs.Enter(der.Sequence)
		status := JobStatus{Job: job.DecodeJob(&j), Plan: job.DecodePlan(&j), Next: job.DecodeTime(&j)}
		if j.More() {
			status.Parked = j.Bool()
		}
		m.Jobs = append(m.Jobs, status)
	}
	for platforms := in.Enter(der.Sequence); platforms.More(); {
		m.Platforms = append(m.Platforms, decodePlatformStatus(&platforms))
	}
	for building := in.Enter(der.Sequence); building.More(); {
		m.Building = append(m.Building, decodeBuildStatus(&building))
	}
	if in.More() {
		m.Remotes = decodeRemotes(in)
	}
	if in.More() {
		m.Paused = in.Text()
	}
	return m
}

func decodePlatformStatus(r *der.Reader) PlatformStatus {
	in := r.Enter(der.Sequence)
	p := PlatformStatus{Name: in.Text(), Dropped: in.Bool()}
	for queue := in.Enter(der.Sequence); queue.More(); {
		p.Queue = append(p.Queue, job.DecodeRun(&queue))
	}
	for workers := in.Enter(der.Sequence); workers.More(); {
		w := workers.Enter(der.Sequence)
		p.Workers = append(p.Workers, WorkerStatus{
			Name: w.Text(), Address: w.Text(), Since: job.DecodeTime(&w), Build: job.DecodeUUID(&w),
		})
	}
	return p
}

func decodeBuildStatus(r *der.Reader) BuildStatus {
	in := r.Enter(der.Sequence)
	b := BuildStatus{
		UUID: job.DecodeUUID(&in), Run: uint64(in.Int()), Try: int(in.Int()), Job: in.Text(),
		Platform: in.Text(), Worker: in.Text(), Started: job.DecodeTime(&in),
	}
	if in.More() {
		b.Away = job.DecodeTime(&in)
	}
	return b
}

func decodeLines(in *der.Reader) Message {
	m := Lines{UUID: job.DecodeUUID(in), From: in.Int()}
	lines := in.Enter(der.Sequence)
	if n := lines.Count(); n > 0 {
		m.Lines = make([]job.Line, 0, n)
	}
	for lines.More() {
		line := lines.Enter(der.Sequence)
		m.Lines = append(m.Lines, job.Line{
			Delta: time.Duration(line.Int()), Flags: decodeFlags(&line), Data: line.Octets(),
		})
	}
	return m
}

// decodeFlags lets unknown flags pass.
func decodeFlags(r *der.Reader) job.LineFlags {
	flags := r.Int()
	if flags < 0 || flags > math.MaxUint32 {
		r.Fail(fmt.Errorf("line flags %#x", flags))
	}
	return job.LineFlags(flags)
}

// The longest lists of texts: a text of no octets takes two on the wire and
// sixteen in memory.
const (
	maxCapabilities = 256
	maxStores       = 64
	maxNoteCount    = 10_000
)

// decodeTexts reads a SEQUENCE OF UTF8String of at most that many.
func decodeTexts(r *der.Reader, most int) []string {
	var texts []string
	for in := r.Enter(der.Sequence); in.More(); {
		if len(texts) == most {
			r.Fail(fmt.Errorf("more than %d texts", most))
			return nil
		}
		texts = append(texts, in.Text())
	}
	return texts
}

func decodeBeat(r *der.Reader) time.Duration {
	if !r.More() {
		return 0
	}
	return time.Duration(r.Int())
}

func decodeNonce(r *der.Reader) []byte {
	if !r.More() {
		return nil // it is of a program that knows none
	}
	nonce := r.Octets()
	if r.Err() == nil && len(nonce) > maxNonce {
		r.Fail(fmt.Errorf("a nonce of %d octets", len(nonce)))
	}
	if len(nonce) == 0 {
		return nil
	}
	return bytes.Clone(nonce)
}

// maxNonce is how long a nonce may be.
const maxNonce = 64
