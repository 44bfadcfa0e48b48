package main

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"builder/pkg/disk"
	"builder/pkg/job"
	"builder/pkg/store"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"
)

// unsynced is the disk for who does not mind a power cut: data directories that are
// made to be measured.
type unsynced struct{ disk.OS }

// OpenFile implements disk.FS.
func (u unsynced) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	f, err := u.OS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return unsyncedFile{f}, nil
}

// SyncDir implements disk.FS.
func (unsynced) SyncDir(string) error { return nil }

// OpenBarrier implements disk.FS.
func (unsynced) OpenBarrier(string) (disk.Barrier, error) { return nil, disk.ErrNoBarrier }

type unsyncedFile struct{ disk.File }

// Sync implements disk.File.
func (unsyncedFile) Sync() error { return nil }

// fillStore has a server make the data directory, and makes n builds of so many jobs
// there, each with the artifacts that add adds.
func (b *bench) fillStore(ctx context.Context, n, jobs int, add func(d *store.Draft, i int) error) (err error) {
	made, err := b.startServer(ctx)
	if err != nil {
		return err
	}
	if err := made.stop(); err != nil {
		return err
	}
	s, err := store.Open(unsynced{}, filepath.Join(b.dir, "data"), nil, zerolog.Nop())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	script, err := s.Put(strings.NewReader(trivial))
	if err != nil {
		return err
	}
	began := time.Now().Add(-time.Duration(n) * time.Minute)
	var group errgroup.Group
	group.SetLimit(slots)
	for i := range n {
		group.Go(func() error {
			build := job.Build{
				UUID: uuid.New(), Job: "job" + strconv.Itoa(i%jobs), Platform: "bench", Script: script, Run: uint64(i), Try: 1,
				Started: began.Add(time.Duration(i) * time.Minute), Finished: began.Add(time.Duration(i)*time.Minute + time.Second),
			}
			d, err := s.Begin(build.Job, build.UUID)
			if err != nil {
				return err
			}
			if err := d.Console().Append(job.Line{Delta: time.Second, Data: []byte("done")}); err != nil {
				return err
			}
			if err := add(d, i); err != nil {
				return err
			}
			_, err = d.Commit(build)
			return err
		})
	}
	return group.Wait()
}
