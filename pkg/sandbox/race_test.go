//go:build race

package sandbox_test

func init() { raceDetector = true }
