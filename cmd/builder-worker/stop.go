package main

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"
)

// filePause is how often the shutdown file is looked at.
const filePause = time.Second

// lastBuilds is what the log says when drain ends.
const lastBuilds = "no new builds are taken, those that run are finished"

// stops ends drain at the first signal, or when the time of the file has changed
// (an empty name is none), and ctx too at the second signal. The third one has its
// usual effect. The log tells of each.
func stops(parent context.Context, file string, log zerolog.Logger) (ctx, drain context.Context, release func()) {
	ctx, kill := context.WithCancel(parent)
	drain, stop := context.WithCancel(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	var watching sync.WaitGroup
	watching.Go(func() {
		for _, signalled := range []struct {
			end  func()
			what string
		}{{stop, lastBuilds}, {kill, "builds that run are ended"}} {
			select {
			case signal := <-signals:
				log.Info().Stringer("signal", signal).Msg(signalled.what)
				signalled.end()
			case <-ctx.Done():
				return
			}
		}
		signal.Stop(signals)
	})
	if file != "" {
		was := fileTime(file)
		watching.Go(func() {
			ticker := time.NewTicker(filePause)
			defer ticker.Stop()
			for drain.Err() == nil {
				select {
				case <-ticker.C:
					if touched(file, was) {
						log.Info().Str("file", file).Msg(lastBuilds)
						stop()
					}
				case <-drain.Done():
				}
			}
		})
	}
	return ctx, drain, func() {
		signal.Stop(signals)
		kill()
		watching.Wait()
		stop()
	}
}

// touched reports whether the file is there and has another time. That somebody tidies
// it away, or that it can not be looked at for a moment, ends no worker.
func touched(name string, was time.Time) bool {
	now := fileTime(name)
	return !now.IsZero() && !now.Equal(was)
}

// fileTime is when the file was changed; a file that is not there has none.
func fileTime(name string) time.Time {
	info, err := os.Stat(name)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}
