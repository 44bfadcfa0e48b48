package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"builder/pkg/disk"
	"builder/pkg/job"
	"builder/pkg/journal"
	"builder/pkg/schedule"
	"builder/pkg/store"
	"builder/pkg/wire"

	"github.com/google/uuid"
)

// Verify checks the data directory dir, the schedule and what is in the store, as
// [store.Verify] does with the options, whose Schedule it sets. A server may run on
// dir meanwhile, unless it is to repair: that server would have told workers that it
// has what is moved away, and would make records that name it. So a repair holds
// the lock of the directory. An error says that not everything could be checked; a
// directory that holds nothing of ours and nothing of the reference is one.
func Verify(ctx context.Context, dir string, o store.VerifyOptions) (result store.Verified, err error) {
	own := filepath.Join(dir, "v1")
	taken := exists(own)
	if o.Repair && taken {
		unlock, err := disk.Lock(own)
		if err != nil {
			return result, fmt.Errorf("repairing %s: %w; or verify without a repair", dir, err)
		}
		defer func() { err = errors.Join(err, unlock()) }()
	}
	if _, err := os.ReadDir(dir); err != nil {
		return result, fmt.Errorf("verifying the data directory: %w", err)
	}
	damage, err := verifySchedule(dir)
	switch {
	case err != nil:
		return result, fmt.Errorf("verifying %s: %w", dir, err)
	case damage == nil && exists(filepath.Join(own, "state")):
		o.Schedule = func() (store.Scheduled, error) { return scheduled(dir) }
	case damage != nil && o.Report != nil:
		o.Report(*damage)
	}
	result, err = store.Verify(ctx, disk.OS{}, dir, o)
	if damage != nil {
		result.Damaged++
	}
	if err == nil && result.Builds == 0 && !taken && !exists(filepath.Join(dir, "state")) {
		err = fmt.Errorf("verifying %s: it is no data directory: it has neither v1, nor a state or a result of the reference", dir)
	}
	return result, err
}

// verifySchedule reads the schedule, or that of the reference as long as there is
// none of ours. The error says that it could not be read.
func verifySchedule(dir string) (*store.Damage, error) {
	found := store.Damage{Part: store.PartSchedule, File: filepath.Join("v1", "state"), Offset: -1}
	err := checkState(filepath.Join(dir, found.File), filepath.Join(dir, "v1", "builds"))
	if err == nil {
		_, err = scheduled(dir)
	}
	if errors.Is(err, fs.ErrNotExist) {
		found.File = "state"
		err = readReferenceState(filepath.Join(dir, "state"))
	}
	var (
		at    *journal.DamageError
		input *fs.PathError
	)
	switch {
	case err == nil, errors.Is(err, fs.ErrNotExist):
		return nil, nil //nolint:nilnil // nothing is damaged
	case errors.As(err, &at):
		found.File, found.Offset, found.Reason = filepath.Join("v1", "state", filepath.Base(at.File)), at.Offset, at.Err.Error()
	case errors.As(err, &input):
		return nil, err
	default:
		found.Reason = err.Error()
	}
	return &found, nil
}

// scheduled is what the schedule knows of the store. The error is an
// fs.ErrNotExist when there is no schedule.
func scheduled(dir string) (store.Scheduled, error) {
	st, err := journal.Read(disk.OS{}, filepath.Join(dir, "v1", "state"), schedule.New)
	if err != nil {
		return store.Scheduled{}, err
	}
	known := store.Scheduled{Building: func(id uuid.UUID) bool { return st.Building(id) != nil }}
	add := func(j job.Job) {
		if !j.Script.IsZero() {
			known.Scripts = append(known.Scripts, store.JobScript{Job: j.Name, Script: j.Script})
		}
	}
	for e := range st.Entries() {
		add(e.Job)
	}
	for _, p := range st.Platforms() {
		for run := range st.Queue(p.Name) {
			add(run.Job)
		}
	}
	for b := range st.Buildings() {
		add(b.Run.Job)
	}
	return known, nil
}

// readReferenceState decodes the reference's state file.
func readReferenceState(file string) error {
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	return wire.ReadState(in, info.Size(), func(wire.StateItem) error { return nil })
}
