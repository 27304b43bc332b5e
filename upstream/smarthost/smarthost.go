// Package smarthost sends through an SMTP server with an account: a tenant's
// connection or the platform's own. Sessions are kept and shared by all jobs.
//
// A password travels through verified TLS only. Security "none" is for loopback,
// and anything else weaker asks for AllowInsecure in words.
package smarthost

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"behalf/internal/egress"
	"behalf/internal/smtpclient"
	"behalf/mail"
	"behalf/upstream"
)

// Config says how to reach the server. Host, Hello and Dialer are required.
type Config struct {
	Host     string
	Port     int    // 0: by Security, 465, 587 or 25
	Security string // tls, starttls or none; empty: starttls
	Auth     string // plain, login, cram-md5 or scram-sha-256; empty: the best offered
	Username string
	// Password is asked for each time a session logs in; nil: no log-in.
	Password func(context.Context) (string, error)
	CA       string // PEM certificates, besides the system's roots
	// AllowInsecure accepts any certificate and, with security none, a password
	// in clear.
	AllowInsecure bool
	Hello         string // our name in EHLO
	Dialer        *egress.Dialer
	Origin        egress.Origin // who named the host
	Limits        smtpclient.Limits
	// Open bounds the making of a session, log-in included; 0: 20 s, which lets
	// two tries fail within the minute after which a message takes its next way.
	Open     time.Duration
	Timeouts smtpclient.Timeouts
}

const defaultOpen = 20 * time.Second

// Upstream is a smart host.
type Upstream struct {
	cfg      Config
	security smtpclient.Security
	tls      *tls.Config
	pool     *smtpclient.Pool
}

// New checks the configuration. It connects to nothing.
func New(cfg Config) (*Upstream, error) {
	u := &Upstream{cfg: cfg}
	port := 587
	switch cfg.Security {
	case "tls":
		u.security, port = smtpclient.ImplicitTLS, 465
	case "starttls", "":
		u.security = smtpclient.StartTLS
	case "none":
		u.security, port = smtpclient.Plain, 25
	default:
		return nil, fmt.Errorf("security %q is not known: write tls, starttls or none", cfg.Security)
	}
	if cfg.Host == "" {
		return nil, errors.New("the smart host has no host")
	}
	if cfg.Port == 0 {
		u.cfg.Port = port
	}
	if u.cfg.Port < 1 || u.cfg.Port > 65535 {
		return nil, fmt.Errorf("port %d is none", cfg.Port)
	}
	if cfg.Open == 0 {
		u.cfg.Open = defaultOpen
	}
	roots, err := rootsWith(cfg.CA)
	if err != nil {
		return nil, err
	}
	u.tls = &tls.Config{RootCAs: roots, InsecureSkipVerify: cfg.AllowInsecure, ClientSessionCache: tls.NewLRUClientSessionCache(16)}
	u.pool = smtpclient.NewPool(cfg.Limits)
	return u, nil
}

// rootsWith is the system's roots and those of a PEM text; nil stands for the
// former.
func rootsWith(pem string) (*x509.CertPool, error) {
	if pem == "" {
		return nil, nil
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM([]byte(pem)) {
		return nil, errors.New("ca_file holds no PEM certificate")
	}
	return roots, nil
}

// Traits of a smart host: it takes the envelope and keeps no copy.
func (u *Upstream) Traits() upstream.Traits { return upstream.Traits{} }

// Sessions counts the open sessions.
func (u *Upstream) Sessions() int { return u.pool.Open() }

// Close ends the idle sessions. Jobs under way finish first with theirs.
func (u *Upstream) Close() error { return u.pool.Close() }

// Deliver sends the job through a session of the pool.
func (u *Upstream) Deliver(ctx context.Context, j *upstream.Job) []upstream.Result {
	start := time.Now()
	l, waited, f := upstream.Lease(ctx, u.pool, "", u.cfg.Open)
	if f != nil {
		return upstream.FailAll(j, start, f)
	}
	start = start.Add(waited)
	defer l.Release()
	return upstream.Transact(ctx, l, u.dial, j, start)
}

// Check makes a session, log-in included, and ends it: what "connection test"
// asks for. The error is a *mail.Failure. It returns what protected the session.
func (u *Upstream) Check(ctx context.Context) (tls string, err error) {
	c, err := u.dial(ctx)
	if err != nil {
		return "", err
	}
	c.Close()
	return c.TLS(), nil
}

func (u *Upstream) dial(ctx context.Context) (*smtpclient.Client, error) {
	opening, cancel := context.WithTimeout(ctx, u.cfg.Open)
	defer cancel()
	conn, err := u.cfg.Dialer.Dial(opening, egress.Target{Host: u.cfg.Host, Port: uint16(u.cfg.Port), Origin: u.cfg.Origin})
	if err != nil {
		if errors.Is(ctx.Err(), context.Canceled) {
			return nil, mail.AsFailure(fmt.Errorf("interrupted: %w", err))
		}
		return nil, upstream.DialFailure(u.cfg.Host, err, mail.OfRoute)
	}
	return smtpclient.Open(opening, conn, smtpclient.Config{
		Peer: smtpclient.SmartHost, Host: u.cfg.Host, Hello: u.cfg.Hello, Security: u.security, TLS: u.tls,
		Auth: smtpclient.Auth{Mechanism: u.cfg.Auth, Username: u.cfg.Username, Password: u.cfg.Password, InClear: u.inClear(conn)},
		Wait: u.cfg.Timeouts,
	})
}

// inClear says whether a password may be sent without TLS.
func (u *Upstream) inClear(conn net.Conn) bool {
	if u.security != smtpclient.Plain {
		return false
	}
	a, ok := conn.RemoteAddr().(*net.TCPAddr)
	return u.cfg.AllowInsecure || ok && a.IP.IsLoopback()
}
