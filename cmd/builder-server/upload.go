package main

import (
	"fmt"
	"time"

	"builder/pkg/hooks"
	"builder/pkg/login"
	"builder/pkg/program"
	"builder/pkg/upload"

	"github.com/rs/zerolog"
	"github.com/spf13/pflag"
)

// authVariable has what the file of --upload-auth-file would have.
const authVariable = "BUILDER_UPLOAD_AUTH"

// uploadOptions are the flags about what is done with ended builds.
type uploadOptions struct {
	urls               []string
	authFile, caFile   string
	stall, hookTimeout time.Duration
}

func (o *uploadOptions) flags(f *pflag.FlagSet) {
	f.StringArrayVar(&o.urls, "upload", nil, "upload ended builds to this `URL` of a web frontend; may be given several times")
	f.StringVar(&o.authFile, "upload-auth-file", "", "`file` of lines \"URL USER:PASSWORD\", or USER:PASSWORD for all, that not everybody may read\n(or environment "+authVariable+")")
	f.StringVar(&o.caFile, "upload-ca", "", "`file` of certificates (PEM) to be believed beside the system's")
	f.Var(program.Time(&o.stall, time.Minute, time.Millisecond), "upload-stall", "how `long` an upload may go without an octet moving")
	f.Var(program.Time(&o.hookTimeout, hooks.DefaultTimeout, time.Millisecond), "hook-timeout", "how `long` an executable in upload-hooks of the config directory may run")
}

// frontends makes the frontends of all URLs.
func (o *uploadOptions) frontends(log zerolog.Logger) ([]*upload.Frontend, error) {
	logins, err := login.Load(o.authFile, authVariable)
	if err != nil {
		return nil, err
	}
	options := upload.FrontendOptions{Logins: logins, CAFile: o.caFile, Stall: o.stall}
	var all []*upload.Frontend
	for i, url := range o.urls {
		f, err := upload.NewFrontend(url, options)
		if err != nil {
			return nil, fmt.Errorf("--upload (%d of %d): %w", i+1, len(o.urls), err)
		}
		all = append(all, f)
	}
	for _, name := range logins.Unused(o.urls) {
		log.Warn().Str("peer", name).Msg("there is a password for what no --upload names")
	}
	return all, nil
}
