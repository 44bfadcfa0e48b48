package wire_test

import (
	"bytes"
	"testing"

	"builder/pkg/wire"
)

// addSeeds adds the golden vectors of one type, and with them our own messages.
func addSeeds(f *testing.F, kind string, add func([]byte)) {
	for _, v := range readVectors(f) {
		if v.Type == kind && len(v.der) < 4<<10 {
			add(v.der)
		}
	}
	if kind == "cmd" {
		for _, tt := range ownMessages {
			add(encoded(f, wire.Encode(tt.message)))
		}
	}
}

// FuzzMessage: what can be decoded can be encoded, and that decodes to the same.
// One of our own messages is its own encoding, but for what is skipped in it.
func FuzzMessage(f *testing.F) {
	addSeeds(f, "cmd", func(b []byte) { f.Add(b) })
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := wire.Decode(data)
		if err != nil {
			return
		}
		again := encoded(t, wire.Encode(m))
		m2, err := wire.Decode(again)
		if err != nil {
			t.Fatalf("%x: decoding what was encoded: %v", again, err)
		}
		if d := diff(m, m2); d != "" {
			t.Errorf("decoded again (-first +second):\n%s", d)
		}
		if m.Kind() >= wire.KindWelcome && len(again) == len(data) && !bytes.Equal(again, data) {
			t.Errorf("%x was encoded as %x", data, again)
		}
	})
}

func FuzzState(f *testing.F) {
	addSeeds(f, "state", func(b []byte) { f.Add(b) })
	f.Fuzz(func(t *testing.T, data []byte) {
		items, err := decodeState(data)
		if err != nil {
			return
		}
		again, err := decodeState(encoded(t, wire.EncodeState(items)))
		if err != nil {
			t.Fatal(err)
		}
		if d := diff(items, again); d != "" {
			t.Errorf("decoded again (-first +second):\n%s", d)
		}
	})
}

func FuzzExec(f *testing.F) {
	addSeeds(f, "exec", func(b []byte) { f.Add(b) })
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := decodeExec(data)
		if err != nil {
			return
		}
		again, err := decodeExec(encoded(t, encodeExec(e)))
		if err != nil {
			t.Fatal(err)
		}
		if d := diff(e, again); d != "" {
			t.Errorf("decoded again (-first +second):\n%s", d)
		}
	})
}

// FuzzReceive: whatever a peer sends, what is received of it can be sent and
// received again.
func FuzzReceive(f *testing.F) {
	var all []byte
	addSeeds(f, "cmd", func(b []byte) {
		f.Add(frame(b))
		if len(b) < 1<<10 {
			all = append(all, frame(b)...)
		}
	})
	f.Add(all)
	f.Add(announce(wire.KindJobFinished, 1<<59))
	f.Fuzz(func(t *testing.T, data []byte) {
		messages, _ := receiveAll(newScript(data), allKinds()...)
		var sent []byte
		for _, m := range messages {
			if result, ok := m.([]byte); ok {
				m = exportReply(result)
			}
			peer := newScript(nil)
			if err := wire.NewConn(peer, nil).Send(m.(wire.Message)); err != nil {
				t.Fatal(err)
			}
			sent = append(sent, bytes.Join(peer.writes, nil)...)
		}
		again, err := receiveAll(newScript(sent), allKinds()...)
		if err != nil {
			t.Fatal(err)
		}
		if d := diff(messages, again); d != "" {
			t.Errorf("received again (-first +second):\n%s", d)
		}
	})
}
