package server_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"builder/pkg/client"
	"builder/pkg/job"
	"builder/pkg/wire"
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
			wait(t, "the server closes the crowd's connections", func() bool {
				open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
				return err == nil && len(open) < 50
			})
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
