package life_test

import (
	"time"

	"builder/pkg/job"
	"builder/pkg/life"
)

// The model of a build's life. It is one build, the worker that it was handed out
// to, a server, and the connections between the two. What the server concludes is
// the code itself ([life.Build.Next], [life.Ended], [life.Skip]); what package
// server does around it, and all of package worker, is rendered here, in steps
// between which anything else may happen.
//
// It leaves out: other builds, which share nothing but the connection; disks that
// refuse or forget what was written, but for the server's console and the worker's
// end; workers that
// break the rules; how contents come, in pieces and with wrong hashes; the order in
// which different timers pass.

// end is how a build ends, in the model.
type end int8

const (
	none end = iota
	exited
	cancelled // the wish of a user
	overdue   // the wish of the server
	useless   // the worker stops what the server has no use for
	restarted
	shutDown
	noPlace
	lost
)

var ends = [...]job.Result{
	exited:    {Kind: job.Exited},
	cancelled: job.Failure(job.Cancelled, "cancelled"),
	overdue:   job.Failure(job.Timeout, "timeout"),
	useless:   job.Failure(job.Cancelled, "the server has no use for the build"),
	restarted: job.Failure(job.Restarted, "worker restarted"),
	shutDown:  job.Failure(job.ShutDown, "worker shut down"),
	noPlace:   job.Failure(job.NoSandbox, "no place"),
	lost:      job.Failure(job.WorkerLost, "worker lost"),
}

// result is nil for none.
func (e end) result() *job.Result {
	if e == none {
		return nil
	}
	return &ends[e]
}

func endOf(r job.Result) end {
	if r.Cause == job.WorkerLost {
		return lost // the texts differ
	}
	for e := exited; int(e) < len(ends); e++ {
		if ends[e] == r {
			return e
		}
	}
	panic("the server made up an end: " + r.String())
}

// message is what is on its way.
type message struct {
	kind
	from, to  int8 // lines: from line from to line to; done and holding: to of them; resume: go on with from
	end       end  // of done, stop
	build     bool // holding, resume: they speak of the build
	done      bool // holding: it has ended
	no        bool // resume: it is over; stored: it was refused
	artifacts bool // done: there are any
}

type kind int8

const (
	holding kind = iota + 1
	lines
	done
	resume
	start
	stop
	want
	stored
)

// queue is one direction of a connection.
type queue struct {
	n    int8
	sent [6]message
}

func (q *queue) full() bool { return int(q.n) == len(q.sent) }

func (q *queue) push(m message) {
	q.sent[q.n] = m
	q.n++
}

func (q *queue) pop() message {
	m := q.sent[0]
	copy(q.sent[:], q.sent[1:])
	q.cut(q.n - 1)
	return m
}

// cut loses what is behind the first n.
func (q *queue) cut(n int8) {
	clear(q.sent[n:])
	q.n = n
}

// connection has two ends, each of which finds out by itself that it is broken.
type connection struct {
	worker, server bool // who still uses it
	up, down       queue
}

func (c connection) open() bool { return c.worker || c.server }

// gone is in place of the index of a connection.
const gone int8 = -1

// state is all of it. It is comparable, and made the same in different ways where
// it means the same.
type state struct {
	broken string // what is wrong, if anything is
	faults int8   // that may still happen
	limit  int8   // of lines

	connections [2]connection // the older one first
	worker      worker
	server      server
	disk        disk // the server's
}

// worker is rendered from package worker.
type worker struct {
	up    bool
	phase phase
	// What follows is of the build.
	spooled   bool // survives the process
	dead      bool // its script ended with an earlier process
	lines     int8
	end       end  // with phase over, in the spool if there is one
	unkept    bool // the end is not: the disk was full
	artifacts bool
	wish      end  // it was told, or has decided, to stop it so
	released  bool // it was heard that the server has it, or has no use for it
	refused   bool // the latter

	// The courier, of the connection that the worker uses.
	courier, said, wanted bool
	next                  int8

	began bool // ever
}

type phase int8

const (
	idle     phase = iota // nothing is held
	received              // a start has come
	running               // it is in the spool
	over                  // the script has ended
)

// server is what is lost with the process.
type server struct {
	up, stopping bool
	link         int8 // the connection that is the worker's, or gone
	at           stage
	news         bool

	// What follows is what [held] in package server knows.
	attached, told, heard int8 // connections, or gone
	unheard, offered      bool
	said, result          end
	done, taken           offer // that nobody has looked at; that is being looked at
	takenFrom             int8
	artifacts, arrived    bool // of the offer
	wish                  end
	next                  int8
	closed                bool
	decided               bool
	stopped               bool // was told, ever
	// Timers that have passed.
	longAway, longStopped, longDecided, longRunning, longIdle bool

	step      end // that is being carried out
	uncounted bool
}

// offer is what is kept of a done.
type offer struct {
	end       end
	artifacts bool
}

// stage is where the conductor of the build is.
type stage int8

const (
	absent   stage = iota // no build
	handing               // the hand-out is durable
	waiting               // for news
	offering              // has taken the done
	telling
	looking
	deciding
	closing
	recording
	journaling
	settling
	left // to the next server
)

// disk is what is durable of the server.
type disk struct {
	decided, ended, recorded end
	uncounted                bool
	lines                    int8 // of the record
}

var policy = life.Policy{
	Limits:      job.Limits{Timeout: time.Hour, Grace: time.Minute},
	WorkerGrace: 5 * time.Minute, CollectTimeout: 10 * time.Minute,
}

var now = time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)

// since is a time that a timer counts from.
func since(counts, passed bool, timer time.Duration) time.Time {
	switch {
	case !counts:
		return time.Time{}
	case passed:
		return now.Add(-timer)
	}
	return now
}

// build is what the server knows.
func (s *state) build() life.Build {
	h := &s.server
	return life.Build{
		Started:   since(true, h.longRunning, policy.Limits.Timeout+policy.Limits.Grace+life.OverdueSlack),
		Connected: h.attached != gone, Away: since(h.attached == gone, h.longAway, policy.WorkerGrace),
		Unheard: h.unheard, Wish: h.wish.result(), Told: since(h.stopped, h.longStopped, policy.Limits.Grace+life.StopSlack),
		Offered: h.offered, Lacking: h.lacking(), Result: ends[h.result],
		Arrived: since(h.offered, h.longIdle, policy.CollectTimeout),
		Decided: since(h.decided, h.longDecided, policy.CollectTimeout),
	}
}

func (h *server) lacking() bool { return h.artifacts && !h.arrived }

// begin is a build that has just been handed out on a connection.
func begin(lines, faults int8) state {
	s := state{faults: faults, limit: lines, worker: worker{up: true}}
	s.connections[0] = connection{worker: true, server: true}
	s.server = server{up: true, at: handing, attached: 0, heard: 0, link: 0, told: gone, takenFrom: gone}
	return s
}

// beginLate is the same, and what the worker said on an older connection is still on
// its way.
func beginLate(lines, faults int8) state {
	s := begin(lines, faults)
	s.connections[1] = s.connections[0]
	s.connections[0] = connection{server: true}
	s.connections[0].up.push(message{kind: holding})
	s.server.attached, s.server.heard, s.server.link = 1, 1, 1
	return s
}

// finished reports whether nothing is left to do.
func (s *state) finished() bool {
	return s.disk.ended != none && s.worker.phase == idle && s.server.at == absent
}
