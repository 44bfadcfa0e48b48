package wire

import (
	"slices"

	"builder/pkg/der"
	"builder/pkg/job"
)

func (m Welcome) encode(w *der.Writer) {
	w.Sequence(func() {
		w.Int(clampInt(m.Version))
		w.Text(m.Program)
		encodeTexts(w, m.Capabilities)
		w.Octets(m.Nonce)
		encodeTexts(w, m.Stores)
		w.Int(clampInt(m.Beat))
	})
}

func (m Introduce) encode(w *der.Writer) {
	w.Sequence(func() {
		w.Text(m.Name)
		w.Text(m.ID)
		w.Text(m.Program)
		encodeTexts(w, m.Capabilities)
		w.Octets(m.Nonce)
		w.Int(clampInt(m.Beat))
	})
}

func (m Define) encode(w *der.Writer) {
	w.Sequence(func() {
		j := m.Job
		j.Script = job.Content{}
		job.EncodeJob(w, j)
		w.Octets(m.Script)
		job.EncodePlan(w, m.Plan)
		w.Bool(m.Update)
	})
}

func (m Accepted) encode(w *der.Writer) {
	w.Sequence(func() {
		w.Sequence(func() {
			for _, run := range m.Runs {
				w.Sequence(func() {
					w.Int(int64(run.ID))
					w.Text(run.Platform)
				})
			}
		})
		job.EncodeTime(w, m.Next)
	})
}

func (Status) encode(w *der.Writer) { w.Sequence(func() {}) }

func (m StatusReply) encode(w *der.Writer) {
	source := StatusSource{Jobs: slices.Values(m.Jobs), Building: m.Building, Remotes: m.Remotes, Paused: m.Paused}
	for _, p := range m.Platforms {
		source.Platforms = append(source.Platforms, PlatformSource{p, slices.Values(p.Queue)})
	}
	source.encode(w)
}

func (b BuildStatus) encode(w *der.Writer) {
	w.Sequence(func() {
		w.Octets(b.UUID[:])
		w.Int(int64(b.Run))
		w.Int(int64(b.Try))
		w.Text(b.Job)
		w.Text(b.Platform)
		w.Text(b.Worker)
		job.EncodeTime(w, b.Started)
		job.EncodeTime(w, b.Away)
	})
}

func (m Watch) encode(w *der.Writer) {
	w.Sequence(func() {
		w.Text(m.What)
		w.Text(m.Job)
		w.Text(m.Platform)
		w.Int(int64(m.Run))
		w.Int(clampInt(m.From))
		w.Octets(m.Build[:])
	})
}

func (m Watching) encode(w *der.Writer) {
	w.Sequence(func() { m.Build.encode(w) })
}

func (m Lines) encode(w *der.Writer) {
	w.Sequence(func() {
		w.Octets(m.UUID[:])
		w.Int(clampInt(m.From))
		w.Sequence(func() {
			for _, line := range m.Lines {
				// Not with Sequence: there may be a million of them.
				delta, flags := clampInt(line.Delta), int64(line.Flags)
				w.Data = der.AppendHeader(w.Data, der.Sequence,
					der.IntSize(delta)+der.IntSize(flags)+der.ElementSize(der.UTF8String, int64(len(line.Data))))
				w.Int(delta)
				w.Int(flags)
				w.Octets(line.Data)
			}
		})
	})
}

func (m Ended) encode(w *der.Writer) {
	w.Sequence(func() {
		job.EncodeBuild(w, m.Build)
		w.Bool(m.Final)
	})
}

func (m List) encode(w *der.Writer) {
	w.Sequence(func() {
		w.Text(m.Job)
		w.Int(clampInt(m.Limit))
	})
}

func (m ListReply) encode(w *der.Writer) {
	w.Sequence(func() {
		w.Sequence(func() {
			for _, b := range m.Builds {
				job.EncodeBuild(w, b)
			}
		})
		w.Sequence(func() {
			for _, o := range m.Outputs {
				job.EncodeOutput(w, o)
			}
		})
		encodeMarks(w, m.Marks)
	})
}

func (m Export) encode(w *der.Writer) {
	w.Sequence(func() { w.Text(m.What) })
}

func (m ExportReply) encode(w *der.Writer) { w.Splice(m.Size, m.Write) }

func (m Cancel) encode(w *der.Writer) {
	w.Sequence(func() {
		w.Text(m.What)
		w.Text(m.Reason)
	})
}

func (m Stop) encode(w *der.Writer) {
	w.Sequence(func() {
		w.Octets(m.UUID[:])
		job.EncodeResult(w, m.Result)
	})
}

func (m Start) encode(w *der.Writer) {
	w.Sequence(func() {
		m.Build.encode(w)
		w.Octets(m.Script)
		job.EncodeLimits(w, m.Limits)
		job.EncodeResources(w, m.Resources)
	})
}

func (m Finish) encode(w *der.Writer) {
	w.Sequence(func() {
		w.Octets(m.UUID[:])
		job.EncodeResult(w, m.Result)
		w.Int(clampInt(m.Duration))
		encodeTexts(w, m.Notes)
		w.Sequence(func() {
			for _, f := range m.Files {
				w.Sequence(func() {
					w.Text(f.Path)
					w.Int(int64(f.Mode))
					f.Data.encode(w)
				})
			}
		})
	})
}

func (m Stored) encode(w *der.Writer) {
	w.Sequence(func() {
		w.Octets(m.UUID[:])
		w.Text(m.Refused)
	})
}

func (m Dismissed) encode(w *der.Writer) {
	w.Sequence(func() { w.Text(m.Text) })
}

func encodeTexts(w *der.Writer, texts []string) {
	w.Sequence(func() {
		for _, text := range texts {
			w.Text(text)
		}
	})
}
