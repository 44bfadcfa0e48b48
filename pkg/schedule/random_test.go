package schedule_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"builder/pkg/job"
	"builder/pkg/schedule"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

var seedFlag = flag.Uint64("seed", 0, "seed of the random tests, 0 for a new one")

// newSeed is the seed of this test run, which a failure prints.
func newSeed(t *testing.T) uint64 {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("repeat with -seed=%d", seed)
		}
	})
	return seed
}

// walks is how many random walks are made: 4, or BUILDER_WALKS.
func walks(t *testing.T) int {
	text := os.Getenv("BUILDER_WALKS")
	if text == "" {
		return 4
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("BUILDER_WALKS: %v", err)
	}
	return n
}

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// walker does random things to a state and to the model of it.
type walker struct {
	*rand.Rand
	t      *testing.T
	now    time.Time
	state  *schedule.State
	copy   *schedule.State // made of the records
	model  *model
	uuids  []uuid.UUID // handed out some time
	counts map[string]int
}

// TestRandomWalk compares the state with a naive model over random requests,
// legal and not. All events go through their encoding into a second state,
// which must stay equal, and from time to time the first one is replaced by
// what its snapshot makes. More walks follow until everything has happened.
func TestRandomWalk(t *testing.T) {
	seed := newSeed(t)
	counts := map[string]int{}
	least := walks(t)
	for i := 0; i < least || i < 10*least && neverHappened(counts) != nil; i++ {
		w := &walker{
			Rand: rand.New(rand.NewPCG(seed, uint64(i))), t: t, now: start,
			state: schedule.New(), copy: schedule.New(), model: &model{}, counts: counts,
		}
		for step := range 500 {
			what := w.step()
			want, got := w.model.describe(w.now), describe(w.state, w.now)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("walk %d, step %d, %s: state differs from model (-model +state):\n%s", i, step, what, diff)
			}
			w.checkInvariants(what)
			for e := range w.state.Entries() {
				if e.Parked() {
					counts["parked"]++
				}
			}
			if step%50 == 49 {
				w.checkSnapshot()
			}
		}
	}
	if names := neverHappened(counts); names != nil {
		t.Errorf("this never happened: %q", names)
	}
}

// neverHappened are the operations that were never legal, and "parked" if no job was.
func neverHappened(counts map[string]int) (names []string) {
	for _, op := range operations {
		if counts[op.name] == 0 {
			names = append(names, op.name)
		}
	}
	if counts["parked"] == 0 {
		names = append(names, "parked")
	}
	return names
}

// operations by name, with their weight.
var operations = []struct {
	name   string
	weight int
	do     func(*walker) (legal bool)
}{
	{"schedule", 8, (*walker).schedule},
	{"unschedule", 2, (*walker).unschedule},
	{"execute", 8, (*walker).execute},
	{"reschedule", 3, (*walker).reschedule},
	{"seen", 2, (*walker).seen},
	{"drop", 1, (*walker).drop},
	{"undrop", 2, (*walker).undrop},
	{"time passes", 12, (*walker).timePasses},
	{"hand out", 20, (*walker).handOut},
	{"expand", 3, (*walker).expand},
	{"decide", 3, (*walker).decide},
	{"finish", 18, (*walker).finish},
	{"cancel", 2, (*walker).cancel},
	{"deliver", 3, (*walker).deliver},
	{"park a post", 2, (*walker).parkPost},
	{"free a post", 2, (*walker).freePost},
	{"drop a post", 1, (*walker).dropPost},
}

func (w *walker) step() string {
	total := 0
	for _, op := range operations {
		total += op.weight
	}
	n := w.IntN(total)
	for _, op := range operations {
		if n -= op.weight; n < 0 {
			if op.do(w) {
				w.counts[op.name]++
			}
			return op.name
		}
	}
	panic("unreachable")
}

// change applies the event if the decision went as the model says.
func (w *walker) change(legal bool, e schedule.Event, err error) bool {
	w.t.Helper()
	if legal != (err == nil) {
		w.t.Fatalf("decision %#v: error %v, model says legal: %v", e, err, legal)
	}
	if err == nil {
		w.apply(e)
	}
	return legal
}

func (w *walker) apply(e schedule.Event) {
	w.t.Helper()
	record := schedule.Encode(e)
	decoded, err := schedule.Decode(record)
	if err != nil {
		w.t.Fatalf("decoding %#v: %v", e, err)
	}
	if diff := cmp.Diff(e, decoded); diff != "" {
		w.t.Fatalf("encoding changes the event:\n%s", diff)
	}
	if err := w.state.Advance(e); err != nil {
		w.t.Fatal(err)
	}
	if err := w.copy.Apply(record); err != nil {
		w.t.Fatal(err)
	}
}

func (w *walker) name() string { return fmt.Sprintf("job%d", w.IntN(5)) }

func (w *walker) platform() string { return fmt.Sprintf("p%d", w.IntN(4)) }

// on is where the test's templates are.
func on(j job.Job) []string {
	return map[string][]string{"two": {"p1", "p2"}, "all": {"p0", "p1", "p2", "p3"}}[j.Template]
}

func (w *walker) job() job.Job {
	j := job.Job{Name: w.name()}
	switch w.IntN(4) {
	case 0:
		j.Template = "two"
	case 1:
		j.Template = "all"
		j.Vars = []job.Var{{Name: "A", Value: "1"}, {Name: "B", Value: "2"}}
	default:
		j.Platform = w.platform()
		j.Script = job.ContentOf([]byte{byte(w.IntN(3))})
	}
	if w.IntN(3) == 0 {
		j.Retention = job.Retention{Builds: int64(w.IntN(3)) - 1}
		j.Limits = job.Limits{Timeout: time.Duration(w.IntN(3)) * time.Hour, MaxArtifacts: 1 << 20}
		j.Retries = job.Retries{Tries: w.IntN(6), OnFailure: w.IntN(2) == 0, OnTimeout: w.IntN(2) == 0}
	}
	return j
}

func (w *walker) plan() job.Plan {
	plans := []job.Plan{
		{Period: job.Hourly},
		{Period: job.Daily},
		{Period: job.Weekly},
		{Period: job.Never},
		{Every: 90 * time.Minute},
		{Every: 45*time.Second + 500*time.Millisecond},
		{Cron: "0 * * * *"},
	}
	return plans[w.IntN(len(plans))]
}

func (w *walker) schedule() bool {
	j, plan, update := w.job(), w.plan(), w.IntN(2) == 0
	e, err := w.state.Schedule(w.now, j, plan, on(j), update)
	return w.change(w.model.schedule(w.now, j, plan, on(j), update), e, err)
}

func (w *walker) unschedule() bool {
	name := w.name()
	e, err := w.state.Unschedule(name)
	return w.change(w.model.unschedule(name), e, err)
}

func (w *walker) execute() bool {
	name, platform := w.name(), ""
	if w.IntN(3) == 0 {
		platform = w.platform()
	}
	var templated []string
	if entry := w.state.Entry(name); entry != nil {
		templated = on(entry.Job)
	}
	e, err := w.state.Execute(w.now, name, platform, templated)
	return w.change(w.model.execute(name, platform, templated), e, err)
}

func (w *walker) reschedule() bool {
	name := w.name()
	next := w.now.Add(time.Duration(w.IntN(240)-120) * time.Minute)
	var plan *job.Plan
	if w.IntN(2) == 0 {
		p := w.plan()
		plan = &p
	}
	e, err := w.state.Reschedule(name, next, plan)
	return w.change(w.model.reschedule(name, next, plan), e, err)
}

func (w *walker) seen() bool {
	name := w.platform()
	e, fresh, err := w.state.Seen(name)
	if dropped := w.model.dropped(name); dropped != (err != nil) {
		w.t.Fatalf("platform %s asks: error %v, dropped %v", name, err, dropped)
	}
	if fresh != (w.model.platform(name) == nil) {
		w.t.Fatalf("platform %s is fresh: %v", name, fresh)
	}
	if fresh {
		w.model.know(name)
		w.apply(e)
	}
	return true
}

func (w *walker) drop() bool {
	name := w.platform()
	p := w.model.platform(name)
	legal := p != nil && !p.dropped
	if legal {
		p.dropped = true
	}
	e, err := w.state.DropPlatform(name)
	return w.change(legal, e, err)
}

func (w *walker) undrop() bool {
	name := w.platform()
	p := w.model.platform(name)
	legal := p != nil && p.dropped
	if legal {
		p.dropped = false
	}
	e, err := w.state.UndropPlatform(name)
	return w.change(legal, e, err)
}

func (w *walker) timePasses() bool {
	if w.IntN(3) == 0 {
		if next, ok := w.state.NextDue(w.now); ok && next.After(w.now) {
			w.now = next // exactly, as the owner's timer does
		}
	} else {
		w.now = w.now.Add(time.Duration(w.IntN(3600_000)) * time.Millisecond)
	}
	if w.IntN(20) == 0 {
		w.now = w.now.Add(24 * time.Hour)
	}
	for _, e := range w.state.Due(w.now, on) {
		w.apply(e)
	}
	w.model.due(w.now, on)
	return true
}

func (w *walker) handOut() bool {
	var id uuid.UUID
	for i := range id {
		id[i] = byte(w.Uint32())
	}
	platform := w.platform()
	workerID := []string{"", "w1", "w2"}[w.IntN(3)]
	e, ok := w.state.HandOut(w.now, platform, "worker", workerID, id)
	if legal := w.model.handOut(w.now, platform, workerID, id); legal != ok {
		w.t.Fatalf("hand-out on %s: %v, model says %v", platform, ok, legal)
	}
	if ok {
		w.uuids = append(w.uuids, id)
		w.apply(e)
	}
	return ok
}

// build is a build that was handed out, mostly one of the last: the others have
// ended.
func (w *walker) build() (id uuid.UUID) {
	if len(w.uuids) > 0 {
		id = w.uuids[max(0, len(w.uuids)-1-w.IntN(6))]
	}
	return id
}

func (w *walker) expand() bool {
	id, script := w.build(), job.ContentOf([]byte{byte(w.IntN(3))})
	e, err := w.state.Expand(id, script)
	return w.change(w.model.expand(id, script), e, err)
}

func (w *walker) decide() bool {
	id := w.build()
	result := job.Failure(job.Cancelled, "cancelled: by me")
	if w.IntN(2) == 0 {
		result = job.Failure(job.Timeout, "ran longer than 1h on a worker that can not be stopped")
	}
	e, err := w.state.Decide(w.now, id, result)
	return w.change(w.model.decide(id, result), e, err)
}

func (w *walker) finish() bool {
	results := []job.Result{
		{Kind: job.Exited},
		{Kind: job.Exited, Code: 3},
		job.Failure(job.Timeout, "ran longer than 1h"),
		job.Failure(job.WorkerLost, "the worker went away"),
		job.Failure(job.NoSandbox, "no jail"),
		job.Failure(job.ServerSide, "the disk is full"),
	}
	result := results[w.IntN(len(results))]
	if w.IntN(2) == 0 {
		result = results[3] // these are to be in a row, sometimes
	}
	end := schedule.End{
		UUID: w.build(), Result: result,
		Remotes: [][]string{nil, {"a"}, {"a", "b"}}[w.IntN(3)], Uncounted: w.IntN(6) == 0, Final: w.IntN(8) == 0,
	}
	e, err := w.state.Finish(w.now, end, schedule.DefaultBackoff)
	return w.change(w.model.finish(w.now, end), e, err)
}

func (w *walker) cancel() bool {
	if w.IntN(2) == 0 {
		name := w.name()
		e, ok := w.state.CancelJob(name)
		if legal := w.model.cancel(func(r modelRun) bool { return r.job.Name == name }); legal != ok {
			w.t.Fatalf("cancelling %s: %v, model says %v", name, ok, legal)
		}
		if ok {
			w.apply(e)
		}
		return ok
	}
	id := 1 + w.model.runs - uint64(w.IntN(8))
	e, err := w.state.CancelRun(id)
	return w.change(w.model.cancel(func(r modelRun) bool { return r.id == id }), e, err)
}

// post is a build that was handed out and a remote, mostly one that waits for it.
func (w *walker) post() (id uuid.UUID, remote string) {
	if n := len(w.model.outbox); n > 0 && w.IntN(4) > 0 {
		p := w.model.outbox[w.IntN(n)]
		return p.UUID, p.Remote
	}
	return w.build(), []string{"", "a", "b", "c"}[w.IntN(4)]
}

func (w *walker) deliver() bool {
	id, remote := w.post()
	e, err := w.state.Deliver(id, remote)
	return w.change(w.model.unpost(id, remote), e, err)
}

func (w *walker) dropPost() bool {
	id, remote := w.post()
	e, err := w.state.DropPost(id, remote)
	return w.change(w.model.unpost(id, remote), e, err)
}

func (w *walker) parkPost() bool {
	id, remote := w.post()
	e, err := w.state.Park(id, remote, "answered 400")
	return w.change(w.model.parkPost(id, remote, "answered 400"), e, err)
}

func (w *walker) freePost() bool {
	id, remote := w.post()
	e, ok := w.state.Free(id, remote)
	if legal := w.model.freePost(id, remote); legal != ok {
		w.t.Fatalf("freeing %v of %q: %v, model says %v", id, remote, ok, legal)
	}
	if ok {
		w.apply(e)
	}
	return ok
}

func (w *walker) checkInvariants(what string) {
	w.t.Helper()
	ids := map[uint64]bool{}
	for _, p := range w.state.Platforms() {
		jobs := map[string]bool{}
		for run := range w.state.Queue(p.Name) {
			if jobs[run.Job.Name] || ids[run.ID] || run.ID > w.model.runs || run.Platform != p.Name || w.state.Run(run.ID) != run {
				w.t.Fatalf("after %s: run %+v is out of place on %s", what, run, p.Name)
			}
			jobs[run.Job.Name], ids[run.ID] = true, true
		}
		if p.Queued != len(jobs) {
			w.t.Fatalf("after %s: platform %s counts %d runs, has %d", what, p.Name, p.Queued, len(jobs))
		}
	}
	for b := range w.state.Buildings() {
		if ids[b.Run.ID] || w.state.Building(b.UUID) != b {
			w.t.Fatalf("after %s: run %d is both queued and built, or built twice", what, b.Run.ID)
		}
		ids[b.Run.ID] = true
	}
	if n := len(slices.Collect(w.state.Entries())); n != w.state.Len() {
		w.t.Fatalf("after %s: %d entries, Len is %d", what, n, w.state.Len())
	}
}

// checkSnapshot replaces the state by what its snapshot makes.
func (w *walker) checkSnapshot() {
	w.t.Helper()
	records := slices.Collect(w.state.Snapshot())
	if diff := cmp.Diff(records, slices.Collect(w.copy.Snapshot())); diff != "" {
		w.t.Fatalf("replaying the records makes another state:\n%s", diff)
	}
	again := schedule.New()
	for _, record := range records {
		if err := again.Apply(record); err != nil {
			w.t.Fatal(err)
		}
	}
	if diff := cmp.Diff(records, slices.Collect(again.Snapshot())); diff != "" {
		w.t.Fatalf("the snapshot's snapshot differs:\n%s", diff)
	}
	w.state = again
}

// TestSnapshotIsFrozen takes records while the state goes on.
func TestSnapshotIsFrozen(t *testing.T) {
	s := schedule.New()
	for i := range 10 {
		must(t, s, decide(t)(s.Schedule(start, script(fmt.Sprintf("job%d", i), "p"), job.Plan{}, nil, false)))
	}
	want := slices.Collect(s.Snapshot())
	late := s.Snapshot()
	for _, name := range []string{"job1", "job7"} {
		must(t, s, decide(t)(s.Unschedule(name)))
	}
	handOut(t, s, start, "p")
	must(t, s, decide(t)(s.Schedule(start, script("job2", "q"), job.Plan{Period: job.Never}, nil, true)))
	if diff := cmp.Diff(want, slices.Collect(late)); diff != "" {
		t.Errorf("the snapshot changed with the state:\n%s", diff)
	}
}
