package smtpd

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"behalf/mail"
)

func TestNewNeedsTLS(t *testing.T) {
	if _, err := New(&fakeIntake{}, Options{Hostname: "x"}); err == nil {
		t.Error("a door without TLS was made")
	}
	if _, err := New(&fakeIntake{}, Options{TLS: serverTLS()}); err == nil {
		t.Error("a door without a name was made")
	}
}

func TestOldTLSRefused(t *testing.T) {
	o := testOptions()
	o.Implicit = true
	o.TLS.MinVersion = tls.VersionTLS10
	p := dial(t, serve(t, &fakeIntake{}, o))
	conf := clientTLS()
	conf.MinVersion, conf.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if err := tls.Client(p.conn, conf).Handshake(); err == nil {
		t.Error("TLS 1.1 was spoken")
	}
}

func TestMaxSessions(t *testing.T) {
	o := testOptions()
	o.MaxSessions = 2
	addr := serve(t, &fakeIntake{}, o)
	a, b := dial(t, addr), dial(t, addr)
	a.expect("220 ")
	b.expect("220 ")
	c := dial(t, addr)
	c.expect("421 4.3.2 ")
	c.expect("")
	a.do("QUIT", "221 ")
	a.expect("")
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) { // the seat is free once the session's goroutine has ended
		if d := dial(t, addr); strings.HasPrefix(d.reply(), "220 ") {
			return
		}
	}
	t.Error("no seat came free")
}

func TestMaxPerIP(t *testing.T) {
	o := testOptions()
	o.MaxPerIP = 1
	addr := serve(t, &fakeIntake{}, o)
	a := dial(t, addr)
	a.expect("220 ")
	b := dial(t, addr)
	b.expect("421 4.7.0 ")
	b.expect("")
	a.do("NOOP", "250 ")
}

func TestShed(t *testing.T) {
	var low atomic.Bool
	o := testOptions()
	reg := prometheus.NewRegistry()
	o.Metrics = NewMetrics(reg, prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rejected"}, []string{"stage", "code"}))
	o.Shed = func() *mail.Failure {
		if low.Load() {
			return mail.Fail(452, mail.Enhanced{4, 3, 1}, mail.OfUs, mail.ReasonInternal, "the disk is nearly full; try again later")
		}
		return nil
	}
	addr := serve(t, &fakeIntake{}, o)
	p := loggedIn(t, addr)
	low.Store(true)
	p.do("MAIL FROM:<a@acme.example>", "452 4.3.1 the disk is nearly full")
	q := dial(t, addr)
	q.expect("421 4.3.1 the disk is nearly full")
	q.expect("")
	low.Store(false)
	p.do("MAIL FROM:<a@acme.example>", "250 ")
	reg.MustRegister(o.Metrics.Rejected)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(families)
	for _, want := range []string{`name:"code"  value:"452"}  label:{name:"stage"  value:"mail"}  counter:{value:1`,
		`name:"code"  value:"421"}  label:{name:"stage"  value:"connect"}  counter:{value:1`, "behalf_smtp_sessions"} {
		if !strings.Contains(strings.ReplaceAll(got, "  ", " "), strings.ReplaceAll(want, "  ", " ")) {
			t.Errorf("no %s in %s", want, got)
		}
	}
}

func TestProxy(t *testing.T) {
	in, o := &fakeIntake{}, testOptions()
	o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	o.MaxPerIP = 1
	addr := serve(t, in, o)
	for i, header := range []string{
		"PROXY TCP4 203.0.113.7 192.0.2.1 4711 587\r\n",
		"PROXY TCP6 2001:db8::7 2001:db8::1 4711 587\r\n",
		"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x08\xc0\x00\x02\x01\x12\x67\x02\x4b",
	} {
		p := dial(t, addr)
		p.send(header)
		p.login()
		p.envelope()
		p.do("DATA", "354")
		p.do(".", "250 ")
		want := []string{"203.0.113.7:4711", "[2001:db8::7]:4711", "203.0.113.8:4711"}[i]
		if got := in.messages[i].c.Addr.String(); got != want {
			t.Errorf("the client is %s, want %s", got, want)
		}
	}
	again := dial(t, addr) // the limit is by client, not by proxy
	again.send("PROXY TCP4 203.0.113.7 192.0.2.1 4712 587\r\n")
	again.expect("421 4.7.0 ")
	bare := dial(t, addr)
	bare.send("EHLO app.example\r\n")
	bare.expect("")
}

func TestProxyFromStrangers(t *testing.T) {
	o := testOptions()
	o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	p := dial(t, serve(t, &fakeIntake{}, o))
	p.expect("220 ")
	p.do("PROXY TCP4 203.0.113.7 192.0.2.1 4711 587", "500 5.5.1")
}

func TestProxyBelowTLS(t *testing.T) {
	in, o := &fakeIntake{}, testOptions()
	o.Implicit = true
	o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	p := dial(t, serve(t, in, o))
	p.send("PROXY TCP4 203.0.113.7 192.0.2.1 4711 465\r\n")
	p.startTLS()
	p.expect("220 ")
}

// At the end idle sessions are told and closed at once, one in the middle of a
// message may finish it, and new ones are not taken.
func TestStop(t *testing.T) {
	in := &fakeIntake{}
	addr, stop := serveUntil(t, in, testOptions())
	idle, inData, inBDAT, handshaking := loggedIn(t, addr), loggedIn(t, addr), loggedIn(t, addr), dial(t, addr)
	inData.envelope()
	inData.do("DATA", "354")
	inData.send("Subject: half\r\n")
	inBDAT.envelope()
	inBDAT.send("BDAT 4\r\nhalf")
	inBDAT.expect("250 ")
	handshaking.expect("220 ")
	handshaking.do("EHLO app.example", "250")
	handshaking.do("STARTTLS", "220")
	stopped := make(chan error, 1)
	began := time.Now()
	go func() { stopped <- stop() }()
	idle.expect("421 4.3.2 ")
	idle.expect("")
	if d := time.Since(began); d > patience {
		t.Errorf("the idle session was closed after %v", d)
	}
	handshaking.expect("421 4.3.2 ")
	select {
	case <-stopped:
		t.Fatal("Serve returned with a message on its way in")
	case <-time.After(50 * time.Millisecond):
	}
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Error("a new connection was taken")
	}
	inData.send("\r\nwhole\r\n.\r\n")
	inData.expect("250 2.0.0 ")
	inData.expect("421 4.3.2 ")
	inBDAT.send("BDAT 4 LAST\r\ndone")
	inBDAT.expect("250 2.0.0 ")
	inBDAT.expect("421 4.3.2 ")
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if len(in.messages) != 2 {
		t.Errorf("%d messages", len(in.messages))
	}
}

func TestStopGrace(t *testing.T) {
	in, o := &fakeIntake{}, testOptions()
	o.Grace = 50 * time.Millisecond
	addr, stop := serveUntil(t, in, o)
	p := loggedIn(t, addr)
	p.envelope()
	p.do("DATA", "354")
	p.send("half\r\n")
	began := time.Now()
	if err := stop(); err != nil {
		t.Error(err)
	}
	if d := time.Since(began); d < o.Grace || d > patience {
		t.Errorf("stopped after %v", d)
	}
	if in.aborted != 1 {
		t.Errorf("%d aborted", in.aborted)
	}
}

// A Commit that hangs is given up when the grace is over.
func TestStopCommit(t *testing.T) {
	in, o := &fakeIntake{hold: make(chan struct{}), held: make(chan struct{}, 1)}, testOptions()
	o.Grace = 50 * time.Millisecond
	addr, stop := serveUntil(t, in, o)
	p := loggedIn(t, addr)
	p.envelope()
	p.do("DATA", "354")
	p.send("x\r\n.\r\n")
	<-in.held
	if err := stop(); err != nil {
		t.Error(err)
	}
	if len(in.messages) != 0 {
		t.Error("taken")
	}
}

func TestListenerFails(t *testing.T) {
	srv, err := New(&fakeIntake{}, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	good, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	err = srv.Run(t.Context(), good, brokenListener{good.Addr()})
	if err == nil || !strings.Contains(err.Error(), "no more sockets") {
		t.Errorf("Run: %v", err)
	}
	if c, err := net.Dial("tcp", good.Addr().String()); err == nil {
		c.Close()
		t.Error("the other listener is open")
	}
}

type brokenListener struct{ addr net.Addr }

func (brokenListener) Accept() (net.Conn, error) { return nil, errors.New("no more sockets") }
func (brokenListener) Close() error              { return nil }
func (l brokenListener) Addr() net.Addr          { return l.addr }

// Replies to a burst leave in one write.
func TestBurstIsOneWrite(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	srv, err := New(&fakeIntake{}, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { newSession(srv, server).run(context.Background()) })
	buf := make([]byte, 64<<10)
	client.Read(buf) // banner
	if _, err := client.Write([]byte(strings.Repeat("NOOP\r\n", 50))); err != nil {
		t.Fatal(err)
	}
	n, err := client.Read(buf) // a pipe hands over one write, or a part of it
	if err != nil || bytes.Count(buf[:n], []byte("\r\n")) != 50 {
		t.Errorf("the first write held %d replies, %v", bytes.Count(buf[:n], []byte("\r\n")), err)
	}
	client.Close()
	wg.Wait()
}

// Secrets and bodies stay out of the log, at every level.
func TestLogHoldsNoSecrets(t *testing.T) {
	var log bytes.Buffer
	in, o := &fakeIntake{}, testOptions()
	o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug - 4}))
	addr, stop := serveUntil(t, in, o)
	p := loggedIn(t, addr)
	p.envelope()
	p.do("RCPT TO:<bug@example.org>", "451 ")
	p.do("DATA", "354")
	p.do("Subject: private-words\r\n.", "250 ")
	p.do("QUIT", "221 ")
	q := dial(t, addr)
	q.expect("220 ")
	q.do("EHLO app.example", "250")
	q.do("STARTTLS", "220")
	q.startTLS()
	q.do("EHLO app.example", "250")
	q.do("AUTH PLAIN AGszeS1vZi10aGUtYXBwAHdyb25nLXNlY3JldA==", "535 ") // the secret in the place of the name
	q.do("QUIT", "221 ")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	text := log.String()
	for _, secret := range []string{testSecret, "private-words", "wrong-secret", "AGFjbW"} {
		if strings.Contains(text, secret) {
			t.Errorf("the log holds %q:\n%s", secret, text)
		}
	}
	for _, want := range []string{"table_of_secrets", "user=acme/app", "accepted=1", "session ended", "code=535"} {
		if !strings.Contains(text, want) {
			t.Errorf("the log lacks %q:\n%s", want, text)
		}
	}
}

// A message that is far too large is not read for ever.
func TestOverrun(t *testing.T) {
	in, o := &fakeIntake{}, testOptions()
	o.MaxSize = 1000
	p := loggedIn(t, serve(t, in, o))
	p.envelope()
	p.do("DATA", "354")
	line := strings.Repeat("x", 998) + "\r\n"
	go func() {
		for range 1 << 20 {
			if _, err := io.WriteString(p.conn, line); err != nil {
				return
			}
		}
		fmt.Println("sent a gigabyte")
	}()
	p.expect("552 5.3.4 ")
	p.expect("")
}

// A token of 20 KiB fits in an AUTH command and in an answer to one; a line
// that never ends does not.
func TestLongAuth(t *testing.T) {
	o := testOptions()
	o.Implicit = true
	addr := serve(t, &fakeIntake{}, o)
	hello := func() *peer {
		p := dial(t, addr)
		p.startTLS()
		p.expect("220 ")
		p.do("EHLO app.example", "250")
		return p
	}
	long := strings.Repeat("QUFB", 5<<10)
	hello().do("AUTH XOAUTH2 "+long, "501 5.5.2")
	p := hello()
	p.do("AUTH PLAIN", "334")
	p.do(long, "501 5.5.2 ")
	p.do(strings.Repeat("x", 100<<10), "500 5.5.2")
	p.do("NOOP", "250 ")
	q := hello()
	go io.WriteString(q.conn, strings.Repeat("x", 2*maxSkipped))
	q.expect("421 4.7.0 ")
}

// A client that sends its recipients ahead and learns too late how many are taken
// still has those taken; one that asks for more for ever is cut off.
func TestExcessRecipients(t *testing.T) {
	for excess, want := range map[int]string{900: "354 ", 1000: "421 4.7.0 too many errors"} {
		t.Run(fmt.Sprint(excess), func(t *testing.T) {
			o := testOptions()
			o.MaxRecipients = 1
			p := loggedIn(t, serve(t, &fakeIntake{}, o))
			p.envelope()
			p.send(strings.Repeat("RCPT TO:<b@example.org>\r\n", excess) + "DATA\r\n")
			for range excess {
				p.expect("452 4.5.3 ")
			}
			p.expect(want)
			p.conn.Close()
		})
	}
}
