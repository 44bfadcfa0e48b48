//go:build !linux

package disk

import "os"

// OpenBarrier implements [FS]: there is none.
func (OS) OpenBarrier(dir string) (Barrier, error) {
	return nil, &os.PathError{Op: "barrier", Path: dir, Err: ErrNoBarrier}
}
