package smtpd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/pires/go-proxyproto"

	"behalf/mail"
	"behalf/relay"
)

// Intake decides about logins and messages; errors are a [mail.Failure] or
// count as our own temporary trouble. It is used by many sessions at once.
type Intake interface {
	// Login checks a secret. For bearer mechanisms Username is empty, and what
	// the client wrote as its user, if anything, is the Authzid.
	Login(ctx context.Context, c relay.Client, l relay.Login) (*relay.Principal, error)
	// Scram finds the verifier for a name. For a name that does not exist a
	// failure with code 535 is enough: the door then plays a decoy.
	Scram(ctx context.Context, c relay.Client, username string) (relay.ScramVerifier, error)
	// LoginVerified is Login after SCRAM has proved the secret.
	LoginVerified(ctx context.Context, c relay.Client, username, authzid string) (*relay.Principal, error)
	// Begin opens a transaction at MAIL FROM. Size is what the client declared,
	// or 0.
	Begin(ctx context.Context, p *relay.Principal, c relay.Client, e mail.Envelope, size int64) (relay.Transaction, error)
}

// Options configure a [Server]. Zero fields take the defaults named.
type Options struct {
	Hostname string      // in the banner; required
	TLS      *tls.Config // required; below TLS 1.2 nothing is spoken; used as it is for session tickets
	Implicit bool        // TLS from the first byte (465) instead of STARTTLS (587)

	MaxSize       int64 // octets of a message; 35 MiB
	MaxRecipients int   // RCPT commands of a transaction; 1000
	MaxMessages   int   // transactions of a session; 10000
	MaxSessions   int   // open at once; 10000
	MaxPerIP      int   // open at once from one IPv4 address or IPv6 /64; 1000

	IdleTimeout  time.Duration // waiting for a command; 5 minutes
	LoginTimeout time.Duration // from connect to a login; 10 minutes
	StallWindow  time.Duration // in which a message must come on by MinRate; 1 minute
	MinRate      int64         // octets a second; 1024
	WriteTimeout time.Duration // for a reply; 1 minute
	Grace        time.Duration // for messages on their way in when the server stops; 30 seconds

	// TrustedProxies are the peers that must begin with a PROXY header
	// (version 1 or 2), whose client address is then believed. From any other
	// peer such a header is a protocol error.
	TrustedProxies []netip.Prefix
	// Shed, if set, is asked at connect and at MAIL whether to take on more
	// work; its failure is what the client is told.
	Shed func() *mail.Failure

	Throttle *Throttle    // of failed logins; its own when nil
	Log      *slog.Logger // discards when nil
	Metrics  *Metrics     // nil: none
}

func (o *Options) fill() error {
	if o.Hostname == "" {
		return errors.New("smtpd: Options.Hostname is required")
	}
	if o.TLS == nil {
		return errors.New("smtpd: Options.TLS is required, because nobody may log in without TLS")
	}
	deflt(&o.MaxSize, 35<<20)
	deflt(&o.MaxRecipients, 1000)
	deflt(&o.MaxMessages, 10000)
	deflt(&o.MaxSessions, 10000)
	deflt(&o.MaxPerIP, 1000)
	deflt(&o.IdleTimeout, 5*time.Minute)
	deflt(&o.LoginTimeout, 10*time.Minute)
	deflt(&o.StallWindow, time.Minute)
	deflt(&o.MinRate, 1024)
	deflt(&o.WriteTimeout, time.Minute)
	deflt(&o.Grace, 30*time.Second)
	if o.Throttle == nil {
		o.Throttle = NewThrottle()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

func deflt[T int | int64 | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// Server is one kind of door. It may serve several listeners.
type Server struct {
	intake Intake
	o      Options
	tls    *tls.Config
	lend   *bulk
	decoy  decoy

	mu       sync.Mutex
	sessions int
	perIP    map[netip.Addr]int
}

// New makes a Server. It starts nothing.
func New(in Intake, o Options) (*Server, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	conf := o.TLS.Clone()
	conf.MinVersion = max(conf.MinVersion, tls.VersionTLS12)
	return &Server{intake: in, o: o, tls: conf, lend: newBulk(), decoy: newDecoy(), perIP: map[netip.Addr]int{}}, nil
}

// Run serves all listeners until ctx ends or one of them fails, which ends the
// others. It returns when every session has ended.
func (srv *Server) Run(ctx context.Context, listeners ...net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make(chan error, len(listeners))
	for _, ln := range listeners {
		go func() { errs <- srv.Serve(ctx, ln) }()
	}
	var err error
	for range listeners {
		if e := <-errs; e != nil {
			err = errors.Join(err, e)
			cancel()
		}
	}
	return err
}

// Serve takes sessions from ln until ctx ends, and closes ln. Then sessions that
// wait for a command are told 421 and closed at once; those in the middle of a
// message may finish it within Options.Grace. It returns when all have ended,
// with nil if that was because of ctx.
func (srv *Server) Serve(ctx context.Context, ln net.Listener) error {
	work, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()
	d := &door{open: map[*session]struct{}{}}
	closed := make(chan struct{})
	accepting, stop := context.WithCancel(ctx)
	go func() {
		defer close(closed)
		<-accepting.Done()
		ln.Close()
		d.stop()
	}()
	err := srv.accept(work, ln, d)
	stop()
	<-closed
	late := time.AfterFunc(srv.o.Grace, func() { kill(); d.kill() })
	d.wg.Wait()
	late.Stop()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("accept SMTP sessions on %s: %w", ln.Addr(), err)
}

// accept starts a session for each connection until ln is closed.
func (srv *Server) accept(ctx context.Context, ln net.Listener, d *door) error {
	var wait time.Duration
	for {
		conn, err := ln.Accept()
		switch {
		case err == nil:
			wait = 0
			srv.start(ctx, conn, d)
		case errors.Is(err, net.ErrClosed) || !passing(err):
			return err
		default:
			wait = min(max(2*wait, 5*time.Millisecond), time.Second)
			srv.o.Log.Warn("cannot accept SMTP sessions for now", "err", err, "wait", wait)
			time.Sleep(wait)
		}
	}
}

// passing tells of errors of accept that go by: too many open files, or a
// client that was gone before it was answered.
func passing(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ECONNABORTED, syscall.ENOBUFS, syscall.ENOMEM, syscall.EINTR} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// start makes room for a session and runs it, or turns the client away.
func (srv *Server) start(ctx context.Context, conn net.Conn, d *door) {
	srv.mu.Lock()
	full := srv.sessions >= srv.o.MaxSessions
	if !full {
		srv.sessions++
	}
	srv.mu.Unlock()
	if full {
		srv.o.Metrics.rejected(stageConnect, 421)
		if !srv.o.Implicit { // a new connection's send buffer is empty: this does not block
			conn.SetWriteDeadline(time.Now().Add(time.Second))
			fmt.Fprintf(conn, "421 4.3.2 %s has too many sessions open; try again in a minute\r\n", srv.o.Hostname)
		}
		conn.Close()
		return
	}
	s := newSession(srv, conn)
	d.add(s)
	srv.o.Metrics.session(1)
	go func() {
		defer func() {
			srv.mu.Lock()
			srv.sessions--
			srv.mu.Unlock()
			srv.o.Metrics.session(-1)
			d.remove(s)
		}()
		s.run(ctx)
	}()
}

// seat counts a session under its client's address, which is known only after
// the PROXY header; ok is false when there are too many. leave undoes it.
func (srv *Server) seat(addr netip.Addr) (leave func(), ok bool) {
	addr = addr.Unmap()
	if addr.Is6() {
		p, _ := addr.Prefix(64)
		addr = p.Addr()
	}
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if srv.perIP[addr] >= srv.o.MaxPerIP {
		return nil, false
	}
	srv.perIP[addr]++
	return func() {
		srv.mu.Lock()
		defer srv.mu.Unlock()
		if srv.perIP[addr]--; srv.perIP[addr] == 0 {
			delete(srv.perIP, addr)
		}
	}, true
}

// unwrap reads the PROXY header of a trusted proxy and returns the connection
// with the client's own address.
func (srv *Server) unwrap(conn net.Conn) (net.Conn, netip.AddrPort, error) {
	peer := addrPort(conn.RemoteAddr())
	for _, p := range srv.o.TrustedProxies {
		if !p.Contains(peer.Addr()) {
			continue
		}
		pc := proxyproto.NewConn(conn, proxyproto.WithPolicy(proxyproto.REQUIRE),
			proxyproto.SetReadHeaderTimeout(proxyTimeout))
		if pc.ProxyHeader() == nil {
			return pc, peer, errors.New("a trusted proxy sent no PROXY header")
		}
		return pc, addrPort(pc.RemoteAddr()), nil
	}
	return conn, peer, nil
}

const (
	proxyTimeout     = 10 * time.Second
	handshakeTimeout = 30 * time.Second
)

func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		ap := t.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}

// door holds the open sessions of one listener.
type door struct {
	mu      sync.Mutex
	open    map[*session]struct{}
	stopped bool
	wg      sync.WaitGroup
}

func (d *door) add(s *session) {
	d.wg.Add(1)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open[s] = struct{}{}
	if d.stopped {
		s.stop()
	}
}

func (d *door) remove(s *session) {
	d.mu.Lock()
	delete(d.open, s)
	d.mu.Unlock()
	d.wg.Done()
}

// stop asks every session to end, those of the future too.
func (d *door) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopped = true
	for s := range d.open {
		s.stop()
	}
}

// kill closes every connection that is still open.
func (d *door) kill() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for s := range d.open {
		s.raw.Close()
	}
}
