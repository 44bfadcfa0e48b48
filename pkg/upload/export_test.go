package upload

import (
	"context"
	"net"
	"net/http"
)

// WithDial replaces the network.
func WithDial(dial func(ctx context.Context, network, address string) (net.Conn, error)) Option {
	return func(o *Outbox) {
		transport := o.client.Transport.(*http.Transport)
		transport.Proxy, transport.DialContext = nil, dial
	}
}
