package job_test

import (
	"bytes"
	"flag"
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"builder/pkg/der"
	"builder/pkg/job"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

var seed = flag.Uint64("seed", 0, "seed of the random values; 0 draws one")

// random makes values from a seed.
type random struct{ *rand.Rand }

func (r random) text() string {
	b := make([]byte, r.IntN(4)*r.IntN(50))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return string(b)
}

func (r random) time() time.Time {
	if r.IntN(4) == 0 {
		return time.Time{}
	}
	first := time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	last := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC).Unix()
	return time.Unix(first+r.Int64N(last-first+1), r.Int64N(1e9)).UTC()
}

func (r random) content() job.Content {
	if r.IntN(3) == 0 {
		return job.Content{}
	}
	c := job.ContentOf([]byte(r.text()))
	c.Size = r.Int64N(der.MaxInt)
	return c
}

func (r random) id() uint64 { return r.Uint64N(der.MaxInt) }

func (r random) job() job.Job {
	j := job.Job{Name: r.text(), Platform: r.text(), Script: r.content(), Template: r.text()}
	for range r.IntN(4) {
		j.Vars = append(j.Vars, job.Var{Name: r.text(), Value: r.text()})
	}
	j.Limits = r.limits()
	j.Retries = job.Retries{Tries: r.IntN(1001), OnFailure: r.IntN(2) == 0, OnTimeout: r.IntN(2) == 0}
	j.Retention = r.retention()
	j.Resources = job.Resources{
		CPUs: r.Int64N(1<<40) + 10, Memory: r.Int64N(1<<40) + 4<<20, PIDs: r.Int64N(1 << 40), Disk: r.Int64N(1<<40) + 1<<20, NoNetwork: r.IntN(2) == 0,
	}
	return j
}

func (r random) retention() job.Retention {
	bound := func(most int64) int64 { return r.Int64N(most) - 1 }
	return job.Retention{Builds: bound(der.MaxInt), Days: bound(1000), Bytes: bound(der.MaxInt)}
}

func (r random) limits() job.Limits {
	return job.Limits{
		Timeout: time.Duration(r.Int64N(der.MaxInt)), Silence: time.Duration(r.IntN(2)), Grace: time.Duration(r.IntN(1000)),
		MaxConsole: int64(r.IntN(2) * (1 << 40)), MaxArtifacts: r.Int64N(1 << 60),
	}
}

func (r random) plan() job.Plan {
	return job.Plan{
		Period: job.Period(r.IntN(4)), Every: time.Duration(r.Int64N(der.MaxInt)), Cron: r.text(), Zone: r.text(),
	}
}

func (r random) result() job.Result {
	return job.Result{Kind: job.Kind(r.IntN(4)), Code: r.Int64N(1000) - 500, Text: r.text(), Cause: job.Cause(r.text())}
}

func (r random) run() job.Run {
	return job.Run{ID: r.id(), Job: r.job(), Platform: r.text(), Asked: r.time(), Tries: r.IntN(100), After: r.time()}
}

func (r random) build() job.Build {
	b := job.Build{
		UUID: uuid.UUID{byte(r.Uint32())}, Run: r.id(), Try: r.IntN(100), Job: r.text(), Platform: r.text(),
		Script: r.content(), Worker: r.text(), Started: r.time(), Finished: r.time(), Result: r.result(),
	}
	for range r.IntN(4) {
		b.Artifacts = append(b.Artifacts, job.Artifact{Path: r.text(), Mode: fs.FileMode(r.IntN(0o1000)), Content: r.content(), Location: r.text()})
		b.Notes = append(b.Notes, r.text())
	}
	b.Place = job.Place{Kind: r.text(), Origin: r.text()}
	for range r.IntN(4) {
		b.Place.Add(r.text(), time.Duration(r.Int64N(der.MaxInt)))
	}
	return b
}

// roundTrip checks that value is decoded as it was encoded, encoded the same
// again, read up to its end where a field was added, and refused where it is cut.
func roundTrip[T any](t *testing.T, value T, encode func(*der.Writer, T), decode func(*der.Reader) T) {
	t.Helper()
	var w, again der.Writer
	encode(&w, value)
	r := der.NewReader(w.Data)
	got := decode(r)
	r.Done()
	if r.Err() != nil {
		t.Fatalf("%+v: %v", value, r.Err())
	}
	if d := cmp.Diff(value, got); d != "" {
		t.Fatalf("decoded (-want +got):\n%s", d)
	}
	encode(&again, got)
	if !bytes.Equal(again.Data, w.Data) {
		t.Fatalf("%x was encoded again as %x", w.Data, again.Data)
	}
	r = der.NewReader(w.Data)
	in := r.Enter(der.Sequence)
	if !in.More() {
		return // no time at all: there is nothing to add to
	}
	var grown der.Writer
	inner := w.Data[der.HeaderSize(der.Sequence, sizeOf(w.Data)):]
	grown.Sequence(func() {
		grown.Data = append(grown.Data, inner...)
		grown.Text("of a later version")
	})
	r = der.NewReader(grown.Data)
	if d := cmp.Diff(value, decode(r)); d != "" || r.Err() != nil {
		t.Fatalf("with a field more: %v (-want +got):\n%s", r.Err(), d)
	}
	for n := range w.Data {
		if r := der.NewReader(w.Data[:n]); true {
			if decode(r); r.Err() == nil {
				t.Fatalf("%x cut to %d octets was read", w.Data, n)
			}
		}
	}
}

// sizeOf is the content length of the element that is all of b.
func sizeOf(b []byte) int64 {
	n := int64(len(b))
	for n > 0 && der.ElementSize(der.Sequence, n) > int64(len(b)) {
		n--
	}
	return n
}

func TestRoundTrip(t *testing.T) {
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("repeat with -seed %d", *seed)
	r := random{rand.New(rand.NewPCG(*seed, 0))}
	for range 100 {
		roundTrip(t, r.content(), job.EncodeContent, job.DecodeContent)
		roundTrip(t, r.job(), job.EncodeJob, job.DecodeJob)
		roundTrip(t, r.limits(), job.EncodeLimits, job.DecodeLimits)
		roundTrip(t, r.retention(), job.EncodeRetention, job.DecodeRetention)
		roundTrip(t, r.plan(), job.EncodePlan, job.DecodePlan)
		roundTrip(t, r.result(), job.EncodeResult, job.DecodeResult)
		roundTrip(t, r.time(), job.EncodeTime, job.DecodeTime)
		roundTrip(t, r.run(), job.EncodeRun, job.DecodeRun)
		roundTrip(t, r.build(), job.EncodeBuild, job.DecodeBuild)
	}
}

func TestEncodeTime(t *testing.T) {
	for _, at := range []time.Time{
		{},
		time.Unix(0, 0).UTC(),
		time.Unix(-1, 999_999_999).UTC(),
		time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC),
	} {
		roundTrip(t, at, job.EncodeTime, job.DecodeTime)
	}
}

func TestRefused(t *testing.T) {
	ints := func(values ...int64) func(*der.Writer) {
		return func(w *der.Writer) {
			for _, v := range values {
				w.Int(v)
			}
		}
	}
	content := func(hash string, size int64) func(*der.Writer) {
		return func(w *der.Writer) {
			w.Text(hash)
			w.Int(size)
		}
	}
	tests := []struct {
		name   string
		fields func(*der.Writer)
		decode func(*der.Reader)
		want   string
	}{
		{"a short hash", content("abc", 1), func(r *der.Reader) { job.DecodeContent(r) }, "hash of 3 octets"},
		{"no hash", content("", 1), func(r *der.Reader) { job.DecodeContent(r) }, "hash of 0 octets"},
		{"a negative size", content(strings.Repeat("h", 32), -1), func(r *der.Reader) { job.DecodeContent(r) }, "size -1"},
		{"an unknown period", func(w *der.Writer) { ints(4, 0)(w); w.Text(""); w.Text("") }, func(r *der.Reader) { job.DecodePlan(r) }, "period 4"},
		{"a negative interval", func(w *der.Writer) { ints(0, -1)(w); w.Text(""); w.Text("") }, func(r *der.Reader) { job.DecodePlan(r) }, "every -1"},
		{"an unknown result", func(w *der.Writer) { ints(4, 0)(w); w.Text(""); w.Text("") }, func(r *der.Reader) { job.DecodeResult(r) }, "kind 4"},
		{"a time of too many nanoseconds", ints(0, 1_000_000_000), func(r *der.Reader) { job.DecodeTime(r) }, "1000000000 nanoseconds"},
		{"a time of negative nanoseconds", ints(0, -1), func(r *der.Reader) { job.DecodeTime(r) }, "-1 nanoseconds"},
		{"a time after the year 9999", ints(1<<40, 0), func(r *der.Reader) { job.DecodeTime(r) }, "seconds"},
		{"a time before the year 0", ints(-1<<62, 0), func(r *der.Reader) { job.DecodeTime(r) }, "seconds"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var w der.Writer
			w.Sequence(func() { tt.fields(&w) })
			r := der.NewReader(w.Data)
			tt.decode(r)
			if r.Err() == nil || !strings.Contains(r.Err().Error(), tt.want) {
				t.Errorf("got %v, want %q", r.Err(), tt.want)
			}
		})
	}
}

func TestTooManyVars(t *testing.T) {
	for n, ok := range map[int]bool{1000: true, 1001: false} {
		var w der.Writer
		job.EncodeJob(&w, job.Job{Vars: make([]job.Var, n)})
		r := der.NewReader(w.Data)
		if job.DecodeJob(r); (r.Err() == nil) != ok {
			t.Errorf("%d variables: %v", n, r.Err())
		}
	}
}

func TestDecodeUUID(t *testing.T) {
	id := uuid.MustParse("12345678-9abc-4def-8123-456789abcdef")
	for n, ok := range map[int]bool{0: false, 15: false, 16: true, 17: true} {
		var w der.Writer
		w.Octets(append(id[:], 0)[:n])
		r := der.NewReader(w.Data)
		got := job.DecodeUUID(r)
		if (r.Err() == nil) != ok || ok && got != id {
			t.Errorf("%d octets: %v, %v", n, got, r.Err())
		}
	}
}

// FuzzBuild: what can be read of a record is written as it was read.
func FuzzBuild(f *testing.F) {
	r := random{rand.New(rand.NewPCG(1, 2))}
	for range 20 {
		var w der.Writer
		job.EncodeBuild(&w, r.build())
		f.Add(w.Data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := der.NewReader(data)
		b := job.DecodeBuild(r)
		if r.Err() != nil {
			return
		}
		var w der.Writer
		job.EncodeBuild(&w, b)
		r = der.NewReader(w.Data)
		if d := cmp.Diff(b, job.DecodeBuild(r)); d != "" || r.Err() != nil {
			t.Errorf("%v (-first +second):\n%s", r.Err(), d)
		}
	})
}
