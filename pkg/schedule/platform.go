package schedule

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"builder/pkg/der"
	"builder/pkg/job"
)

// Platform is a known platform as people see it.
type Platform struct {
	Name    string
	Dropped bool
	Queued  int // runs that wait for it
}

// Platforms lists the known platforms by name.
func (s *State) Platforms() []Platform {
	var all []Platform
	for _, name := range slices.Sorted(maps.Keys(s.platforms)) {
		p := s.platforms[name]
		all = append(all, Platform{Name: name, Dropped: p.dropped, Queued: len(p.byJob)})
	}
	return all
}

// Queue yields the runs that wait for a platform: those that wait for their
// next try by time, then the others in their order, at last those of parked jobs.
// There are none for an unknown one.
func (s *State) Queue(platform string) iter.Seq[*job.Run] {
	if p, ok := s.platforms[platform]; ok {
		return p.all()
	}
	return func(func(*job.Run) bool) {}
}

// Ready reports whether [State.HandOut] has a run for a worker of the platform.
func (s *State) Ready(platform string, now time.Time) bool {
	p, ok := s.platforms[platform]
	return ok && !p.dropped && p.first(now) != nil
}

// PlatformSeen makes a platform known.
//
//	[5] { platform UTF8String }
type PlatformSeen struct{ Platform string }

// Seen decides what a worker that asks for this platform changes: fresh is
// false when the platform is known and nothing does. The error wraps
// [ErrDropped], or says that the name is not allowed.
func (s *State) Seen(platform string) (e PlatformSeen, fresh bool, err error) {
	if p, known := s.platforms[platform]; known {
		if p.dropped {
			return e, false, fmt.Errorf("%w: %q; its workers get no jobs until it is undropped", ErrDropped, platform)
		}
		return e, false, nil
	}
	if err := job.CheckName("platform", platform); err != nil {
		return e, false, err
	}
	return PlatformSeen{platform}, true, nil
}

func (PlatformSeen) tag() int { return tagPlatformSeen }

func (e PlatformSeen) encode(w *der.Writer) { w.Text(e.Platform) }

func decodePlatformSeen(r *der.Reader) Event { return PlatformSeen{r.Text()} }

func (e PlatformSeen) apply(s *State) error {
	if _, known := s.platforms[e.Platform]; known {
		return fmt.Errorf("platform %q is known already", e.Platform)
	}
	s.know(e.Platform)
	return nil
}

// PlatformDropped pauses a platform: its queue stays and is not handed out.
//
//	[6] { platform UTF8String }
type PlatformDropped struct{ Platform string }

// DropPlatform decides on pausing a platform. Builds on it go on.
func (s *State) DropPlatform(platform string) (PlatformDropped, error) {
	return PlatformDropped{platform}, s.checkDropped(platform, false)
}

func (PlatformDropped) tag() int { return tagPlatformDropped }

func (e PlatformDropped) encode(w *der.Writer) { w.Text(e.Platform) }

func decodePlatformDropped(r *der.Reader) Event { return PlatformDropped{r.Text()} }

func (e PlatformDropped) apply(s *State) error {
	if err := s.checkDropped(e.Platform, false); err != nil {
		return err
	}
	s.platforms[e.Platform].dropped = true
	return nil
}

// PlatformUndropped is the inverse of [PlatformDropped].
//
//	[7] { platform UTF8String }
type PlatformUndropped struct{ Platform string }

// UndropPlatform decides on the end of a platform's pause.
func (s *State) UndropPlatform(platform string) (PlatformUndropped, error) {
	return PlatformUndropped{platform}, s.checkDropped(platform, true)
}

func (PlatformUndropped) tag() int { return tagPlatformUndropped }

func (e PlatformUndropped) encode(w *der.Writer) { w.Text(e.Platform) }

func decodePlatformUndropped(r *der.Reader) Event { return PlatformUndropped{r.Text()} }

func (e PlatformUndropped) apply(s *State) error {
	if err := s.checkDropped(e.Platform, true); err != nil {
		return err
	}
	s.platforms[e.Platform].dropped = false
	return nil
}

// checkDropped finds platforms that are unknown, or not as they have to be.
func (s *State) checkDropped(platform string, want bool) error {
	p, known := s.platforms[platform]
	switch {
	case !known && len(s.platforms) == 0:
		return fmt.Errorf("unknown platform %q: none is known yet", platform)
	case !known:
		return fmt.Errorf("unknown platform %q: known are %s", platform, quoteNames(slices.Sorted(maps.Keys(s.platforms))))
	case p.dropped && !want:
		return fmt.Errorf("%w already: %q", ErrDropped, platform)
	case !p.dropped && want:
		return fmt.Errorf("platform %q is not dropped", platform)
	}
	return nil
}

// quoteNames lists names for people, not too many.
func quoteNames(names []string) string {
	const most = 20
	quoted := make([]string, 0, most+1)
	for i, name := range names {
		if i == most {
			quoted = append(quoted, fmt.Sprintf("%d more", len(names)-most))
			break
		}
		quoted = append(quoted, strconv.Quote(name))
	}
	return strings.Join(quoted, ", ")
}
