package store_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"builder/pkg/disk"
	"builder/pkg/job"
	"builder/pkg/store"

	"github.com/google/go-cmp/cmp"
)

// some makes a few builds of two jobs on two platforms.
func some(t *testing.T, s *store.Store) {
	t.Helper()
	for n := range 12 {
		b := buildOf([]string{"alpha", "beta"}[n%2], n)
		b.Platform = []string{"debian-12", "freebsd-14"}[n/2%2]
		b.Result = job.Failure(job.Timeout, "ran for %d hours", n)
		b.Script = job.ContentOf([]byte("script"))
		mustCommit(t, s, b, nil, nil)
	}
}

func TestIndexIsRebuilt(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, dir, index string){
		"missing": func(t *testing.T, dir, _ string) { removeIndex(t, dir) },
		"empty":   func(t *testing.T, _, index string) { write(t, index, nil) },
		"garbage": func(t *testing.T, _, index string) { write(t, index, bytes.Repeat([]byte("garbage!"), 1000)) },
		"cut": func(t *testing.T, _, index string) {
			if err := os.Truncate(index, 8192); err != nil {
				t.Fatal(err)
			}
		},
		"overwritten": func(t *testing.T, _, index string) {
			data, err := os.ReadFile(index)
			if err != nil {
				t.Fatal(err)
			}
			for i := 4096; i < len(data); i++ {
				data[i] ^= 0x5a
			}
			write(t, index, data)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := scratch(t)
			takeOver(t, dir)
			s := open(t, disk.OS{}, dir)
			const first = 100 // behind the vectors' numbers
			for n := range 5 {
				mustCommit(t, s, buildOf("alpha", first+n), nil, nil)
			}
			want, err := s.List("", 0)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			spoil(t, dir, filepath.Join(dir, "v1/index.sqlite"))
			s = open(t, disk.OS{}, dir)
			got, err := s.List("", 0)
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestIndexOfAnotherVersion(t *testing.T) {
	for name, statement := range map[string]string{
		"version": "PRAGMA user_version = 999",
		"nothing": "DROP TABLE builds",
	} {
		t.Run(name, func(t *testing.T) {
			dir := scratch(t)
			s := open(t, disk.OS{}, dir)
			some(t, s)
			want, err := s.List("alpha", 0)
			if err != nil || len(want) != 6 {
				t.Fatalf("%d builds: %v", len(want), err)
			}
			if _, err := s.Database().Exec(statement); err != nil {
				t.Fatal(err)
			}
			s = reopen(t, s, dir)
			got, err := s.List("alpha", 0)
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

// TestIndexFollows: what was added or removed while the server was stopped.
func TestIndexFollows(t *testing.T) {
	dir := scratch(t)
	s := open(t, disk.OS{}, dir)
	some(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	gone, moved := filepath.Dir(recordName(dir, "alpha", 0)), filepath.Dir(recordName(dir, "beta", 1))
	if err := os.RemoveAll(gone); err != nil {
		t.Fatal(err)
	}
	// Somebody puts a build where it does not belong, and another one twice.
	elsewhere := filepath.Dir(recordName(dir, "gamma", 1))
	if err := os.MkdirAll(filepath.Dir(elsewhere), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(moved, elsewhere); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Dir(recordName(dir, "gamma", 3)), os.DirFS(filepath.Dir(recordName(dir, "beta", 3)))); err != nil {
		t.Fatal(err)
	}
	s = open(t, disk.OS{}, dir)
	if _, err := s.Build(number(0)); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a build that was removed: %v", err)
	}
	for _, n := range []int{1, 3} {
		if b, err := s.Build(number(n)); b.Job != "beta" || err != nil {
			t.Errorf("build %d: %q, %v", n, b.Job, err)
		}
	}
	if list, err := s.List("", 0); len(list) != 11 || err != nil {
		t.Errorf("%d builds, %v", len(list), err)
	}
}

func TestQueries(t *testing.T) {
	s := open(t, disk.OS{}, scratch(t))
	if _, err := s.Latest("", ""); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the latest of none: %v", err)
	}
	some(t, s)
	for _, c := range []struct {
		job, platform string
		want          int
	}{
		{"", "", 11},
		{"alpha", "", 10},
		{"", "debian-12", 9},
		{"alpha", "debian-12", 8},
		{"gamma", "", -1},
		{"alpha", "plan9", -1},
	} {
		b, err := s.Latest(c.job, c.platform)
		if c.want < 0 && !errors.Is(err, store.ErrNotFound) || c.want >= 0 && (err != nil || b.UUID != number(c.want)) {
			t.Errorf("the latest of %q on %q: %v, %v", c.job, c.platform, b.UUID, err)
		}
	}
	list, err := s.List("beta", 2)
	if err != nil || len(list) != 2 || list[0].UUID != number(11) || list[1].UUID != number(9) {
		t.Errorf("listed: %v, %v", list, err)
	}
}

// TestLongTexts: lists of builds stay small, the record has it all.
func TestLongTexts(t *testing.T) {
	s := open(t, disk.OS{}, scratch(t))
	long := buildOf("alpha", 1)
	long.Result = job.Failure(job.Setup, "%s", strings.Repeat("\u00e9", 100_000))
	mustCommit(t, s, long, nil, nil)
	list, err := s.List("alpha", 0)
	if err != nil || len(list) != 1 {
		t.Fatalf("listed: %v, %v", list, err)
	}
	if text := list[0].Result.Text; len(text) > 1100 || !strings.HasSuffix(text, "\u00e9...") {
		t.Errorf("listed with %d octets of text", len(text))
	}
	if b, err := s.Build(long.UUID); err != nil || b.Result != long.Result {
		t.Errorf("read with %d octets of text, %v", len(b.Result.Text), err)
	}
}

func TestResolve(t *testing.T) {
	s := open(t, disk.OS{}, scratch(t))
	some(t, s)
	other := buildOf("other", 1)
	other.UUID[0] = 0x12
	mustCommit(t, s, other, nil, nil)
	for _, c := range []struct {
		prefix string
		want   string
	}{
		{"12cd", other.UUID.String()},
		{"12CD-EF01", other.UUID.String()},
		{"12cdef010", other.UUID.String()},
		{other.UUID.String(), other.UUID.String()},
		{strings.ReplaceAll(other.UUID.String(), "-", ""), other.UUID.String()},
		{number(7).String(), number(7).String()},
		{"abcdef01-0000-0007", number(7).String()},
		{"abcd", "several"},
		{"abcdef01-0000-000", "several"},
		{"ffff", "no such build"},
		{number(99).String(), "no such build"},
		{"12c", "at least 4"},
		{"", "at least 4"},
		{"xyz0", "at least 4"},
		{other.UUID.String() + "0", "neither a uuid"},
	} {
		id, err := s.Resolve(c.prefix)
		if err != nil && strings.Contains(err.Error(), c.want) || err == nil && id.String() == c.want {
			continue
		}
		t.Errorf("resolving %q: %v, %v, want %q", c.prefix, id, err, c.want)
	}
	_, err := s.Resolve("abcd")
	if !errors.Is(err, store.ErrAmbiguous) || !strings.Contains(err.Error(), number(1).String()) {
		t.Errorf("an ambiguous prefix: %v", err)
	}
}

// TestQueryPlans: no query looks at every build, or sorts.
func TestQueryPlans(t *testing.T) {
	s := open(t, disk.OS{}, scratch(t))
	queries := store.NewestQueries()
	queries["prefix"], queries["having"] = store.PrefixQuery, store.HavingQuery
	for name, using := range map[string]string{
		"all": "by_time", "job": "by_job", "platform": "by_platform", "both": "by_both", "prefix": "PRIMARY KEY",
		"having": "by_time",
	} {
		args := make([]any, strings.Count(queries[name], "?"))
		rows, err := s.Database().Query("EXPLAIN QUERY PLAN "+queries[name], args...)
		if err != nil {
			t.Fatal(err)
		}
		var plan string
		for rows.Next() {
			var (
				a, b, c any
				step    string
			)
			if err := rows.Scan(&a, &b, &c, &step); err != nil {
				t.Fatal(err)
			}
			plan += step + "\n"
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(plan, using) || strings.Contains(plan, "TEMP B-TREE") {
			t.Errorf("%s does not use %s alone: %s", name, using, plan)
		}
	}
}

// TestPathsOfTheIndex: SQLite takes a URI, in which some octets have a meaning.
func TestPathsOfTheIndex(t *testing.T) {
	for _, name := range []string{"a b", "a?b=c", "a%20b", "a#b", "ä"} {
		dir := filepath.Join(scratch(t), name)
		s := open(t, disk.OS{}, dir)
		mustCommit(t, s, buildOf("hello", 1), nil, nil)
		if _, err := s.Build(number(1)); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(filepath.Join(dir, "v1/index.sqlite")); err != nil {
			t.Error(err)
		}
	}
	t.Chdir(scratch(t))
	s := open(t, disk.OS{}, "relative")
	mustCommit(t, s, buildOf("hello", 1), nil, nil)
	if _, err := os.Stat("relative/v1/index.sqlite"); err != nil {
		t.Error(err)
	}
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}
