package smtpd

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is for what takes no time but on a machine that is busy with other
// things. It is less than the 30 seconds that a server gives to messages on their
// way in when it stops.
const patience = 20 * time.Second

var selfSigned = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "relay.example"},
		// Fixed, because the first to ask may be a test in a bubble, where it is the year 2000.
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC),
		DNSNames: []string{"relay.example", "localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})

func serverTLS() *tls.Config { return &tls.Config{Certificates: []tls.Certificate{selfSigned()}} }
func clientTLS() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, ServerName: "relay.example"}
}

// certFile writes the self-signed certificate for clients that want to check it.
func certFile(t testing.TB) string {
	p := filepath.Join(t.TempDir(), "ca.pem")
	b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: selfSigned().Certificate[0]})
	if err := os.WriteFile(p, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// testOptions are those of a door whose every refusal is quick.
func testOptions() Options { return Options{Hostname: "relay.example", TLS: serverTLS()} }

// serve runs a door until the test ends, and checks that it leaves nothing
// behind. It returns the address.
func serve(t testing.TB, in Intake, o Options) string {
	addr, _ := serveUntil(t, in, o)
	return addr
}

func serveUntil(t testing.TB, in Intake, o Options) (addr string, stop func() error) {
	t.Helper()
	srv, err := New(in, o)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx, ln) }()
	stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(2 * patience):
			buf := make([]byte, 1<<20)
			t.Errorf("the server does not stop:\n%s", buf[:runtime.Stack(buf, true)])
			return nil
		}
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("Serve: %v", err)
		}
		srv.mu.Lock()
		if srv.sessions != 0 || len(srv.perIP) != 0 {
			t.Errorf("after the end %d sessions and %v are counted", srv.sessions, srv.perIP)
		}
		srv.mu.Unlock()
		buf := make([]byte, 1<<20)
		for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
			stacks := buf[:runtime.Stack(buf, true)]
			if !bytes.Contains(stacks, []byte("smtpd.(*session).")) {
				break
			}
			if time.Now().After(end) {
				t.Errorf("sessions leak:\n%s", stacks)
				break
			}
		}
	})
	return ln.Addr().String(), stop
}

// peer is the client's end of a dialog.
type peer struct {
	t    testing.TB
	conn net.Conn
	buf  []byte
}

func dial(t testing.TB, addr string) *peer {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &peer{t: t, conn: c}
}

func (p *peer) send(s string) {
	p.t.Helper()
	p.conn.SetWriteDeadline(time.Now().Add(patience))
	if _, err := p.conn.Write([]byte(s)); err != nil {
		p.t.Fatalf("send %.60q: %v", s, err)
	}
}

// line reads one line; "" is the end of the connection.
func (p *peer) line() string {
	p.t.Helper()
	p.conn.SetReadDeadline(time.Now().Add(patience))
	for {
		if i := strings.IndexByte(string(p.buf), '\n'); i >= 0 {
			l := string(p.buf[:i+1])
			p.buf = p.buf[i+1:]
			if !strings.HasSuffix(l, "\r\n") {
				p.t.Fatalf("the server sent %q", l)
			}
			return strings.TrimSuffix(l, "\r\n")
		}
		b := make([]byte, 4096)
		n, err := p.conn.Read(b)
		p.buf = append(p.buf, b[:n]...)
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			p.t.Fatal("the server says nothing")
		}
		if err != nil && n == 0 {
			return ""
		}
	}
}

// reply reads a whole reply.
func (p *peer) reply() string {
	p.t.Helper()
	var all []string
	for {
		l := p.line()
		all = append(all, l)
		if len(l) < 4 || l[3] != '-' {
			return strings.Join(all, "\n")
		}
	}
}

// expect reads a reply that must begin with prefix.
func (p *peer) expect(prefix string) string {
	p.t.Helper()
	r := p.reply()
	if !strings.HasPrefix(r, prefix) || prefix == "" && r != "" {
		p.t.Fatalf("reply %q, want %q", r, prefix)
	}
	return r
}

// do sends a line and expects a reply.
func (p *peer) do(line, prefix string) string {
	p.t.Helper()
	p.send(line + "\r\n")
	return p.expect(prefix)
}

func (p *peer) startTLS() {
	p.t.Helper()
	c := tls.Client(p.conn, clientTLS())
	if err := c.Handshake(); err != nil {
		p.t.Fatal("TLS handshake:", err)
	}
	p.conn = c
}

// login brings a fresh connection to where MAIL may be said.
func (p *peer) login() {
	p.t.Helper()
	p.expect("220 ")
	p.do("EHLO app.example", "250")
	p.do("STARTTLS", "220 2.0.0")
	p.startTLS()
	p.do("EHLO app.example", "250")
	p.do("AUTH PLAIN AGFjbWUvYXBwAGszeS1vZi10aGUtYXBw", "235 2.7.0")
}

// envelope opens a transaction with one recipient.
func (p *peer) envelope() {
	p.t.Helper()
	p.do("MAIL FROM:<a@acme.example>", "250 2.1.0")
	p.do("RCPT TO:<b@example.org>", "250 2.1.5")
}

// loggedIn is dial and login.
func loggedIn(t testing.TB, addr string) *peer {
	t.Helper()
	p := dial(t, addr)
	p.login()
	return p
}
