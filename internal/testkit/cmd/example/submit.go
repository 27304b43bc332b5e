package main

import (
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// submit hands the message on the standard input to a submission server, as an
// app does, and prints the server's answer.
func submit(args []string, in io.Reader) error {
	fs := flag.NewFlagSet("submit", flag.ContinueOnError)
	server := fs.String("server", "", "`ADDRESS`")
	ca := fs.String("ca", "", "certificate `FILE` to trust")
	user := fs.String("user", "", "`USERNAME`")
	from := fs.String("from", "", "`ADDRESS`")
	to := fs.String("to", "", "`ADDRESS`")
	if err := fs.Parse(args); err != nil {
		return err
	}
	pem, err := os.ReadFile(*ca)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	host, _, err := net.SplitHostPort(*server)
	if err != nil {
		return err
	}
	c, err := smtp.DialStartTLS(*server, &tls.Config{RootCAs: roots, ServerName: host})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Auth(sasl.NewPlainClient("", *user, os.Getenv("SECRET"))); err != nil {
		return err
	}
	if err := c.Mail(*from, nil); err != nil {
		return err
	}
	if err := c.Rcpt(*to, nil); err != nil {
		return err
	}
	text, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, strings.ReplaceAll(string(text), "\n", "\r\n")); err != nil {
		return err
	}
	resp, err := w.CloseWithResponse()
	if err != nil {
		return err
	}
	fmt.Println(resp.StatusText)
	return c.Quit()
}

// free says which of the addresses are taken already.
func free(addrs []string) error {
	for _, a := range addrs {
		ln, err := net.Listen("tcp", a)
		if err != nil {
			return fmt.Errorf("%s is in use or cannot be had (%w)", a, err)
		}
		if err := ln.Close(); err != nil {
			return err
		}
	}
	return nil
}
