// Package containertest starts daemons of containerd for tests and figures: real ones,
// with a directory and a socket of their own, and images made of what the machine has.
// It knows nothing of builds.
package containertest
