// Package mx delivers straight to the exchangers of a recipient's domain.
//
// The DNS of an outsider names the hosts, so every address passes the egress
// guard. TLS is used wherever it is offered, and whether the certificate was
// good is recorded; a host that cannot do the TLS it offers is asked again in
// clear, unless the sender demanded REQUIRETLS. Another exchanger is tried only
// while no session could be had: once one answered a recipient, its word counts.
package mx

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"behalf/internal/dnsx"
	"behalf/internal/egress"
	"behalf/internal/smtpclient"
	"behalf/mail"
	"behalf/upstream"
)

// Config says how to deliver. Hostname, Resolver and Dialer are required.
type Config struct {
	Hostname string   // our name in EHLO
	Own      []string // other names of ours, which an MX record must not lead back to
	Resolver dnsx.Resolver
	Dialer   *egress.Dialer
	Port     int // of the exchangers; 0: 25
	// Origin is egress.FromDNS except where an admin named every host that the
	// resolver can know, as in a lab.
	Origin egress.Origin
	Roots  *x509.CertPool // nil: the system's
	// Limits of the sessions. Total is for all destinations together: it must be
	// enough for all jobs that may be under way.
	Limits smtpclient.Limits
	// Open is the time for having a session with any exchanger, and is shared
	// among them; 0: 30 s.
	Open     time.Duration
	Timeouts smtpclient.Timeouts
}

const (
	defaultOpen      = 30 * time.Second
	defaultHandshake = 10 * time.Second
	maxHosts         = 8 // of a domain, in one attempt
)

// defaultLimits are what large sites are known to take from one address.
var defaultLimits = smtpclient.Limits{PerKey: 10, Messages: 100, Idle: 10 * time.Second}

// Upstream is direct delivery.
type Upstream struct {
	cfg  Config
	own  map[string]bool
	tls  *tls.Config
	pool *smtpclient.Pool
}

// New makes the upstream. It connects to nothing.
func New(cfg Config) *Upstream {
	if cfg.Port == 0 {
		cfg.Port = 25
	}
	if cfg.Open == 0 {
		cfg.Open = defaultOpen
	}
	if cfg.Timeouts.Handshake == 0 {
		cfg.Timeouts.Handshake = defaultHandshake
	}
	l := cfg.Limits
	if l.PerKey == 0 {
		l.PerKey = defaultLimits.PerKey
	}
	if l.Messages == 0 {
		l.Messages = defaultLimits.Messages
	}
	if l.Idle == 0 {
		l.Idle = defaultLimits.Idle
	}
	u := &Upstream{cfg: cfg, own: map[string]bool{}, pool: smtpclient.NewPool(l),
		tls: &tls.Config{RootCAs: cfg.Roots, ClientSessionCache: tls.NewLRUClientSessionCache(256)}}
	for _, n := range append([]string{cfg.Hostname}, cfg.Own...) {
		if strings.Contains(n, ".") { // "localhost" is everybody's name
			u.own[lower(n)] = true
		}
	}
	return u
}

// Traits of direct delivery: it takes the envelope and keeps no copy.
func (u *Upstream) Traits() upstream.Traits { return upstream.Traits{} }

// Sessions counts the open sessions.
func (u *Upstream) Sessions() int { return u.pool.Open() }

// Close ends the idle sessions. Jobs under way finish first with theirs.
func (u *Upstream) Close() error { return u.pool.Close() }

// Deliver sends the job to the first exchanger of j.Domain that answers.
func (u *Upstream) Deliver(ctx context.Context, j *upstream.Job) []upstream.Result {
	start := time.Now()
	looking, cancel := context.WithTimeout(ctx, u.cfg.Open)
	hosts, f := u.hosts(looking, j.Domain, j.Message.Envelope.RequireTLS)
	cancel()
	if f != nil {
		return upstream.FailAll(j, start, f)
	}
	left := u.cfg.Open - time.Since(start) // a wait for a session of ours is not counted
	var worst *mail.Failure
	for i, h := range hosts {
		l, waited, f := upstream.Lease(ctx, u.pool, u.key(h, j), u.cfg.Open)
		if f != nil {
			return upstream.FailAll(j, start, f)
		}
		start = start.Add(waited)
		rs, noSession := u.ask(ctx, l, j, start, func(ctx context.Context) (*smtpclient.Client, error) {
			began := time.Now()
			defer func() { left -= time.Since(began) }()
			return u.dial(ctx, h, j, u.share(left, len(hosts)-i))
		})
		if noSession == nil {
			return rs
		}
		if errors.Is(ctx.Err(), context.Canceled) {
			return upstream.Interrupted(j, start, noSession)
		}
		worst = tellsMore(worst, noSession)
	}
	rs := upstream.FailAll(j, start, worst)
	for i := range rs {
		rs[i].Host, rs[i].Reply = worst.Remote, worst.Reply
	}
	return rs
}

// ask makes the attempt at one host and gives back the lease. noSession says that
// the host answered for no recipient because no session with it could be had: no
// first one, or none in the place of a kept one that was over. Then, and only
// then, the next host may be asked.
func (u *Upstream) ask(ctx context.Context, l *smtpclient.Lease, j *upstream.Job, start time.Time, dial upstream.Dial) (rs []upstream.Result, noSession *mail.Failure) {
	defer l.Release()
	rs = upstream.Transact(ctx, l, func(ctx context.Context) (*smtpclient.Client, error) {
		c, err := dial(ctx)
		if err != nil {
			noSession = mail.AsFailure(err)
			return nil, noSession
		}
		return c, nil
	}, j, start)
	if slices.ContainsFunc(rs, func(r upstream.Result) bool { return r.Failure != noSession }) {
		noSession = nil
	}
	return rs, noSession
}

// tellsMore picks the failure to report when every host failed: one that
// answered before one that was silent, a passing trouble before a lasting one,
// the better host before the worse.
func tellsMore(a, b *mail.Failure) *mail.Failure {
	switch {
	case a == nil, b.Stage > a.Stage, b.Stage == a.Stage && b.Temporary() && !a.Temporary():
		return b
	}
	return a
}

// share is the time that a host gets of what is left for so many. A host that
// says nothing takes no more, so that the last one is asked in every attempt;
// it gets a sixth of all at least, even if the whole then takes longer.
func (u *Upstream) share(left time.Duration, hosts int) time.Duration {
	return max(left/time.Duration(hosts), u.cfg.Open/6)
}

// key names the sessions that a job may share.
func (u *Upstream) key(h host, j *upstream.Job) string {
	k := net.JoinHostPort(h.name, strconv.Itoa(u.cfg.Port))
	if j.Message.Envelope.RequireTLS {
		k += " tls"
	}
	return k
}

// security is what a session for j needs.
func (u *Upstream) security(j *upstream.Job) smtpclient.Security {
	if j.Message.Envelope.RequireTLS {
		return smtpclient.StartTLS
	}
	return smtpclient.Opportunistic
}

// dial opens a session with h within that time, in clear if the TLS it offers
// does not work.
func (u *Upstream) dial(ctx context.Context, h host, j *upstream.Job, within time.Duration) (*smtpclient.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	addrs, f := u.addrs(ctx, h)
	if f != nil {
		return nil, f
	}
	want, wait := u.security(j), u.cfg.Timeouts
	if want == smtpclient.Opportunistic { // a handshake that hangs leaves time for going on in clear
		wait.Handshake = min(wait.Handshake, within/2)
	}
	c, err := u.open(ctx, h.name, addrs, want, wait)
	if err != nil && want == smtpclient.Opportunistic && mail.AsFailure(err).Reason == mail.ReasonTLS {
		c, err = u.open(ctx, h.name, addrs, smtpclient.Plain, wait)
	}
	return c, err
}

func (u *Upstream) open(ctx context.Context, name string, addrs []netip.Addr, s smtpclient.Security, wait smtpclient.Timeouts) (*smtpclient.Client, error) {
	conn, err := u.cfg.Dialer.Dial(ctx, egress.Target{Host: name, Addrs: addrs, Port: uint16(u.cfg.Port), Origin: u.cfg.Origin,
		Key: organisation(name)}) // all exchangers of a site see the same address of ours
	if err != nil {
		return nil, upstream.DialFailure(name, err, mail.OfRecipient)
	}
	c, err := smtpclient.Open(ctx, conn, smtpclient.Config{Peer: smtpclient.Exchanger, Host: name, Hello: u.cfg.Hostname,
		Security: s, TLS: u.tls, Wait: wait})
	if err != nil {
		return nil, err
	}
	if u.own[lower(c.Greeting())] {
		c.Close()
		return nil, loop(fmt.Sprintf("%s greets as ourselves, which do not take mail for this domain", name))
	}
	return c, nil
}
