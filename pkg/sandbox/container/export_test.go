//go:build linux

package container

import "time"

// SetRegistryPatience sets how long a registry may send nothing, and returns what it was.
func SetRegistryPatience(d time.Duration) (before time.Duration) {
	before, registryPatience = registryPatience, d
	return before
}

// Dir is where the places of s are.
func Dir(s *Sandbox) string { return s.conf.Dir }
