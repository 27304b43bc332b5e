// Command example is the world around the worked example of "make run", with
// nothing installed: a DNS server, an exchanger that says what it concludes of
// the mail that it gets, and a client that submits by SMTP.
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "example: "+err.Error())
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("usage: example world|submit|free")
	}
	switch args[0] {
	case "world":
		return world(ctx, args[1:])
	case "submit":
		return submit(args[1:], os.Stdin)
	case "free":
		return free(args[1:])
	}
	return fmt.Errorf("unknown command %q", args[0])
}

// world serves DNS and takes mail until ctx ends.
func world(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("world", flag.ContinueOnError)
	zone := fs.String("zone", "", "zone `FILE` with absolute names")
	published := fs.String("published", "", "`FOLDER` of records that were published, as \"behalf domain records -o json\" prints them")
	dnsAddr := fs.String("dns", "127.0.0.1:2053", "`ADDRESS` of the DNS server")
	smtpAddr := fs.String("smtp", "127.0.0.1:2525", "`ADDRESS` of the exchanger")
	verdicts := fs.String("verdicts", "", "`FOLDER` for what the exchanger concludes, one file a message id")
	if err := fs.Parse(args); err != nil {
		return err
	}
	records := &records{zone: *zone, published: *published}
	stopDNS, err := serveDNS(*dnsAddr, records)
	if err != nil {
		return err
	}
	defer stopDNS()
	cert, err := selfSigned()
	if err != nil {
		return err
	}
	r := &receiver{judge: newJudge(*dnsAddr), verdicts: *verdicts, out: os.Stdout}
	return r.serve(ctx, *smtpAddr, &tls.Config{Certificates: []tls.Certificate{cert}})
}
