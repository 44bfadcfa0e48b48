package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// mount needs root.
func mount(dir string, octets int64) error {
	return unix.Mount("torture", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=755", octets))
}

func unmount(dir string) error { return unix.Unmount(dir, unix.MNT_DETACH) }
