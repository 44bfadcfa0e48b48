package store

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"time"

	"builder/pkg/job"
)

// Times are nanoseconds since 1970, 0 for none, at the ends of that range when
// they lie outside (a result of the reference may have any year). Names and texts
// are BLOBs: those of the reference need not be text. Without rowid every index
// ends with the uuid, so all orders are total.
//
// The main artifact and the hash of the inputs are as in job.Output. Of each
// artifact there are 8 octets of its hash and the start of its build: that finds
// the few records that are worth a look, and a hundred thousand of them are cheap.
// A build is whole when all of its artifacts are there.
const schema = `
CREATE TABLE builds (
	uuid BLOB PRIMARY KEY, origin INTEGER, directory BLOB, damaged INTEGER,
	job BLOB, platform BLOB, run INTEGER, try INTEGER, script BLOB, script_size INTEGER, worker BLOB,
	started INTEGER, finished INTEGER, kind INTEGER, code INTEGER, text BLOB, cause BLOB,
	main_path BLOB, main BLOB, main_size INTEGER, inputs BLOB, whole INTEGER
) WITHOUT ROWID;
CREATE TABLE artifacts (hash INTEGER, started INTEGER, PRIMARY KEY (hash, started)) WITHOUT ROWID;
CREATE INDEX by_time ON builds (started);
CREATE INDEX by_job ON builds (job, started);
CREATE INDEX by_platform ON builds (platform, started);
CREATE INDEX by_both ON builds (job, platform, started);
`

const (
	columns = `uuid, origin, directory, damaged, job, platform, run, try, script, script_size, worker,
	started, finished, kind, code, text, cause, main_path, main, main_size, inputs`
	insert = `INSERT OR REPLACE INTO builds (` + columns + `, whole)
	VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`
	insertArtifacts = "INSERT OR IGNORE INTO artifacts (started, hash) SELECT ?, value FROM json_each(?)"
	setWhole        = "UPDATE builds SET whole = 1 WHERE uuid = ?"
)

// row is a build in the index: without artifacts and notes, its text cut.
type row struct {
	place   place
	damaged bool
	build   job.Build
	output  job.Output
	// hashes are the beginnings of those of its artifacts, ascending; scanRow
	// leaves them out.
	hashes []int64
}

// maxRowText is how many octets of a result's text are in the index: a list of
// thousands of builds must fit into memory, whatever workers write there.
const maxRowText = 1000

func rowOf(p place, b job.Build) row {
	r := row{place: p, output: job.OutputOf(b.Artifacts)}
	if len(b.Artifacts) > 0 {
		r.hashes = make([]int64, len(b.Artifacts))
		for i, a := range b.Artifacts {
			r.hashes[i] = beginning(a.SHA256)
		}
		slices.Sort(r.hashes)
	}
	b.Artifacts, b.Notes = nil, nil
	b.Result.Text = job.Shorten(b.Result.Text, maxRowText)
	r.build = b
	return r
}

// beginning is what the artifacts' table has of a hash.
func beginning(sum [sha256.Size]byte) int64 {
	return int64(binary.BigEndian.Uint64(sum[:])) //nolint:gosec // any 64 bits will do
}

func (r row) values() []any {
	b := r.build
	return []any{
		r.place.id[:], int(r.place.origin), []byte(r.place.job), r.damaged,
		[]byte(b.Job), []byte(b.Platform), int64(b.Run), b.Try, b.Script.SHA256[:], b.Script.Size, []byte(b.Worker),
		nanoseconds(b.Started), nanoseconds(b.Finished),
		int(b.Result.Kind), b.Result.Code, []byte(b.Result.Text), []byte(b.Result.Cause),
		[]byte(r.output.Path), r.output.Main.SHA256[:], r.output.Main.Size, r.output.Inputs[:], len(r.hashes) <= fewArtifacts,
	}
}

// scanRow is the inverse of values.
func scanRow(scan func(...any) error) (row, error) {
	var (
		r                                                             row
		id, directory, jobName, platform, script, worker, text, cause []byte
		mainPath, main, inputs                                        []byte
		run, started, finished                                        int64
	)
	b := &r.build
	err := scan(&id, &r.place.origin, &directory, &r.damaged,
		&jobName, &platform, &run, &b.Try, &script, &b.Script.Size, &worker,
		&started, &finished, &b.Result.Kind, &b.Result.Code, &text, &cause,
		&mainPath, &main, &r.output.Main.Size, &inputs)
	if err != nil {
		return row{}, err
	}
	copy(r.place.id[:], id)
	copy(b.Script.SHA256[:], script)
	copy(r.output.Main.SHA256[:], main)
	copy(r.output.Inputs[:], inputs)
	r.output.Path = string(mainPath)
	r.place.job = string(directory)
	b.UUID, b.Run = r.place.id, uint64(run)
	b.Job, b.Platform, b.Worker = string(jobName), string(platform), string(worker)
	b.Started, b.Finished = instant(started), instant(finished)
	b.Result.Text, b.Result.Cause = string(text), job.Cause(cause)
	return r, nil
}

var (
	earliest = time.Unix(0, -1<<63)
	latest   = time.Unix(0, 1<<63-1)
)

func nanoseconds(t time.Time) int64 {
	switch {
	case t.IsZero():
		return 0
	case t.Before(earliest):
		return earliest.UnixNano()
	case t.After(latest):
		return latest.UnixNano()
	}
	return t.UnixNano()
}

func instant(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}
