package store_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"builder/pkg/disk"
	"builder/pkg/job"
	"builder/pkg/retention"
	"builder/pkg/store"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// keepAll is the decision that nothing goes.
func keepAll([]retention.Build) (store.Decision, error) {
	return store.Decision{Needed: []job.Content{job.ContentOf([]byte(scheduled))}}, nil
}

// TestPrune: what a Prune says it would do it does, and then there is nothing to do.
func TestPrune(t *testing.T) {
	dir := t.TempDir()
	prepare(t, disk.OS{}, dir)
	s := open(t, disk.OS{}, dir)
	var seen []retention.Build
	would, err := s.Prune(t.Context(), true, func(builds []retention.Build) (store.Decision, error) {
		seen = builds
		return decide(builds)
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(seen) != len(before) {
		t.Fatalf("decided on %+v", seen)
	}
	for _, b := range seen {
		n := int(b.UUID[7])
		if k := before[n]; b.Job != k.build.Job || !b.Started.Equal(k.build.Started) || b.Artifacts != len(k.files) || b.Pinned != (n == 5) || b.Pruned {
			t.Errorf("build %d is decided on as %+v", n, b)
		}
		if err := before[n].check(s); err != nil {
			t.Errorf("a dry prune: build %d: %v", n, err)
		}
	}
	pin := number(5)
	would.Builds = without(would.Builds, pin) // that it is pinned is found out when it is to go
	did, err := s.Prune(t.Context(), false, decide)
	if err != nil {
		t.Fatal(err)
	}
	less := func(v []retention.Verdict) map[uuid.UUID]retention.Fate {
		m := map[uuid.UUID]retention.Fate{}
		for _, one := range v {
			m[one.UUID] = one.Fate
		}
		return m
	}
	want := map[uuid.UUID]retention.Fate{number(1): retention.Remove, number(2): retention.Strip, number(4): retention.Remove}
	if d := cmp.Diff(want, less(did.Builds)); d != "" {
		t.Errorf("pruned (-want +got):\n%s", d)
	}
	if d := cmp.Diff(less(did.Builds), less(would.Builds)); d != "" {
		t.Errorf("done and announced (-did +would):\n%s", d)
	}
	if did.Orphans != 1 || did.OrphanOctets != int64(len("an orphan")) {
		t.Errorf("orphans: %+v", did)
	}
	gone := "only in 1" + "in 1 and 2" + "too in 1" + "only in 2" + "alone in 2" + "only in 4"
	if files := did.Freed - int64(len(gone)); files <= 0 || files > 4000 {
		t.Errorf("freed %d octets, of which %d are records and consoles", did.Freed, files)
	}
	if err := newPurge(1).checkBefore(s, true); err != nil {
		t.Error(err)
	}
	for _, dry := range []bool{true, false} {
		again, err := s.Prune(t.Context(), dry, keepAll)
		if d := cmp.Diff(store.Pruned{}, again); d != "" || err != nil {
			t.Errorf("once more: %v (-want +got):\n%s", err, d)
		}
	}
	if marks, err := s.Marks("alpha", number(2)); !marks.Pruned || marks.PrunedAt.IsZero() || err != nil {
		t.Errorf("marks %+v, %v", marks, err)
	}
	_, _, err = s.Export(number(2))
	if err == nil || !strings.Contains(err.Error(), "were pruned on 20") {
		t.Errorf("exporting what was pruned: %v", err)
	}
	// The next server finds the same.
	if err := newPurge(1).checkBefore(reopen(t, s, dir), true); err != nil {
		t.Error(err)
	}
}

func without(verdicts []retention.Verdict, id uuid.UUID) []retention.Verdict {
	var rest []retention.Verdict
	for _, v := range verdicts {
		if v.UUID != id {
			rest = append(rest, v)
		}
	}
	return rest
}

// TestPruneOctets: what a build takes is what no newer one of its job takes.
func TestPruneOctets(t *testing.T) {
	dir := t.TempDir()
	s := open(t, disk.OS{}, dir)
	large := strings.Repeat("x", 10_000)
	for n := 1; n <= 3; n++ {
		mustCommit(t, s, buildOf("j", n), nil, []file{{"same", large}, {"own", strings.Repeat(fmt.Sprint(n), 1000*n)}})
	}
	mustCommit(t, s, buildOf("other", 4), nil, []file{{"same", large}})
	got := map[uuid.UUID]int64{}
	_, err := s.Prune(t.Context(), true, func(builds []retention.Build) (store.Decision, error) {
		for _, b := range builds {
			got[b.UUID] = b.Octets / 1000 // without what the record takes
		}
		return store.Decision{}, nil
	})
	want := map[uuid.UUID]int64{number(1): 1, number(2): 2, number(3): 13, number(4): 10}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
}

// TestPruneDamaged: as long as a record can not be read no content goes.
func TestPruneDamaged(t *testing.T) {
	dir := t.TempDir()
	prepare(t, disk.OS{}, dir)
	name := filepath.Join(dir, "v1/builds/alpha", number(3).String(), "record")
	record, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, disk.OS{}, dir)
	write(t, name, record[:len(record)-1])
	did, err := s.Prune(t.Context(), false, decide)
	if err != nil || did.Damaged != 1 || did.Orphans != 0 || len(did.Builds) != 3 {
		t.Errorf("pruned %+v, %v", did, err)
	}
	for _, data := range []string{"only in 1", "only in 3", "an orphan"} {
		if !s.HasContent(job.ContentOf([]byte(data))) {
			t.Errorf("content %q is gone", data)
		}
	}
	write(t, name, record)
	did, err = s.Prune(t.Context(), false, decide)
	if err != nil || did.Damaged != 0 || s.HasContent(job.ContentOf([]byte("only in 1"))) {
		t.Errorf("after it was mended: %+v, %v", did, err)
	}
	if err := newPurge(1).checkBefore(s, true); err != nil {
		t.Error(err)
	}
}

// TestPruneLeavesOthersAlone: files that are none of ours stay where they are.
func TestPruneLeavesOthersAlone(t *testing.T) {
	dir := t.TempDir()
	prepare(t, disk.OS{}, dir)
	takeOver(t, dir)
	names := []string{
		"v1/content/README", "v1/content/ab/" + strings.Repeat("cd", 32), "v1/content/ab/" + strings.Repeat("AB", 32), "v1/content/ab/abc",
		"v1/builds/note", "v1/builds/alpha/note", "v1/tmp/17",
	}
	s := open(t, disk.OS{}, dir)
	for _, name := range names {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, name, []byte("x"))
	}
	unwanted := filepath.Join(dir, "v1/tmp", fmt.Sprintf("%v-%v-%d", number(77), job.ContentOf([]byte("y")), 1))
	write(t, unwanted, []byte("y"))
	list, err := s.List("", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Prune(t.Context(), false, func(builds []retention.Build) (store.Decision, error) {
		if len(builds) != len(before) || len(list) <= len(before) {
			t.Errorf("there are %d builds, %d are decided on", len(list), len(builds))
		}
		return keepAll(builds)
	}); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(unwanted); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what came for a build that nobody makes: %v", err)
	}
	for _, b := range list {
		if err := s.Pin(b.UUID); (err == nil) != (b.Job == "alpha" || b.Job == "beta") {
			t.Errorf("pinning build %v of %q: %v", b.UUID, b.Job, err)
		}
	}
	if err := s.Pin(number(99)); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("pinning nothing: %v", err)
	}
}

// TestPruneBeside prunes all builds that are there, again and again, while others
// begin, and end with the same few contents: each that ended is whole when it did.
func TestPruneBeside(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	s := open(t, disk.OS{}, t.TempDir())
	stop, pruned := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				pruned <- n
				return
			default:
			}
			did, err := s.Prune(t.Context(), false, func(builds []retention.Build) (store.Decision, error) {
				var d store.Decision
				for _, b := range builds {
					d.Verdicts = append(d.Verdicts, retention.Verdict{Build: b, Fate: retention.Remove})
				}
				return d, nil
			})
			if err != nil {
				t.Error(err)
			}
			n += len(did.Builds)
		}
	}()
	var makers sync.WaitGroup
	for maker := range 4 {
		makers.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(maker)))
			for i := range 15 {
				id := 1000*(maker+1) + i
				if err := makeBeside(s, rng, id); err != nil {
					t.Errorf("seed %d: build %d: %v", seed, id, err)
				}
			}
		})
	}
	makers.Wait()
	close(stop)
	if n := <-pruned; n == 0 {
		t.Error("nothing was pruned beside them")
	}
}

// makeBeside makes a build that is pinned as soon as it has ended, if it is there
// still, and checks it then.
func makeBeside(s *store.Store, rng *rand.Rand, n int) error {
	k := kept{build: buildOf("j", n), lines: []string{"line"}}
	k.build.Script = job.ContentOf([]byte("script"))
	for i := range 1 + rng.IntN(4) {
		k.offers = append(k.offers, file{fmt.Sprint(i), fmt.Sprint("content ", rng.IntN(6))})
	}
	_, release, err := s.PutHeld(strings.NewReader("script"))
	if err != nil {
		return err
	}
	defer release()
	d, err := s.Begin("j", number(n))
	if err != nil {
		return err
	}
	if err := errors.Join(fill(d, k.lines, nil), newHistory(rng.Uint64()).deliver(d, k.offers)); err != nil {
		return errors.Join(err, d.Abandon())
	}
	if _, err := d.Commit(k.build); err != nil {
		return errors.Join(err, d.Abandon())
	}
	err = s.Pin(number(n))
	if errors.Is(err, store.ErrNotFound) {
		return nil // it was pruned before
	}
	return errors.Join(err, k.check(s), s.Unpin(number(n)))
}
