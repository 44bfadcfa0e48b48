package store

import (
	"strings"
	"time"

	"builder/pkg/job"
)

// Times are nanoseconds since 1970, 0 for none, at the ends of that range when
// they lie outside (a result of the reference may have any year). Names and texts
// are BLOBs: those of the reference need not be text. Without rowid every index
// ends with the uuid, so all orders are total.
const schema = `
CREATE TABLE builds (
	uuid BLOB PRIMARY KEY, origin INTEGER, directory BLOB, damaged INTEGER,
	job BLOB, platform BLOB, run INTEGER, try INTEGER, script BLOB, script_size INTEGER, worker BLOB,
	started INTEGER, finished INTEGER, kind INTEGER, code INTEGER, text BLOB, cause BLOB
) WITHOUT ROWID;
CREATE INDEX by_time ON builds (started);
CREATE INDEX by_job ON builds (job, started);
CREATE INDEX by_platform ON builds (platform, started);
CREATE INDEX by_both ON builds (job, platform, started);
`

const (
	columns = `uuid, origin, directory, damaged, job, platform, run, try, script, script_size, worker,
	started, finished, kind, code, text, cause`
	insert = `INSERT OR REPLACE INTO builds (` + columns + `) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`
)

// row is a build in the index: without artifacts and notes, its text cut.
type row struct {
	place   place
	damaged bool
	build   job.Build
}

// maxRowText is how many octets of a result's text are in the index: a list of
// thousands of builds must fit into memory, whatever workers write there.
const maxRowText = 1000

func rowOf(p place, b job.Build) row {
	b.Artifacts, b.Notes = nil, nil
	if len(b.Result.Text) > maxRowText {
		b.Result.Text = strings.ToValidUTF8(b.Result.Text[:maxRowText], "") + "..."
	}
	return row{place: p, build: b}
}

func (r row) values() []any {
	b := r.build
	return []any{
		r.place.id[:], int(r.place.origin), []byte(r.place.job), r.damaged,
		[]byte(b.Job), []byte(b.Platform), int64(b.Run), b.Try, b.Script.SHA256[:], b.Script.Size, []byte(b.Worker),
		nanoseconds(b.Started), nanoseconds(b.Finished),
		int(b.Result.Kind), b.Result.Code, []byte(b.Result.Text), []byte(b.Result.Cause),
	}
}

// scanRow is the inverse of values.
func scanRow(scan func(...any) error) (row, error) {
	var (
		r                                                             row
		id, directory, jobName, platform, script, worker, text, cause []byte
		run, started, finished                                        int64
	)
	b := &r.build
	err := scan(&id, &r.place.origin, &directory, &r.damaged,
		&jobName, &platform, &run, &b.Try, &script, &b.Script.Size, &worker,
		&started, &finished, &b.Result.Kind, &b.Result.Code, &text, &cause)
	if err != nil {
		return row{}, err
	}
	copy(r.place.id[:], id)
	copy(b.Script.SHA256[:], script)
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
