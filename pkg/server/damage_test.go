package server_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"builder/pkg/client"
	"builder/pkg/job"
	"builder/pkg/wire"
)

// content is the file of a content.
func (r *running) content(data string) string {
	name := job.ContentOf([]byte(data)).String()
	return filepath.Join(r.config.Dir, "v1", "content", name[:2], name)
}

// TestDamagedExport: the client is told what is damaged, or that the file was
// broken off; it never gets all of one.
func TestDamagedExport(t *testing.T) {
	artifact := strings.Repeat("artifact", 100_000)
	change := func(name string) error {
		data, err := os.ReadFile(name)
		if err == nil {
			data[len(data)/2] ^= 1
			err = os.WriteFile(name, data, 0o644)
		}
		return err
	}
	for name, tt := range map[string]struct {
		file   string // empty: the artifact's content
		damage func(string) error
		told   string // empty: the file is broken off
	}{
		"no artifact":    {"", os.Remove, `the artifact "a"`},
		"no console":     {"console", os.Remove, "console"},
		"no index":       {"console.index", os.Remove, "console.index"},
		"no record":      {"record", os.Remove, "record"},
		"other artifact": {"", change, ""},
		"other console":  {"console", change, "console.index is damaged"},
		"other record":   {"record", change, "record"},
		"cut console":    {"console", func(name string) error { return os.Truncate(name, 3) }, "damaged"},
		"cut index":      {"console.index", func(name string) error { return os.Truncate(name, 30) }, "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t)
			r.schedule("one", "p", "x")
			w := r.requested(wire.OwnVersion, "p")
			id := w.begin().Build.UUID
			w.send(wire.Lines{UUID: id, Lines: []job.Line{{Data: []byte("first line")}, {Data: []byte("second line")}}})
			w.send(wire.Finish{UUID: id, Result: success, Files: []wire.File{{Path: "a", Data: text(artifact)}}})
			w.receive(wire.KindStored)
			r.ended("one", 1)
			whole := len(r.export(id).Raw)
			file := r.content(artifact)
			if tt.file != "" {
				file = filepath.Join(r.config.Dir, "v1", "builds", "one", id.String(), tt.file)
			}
			if err := tt.damage(file); err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			err := r.client().Export(t.Context(), id.String(), &out)
			var refused *client.RefusedError
			switch told := errors.As(err, &refused); {
			case tt.told != "" && (!told || !strings.Contains(err.Error(), tt.told) || out.Len() > 0):
				t.Errorf("%d octets, %v, want an answer that tells of %s", out.Len(), err, tt.told)
			case tt.told == "" && (err == nil || !strings.Contains(err.Error(), "broke off the result file") || out.Len() >= whole):
				t.Errorf("%d of %d octets, %v", out.Len(), whole, err)
			}
			if tt.told == "" {
				wait(t, "a line in the log", func() bool { return r.log.count(`"level":"error"`, id.String(), "damaged build") == 1 })
			}
			r.status() // the server goes on
		})
	}
}

// TestLostScript: a script that is missing does not break the reply to info.
func TestLostScript(t *testing.T) {
	r := start(t)
	for _, name := range []string{"a", "b", "c"} {
		r.schedule(name, "p", "script of "+name)
	}
	if err := os.Remove(r.content("script of b")); err != nil {
		t.Fatal(err)
	}
	info := r.legacyInfo()
	if len(info.Schedule) != 3 || len(info.Queues[0].Jobs) != 3 {
		t.Fatalf("info shows %+v", info)
	}
	for i, want := range []string{"script of a", "has lost this script", "script of c"} {
		if got := string(info.Schedule[i].Job.Script.Data); !strings.Contains(got, want) {
			t.Errorf("script %q, expected %q", got, want)
		}
	}
	if got := r.status(); len(got.Jobs) != 3 {
		t.Errorf("status shows %+v", got.Jobs)
	}
}
