package smtpclient

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"behalf/internal/testkit/smtppeer"
	"behalf/mail"
)

// text is a message as it stands.
type text string

func (m text) Size() int64                   { return int64(len(m)) }
func (m text) EightBit() bool                { return false }
func (m text) UTF8() bool                    { return false }
func (m text) Prepare(context.Context) error { return nil }
func (m text) WriteTo(w io.Writer) (int64, error) {
	n, err := io.WriteString(w, string(m))
	return int64(n), err
}

const hello = text("Subject: x\r\n\r\n.dot\r\n")

func open(t testing.TB, at netip.AddrPort, change ...func(*Config)) (*Client, error) {
	t.Helper()
	conn, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Host: "mx.test", Hello: "us.test"}
	for _, c := range change {
		c(&cfg)
	}
	c, err := Open(t.Context(), conn, cfg)
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, err
}

func must(t testing.TB, c *Client, err error) *Client {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func addr(s string) mail.Address {
	a, err := mail.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

// txn is a transaction from the first to the others.
func txn(from string, to ...string) Transaction {
	t := Transaction{From: addr(from)}
	for _, s := range to {
		t.To = append(t.To, Rcpt{To: addr(s)})
	}
	return t
}

func outcomes(txns []Transaction) string {
	var b strings.Builder
	for _, t := range txns {
		for _, a := range t.Answers {
			switch {
			case a.Failure == nil:
				b.WriteString(" ok")
			case a.Lost:
				b.WriteString(" lost")
			default:
				b.WriteString(" " + string(a.Failure.Reason))
			}
		}
	}
	return strings.TrimSpace(b.String())
}

func TestDialogs(t *testing.T) {
	for name, want := range map[string]string{
		"pipelined": "ok no-mailbox ok",
		"refused":   "blocked blocked no-mailbox",
		"helo":      "ok no-mailbox temporary",
	} {
		t.Run(name, func(t *testing.T) {
			at := smtppeer.DialogFile(t, "testdata/"+name+".dialog")
			c, err := open(t, at)
			must(t, c, err)
			txns := []Transaction{txn("v1@a.test", "1@b.test", "2@b.test"), txn("v2@a.test", "3@b.test")}
			c.Send(t.Context(), Envelope{}, hello, txns)
			if got := outcomes(txns); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			c.Close()
		})
	}
}

// TestEnvelopeIsOneWrite: a burst that takes one segment costs one round trip.
func TestEnvelopeIsOneWrite(t *testing.T) {
	here, there := net.Pipe()
	go func() {
		io.WriteString(there, "220 mx.test\r\n")
		r := bufio.NewReader(there)
		r.ReadString('\n')
		io.WriteString(there, "250-mx.test\r\n250 PIPELINING\r\n")
		b := make([]byte, 4096) // a pipe hands over one write at a time
		n, _ := r.Read(b)
		if got := string(b[:n]); got != "MAIL FROM:<v@a.test>\r\nRCPT TO:<1@b.test>\r\nDATA\r\n" {
			t.Errorf("first write: %q", got)
		}
		io.WriteString(there, "250 ok\r\n250 ok\r\n354 go\r\n")
		n, _ = r.Read(b)
		if got := string(b[:n]); got != "Subject: x\r\n\r\n..dot\r\n.\r\n" {
			t.Errorf("second write: %q", got)
		}
		io.WriteString(there, "250 ok\r\n")
		io.Copy(io.Discard, there)
	}()
	c, err := Open(t.Context(), here, Config{Host: "mx.test", Hello: "us.test"})
	must(t, c, err)
	txns := []Transaction{txn("v@a.test", "1@b.test")}
	c.Send(t.Context(), Envelope{}, hello, txns)
	if got := outcomes(txns); got != "ok" {
		t.Error(got)
	}
	c.Close()
}

func TestAuth(t *testing.T) {
	server, roots := smtppeer.Certificate(t, "mx.test")
	users := map[string]string{"acme": "päss word"}
	all := []string{"PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256"}
	for _, c := range []struct {
		name, mech, password string
		offered              []string
		tls, clear           bool
		want                 string // "" or the failure's reason
		used                 string
	}{
		{"plain", "plain", "päss word", all, true, false, "", "PLAIN"},
		{"login", "login", "päss word", all, true, false, "", "LOGIN"},
		{"cram", "cram-md5", "päss word", all, true, false, "", "CRAM-MD5"},
		{"scram", "scram-sha-256", "päss word", all, true, false, "", "SCRAM-SHA-256"},
		{"best of all", "", "päss word", all, true, false, "", "SCRAM-SHA-256"},
		{"best of two", "", "päss word", []string{"CRAM-MD5", "LOGIN"}, true, false, "", "LOGIN"},
		{"best in clear", "", "päss word", []string{"PLAIN", "CRAM-MD5"}, false, true, "", "CRAM-MD5"},
		{"wrong plain", "plain", "no", all, true, false, "auth", "PLAIN"},
		{"wrong login", "login", "no", all, true, false, "auth", "LOGIN"},
		{"wrong cram", "cram-md5", "no", all, true, false, "auth", "CRAM-MD5"},
		{"wrong scram", "scram-sha-256", "no", all, true, false, "auth", "SCRAM-SHA-256"},
		{"not offered", "plain", "päss word", []string{"LOGIN"}, true, false, "auth", ""},
		{"none offered", "", "päss word", nil, true, false, "auth", ""},
		{"in clear, forbidden", "plain", "päss word", all, false, false, "tls", ""},
		{"in clear, allowed", "plain", "päss word", all, false, true, "", "PLAIN"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := smtppeer.Options{Auth: c.offered, Users: users}
			if c.tls {
				o.TLS = server
			}
			p := smtppeer.Start(t, o)
			_, err := open(t, p.AddrPort, func(cfg *Config) {
				cfg.Peer, cfg.TLS = SmartHost, &tls.Config{RootCAs: roots}
				if c.tls {
					cfg.Security = StartTLS
				}
				cfg.Auth = Auth{Mechanism: c.mech, Username: "acme", InClear: c.clear, Password: func(context.Context) (string, error) { return c.password, nil }}
			})
			got := ""
			if err != nil {
				f := mail.AsFailure(err)
				got = string(f.Reason)
				if f.Scope != mail.OfRoute || f.Stage != mail.StageConnect && f.Stage != mail.StagePrepare {
					t.Errorf("%+v", f)
				}
				if strings.Contains(f.Error(), c.password) {
					t.Errorf("the failure tells the password: %v", f)
				}
			}
			if got != c.want {
				t.Errorf("%v, want %q", err, c.want)
			}
			used := ""
			for _, l := range p.Lines() {
				if m, ok := strings.CutPrefix(l, "AUTH "); ok {
					used, _, _ = strings.Cut(m, " ")
				}
			}
			if used != c.used {
				t.Errorf("used %q, want %q", used, c.used)
			}
		})
	}
}

func TestPasswordThatCannotBeHadIsOurs(t *testing.T) {
	p := smtppeer.Start(t, smtppeer.Options{Auth: []string{"PLAIN"}})
	_, err := open(t, p.AddrPort, func(c *Config) {
		c.Auth = Auth{InClear: true, Password: func(context.Context) (string, error) { return "", errors.New("the keyring is locked") }}
	})
	if f := mail.AsFailure(err); f.Scope != mail.OfUs || !f.Temporary() {
		t.Errorf("%+v", f)
	}
}

// TestInjectedBeforeTLS: what stood in clear behind the 220 of STARTTLS counts
// for nothing.
func TestInjectedBeforeTLS(t *testing.T) {
	server, roots := smtppeer.Certificate(t, "mx.test")
	p := smtppeer.Start(t, smtppeer.Options{TLS: server, On: func(s smtppeer.Step) smtppeer.Action {
		if s.Verb == "STARTTLS" {
			return smtppeer.Action{Reply: "220 go\r\n250-evil.test\r\n220 SMTPUTF8"}
		}
		return smtppeer.Action{}
	}, Ext: []string{"PIPELINING"}})
	c, err := open(t, p.AddrPort, func(c *Config) { c.Security, c.TLS = StartTLS, &tls.Config{RootCAs: roots} })
	if err == nil && (c.Caps().SMTPUTF8 || !c.Caps().Pipelining || !c.Verified()) {
		t.Errorf("injected capabilities count: %+v", c.Caps())
	}
}

func TestTLSIsHeldTo(t *testing.T) {
	good, roots := smtppeer.Certificate(t, "mx.test")
	other, _ := smtppeer.Certificate(t, "else.test")
	for _, c := range []struct {
		name     string
		server   *tls.Config
		implicit bool
		want     Security
		ok       bool
	}{
		{"starttls", good, false, StartTLS, true}, {"starttls, wrong name", other, false, StartTLS, false}, {"starttls, not offered", nil, false, StartTLS, false},
		{"implicit", good, true, ImplicitTLS, true}, {"implicit, wrong name", other, true, ImplicitTLS, false}, {"implicit, plain server", nil, false, ImplicitTLS, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := smtppeer.Start(t, smtppeer.Options{TLS: c.server, Implicit: c.implicit})
			s, err := open(t, p.AddrPort, func(cfg *Config) {
				cfg.Security, cfg.TLS = c.want, &tls.Config{RootCAs: roots}
			})
			if (err == nil) != c.ok {
				t.Fatal(err)
			}
			if err == nil && (!s.Verified() || !strings.HasPrefix(s.TLS(), "TLS 1.3 TLS_") || !strings.HasSuffix(s.TLS(), ", verified")) {
				t.Errorf("%q", s.TLS())
			}
			if f := mail.AsFailure(err); f != nil && (f.Reason != mail.ReasonTLS || f.Enhanced != mail.Enhanced{4, 7, 10} || !f.Temporary()) {
				t.Errorf("%+v", f)
			}
			if n := len(p.Messages()); n != 0 {
				t.Error(n, "messages")
			}
		})
	}
}

func TestBinary(t *testing.T) {
	const raw = text("Subject: x\r\n\r\nNUL \x00, bare \r and \n, and a dot:\r\n.\r\n")
	for _, ext := range [][]string{{"PIPELINING", "CHUNKING", "BINARYMIME"}, {"CHUNKING", "BINARYMIME"}} {
		p := smtppeer.Start(t, smtppeer.Options{Ext: ext, On: func(s smtppeer.Step) smtppeer.Action {
			if s.Verb == "RCPT" && strings.Contains(s.Line, "no@") {
				return smtppeer.Action{Reply: "550 5.1.1 nobody"}
			}
			return smtppeer.Action{}
		}})
		c, err := open(t, p.AddrPort)
		must(t, c, err)
		txns := []Transaction{txn("v1@a.test", "1@b.test", "no@b.test"), txn("v2@a.test", "no@b.test"), txn("v3@a.test", "3@b.test")}
		c.Send(t.Context(), Envelope{Binary: true}, raw, txns)
		if got := outcomes(txns); got != "ok no-mailbox no-mailbox ok" {
			t.Errorf("%v: %s", ext, got)
		}
		for _, m := range p.Messages() {
			if m.Data != string(raw) || m.FromArgs != "BODY=BINARYMIME" {
				t.Errorf("%v: %q with %q", ext, m.Data, m.FromArgs)
			}
		}
		// Without BINARYMIME such octets do not leave at all.
		txns = []Transaction{txn("v4@a.test", "4@b.test")}
		c.Send(t.Context(), Envelope{}, raw, txns)
		if f := txns[0].Answers[0].Failure; f == nil || f.Reason != mail.ReasonCannotCarry || f.Temporary() {
			t.Errorf("%+v", f)
		}
		if len(p.Messages()) != 2 {
			t.Errorf("%d messages", len(p.Messages()))
		}
	}
}

// TestRefusedInTheMiddle: a server that refuses and closes while the content is
// on its way has said why.
func TestRefusedInTheMiddle(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	done := make(chan bool)
	go func() {
		defer close(done)
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		r := bufio.NewReader(c)
		io.WriteString(c, "220 mx.test\r\n")
		r.ReadString('\n')
		io.WriteString(c, "250-mx.test\r\n250 PIPELINING\r\n")
		for range 3 {
			r.ReadString('\n')
		}
		io.WriteString(c, "250 ok\r\n250 ok\r\n354 go\r\n")
		io.ReadFull(r, make([]byte, 100000))
		io.WriteString(c, "552 5.3.4 that is enough\r\n")
		c.(*net.TCPConn).CloseWrite()
		time.Sleep(100 * time.Millisecond) // let the reply arrive before the reset
	}()
	c, err := open(t, ln.Addr().(*net.TCPAddr).AddrPort())
	must(t, c, err)
	txns := []Transaction{txn("v@a.test", "1@b.test")}
	c.Send(t.Context(), Envelope{}, text(strings.Repeat("a line of no interest at all\r\n", 1<<20)), txns)
	a := txns[0].Answers[0]
	// The reset may overtake the reply; then nothing was taken all the same.
	if a.Failure == nil || a.Failure.Reason != mail.ReasonTooLarge && !a.Lost {
		t.Errorf("%+v", a)
	}
	c.Close()
	<-done
}

func TestSlowPeerIsCutOff(t *testing.T) {
	p := smtppeer.Start(t, smtppeer.Options{On: func(s smtppeer.Step) smtppeer.Action { return smtppeer.Action{Stall: s.Verb == "DOT"} }})
	c, err := open(t, p.AddrPort, func(c *Config) { c.Wait.Final = 50 * time.Millisecond })
	must(t, c, err)
	txns := []Transaction{txn("v@a.test", "1@b.test"), txn("w@a.test", "2@b.test")}
	c.Send(t.Context(), Envelope{}, hello, txns)
	if got := outcomes(txns); got != "unresolved lost" || c.Usable() {
		t.Error(got, c.Usable())
	}
	if f := txns[0].Answers[0].Failure; f.Stage != mail.StageFinal || f.Scope != mail.OfDestination || f.Code != 451 || (f.Enhanced != mail.Enhanced{4, 4, 2}) {
		t.Errorf("%+v", f)
	}
}
