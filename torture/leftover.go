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

// held is what a worker's directory has of builds: spools, and places but those
// that are made ahead.
func (w *worker) held() ([]string, error) {
	var held []string
	for _, dir := range []string{"spool", "builds"} {
		entries, err := os.ReadDir(filepath.Join(w.dir, dir))
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			if !strings.HasPrefix(entry.Name(), "b-spare-") {
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
			reason, err := os.ReadFile(filepath.Join(dir, entry.Name(), "reason"))
			if err != nil {
				r.find("%s: rejected build: %v", w.name, err)
				continue
			}
			id, err := uuid.Parse(entry.Name())
			b, known := builds[id]
			r.results["(rejected)"]++
			switch {
			case err != nil:
				r.find("%s: %s is in %s", w.name, entry.Name(), dir)
			case !known && r.unrecorded[entry.Name()] != "":
			case !known:
				r.find("%s: build %v was rejected (%s), and the server does not know it", w.name, id, shorten(string(reason)))
			case !decided(b.Result) && r.done["fill a worker's disk"] > 0:
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

// logged are the builds of lines with that message, with their jobs.
func (r *round) logged(file, message string) (map[string]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	found := map[string]string{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var entry struct{ Message, Build, Job string }
		err := json.Unmarshal(lines.Bytes(), &entry)
		switch {
		case err == nil && entry.Message == message:
			found[entry.Build] = entry.Job
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
		if handedOut[name] = "?"; twice {
			r.find("build %s began twice", name)
		}
	}
	for name := range handedOut {
		if id, err := uuid.Parse(name); err != nil || builds[id].UUID != id && r.unrecorded[name] == "" {
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
	r.checkContents(own, builds)
	return r.checkJournal(filepath.Join(own, "state"), builds)
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

// checkContents reads each content that a build has.
func (r *round) checkContents(own string, builds map[uuid.UUID]ended) {
	seen := map[job.Content]bool{}
	for _, b := range builds {
		for _, a := range b.Artifacts {
			if seen[a.Content] {
				continue
			}
			seen[a.Content] = true
			name := a.String()
			if got, err := contentOf(filepath.Join(own, "content", name[:2], name)); err != nil || got != a.Content {
				r.find("content %v of build %v: it is %v (%v)", a.Content, b.UUID, got, err)
			}
		}
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

// checkJournal reads the state as a server would.
func (r *round) checkJournal(dir string, builds map[uuid.UUID]ended) error {
	j, state, err := journal.Open(disk.OS{}, dir, schedule.New, journal.Options{})
	if err != nil {
		r.find("reading the state: %v", err)
		return nil
	}
	for b := range state.Buildings() {
		r.find("build %v of %s has no end in the journal", b.UUID, b.Run.Job.Name)
	}
	for entry := range state.Entries() {
		last := entry.Last
		if last == nil || r.unrecorded[last.UUID.String()] != "" {
			continue
		}
		if b := builds[last.UUID]; b.UUID != last.UUID || !sameEnd(b.Result, last.Result) {
			r.find("build %v of %s ended as %q, by the journal as %q", last.UUID, entry.Job.Name, b.Result, last.Result)
		}
	}
	if err := j.Close(); err != nil {
		return fmt.Errorf("closing the state: %w", err)
	}
	return nil
}
