package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"builder/pkg/client"
	"builder/pkg/wire"
)

// fleet is what a round tortures: a server, workers, and those who watch.
type fleet struct {
	dir, bin string
	mark     string // a variable of all builds
	server   *process
	address  string // of the server itself
	data     volume
	workers  []*worker
	outside  *proxy // for clients

	surprised func(*process, *os.ProcessState)

	mu       sync.Mutex
	watchers []*watcher
}

// worker is a worker, with its own way to the server.
type worker struct {
	process
	volume
	way  *proxy
	once bool // it does one build and ends
}

// The sizes of the disks: a worker asks for builds while it has 64 MiB.
const (
	serverDisk = 1 << 30
	workerDisk = 192 << 20
)

// The intervals are short: what takes minutes elsewhere is to happen often here.
const (
	beat        = time.Second
	workerGrace = 6 * time.Second
)

// own is the protocol that all speak: a connection that is cut at its beginning
// is not to pass for a server of the reference.
var own = strconv.Itoa(wire.OwnVersion)

// newFleet makes it, below dir. The error of the disks is for people.
func newFleet(ctx context.Context, dir, bin string, surprised func(*process, *os.ProcessState)) (f *fleet, noDisks, err error) {
	f = &fleet{dir: dir, bin: bin, mark: "TORTURE=" + dir, surprised: surprised}
	if f.address, err = freeAddress(ctx); err != nil {
		return nil, nil, err
	}
	if f.data, noDisks = newVolume(filepath.Join(dir, "server"), serverDisk); noDisks != nil && !exists(f.data.dir) {
		return nil, nil, noDisks
	}
	_, port, err := net.SplitHostPort(f.address)
	if err != nil {
		return nil, nil, err
	}
	f.server = &process{
		name: "server", log: f.log("server"),
		args: []string{
			filepath.Join(bin, "builder-server"), "--port", port, "--dir", f.data.dir, "--config-dir", dir,
			"--keepalive", beat.String(), "--worker-grace", workerGrace.String(), "--collect-timeout", "10s",
		},
	}
	if f.outside, err = newProxy(ctx, f.address); err != nil {
		return nil, nil, err
	}
	for i, slots := range []int{4, 3, 3, 1} {
		if err := f.addWorker(ctx, i, slots, i == 3); err != nil {
			return nil, nil, err
		}
	}
	return f, noDisks, nil
}

func (f *fleet) addWorker(ctx context.Context, i, slots int, once bool) error {
	w := &worker{once: once}
	name := "worker" + strconv.Itoa(i)
	var err error
	if w.volume, err = newVolume(filepath.Join(f.dir, name), workerDisk); err != nil && !exists(w.dir) {
		return err
	}
	if w.way, err = newProxy(ctx, f.address); err != nil {
		return err
	}
	w.name, w.log = name, f.log(name)
	w.args = []string{
		filepath.Join(f.bin, "builder-worker"), platform, "--remote", w.way.address(), "--dir", w.dir, "--name", name,
		"--keepalive", beat.String(), "--max-delay", "1s", "--protocol", own, "--env", f.mark,
	}
	if !once {
		w.args = append(w.args, "--persistent", "--slots", strconv.Itoa(slots))
	}
	f.workers = append(f.workers, w)
	return nil
}

func (f *fleet) log(name string) string { return filepath.Join(f.dir, "logs", name+".log") }

// processes are server and workers.
func (f *fleet) processes() []*process {
	all := []*process{f.server}
	for _, w := range f.workers {
		all = append(all, &w.process)
	}
	return all
}

// start starts all that does not run and that nothing is being done to.
func (f *fleet) start() error {
	for _, p := range f.processes() {
		if !p.fault.TryLock() {
			continue
		}
		var err error
		if !p.running() {
			err = p.start(f.surprised)
		}
		p.fault.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// tend starts again what has ended, until ctx is done: workers that have done
// their one build.
func (f *fleet) tend(ctx context.Context) error {
	for ctx.Err() == nil {
		rest(ctx, 50*time.Millisecond)
		if err := f.start(); err != nil {
			return err
		}
	}
	return nil
}

// client makes a client that goes by the way of clients, or straight to the server.
func (f *fleet) client(straight bool) *client.Client {
	address := f.outside.address()
	if straight {
		address = f.address
	}
	return client.New(address, client.Options{Program: "torture", Protocol: wire.OwnVersion, KeepAlive: beat, Pause: beat / 4})
}

// ways are all proxies.
func (f *fleet) ways() []*proxy {
	ways := []*proxy{f.outside}
	for _, w := range f.workers {
		ways = append(ways, w.way)
	}
	return ways
}

// volumes are all disks that can be full.
func (f *fleet) volumes() []volume {
	volumes := []volume{f.data}
	for _, w := range f.workers {
		volumes = append(volumes, w.volume)
	}
	return volumes
}

// kill ends what is left, in any way.
func (f *fleet) kill() {
	f.server.kill()
	for _, w := range f.workers {
		w.kill()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range f.watchers {
		w.kill()
	}
}

// freeAddress is one of this machine that nobody listens on.
func freeAddress(ctx context.Context) (string, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("looking for a port: %w", err)
	}
	return l.Addr().String(), l.Close()
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
