package store

import (
	"io/fs"
	"os"
	"sync"
	"time"

	"builder/pkg/job"
)

// justReceived remembers the files of large contents that came a short while ago, and
// were held to their hash as they came. Such a file is in the memory of the system:
// reading it again would show nothing of what has become of it on the disk. Safe for
// concurrent use.
type justReceived struct {
	mu    sync.Mutex
	files map[job.Content]receivedFile
}

type receivedFile struct {
	info fs.FileInfo
	at   time.Time
}

const (
	// receivedTime is that short while.
	receivedTime = 10 * time.Minute
	// receivedSize is where a content is large. Smaller ones are soon held to their hash.
	receivedSize = 1 << 20
	// maxReceived bounds the memory that this takes.
	maxReceived = 1000
)

// add remembers the file of c.
func (r *justReceived) add(c job.Content, info fs.FileInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for old, file := range r.files {
		if time.Since(file.at) > receivedTime {
			delete(r.files, old)
		}
	}
	if len(r.files) < maxReceived {
		r.files[c] = receivedFile{info, time.Now()}
	}
}

// has reports whether that file of c came a short while ago, and was not written since.
func (r *justReceived) has(c job.Content, info fs.FileInfo) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	file, ok := r.files[c]
	return ok && time.Since(file.at) <= receivedTime && os.SameFile(file.info, info) && file.info.ModTime().Equal(info.ModTime())
}
