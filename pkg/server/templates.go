package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"builder/pkg/job"
	"builder/pkg/schedule"
	"builder/pkg/wire"
)

// expand makes the script of a job with a template, for a platform.
func (s *Server) expand(j job.Job, platform string) ([]byte, error) {
	t, err := s.templates.Load(j.Template, platform)
	if err != nil {
		return nil, err
	}
	vars := map[string]string{job.PlatformVar: platform}
	for _, v := range j.Vars {
		vars[v.Name] = v.Value
	}
	text, err := t.Expand(vars)
	if err == nil && len(text) > wire.MaxScript {
		err = fmt.Errorf("template %q gives a script of %d octets, the limit is %d", j.Template, len(text), wire.MaxScript)
	}
	return []byte(text), err
}

// checkTemplate expands a job's template for its platform, or for all that have
// one, to find what is missing before the job is in the schedule.
func (s *Server) checkTemplate(j job.Job) error {
	for _, v := range j.Vars {
		if v.Name == job.PlatformVar {
			return fmt.Errorf("the variable %s is always the name of the platform", v.Name)
		}
	}
	if j.Platform != "" {
		_, err := s.expand(j, j.Platform)
		return err
	}
	if err := job.CheckName("template", j.Template); err != nil {
		return err
	}
	generic := j.Template + ".template"
	files, err := os.ReadDir(s.ConfigDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("looking for templates: %w", err)
	}
	found := false
	for _, file := range files {
		platform, ofPlatform := strings.CutPrefix(file.Name(), generic+".")
		if file.Name() == generic {
			platform, ofPlatform = "any", true
		}
		if !ofPlatform || job.IsBackup(file.Name()) || job.CheckName("platform", platform) != nil {
			continue
		}
		if _, err := s.expand(j, platform); err != nil {
			return err
		}
		found = true
	}
	if !found {
		generic = filepath.Join(s.ConfigDir, generic)
		return fmt.Errorf("no template %q: neither %s nor %s.PLATFORM exists on the server", j.Template, generic, generic)
	}
	return nil
}

// nowhere says why a job without a platform of its own could not run: it has a
// template, but for none of the known platforms.
func (s *Server) nowhere(st *schedule.State, j job.Job) error {
	platforms := st.Platforms()
	if len(platforms) == 0 {
		return fmt.Errorf("job %q could run nowhere: no platform is known yet; start a worker first", j.Name)
	}
	known := make([]string, len(platforms))
	for i, p := range platforms {
		known[i] = strconv.Quote(p.Name)
	}
	return fmt.Errorf("job %q could run nowhere: no known platform has a template %q; known platforms: %s; put %s.template.PLATFORM into %s",
		j.Name, j.Template, strings.Join(known, ", "), j.Template, s.ConfigDir)
}
