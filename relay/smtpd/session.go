package smtpd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"behalf/mail"
	"behalf/relay"
)

// How much nonsense a session may hold before it is ended.
const (
	maxErrors  = 10  // broken commands
	maxBareLF  = 3   // of them, lines that do not end in CRLF
	maxLogins  = 3   // failed
	maxChatter = 100 // commands in a row that get no message nearer
	// Of RCPT commands beyond the bound so many count as one broken command: a
	// client that sends ahead learns of the bound too late.
	excessAnError = 100
)

// Why a session ends, beside errors of reading. The reply has been queued.
var (
	errQuit    = errors.New("the client said QUIT")
	errClosing = errors.New("the server is stopping")
	errHungUp  = errors.New("closed after a refusal")
)

// session is one connection and all that its client has said. Its fields
// belong to its own goroutine; only stop is for others.
type session struct {
	srv *Server
	raw net.Conn // as accepted; closing it ends the session
	*wire

	client relay.Client
	ehlo   bool // EHLO, not HELO
	who    *relay.Principal
	began  time.Time
	leave  func() // gives back the seat; nil before it was taken

	env    mail.Envelope
	tx     relay.Transaction // nil outside a transaction
	rcpts  int               // RCPT commands of the transaction
	taken  int               // of them, accepted
	until  time.Time         // the transaction must have ended
	chunks *chunks           // BDAT has begun; nil otherwise
	excess int               // RCPT commands beyond the bound, of the session

	errors, bareLFs, logins, chatter int
	accepted, refused, mails         int

	reads *deadline
}

func newSession(srv *Server, conn net.Conn) *session {
	return &session{srv: srv, raw: conn, began: time.Now(), reads: newDeadline(conn)}
}

// stop ends the session as soon as it is not in the middle of a message.
func (s *session) stop() { s.reads.stop() }

// run is the whole session.
func (s *session) run(ctx context.Context) {
	defer func() {
		s.raw.Close()
		if s.leave != nil {
			s.leave()
		}
	}()
	err := s.open(ctx)
	if err == nil {
		err = s.dialog(ctx)
	}
	s.logout(ctx, err)
}

// open does what comes before the first command: PROXY header, limits, TLS,
// banner.
func (s *session) open(ctx context.Context) error {
	o := &s.srv.o
	if err := s.reads.waitAlone(s.began.Add(proxyTimeout)); err != nil {
		return err
	}
	conn, addr, err := s.srv.unwrap(s.raw)
	s.reads.forget()
	s.wire = newWire(conn, s.reads, s.srv.lend, o.WriteTimeout)
	s.client = relay.Client{Addr: addr, Door: mail.DoorSMTP}
	if err := s.reads.waited(err); err != nil {
		return err
	}
	leave, ok := s.srv.seat(addr.Addr())
	if !ok {
		return s.turnAway(mail.Enhanced{4, 7, 0}, "too many sessions are open from your address; close some and try again")
	}
	s.leave = leave
	if o.Implicit {
		if err := s.handshake(ctx); err != nil {
			return err
		}
	}
	if o.Shed != nil {
		if f := o.Shed(); f != nil {
			_, e := told(f)
			return s.turnAway(mail.Enhanced{4, e[1], e[2]}, f.Text)
		}
	}
	s.greet(220, o.Hostname+" ESMTP submission")
	return nil
}

// turnAway ends a session that has hardly begun. Before the handshake of an
// implicit TLS nothing can be said.
func (s *session) turnAway(e mail.Enhanced, text string) error {
	s.srv.o.Metrics.rejected(stageConnect, 421)
	if !s.srv.o.Implicit || s.client.TLS != "" {
		s.reply(421, e, text)
	}
	return errHungUp
}

// handshake starts TLS. A deadline covers all of it.
func (s *session) handshake(ctx context.Context) error {
	end := time.Now().Add(handshakeTimeout)
	if err := s.reads.waitAlone(end); err != nil {
		return err
	}
	conn := tls.Server(s.Conn, s.srv.tls)
	s.Conn.SetWriteDeadline(end)
	s.sendBy = time.Time{}
	if err := s.reads.waited(conn.HandshakeContext(ctx)); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	state := conn.ConnectionState()
	s.client.TLS = tls.VersionName(state.Version) + " " + tls.CipherSuiteName(state.CipherSuite)
	s.Conn = conn
	return nil
}

// dialog runs commands until the session ends, and says why it did.
func (s *session) dialog(ctx context.Context) error {
	for {
		line, err := s.command(maxAuthLine)
		if len(line) > maxCommand && !isAuth(line) {
			err = errLineTooLong
		}
		switch {
		case err == nil:
			err = s.execute(ctx, line)
		case errors.Is(err, errLineTooLong):
			err = s.wrong(500, mail.Enhanced{5, 5, 2}, "the line is longer than "+strconv.Itoa(maxCommand)+" octets")
		case errors.Is(err, errBareLF):
			err = s.bareLF()
		}
		if err != nil {
			return err
		}
	}
}

// command reads one line, within the time that the session has for it.
func (s *session) command(limit int) ([]byte, error) {
	s.relax()
	now := time.Now()
	end := now.Add(s.srv.o.IdleTimeout)
	if s.who == nil {
		end = earlier(end, s.began.Add(s.srv.o.LoginTimeout))
	}
	if s.tx != nil {
		if end = earlier(end, s.until); !now.Before(end) { // what was sent ahead is not run either
			return nil, errTooLate
		}
	}
	whole := s.chunks == nil // not between the chunks of a message
	if s.hasLine() {
		if whole && s.reads.isStopping() {
			return nil, errClosing
		}
		return s.line(limit)
	}
	if err := s.reads.wait(end, whole); err != nil {
		return nil, err
	}
	line, err := s.line(limit)
	err = s.reads.waited(err)
	if s.tx != nil && errors.Is(err, os.ErrDeadlineExceeded) && !time.Now().Before(s.until) {
		err = errTooLate
	}
	return line, err
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// wrong refuses a command that breaks the protocol; too many end the session.
func (s *session) wrong(code int, e mail.Enhanced, text string) error {
	s.reply(code, e, text)
	s.errors++
	if s.errors < maxErrors {
		return nil
	}
	s.reply(421, mail.Enhanced{4, 7, 0}, "too many errors; closing the connection")
	return errHungUp
}

func (s *session) bareLF() error {
	s.bareLFs++
	if s.bareLFs >= maxBareLF {
		s.errors = maxErrors
	}
	return s.wrong(500, mail.Enhanced{5, 5, 2}, "end every line with CRLF; a bare LF does not count")
}

// execute runs one command.
func (s *session) execute(ctx context.Context, line []byte) error {
	c, err := parseCommand(line)
	if err != nil {
		return s.wrong(500, mail.Enhanced{5, 5, 2}, "the command holds control characters or is not UTF-8")
	}
	switch c.verb {
	case "MAIL":
		return s.mail(ctx, c.arg)
	case "RCPT":
		return s.rcpt(ctx, c.arg)
	case "DATA":
		return s.data(ctx, c.arg)
	case "BDAT":
		return s.bdat(ctx, c.arg)
	case "AUTH":
		return s.auth(ctx, c.arg)
	case "QUIT":
		s.reply(221, mail.Enhanced{2, 0, 0}, "bye")
		return errQuit
	}
	if s.chatter++; s.chatter > maxChatter {
		s.reply(421, mail.Enhanced{4, 7, 0}, "too many commands without a message; closing the connection")
		return errHungUp
	}
	switch c.verb {
	case "EHLO", "HELO":
		return s.hello(c)
	case "STARTTLS":
		return s.startTLS(ctx, c.arg)
	case "RSET":
		s.reset()
		s.reply(250, mail.Enhanced{2, 0, 0}, "OK")
	case "NOOP":
		s.reply(250, mail.Enhanced{2, 0, 0}, "OK")
	case "VRFY":
		s.reply(252, mail.Enhanced{2, 5, 0}, "addresses are not verified here; send to it and see")
	case "EXPN":
		return s.wrong(502, mail.Enhanced{5, 5, 1}, "lists are not expanded here")
	case "HELP":
		s.reply(214, mail.Enhanced{2, 0, 0}, "EHLO STARTTLS AUTH MAIL RCPT DATA BDAT RSET NOOP VRFY QUIT")
	default:
		if isHTTP(c.verb) {
			s.reply(554, mail.Enhanced{5, 5, 1}, "this is an SMTP server, not a web server")
			return errHungUp
		}
		return s.wrong(500, mail.Enhanced{5, 5, 1}, "the command is not known; HELP lists those that are")
	}
	return nil
}

// hello is EHLO and HELO.
func (s *session) hello(c command) error {
	if c.arg == "" || len(c.arg) > 255 || strings.ContainsRune(c.arg, ' ') || !printable(c.arg) {
		return s.wrong(501, mail.Enhanced{5, 5, 4}, c.verb+" needs the name of your host")
	}
	s.reset()
	s.client.Helo = c.arg
	s.ehlo = c.verb == "EHLO"
	if !s.ehlo {
		s.greet(250, s.srv.o.Hostname)
		return nil
	}
	s.greet(250, s.extensions()...)
	return nil
}

// extensions are the lines of the reply to EHLO. REQUIRETLS and AUTH are for
// sessions with TLS only (RFC 8689, section 2; RFC 4954, section 4).
func (s *session) extensions() []string {
	o := &s.srv.o
	l := []string{
		o.Hostname,
		"PIPELINING",
		"SIZE " + strconv.FormatInt(o.MaxSize, 10),
		"8BITMIME",
		"SMTPUTF8",
		"CHUNKING",
		"BINARYMIME",
		"DSN",
		"ENHANCEDSTATUSCODES",
		"LIMITS RCPTMAX=" + strconv.Itoa(o.MaxRecipients) + " MAILMAX=" + strconv.Itoa(o.MaxMessages),
	}
	if s.client.TLS == "" {
		return append(l, "STARTTLS")
	}
	return append(l, "REQUIRETLS", "AUTH "+mechanisms)
}

// startTLS is STARTTLS (RFC 3207). What the client sent behind it without
// waiting came in the clear and may be an attacker's: that ends the session.
func (s *session) startTLS(ctx context.Context, arg string) error {
	switch {
	case s.client.TLS != "":
		return s.wrong(503, mail.Enhanced{5, 5, 1}, "TLS is on already")
	case arg != "":
		return s.wrong(501, mail.Enhanced{5, 5, 4}, "STARTTLS takes no argument")
	case s.tx != nil:
		return s.wrong(503, mail.Enhanced{5, 5, 1}, "end the transaction first, or send RSET")
	case s.buffered():
		s.reply(554, mail.Enhanced{5, 5, 1}, "wait for the answer to STARTTLS before you send more")
		return errHungUp
	}
	s.reply(220, mail.Enhanced{2, 0, 0}, "go ahead")
	if err := s.flush(); err != nil {
		return err
	}
	if err := s.handshake(ctx); err != nil {
		return err
	}
	s.reset()
	s.client.Helo, s.ehlo = "", false
	return nil
}

// reset drops the transaction, if there is one.
func (s *session) reset() {
	if s.tx != nil {
		s.tx.Abort()
	}
	s.tx, s.env = nil, mail.Envelope{}
	s.rcpts, s.taken, s.chunks = 0, 0, nil
}

// refuse tells the client of an error from the intake. A 421 ends the session.
func (s *session) refuse(ctx context.Context, stage string, err error) error {
	f := mail.AsFailure(err)
	code, e := told(f)
	s.refused++
	s.srv.o.Metrics.rejected(stage, code)
	level := slog.LevelDebug
	if f.Scope == mail.OfUs {
		level = slog.LevelError
	}
	if s.logs(ctx, level) {
		s.log(ctx, level, "refused", slog.String("stage", stage), slog.Int("code", code), slog.String("enhanced", e.String()),
			slog.String("reason", string(f.Reason)), slog.Any("err", f))
	}
	s.reply(code, e, f.Text)
	if code == 421 {
		return errHungUp
	}
	return nil
}

// logout ends the session: it tells the client why, if that is still of use,
// aborts what is open and writes the log.
func (s *session) logout(ctx context.Context, err error) {
	if s.wire == nil {
		return
	}
	s.reset()
	switch {
	case errors.Is(err, errClosing):
		s.goodbye(mail.Enhanced{4, 3, 2}, "the server is stopping; try again in a minute", 2*time.Second)
	case errors.Is(err, os.ErrDeadlineExceeded) && s.err == nil:
		s.goodbye(mail.Enhanced{4, 4, 2}, "nothing came for too long", 2*time.Second)
	case errors.Is(err, errTooSlow), errors.Is(err, errTooLate):
		s.goodbye(mail.Enhanced{4, 4, 2}, err.Error(), 2*time.Second)
	case errors.Is(err, errFlood):
		s.goodbye(mail.Enhanced{4, 7, 0}, err.Error(), 2*time.Second)
	case errors.Is(err, errHungUp), errors.Is(err, errQuit):
		s.flush()
	}
	if errors.Is(err, errHungUp) || errors.Is(err, errFlood) {
		s.linger()
	}
	if c, ok := s.Conn.(*tls.Conn); ok && s.err == nil {
		s.raw.SetWriteDeadline(time.Now().Add(time.Second))
		c.Close() // says close_notify
	}
	s.release()
	why := "the client is gone"
	if err != nil && !errors.Is(err, io.EOF) {
		why = err.Error()
	}
	level := slog.LevelInfo
	if s.who == nil && s.errors == 0 && s.logins == 0 {
		level = slog.LevelDebug // a health check or a scan
	}
	s.log(ctx, level, "session ended", slog.Int("accepted", s.accepted), slog.Int("refused", s.refused),
		slog.Int64("octets", s.received), slog.Duration("took", time.Since(s.began)), slog.String("why", why))
}

// goodbye says 421, for which there is little time.
func (s *session) goodbye(e mail.Enhanced, text string, d time.Duration) {
	s.sendTime = d
	s.reply(421, e, text)
	s.flush()
}

// linger reads what the client is still sending, for a moment, because closing
// with unread input would reset the connection and take our last reply along.
func (s *session) linger() {
	if s.err != nil {
		return
	}
	s.raw.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	switch c := s.Conn.(type) {
	case *tls.Conn:
		c.CloseWrite()
	case interface{ CloseWrite() error }:
		c.CloseWrite()
	}
	for n := 0; n < maxSkipped; {
		k, err := s.Read(s.small[:])
		if err != nil {
			return
		}
		n += k
	}
}

// log writes a line about the session.
func (s *session) log(ctx context.Context, level slog.Level, msg string, attrs ...slog.Attr) {
	if !s.logs(ctx, level) {
		return
	}
	all := append(make([]slog.Attr, 0, 12), slog.String("client", s.client.Addr.String()),
		slog.String("helo", s.client.Helo), slog.String("tls", s.client.TLS))
	if s.who != nil {
		all = append(all, slog.String("user", s.who.Username))
	}
	s.srv.o.Log.LogAttrs(ctx, level, msg, append(all, attrs...)...)
}

// logs reports whether lines of that level are written; what they tell need not
// be gathered otherwise.
func (s *session) logs(ctx context.Context, level slog.Level) bool {
	return s.srv.o.Log.Enabled(ctx, level)
}
