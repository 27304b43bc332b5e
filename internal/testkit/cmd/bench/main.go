// Command bench measures the relay on one machine, over loopback: beside
// Postfix, and Postfix with OpenDKIM, and alone in what no steady load shows.
// Every part prints Markdown and writes lines of JSON, and fails when a message
// was lost, came twice or was refused.
//
// Behalf runs with its defaults, STARTTLS and log-in; Postfix is tuned and takes
// mail without either. All sync before they say 250, and relay to one sink.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"behalf/internal/testkit/cmd/bench/sink"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is what all parts share.
type bench struct {
	options
	*record  // of the part that runs
	dir      string
	arrivals *sink.Arrivals
	sink     *sink.Sink // the hop that is up
}

// part is one thing that can be measured by itself.
type part struct {
	name, what string
	usual      bool // runs when no part is named
	measure    func(*bench, context.Context) error
}

func parts() []part {
	return []part{
		{"matrix", "unsigned mail by size and connections, beside Postfix", true, (*bench).unsigned},
		{"signed", "the same signed with RSA-2048, beside Postfix and OpenDKIM", true, (*bench).signed},
		{"backlog", "mail taken while the hop is down, and passed on afterwards, beside Postfix", true, (*bench).backlog},
		{"idle", "memory for clients that do nothing, beside Postfix", true, (*bench).idle},
		{"restart", "a start on a full queue", false, (*bench).restart},
		{"large", "messages of 35 MiB to 100 recipients at once", false, (*bench).large},
		{"curves", "cost of a message by tenants, queue, limit keys and destinations", false, (*bench).curves},
		{"fair", "latency of one tenant beside others in trouble", false, (*bench).fair},
		{"million", "disk and memory after a million messages", false, (*bench).million},
		{"profile", "a CPU profile under the loads of the tables", false, (*bench).profile},
		{"soak", "an hour at 80 % of the peak rate", false, (*bench).soak},
	}
}

func run(args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	if o.draw != "" {
		return redraw(o.draw, o.svg)
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
	b := &bench{options: o, dir: dir, arrivals: sink.NewArrivals()}
	if b.sink, err = sink.Listen(b.arrivals); err != nil {
		return err
	}
	defer b.sink.Close()
	for _, p := range parts() {
		if !o.runs(p) {
			continue
		}
		if err := b.part(ctx, p); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

// part measures one part, with a record of its own.
func (b *bench) part(ctx context.Context, p part) (err error) {
	if b.record, err = newRecord(b.results, p.name); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "== %s: %s\n", p.name, p.what)
	err = p.measure(b, ctx)
	b.sink.Set(sink.Up)
	return errors.Join(err, ctx.Err(), b.record.close())
}

// folder is a new one for a server under test.
func (b *bench) folder(name string) (string, error) {
	dir := filepath.Join(b.dir, name)
	return dir, os.MkdirAll(dir, 0o755)
}
