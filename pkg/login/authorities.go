package login

import (
	"crypto/x509"
	"fmt"
	"os"
)

// Authorities are those of the system and those in a PEM file, whose certificates are
// believed; nil, which stands for the system's, when there is no file.
func Authorities(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading certificates: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("reading the system's certificates: %w", err)
	}
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("reading certificates: %s has none in PEM (BEGIN CERTIFICATE)", file)
	}
	return pool, nil
}
