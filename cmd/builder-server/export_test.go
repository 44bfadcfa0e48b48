package main

import (
	"time"

	"builder/pkg/store"
)

// ProgressText is the line for so many octets.
func ProgressText(done, total int64, after time.Duration) string {
	l := progressLine{progress: &store.Progress{}}
	l.progress.Done.Store(done)
	l.progress.Total.Store(total)
	return l.text(after)
}
