package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncAll makes everything durable that is on the file system of dir.
func syncAll(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}
