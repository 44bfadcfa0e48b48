package main

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// filePause is how often the shutdown file is looked at.
const filePause = time.Second

// stops ends drain at the first signal, or when the time of the file has changed
// (an empty name is none), and ctx too at the second signal. The third one has its
// usual effect.
func stops(parent context.Context, file string) (ctx, drain context.Context, release func()) {
	ctx, kill := context.WithCancel(parent)
	drain, stop := context.WithCancel(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	var watching sync.WaitGroup
	watching.Go(func() {
		for _, end := range []func(){stop, kill} {
			select {
			case <-signals:
				end()
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
					if !fileTime(file).Equal(was) {
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

// fileTime is when the file was changed; a file that is not there has none.
func fileTime(name string) time.Time {
	info, err := os.Stat(name)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}
