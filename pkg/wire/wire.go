// Package wire is the protocol: framing, messages, handshake, connection, and
// the reference's state and result files. It decides nothing: what a message
// does is told by package server, worker or client.
//
// Three versions are spoken (docs/protocol.md): 13 with the reference's
// clients, 5 with its workers, and [OwnVersion] between our own programs.
//
// A frame is an 8-octet big-endian length followed by that many octets, one DER
// value of the CHOICE Cmd. Its tag, read first, is its [Kind]: which kinds may
// come and how long each may be is checked before memory is taken.
//
//	+----------------+-----+--------+---------------------+
//	| length, 8 oct. | tag | length | content of the kind |
//	+----------------+-----+--------+---------------------+
//	                 '------- length octets of DER -------'
package wire

import (
	"fmt"

	"builder/pkg/job"
)

// The versions.
const (
	ClientVersion = 13   // the reference's clients
	WorkerVersion = 5    // the reference's workers
	OwnVersion    = 1001 // ours; it stays, features are told by capabilities
)

// DefaultPort is where the server listens.
const DefaultPort = 1234

// Kind is the tag number of a message.
type Kind int

// The reference's messages. 0, 1 and 8 are retired; 7 and 11 are only read.
const (
	KindJobSchedule    Kind = 2
	KindJobFinished    Kind = 3
	KindOutput         Kind = 4
	KindSchedule       Kind = 5
	KindInfo           Kind = 6
	KindInfoReplyOld   Kind = 7
	KindUnschedule     Kind = 9
	KindObserve        Kind = 10
	KindExecuteOld     Kind = 11
	KindScheduleOrb    Kind = 12
	KindReschedule     Kind = 13
	KindClientHello    Kind = 14
	KindServerHello    Kind = 15
	KindJobRequested   Kind = 16
	KindDropPlatform   Kind = 17
	KindSuccess        Kind = 18
	KindFailure        Kind = 19
	KindExecute        Kind = 20
	KindUndropPlatform Kind = 21
	KindInfoReply      Kind = 22
)

// Our own messages, from version 1001.
const (
	KindWelcome     Kind = 64
	KindIntroduce   Kind = 65
	KindDefine      Kind = 66
	KindAccepted    Kind = 67
	KindStatus      Kind = 68
	KindStatusReply Kind = 69
	KindWatch       Kind = 70
	KindWatching    Kind = 71
	KindLines       Kind = 72
	KindEnded       Kind = 73
	KindList        Kind = 74
	KindListReply   Kind = 75
	KindExport      Kind = 76
	KindExportReply Kind = 77
	KindCancel      Kind = 78
	KindStop        Kind = 79
	KindStart       Kind = 80
	KindFinish      Kind = 81
	KindStored      Kind = 82
	KindDismissed   Kind = 83
	KindHolding     Kind = 84
	KindResume      Kind = 85
	KindDone        Kind = 86
	KindWant        Kind = 87
	KindDeliver     Kind = 88
	KindContent     Kind = 89
	KindMissing     Kind = 90
	KindAlive       Kind = 91
	KindLater       Kind = 92
	KindPin         Kind = 93
	KindPinned      Kind = 94
	KindPrune       Kind = 95
	KindPruneReply  Kind = 96
	KindDescribe    Kind = 97
	KindDescribed   Kind = 98
	KindFetch       Kind = 99
	KindFind        Kind = 100

	KindOutbox       Kind = 103
	KindOutboxReply  Kind = 104
	KindOutboxChange Kind = 105
)

// MaxScript is the longest script, in octets.
const MaxScript = 16 << 20

const (
	kilobyte = 1 << 10
	megabyte = 1 << 20
	// unlimited marks frames that are streamed, whose parts have limits of their own.
	unlimited = 1 << 60
)

// kinds holds every kind's name and its longest frame in octets.
var kinds = map[Kind]struct {
	name  string
	limit int64
}{
	KindJobSchedule:    {"job schedule", MaxScript + megabyte},
	KindJobFinished:    {"job finished", unlimited},
	KindOutput:         {"output", 64 * megabyte}, // the reference does not split lines
	KindSchedule:       {"schedule", MaxScript + megabyte},
	KindInfo:           {"info", 16},
	KindInfoReplyOld:   {"info reply", 1024 * megabyte},
	KindUnschedule:     {"unschedule", 4 * kilobyte},
	KindObserve:        {"observe", 64},
	KindExecuteOld:     {"execute", 4 * kilobyte},
	KindScheduleOrb:    {"schedule orb build", 64 * kilobyte},
	KindReschedule:     {"reschedule", 4 * kilobyte},
	KindClientHello:    {"client hello", 64},
	KindServerHello:    {"server hello", 16},
	KindJobRequested:   {"job requested", 4 * kilobyte},
	KindDropPlatform:   {"drop platform", 4 * kilobyte},
	KindSuccess:        {"success", 16},
	KindFailure:        {"failure", megabyte},
	KindExecute:        {"execute", 8 * kilobyte},
	KindUndropPlatform: {"undrop platform", 4 * kilobyte},
	KindInfoReply:      {"info reply", 1024 * megabyte},

	KindWelcome:     {"welcome", 64 * kilobyte},
	KindIntroduce:   {"introduce", 8 * kilobyte},
	KindDefine:      {"define", MaxScript + megabyte},
	KindAccepted:    {"accepted", megabyte},
	KindStatus:      {"status", 4 * kilobyte},
	KindStatusReply: {"status reply", 1024 * megabyte},
	KindWatch:       {"watch", 8 * kilobyte},
	KindWatching:    {"watching", 64 * kilobyte},
	KindLines:       {"lines", 4 * job.MaxLine},
	KindEnded:       {"ended", 64 * megabyte},
	KindList:        {"list", 8 * kilobyte},
	KindListReply:   {"list reply", 1024 * megabyte},
	KindExport:      {"export", 4 * kilobyte},
	KindExportReply: {"export reply", unlimited},
	KindCancel:      {"cancel", 8 * kilobyte},
	KindStop:        {"stop", 8 * kilobyte},
	KindStart:       {"start", MaxScript + megabyte},
	KindFinish:      {"finish", unlimited},
	KindStored:      {"stored", 64 * kilobyte},
	KindDismissed:   {"dismissed", 64 * kilobyte},
	KindHolding:     {"holding", megabyte},
	KindResume:      {"resume", megabyte},
	KindDone:        {"done", 64 * megabyte},
	KindWant:        {"want", 16 * megabyte},
	KindDeliver:     {"deliver", 64},
	KindContent:     {"content", unlimited},
	KindMissing:     {"missing", 64 * kilobyte},
	KindAlive:       {"alive", 64},
	KindLater:       {"later", 4 * kilobyte},
	KindPin:         {"pin", 4 * kilobyte},
	KindPinned:      {"pinned", 64},
	KindPrune:       {"prune", 4 * kilobyte},
	KindPruneReply:  {"prune reply", 1024 * megabyte},
	KindDescribe:    {"describe", 8 * kilobyte},
	KindDescribed:   {"described", 64 * megabyte},
	KindFetch:       {"fetch", smallFrame}, // which a slow reader of the answer holds
	KindFind:        {"find", 4 * kilobyte},

	KindOutbox:       {"outbox", 8 * kilobyte},
	KindOutboxReply:  {"outbox reply", 64 * megabyte},
	KindOutboxChange: {"outbox change", 8 * kilobyte},
}

// String names the kind in messages.
func (k Kind) String() string {
	if known, ok := kinds[k]; ok {
		return fmt.Sprintf("%s [%d]", known.name, int(k))
	}
	return fmt.Sprintf("message [%d]", int(k))
}

// Limit is the longest frame of that kind, in octets.
func (k Kind) Limit() int64 { return kinds[k].limit }
