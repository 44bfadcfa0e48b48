package upload

import (
	"context"
	"net"
)

// Dialing replaces the network.
func Dialing(dial func(ctx context.Context, network, address string) (net.Conn, error)) FrontendOptions {
	return FrontendOptions{dial: dial}
}
