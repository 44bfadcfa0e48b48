package wire_test

import (
	"testing"

	"builder/pkg/wire"
)

func TestAddress(t *testing.T) {
	for typed, want := range map[string]string{
		"localhost":        "localhost:1234",
		"build.example:80": "build.example:80",
		"127.0.0.1":        "127.0.0.1:1234",
		"::1":              "[::1]:1234",
		"[::1]":            "[::1]:1234",
		"[::1]:99":         "[::1]:99",
		"fe80::1%eth0":     "[fe80::1%eth0]:1234",
		"":                 "",
		":1234":            "",
		"localhost:":       "",
		"localhost:0":      "",
		"localhost:99999":  "",
		"localhost:http":   "",
		"http://localhost": "",
		"http://h:80":      "",
		":::1":             "",
		"a b":              "",
		"[::1":             "",
	} {
		got, err := wire.Address(typed)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("Address(%q) = %q, %v, want %q", typed, got, err, want)
		}
	}
}
