package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"builder/pkg/job"
)

// payload is what the builds of a job print and leave: the same each time but for
// the first line, and all of it drawn from Seed, so that nothing needs to be kept
// to check it. This program runs it too, inside of the build.
type payload struct {
	Seed     uint64
	Lines    int
	Long     bool          // some lines are longer than a line of the console may be
	Binary   bool          // some hold any octets
	Unended  bool          // no newline ends the last one
	Takes    time.Duration // to print them
	Files    []file
	End      ending
	Code     int    // exit status, or signal
	Stubborn bool   // takes no notice of TERM
	Ledger   string // directory where builds leave word of themselves
}

// ending is what a payload does at last.
type ending string

const (
	exits ending = "exits"
	dies  ending = "dies"  // by a signal
	hangs ending = "hangs" // for longer than it may
)

// file is an artifact.
type file struct {
	Path string
	Mode fs.FileMode
	Seed uint64
	Size int64
}

func (f file) content() io.Reader {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], f.Seed)
	return io.LimitReader(rand.NewChaCha8(key), f.Size)
}

// artifact is how the server should know it.
func (f file) artifact() (job.Artifact, error) {
	sum := sha256.New()
	n, err := io.Copy(sum, f.content())
	a := job.Artifact{Path: f.Path, Mode: f.Mode, Content: job.Content{Size: n}}
	sum.Sum(a.SHA256[:0])
	return a, err
}

// artifacts are all of them.
func (p payload) artifacts() ([]job.Artifact, error) {
	var all []job.Artifact
	for _, f := range p.Files {
		a, err := f.artifact()
		if err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	return all, nil
}

// script makes the job's script.
func (p payload) script(program string) ([]byte, error) {
	text, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	// What it leaves running must be gone with it.
	return fmt.Appendf(nil, "#!/bin/sh\nsleep 1000 &\nexec '%s' payload '%s'\n", program, text), nil
}

// text is the console of one build.
func (p payload) text(build string) []byte {
	random := rand.New(rand.NewPCG(p.Seed, 1)) //nolint:gosec // it must repeat
	text := fmt.Appendf(nil, "build %s\n", build)
	for i := range p.Lines {
		text = fmt.Appendf(text, "%06d ", i)
		switch {
		case p.Long && random.IntN(40) == 0:
			text = appendLetters(text, random, job.MaxLine+random.IntN(3*job.MaxLine))
		case p.Binary && random.IntN(3) == 0:
			text = appendOctets(text, random, random.IntN(200))
		default:
			text = appendLetters(text, random, random.IntN(80))
		}
		text = append(text, '\n')
	}
	if p.Unended {
		text = append(text, "no newline"...)
	}
	return text
}

func appendLetters(text []byte, random *rand.Rand, n int) []byte {
	for range n {
		text = append(text, byte('!'+random.IntN('~'-'!'+1)))
	}
	return text
}

// appendOctets appends any but newlines.
func appendOctets(text []byte, random *rand.Rand, n int) []byte {
	for range n {
		c := byte(random.IntN(255))
		if c >= '\n' {
			c++
		}
		text = append(text, c)
	}
	return text
}

// play is the life of a build.
func (p payload) play() error {
	if p.Stubborn {
		signal.Ignore(syscall.SIGTERM)
	}
	build := os.Getenv("BUILDER_BUILD")
	if err := p.tell(build, "begun", os.O_EXCL); err != nil {
		return err
	}
	if err := p.print(build); err != nil {
		return err
	}
	for _, f := range p.Files {
		if err := f.leave(); err != nil {
			return err
		}
	}
	if err := p.tell(build, "ended", 0); err != nil {
		return err
	}
	switch p.End {
	case exits:
		os.Exit(p.Code)
	case dies:
		return errors.Join(syscall.Kill(os.Getpid(), syscall.Signal(p.Code)), errStays())
	case hangs:
	}
	return errStays()
}

// errStays is for a process that is to be killed.
func errStays() error {
	time.Sleep(time.Hour)
	return errors.New("nobody ended this build")
}

// tell leaves word of the build, outside of what builder keeps.
func (p payload) tell(build, what string, flag int) error {
	f, err := os.OpenFile(filepath.Join(p.Ledger, build), os.O_CREATE|os.O_APPEND|os.O_WRONLY|flag, 0o666)
	if err != nil {
		// The second beginning of a build that can have one only.
		return errors.Join(err, os.WriteFile(filepath.Join(p.Ledger, build+".twice"), nil, 0o600))
	}
	_, err = fmt.Fprintln(f, what)
	return errors.Join(err, f.Close())
}

// print prints the text in pieces that end anywhere.
func (p payload) print(build string) error {
	const beat = 40 * time.Millisecond
	text := p.text(build)
	pieces := max(1, int(p.Takes/beat))
	for i := range pieces {
		from, to := len(text)*i/pieces, len(text)*(i+1)/pieces
		if _, err := io.Copy(os.Stdout, bytes.NewReader(text[from:to])); err != nil {
			return err
		}
		if i+1 < pieces || p.Takes > 0 {
			time.Sleep(p.Takes / time.Duration(pieces))
		}
	}
	return nil
}

// leave makes the artifact, all of it or nothing: a full disk is waited for.
func (f file) leave() error {
	for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		err := f.make()
		if !errors.Is(err, syscall.ENOSPC) || time.Now().After(end) {
			return err
		}
	}
}

func (f file) make() error {
	if err := os.MkdirAll(filepath.Dir(f.Path), 0o755); err != nil {
		return err
	}
	name := filepath.Join(os.Getenv("TMPDIR"), "artifact")
	out, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, f.Mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, f.content())
	if err = errors.Join(err, out.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return os.Rename(name, f.Path)
}
