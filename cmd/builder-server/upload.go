package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"builder/pkg/hooks"
	"builder/pkg/upload"

	"github.com/rs/zerolog"
	"github.com/spf13/pflag"
)

// authVariable has USER:PASSWORD of the only frontend.
const authVariable = "BUILDER_UPLOAD_AUTH"

// uploadOptions are the flags about what is done with ended builds.
type uploadOptions struct {
	urls               []string
	authFile, caFile   string
	stall, hookTimeout time.Duration
}

func (o *uploadOptions) flags(f *pflag.FlagSet) {
	f.StringArrayVar(&o.urls, "upload", nil, "upload ended builds to this `URL` of a web frontend; may be given several times")
	f.StringVar(&o.authFile, "upload-auth-file", "", "`file` of lines \"URL USER:PASSWORD\" for uploads, that not everybody may read\n(or environment "+authVariable+"=USER:PASSWORD, for the only URL)")
	f.StringVar(&o.caFile, "upload-ca", "", "`file` of certificates (PEM) to be believed beside the system's")
	f.DurationVar(&o.stall, "upload-stall", time.Minute, "how `long` an upload may go without an octet moving")
	f.DurationVar(&o.hookTimeout, "hook-timeout", hooks.DefaultTimeout, "how `long` an executable in upload-hooks of the config directory may run")
}

// frontends makes the frontends of all URLs.
func (o *uploadOptions) frontends(log zerolog.Logger) ([]*upload.Frontend, error) {
	options := upload.FrontendOptions{Auth: upload.Auth{}, Stall: o.stall}
	var err error
	if o.authFile != "" {
		if options.Auth, err = upload.ReadAuth(o.authFile); err != nil {
			return nil, err
		}
	}
	if err := o.authFromEnvironment(options.Auth); err != nil {
		return nil, err
	}
	if o.caFile != "" {
		if options.CA, err = upload.ReadCA(o.caFile); err != nil {
			return nil, err
		}
	}
	var all []*upload.Frontend
	unused := options.Auth.Names()
	for i, url := range o.urls {
		f, err := upload.NewFrontend(url, options)
		if err != nil {
			return nil, fmt.Errorf("--upload (%d of %d): %w", i+1, len(o.urls), err)
		}
		all = append(all, f)
		unused = slices.DeleteFunc(unused, func(name string) bool { return name == f.Name() })
	}
	for _, name := range unused {
		log.Warn().Str("peer", name).Msg("there is a password for what no --upload names")
	}
	return all, nil
}

// authFromEnvironment takes the password out of the environment, which local workers
// inherit.
func (o *uploadOptions) authFromEnvironment(auth upload.Auth) error {
	credentials, ok := os.LookupEnv(authVariable)
	if !ok {
		return nil
	}
	if err := os.Unsetenv(authVariable); err != nil {
		return err
	}
	if len(o.urls) != 1 || o.authFile != "" {
		return errors.New(authVariable + " is for one --upload, without --upload-auth-file: use that file for several")
	}
	if err := auth.Set(o.urls[0], credentials); err != nil {
		return fmt.Errorf("%s: %w", authVariable, err)
	}
	return nil
}
