package upload_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"builder/pkg/upload"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/rs/zerolog"
)

// seed is printed by tests that draw numbers; UPLOAD_SEED repeats one.
func seed(t *testing.T) *rand.Rand {
	t.Helper()
	n, err := strconv.ParseUint(os.Getenv("UPLOAD_SEED"), 10, 64)
	if err != nil {
		n = rand.Uint64()
	}
	t.Logf("UPLOAD_SEED=%d", n)
	return rand.New(rand.NewPCG(n, 0))
}

// flaky takes builds, and fails at random: before it has read one, while it reads,
// and after it has stored it.
type flaky struct {
	mu     sync.Mutex
	random *rand.Rand
	stored map[string][]string // by job
	busy   map[string]int
	total  int
	faults []string
}

func (f *flaky) enter(job string) (chance int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.busy[job]++
	f.total++
	if f.busy[job] > 1 || f.total > 4 {
		f.faults = append(f.faults, fmt.Sprintf("%d of %s, %d in all at a time", f.busy[job], job, f.total))
	}
	return f.random.IntN(8)
}

func (f *flaky) leave(job string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.busy[job]--
	f.total--
}

// store answers as builder-web does.
func (f *flaky) store(job, build string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if slices.Contains(f.stored[job], build) {
		return http.StatusConflict
	}
	f.stored[job] = append(f.stored[job], build)
	return http.StatusCreated
}

func (f *flaky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	content, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	job, build, _ := strings.Cut(string(content), " ")
	chance := f.enter(job)
	defer f.leave(job)
	switch chance {
	case 0:
		w.WriteHeader(http.StatusInternalServerError)
	case 1:
		w.WriteHeader(http.StatusGatewayTimeout)
	case 2: // it has the build, and we do not hear of it
		f.store(job, build)
		w.WriteHeader(http.StatusBadGateway)
	default:
		w.WriteHeader(f.store(job, build))
	}
}

// Each build arrives once, those of a job in order, one at a time; no more than
// four at a time in all.
func TestOrder(t *testing.T) {
	f := &flaky{random: seed(t), stored: make(map[string][]string), busy: make(map[string]int)}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	b := newBuilds()
	o, _, stop := run(t, server.URL, b, quick)
	want := make(map[string][]string)
	const count = 200
	for i := range count {
		job, build := "job"+strconv.Itoa(i%7), strconv.Itoa(i)
		want[job] = append(want[job], build)
		o.Add(b.add([]byte(job+" "+build)), job)
	}
	for range count {
		<-b.delivered
	}
	stop()
	server.Close() // and what its goroutines wrote may be read
	if diff := cmp.Diff(want, f.stored); diff != "" {
		t.Error(diff)
	}
	if len(f.faults) > 0 {
		t.Error(f.faults)
	}
	slices.SortFunc(b.order, func(x, y uuid.UUID) int { return strings.Compare(x.String(), y.String()) })
	if once := slices.Compact(b.order); len(once) != count {
		t.Errorf("%d builds delivered, want %d", len(once), count)
	}
}

// A build that the remote reads slowly does not delay those of other jobs.
func TestSlowOneDelaysNoOther(t *testing.T) {
	others := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > 1000 {
			<-others
		}
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusCreated)
	}))
	defer server.Close()
	b := newBuilds()
	o, _, stop := run(t, server.URL, b)
	slow := b.add(make([]byte, 16<<20))
	o.Add(slow, "slow")
	behind := b.add([]byte("x"))
	o.Add(behind, "slow")
	for i := range 20 {
		o.Add(b.add([]byte("x")), "job"+strconv.Itoa(i))
	}
	for range 20 {
		if id := <-b.delivered; id == slow || id == behind {
			t.Errorf("%s was not to arrive yet", id)
		}
	}
	items := o.Status()
	for ; len(items) > 2; items = o.Status() { // what is delivered is listed a moment longer
		time.Sleep(time.Millisecond)
	}
	for i := range items {
		if items[i].Next.IsZero() {
			items[i].UUID = uuid.Nil
		}
	}
	close(others)
	if first, second := <-b.delivered, <-b.delivered; first != slow || second != behind {
		t.Errorf("delivered %s, %s, want %s, %s", first, second, slow, behind)
	}
	stop()
	if len(items) != 2 || items[0].Job != "slow" || !items[0].Sending || items[1].Sending {
		t.Errorf("status %+v", items)
	}
}

// jobOf is one of seven.
func jobOf(id uuid.UUID) string { return "job" + strconv.Itoa(int(id[0])%7) }

// eager frees each build as soon as it is parked: before the outbox knows that it is.
type eager struct {
	*builds
	outbox *upload.Outbox
}

func (e *eager) Parked(_ context.Context, id uuid.UUID, _ string) error {
	e.outbox.Add(id, jobOf(id))
	return nil
}

// Builds are refused and freed, dropped and hurried, at random: those that were not
// dropped arrive, once, and nothing is left.
func TestRandomChanges(t *testing.T) { synctest.Test(t, randomChanges) }

func randomChanges(t *testing.T) {
	random := seed(t)
	journal := &eager{builds: newBuilds()}
	var mu sync.Mutex
	choose := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return random.IntN(n)
	}
	stored := make(map[uuid.UUID]bool)
	refused := 0
	send := func(_ context.Context, id uuid.UUID) (int64, error) {
		chance := choose(8)
		mu.Lock()
		defer mu.Unlock()
		switch chance {
		case 0:
			return 0, &upload.BuildError{Text: "bad sector"}
		case 1, 2:
			refused++
			return 0, &upload.RefusedError{Text: "no"}
		case 3:
			return 0, errors.New("not now")
		}
		if stored[id] {
			t.Errorf("build %v is sent again", id)
		}
		stored[id] = true
		return 1, nil
	}
	var s setup
	quick(&s)
	journal.outbox = upload.New("remote", send, journal, s.limits, zerolog.Nop())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- journal.outbox.Run(ctx) }()
	dropped := make(map[uuid.UUID]bool)
	var ids []uuid.UUID
	for range 1000 {
		switch choose(4) {
		case 0, 1:
			id := uuid.New()
			ids = append(ids, id)
			journal.outbox.Add(id, jobOf(id))
		case 2:
			if len(ids) > 0 {
				journal.outbox.Retry(ids[choose(len(ids))])
			}
		case 3:
			if len(ids) > 0 && choose(4) == 0 {
				id := ids[choose(len(ids))]
				dropped[id] = true
				journal.outbox.Drop(id)
			}
		}
	}
	time.Sleep(time.Hour)
	if left := journal.outbox.Status(); len(left) > 0 {
		t.Errorf("left: %+v", left)
	}
	cancel()
	must(t, <-ended)
	for _, id := range ids {
		if !stored[id] && !dropped[id] {
			t.Errorf("build %v has not arrived", id)
		}
	}
	if refused == 0 {
		t.Error("no build was refused")
	}
}
