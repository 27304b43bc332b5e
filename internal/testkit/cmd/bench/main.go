// Command bench measures the relay beside Postfix, and Postfix with OpenDKIM, on
// one machine: all relay to one sink over loopback, take turns with each
// workload, and sync before they say 250. It prints the medians with their
// ratios, and fails when a message was lost, came twice or was refused.
//
// Behalf runs with its defaults, STARTTLS and log-in; Postfix is tuned and takes
// mail without either.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

func main() {
	if err := bench(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are those of the command line.
type options struct {
	program     string
	repeats     int
	sizes       []int
	connections []int
	few, many   int // messages with one connection, and with more
	pileUp      int // messages taken while the hop is down
	out         string
	only        string
}

func parse() (o options, err error) {
	sizes := flag.String("sizes", "4096,24576,65536", "octets of a message")
	connections := flag.String("connections", "1,20,100", "parallel connections")
	flag.StringVar(&o.program, "behalf", "bin/behalf", "the relay's program")
	flag.IntVar(&o.repeats, "repeats", 3, "runs of each workload")
	flag.IntVar(&o.few, "few", 500, "messages of a run with one connection")
	flag.IntVar(&o.many, "many", 3000, "messages of a run with more")
	flag.IntVar(&o.pileUp, "backlog", 20_000, "messages taken while the hop is down")
	flag.StringVar(&o.out, "out", "", "file for all results, as JSON lines")
	flag.StringVar(&o.only, "only", "", "unsigned or signed; default both, and the backlog")
	flag.Parse()
	if o.sizes, err = numbers(*sizes); err == nil {
		o.connections, err = numbers(*connections)
	}
	return o, err
}

func numbers(list string) (n []int, err error) {
	for s := range strings.SplitSeq(list, ",") {
		v, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil || v < 1 {
			return nil, fmt.Errorf("%q is no list of numbers", list)
		}
		n = append(n, v)
	}
	return n, nil
}

func bench() (err error) {
	o, err := parse()
	if err != nil {
		return err
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	dir, err := os.MkdirTemp("", "behalf-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // Postfix's own user walks through
		return err
	}
	s, err := newSink()
	if err != nil {
		return err
	}
	defer s.close()
	b, err := newBehalf(o.program, filepath.Join(dir, "behalf"), s.port())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	m := &matrix{options: o, sink: s}
	if o.only != "signed" {
		if err := m.compare(ctx, dir, b, false); err != nil {
			return err
		}
	}
	if o.only != "unsigned" {
		if err := m.compare(ctx, dir, b, true); err != nil {
			return err
		}
	}
	if err := m.report(); err != nil || o.only != "" {
		return err
	}
	return m.backlog(ctx, dir, b)
}
