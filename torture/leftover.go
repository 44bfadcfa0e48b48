package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"builder/pkg/disk"
	"builder/pkg/job"
	"builder/pkg/journal"
	"builder/pkg/schedule"

	"github.com/google/uuid"
)

// held is what a worker's directory has of builds: spools and places, but not those
// that are there for builds to come.
func (w *worker) held() ([]string, error) {
	var held []string
	for _, dir := range []string{"spool", "builds"} {
		entries, err := os.ReadDir(filepath.Join(w.dir, dir))
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			info, err := entry.Info()
			spare := err == nil && info.Mode().IsRegular() && info.Size() == 0
			if !spare && !strings.HasPrefix(entry.Name(), "b-spare-") {
				held = append(held, filepath.Join(dir, entry.Name()))
			}
		}
	}
	return held, nil
}

// checkRejected looks whether what the server did not take is what it should not
// take: ends of builds that have another one.
func (r *round) checkRejected(builds map[uuid.UUID]ended) error {
	for _, w := range r.fleet.workers {
		dir := filepath.Join(w.dir, "rejected")
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, entry := range entries {
			file := filepath.Join(dir, entry.Name(), "reason")
			reason, err := os.ReadFile(file)
			if err != nil {
				r.find("%s: rejected build: %v", w.name, err)
				continue
			}
			rejected, err := os.Stat(file)
			if err != nil {
				return err
			}
			id, err := uuid.Parse(entry.Name())
			b, known := builds[id]
			r.results["(rejected)"]++
			switch {
			case err != nil:
				r.find("%s: %s is in %s", w.name, entry.Name(), dir)
			case !known && (r.unrecorded[entry.Name()] != "" || r.removed[id] != ""):
			case !known:
				r.find("%s: build %v was rejected (%s), and the server does not know it", w.name, id, shorten(string(reason)))
			case !decided(b.Result) && w.wasFull(b.Started, rejected.ModTime()):
				// An end that the full disk did not keep is told, and forgotten when the
				// worker is restarted before it hears that the server has it.
			case !decided(b.Result):
				r.find("%s: build %v of %s was rejected (%s), but its end %q is a worker's", w.name, id, b.Job, shorten(string(reason)), b.Result)
			}
		}
	}
	return nil
}

// decided reports whether an end is one that a server finds without the worker.
func decided(result job.Result) bool {
	return result.Kind == job.Failed && (result.Cause == job.WorkerLost || result.Cause == job.Cancelled || result.Cause == job.ServerSide)
}

// line is one of a log.
type line struct{ Message, Build, Job, Result string }

// logged are the last lines with that message, by build.
func (r *round) logged(file, message string) (map[string]line, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	found := map[string]line{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var entry line
		err := json.Unmarshal(lines.Bytes(), &entry)
		switch {
		case err == nil && entry.Message == message:
			found[entry.Build] = entry
		case err != nil && !strings.HasPrefix(lines.Text(), "builder-"): // a last word
			r.find("%s: %s", file, shorten(lines.Text())) // a crash
		}
	}
	return found, lines.Err()
}

// checkData looks at what is on disk when all programs have ended.
func (r *round) checkData(builds map[uuid.UUID]ended) error {
	handedOut, err := r.logged(r.fleet.server.log, "build handed out")
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(filepath.Join(r.dir, "ledger"))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name, twice := strings.CutSuffix(entry.Name(), ".twice")
		if handedOut[name] = (line{}); twice {
			r.find("build %s began twice", name)
		}
	}
	for name := range handedOut {
		if id, err := uuid.Parse(name); err != nil || builds[id].UUID != id && r.unrecorded[name] == "" && r.removed[id] == "" {
			r.find("build %s was handed out, and there is no record of it", name)
		}
	}
	for _, w := range r.fleet.workers {
		r.checkEmpty(filepath.Join(w.dir, "spool"))
		r.checkEmpty(filepath.Join(w.dir, "builds"))
		if _, err := r.logged(w.log, ""); err != nil {
			return err
		}
	}
	own := filepath.Join(r.fleet.data.dir, "v1")
	r.checkEmpty(filepath.Join(own, "tmp"))
	records, err := filepath.Glob(filepath.Join(own, "builds", "*", "*", "record"))
	if err != nil {
		return err
	}
	if len(records) != len(builds) {
		r.find("there are %d records and %d builds", len(records), len(builds))
	}
	return r.checkJournal(own, builds)
}

func (r *round) checkEmpty(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		r.find("%v", err)
	}
	for _, entry := range entries {
		r.find("%s is left in %s", entry.Name(), dir)
	}
}

// sameEnd reports whether the state has the end of a record: of long texts it keeps
// the beginning.
func sameEnd(record, state job.Result) bool {
	head, shortened := strings.CutSuffix(state.Text, "...")
	fits := record.Text == state.Text || shortened && strings.HasPrefix(record.Text, head)
	record.Text, state.Text = "", ""
	return fits && record == state
}

// checkJournal reads the state as a server would, and the contents.
func (r *round) checkJournal(own string, builds map[uuid.UUID]ended) error {
	j, state, err := journal.Open(disk.OS{}, filepath.Join(own, "state"), schedule.New, journal.Options{})
	if err != nil {
		r.find("reading the state: %v", err)
		return nil
	}
	for b := range state.Buildings() {
		r.find("build %v of %s has no end in the journal", b.UUID, b.Run.Job.Name)
	}
	var scripts []job.Content
	for entry := range state.Entries() {
		scripts = append(scripts, entry.Job.Script)
		last := entry.Last
		if last == nil || r.unrecorded[last.UUID.String()] != "" || r.removed[last.UUID] != "" {
			continue
		}
		if b := builds[last.UUID]; b.UUID != last.UUID || !sameEnd(b.Result, last.Result) {
			r.find("build %v of %s ended as %q, by the journal as %q", last.UUID, entry.Job.Name, b.Result, last.Result)
		}
	}
	r.checkContents(own, scripts, builds)
	if err := j.Close(); err != nil {
		return fmt.Errorf("closing the state: %w", err)
	}
	return nil
}
