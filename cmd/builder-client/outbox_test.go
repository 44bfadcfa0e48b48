package main_test

import (
	"bytes"
	"testing"
	"time"

	cli "builder/cmd/builder-client"

	"builder/pkg/wire"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// fullOutbox is one in which nothing is empty.
func fullOutbox() wire.OutboxReply {
	return wire.OutboxReply{
		Remotes: everything().Remotes,
		Posts: []wire.PostStatus{
			{UUID: uuid.UUID{1}, Job: "nightly", Remote: "https://host/upload", Parked: "the remote answered 401 Unauthorized"},
			{UUID: uuid.UUID{2}, Job: "nightly", Remote: "https://host/upload", Tries: 2, Next: now.Add(time.Minute), Error: "odd\x1b[2J"},
			{UUID: uuid.UUID{3}, Job: "nightly", Remote: "https://host/upload", Sending: true},
			{UUID: uuid.UUID{4}, Job: "nightly", Remote: "https://host/upload"},
			{UUID: uuid.UUID{5}, Remote: "http://old/upload"},
		},
		Changed: 7,
	}
}

func TestWriteOutbox(t *testing.T) {
	for _, test := range []struct {
		name  string
		reply wire.OutboxReply
		want  string
	}{
		{"much", fullOutbox(), `Outbox
  REMOTE                              WAITING  PARKED
  https://host/upload                 3        2: see ` + "`outbox`" + `
  http://old/upload (not configured)  1        0

Builds
  BUILD                                 JOB      REMOTE               TRIES  STATE
  01000000-0000-0000-0000-000000000000  nightly  https://host/upload  0      parked: the remote answered 401 Unauthorized
  02000000-0000-0000-0000-000000000000  nightly  https://host/upload  2      next try in 1 min 0 s; odd\x1b[2J
  03000000-0000-0000-0000-000000000000  nightly  https://host/upload  0      is being sent
  04000000-0000-0000-0000-000000000000  nightly  https://host/upload  0      waits
  05000000-0000-0000-0000-000000000000  -        http://old/upload    0      waits; its remote is not configured
  ... of 6 in all (--limit, --to)
`},
		{"nothing", wire.OutboxReply{}, `Outbox
  nothing is uploaded

Builds
  all are where they should be
`},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			if err := cli.WriteOutbox(&out, test.reply, now); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, out.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}
