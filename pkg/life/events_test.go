package life_test

import (
	"fmt"

	"builder/pkg/life"
)

// emit takes an event that may happen next and the state after it. Without faults
// and wishes, what begins must end: fault events are not needed for that.
type emit func(name string, fault bool, to state)

// events are all that may happen in s.
func (s state) events(out emit) {
	progress := func(name string, change func(t *state)) {
		t := s
		change(&t)
		t.tidy()
		out(name, false, t)
	}
	fault := func(name string, change func(t *state)) {
		if s.faults <= 0 {
			return
		}
		t := s
		t.faults--
		change(&t)
		t.tidy()
		out(name, true, t)
	}
	s.networkEvents(progress, fault)
	s.workerEvents(progress, fault)
	s.serverEvents(progress, fault)
}

// offered is a way to offer an event.
type offered func(name string, change func(t *state))

// violated notes the first thing that is wrong.
func (s *state) violated(format string, args ...any) {
	if s.broken == "" {
		s.broken = fmt.Sprintf(format, args...)
	}
}

// tidy forgets connections that nobody uses.
func (s *state) tidy() {
	for s.connections[0] != (connection{}) && !s.connections[0].open() ||
		s.connections[0] == (connection{}) && s.connections[1] != (connection{}) {
		s.connections[0], s.connections[1] = s.connections[1], connection{}
		for _, index := range []*int8{&s.server.link, &s.server.attached, &s.server.told, &s.server.heard, &s.server.takenFrom} {
			*index = max(gone, *index-1)
		}
	}
	if s.connections[1] != (connection{}) && !s.connections[1].open() {
		s.connections[1] = connection{}
		for _, index := range []*int8{&s.server.link, &s.server.attached, &s.server.told, &s.server.takenFrom} {
			if *index == 1 {
				*index = gone
			}
		}
		s.server.heard = min(s.server.heard, 1)
	}
}

// used is the connection that the worker uses, or gone.
func (s *state) used() int8 {
	for i, c := range s.connections {
		if c.worker {
			return int8(i)
		}
	}
	return gone
}

// hangUp is the worker's end of its connection: of what it has sent the first n
// messages arrive.
func (s *state) hangUp(n int8) {
	if i := s.used(); i != gone {
		c := &s.connections[i]
		c.worker, c.down = false, queue{}
		c.up.cut(min(n, c.up.n))
	}
	s.worker.courier, s.worker.said, s.worker.wanted, s.worker.next = false, false, false, 0
}

// drop is the server's end of a connection.
func (s *state) drop(i, n int8) {
	c := &s.connections[i]
	c.server, c.up = false, queue{}
	c.down.cut(min(n, c.down.n))
	h := &s.server
	if h.link == i {
		h.link = gone
	}
	if h.attached == i && h.at != absent {
		h.attached, h.longAway, h.news = gone, false, true
	}
}

func (s *state) networkEvents(progress, fault offered) {
	if i := s.used(); i != gone {
		c := s.connections[i]
		for n := range c.up.n + 1 {
			fault("the worker loses the connection", func(t *state) { t.hangUp(n) })
		}
		if c.server {
			for n := range c.down.n + 1 {
				fault("the server loses the connection", func(t *state) { t.drop(i, n) })
			}
		}
		if !c.server && c.down.n == 0 {
			progress("the worker notices the end of the connection", func(t *state) { t.hangUp(0) })
		}
		if c.down.n > 0 {
			progress("the worker receives", func(t *state) {
				m := t.connections[i].down.pop()
				t.workerReceives(m)
			})
		}
	}
	for i := range int8(2) {
		c := s.connections[i]
		if !c.server {
			continue
		}
		if !c.worker && c.up.n == 0 {
			progress("the server notices the end of the connection", func(t *state) { t.drop(i, 0) })
		}
		if c.up.n > 0 {
			t := s.copy()
			m := t.connections[i].up.pop()
			if t.serverReceives(i, m) {
				progress("the server receives", func(u *state) { *u = t })
			}
		}
	}
}

func (s *state) copy() state { return *s }

func (s *state) workerEvents(progress, fault offered) {
	w := s.worker
	if !w.up {
		progress("the worker starts", func(t *state) { t.worker.up = true })
		return
	}
	for n := range s.sentUp() + 1 {
		fault("the worker is killed", func(t *state) { t.killWorker(n) })
	}
	i := s.used()
	if i == gone && s.server.up && !s.server.stopping && !s.connections[1].open() {
		progress("the worker connects", func(t *state) { t.connect() })
	}
	if w.released && w.phase == over {
		progress("the worker lets go of the build", func(t *state) { t.letGo() })
	}
	if i != gone && w.courier && !s.connections[i].up.full() && s.connections[i].server {
		switch {
		case w.next < w.lines:
			progress("the worker sends lines", func(t *state) {
				t.connections[i].up.push(message{kind: lines, from: w.next, to: w.lines})
				t.worker.next = w.lines
			})
		case w.phase == over && !w.said:
			progress("the worker sends done", func(t *state) {
				t.connections[i].up.push(message{kind: done, to: max(w.lines, w.next), end: w.end, artifacts: w.artifacts})
				t.worker.said = true
			})
		}
	}
	if h := s.server; i != gone && w.courier && w.wanted && h.at != absent && h.offered && !h.closed && h.lacking() {
		progress("the contents arrive, or are missing", func(t *state) {
			t.worker.wanted, t.server.arrived, t.server.news = false, true, true
		})
	}
	s.scriptEvents(progress, fault)
}

// scriptEvents are those of a build that the worker runs.
func (s *state) scriptEvents(progress, fault offered) {
	w := s.worker
	ends := func(offer offered, name string, e end, spooled bool) {
		for _, artifacts := range []bool{false, true}[:1+min(1, int(w.phase-received))] {
			offer(name, func(t *state) {
				t.worker.phase, t.worker.end, t.worker.spooled, t.worker.artifacts = over, e, spooled, artifacts
				t.worker.wish, t.worker.dead = none, false
			})
		}
	}
	switch {
	case w.phase == received && w.wish != none:
		ends(progress, "the worker stops before the script began", w.wish, false)
	case w.phase == received:
		ends(fault, "the worker can make no place", noPlace, false)
		progress("the script begins", func(t *state) {
			t.worker.phase, t.worker.spooled, t.worker.began = running, true, true
		})
	case w.phase == running && w.wish != none:
		ends(progress, "the script is ended", w.wish, true)
	case w.phase == running && w.dead:
		ends(progress, "the worker ends what died with it", restarted, true)
	case w.phase == running:
		ends(progress, "the script ends", exited, true)
		fault("the script ends, which can not be kept", func(t *state) {
			t.worker.phase, t.worker.end, t.worker.artifacts, t.worker.unkept = over, exited, true, true
		})
		fault("the worker is told to end at once", func(t *state) { t.worker.wish = shutDown })
	}
	if w.phase == running && !w.dead && w.lines < s.limit {
		progress("the script prints", func(t *state) { t.worker.lines++ })
	}
}

// sentUp is how many messages of the worker are on their way.
func (s *state) sentUp() int8 {
	if i := s.used(); i != gone {
		return s.connections[i].up.n
	}
	return 0
}

func (s *state) killWorker(arrive int8) {
	s.hangUp(arrive)
	w := &s.worker
	w.up, w.wish, w.released, w.refused = false, none, false, false
	if !w.spooled {
		s.worker = worker{began: w.began}
		return
	}
	if w.unkept {
		w.phase, w.end, w.artifacts, w.unkept = running, none, false, false
	}
	w.dead = w.phase == running
}

func (s *state) connect() {
	i := 0
	if s.connections[0].open() {
		i = 1
	}
	w := s.worker
	m := message{kind: holding}
	if w.phase != idle && !w.released {
		m.build, m.to, m.done = true, w.lines, w.phase == over
	}
	s.connections[i] = connection{worker: true, server: true}
	s.connections[i].up.push(m)
}

// letGo forgets a build that is stored, or sets it aside.
func (s *state) letGo() {
	w := s.worker
	if !w.refused && (s.disk.ended != w.end || s.disk.recorded != w.end) {
		s.violated("the worker forgets end %d, the server has %+v", w.end, s.disk)
	}
	s.worker = worker{up: true, began: w.began}
}

func (s *state) workerReceives(m message) {
	w := &s.worker
	switch m.kind {
	case resume:
		switch {
		case !m.build:
		case m.no:
			s.release(true)
		default:
			w.courier, w.next = true, m.from
		}
	case start:
		if w.phase != idle {
			s.violated("the build is handed out twice")
		}
		w.phase, w.courier = received, true
	case stop:
		if w.wish == none && (w.phase == received || w.phase == running) {
			w.wish = m.end
		}
	case want:
		w.wanted = w.courier
	case stored:
		if !w.courier {
			return
		}
		if w.phase != over {
			s.violated("the server has stored a build that runs")
		}
		s.release(m.no)
	default:
		s.violated("the server sends %+v", m)
	}
}

func (s *state) release(refused bool) {
	w := &s.worker
	w.released, w.refused = true, refused
	w.courier, w.said, w.wanted, w.next = false, false, false, 0
	if w.wish == none && w.phase != over {
		w.wish = useless
	}
}

// answer is what the worker hears on connection i of a build that has ended.
func (s *state) answer(i int8, said end, unheard bool) {
	m := message{}
	switch life.Ended(ends[s.disk.ended], said.result(), unheard) {
	case life.Nothing:
		return
	case life.Stop:
		m = message{kind: stop, end: s.disk.ended}
	case life.Forget:
		m = message{kind: stored}
		if said != s.disk.ended {
			s.violated("end %d is told to be stored, it is %d", said, s.disk.ended)
		}
	case life.SetAside:
		m = message{kind: stored, no: true}
	}
	s.send(i, m)
}

// send is lost when nobody is there to hear it.
func (s *state) send(i int8, m message) {
	if i != gone && s.connections[i].worker && s.connections[i].server {
		s.connections[i].down.push(m)
	}
}
