package upload_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"builder/pkg/upload"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
)

// pipes is a network in memory, so that the clock of synctest can stand still.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.conns <- far:
		return near, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// serve starts a server in the bubble.
func serve(t *testing.T, handler http.HandlerFunc) option {
	p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	// A server does not notice that its client has gone while it has not read the
	// request, so handlers wait for the end of the test.
	ctx, cancel := context.WithCancel(t.Context())
	server := &http.Server{Handler: handler, BaseContext: func(net.Listener) context.Context { return ctx }}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(p) }()
	t.Cleanup(func() {
		cancel()
		server.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("server: %v", err)
		}
	})
	return func(s *setup) { s.frontend = upload.Dialing(p.dial) }
}

// pause lets the time pass in a handler.
func pause(r *http.Request, d time.Duration) {
	select {
	case <-time.After(d):
	case <-r.Context().Done():
	}
}

const inMemory = "http://ann:secret@frontend.test/upload"

// What the remote does in the first try, and what is said about it; it takes the
// build in the second. All with the real limits.
func TestSlowRemotes(t *testing.T) {
	for _, test := range []struct {
		name  string
		size  int
		serve func(w http.ResponseWriter, r *http.Request)
		want  string // empty: it works in the first try
	}{
		{"never answers", 100, func(_ http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		}, "the remote is stuck"},
		{"never reads", 8 << 20, func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
		}, "the remote is stuck"},
		{"stops to read", 8 << 20, func(_ http.ResponseWriter, r *http.Request) {
			io.CopyN(io.Discard, r.Body, 1<<20)
			<-r.Context().Done()
		}, "the remote is stuck"},
		{"answers and goes on for ever", 100, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			for http.NewResponseController(w).Flush() == nil && r.Context().Err() == nil {
				pause(r, time.Second)
				io.WriteString(w, ".")
			}
		}, "the remote answered 500 Internal Server Error: ......."},
		{"too slow in all", 4 << 20, func(_ http.ResponseWriter, r *http.Request) {
			for err := error(nil); err == nil; {
				pause(r, 55*time.Second)
				_, err = io.CopyN(io.Discard, r.Body, 64<<10)
			}
		}, "the remote is too slow"},
		{"reads slowly", 1 << 20, func(w http.ResponseWriter, r *http.Request) {
			for err := error(nil); err == nil; {
				pause(r, 30*time.Second)
				_, err = io.CopyN(io.Discard, r.Body, 64<<10)
			}
			w.WriteHeader(http.StatusCreated)
		}, ""},
		{"thinks long about a large one", 64 << 20, func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			pause(r, 66*time.Second)
			w.WriteHeader(http.StatusCreated)
		}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var tries atomic.Int32
				dial := serve(t, func(w http.ResponseWriter, r *http.Request) {
					if tries.Add(1) == 1 {
						test.serve(w, r)
						return
					}
					io.Copy(io.Discard, r.Body)
					w.WriteHeader(http.StatusCreated)
				})
				b := newBuilds()
				o, logged, stop := run(t, inMemory, b, dial)
				o.Add(b.add(make([]byte, test.size)), "hello")
				<-b.delivered
				stop()
				failures := 0
				for line := range strings.Lines(logged.String()) {
					if strings.Contains(line, `"level":"warn"`) {
						failures++
						if test.want == "" || !strings.Contains(line, test.want) {
							t.Errorf("log %s", line)
						}
					}
				}
				if want := min(1, len(test.want)); failures != want {
					t.Errorf("%d failures, want %d", failures, want)
				}
			})
		})
	}
}

// The delays grow from at most a second to at most 15 minutes.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBuilds()
		b.openErrs = 300
		o, _, stop := run(t, inMemory, b, serve(t, func(http.ResponseWriter, *http.Request) {}))
		o.Add(b.add([]byte("x")), "hello")
		bound, longest := time.Second, time.Duration(0)
		for try := 1; try <= b.openErrs; try++ {
			synctest.Wait()
			item := o.Status()[0]
			delay := time.Until(item.Next)
			if item.Tries != try || delay < 0 || delay > bound {
				t.Fatalf("try %d: next in %s (at most %s): %+v", try, delay, bound, item)
			}
			longest = max(longest, delay)
			bound = min(2*bound, 15*time.Minute)
			time.Sleep(delay)
		}
		<-b.delivered
		stop()
		if longest < 10*time.Minute { // one in 10^51 runs
			t.Errorf("the longest delay was %s", longest)
		}
	})
}

// Builds that are refused are parked, and others pass, at once; what waiting mends is
// waited for.
func TestRefused(t *testing.T) {
	for _, test := range []struct {
		status int
		parks  bool
	}{{400, true}, {401, true}, {403, true}, {413, true}, {404, false}, {422, false}, {429, false}, {500, false}} {
		t.Run(http.StatusText(test.status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBuilds()
				var tries atomic.Int32
				dial := serve(t, func(w http.ResponseWriter, r *http.Request) {
					io.Copy(io.Discard, r.Body)
					if tries.Add(1) == 1 {
						w.WriteHeader(test.status)
					}
				})
				o, logged, stop := run(t, inMemory, b, dial)
				first, second := b.add([]byte("x")), b.add([]byte("y"))
				o.Add(first, "hello")
				o.Add(second, "hello")
				if !test.parks {
					if a, b := <-b.delivered, <-b.delivered; a != first || b != second {
						t.Errorf("delivered %s, %s, want %s, %s", a, b, first, second)
					}
					return
				}
				if got := <-b.delivered; got != second {
					t.Errorf("delivered %s, want %s", got, second)
				}
				want := fmt.Sprintf("the remote answered %d %s:", test.status, http.StatusText(test.status))
				if reason := <-b.parked; reason != want {
					t.Errorf("parked: %q, want %q", reason, want)
				}
				if !strings.Contains(logged.String(), `"level":"error"`) {
					t.Errorf("no error in the log: %s", logged)
				}
				synctest.Wait()
				if left := o.Status(); len(left) > 0 {
					t.Errorf("left: %+v", left)
				}
				o.Add(first, "hello") // somebody asked for it
				if got := <-b.delivered; got != first {
					t.Errorf("delivered %s, want %s", got, first)
				}
				stop()
			})
		})
	}
}

// A journal that can not take the parking hears of it again after the next try.
func TestParkingFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBuilds()
		b.recordErr = 2
		var tries atomic.Int32
		o, _, stop := run(t, inMemory, b, serve(t, func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			tries.Add(1)
			w.WriteHeader(http.StatusForbidden)
		}))
		o.Add(b.add([]byte("x")), "hello")
		<-b.parked
		stop()
		if n := tries.Load(); n != 3 {
			t.Errorf("%d tries, want 3", n)
		}
	})
}

// What people ask for: a try at once, or none any more.
func TestRetryAndDrop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBuilds()
		var tries atomic.Int32
		works := make(chan struct{})
		o, _, stop := run(t, inMemory, b, serve(t, func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			tries.Add(1)
			select {
			case <-works:
			default:
				w.WriteHeader(http.StatusBadGateway)
			}
		}))
		var ids []uuid.UUID
		for _, job := range []string{"one", "one", "one", "two", "three"} {
			id := b.add([]byte("x"))
			ids = append(ids, id)
			o.Add(id, job)
		}
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		o.Drop(ids[0]) // the first of its job: the second is tried at once
		o.Drop(ids[2]) // behind another
		o.Drop(ids[4]) // the only one
		o.Drop(uuid.New())
		synctest.Wait()
		left := o.Status()
		if len(left) != 2 || left[0].UUID != ids[1] || left[0].Tries != 1 || left[1].UUID != ids[3] {
			t.Fatalf("left %+v", left)
		}
		close(works)
		before := tries.Load()
		begin := time.Now()
		o.Retry(ids[1])
		o.Retry(ids[3])
		o.Retry(uuid.New())
		synctest.Wait()
		if took := time.Since(begin); took != 0 || tries.Load() != before+2 || len(o.Status()) != 0 {
			t.Errorf("%d tries, left %+v", tries.Load()-before, o.Status())
		}
		stop()
	})
}

// A build that is dropped while it is sent is forgotten, whatever becomes of the try.
func TestDropWhileSending(t *testing.T) {
	for _, status := range []int{201, 401, 500} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBuilds()
				o, _, stop := run(t, inMemory, b, serve(t, func(w http.ResponseWriter, r *http.Request) {
					io.Copy(io.Discard, r.Body)
					pause(r, time.Second)
					w.WriteHeader(status)
				}))
				id := b.add([]byte("x"))
				o.Add(id, "one")
				synctest.Wait()
				o.Drop(id)
				time.Sleep(time.Hour)
				synctest.Wait()
				if left := o.Status(); len(left) > 0 {
					t.Errorf("left %+v", left)
				}
				stop()
			})
		})
	}
}

// Run ends at once when its context is done, whatever a try is waiting for.
func TestCancel(t *testing.T) {
	for _, test := range []struct {
		name  string
		size  int
		serve func(w http.ResponseWriter, r *http.Request)
	}{
		{"while sending", 8 << 20, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }},
		{"before the answer", 1, func(_ http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		}},
		{"between tries", 1, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBuilds()
				o, _, stop := run(t, inMemory, b, serve(t, test.serve))
				o.Add(b.add(make([]byte, test.size)), "hello")
				synctest.Wait()
				begin := time.Now()
				stop()
				if took := time.Since(begin); took > 0 {
					t.Errorf("took %s", took)
				}
				if left := o.Status(); len(left) != 1 || left[0].Sending || len(b.order) > 0 {
					t.Errorf("left %+v, delivered %v", left, b.order)
				}
			})
		})
	}
}

// slowJournal is done with recording only some time after ctx was done.
type slowJournal struct {
	*builds
	takes time.Duration
	began chan struct{}
}

func (s *slowJournal) Delivered(ctx context.Context, id uuid.UUID) error {
	close(s.began)
	select {
	case <-time.After(s.takes):
		return s.builds.Delivered(ctx, id)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A build that has arrived is recorded even though Run is to end, but not for ever.
func TestCancelWhileRecording(t *testing.T) {
	for _, test := range []struct {
		name  string
		takes time.Duration
		left  int
	}{{"in time", 3 * time.Second, 0}, {"too late", time.Hour, 1}} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				journal := &slowJournal{newBuilds(), test.takes, make(chan struct{})}
				dial := serve(t, func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
				var s setup
				dial(&s)
				frontend, err := upload.NewFrontend(inMemory, s.frontend)
				must(t, err)
				o := upload.New("", frontend.Sender(journal.Open), journal, s.limits, zerolog.Nop())
				o.Add(journal.add([]byte("x")), "hello")
				ctx, cancel := context.WithCancel(t.Context())
				go func() {
					<-journal.began
					cancel()
				}()
				must(t, o.Run(ctx))
				if left := o.Status(); len(left) != test.left {
					t.Errorf("left %+v", left)
				}
			})
		})
	}
}
