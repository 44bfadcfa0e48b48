package wire

import (
	"fmt"
	"net"
	"time"
)

// KeepAlive notices a peer that went without a word after about a minute.
var KeepAlive = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}

// WatchOver makes the system end a TCP connection whose peer has vanished, even
// if something was sent to it that it has not acknowledged: probes are not sent
// then, and without a bound of its own it would be sent again for a quarter of an
// hour. On systems without that bound the quarter of an hour remains.
func WatchOver(c *net.TCPConn, k net.KeepAliveConfig) error {
	if err := c.SetKeepAliveConfig(k); err != nil {
		return fmt.Errorf("setting keepalive: %w", err)
	}
	if err := setUserTimeout(c, k.Idle+time.Duration(k.Count)*k.Interval); err != nil {
		return fmt.Errorf("bounding the time without an acknowledgement: %w", err)
	}
	return nil
}
