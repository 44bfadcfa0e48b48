package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"builder/pkg/client"
	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/google/uuid"
)

// programDir holds the real server; TestMain removes it.
var programDir string

// programs builds the real server, once.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "builder-server-test-")
	if err != nil {
		return "", err
	}
	programDir = dir
	program := filepath.Join(dir, "builder-server")
	out, err := exec.Command("go", "build", "-o", program, "builder/cmd/builder-server").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building the server: %w\n%s", err, out)
	}
	return program, nil
})

// process is a real server on a directory that outlives it.
type process struct {
	t       testing.TB
	address string
	cmd     *exec.Cmd
}

// startProcess starts a server, by way of another program if one is given.
func startProcess(t testing.TB, dir string, by ...string) *process {
	t.Helper()
	program, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t}
	args := append(by, program, "--port", "0", "--dir", dir, "--config-dir", dir)
	p.cmd = exec.Command(args[0], args[1:]...)
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stderr)
	for p.address == "" && lines.Scan() {
		var line struct{ Message, Address string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Message == "listening" {
			p.address = line.Address
		}
	}
	if p.address == "" {
		p.cmd.Process.Kill()
		t.Fatal("the server does not say where it listens")
	}
	drained := make(chan struct{})
	go func() { defer close(drained); io.Copy(io.Discard, stderr) }()
	t.Cleanup(func() { p.kill(); <-drained })
	return p
}

// kill is kill -9.
func (p *process) kill() {
	if p.cmd.ProcessState == nil {
		p.cmd.Process.Kill()
		p.cmd.Wait()
	}
}

// peak is the most memory that the process has had, in octets.
func (p *process) peak() int64 {
	p.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Skipf("needs /proc: %v", err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kilobytes, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		p.t.Fatal(err)
	}
	return kilobytes << 10
}

// acknowledged is what servers have said yes to, over their lives.
type acknowledged struct {
	mu        sync.Mutex
	jobs      map[string]bool   // true while scheduled, false when unscheduled
	uncertain map[string]bool   // asked for when the server died
	runs      map[uint64]string // with their job
	stored    map[uuid.UUID]bool
}

// TestKill kills real servers in the midst of commands and builds. What was
// acknowledged is there, and each run that was has exactly one end.
func TestKill(t *testing.T) {
	kills := 4
	if text := os.Getenv("SERVER_ROUNDS"); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("SERVER_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("SERVER_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	ack := &acknowledged{jobs: map[string]bool{}, uncertain: map[string]bool{}, runs: map[uint64]string{}, stored: map[uuid.UUID]bool{}}
	for life := range kills {
		p := startProcess(t, dir)
		ctx, cancel := context.WithCancel(t.Context())
		var busy sync.WaitGroup
		for i := range 4 {
			busy.Go(func() {
				ack.command(ctx, p.address, fmt.Sprintf("%d-%d", life, i), rand.New(rand.NewPCG(seed, uint64(life*10+i+1))))
			})
		}
		for i := range 4 {
			version := wire.OwnVersion
			if i%2 == 1 {
				version = wire.WorkerVersion
			}
			busy.Go(func() { ack.build(ctx, p.address, version) })
		}
		time.Sleep(time.Duration(50+random.IntN(250)) * time.Millisecond)
		p.kill()
		cancel()
		busy.Wait()
	}
	// The last one lives until everything is built.
	p := startProcess(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var busy sync.WaitGroup
	for range 4 {
		busy.Go(func() { ack.build(ctx, p.address, wire.OwnVersion) })
	}
	c := client.New(p.address, client.Options{})
	defer c.Close()
	wait(t, "empty queues", func() bool {
		status, err := c.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(status.Building) == 0 && len(status.Platforms[0].Queue) == 0
	})
	cancel()
	busy.Wait()
	ack.check(t, c)
}

// command schedules, executes and unschedules until the server is gone.
func (a *acknowledged) command(ctx context.Context, address, name string, random *rand.Rand) {
	c := client.New(address, client.Options{Protocol: wire.OwnVersion})
	defer c.Close()
	for n := 0; ; n++ {
		name := fmt.Sprintf("job-%s-%d", name, n)
		a.asked(name)
		accepted, err := c.Schedule(ctx, job.Job{Name: name, Platform: "p"}, []byte(name), job.Plan{Period: job.Never}, false)
		if err != nil {
			return
		}
		a.accepted(name, true, accepted)
		if random.IntN(2) == 0 {
			if accepted, err = c.Execute(ctx, name, ""); err != nil {
				return
			}
			a.accepted(name, true, accepted)
		}
		if random.IntN(8) == 0 {
			a.asked(name)
			if c.Unschedule(ctx, name) != nil {
				return
			}
			a.accepted(name, false, wire.Accepted{})
		}
	}
}

func (a *acknowledged) asked(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.uncertain[name] = true
}

func (a *acknowledged) accepted(name string, scheduled bool, accepted wire.Accepted) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.uncertain, name)
	a.jobs[name] = scheduled
	for _, run := range accepted.Runs {
		a.runs[run.ID] = name
	}
}

// build does builds until the server is gone.
func (a *acknowledged) build(ctx context.Context, address string, version int) {
	d := wire.Dialer{Role: wire.Worker, Force: version}
	for {
		conn, _, err := d.Dial(ctx, address)
		if err != nil {
			return
		}
		for err == nil {
			var id uuid.UUID
			if id, err = oneBuild(ctx, conn); err == nil && version == wire.OwnVersion {
				a.mu.Lock()
				a.stored[id] = true
				a.mu.Unlock()
			}
		}
		conn.Close()
	}
}

// check compares what the server has with what it had said yes to.
func (a *acknowledged) check(t *testing.T, c *client.Client) {
	t.Helper()
	status, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, j := range status.Jobs {
		there[j.Job.Name] = true
	}
	for name, scheduled := range a.jobs {
		if there[name] != scheduled && !a.uncertain[name] {
			t.Errorf("job %s: in the schedule %v, expected %v", name, there[name], scheduled)
		}
	}
	for name := range there {
		if !a.jobs[name] && !a.uncertain[name] {
			t.Errorf("job %s: nobody has scheduled it", name)
		}
	}
	builds, err := c.Builds(t.Context(), "", 10_000)
	if err != nil {
		t.Fatal(err)
	}
	ends := map[uint64]int{}
	for _, b := range builds {
		if !b.Result.Infrastructure() {
			ends[b.Run]++
		}
		if a.stored[b.UUID] {
			delete(a.stored, b.UUID)
			if !b.Result.Success() {
				t.Errorf("build %v was stored, and is now %v", b.UUID, b.Result)
			}
		}
	}
	for id := range a.stored {
		t.Errorf("build %v was stored, and is gone", id)
	}
	lost := 0
	for run, name := range a.runs {
		if n := ends[run]; n > 1 {
			t.Errorf("run %d of %s has %d ends", run, name, n)
		} else if n == 0 && a.jobs[name] && !a.uncertain[name] {
			lost++
			t.Errorf("run %d of %s has no end", run, name)
		}
	}
	t.Logf("%d jobs, %d runs, %d builds", len(a.jobs), len(a.runs), len(builds))
	if len(a.runs) == 0 || len(builds) == 0 {
		t.Error("nothing was done")
	}
}

func oneBuild(ctx context.Context, conn *wire.Conn) (uuid.UUID, error) {
	if err := conn.Send(wire.JobRequested{Platform: "p"}); err != nil {
		return uuid.Nil, err
	}
	m, err := conn.Receive(ctx, wire.KindJobSchedule, wire.KindStart)
	files := []wire.File{{Path: "a", Data: text("content")}}
	switch m := m.(type) {
	case wire.JobSchedule:
		conn.Send(wire.Output{UUID: m.UUID, Data: []byte("printed")})
		return m.UUID, conn.Send(wire.JobFinished{UUID: m.UUID, Files: files})
	case wire.Start:
		id := m.Build.UUID
		conn.Send(lines(id, 0, "printed"))
		if err := conn.Send(wire.Finish{UUID: id, Result: success, Files: files}); err != nil {
			return id, err
		}
		_, err := conn.Receive(ctx, wire.KindStored)
		return id, err
	}
	return uuid.Nil, err
}

// zeros gives as many octets as are asked for.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func (zeros) Close() error { return nil }

// TestLargeArtifact sends an artifact in one frame: half a gigabyte where time
// is no matter (BUILDER_NO_SKIP), else less.
func TestLargeArtifact(t *testing.T) {
	const most = 64 << 20
	size := int64(100 << 20)
	if os.Getenv("BUILDER_NO_SKIP") != "" {
		size = 500 << 20
	}
	p := startProcess(t, t.TempDir())
	c := client.New(p.address, client.Options{})
	defer c.Close()
	for i, version := range []int{wire.WorkerVersion, wire.OwnVersion} {
		name := fmt.Sprint("large", i)
		if _, err := c.Schedule(t.Context(), job.Job{Name: name, Platform: "p"}, []byte("x"), job.Plan{Period: job.Never}, false); err != nil {
			t.Fatal(err)
		}
		conn, _, err := wire.Dialer{Role: wire.Worker, Force: version}.Dial(t.Context(), p.address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		files := []wire.File{{Path: "large", Data: wire.Blob{Size: size, Open: func() (io.ReadCloser, error) {
			return struct {
				io.Reader
				io.Closer
			}{io.LimitReader(zeros{}, size), zeros{}}, nil
		}}}}
		if err := conn.Send(wire.JobRequested{Platform: "p"}); err != nil {
			t.Fatal(err)
		}
		m, err := conn.Receive(t.Context(), wire.KindJobSchedule, wire.KindStart)
		if err != nil {
			t.Fatal(err)
		}
		if start, own := m.(wire.Start); own {
			err = conn.Send(wire.Finish{UUID: start.Build.UUID, Result: success, Files: files})
		} else {
			err = conn.Send(wire.JobFinished{UUID: m.(wire.JobSchedule).UUID, Files: files})
		}
		if err != nil {
			t.Fatal(err)
		}
		var builds []job.Build
		wait(t, "the end of the build", func() bool {
			builds, err = c.Builds(t.Context(), name, 1)
			return err != nil || len(builds) == 1
		})
		var got counter
		if err := c.Export(t.Context(), builds[0].UUID.String(), &got); err != nil || int64(got) < size {
			t.Errorf("exported %d octets: %v", got, err)
		}
	}
	if peak := p.peak(); peak > most {
		t.Errorf("the server took %d MB, at most %d are allowed", peak>>20, most>>20)
	} else {
		t.Logf("the server took %d MB", peak>>20)
	}
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// TestDescriptors: a server that may open few files serves some peers and lets
// others wait, or sees accept fail when the limit is lowered under it. It does
// not end, who is connected goes on, and afterwards everybody is served.
func TestDescriptors(t *testing.T) {
	if _, err := exec.LookPath("prlimit"); err != nil {
		t.Skip("needs prlimit")
	}
	for name, tt := range map[string]struct {
		by    []string
		lower bool
	}{
		"few from the beginning": {by: []string{"prlimit", "--nofile=200:200"}},
		"fewer later":            {lower: true},
	} {
		t.Run(name, func(t *testing.T) {
			p := startProcess(t, t.TempDir(), tt.by...)
			c := client.New(p.address, client.Options{})
			defer c.Close()
			if _, err := c.Schedule(t.Context(), job.Job{Name: "one", Platform: "p"}, []byte("x"), job.Plan{Period: job.Never}, false); err != nil {
				t.Fatal(err)
			}
			conn, _, err := wire.Dialer{Role: wire.Worker, Force: wire.OwnVersion}.Dial(t.Context(), p.address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if tt.lower {
				limit := exec.Command("prlimit", "--pid", strconv.Itoa(p.cmd.Process.Pid), "--nofile=100:100")
				if out, err := limit.CombinedOutput(); err != nil {
					t.Skipf("setting the limit: %v\n%s", err, out)
				}
			}
			var peers []net.Conn
			for range 300 {
				var d net.Dialer
				peer, err := d.DialContext(t.Context(), "tcp", p.address)
				if err != nil {
					t.Fatal(err)
				}
				defer peer.Close()
				peers = append(peers, peer)
			}
			if !tt.lower {
				if _, err := oneBuild(t.Context(), conn); err != nil {
					t.Fatalf("building in a crowd: %v", err)
				}
				if _, err := c.Execute(t.Context(), "one", ""); err != nil {
					t.Fatalf("executing in a crowd: %v", err)
				}
			}
			for _, peer := range peers {
				peer.Close()
			}
			if _, err := oneBuild(t.Context(), conn); err != nil {
				t.Fatalf("building: %v", err)
			}
			late := client.New(p.address, client.Options{})
			defer late.Close()
			if builds, err := late.Builds(t.Context(), "one", 1); err != nil || len(builds) != 1 || !builds[0].Result.Success() {
				t.Errorf("builds %v (%v)", builds, err)
			}
		})
	}
}
