//go:build linux

package container_test

func beWorker() error { return nil }
