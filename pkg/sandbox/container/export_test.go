//go:build linux

package container

// Dir is where the places of s are.
func Dir(s *Sandbox) string { return s.conf.Dir }
