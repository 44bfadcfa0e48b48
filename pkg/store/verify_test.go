package store_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"builder/pkg/disk"
	"builder/pkg/job"
	"builder/pkg/store"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// verify returns what is found, in order.
func verify(t testing.TB, fsys disk.FS, dir string, o store.VerifyOptions) (store.Verified, []store.Damage) {
	t.Helper()
	var found []store.Damage
	o.Report = func(d store.Damage) { found = append(found, d) }
	v, err := store.Verify(t.Context(), fsys, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	if v.Damaged != int64(len(found)) {
		t.Errorf("%d are said to be damaged, %d were reported", v.Damaged, len(found))
	}
	return v, found
}

// shared is the content of two builds; nobody names spare.
var shared, own, script, spare = "content of both", strings.Repeat("content of the second", 20_000), "#!/bin/sh\n", "spare"

// directory makes two builds, a content that none names, and a result of the
// reference. It returns the directory of the first build.
func directory(t *testing.T, dir string) (first string) {
	t.Helper()
	s := open(t, disk.OS{}, dir)
	for _, data := range []string{script, spare} {
		if _, err := s.Put(strings.NewReader(data)); err != nil {
			t.Fatal(err)
		}
	}
	one, two := buildOf("alpha", 1), buildOf("beta", 2)
	one.Script = job.ContentOf([]byte(script))
	lines := slices.Repeat([]string{"a line"}, 3000)
	mustCommit(t, s, one, lines, []file{{"bin/a", shared}})
	mustCommit(t, s, two, nil, []file{{"b", shared}, {"c", own}})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile("testdata/exec_artifact_70000.der")
	if err != nil {
		t.Fatal(err)
	}
	result := filepath.Join(dir, "hello", number(9).String())
	writeResult(t, result, data)
	if err := os.Chmod(filepath.Join(result, "full"), 0o644); err != nil { // to be damaged
		t.Fatal(err)
	}
	return filepath.Join(dir, "v1/builds/alpha", number(1).String())
}

func contentName(data string) string {
	name := job.ContentOf([]byte(data)).String()
	return filepath.Join("v1/content", name[:2], name)
}

// flip changes one bit, offset octets behind the beginning or before the end.
func flip(offset int) func(string) error {
	return func(name string) error {
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		at := offset
		if at < 0 {
			at += len(data)
		}
		data[at] ^= 1
		return os.WriteFile(name, data, 0o644)
	}
}

func truncate(size int64) func(string) error {
	return func(name string) error { return os.Truncate(name, size) }
}

func lengthen(name string) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(data, 'x'), 0o644)
}

// lay makes a file that belongs to nobody.
func lay(name string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, []byte("text"), 0o644)
}

// TestVerifyDamage damages one file at a time.
func TestVerifyDamage(t *testing.T) {
	const first, result = "v1/builds/alpha/abcdef01-0000-0001-0000-000000000000", "hello/abcdef01-0000-0009-0000-000000000000/full"
	changed := func(data string) string { return fmt.Sprintf("its %d octets are not those of its hash", len(data)) }
	// of is what is found of the n-th build.
	of := func(n int, jobName string, d store.Damage) store.Damage {
		d.UUID, d.Job = number(n), jobName
		return d
	}
	both := func(reason string) []store.Damage {
		c := job.ContentOf([]byte(shared))
		return []store.Damage{
			of(1, "alpha", store.Damage{Part: store.PartArtifact, Path: "bin/a", Content: c, File: contentName(shared), Offset: -1, Reason: reason}),
			of(2, "beta", store.Damage{Part: store.PartArtifact, Path: "b", Content: c, File: contentName(shared), Offset: -1, Reason: reason}),
		}
	}
	alpha := func(part store.Part, file string, offset int64, reason string) []store.Damage {
		return []store.Damage{of(1, "alpha", store.Damage{Part: part, File: filepath.Join(first, file), Offset: offset, Reason: reason})}
	}
	stray := func(file string) []store.Damage {
		return []store.Damage{{Part: store.PartContent, File: file, Offset: -1, Reason: "it is no content"}}
	}
	spared := []store.Damage{{Part: store.PartContent, File: contentName(spare), Offset: -1, Reason: changed(spare)}}
	scripted := of(1, "alpha", store.Damage{
		Part: store.PartScript, Content: job.ContentOf([]byte(script)), File: contentName(script), Offset: -1, Reason: changed(script),
	})
	for name, test := range map[string]struct {
		file   string
		damage func(string) error
		want   []store.Damage // the beginnings of their reasons
	}{
		"nothing":         {"v1", func(string) error { return nil }, nil},
		"record flipped":  {first + "/record", flip(20), alpha(store.PartRecord, "record", -1, "the checksum does not match")},
		"record cut":      {first + "/record", truncate(30), alpha(store.PartRecord, "record", -1, "the checksum does not match")},
		"record empty":    {first + "/record", truncate(0), alpha(store.PartRecord, "record", -1, "it does not begin as a record")},
		"record longer":   {first + "/record", lengthen, alpha(store.PartRecord, "record", -1, "the checksum does not match")},
		"record missing":  {first + "/record", os.Remove, alpha(store.PartRecord, "record", -1, "it is missing")},
		"console flipped": {first + "/console", flip(14), alpha(store.PartConsole, "console.index", 64, "the checksum of line 2")},
		"console cut":     {first + "/console", truncate(70), alpha(store.PartConsole, "console", 70, "the file ends within line 10")},
		"console longer":  {first + "/console", lengthen, alpha(store.PartConsole, "console", 21_000, "it goes on behind")},
		"console and index cut": {first, func(dir string) error {
			return errors.Join(truncate(14)(filepath.Join(dir, "console")), truncate(64)(filepath.Join(dir, "console.index")))
		}, alpha(store.PartConsole, "console", -1, "2 lines in 14 octets, the record says 3000 in 21000")},
		"console missing":       {first + "/console", os.Remove, alpha(store.PartConsole, "console", -1, "it is missing")},
		"console index flipped": {first + "/console.index", flip(70), alpha(store.PartConsole, "console.index", 64, "the checksum of line 2")},
		"console index cut":     {first + "/console.index", truncate(64), alpha(store.PartConsole, "console", 14, "it goes on behind")},
		"console index uneven":  {first + "/console.index", lengthen, alpha(store.PartConsole, "console.index", 96_000, "an entry is not whole")},
		"console index missing": {first + "/console.index", os.Remove, alpha(store.PartConsole, "console.index", -1, "it is missing")},
		"content flipped":       {contentName(shared), flip(3), both(changed(shared))},
		"content cut":           {contentName(shared), truncate(3), both("its 3 octets")},
		"content longer":        {contentName(shared), lengthen, both("its 16 octets")},
		"content missing":       {contentName(shared), os.Remove, both("it is missing")},
		"script flipped":        {contentName(script), flip(-1), []store.Damage{scripted}},
		"of no build":           {contentName(spare), flip(0), spared},
		"of no build, missing":  {contentName(spare), os.Remove, nil},
		"no hash":               {"v1/content/ab/text", lay, stray("v1/content/ab/text")},
		"upper case":            {"v1/content/ab/AB" + strings.Repeat("0", 62), lay, stray("v1/content/ab/AB")},
		"another prefix":        {"v1/content/ab/cd" + strings.Repeat("0", 62), lay, stray("v1/content/ab/cd")},
		"no prefix":             {"v1/content/file", lay, stray("v1/content/file")},
		"a file system's own":   {"v1/content/lost+found/x", lay, nil},
		"a directory":           {"v1/content/ab/ab" + strings.Repeat("0", 62) + "/x", lay, stray("v1/content/ab/ab")},
		"result cut": {result, truncate(60_000), []store.Damage{of(9, "hello", store.Damage{
			Part: store.PartResult, File: result, Offset: -2, Reason: "",
		})}},
		"result flipped": {result, flip(0), []store.Damage{of(9, "hello", store.Damage{
			Part: store.PartResult, File: result, Offset: -2, Reason: "",
		})}},
		"result missing": {result, os.Remove, nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := scratch(t)
			directory(t, dir)
			if err := test.damage(filepath.Join(dir, test.file)); err != nil {
				t.Fatal(err)
			}
			_, found := verify(t, disk.OS{}, dir, store.VerifyOptions{})
			for i := range min(len(found), len(test.want)) {
				want, d := &test.want[i], &found[i]
				if strings.HasPrefix(d.Reason, want.Reason) {
					d.Reason = want.Reason
				}
				if want.Part == store.PartContent && strings.HasPrefix(d.File, want.File) {
					d.File = want.File
				}
				if want.Offset == -2 && d.Offset >= 0 {
					d.Offset = -2 // it is known
				}
			}
			if diff := cmp.Diff(test.want, found); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestVerifyCounts: what was looked at, also for who watches.
func TestVerifyCounts(t *testing.T) {
	dir := scratch(t)
	directory(t, dir)
	var progress store.Progress
	v, _ := verify(t, disk.OS{}, dir, store.VerifyOptions{Progress: &progress})
	if want := (store.Verified{Builds: 3, Contents: 4, Octets: v.Octets}); v != want {
		t.Errorf("%+v, want %+v", v, want)
	}
	done, total := progress.Done.Load(), progress.Total.Load()
	if done != v.Octets || total < int64(len(own)+len(shared)+70_000) || done < total {
		t.Errorf("%d of %d octets were read, %d are told", done, total, v.Octets)
	}
}

// TestVerifyIsToldApart: what is no damage.
func TestVerifyIsToldApart(t *testing.T) {
	for name, change := range map[string]func(dir, first string) error{
		"pruned": func(dir, first string) error {
			return errors.Join(os.WriteFile(filepath.Join(first, "pruned"), nil, 0o644), os.Remove(filepath.Join(dir, contentName(script))))
		},
		"being removed": func(_, first string) error {
			return errors.Join(os.Rename(first, first+".removed"), os.Remove(filepath.Join(first+".removed", "record")))
		},
		"removed":    func(_, first string) error { return os.RemoveAll(first) },
		"what comes": func(dir, _ string) error { return lay(filepath.Join(dir, "v1/tmp/17")) },
		"no index":   func(dir, _ string) error { return os.Remove(filepath.Join(dir, "v1/index.sqlite")) },
		"no directory of the reference": func(dir, _ string) error {
			return lay(filepath.Join(dir, "lost+found", number(5).String(), "x"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := scratch(t)
			if err := change(dir, directory(t, dir)); err != nil {
				t.Fatal(err)
			}
			if _, found := verify(t, disk.OS{}, dir, store.VerifyOptions{}); len(found) > 0 {
				t.Errorf("found %v", found)
			}
		})
	}
}

// TestVerifySchedule: builds that go on may be in any state, and scripts that are
// to be run must be there.
func TestVerifySchedule(t *testing.T) {
	dir := scratch(t)
	first := directory(t, dir)
	if err := os.Truncate(filepath.Join(first, "record"), 20); err != nil {
		t.Fatal(err)
	}
	missing := job.ContentOf([]byte("missing"))
	asked := 0
	schedule := func() (store.Scheduled, error) {
		asked++
		known := store.Scheduled{Building: func(id uuid.UUID) bool { return id == number(1) }, Scripts: []store.JobScript{
			{Job: "alpha", Script: job.ContentOf([]byte(script))}, {Job: "gamma", Script: missing}, {Job: "gamma", Script: missing},
		}}
		if asked < 3 { // it is unscheduled then
			known.Scripts = append(known.Scripts, store.JobScript{Job: "delta", Script: missing})
		}
		return known, nil
	}
	v, found := verify(t, disk.OS{}, dir, store.VerifyOptions{Schedule: schedule})
	want := []store.Damage{{Part: store.PartScript, Job: "gamma", Content: missing, File: contentName("missing"), Offset: -1, Reason: "it is missing"}}
	if diff := cmp.Diff(want, found); diff != "" || v.Builds != 2 {
		t.Errorf("%d builds (-want +got):\n%s", v.Builds, diff)
	}
	broken := errors.New("no schedule")
	if _, err := store.Verify(t.Context(), disk.OS{}, dir, store.VerifyOptions{Schedule: func() (store.Scheduled, error) {
		return store.Scheduled{}, broken
	}}); !errors.Is(err, broken) {
		t.Errorf("without the schedule: %v", err)
	}
}

// TestVerifyCanNot: what can not be read is not called damaged, nor whole; but a
// disk that fails is.
func TestVerifyCanNot(t *testing.T) {
	dir := scratch(t)
	directory(t, dir)
	denied := denying{disk.OS{}, fs.ErrPermission, job.ContentOf([]byte(shared)).String()}
	if _, err := store.Verify(t.Context(), denied, dir, store.VerifyOptions{}); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), denied.name) {
		t.Errorf("a file that may not be read: %v", err)
	}
	_, found := verify(t, denying{disk.OS{}, syscall.EIO, denied.name}, dir, store.VerifyOptions{})
	if len(found) != 2 || found[0].Offset != 0 || !strings.Contains(found[0].Reason, "input/output error") {
		t.Errorf("a file that can not be read: %v", found)
	}
	if _, err := store.Verify(t.Context(), disk.OS{}, filepath.Join(dir, "missing"), store.VerifyOptions{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := store.Verify(ctx, disk.OS{}, dir, store.VerifyOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

// denying can not open files of that name.
type denying struct {
	disk.FS
	err  error
	name string
}

func (f denying) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	if filepath.Base(name) == f.name {
		return nil, &fs.PathError{Op: "open", Path: name, Err: f.err}
	}
	return f.FS.OpenFile(name, flag, perm)
}
