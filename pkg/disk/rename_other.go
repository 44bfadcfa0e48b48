//go:build !linux

package disk

import "errors"

// renameNew is RenameNew with one call: there is none.
func renameNew(string, string) error { return errors.ErrUnsupported }
