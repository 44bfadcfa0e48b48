package upload_test

import (
	"context"
	"errors"
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
func serve(t *testing.T, handler http.HandlerFunc) upload.Option {
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
	return upload.WithDial(p.dial)
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

// After an answer that waiting does not mend, the delay is the longest at once;
// and other builds pass when it was about this one.
func TestRefused(t *testing.T) {
	for _, test := range []struct {
		status  int
		passing bool
	}{{400, true}, {401, false}, {403, false}, {413, true}} {
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
				synctest.Wait()
				if next := time.Until(o.Status()[0].Next); next != 15*time.Minute {
					t.Errorf("next try in %s", next)
				}
				if !strings.Contains(logged.String(), `"level":"error"`) {
					t.Errorf("no error in the log: %s", logged)
				}
				want := []uuid.UUID{first, second}
				if test.passing {
					want = []uuid.UUID{second, first}
				}
				for i, id := range want {
					if got := <-b.delivered; got != id {
						t.Errorf("delivery %d is %s, want %s of %s, %s", i, got, id, first, second)
					}
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
		{"between tries", 1, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }},
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
				o, err := upload.New(inMemory, journal, noLog, dial)
				must(t, err)
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
