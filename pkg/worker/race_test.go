//go:build race

package worker_test

func init() { raceEnabled = true }
