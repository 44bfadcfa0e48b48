//go:build !linux

package main

import "context"

// containers needs Linux.
func containers(context.Context, *bench) ([]figure, error) { return nil, nil }

// containerWays need Linux.
func containerWays() (ways []way, stop func() error) { return nil, func() error { return nil } }
