package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
)

// receiver is an exchanger for every domain.
type receiver struct {
	judge    *judge
	verdicts string // folder; empty for none

	mu  sync.Mutex
	out io.Writer
}

// serve takes mail until ctx ends.
func (r *receiver) serve(ctx context.Context, addr string, t *tls.Config) error {
	s := smtp.NewServer(r)
	s.Domain, s.TLSConfig, s.MaxMessageBytes, s.ReadTimeout, s.WriteTimeout = "mx.customer.test", t, 40<<20, time.Minute, time.Minute
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	_ = s.Close() // it was started
	if err := <-done; !errors.Is(err, smtp.ErrServerClosed) {
		return err
	}
	return nil
}

// NewSession implements smtp.Backend.
func (r *receiver) NewSession(c *smtp.Conn) (smtp.Session, error) {
	return &session{r: r, conn: c}, nil
}

type session struct {
	r    *receiver
	conn *smtp.Conn
	from string
	to   []string
}

func (s *session) Reset()        { s.from, s.to = "", nil }
func (s *session) Logout() error { return nil }

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	s.from = from
	return nil
}

// Rcpt knows nobody whose name begins with nobody, so that a bounce can be seen.
func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if len(to) >= 6 && to[:6] == "nobody" {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such mailbox here"}
	}
	s.to = append(s.to, to)
	return nil
}

func (s *session) Data(body io.Reader) error {
	data, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	ip := s.conn.Conn().RemoteAddr().(*net.TCPAddr).IP
	over := "no TLS"
	if state, ok := s.conn.TLSConnectionState(); ok {
		over = tls.VersionName(state.Version)
	}
	return s.r.received(data, s.r.judge.judge(data, ip, s.conn.Hostname(), s.from, s.to, over))
}

var idInReceived = regexp.MustCompile(`(?s)^(?:.*?\n)?Received: by [^;]* id ([0-9a-z]+);`)

// received prints a verdict, and files it under the relay's message id.
func (r *receiver) received(data []byte, verdict string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, err := io.WriteString(r.out, verdict); err != nil {
		return err
	}
	m := idInReceived.FindSubmatch(bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n")))
	if m == nil || r.verdicts == "" {
		return nil
	}
	path := filepath.Join(r.verdicts, string(m[1]))
	if err := os.WriteFile(path+".part", []byte(verdict), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".part", path)
}

func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mx.customer.test"}, DNSNames: []string{"mx.customer.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making a certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
