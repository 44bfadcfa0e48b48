//go:build !linux

package wire

import (
	"net"
	"time"
)

// setUserTimeout does nothing where there is no such option.
func setUserTimeout(*net.TCPConn, time.Duration) error { return nil }
