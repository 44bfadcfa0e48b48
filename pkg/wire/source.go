package wire

import (
	"io"
	"iter"

	"builder/pkg/der"
	"builder/pkg/job"
)

// InfoSource is an [InfoReply] whose long parts are made while they are sent, so
// that a peer that is slow to take them costs no memory. A sequence is asked for
// more than once, and yields the same each time.
type InfoSource struct {
	Schedule iter.Seq[ScheduleItem]
	Queues   []QueueSource
	Running  []RunningJob
	Dropped  []string
}

// QueueSource is a PlatformQueue in an InfoSource.
type QueueSource struct {
	Platform string
	Jobs     iter.Seq[AnyJob]
}

// StatusSource is a [StatusReply] in the same way.
type StatusSource struct {
	Jobs      iter.Seq[JobStatus]
	Platforms []PlatformSource
	Building  []BuildStatus
	Remotes   []RemoteStatus
	Paused    string
}

// PlatformSource is a PlatformStatus in a StatusSource: Runs takes the place of
// its Queue.
type PlatformSource struct {
	PlatformStatus
	Runs iter.Seq[job.Run]
}

// Kind implements [Message].
func (InfoSource) Kind() Kind { return KindInfoReply }

// Kind implements [Message].
func (StatusSource) Kind() Kind { return KindStatusReply }

func (m InfoSource) encode(w *der.Writer) {
	w.Sequence(func() {
		sequence(w, m.Schedule, func(w *der.Writer, item ScheduleItem) { item.encode(w) })
		w.Sequence(func() {
			for _, queue := range m.Queues {
				queue.encode(w)
			}
		})
		w.Sequence(func() {
			for _, running := range m.Running {
				w.Sequence(func() {
					encodeTime(w, running.Started)
					w.Octets(running.UUID[:])
					running.Job.encode(w)
				})
			}
		})
		encodeTexts(w, m.Dropped)
	})
}

func (q QueueSource) encode(w *der.Writer) {
	w.Sequence(func() {
		w.Text(q.Platform)
		sequence(w, q.Jobs, func(w *der.Writer, j AnyJob) { j.encode(w) })
	})
}

func (m StatusSource) encode(w *der.Writer) {
	w.Sequence(func() {
		sequence(w, m.Jobs, func(w *der.Writer, j JobStatus) {
			w.Sequence(func() {
				job.EncodeJob(w, j.Job)
				job.EncodePlan(w, j.Plan)
				job.EncodeTime(w, j.Next)
				w.Bool(j.Parked)
			})
		})
		w.Sequence(func() {
			for _, p := range m.Platforms {
				p.encode(w)
			}
		})
		w.Sequence(func() {
			for _, b := range m.Building {
				b.encode(w)
			}
		})
		encodeRemotes(w, m.Remotes)
		w.Text(m.Paused)
	})
}

func (p PlatformSource) encode(w *der.Writer) {
	w.Sequence(func() {
		w.Text(p.Name)
		w.Bool(p.Dropped)
		sequence(w, p.Runs, job.EncodeRun)
		w.Sequence(func() {
			for _, worker := range p.Workers {
				w.Sequence(func() {
					w.Text(worker.Name)
					w.Text(worker.Address)
					job.EncodeTime(w, worker.Since)
					w.Octets(worker.Build[:])
				})
			}
		})
	})
}

// sequence appends a SEQUENCE OF what items yields. A short one is encoded at
// once; of a long one only the size is found out, and its elements are encoded
// when they are sent.
func sequence[T any](w *der.Writer, items iter.Seq[T], encode func(*der.Writer, T)) {
	var size int64
	each := func(f func(*der.Writer) error) error {
		var scratch []byte
		for item := range items {
			element := der.Writer{Data: scratch[:0]}
			encode(&element, item)
			if err := f(&element); err != nil {
				return err
			}
			scratch = element.Data
		}
		return nil
	}
	each(func(element *der.Writer) error { //nolint:errcheck // there is none
		size += element.Size()
		return nil
	})
	w.Sequence(func() {
		if size <= smallFrame {
			for item := range items {
				encode(w, item)
			}
			return
		}
		w.Splice(size, func(out io.Writer) error {
			return each(func(element *der.Writer) error {
				_, err := element.WriteTo(out)
				return err
			})
		})
	})
}
