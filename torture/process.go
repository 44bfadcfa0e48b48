package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a program that is started again and again. It has one standard
// error, which goes on.
type process struct {
	name   string
	args   []string
	env    []string
	stdout string // a file; empty for none
	log    string

	// fault is held by what is being done to it: one thing at a time.
	fault sync.Mutex

	mu     sync.Mutex
	begun  time.Time
	cmd    *exec.Cmd
	gone   chan struct{} // closed when it has ended
	meant  bool          // its end is
	status *os.ProcessState
}

// running reports whether it was started and has not ended.
func (p *process) running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd != nil && p.status == nil
}

// pid is that of the latest process.
func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd.Process.Pid
}

// start starts it. What ends it without having been asked to is reported to
// surprised.
func (p *process) start(surprised func(*process, *os.ProcessState)) error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(p.args[0], p.args[1:]...) //nolint:gosec,noctx // it ends when it is told to
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if p.stdout != "" {
		out, err := os.Create(p.stdout)
		if err != nil {
			return err
		}
		defer out.Close()
		cmd.Stdout = out
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", p.name, err)
	}
	gone := make(chan struct{})
	p.mu.Lock()
	p.begun, p.cmd, p.gone, p.meant, p.status = time.Now(), cmd, gone, false, nil
	p.mu.Unlock()
	go func() { // whoever ends it waits for gone
		defer close(gone)
		cmd.Wait() //nolint:errcheck // its state says it
		p.mu.Lock()
		p.status = cmd.ProcessState
		meant := p.meant
		p.mu.Unlock()
		if !meant {
			surprised(p, cmd.ProcessState)
		}
	}()
	return nil
}

// signal sends a signal if it runs.
func (p *process) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil && p.status == nil {
		p.cmd.Process.Signal(s) //nolint:errcheck // it is gone then
	}
}

// tell is signal, by which it is meant to end.
func (p *process) tell(s syscall.Signal) {
	p.mu.Lock()
	p.meant = true
	p.mu.Unlock()
	p.signal(s)
}

// wait waits for its end, and reports false if it takes longer.
func (p *process) wait(most time.Duration) bool {
	p.mu.Lock()
	gone := p.gone
	p.mu.Unlock()
	if gone == nil {
		return true
	}
	select {
	case <-gone:
		return true
	case <-time.After(most):
		return false
	}
}

// kill is kill -9.
func (p *process) kill() {
	p.tell(syscall.SIGKILL)
	p.wait(time.Minute)
}

// end ends it as a service manager does. Nil: it said that all is well.
func (p *process) end(patience time.Duration) error {
	p.tell(syscall.SIGTERM)
	if !p.wait(patience) {
		p.kill()
		return fmt.Errorf("%s did not end within %v after SIGTERM", p.name, patience)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.status != nil && !p.status.Success() {
		return fmt.Errorf("%s ended with %v after SIGTERM", p.name, p.status)
	}
	return nil
}

// lastWord is the last line of its standard error.
func (p *process) lastWord() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}

// hadNoRoom reports whether it could not even start, on a full disk: whoever
// keeps it running starts it again. The number is SQLite's for the same.
func (p *process) hadNoRoom() bool {
	const starting = 3 * time.Second
	p.mu.Lock()
	begun := p.begun
	p.mu.Unlock()
	last := p.lastWord()
	return time.Since(begun) < starting && slices.ContainsFunc([]string{"no space left", "disk is full", "disk I/O error (4874)"},
		func(text string) bool { return strings.Contains(last, text) })
}

// supervisors are the children of that process that supervise builds.
func supervisors(parent int) []int {
	var found []int
	for _, pid := range pids() {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue // it is gone
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		var state string
		var of int
		if _, err := fmt.Sscan(rest, &state, &of); err != nil || of != parent || state == "Z" {
			continue
		}
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && strings.HasPrefix(string(name), "builder-supervisor") {
			found = append(found, pid)
		}
	}
	return found
}

// remains are the processes of the programs in bin, and those that got the
// variable mark, told for people.
func remains(bin, mark string) []string {
	var found []string
	for _, pid := range pids() {
		dir := fmt.Sprintf("/proc/%d", pid)
		program, err := os.Readlink(filepath.Join(dir, "exe"))
		if err != nil || pid == os.Getpid() {
			continue
		}
		env, _ := os.ReadFile(filepath.Join(dir, "environ")) // empty when it is gone
		line, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		if strings.HasPrefix(program, bin+"/") || strings.Contains("\x00"+string(env), "\x00"+mark+"\x00") {
			found = append(found, fmt.Sprintf("%d %s", pid, strings.ReplaceAll(string(line), "\x00", " ")))
		}
	}
	return found
}

// pids are the processes of this machine.
func pids() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var found []int
	for _, entry := range entries {
		var pid int
		if _, err := fmt.Sscan(entry.Name(), &pid); err == nil {
			found = append(found, pid)
		}
	}
	return found
}
