# make run    build, start the relay with a worked example, and stay up
# make test   install what the tests need (Debian, as root) and run all of them
# make build  the one static binary, bin/behalf; beside it bin/behalf-rsa, by which it
#             signs with the OpenSSL of the host where there is one
# make fuzz   run every fuzz target for FUZZTIME (default 60s)
# make bench  measure beside Postfix, and Postfix with OpenDKIM, on loopback; BENCH='-only curves' and the like
#             for other parts, BENCH=-quick for a look, bin/bench -h for all
# make microbench  the Go benchmarks of the hot packages; REV=main~5 compares with a revision
# make cover  the unit tests with coverage by package

GO       ?= go
FUZZTIME ?= 60s
BENCH    ?=
REV      ?=
VERSION  ?= $(shell git describe --tags --always 2>/dev/null || echo dev)

.PHONY: run test build bench microbench fuzz cover unit e2e lint deps clean

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/ ./cmd/behalf
	@rm -f bin/behalf-rsa
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/ ./cmd/behalf-rsa || \
		echo 'behalf-rsa cannot be built for this processor and is left out: Go signs'
	ln -sf behalf bin/sendmail

run: build
	scripts/run-example

test: deps lint unit e2e

deps:
	scripts/install-test-deps

lint:
	scripts/lint

unit:
	scripts/unit

e2e: build
	scripts/e2e

fuzz:
	FUZZTIME=$(FUZZTIME) scripts/fuzz

bench: build deps
	$(GO) build -o bin/bench ./internal/testkit/cmd/bench
	bin/bench $(BENCH)

microbench:
	scripts/microbench $(REV)

cover:
	$(GO) test -coverprofile=cover.out ./... && $(GO) tool cover -func=cover.out | tail -1

clean:
	rm -rf bin cover.out bench-results*
