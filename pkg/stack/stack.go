// Package stack makes room on a goroutine's stack ahead of time.
package stack

import "runtime"

// size is more than the goroutines of a build use.
const size = 12 << 10

// Grow makes the stack of the goroutine that calls it large at once. A stack begins
// small; each time that it is full the runtime makes one twice as large, and moves
// there, frame by frame, all that is on the old one. For a goroutine that begins with
// Grow there is nothing to move yet. That is worth it where many goroutines live
// shortly and call deeply: moving took a twentieth of what server and worker do for a
// small build.
//
//go:noinline
func Grow() {
	var room [size]byte
	runtime.KeepAlive(&room)
}
