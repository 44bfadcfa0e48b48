package sandbox_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"builder/pkg/sandbox"

	"golang.org/x/sys/unix"
)

// TestReuse: a build gets directories that an earlier one had only if they are as new
// ones; under another name in any case.
func TestReuse(t *testing.T) {
	home := func(change func(home string) error) func(string) error {
		return func(dir string) error { return change(filepath.Join(dir, "home")) }
	}
	for name, test := range map[string]struct {
		left  func(dir string) error // what the build does with its place
		again bool
	}{
		"nothing":           {nil, true},
		"artifacts":         {func(dir string) error { return os.WriteFile(filepath.Join(dir, "out", "a"), nil, 0o600) }, false},
		"a file":            {home(func(home string) error { return os.WriteFile(filepath.Join(home, ".profile"), nil, 0o600) }), false},
		"a temporary file":  {func(dir string) error { return os.WriteFile(filepath.Join(dir, "tmp", "x"), nil, 0o600) }, false},
		"a file beside":     {func(dir string) error { return os.WriteFile(filepath.Join(dir, "x"), nil, 0o600) }, false},
		"a mode":            {home(func(home string) error { return os.Chmod(home, 0o755) }), false},
		"a mode of tmp":     {func(dir string) error { return os.Chmod(filepath.Join(dir, "tmp"), os.ModeSticky|0o700) }, false},
		"a mode of all":     {func(dir string) error { return os.Chmod(dir, 0o755) }, false},
		"a directory less":  {home(os.Remove), false},
		"a file in place":   {home(func(home string) error { return errors.Join(os.Remove(home), os.WriteFile(home, nil, 0o700)) }), false},
		"a link in place":   {home(func(home string) error { return errors.Join(os.Remove(home), os.Symlink("tmp", home)) }), false},
		"an attribute":      {home(func(home string) error { return unix.Setxattr(home, "user.left", []byte("x"), 0) }), false},
		"a flag":            {home(noDump), false},
		"a file come, gone": {home(comeAndGone), false},
		"a mode and back":   {home(func(home string) error { return errors.Join(os.Chmod(home, 0o755), os.Chmod(home, 0o700)) }), false},
		"times":             {home(func(home string) error { return os.Chtimes(home, time.Unix(0, 0), time.Unix(0, 0)) }), false},
	} {
		t.Run(name, func(t *testing.T) {
			root := placeRoot(t)
			p, err := sandbox.NewPlain(root, 1)
			if err != nil {
				t.Fatal(err)
			}
			closes(t, p, root)
			if !sandbox.Exact(p) {
				passes(t)
			}
			first := prepare(t, p, sandbox.Spec{Script: []byte("#!/bin/sh\npwd\necho $HOME\n")})
			_, before, err := runIn(t.Context(), first)
			if err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(root, first.Name())
			one := hold(t, dir)
			if test.left != nil {
				if err := test.left(dir); errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENOTTY) {
					t.Log("this file system has no such thing: ", err)
					test.again = true
				} else if err != nil {
					t.Fatal(err)
				}
			}
			if _, _, err := first.Artifacts(func(string) error { return nil }); err != nil {
				t.Fatal(err)
			}
			if err := first.Destroy(); err != nil {
				t.Fatal(err)
			}
			second := prepare(t, p, sandbox.Spec{Script: []byte("#!/bin/sh\npwd\necho $HOME\nls -A . ~ $TMPDIR ..\nstat -c %a . ~ $TMPDIR ..\n")})
			_, after, err := runIn(t.Context(), second)
			if err != nil {
				t.Fatal(err)
			}
			if again := os.SameFile(one, hold(t, filepath.Join(root, second.Name()))); again != test.again {
				t.Errorf("used again: %v", again)
			}
			paths, rest, _ := strings.Cut(after, "\n"+filepath.Join(root, second.Name())+"/home\n")
			if strings.HasPrefix(before, paths) {
				t.Errorf("both builds ran in %s", paths)
			}
			place := filepath.Join(root, second.Name())
			want := fmt.Sprintf(".:\n\n..:\nhome\nout\nscript\ntmp\n\n%s/home:\n\n%s/tmp:\n700\n700\n700\n700\n", place, place)
			if rest != want {
				t.Errorf("the second build found\n%s, want\n%s", rest, want)
			}
		})
	}
}

// hold keeps a directory open, so that no other one gets its number.
func hold(t *testing.T, name string) os.FileInfo {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// noDump sets FS_NODUMP_FL, see chattr(1).
func noDump(name string) error {
	fd, err := unix.Open(name, unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	if err != nil {
		return err
	}
	return unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(flags|0x40))
}

func comeAndGone(dir string) error {
	name := filepath.Join(dir, "x")
	return errors.Join(os.WriteFile(name, nil, 0o600), os.Remove(name))
}

// passes waits until times of files tell now from then.
func passes(t *testing.T) {
	t.Helper()
	made := time.Now()
	name := filepath.Join(t.TempDir(), "now")
	wait(t, "times of files go on", func() bool {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		return info.ModTime().Sub(made) > 50*time.Millisecond
	})
}

// TestTooNew: of directories that were made just before a build nobody can tell whether
// it has touched them.
func TestTooNew(t *testing.T) {
	for age, want := range map[time.Duration]bool{time.Millisecond: false, 19 * time.Millisecond: false, 30 * time.Millisecond: true, -time.Hour: false} {
		t.Run(age.String(), func(t *testing.T) {
			root := placeRoot(t)
			p, err := sandbox.NewPlain(root, 1)
			if err != nil {
				t.Fatal(err)
			}
			closes(t, p, root)
			first := prepare(t, p, sandbox.Spec{Script: []byte("#!/bin/sh\n")})
			sandbox.SetAge(first, age)
			one := hold(t, filepath.Join(root, first.Name()))
			if err := first.Destroy(); err != nil {
				t.Fatal(err)
			}
			second := prepare(t, p, sandbox.Spec{})
			if again := os.SameFile(one, hold(t, filepath.Join(root, second.Name()))); again != want {
				t.Errorf("used again: %v", again)
			}
		})
	}
}
