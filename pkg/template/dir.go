package template

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"builder/pkg/job"
)

// MaxSize is the largest template file that Load takes, in octets.
const MaxSize = 1 << 20

// Template is a text with variables, and where it came from.
type Template struct {
	Name string
	File string // the path of its file
	Text string
}

// Variables returns the names of its variables, as [Variables] does.
func (t Template) Variables() []string { return Variables(t.Text) }

// Expand fills in its variables, as [Expand] does; an error names the template.
func (t Template) Expand(vars map[string]string) (string, error) {
	text, err := Expand(t.Text, vars)
	if err != nil {
		return "", fmt.Errorf("expanding template %s (%s): %w", t.Name, t.File, err)
	}
	return text, nil
}

// Dir is a directory of templates, by its path: <name>.template.<platform> is
// taken before <name>.template, which serves every platform. Files are read when
// they are asked for, so changes to them count from then on. Safe for concurrent
// use.
type Dir string

// Load reads the template for a platform. When neither file exists the error
// names both and is an fs.ErrNotExist. Names that are not allowed are refused,
// and so are files that are not regular or have more than MaxSize octets.
func (d Dir) Load(name, platform string) (Template, error) {
	if err := checkNames(name, platform); err != nil {
		return Template{}, err
	}
	own, generic := d.files(name, platform)
	for _, file := range []string{own, generic} {
		text, err := readFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return Template{}, fmt.Errorf("reading template %s: %w", name, err)
		}
		return Template{Name: name, File: file, Text: text}, nil
	}
	return Template{}, fmt.Errorf("reading template %s: neither %s nor %s exists: %w", name, own, generic, fs.ErrNotExist)
}

// Platforms returns those of the known platforms for which there is a template of
// that name, in the order of known. It looks for the files only: what Load says
// of one may still be an error.
func (d Dir) Platforms(name string, known []string) []string {
	var have []string
	for _, platform := range known {
		if checkNames(name, platform) != nil {
			continue
		}
		own, generic := d.files(name, platform)
		if exists(own) || exists(generic) {
			have = append(have, platform)
		}
	}
	return have
}

func (d Dir) files(name, platform string) (own, generic string) {
	generic = filepath.Join(string(d), name+".template")
	return generic + "." + platform, generic
}

// checkNames keeps names from leaving the directory: none that is allowed has a
// slash or begins with a dot.
func checkNames(name, platform string) error {
	if err := job.CheckName("template", name); err != nil {
		return err
	}
	return job.CheckName("platform", platform)
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

func readFile(file string) (string, error) {
	info, err := os.Stat(file)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() { // opening a FIFO would wait for ever
		return "", fmt.Errorf("%s is not a regular file", file)
	}
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return "", err
	}
	if len(text) > MaxSize {
		return "", fmt.Errorf("%s has more than %d octets", file, MaxSize)
	}
	return string(text), nil
}
