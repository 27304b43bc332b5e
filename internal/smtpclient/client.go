package smtpclient

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"sync"
	"time"

	"behalf/mail"
)

// Peer is the kind of server at the other end: its replies mean different things.
type Peer uint8

// The kinds.
const (
	Exchanger Peer = iota // the MX of a recipient's domain
	SmartHost             // a submission server with an account of ours
)

// Security says how a session is protected.
type Security uint8

// The ways. Opportunistic uses STARTTLS where it is offered, whatever the
// certificate; the others fail rather than speak without verified TLS.
const (
	Plain Security = iota
	Opportunistic
	StartTLS
	ImplicitTLS
)

// Auth is how to log in.
type Auth struct {
	Mechanism string // plain, login, cram-md5, scram-sha-256; empty: the best offered
	Username  string
	// Password is asked for once a session needs it; nil: no log-in.
	Password func(context.Context) (string, error)
	// InClear allows a password to travel without TLS.
	InClear bool
}

// Config says how to open a session.
type Config struct {
	Peer     Peer
	Host     string // name of the server: for TLS and for people
	Hello    string // our own name, for EHLO
	Security Security
	// TLS is a base for the handshake: RootCAs, ClientSessionCache, and
	// InsecureSkipVerify where the operator allowed it. May be nil.
	TLS  *tls.Config
	Auth Auth
	Wait Timeouts
}

// Timeouts bound each step. They are those of RFC 5321, section 4.5.3.2, made
// shorter except for the last, where haste makes duplicates. Zero means default.
type Timeouts struct {
	Greeting  time.Duration // 220, and each reply up to the log-in; 1 min
	Handshake time.Duration // TLS; 10 s
	Command   time.Duration // MAIL, RCPT, DATA; 2 min
	Block     time.Duration // writing 64 KiB; 3 min
	Final     time.Duration // the answer to the final dot; 10 min
}

func (t Timeouts) or() Timeouts {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&t.Greeting, time.Minute)
	set(&t.Handshake, 10*time.Second)
	set(&t.Command, 2*time.Minute)
	set(&t.Block, 3*time.Minute)
	set(&t.Final, 10*time.Minute)
	return t
}

// Client is one session. It is used by one goroutine at a time.
type Client struct {
	cfg      Config
	raw      net.Conn // below TLS
	conn     net.Conn
	r        *bufio.Reader
	w        *bufio.Writer // see out; nil while nothing is being written
	caps     Caps
	tls      string
	verified bool
	addr     string
	greeting string // the name the server gave in its greeting
	last     Reply  // the newest, to tell a 421 from a silent end
	at       point  // what was asked last of the transaction about
	about    *Transaction

	known  phrases   // what it says to each envelope
	peek   peek      // of a session at rest
	dots   dotWriter // of the content being sent
	broken bool      // not fit for another transaction
	dirty  bool      // a refused transaction is still open: RSET first
	spent  int       // transactions begun
	used   time.Time // end of the last use

	done     <-chan struct{} // of the context of this use
	unbound  func() bool     // lets go of it
	stop     func()          // interrupt
	patience time.Duration   // for the reply that is awaited, until it is waited for
	reading  bound
	writing  bound
}

// writeBuffers is shared by all sessions because a session needs one only while
// it writes: a thousand that wait for their peers hold none.
var writeBuffers buffers

// buffers are those that were used last and are not in use. A sync.Pool loses
// sight of one whenever the session goes on by another processor.
type buffers struct {
	mu   sync.Mutex
	free []*bufio.Writer
}

// maxBuffers of 64 KiB are kept for later.
const maxBuffers = 32

func (b *buffers) get() *bufio.Writer {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(b.free) - 1
	if n < 0 {
		return bufio.NewWriterSize(nil, 64<<10)
	}
	w := b.free[n]
	b.free = b.free[:n]
	return w
}

func (b *buffers) put(w *bufio.Writer) {
	w.Reset(nil)
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.free) < maxBuffers {
		b.free = append(b.free, w)
	}
}

// Open makes a session of a fresh connection: greeting, EHLO, TLS, log-in. It
// takes the connection over and closes it on failure. The error is always a
// *mail.Failure.
func Open(ctx context.Context, conn net.Conn, cfg Config) (*Client, error) {
	cfg.Wait = cfg.Wait.or()
	c := &Client{cfg: cfg, raw: conn, conn: conn, addr: conn.RemoteAddr().String()}
	c.r = bufio.NewReaderSize(replies{c}, maxReplyLine+1)
	c.stop = c.interrupt
	c.bind(ctx)
	err := c.open(ctx)
	c.unbind()
	if err != nil {
		c.conn.Close()
		return nil, c.trouble(ctx, err, mail.StageConnect)
	}
	c.used = time.Now()
	return c, nil
}

func (c *Client) open(ctx context.Context) error {
	if c.cfg.Security == ImplicitTLS {
		if err := c.handshake(); err != nil {
			return err
		}
	}
	greeting, err := c.readReply(c.cfg.Wait.Greeting, nil)
	if err != nil {
		return err
	}
	if greeting.Code != 220 {
		return c.refused(atGreeting, greeting)
	}
	c.greeting, _, _ = strings.Cut(greeting.Raw[min(4, len(greeting.Raw)):], " ")
	if err := c.hello(); err != nil {
		return err
	}
	if err := c.secure(); err != nil {
		return err
	}
	return c.login(ctx)
}

// hello says EHLO, and HELO to a server that does not know it.
func (c *Client) hello() error {
	r, err := c.ask("EHLO " + c.cfg.Hello)
	if err != nil {
		return err
	}
	if r.Positive() {
		c.caps = parseCaps(r)
		return nil
	}
	if r.Code/100 == 5 {
		if r, err = c.ask("HELO " + c.cfg.Hello); err != nil {
			return err
		}
		c.caps = Caps{}
	}
	if !r.Positive() {
		return c.refused(atHello, r)
	}
	return nil
}

// secure starts TLS as the configuration wants it.
func (c *Client) secure() error {
	switch {
	case c.cfg.Security != StartTLS && c.cfg.Security != Opportunistic:
		return nil
	case !c.caps.StartTLS && c.cfg.Security == Opportunistic:
		return nil
	case !c.caps.StartTLS:
		return &tlsError{"does not offer STARTTLS", nil}
	}
	r, err := c.ask("STARTTLS")
	if err != nil {
		return err
	}
	if r.Code != 220 {
		return &tlsError{"refused STARTTLS (" + r.Raw + ")", nil}
	}
	if err := c.handshake(); err != nil {
		return err
	}
	return c.hello()
}

// handshake puts TLS on the connection. What the server sent before it in clear
// is forgotten with the old reader: it could have come from anybody.
func (c *Client) handshake() error {
	cfg := &tls.Config{}
	if c.cfg.TLS != nil {
		cfg = c.cfg.TLS.Clone()
	}
	cfg.ServerName = strings.TrimSuffix(c.cfg.Host, ".")
	cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS12)
	if c.cfg.Security == Opportunistic {
		cfg.InsecureSkipVerify = true
	}
	conn := tls.Client(c.raw, cfg)
	c.readWithin(c.cfg.Wait.Handshake)
	c.writeWithin(c.cfg.Wait.Handshake)
	if err := conn.Handshake(); err != nil {
		return &tlsError{"could not agree on TLS", err}
	}
	c.conn, c.r = conn, bufio.NewReaderSize(replies{c}, maxReplyLine+1)
	s := conn.ConnectionState()
	c.verified = !cfg.InsecureSkipVerify || verify(s, cfg) == nil
	c.tls = tls.VersionName(s.Version) + " " + tls.CipherSuiteName(s.CipherSuite) + ", unverified"
	if c.verified {
		c.tls = strings.Replace(c.tls, "unverified", "verified", 1)
	}
	return nil
}

// verify is the check that InsecureSkipVerify leaves out.
func verify(s tls.ConnectionState, cfg *tls.Config) error {
	if len(s.PeerCertificates) == 0 {
		return errors.New("no certificate")
	}
	between := x509.NewCertPool()
	for _, cert := range s.PeerCertificates[1:] {
		between.AddCert(cert)
	}
	_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: cfg.RootCAs, Intermediates: between, DNSName: cfg.ServerName})
	return err
}

// Caps is what the server offers in the present state of the session.
func (c *Client) Caps() Caps { return c.caps }

// TLS tells of the protection, e.g. "TLS 1.3 TLS_AES_128_GCM_SHA256, verified";
// empty without TLS.
func (c *Client) TLS() string { return c.tls }

// Verified reports whether the certificate was good for the host's name.
func (c *Client) Verified() bool { return c.verified }

// Host is the server's name, as configured.
func (c *Client) Host() string { return c.cfg.Host }

// Addr is the server's address and port.
func (c *Client) Addr() string { return c.addr }

// Greeting is the name that the server gave itself.
func (c *Client) Greeting() string { return c.greeting }

// Spent counts the transactions begun in this session.
func (c *Client) Spent() int { return c.spent }

// Usable reports whether another transaction may begin.
func (c *Client) Usable() bool { return !c.broken }

// Close ends the session, with QUIT where the server may still listen. It does
// not wait for the answer, which nobody would read.
func (c *Client) Close() error {
	if !c.broken {
		c.broken = true
		c.conn.SetDeadline(time.Now().Add(time.Second))
		c.conn.Write([]byte("QUIT\r\n"))
	}
	return c.conn.Close()
}
