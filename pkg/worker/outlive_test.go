package worker_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"testing"
	"time"

	"builder/pkg/job"
	"builder/pkg/sandbox"
	"builder/pkg/wire"
	"builder/pkg/worker"

	gocmp "github.com/google/go-cmp/cmp"
)

// outliving is a sandbox whose scripts seem to have outlived the worker: resume is
// what they go on with.
type outliving struct {
	sandbox.Sandbox
	resume func(ctx context.Context, console io.Writer) (sandbox.Exit, error)
}

func (o outliving) Reattach(name string) (sandbox.Place, error) {
	place, err := o.Sandbox.Reattach(name)
	return outlived{place, o.resume}, err
}

type outlived struct {
	sandbox.Place
	resume func(ctx context.Context, console io.Writer) (sandbox.Exit, error)
}

func (outlived) Begun() time.Time { return time.Now().Add(-time.Minute) }

func (o outlived) Resume(ctx context.Context, _ sandbox.Spec, console io.Writer) (sandbox.Exit, error) {
	return o.resume(ctx, console)
}

// TestOutlived: a worker that is started again goes on with builds whose scripts have
// outlived the one before.
func TestOutlived(t *testing.T) {
	const first, most = 1_000_000, 1 << 18
	stopped := func(ctx context.Context, _ io.Writer) (sandbox.Exit, error) {
		<-ctx.Done()
		return sandbox.Exit{Signal: 15, Cause: context.Cause(ctx)}, nil
	}
	tests := map[string]struct {
		limits  job.Limits
		printed int // lines of 8 octets, before
		more    int // and after
		resume  func(ctx context.Context, console io.Writer) (sandbox.Exit, error)
		stop    bool
		want    job.Result
	}{
		"ends":       {printed: 1000, more: 10, want: job.Result{Kind: job.Exited, Code: 7}},
		"is stopped": {printed: 10, resume: stopped, stop: true, want: job.Failure(job.Cancelled, "by a person")},
		"is over time": {
			printed: 10, resume: stopped, limits: job.Limits{Timeout: 61 * time.Second},
			want: job.Limits{Timeout: 61 * time.Second}.TimedOut(),
		},
		"was over": {
			printed: 10, resume: func(context.Context, io.Writer) (sandbox.Exit, error) { return sandbox.Exit{}, sandbox.ErrOver },
			want: job.Failure(job.Restarted, "worker restarted: the script died with it"),
		},
		"prints too much now":    {limits: job.Limits{MaxConsole: most}, printed: 10, more: 100_000, want: job.Result{Kind: job.Exited, Code: 7}},
		"printed too much":       {limits: job.Limits{MaxConsole: most}, printed: 50_000, more: 10, want: job.Result{Kind: job.Exited, Code: 7}},
		"goes on doing too much": {limits: job.Limits{MaxConsole: most}, printed: 50_000, more: 100_000, want: job.Result{Kind: job.Exited, Code: 7}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.resume == nil {
				test.resume = func(_ context.Context, console io.Writer) (sandbox.Exit, error) {
					for i := range test.more {
						if _, err := fmt.Fprintln(console, first+test.printed+i); err != nil {
							return sandbox.Exit{}, err
						}
					}
					return sandbox.Exit{Code: 7}, nil
				}
			}
			s := newScripted(t, false)
			path, mark := t.TempDir(), filepath.Join(t.TempDir(), "mark")
			p := newProcess(t, path, s)
			id := s.accept().start(fmt.Sprintf("echo file >file; seq %d %d; sleep 0.2; echo >%s x; sleep 1000", first, first+test.printed-1, mark), test.limits)
			waitFile(t, mark)
			p.kill()
			workIn(t, path, s, func(c *worker.Config) { c.Sandbox = outliving{c.Sandbox, test.resume} })
			c := s.greet()
			c.resume(nil)
			if test.stop {
				c.send(wire.Stop{UUID: id, Result: test.want})
			}
			e := c.store(id)
			checkConsole(t, e, first, test.printed+test.more, cmp.Or(test.limits.MaxConsole, 1<<30))
			if diff := gocmp.Diff(test.want, e.result); diff != "" || e.files["file"] != "file\n" {
				t.Errorf("files %q, result (-want +got):\n%s", e.files, diff)
			}
		})
	}
}
