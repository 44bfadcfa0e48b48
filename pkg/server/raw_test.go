package server_test

import (
	"encoding/binary"

	"builder/pkg/der"
	"builder/pkg/wire"
)

// frame puts a length before an encoding.
func frame(body []byte) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(len(body))), body...)
}

// message is the frame of a kind with that content.
func message(kind wire.Kind, content []byte) []byte {
	return frame(append(der.AppendHeader(nil, der.Context(int(kind)), int64(len(content))), content...))
}
