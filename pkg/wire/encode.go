package wire

import (
	"slices"
	"time"

	"builder/pkg/der"
	"builder/pkg/job"
)

// Encode writes m's DER, without the frame's length.
func Encode(m Message) *der.Writer {
	w := &der.Writer{}
	encodeTo(w, m)
	return w
}

func encodeTo(w *der.Writer, m Message) {
	w.Explicit(int(m.Kind()), func() { m.encode(w) })
}

func (m JobSchedule) encode(w *der.Writer) {
	w.Sequence(func() {
		w.Octets(m.UUID[:])
		m.Job.encode(w)
	})
}

func (m JobFinished) encode(w *der.Writer) {
	w.Sequence(func() {
		w.Octets(m.UUID[:])
		encodeResult(w, m.Result)
		encodeFiles(w, m.Files)
	})
}

func (m Output) encode(w *der.Writer) {
	w.Sequence(func() {
		w.Octets(m.UUID[:])
		w.Octets(m.Data)
		if m.Stamped {
			w.Int(clampInt(m.Delta))
		}
	})
}

func (m Schedule) encode(w *der.Writer) {
	w.Sequence(func() {
		encodePeriod(w, m.Period)
		m.Job.encode(w)
	})
}

func (m InfoReply) encode(w *der.Writer) {
	source := InfoSource{Schedule: slices.Values(m.Schedule), Running: m.Running, Dropped: m.Dropped}
	for _, queue := range m.Queues {
		source.Queues = append(source.Queues, QueueSource{queue.Platform, slices.Values(queue.Jobs)})
	}
	source.encode(w)
}

func (m ScheduleOrb) encode(w *der.Writer) {
	w.Sequence(func() {
		encodePeriod(w, m.Period)
		encodeOrb(w, m.Name, m.Package)
	})
}

func (m Reschedule) encode(w *der.Writer) {
	w.Sequence(func() {
		w.Text(m.Name)
		encodeTime(w, m.Next)
		if m.Period != nil {
			encodePeriod(w, *m.Period)
		}
	})
}

func (m ClientHello) encode(w *der.Writer) {
	w.Sequence(func() {
		w.Explicit(int(m.Role), w.Null)
		w.Int(clampInt(m.Version))
	})
}

func (m Execute) encode(w *der.Writer) {
	w.Sequence(func() {
		w.Text(m.Name)
		if m.Platform != nil {
			w.Text(*m.Platform)
		}
	})
}

func (Info) encode(w *der.Writer)             { w.Null() }
func (ServerHello) encode(w *der.Writer)      { w.Null() }
func (Success) encode(w *der.Writer)          { w.Null() }
func (m Unschedule) encode(w *der.Writer)     { w.Text(m.Name) }
func (m Observe) encode(w *der.Writer)        { w.Octets(m.UUID[:]) }
func (m JobRequested) encode(w *der.Writer)   { w.Text(m.Platform) }
func (m DropPlatform) encode(w *der.Writer)   { w.Text(m.Platform) }
func (m UndropPlatform) encode(w *der.Writer) { w.Text(m.Platform) }
func (m Failure) encode(w *der.Writer)        { w.Text(m.Text) }

// encode writes the reference's ScriptJob. Its files are always empty there.
func (j ScriptJob) encode(w *der.Writer) {
	w.Sequence(func() {
		w.Text(j.Name)
		j.Script.encode(w)
		w.Sequence(func() {})
		w.Text(j.Platform)
	})
}

func (j AnyJob) encode(w *der.Writer) {
	if j.OrbPackage != nil {
		w.Explicit(1, func() { encodeOrb(w, j.Name, *j.OrbPackage) })
		return
	}
	w.Explicit(0, func() { j.ScriptJob.encode(w) })
}

func (i ScheduleItem) encode(w *der.Writer) {
	w.Sequence(func() {
		encodeTime(w, i.Next)
		encodePeriod(w, i.Period)
		i.Job.encode(w)
	})
}

func (q PlatformQueue) encode(w *der.Writer) {
	QueueSource{q.Platform, slices.Values(q.Jobs)}.encode(w)
}

func encodeOrb(w *der.Writer, name, opamPackage string) {
	w.Sequence(func() {
		w.Text(name)
		w.Text(opamPackage)
	})
}

func encodePeriod(w *der.Writer, p job.Period) { w.Explicit(int(p), w.Null) }

// encodeResult writes the reference's Result.
func encodeResult(w *der.Writer, r job.Result) {
	w.Explicit(int(r.Kind), func() {
		if r.Kind == job.Failed {
			w.Text(r.Text)
		} else {
			w.Int(r.Code)
		}
	})
}

func encodeFiles(w *der.Writer, files []File) {
	w.Sequence(func() {
		for _, f := range files {
			w.Sequence(func() {
				w.Text(f.Path)
				f.Data.encode(w)
			})
		}
	})
}

// clampInt keeps v, from an odd clock or a command line, within the range of the
// protocol's INTEGER.
func clampInt[T ~int64](v T) int64 {
	return min(max(int64(v), der.MinInt), der.MaxInt)
}

// encodeTime keeps t within what the protocol's times can say.
func encodeTime(w *der.Writer, t time.Time) {
	switch first := time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC); {
	case t.Before(first):
		t = first
	case t.After(Never):
		t = Never
	}
	w.Time(t)
}
