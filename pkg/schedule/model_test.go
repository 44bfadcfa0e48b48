package schedule_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"builder/pkg/job"
	"builder/pkg/schedule"

	"github.com/google/uuid"
)

// model is the schedule written down as simply as can be: slices, searched from
// front to back. Its methods change it and report whether the request is legal.
type model struct {
	entries   []modelEntry
	platforms []modelPlatform
	queue     []modelRun // of all platforms; the next one of each is in front
	building  []modelBuild
	outbox    []schedule.Post
	runs      uint64
}

type modelEntry struct {
	job  job.Job
	plan job.Plan
	next time.Time
	last uuid.UUID
	// ends in a row, of their cause
	losses, setbacks int
}

type modelPlatform struct {
	name    string
	dropped bool
}

type modelRun struct {
	id       uint64
	job      job.Job
	platform string
	tries    int
	after    time.Time
}

type modelBuild struct {
	uuid     uuid.UUID
	run      modelRun
	workerID string
	expanded job.Content
	decided  string // the result's words, "" while it is open
	result   job.Result
}

func (m *model) entry(name string) *modelEntry {
	for i := range m.entries {
		if m.entries[i].job.Name == name {
			return &m.entries[i]
		}
	}
	return nil
}

func (m *model) platform(name string) *modelPlatform {
	for i := range m.platforms {
		if m.platforms[i].name == name {
			return &m.platforms[i]
		}
	}
	return nil
}

func (m *model) know(name string) {
	if m.platform(name) == nil {
		m.platforms = append(m.platforms, modelPlatform{name: name})
	}
}

func (m *model) dropped(name string) bool {
	p := m.platform(name)
	return p != nil && p.dropped
}

func (m *model) queued(name, platform string) int {
	return slices.IndexFunc(m.queue, func(r modelRun) bool { return r.job.Name == name && r.platform == platform })
}

func (m *model) parked(name string) bool {
	e := m.entry(name)
	return e != nil && e.losses >= 3
}

// moveToEnd does what happens to a job's runs when it is parked or freed.
func (m *model) moveToEnd(name string) {
	var moved []modelRun
	m.queue = slices.DeleteFunc(m.queue, func(r modelRun) bool {
		if r.job.Name == name {
			moved = append(moved, r)
		}
		return r.job.Name == name
	})
	m.queue = append(m.queue, moved...)
}

func (m *model) request(j job.Job, platform string, front bool) {
	m.know(platform)
	i := m.queued(j.Name, platform)
	switch {
	case i >= 0 && front:
		run := m.queue[i]
		run.after = time.Time{}
		m.queue = slices.Insert(slices.Delete(m.queue, i, i+1), 0, run)
	case i < 0:
		m.runs++
		run := modelRun{id: m.runs, job: j, platform: platform}
		if front {
			m.queue = slices.Insert(m.queue, 0, run)
		} else {
			m.queue = append(m.queue, run)
		}
	}
}

func modelTargets(j job.Job, on []string) []string {
	if j.Platform != "" {
		return []string{j.Platform}
	}
	return on
}

// modelNext goes from one time to the next.
func modelNext(plan job.Plan, planned, now time.Time) time.Time {
	step := plan.Every
	switch {
	case plan.Cron != "":
		planned, step = now.Truncate(time.Hour), time.Hour // the test knows one expression
	case step == 0 && plan.Period == job.Never:
		return time.Time{}
	case step == 0:
		step = map[job.Period]time.Duration{job.Hourly: time.Hour, job.Daily: 24 * time.Hour, job.Weekly: 168 * time.Hour}[plan.Period]
	}
	for planned = planned.Add(step); !planned.After(now); {
		planned = planned.Add(step)
	}
	return planned
}

func (m *model) schedule(now time.Time, j job.Job, plan job.Plan, on []string, update bool) bool {
	old := m.entry(j.Name)
	if old != nil && !update || j.Platform != "" && m.dropped(j.Platform) {
		return false
	}
	if old == nil {
		m.entries = append(m.entries, modelEntry{})
		old = &m.entries[len(m.entries)-1]
	}
	old.job, old.plan, old.next = j, plan, modelNext(plan, now, now)
	if j.Platform != "" {
		m.know(j.Platform)
	}
	targets := modelTargets(j, on)
	m.queue = slices.DeleteFunc(m.queue, func(r modelRun) bool {
		return r.job.Name == j.Name && !slices.Contains(targets, r.platform)
	})
	for i := range m.queue {
		if m.queue[i].job.Name == j.Name {
			m.queue[i].job = j
		}
	}
	for _, p := range targets {
		if plan.Cron == "" && !m.dropped(p) {
			m.request(j, p, false)
		}
	}
	return true
}

func (m *model) unschedule(name string) bool {
	known := m.entry(name) != nil
	if known {
		m.entries = slices.DeleteFunc(m.entries, func(e modelEntry) bool { return e.job.Name == name })
		m.cancel(func(r modelRun) bool { return r.job.Name == name })
	}
	return known
}

func (m *model) cancel(which func(modelRun) bool) bool {
	before := len(m.queue)
	m.queue = slices.DeleteFunc(m.queue, which)
	return len(m.queue) < before
}

func (m *model) execute(name, platform string, on []string) bool {
	e := m.entry(name)
	if e == nil {
		return false
	}
	var ready []string
	for _, p := range modelTargets(e.job, on) {
		if (platform == "" || p == platform) && !m.dropped(p) {
			ready = append(ready, p)
		}
	}
	if len(ready) > 0 && m.parked(name) {
		e.losses = 0
		m.moveToEnd(name)
	}
	for _, p := range ready {
		m.request(e.job, p, true)
	}
	return len(ready) > 0
}

func (m *model) reschedule(name string, t time.Time, plan *job.Plan) bool {
	e := m.entry(name)
	if e == nil {
		return false
	}
	e.next = t
	if plan != nil {
		e.plan = *plan
	}
	return true
}

func (m *model) due(now time.Time, on func(job.Job) []string) {
	var names []string
	sorted := slices.SortedFunc(slices.Values(m.entries), func(a, b modelEntry) int {
		return cmp.Or(a.next.Compare(b.next), cmp.Compare(a.job.Name, b.job.Name))
	})
	for _, e := range sorted {
		if !e.next.IsZero() && !e.next.After(now) {
			names = append(names, e.job.Name)
		}
	}
	for _, name := range names {
		e := m.entry(name)
		e.next = modelNext(e.plan, e.next, now)
		if m.parked(name) {
			continue
		}
		for _, p := range modelTargets(e.job, on(e.job)) {
			if m.queued(name, p) < 0 && !slices.ContainsFunc(m.building, func(b modelBuild) bool {
				return b.run.job.Name == name && b.run.platform == p
			}) {
				m.request(e.job, p, false)
			}
		}
	}
}

// ready is the index of the run that a worker gets, -1 for none.
func (m *model) ready(now time.Time, platform string) int {
	best := -1
	for i, r := range m.queue {
		if r.platform != platform || r.after.After(now) || m.parked(r.job.Name) {
			continue
		}
		if best < 0 || !r.after.IsZero() &&
			(m.queue[best].after.IsZero() || r.after.Before(m.queue[best].after) ||
				r.after.Equal(m.queue[best].after) && r.id < m.queue[best].id) {
			best = i
		}
	}
	if p := m.platform(platform); p == nil || p.dropped {
		return -1
	}
	return best
}

func (m *model) handOut(now time.Time, platform, workerID string, id uuid.UUID) bool {
	i := m.ready(now, platform)
	if i >= 0 {
		m.building = append(m.building, modelBuild{uuid: id, run: m.queue[i], workerID: workerID})
		m.queue = slices.Delete(m.queue, i, i+1)
	}
	return i >= 0
}

func (m *model) index(id uuid.UUID) int {
	return slices.IndexFunc(m.building, func(b modelBuild) bool { return b.uuid == id })
}

func (m *model) expand(id uuid.UUID, script job.Content) bool {
	i := m.index(id)
	legal := i >= 0 && m.building[i].expanded.IsZero()
	if legal {
		m.building[i].expanded = script
	}
	return legal
}

func (m *model) decide(id uuid.UUID, result job.Result) bool {
	i := m.index(id)
	legal := i >= 0 && m.building[i].decided == ""
	if legal {
		m.building[i].decided, m.building[i].result = result.String(), result
	}
	return legal
}

func (m *model) finish(now time.Time, end schedule.End) bool {
	i := m.index(end.UUID)
	if i < 0 {
		return false
	}
	run, result := m.building[i].run, end.Result
	if m.building[i].decided != "" {
		result = m.building[i].result
	}
	m.building = slices.Delete(m.building, i, i+1)
	for _, remote := range end.Remotes {
		m.outbox = append(m.outbox, schedule.Post{UUID: end.UUID, Remote: remote})
	}
	e := m.entry(run.job.Name)
	if e == nil {
		return true
	}
	e.last = end.UUID
	fits := e.job.Platform == "" || e.job.Platform == run.platform
	free := fits && m.queued(run.job.Name, run.platform) < 0
	wasParked := m.parked(run.job.Name)
	run.job, run.after = e.job, time.Time{}
	var failures int
	if !end.Uncounted {
		if result.Cause == job.ServerSide {
			e.setbacks++
			failures = e.setbacks
		} else {
			e.setbacks = 0
			run.tries++
			failures = run.tries
		}
		switch {
		case wasParked || result.Cause == job.ServerSide:
		case result.Cause == job.WorkerLost:
			e.losses++
		default:
			e.losses = 0
		}
		run.after = now.Add([]time.Duration{5, 20, 80, 300}[min(failures, 4)-1] * time.Second)
	}
	builds := e.job.Retries.Tries
	if builds == 0 {
		builds = 3
	}
	tired := run.tries >= builds
	if m.parked(run.job.Name) && !wasParked {
		m.moveToEnd(run.job.Name)
	}
	if tired || end.Final || !free || !modelAgain(e.job.Retries, result) {
		return true
	}
	if m.parked(run.job.Name) {
		m.queue = append(m.queue, run)
	} else {
		m.queue = slices.Insert(m.queue, 0, run)
	}
	return true
}

func modelAgain(r job.Retries, result job.Result) bool {
	lost := result.Cause == job.WorkerLost || result.Cause == job.NoSandbox || result.Cause == job.ServerSide
	timeout := result.Cause == job.Timeout && r.OnTimeout
	return lost || timeout || result.Code != 0 && r.OnFailure
}

// posted is the index of a build in the outbox for a remote, -1 if it is not there.
func (m *model) posted(id uuid.UUID, remote string) int {
	return slices.IndexFunc(m.outbox, func(p schedule.Post) bool { return p.UUID == id && p.Remote == remote })
}

func (m *model) unpost(id uuid.UUID, remote string) bool {
	i := m.posted(id, remote)
	if i >= 0 {
		m.outbox = slices.Delete(m.outbox, i, i+1)
	}
	return i >= 0
}

func (m *model) parkPost(id uuid.UUID, remote, reason string) bool {
	i := m.posted(id, remote)
	if i >= 0 {
		m.outbox[i].Parked = reason
	}
	return i >= 0
}

func (m *model) freePost(id uuid.UUID, remote string) bool {
	i := m.posted(id, remote)
	legal := i >= 0 && m.outbox[i].Parked != ""
	if legal {
		m.unpost(id, remote)
		m.outbox = append(m.outbox, schedule.Post{UUID: id, Remote: remote})
	}
	return legal
}

// nextDue is when time alone changes something.
func (m *model) nextDue(now time.Time) (next time.Time) {
	consider := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	for _, e := range m.entries {
		consider(e.next)
	}
	for _, r := range m.queue {
		if r.after.After(now) && !m.dropped(r.platform) && !m.parked(r.job.Name) {
			consider(r.after)
		}
	}
	return next
}

// describe writes the model down in the words of describe below.
func (m *model) describe(now time.Time) string {
	var b strings.Builder
	for _, e := range slices.SortedFunc(slices.Values(m.entries), func(a, b modelEntry) int { return cmp.Compare(a.job.Name, b.job.Name) }) {
		fmt.Fprintf(&b, "entry %s %v next %v last %v parked %v, %d losses, %d setbacks\n",
			words(e.job), e.plan, e.next, e.last, e.losses >= 3, e.losses, e.setbacks)
	}
	for _, p := range slices.SortedFunc(slices.Values(m.platforms), func(a, b modelPlatform) int { return cmp.Compare(a.name, b.name) }) {
		fmt.Fprintf(&b, "platform %s dropped %v ready %v\n", p.name, p.dropped, m.ready(now, p.name) >= 0)
		runs := slices.DeleteFunc(slices.Clone(m.queue), func(r modelRun) bool { return r.platform != p.name })
		slices.SortStableFunc(runs, func(a, b modelRun) int {
			switch {
			case m.parked(a.job.Name) && m.parked(b.job.Name):
				return 0
			case m.parked(a.job.Name):
				return 1
			case m.parked(b.job.Name):
				return -1
			case a.after.IsZero() && b.after.IsZero():
				return 0
			case a.after.IsZero():
				return 1
			case b.after.IsZero():
				return -1
			}
			return cmp.Or(a.after.Compare(b.after), cmp.Compare(a.id, b.id))
		})
		for _, r := range runs {
			fmt.Fprintf(&b, "  run %d %s tries %d after %v\n", r.id, words(r.job), r.tries, r.after)
		}
	}
	for _, r := range slices.SortedFunc(slices.Values(m.building), func(a, b modelBuild) int { return cmp.Compare(a.uuid.String(), b.uuid.String()) }) {
		fmt.Fprintf(&b, "building %v run %d %s on %s tries %d worker %q expanded %v decided %q\n",
			r.uuid, r.run.id, words(r.run.job), r.run.platform, r.run.tries, r.workerID, r.expanded, r.decided)
	}
	for _, p := range m.outbox {
		fmt.Fprintf(&b, "outbox %v\n", p)
	}
	fmt.Fprintf(&b, "next due %v\n", m.nextDue(now))
	return b.String()
}

// describe writes down what a state shows to its users.
func describe(s *schedule.State, now time.Time) string {
	var b strings.Builder
	for _, e := range slices.SortedFunc(s.Entries(), func(a, b *schedule.Entry) int { return cmp.Compare(a.Job.Name, b.Job.Name) }) {
		var last uuid.UUID
		if e.Last != nil {
			last = e.Last.UUID
		}
		fmt.Fprintf(&b, "entry %s %v next %v last %v parked %v, %d losses, %d setbacks\n",
			words(e.Job), e.Plan, e.Next, last, e.Parked(), e.Losses, e.Setbacks)
	}
	for _, p := range s.Platforms() {
		fmt.Fprintf(&b, "platform %s dropped %v ready %v\n", p.Name, p.Dropped, s.Ready(p.Name, now))
		for run := range s.Queue(p.Name) {
			fmt.Fprintf(&b, "  run %d %s tries %d after %v\n", run.ID, words(run.Job), run.Tries, run.After)
		}
	}
	for _, r := range slices.SortedFunc(s.Buildings(), func(a, b *schedule.Building) int { return cmp.Compare(a.UUID.String(), b.UUID.String()) }) {
		decided := ""
		if r.Decided != nil {
			decided = r.Decided.String()
		}
		fmt.Fprintf(&b, "building %v run %d %s on %s tries %d worker %q expanded %v decided %q\n",
			r.UUID, r.Run.ID, words(r.Run.Job), r.Run.Platform, r.Try-1, r.WorkerID, r.Expanded, decided)
	}
	for p := range s.Outbox() {
		fmt.Fprintf(&b, "outbox %v\n", p)
	}
	next, _ := s.NextDue(now)
	fmt.Fprintf(&b, "next due %v\n", next)
	return b.String()
}

func words(j job.Job) string {
	return strings.Join([]string{j.Name, j.Platform, j.Script.String()[:8], j.Template, fmt.Sprint(len(j.Vars), j.Limits, j.Retries, j.Retention)}, "|")
}
