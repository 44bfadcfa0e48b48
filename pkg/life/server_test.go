package life_test

import "builder/pkg/life"

// serverReceives is what a session does with a message. It is false when it has to
// wait: for its place, or for the conductor of the build.
func (s *state) serverReceives(i int8, m message) bool {
	h := &s.server
	switch m.kind {
	case holding:
		return s.resume(i, m)
	case lines:
		skip, ok := life.Skip(int64(h.next), int64(m.from))
		switch {
		case h.at == absent || h.closed:
		case !ok:
			s.violated("lines from %d, %d are there", m.from, h.next)
		case m.from+int8(skip) != h.next:
			s.violated("line %d is followed by line %d", h.next, m.from+int8(skip))
		default:
			h.next = max(h.next, m.to)
		}
	case done:
		switch {
		case h.at == absent && s.disk.ended == none:
			s.violated("the server does not know the build that has ended")
		case h.at == absent:
			s.answer(i, m.end, false)
		case !h.closed && m.to != h.next:
			s.violated("done after %d lines, %d have come", m.to, h.next)
		default:
			h.done, h.said, h.news = offer{m.end, m.artifacts}, m.end, true
		}
	default:
		s.violated("the worker sends %+v", m)
	}
	return true
}

// resume is the beginning of a connection.
func (s *state) resume(i int8, m message) bool {
	h := &s.server
	switch {
	case h.link > i, h.at != absent && h.heard > i: // it is stale
		s.drop(i, s.connections[i].down.n)
		return true
	case h.link != gone:
		return false // it will be noticed that the older one has ended
	case m.build && h.at != absent && (h.at == handing || h.closed):
		return false
	}
	h.link = i
	answer := message{kind: resume, build: m.build}
	switch {
	case !m.build:
		if h.at != absent {
			h.unheard, h.news = true, true
		}
	case h.at != absent:
		h.attached, h.heard, h.offered, h.said, h.news = i, i, false, none, true
		h.longAway = false
		answer.from = h.next
	case s.disk.ended == none:
		s.violated("the worker comes back, and the server does not know the build")
	case m.done:
		answer.from = m.to
	default:
		answer.no = true
	}
	s.send(i, answer)
	return true
}

func (s *state) serverEvents(progress, fault offered) {
	h := s.server
	if !h.up {
		progress("the server starts", func(t *state) { t.startServer() })
		return
	}
	for n := range s.sentDown() + 1 {
		for kept := range h.next + 1 {
			fault("the server is killed", func(t *state) { t.killServer(n, kept) })
		}
	}
	if h.stopping {
		switch h.at {
		case absent, left:
			progress("the server ends", func(t *state) { t.killServer(t.sentDown(), h.next) })
		case waiting, deciding, journaling:
			progress("the conductor leaves the build", func(t *state) { t.server.at, t.server.closed = left, true })
		default: // it is about to do something, or to end it
		}
	} else {
		fault("the server is told to end", func(t *state) { t.server.stopping = true })
	}
	if h.at == absent || h.at == left {
		return
	}
	if h.wish == none {
		fault("a user cancels", func(t *state) { t.server.wish, t.server.news = cancelled, true })
	}
	s.timerEvents(progress, fault)
	s.conductorEvents(progress)
}

// sentDown is how many messages of the server are on their way.
func (s *state) sentDown() int8 {
	if i := s.used(); i != gone {
		return s.connections[i].down.n
	}
	return 0
}

// killServer loses what was not durable: of the console all but the first lines. What
// is there of console and contents is known again when the server starts.
func (s *state) killServer(arrive, kept int8) {
	for i := range s.connections {
		if s.connections[i].open() {
			s.drop(int8(i), arrive)
		}
	}
	arrived := s.server.arrived && kept == s.server.next
	s.server = server{next: kept, arrived: arrived, link: gone, attached: gone, told: gone, heard: gone, takenFrom: gone}
	if s.disk.recorded != none {
		s.server.next, s.server.arrived = 0, false
	}
}

// startServer adopts what the one before has left.
func (s *state) startServer() {
	h := &s.server
	h.up = true
	switch {
	case s.disk.ended != none:
	case s.disk.recorded != none:
		s.end(s.disk.recorded, false)
		*h = server{up: true, link: gone, attached: gone, told: gone, heard: gone, takenFrom: gone}
	default:
		h.at, h.news = waiting, true
		h.decided, h.result = s.disk.decided != none, s.disk.decided
	}
}

// end is the event in the journal.
func (s *state) end(e end, uncounted bool) {
	switch {
	case s.disk.ended != none:
		s.violated("the build ends twice")
	case s.disk.decided != none && e != s.disk.decided:
		s.violated("end %d was decided, %d is recorded", s.disk.decided, e)
	case uncounted && s.worker.began:
		s.violated("a build was begun, and counts for nothing")
	case s.disk.lines > s.worker.lines && s.worker.phase != idle:
		s.violated("more lines than were printed")
	}
	s.disk.ended, s.disk.uncounted = e, uncounted
}

func (s *state) timerEvents(progress, fault offered) {
	h := s.server
	if h.at != waiting || h.news {
		return
	}
	passes := func(name string, passed func(h *server) *bool) {
		progress(name, func(t *state) { *passed(&t.server), t.server.news = true, true })
	}
	switch {
	case h.decided && !h.longDecided:
		passes("the artifacts have taken too long", func(h *server) *bool { return &h.longDecided })
	case h.attached == gone && !h.longAway:
		passes("the worker has been away too long", func(h *server) *bool { return &h.longAway })
	case h.wish != none && h.stopped && !h.longStopped:
		passes("the worker has not stopped in time", func(h *server) *bool { return &h.longStopped })
	case h.wish == none && h.offered && h.lacking() && h.attached != gone && !h.longIdle:
		fault("nothing of the contents has come for too long", func(t *state) { t.server.longIdle, t.server.news = true, true })
	case h.wish == none && !h.offered && !h.longRunning:
		fault("the build has taken too long", func(t *state) { t.server.longRunning, t.server.news = true, true })
	}
}

// conductorEvents are the next step of the goroutine that conducts the build.
func (s *state) conductorEvents(progress offered) {
	step := func(name string, change func(t *state, h *server)) {
		progress(name, func(t *state) { change(t, &t.server) })
	}
	switch h := s.server; h.at {
	case handing:
		step("the server hands out", func(t *state, h *server) { t.handOut() })
		if h.attached != gone && !s.connections[h.attached].worker {
			step("the server can not hand out", func(t *state, h *server) { t.unsent() })
		}
	case waiting:
		if h.news {
			step("the conductor looks for an offer", func(_ *state, h *server) {
				h.news, h.at = false, telling
				if h.done.end != none {
					h.taken, h.takenFrom, h.done, h.at = h.done, h.attached, offer{}, offering
				}
			})
		}
	case offering:
		step("the conductor takes the offer", func(t *state, h *server) { t.offer() })
	case telling:
		step("the conductor tells the worker to stop", func(t *state, h *server) {
			h.at = looking
			if h.wish != none && h.attached != gone && h.told != h.attached && !h.offered {
				h.told, h.stopped = h.attached, true
				t.send(h.attached, message{kind: stop, end: h.wish})
			}
		})
	case looking:
		step("the conductor looks", func(t *state, _ *server) { t.look() })
	case deciding:
		step("the result is decided, durably", func(t *state, h *server) {
			if t.disk.decided != none && t.disk.decided != h.step {
				t.violated("end %d was decided, and then %d", t.disk.decided, h.step)
			}
			t.disk.decided = h.step
			h.decided, h.longDecided, h.result, h.step = true, false, h.step, none
			h.at, h.news = waiting, true
		})
	case closing:
		step("the build is closed", func(t *state, h *server) { t.close() })
	case recording:
		step("the record is durable", func(t *state, h *server) {
			t.disk.recorded, t.disk.lines, h.at = h.step, h.next, journaling
		})
	case journaling:
		step("the end is durable", func(t *state, h *server) {
			t.end(h.step, h.uncounted)
			h.at = settling
		})
	case settling:
		step("the worker is told the end", func(t *state, h *server) {
			i, said, unheard := h.attached, h.said, h.unheard
			t.server = server{
				up: true, stopping: h.stopping, link: h.link,
				attached: gone, told: gone, heard: gone, takenFrom: gone,
			}
			if i != gone {
				t.answer(i, said, unheard)
			}
		})
	case absent, left:
	}
}

func (s *state) unsent() {
	h := &s.server
	h.unheard, h.at, h.step, h.uncounted = true, closing, lost, true
}

// handOut sends Start. On a connection that the worker has left it is lost, which
// need not be noticed.
func (s *state) handOut() {
	h := &s.server
	if h.attached == gone {
		s.unsent()
		return
	}
	s.send(h.attached, message{kind: start})
	h.at, h.news = waiting, true
}

// offer tells the store what the worker offers.
func (s *state) offer() {
	h := &s.server
	h.offered, h.artifacts, h.at, h.longIdle = true, h.taken.artifacts, telling, false
	if !h.decided {
		h.result = h.taken.end
	}
	if h.lacking() {
		s.send(h.takenFrom, message{kind: want})
	}
	h.taken, h.takenFrom = offer{}, gone
}

// look carries out what follows from what is known.
func (s *state) look() {
	h := &s.server
	step := s.build().Next(policy, now)
	h.at = waiting
	s.checkStep(step)
	switch {
	case step.End != nil:
		h.at, h.step, h.uncounted = closing, endOf(*step.End), step.Uncounted
	case step.Decide != nil:
		h.at, h.step = deciding, endOf(*step.Decide)
	case step.Overdue:
		h.wish, h.news = overdue, true
	}
}

// checkStep checks what is promised of the next step, whatever happens then.
func (s *state) checkStep(step life.Step) {
	h := s.server
	ends := step.End != nil
	switch {
	case h.decided && (!ends && step.Wait <= 0 || ends && endOf(*step.End) != h.result):
		s.violated("a decided build goes on with %+v", step)
	case h.unheard && !ends:
		s.violated("the server waits for a build that the worker never had")
	case h.unheard && endOf(*step.End) == lost && !step.Uncounted:
		s.violated("a build counts that the worker never had")
	case !h.unheard && step.Uncounted:
		s.violated("a build does not count that the worker had")
	case h.wish != none && h.attached == gone && !ends:
		s.violated("the end of a build is wished for, and not decided though the worker is away")
	case step.Decide != nil && !h.offered && !h.longStopped:
		s.violated("the worker is not given its time to stop")
	case ends && h.offered && h.lacking() && !h.decided && !h.longIdle && endOf(*step.End) == h.result && h.result != h.wish:
		s.violated("an end is taken without its artifacts")
	case ends && endOf(*step.End) == lost && !h.unheard && !h.longAway:
		s.violated("the worker is not given its time to come back")
	}
}

// close keeps everybody from adding to the build. What came to its end by itself is
// complete.
func (s *state) close() {
	h := &s.server
	h.closed, h.at = true, recording
	switch {
	case s.worker.phase != idle && h.next > s.worker.lines:
		s.violated("%d lines have come, %d were printed", h.next, s.worker.lines)
	case h.offered && !h.lacking() && s.worker.phase == over && h.next != s.worker.lines:
		s.violated("the end came, and %d lines of %d", h.next, s.worker.lines)
	}
}
