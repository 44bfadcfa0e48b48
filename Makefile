# Plain make, Go and git are all that is needed; see HACKING.md.

GO       ?= go
BIN      := bin
PROGRAMS := builder-server builder-worker builder-client
LINT     := $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
FUZZTIME ?= 10s
# What make torture does: how often, beginning with which plan (0 draws one).
ROUNDS   ?= 1
SEED     ?= 0

# Without cgo every program is one static file, for every system.
export CGO_ENABLED = 0
# What is built depends on the source only.
GOFLAGS_BUILD := -trimpath

.PHONY: build test race lint fmt fuzz bench check cross mutate torture demo clean

build:
	$(GO) build $(GOFLAGS_BUILD) -o $(BIN)/ $(PROGRAMS:%=./cmd/%)

test:
	$(GO) test ./...

# The race detector needs a C compiler.
race:
	CGO_ENABLED=1 $(GO) test -race ./...

lint:
	$(LINT) run ./...

fmt:
	$(LINT) fmt ./...

# Each fuzz target for FUZZTIME.
fuzz:
	GO=$(GO) FUZZTIME=$(FUZZTIME) scripts/fuzz

bench:
	GO=$(GO) scripts/bench

# Removes every sync call in turn; the tests must notice each.
mutate:
	$(GO) run ./scripts/mutate-syncs

# Real processes, killed, stopped, cut off and without room; about a minute a round.
torture:
	$(GO) run ./torture -rounds $(ROUNDS) -seed $(SEED)

cross:
	GO=$(GO) scripts/cross

demo: build
	GO=$(GO) scripts/demo

check:
	GO=$(GO) scripts/check

clean:
	rm -rf $(BIN)
